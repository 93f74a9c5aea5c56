"""The events that `lrax.sweep(on_event=...)` tells of, for loggers.

`on_event(kind, facts)` is called between segments, in the first process alone. `facts` is a dict of
the class here that belongs to the kind, and the logger's own: to change it changes nothing else.
All have `done`, the updates made. With a checkpoint, `done` of `"start"` is where the sweep goes
on; earlier events are not repeated. If new points were added, it goes on with these, and the
numbers of all others are NaN until the new points have caught up.

An exception in `on_event` is a `RuntimeWarning` that names it, and the sweep goes on: hours of
training are worth more than a line in a log. `KeyboardInterrupt` and the like go through.
"""

import copy
import os
import traceback
import warnings
from collections.abc import Callable
from typing import Any, Literal, TypedDict

import numpy as np

Kind = Literal["start", "segment", "evaluate", "stop", "checkpoint", "end"]
OnEvent = Callable[[str, dict[str, Any]], None]
Notify = Callable[[Kind, Any], None]


class Start(TypedDict):
    """`"start"`: the programs are compiled, and training begins."""

    points: dict[str, np.ndarray]  # [points]
    seeds: list[str]
    steps: int
    done: int
    plan: str  # how it is run, in words


class Segment(TypedDict):
    """`"segment"`: all lanes have made some more updates."""

    done: int
    losses: np.ndarray  # [points, seeds, updates] since the last event; NaN for stopped points
    best: dict[str, Any]  # the best point so far by the training loss's tail; {} if there is none
    loss: float  # its training loss
    alive: int  # lanes that are still trained and have not diverged
    lanes: int


class Evaluate(TypedDict):
    """`"evaluate"`: after each evaluation, and at the end."""

    done: int
    metrics: dict[str, np.ndarray]  # [points, seeds]


class Stop(TypedDict):
    """`"stop"`: points were given up."""

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
    """A function that calls the logger and turns its exceptions into warnings."""
    if on_event is None:
        return _ignored

    def notify(kind: Kind, facts: Any) -> None:
        own = dict(facts) if kind == "end" else copy.deepcopy(dict(facts))
        try:
            on_event(kind, own)
        except Exception as error:
            frame = traceback.extract_tb(error.__traceback__)[-1]
            place = f"{os.path.basename(frame.filename)}, line {frame.lineno}"
            message = (
                f"`on_event` failed at {kind!r} and the sweep goes on: {type(error).__name__}:"
                f" {error} ({place})"
            )
            warnings.warn(message, RuntimeWarning, stacklevel=2)

    return notify


def _ignored(kind: Kind, facts: Any) -> None:
    """Nobody listens."""
    del kind, facts
