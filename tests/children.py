"""Processes that run the `check_*` functions of a test file, started once for all of them.

For what a process must be started for: several devices of a CPU, and several processes.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path


def names(module):
    """The checks of a test file, in their order."""
    return [name for name in module if name.startswith("check_")]


class Children:
    """Processes of a test file, which all run the checks that they are asked for."""

    def __init__(self, file, count=1, **environment):
        self._folder = tempfile.TemporaryDirectory()
        self._processes, self._pipes, self._logs = [], [], []
        for index in range(count):
            replies, write = os.pipe()
            log = Path(self._folder.name) / f"log-{index}"
            env = {**os.environ, "CHILD": str(index), "REPLIES": str(write), **environment}
            with log.open("wb") as opened:
                self._processes.append(
                    subprocess.Popen(
                        [sys.executable, file],
                        stdin=subprocess.PIPE,
                        stdout=opened,
                        stderr=opened,
                        pass_fds=[write],
                        env=env,
                        text=True,
                    )
                )
            os.close(write)
            os.set_blocking(replies, False)
            self._pipes.append(replies)
            self._logs.append(log)

    def run(self, check, timeout):
        """Runs a check in all processes; raises what any of them raised, and kills all if they take too long."""
        for process in self._processes:
            process.stdin.write(json.dumps({"check": check, "folder": self._folder.name}) + "\n")
            process.stdin.flush()
        ends = time.monotonic() + timeout
        replies = [b"" for _ in self._processes]
        while not all(reply.endswith(b"\n") for reply in replies):
            for i, process in enumerate(self._processes):
                with contextlib.suppress(BlockingIOError):
                    replies[i] += os.read(self._pipes[i], 1 << 20)
                if not replies[i].endswith(b"\n") and process.poll() is not None:
                    self._fail(f"process {i} ended with {process.returncode} in {check}")
            if time.monotonic() > ends:
                self._fail(
                    f"{check} took more than {timeout} s; done: {[reply[-2000:] for reply in replies]}"
                )
            time.sleep(0.005)
        errors = [json.loads(reply) for reply in replies]
        said = [f"process {i}:\n{error}" for i, error in enumerate(errors) if error]
        assert not said, "\n".join(said)

    def _fail(self, words):
        tails = [
            f"process {i}:\n{log.read_text(errors='replace')[-4000:]}"
            for i, log in enumerate(self._logs)
        ]
        self.close()
        raise AssertionError("\n".join([words, *tails]))

    def close(self):
        processes, self._processes = self._processes, []
        if not processes:
            return
        for process in processes:
            process.kill()  # under `jax.distributed` a gentler signal is ignored
        for process in processes:
            process.wait()
            process.stdin.close()
        for pipe in self._pipes:
            os.close(pipe)
        self._folder.cleanup()


def serve(module):
    """What such a process does."""
    warnings.simplefilter("error")
    replies = os.fdopen(int(os.environ["REPLIES"]), "w")
    for line in sys.stdin:
        request = json.loads(line)
        try:
            module[request["check"]](Path(request["folder"]))
            error = None
        except BaseException:
            error = traceback.format_exc()
        replies.write(json.dumps(error) + "\n")
        replies.flush()
