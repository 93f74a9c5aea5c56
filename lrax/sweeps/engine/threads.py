"""Threads that run several programs at once, kept from one sweep to the next.

To start a thread takes about a third of a millisecond on a CPU, because Python waits until it runs.
A short sweep of a small model would spend a tenth of its time on that.
"""

import concurrent.futures
import functools
import os


def threads(count: int) -> concurrent.futures.ThreadPoolExecutor:
    """`count` threads. They are shared: tasks may wait only for tasks that were given before them.

    The pool is never shut down. A caller that fails must wait for its own tasks.
    """
    return _threads(count, os.getpid())


# A process that was forked has none of its parent's threads, so it gets a pool of its own.
@functools.cache
def _threads(count: int, process: int) -> concurrent.futures.ThreadPoolExecutor:
    return concurrent.futures.ThreadPoolExecutor(count, thread_name_prefix=f"lrax-{process}")
