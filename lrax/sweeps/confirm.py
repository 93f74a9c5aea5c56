"""`lrax.confirm`: trains the best points of a sweep again, on seeds that did not choose them."""

# Annotations stay as they are written, so that `help` shows the names of the aliases.
from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from .. import _require
from ..training.optimizer import Optimizer
from ..training.task import Task
from . import statistics
from .best import Value
from .points import PointList
from .result import SweepResult
from .statistics import Paired
from .sweep import sweep

# The first fresh seed for a sweep that was given keys. The seeds behind the keys are unknown, so
# this number is far above the seeds that people use.
FAR = 1_000_000


class Confirmation(NamedTuple):
    """The best points of a sweep, measured on seeds that had no part in choosing them."""

    hyperparams: list[dict[str, Value]]  # of the points, in the order of the sweep's ranking
    mean: np.ndarray  # [points], of the objective over the fresh seeds; NaN if a lane diverged
    interval: np.ndarray  # [points, 2], of the mean, by Student's t
    claimed: np.ndarray  # [points], the mean objective over the sweep's own seeds
    paired: Paired  # against the point that the sweep ranked first
    result: SweepResult  # of the fresh seeds

    def __str__(self) -> str:
        lines = []
        for i, mean in enumerate(self.mean):
            own = self.result
            words = ", ".join(f"{name}={own.shown(name, i)}" for name in own.hyperparams)
            low, high = self.interval[i]
            line = f"{words}: {mean:.4g}, between {low:.4g} and {high:.4g}"
            line += f"; the sweep had {self.claimed[i]:.4g}"
            line += f"; p {self.paired.p_value[i]:.2g} against the first" if i else ""
            lines.append(line)
        return "\n".join(lines)


def confirm(
    task: Task,
    optimizer: Optimizer,
    result: SweepResult,
    *,
    seeds: int | Sequence[int] = 5,
    top: int = 3,
    confidence: float = 0.95,
    progress: bool | None = None,
) -> Confirmation:
    """Trains the best points of a sweep again on fresh seeds, for unbiased estimates.

    The best of many noisy scores is partly best by luck, so it looks better than its point really
    is (the winner's curse). The bias grows with the number of points and falls with the number of
    seeds. Use this for the numbers to report, and to settle which of the first few points is best.
    The fresh seeds differ from all seeds of the sweep. Steps, objective, `select` and the sharing
    of random numbers are those of the sweep. But a sweep without `eval_every` has no evaluations
    along the way to select from: then `mean` and `claimed` are both measured at the end.

    Args:
      task: The sweep's task.
      optimizer: The sweep's optimizer.
      result: What `lrax.sweep` returned.
      seeds: Number of fresh seeds, at least 2, or the seeds themselves, none of them the sweep's.
      top: Number of points to take from the top of the ranking, at least 1. Points with a diverged
        or a pruned lane are skipped.
      confidence: Coverage of the intervals, in (0, 1).
      progress: Whether to show a progress bar. By default one is shown in a terminal or a notebook.

    Returns:
      `Confirmation(hyperparams, mean, interval, claimed, paired, result)`, which prints as a few
      lines.

    Raises:
      ValueError: if there are fewer than two seeds, or one of them is a seed of the sweep; if
        `confidence` is not within (0, 1); if the result has no best point, or comes from an
        interrupted sweep or from `sweep_function`; if the sweep's best point diverges with a fresh
        seed.
      TypeError: if an argument is not as described.

    Example:
      >>> task = lrax.tasks.diabetes()
      >>> result = lrax.sweep(task, optax.adam, lrax.log_grid(1e-3, 1e-1, 5), steps=50, seeds=2)
      >>> confirmed = lrax.confirm(task, optax.adam, result, seeds=3, top=2)
      >>> confirmed.mean.shape, confirmed.interval.shape, confirmed.result.seeds
      ((2,), (2, 2), ['2', '3', '4'])

    Reference:
      Cawley and Talbot, On Over-fitting in Model Selection and Subsequent Selection Bias in
      Performance Evaluation (2010).
    """
    if not isinstance(result, SweepResult):
        raise TypeError(f"`result` must be a SweepResult, got {type(result).__name__}")
    _require.fraction("confidence", confidence)  # so that a wrong value fails before the training
    top = _require.count("top", top, 1)
    if not result.has_losses:
        raise ValueError(
            "`result` must come from `lrax.sweep`, and not from `sweep_function`: call that again,"
            " with other `seeds`, on `lrax.points` of the best points"
        )
    # `done` alone does not show an interruption: with thinned losses it is also below `steps` if
    # every point was stopped early. Such a sweep has no best point, which is the next error.
    if result.done != result.steps and np.any(result.status == "interrupted"):
        raise ValueError(
            f"`result` must be of a whole sweep, got one interrupted at {result.done} of"
            f" {result.steps}"
        )
    if result.why_no_best:
        raise ValueError(f"there is no point to confirm: {result.why_no_best}")
    # Points with a diverged or a pruned lane are skipped: their scores are infinite.
    known = np.all(np.isfinite(result.scores[result.ranking]), axis=1)
    chosen = result.ranking[known][:top]
    rows = [{name: result.value(name, point) for name in result.hyperparams} for point in chosen]
    fresh = sweep(
        task,
        optimizer,
        _points(result, chosen),
        steps=result.steps,
        seeds=_fresh(result.seeds, seeds),
        objective=result.objective,
        mode=result.mode,
        rng=result.info.get("rng", "common"),
        progress=progress,
        **_selection(result),
    )
    if not np.all(np.isfinite(fresh.scores[0])):
        raise ValueError(
            f"the sweep's best point {rows[0]} diverged with a fresh seed: it is too near the edge;"
            " try lower rates"
        )
    values = np.where(np.isfinite(fresh.scores), fresh.values, np.nan)
    mean, interval = statistics.means(values, confidence)
    chose = dataclasses.replace(result, select=fresh.select)
    claimed = chose.values[chosen].mean(axis=1, dtype=np.float64)
    return Confirmation(
        rows, mean, interval, claimed, fresh.paired(0, confidence=confidence), fresh
    )


