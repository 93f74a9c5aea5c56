"""The curves of one lane of a sweep."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from ... import _require
from ...schedules.schedule import Schedule
from ...sweeps.result import SweepResult
from .log import Columns, Series

Lane = Any  # "best", or (point, seed)


def of_lane(result: SweepResult, lane: Lane) -> tuple[Columns, str, str, str]:
    """Reads one lane of a result.

    Returns:
      Its columns, the lane in words, why it diverged, and the dtype of the parameters. The last two
      are "" if it did not diverge, or if the dtype is not known.
    """
    points, seeds = result.status.shape
    if isinstance(lane, str):
        _require.choice("lane", lane, ("best",))
        point, seed = result.best_lane
        which = "the first by rank" if result.why_no_best else "the best"
    elif isinstance(lane, Sequence) and len(lane) == 2:
        for number, size in zip(lane, (points, seeds), strict=True):
            if isinstance(number, bool) or not isinstance(number, (int, np.integer)):
                raise TypeError(f"`lane` must be 'best' or (point, seed), got {lane!r}")
            if not 0 <= number < size:
                raise ValueError(
                    f"`lane` must be a pair of indices below {(points, seeds)}, got {lane!r}"
                )
        point, seed = lane
        which = "as asked"
    else:
        raise TypeError(f"`lane` must be 'best' or (point, seed), got {lane!r}")
    values = ", ".join(f"{name}={result.shown(name, point)}" for name in result.hyperparams)
    words = f"lane ({point}, {seed}) of {points} x {seeds}, {which}: {values}"
    if (status := result.status[point, seed]) != "done":
        words += f", {status}"
    columns: Columns = {}
    if result.has_losses:
        # Losses and monitors are recorded before an update, evaluations after it. So a point that
        # was stopped after `end` updates has a loss below `end`, and may be evaluated at `end`.
        end = int(result.stopped_at[point])
        losses = result.losses[point, seed]
        steps = np.arange(len(losses), dtype=np.float64) * result.loss_every
        columns["loss"] = Series(steps[steps < end], losses[steps < end].astype(np.float64))
        for name, curves in result.monitors.items():
            steps = np.arange(curves.shape[-1], dtype=np.float64) * result.record_every
            here = steps < end
            columns[name] = Series(steps[here], curves[point, seed][here].astype(np.float64))
        for name, curves in result.evaluations.items():
            here = result.evaluated_at <= end
            columns[name] = Series(
                result.evaluated_at[here].astype(np.float64),
                curves[point, seed][here].astype(np.float64),
            )
        if (schedule := _schedule(result, point)) is not None and "learning_rate" not in columns:
            steps = columns["loss"].steps
            columns["learning_rate"] = Series(
                steps, np.asarray(schedule.values(steps.astype(np.int32)), np.float64)
            )
    else:  # the result of a `sweep_function`
        for name, curves in result.curves.items():
            curve = curves[point, seed].astype(np.float64)
            columns[name] = Series(np.arange(len(curve), dtype=np.float64), curve)
    cause = str(result.causes[point, seed])
    if result.status[point, seed] == "diverged" and not cause:
        cause = "the sweep stopped it as diverged"
    # All lanes have the same dtypes. If the parameters have several, none of them is returned.
    leaves = jax.tree.leaves(result.best_params)
    names = {leaf.dtype.name for leaf in leaves if hasattr(leaf, "dtype")}
    return columns, words, cause, names.pop() if len(names) == 1 else ""


def _schedule(result: SweepResult, point: int) -> Schedule | None:
    """The schedule that a point took from an axis of schedules; None if there is no such axis."""
    for name, options in result.choices.items():
        if isinstance(options[0], Schedule):
            value = result.value(name, point)
            if isinstance(value, Schedule) and np.ndim(value(0)) == 0:
                return value
    return None
