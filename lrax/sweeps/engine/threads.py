"""Threads that run several programs at once, kept from one sweep to the next.

Starting a thread takes about a third of a millisecond, because Python waits until the thread runs.
A short sweep of a small model would spend a tenth of its time on that.
"""

import concurrent.futures
import functools
import os


def threads(count: int) -> concurrent.futures.ThreadPoolExecutor:
    """A pool of `count` threads, which all callers share.

    A task may wait only for tasks that were submitted before it. The pool is never shut down, so a
    caller that fails must still wait for its own tasks.
    """
    return _threads(count, os.getpid())


# A process that was forked has none of its parent's threads, so it gets a pool of its own.
@functools.cache
def _threads(count: int, process: int) -> concurrent.futures.ThreadPoolExecutor:
    return concurrent.futures.ThreadPoolExecutor(count, thread_name_prefix=f"lrax-{process}")
