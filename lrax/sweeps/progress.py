"""What a run shows while it runs, and how it is asked to stop."""

import signal
import sys
import threading
import time
from types import FrameType
from typing import Any


class Progress:
    """One line: a tqdm bar where tqdm is installed, else a plain one. Nothing where nobody would see it."""

    def __init__(self, total: int, show: bool | None, done: int = 0):
        self._total = total
        self._done = self._first = done
        self._bar: Any = None
        self._show = _is_watched() if show is None else show
        self._start = self._drawn = time.monotonic()
        if self._show:
            try:
                from tqdm.auto import tqdm
            except ImportError:
                return
            self._bar = tqdm(total=total, initial=done, unit="step", dynamic_ncols=True, desc="sweep")

    def advance(self, steps: int, **facts: Any) -> None:
        """Counts steps done, and shows some facts beside them."""
        self._done += steps
        if not self._show:
            return
        if self._bar is not None:
            self._bar.set_postfix(facts, refresh=False)
            self._bar.update(steps)
        elif time.monotonic() - self._drawn > 0.2 or self._done == self._total:
            self._drawn = time.monotonic()
            rate = (self._done - self._first) / max(self._drawn - self._start, 1e-9)
            words = ", ".join(f"{name}={value}" for name, value in facts.items())
            sys.stderr.write(f"\rsweep: step {self._done}/{self._total}, {rate:.0f} steps/s, {words}   ")
            sys.stderr.flush()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        """Leaves the line as it stands."""
        if self._bar is not None:
            self._bar.close()
        elif self._show:
            sys.stderr.write("\n")


def _is_watched() -> bool:
    """Whether a person sees stderr: a terminal, or a notebook."""
    ipython = sys.modules.get("IPython")
    in_notebook = ipython is not None and "IPKernelApp" in getattr(ipython.get_ipython(), "config", {})
    return in_notebook or (sys.stderr is not None and sys.stderr.isatty())


class Interrupt:
    """Turns the first Ctrl-C into a request, so that a run stops between two segments with nothing lost.

    A second one raises `KeyboardInterrupt` at once. Signals reach the main thread alone; elsewhere this does nothing.
    """

    def __init__(self):
        self.requested = False
        self._previous: Any = None

    def __enter__(self) -> "Interrupt":
        if threading.current_thread() is threading.main_thread():
            self._previous = signal.getsignal(signal.SIGINT)
            if self._previous is not None:  # None: not installed by Python, and so not ours to replace
                signal.signal(signal.SIGINT, self._request)
        return self

    def __exit__(self, *_: object) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)

    def _request(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
