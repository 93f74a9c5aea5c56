"""The progress line of a sweep, the facts shown in it, and what Ctrl-C does."""

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
from .best import Value
from .choices import Points
from .status import Diverged, statuses

SHOWN = 100  # `standing` thins a curve to about this many records


class Progress:
    """A progress line on stderr: a tqdm bar, or plain text where tqdm is not installed.

    It counts the updates of the whole sweep, including those made before a resume. Speed and time
    left are computed from the updates made in this process alone.

    Args:
      total: Updates of the whole sweep.
      show: Whether to write anything. By default only if a person sees stderr.
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

    @property
    def is_shown(self) -> bool:
        """Whether anything is written."""
        return self._show

    def say(self, words: str) -> None:
        """Shows what happens before the first update, such as compiling."""
        self._write(f"sweep: {words}")

    def start(self, done: int) -> None:
        """Sets how many updates an earlier run has made."""
        self.done = self._first = done

    def advance(self, done: int, **facts: object) -> None:
        """Sets how many updates were made, and shows some facts beside them."""
        steps = done - self.done
        self.done = done
        if not self._show:
            return
        if self._bar is not None:
            self._bar.set_postfix(facts, refresh=False)  # `update` draws it
            self._bar.update(steps)
        # Written at most five times a second, because a terminal may be slow; but always at the
        # end.
        elif time.monotonic() - self._drawn > 0.2 or self.done == self.total:
            self._drawn = time.monotonic()
            speed = (self.done - self._first) / max(self._drawn - self._start, 1e-9)
            left = _clock((self.total - self.done) / speed) if speed else "?"
            words = [f"step {self.done}/{self.total}", f"{speed:.3g} steps/s", f"{left} left"]
            self._write(
                "sweep: " + ", ".join(words + [f"{name}={value}" for name, value in facts.items()])
            )

    def __enter__(self) -> "Progress":
        # Set again, because programs were compiled since `__init__`. The speed is that of training.
        self._start = time.monotonic()
        if not self._show:
            return self
        try:
            from tqdm.auto import tqdm
        except ImportError:
            return self
        self._write("")  # clears the line that `say` wrote: the bar is drawn in the same line
        self._bar = tqdm(
            total=self.total, initial=self._first, unit="step", dynamic_ncols=True, desc="sweep"
        )
        return self

    def __exit__(self, *_: object) -> None:
        """Leaves the last line on the terminal and begins a new one."""
        if self._bar is not None:
            self._bar.close()
        elif self._show:
            sys.stderr.write("\n")

    def _write(self, line: str) -> None:
        """Replaces the line on the terminal."""
        if self._show:
            # The line is padded with spaces, which cover the rest of a longer previous line. After
            # an empty line, the cursor goes back to the start.
            sys.stderr.write("\r" + line.ljust(self._width) + ("\r" if not line else ""))
            sys.stderr.flush()
            self._width = len(line)


def _clock(seconds: float) -> str:
    """Seconds as `minutes:seconds` or `hours:minutes:seconds`."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes:02}:{seconds:02}"


def _is_watched() -> bool:
    """Whether a person sees stderr: a terminal, or a notebook."""
    # A notebook has IPython loaded, so IPython need not be imported here. It may also be loaded in
    # a terminal; then its settings do not name a kernel.
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
    """The best point of a sweep under way, its loss, and how many lanes are alive.

    The score of a point is its training loss, averaged over seeds and over the last tenth of the
    updates so far. The final loss of a sweep is computed in the same way. A lane is alive if its
    point is still trained and the lane has not diverged, by the rule of the final status. Curves
    are thinned to about `SHOWN` records, so that a progress line costs little.

    Args:
      points: The points.
      losses: `[points, seeds, records]` so far.
      alive: Which points are still trained, `[points]`.
      finite: Which lanes have finite parameters, `[points, seeds]`.
      objective: Name of the objective.
      diverged: When a lane counts as diverged: see `statuses`.
    """
    thinned = losses[..., :: max(losses.shape[-1] // SHOWN, 1)]
    made = np.full(len(points), thinned.shape[-1])
    # The statuses that the lanes would have if the sweep ended here: with `whole`, a lane that has
    # not diverged is "done", not "interrupted".
    status, _ = statuses(thinned, finite, made, whole=True, objective=objective, diverged=diverged)
    lanes = alive[:, None] & (status == "done")
    with np.errstate(invalid="ignore", over="ignore"):  # lanes that diverge have huge losses or NaN
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


def _short(value: Value) -> str:
    """A number with two digits, or the name of a schedule without its arguments."""
    return f"{value:.2g}" if isinstance(value, float) else repr(value).split("(")[0]


class Interrupt:
    """Turns the first Ctrl-C into a request to stop. A sweep then stops between two segments.

    A second Ctrl-C raises `KeyboardInterrupt` at once. Python lets only the main thread handle
    signals, so on other threads this does nothing. A process that ignores the signal, such as a
    background job of a shell, goes on ignoring it.
    """

    def __init__(self):
        self.requested = False
        self._previous: Any = None

    def __enter__(self) -> "Interrupt":
        if threading.current_thread() is threading.main_thread():
            previous = signal.getsignal(signal.SIGINT)
            # None means that the handler was not installed from Python. `signal.signal` could not
            # put such a handler back, so it is left in place.
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
