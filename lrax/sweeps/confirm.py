"""`lrax.confirm`: the best points of a sweep again, on seeds that had no part in the choice."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from .. import _require
from ..training.optimizer import Optimizer
from ..training.task import Task
from . import statistics
from .points import points
from .result import SweepResult
from .statistics import Paired
from .sweep import sweep

# Seeds of keys whose numbers are not known: such as nobody counts up to.
FAR = 1_000_000


class Confirmation(NamedTuple):
    """Estimates of the best points of a sweep that their choice has not made better than they are."""

    hyperparams: list[dict[str, float]]  # of the points, in the sweep's ranking
    mean: np.ndarray  # [points], the objective over the fresh seeds; NaN where a lane diverged
    interval: np.ndarray  # [points, 2], of the mean, by Student's t
    claimed: np.ndarray  # [points], the objective over the seeds that chose
    paired: Paired  # against the point that the sweep ranked first; its p-values are honest
    result: SweepResult  # of the fresh seeds

    def __str__(self) -> str:
        lines = []
        for i, point in enumerate(self.hyperparams):
            words = ", ".join(f"{name}={value:.3g}" for name, value in point.items())
            low, high = self.interval[i]
            line = f"{words}: {self.mean[i]:.4g}, between {low:.4g} and {high:.4g}; the sweep had {self.claimed[i]:.4g}"
            lines.append(
                line + (f"; p {self.paired.p_value[i]:.2g} against the first" if i else "")
            )
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
    """Trains the best points of a sweep again on fresh seeds, and says how good they are.

    The best of many noisy scores is better than it deserves (the winner's curse), the more so the
    more points and the fewer seeds. Use this for the numbers to report, and to settle which of the
    first few points is best. The seeds are others than the sweep's; steps, objective and the
    sharing of random numbers are the same.

    Args:
      task: The sweep's task.
      optimizer: The sweep's optimizer.
      result: What `lrax.sweep` returned.
      seeds: How many fresh seeds, at least 2, or the seeds themselves, none of them the sweep's.
      top: How many points, from the best on, at least 1; those with a diverged lane are left out.
      confidence: Coverage of the intervals, in (0, 1).
      progress: Whether to show a progress bar. By default where a person watches.

    Returns:
      `Confirmation(hyperparams, mean, interval, claimed, paired, result)`, which prints as a few
      lines.

    Raises:
      ValueError: if there are fewer than two seeds, one is among the sweep's, `confidence` is not
        within (0, 1), every point diverged, a lane of the sweep's best point diverges with the
        fresh seeds, or the sweep was interrupted.
      TypeError: if an argument is not as described.

    Example:
      >>> task = lrax.tasks.diabetes()
      >>> result = lrax.sweep(task, optax.adam, lrax.log_grid(1e-3, 1e-1, 5), steps=50, seeds=2)
      >>> confirmed = lrax.confirm(task, optax.adam, result, seeds=3, top=2)
      >>> confirmed.mean.shape, confirmed.interval.shape, confirmed.result.seeds
      ((2,), (2, 2), ['2', '3', '4'])

    Reference:
      Cawley and Talbot, On Over-fitting in Model Selection and Subsequent Selection Bias in
      Performance Evaluation
      (2010).
    """
    if not isinstance(result, SweepResult):
        raise TypeError(f"`result` must be a SweepResult, got {type(result).__name__}")
    statistics.fraction("confidence", confidence)  # before the work, not after it
    top, chosen = _require.count("top", top, 1), result.ranking
    steps = int(result.info.get("steps", result.losses.shape[-1]))
    if result.losses.shape[-1] != steps:
        raise ValueError(
            f"`result` must be of a whole sweep, got one interrupted at {result.losses.shape[-1]} of {steps}"
        )
    known = np.all(np.isfinite(result.scores[chosen]), axis=1)
    if not known.any():
        raise ValueError(
            "every point diverged with some seed, so there is none to confirm; try lower rates"
        )
    chosen = chosen[known][:top]
    rows = [
        {name: float(values[point]) for name, values in result.hyperparams.items()}
        for point in chosen
    ]
    fresh = sweep(
        task,
        optimizer,
        points(rows),
        steps=steps,
        seeds=_fresh(result.seeds, seeds),
        objective=result.objective,
        mode=result.mode,
        rng=result.info.get("rng", "common"),
        progress=progress,
    )
    if not np.all(np.isfinite(fresh.scores[0])):
        raise ValueError(
            f"the sweep's best point {rows[0]} diverged with a fresh seed: it is too near the edge; try lower rates"
        )
    values = np.where(np.isfinite(fresh.scores), fresh.values, np.nan)
    mean, interval = statistics.means(values, confidence)
    claimed = result.values[chosen].mean(axis=1, dtype=np.float64)
    return Confirmation(
        rows, mean, interval, claimed, fresh.paired(0, confidence=confidence), fresh
    )


def _fresh(used: Sequence[str], seeds: Any) -> list[int]:
    """Seeds that are not among those used."""
    numbers = {int(name) for name in used if name.isdecimal()}
    if isinstance(seeds, (int, np.integer)):
        first = max(numbers) + 1 if len(numbers) == len(used) else FAR
        fresh = list(range(first, first + _require.count("seeds", seeds, 2)))
    else:
        fresh = [_require.count(f"seeds[{i}]", seed, 0) for i, seed in enumerate(seeds)]
        if len(fresh) < 2:
            raise ValueError(
                f"`seeds` must be at least 2, for one says nothing of their spread, got {fresh}"
            )
    if shared := sorted(numbers.intersection(fresh)):
        raise ValueError(
            f"`seeds` must be others than those that chose the points, got {shared} among them"
        )
    return fresh
