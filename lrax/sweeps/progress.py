"""What a run shows and tells while it runs, and how it is asked to stop."""

import signal
import sys
import threading
import time
from collections.abc import Mapping
from types import FrameType
from typing import Any

import numpy as np

from .. import _require
from ..training.tail import tail_mean
from .choices import Points
from .status import Diverged, statuses

SHOWN = 100  # records of a curve that the standing is read from


class Progress:
    """One line: a tqdm bar where tqdm is installed, else a plain one; nothing where nobody looks.

    It counts the updates of the whole sweep. One that is resumed goes on where it was; its speed
    and the time left are those of the updates made here.
    """

    def __init__(self, total: int, show: bool | None):
        if show is not None:
            _require.flag("progress", show)
        self.total = total
        self.done = self._first = 0
        self._bar: Any = None
        self._show = _is_watched() if show is None else show
        self._width = 0
        self._start = self._drawn = time.monotonic()

    def say(self, words: str) -> None:
        """Says what goes on before the first update, such as compiling, which may take a while."""
        self._write(f"sweep: {words}")

    def start(self, done: int) -> None:
        """Sets how many updates were made before, in an earlier run."""
        self.done = self._first = done

    def advance(self, done: int, **facts: Any) -> None:
        """Sets how many updates are made, and shows some facts beside them."""
        steps, self.done = done - self.done, done
        if not self._show:
            return
        if self._bar is not None:
            self._bar.set_postfix(facts, refresh=False)
            self._bar.update(steps)
        elif time.monotonic() - self._drawn > 0.2 or self.done == self.total:
            self._drawn = time.monotonic()
            speed = (self.done - self._first) / max(self._drawn - self._start, 1e-9)
            left = _clock((self.total - self.done) / speed) if speed else "?"
            words = [f"step {self.done}/{self.total}", f"{speed:.3g} steps/s", f"{left} left"]
            self._write(
                "sweep: " + ", ".join(words + [f"{name}={value}" for name, value in facts.items()])
            )

    def __enter__(self) -> "Progress":
        self._start = time.monotonic()  # compiling is no part of the speed
        if not self._show:
            return self
        try:
            from tqdm.auto import tqdm
        except ImportError:
            return self
        self._write("")
        self._bar = tqdm(
            total=self.total, initial=self._first, unit="step", dynamic_ncols=True, desc="sweep"
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


def standing(
    points: Points,
    losses: np.ndarray,
    alive: np.ndarray,
    finite: np.ndarray,
    objective: str,
    diverged: Diverged,
) -> dict[str, Any]:
    """Who leads a sweep under way: the best point, its loss, and how many lanes are alive.

    A point is scored as at the end, by its training loss over the last tenth of the updates made so
    far, averaged over seeds. A lane is alive while its point is trained and it has not diverged, by
    the rule of the final status. Long curves are thinned first: this is for the eye.

    Args:
      points: The points.
      losses: `[points, seeds, records]` so far.
      alive: Which points are still trained, `[points]`.
      finite: Which lanes have finite parameters, `[points, seeds]`.
      objective: Name of the objective.
      diverged: When a lane has diverged.
    """
    thinned = losses[..., :: max(losses.shape[-1] // SHOWN, 1)]
    made = np.full(len(points), thinned.shape[-1])
    status, _ = statuses(thinned, finite, made, whole=True, objective=objective, diverged=diverged)
    lanes = alive[:, None] & (status == "done")
    with np.errstate(invalid="ignore", over="ignore"):
        means = tail_mean(thinned).astype(np.float64).mean(axis=1)
    scores = np.where(lanes.all(axis=1) & np.isfinite(means), means, np.inf)
    best = int(np.argmin(scores))
    known = bool(np.isfinite(scores[best]))
    return {
        "best": points.at(best) if known else {},
        "loss": float(scores[best]) if known else np.nan,
        "alive": int(lanes.sum()),
        "lanes": lanes.size,
    }


def words(facts: Mapping[str, Any]) -> dict[str, str]:
    """The facts of `standing` as a progress bar shows them."""
    best = {f"best {name}": _short(value) for name, value in facts["best"].items()}
    loss = {"loss": f"{facts['loss']:.3g}"} if best else {}
    return {**best, **loss, "alive": f"{facts['alive']}/{facts['lanes']}"}


def _short(value: Any) -> str:
    return f"{value:.2g}" if isinstance(value, float) else repr(value).split("(")[0]


class Interrupt:
    """Turns the first Ctrl-C into a request: a run stops between two segments, with nothing lost.

    A second one raises `KeyboardInterrupt` at once. Signals reach the main thread alone; elsewhere
    this does nothing. A process that ignores the signal, as one in the background of a shell does,
    goes on ignoring it.
    """

    def __init__(self):
        self.requested = False
        self._previous: Any = None

    def __enter__(self) -> "Interrupt":
        if threading.current_thread() is threading.main_thread():
            previous = signal.getsignal(signal.SIGINT)
            # None: not installed by Python, and so not ours to replace.
            if previous not in (None, signal.SIG_IGN):
                self._previous = previous
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
