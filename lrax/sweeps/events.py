"""The events of a sweep, which `lrax.sweep(on_event=...)` hands to a logger.

`on_event(kind, facts)` is called between segments, in the first process alone. Each kind has a
class here that describes the dict `facts`. The dict is a copy, so a logger may change it. All kinds
but `"end"` have `done`, the updates made so far. In a sweep that resumes from a checkpoint, `done`
of `"start"` is above 0, and events of earlier updates are not repeated. If points were added to the
grid, the new points are trained first. Until they have caught up, the events have NaN for all other
points.

An exception in `on_event` becomes a `RuntimeWarning`, and the sweep goes on: hours of training are
worth more than a line in a log. `KeyboardInterrupt` and the like are raised.
"""

import copy
import os
import traceback
import warnings
from collections.abc import Callable
from typing import Any, Literal, TypedDict

import numpy as np

Kind = Literal["start", "segment", "evaluate", "stop", "checkpoint", "end"]
OnEvent = Callable[[str, dict[str, Any]], None]  # the user's
Facts = Any  # one of the classes below, for the kind
Notify = Callable[[Kind, Facts], None]  # the sweep's, which never raises an `Exception`


class Start(TypedDict):
    """`"start"`: the programs are compiled, and training begins."""

    points: dict[str, np.ndarray]  # [points]
    seeds: list[str]
    steps: int
    done: int
    plan: str  # how the sweep is run: lanes of a call, threads, devices


class Segment(TypedDict):
    """`"segment"`: all lanes have made some more updates."""

    done: int
    losses: np.ndarray  # [points, seeds, records] since the last segment; NaN for stopped points
    # The hyperparameters of the point with the least training loss, averaged over its seeds and
    # over the last tenth of the updates so far. {} if no point has a finite average.
    best: dict[str, Any]
    loss: float  # that training loss, or NaN
    alive: int  # lanes that are still trained and have not diverged
    lanes: int  # lanes of the whole sweep


class Evaluate(TypedDict):
    """`"evaluate"`: after each evaluation, and at the end."""

    done: int
    metrics: dict[str, np.ndarray]  # [points, seeds]


class Stop(TypedDict):
    """`"stop"`: the stop rule or divergence has ended the training of some points."""

    done: int
    stopped: list[int]  # indices of the points
    alive: int  # points that go on


class Saved(TypedDict):
    """`"checkpoint"`: the state was saved."""

    done: int
    path: str


class End(TypedDict):
    """`"end"`: the sweep is over."""

    result: Any  # the SweepResult


def guarded(on_event: OnEvent | None) -> Notify:
    """Wraps the logger in a function that turns its exceptions into warnings."""
    if on_event is None:
        return _ignored

    def notify(kind: Kind, facts: Facts) -> None:
        # A deep copy, so that a logger cannot change the sweep's own arrays. The result of "end" is
        # not copied: the sweep is over and returns it to the user, and it may be large.
        own = dict(facts) if kind == "end" else copy.deepcopy(dict(facts))
        try:
            on_event(kind, own)
        except Exception as error:
            # The line at which the error was raised. The message names it, because a warning
            # carries no traceback.
            frame = traceback.extract_tb(error.__traceback__)[-1]
            place = f"{os.path.basename(frame.filename)}, line {frame.lineno}"
            message = (
                f"`on_event` failed at {kind!r} and the sweep goes on: {type(error).__name__}:"
                f" {error} ({place})"
            )
            warnings.warn(message, RuntimeWarning, stacklevel=2)

    return notify


def _ignored(kind: Kind, facts: Facts) -> None:
    """The logger of a sweep without `on_event`."""
    del kind, facts