def _points(result: SweepResult, chosen: np.ndarray) -> PointList:
    """A grid of the chosen points of a result."""
    columns: dict[str, np.ndarray | list[Value]] = {}
    for name, values in result.hyperparams.items():
        if name in result.labels:
            columns[name] = [result.value(name, point) for point in chosen]
        else:
            columns[name] = values[chosen]
    return PointList(columns)


def _selection(result: SweepResult) -> dict[str, Any]:
    """The arguments that make the fresh sweep rank by the same evaluations."""
    # The last evaluation and the training loss need no evaluations along the way.
    if result.select == "last" or result.objective == "train_loss":
        return {}
    # `eval_every` cannot be read from `evaluated_at`: points were also evaluated at their stop.
    every = result.info.get("eval_every")
    return {} if every is None else {"select": result.select, "eval_every": every}


def _fresh(used: Sequence[str], seeds: int | Sequence[int]) -> list[int]:
    """The seeds of the fresh sweep: the given ones, or a given number of unused ones."""
    # The name of a seed is its number. Keys have no number: their names are "key 0", "key 1", ...
    numbers = {int(name) for name in used if name.isdecimal()}
    if isinstance(seeds, (int, np.integer)):
        first = max(numbers) + 1 if len(numbers) == len(used) else FAR
        fresh = list(range(first, first + _require.count("seeds", seeds, 2)))
    else:
        listed = enumerate(_require.listed("seeds", seeds))
        fresh = [_require.count(f"seeds[{i}]", seed, 0, _require.LONG) for i, seed in listed]
        if len(fresh) < 2:
            raise ValueError(
                f"`seeds` must be at least 2, because one says nothing of their spread, got {fresh}"
            )
    if shared := sorted(numbers.intersection(fresh)):
        raise ValueError(f"`seeds` must not be among the seeds that chose the points, got {shared}")
    return fresh
