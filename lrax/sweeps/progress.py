"""What a run shows and tells while it runs, and how it is asked to stop."""

import collections
import os
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any

import numpy as np

from ..training.tail import PART
from .status import BLOWN_UP, RECOVERED

# Of the means that tell whether a lane has diverged, as in `status.statuses`.
STRETCHES = 20

OnEvent = Callable[[str, dict[str, Any]], None]


class Progress:
    """One line: a tqdm bar where tqdm is installed, else a plain one. Nothing where nobody would
    see it.

    It counts the steps of the whole sweep: one that is resumed goes on where it was, and its speed
    and the time left are those of the steps made here.
    """

    def __init__(self, total: int, show: bool | None, done: int = 0):
        self._total = total
        self._done = self._first = done
        self._bar: Any = None
        self._show = _is_watched() if show is None else show
        self._width = 0
        self._start = self._drawn = time.monotonic()

    def say(self, words: str) -> None:
        """Says what goes on before the first step, such as compiling, which may take a while."""
        self._write(f"sweep: {words}")

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
            speed = (self._done - self._first) / max(self._drawn - self._start, 1e-9)
            left = _clock((self._total - self._done) / speed) if speed else "?"
            words = [f"step {self._done}/{self._total}", f"{speed:.3g} steps/s", f"{left} left"]
            self._write(
                "sweep: " + ", ".join(words + [f"{name}={value}" for name, value in facts.items()])
            )

    def __enter__(self) -> "Progress":
        self._start = (
            time.monotonic()
        )  # of the steps: what was before them is no part of their speed
        if not self._show:
            return self
        try:
            from tqdm.auto import tqdm
        except ImportError:
            return self
        self._write("")
        self._bar = tqdm(
            total=self._total, initial=self._first, unit="step", dynamic_ncols=True, desc="sweep"
        )
        return self

    def __exit__(self, *_: object) -> None:
        """Leaves the line as it stands."""
        if self._bar is not None:
            self._bar.close()
        elif self._show:
            sys.stderr.write("\n")

    def _write(self, line: str) -> None:
        """Replaces the line."""
        if self._show:
            sys.stderr.write("\r" + line.ljust(self._width) + ("\r" if not line else ""))
            sys.stderr.flush()
            self._width = len(line)


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes:02}:{seconds:02}"


def _is_watched() -> bool:
    """Whether a person sees stderr: a terminal, or a notebook."""
    ipython = sys.modules.get("IPython")
    in_notebook = ipython is not None and "IPKernelApp" in getattr(
        ipython.get_ipython(), "config", {}
    )
    return in_notebook or (sys.stderr is not None and sys.stderr.isatty())


class Standing:
    """Who leads a sweep under way, and how many lanes are alive: kept from segment to segment.

    A point is scored as at the end, by its training loss over the last tenth of the updates made so
    far, averaged over seeds: one segment's losses alone would let their noise pick the leader. A
    lane is alive while its point is trained and it has not diverged, by the rule of the final
    status.
    """

    def __init__(self, points: Mapping[str, np.ndarray], steps: int):
        self._points = points
        self._recent: collections.deque[tuple[int, Any]] = collections.deque()
        self._count, self._sum = 0, 0.0
        self._ends = np.cumsum(
            [len(part) for part in np.array_split(np.arange(steps), min(STRETCHES, steps))]
        )
        self._stretch, self._first = 0.0, np.nan
        self._highest, self._last, self._lost = -np.inf, -np.inf, False
        self.done = 0

    def take(self, losses: np.ndarray) -> None:
        """Takes note of some more losses, `[points, seeds, steps]`."""
        ends = self._ends[(self._ends > self.done) & (self._ends < self.done + losses.shape[-1])]
        for part in np.split(losses, ends - self.done, axis=-1):
            self._take(part, part.shape[-1])

    def _take(self, losses: np.ndarray, count: int) -> None:
        """Takes note of losses of one stretch of the sweep."""
        with np.errstate(invalid="ignore", over="ignore"):
            total = losses.sum(axis=-1, dtype=np.float64)
        self._lost = self._lost | ~np.isfinite(total)
        total = np.where(self._lost, 0.0, total)  # for once infinite, a sum would never come back
        if not self.done:
            self._first = np.where(self._lost, 1.0, losses[..., 0].astype(np.float64))
        self._recent.append((count, total))
        self.done, self._count, self._sum = (
            self.done + count,
            self._count + count,
            self._sum + total,
        )
        while self._count - self._recent[0][0] >= self.done / PART:
            count, before = self._recent.popleft()
            self._count, self._sum = self._count - count, self._sum - before
        self._stretch = self._stretch + total
        if (i := int(np.searchsorted(self._ends, self.done))) < len(self._ends) and self._ends[
            i
        ] == self.done:
            mean = self._stretch / (self._ends[i] - (self._ends[i - 1] if i else 0))
            self._last = 1 + (mean - self._first) / np.maximum(np.abs(self._first), 1e-30)
            self._highest, self._stretch = np.maximum(self._highest, self._last), 0.0

    def facts(self, alive: np.ndarray, finite: np.ndarray) -> dict[str, Any]:
        """The best point so far, its loss, and how many lanes are alive.

        Args:
          alive: Which points are still trained, `[points]`.
          finite: Which lanes have finite parameters, `[points, seeds]`.
        """
        blown_up = (self._highest > BLOWN_UP) & (self._last > RECOVERED)
        lanes = alive[:, None] & finite & ~self._lost & ~blown_up
        scores = np.where(lanes.all(axis=1), np.mean(self._sum / self._count, axis=1), np.inf)
        best = int(np.argmin(scores))
        known = bool(np.isfinite(scores[best]))
        return {
            "best": {name: float(values[best]) for name, values in self._points.items()}
            if known
            else {},
            "loss": float(scores[best]) if known else np.nan,
            "alive": int(lanes.sum()),
            "lanes": lanes.size,
        }


def words(facts: Mapping[str, Any]) -> dict[str, str]:
    """The facts of a `Standing` as a progress bar shows them."""
    best = {f"best {name}": f"{value:.2g}" for name, value in facts["best"].items()}
    loss = {"loss": f"{facts['loss']:.3g}"} if best else {}
    return {**best, **loss, "alive": f"{facts['alive']}/{facts['lanes']}"}


def guarded(on_event: OnEvent | None) -> OnEvent:
    """A function for events whose errors become warnings; one that does nothing for `None`.

    What is trained is worth more than what is logged of it: a logger that loses its connection must
    not cost a night of training, and must not fall silent unnoticed either.
    `warnings.simplefilter("error")` makes it an error again.
    """
    if on_event is None:
        return lambda *_: None

    def notify(kind: str, facts: dict[str, Any]) -> None:
        try:
            on_event(kind, facts)
        except Exception as error:
            frame = traceback.extract_tb(error.__traceback__)[-1]
            place = f"{os.path.basename(frame.filename)}, line {frame.lineno}"
            message = f"`on_event` failed at {kind!r} and the sweep goes on: {type(error).__name__}: {error} ({place})"
            warnings.warn(message, RuntimeWarning, stacklevel=2)

    return notify


class Interrupt:
    """Turns the first Ctrl-C into a request, so that a run stops between two segments with nothing
    lost.

    A second one raises `KeyboardInterrupt` at once. Signals reach the main thread alone; elsewhere
    this does nothing.
    """

    def __init__(self):
        self.requested = False
        self._previous: Any = None

    def __enter__(self) -> "Interrupt":
        if threading.current_thread() is threading.main_thread():
            self._previous = signal.getsignal(signal.SIGINT)
            if (
                self._previous is not None
            ):  # None: not installed by Python, and so not ours to replace
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
