"""Trains the part of a run where something went wrong again, at several rates side by side."""

import dataclasses
from typing import Any

import numpy as np

from ...schedules.pieces import from_values
from ...schedules.schedule import Schedule
from ...sweeps.sweep import sweep
from ...training.optimizer import Optimizer, first_parameter
from ...training.run import Params, TaskLike
from .finding import Finding
from .log import Log

# A finding is replayed at these multiples of the run's own rates. They are half a decade apart, and
# reach two decades in the direction that the finding points to, and half a decade in the other.
LOWER = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
HIGHER = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
FACTORS = {
    "diverging": LOWER,
    "rate_too_high": LOWER,
    "spiking": LOWER,
    "warmup_too_short": LOWER,
    "plateau": LOWER,
    "rate_too_low": HIGHER,
    "updates_too_small": HIGHER,
    "decay_too_strong": LOWER,
}
# A lane helps if its final loss is lower than that of the run's own rates by this part of the best
# lane's fall. A smaller difference may be the noise of the minibatches.
HELPS = 0.05


@dataclasses.dataclass(frozen=True)
class Retry:
    """What the replay of a stretch found.

    Attributes:
      start: The first step of the stretch.
      steps: Its length in updates.
      factors: `[lanes]`, the multiples of the run's own rates.
      losses: `[lanes]`, the mean training loss of the last tenth of the stretch, over the seeds;
        infinite where a lane diverged.
      helped: The factors whose loss is clearly lower than that of the factor 1, and than the loss
        at the start; the best first.
      reset: What the replay could not restore.
    """

    start: int
    steps: int
    factors: np.ndarray
    losses: np.ndarray
    helped: tuple[float, ...]
    reset: str

    def to_dict(self) -> dict[str, Any]:
        """The fields, as values that JSON can hold."""
        # JSON has no infinity.
        finite = [float(loss) if np.isfinite(loss) else None for loss in self.losses]
        return {
            **dataclasses.asdict(self),
            "factors": self.factors.tolist(),
            "losses": finite,
            "helped": list(self.helped),
        }

    def __str__(self) -> str:
        lanes = ", ".join(
            f"{factor:g} x: {loss:.3g}" if np.isfinite(loss) else f"{factor:g} x: diverged"
            for factor, loss in zip(self.factors, self.losses, strict=True)
        )
        last = self.start + self.steps - 1
        head = f"replay of steps {self.start} to {last} at other rates ({self.reset})"
        verdict = (
            f"{self.helped[0]:g} x the rate would have helped most"
            if self.helped
            else f"no rate from {self.factors[0]:g} x to {self.factors[-1]:g} x would have helped"
        )
        return f"{head}\n  final loss: {lanes}\n  {verdict}"


def check(
    task: TaskLike | None, optimizer: Optimizer | None, params: Params | None, log: Log
) -> None:
    """Requires what a replay needs: an optimizer and the rates of the run."""
    if task is None:
        for name, value in (("optimizer", optimizer), ("params", params)):
            if value is not None:
                raise ValueError(f"`{name}` is for a replay: give the task as `retry=`")
        return
    if optimizer is None:
        raise ValueError("`optimizer` must be given to replay the run by `retry=`")
    first_parameter(optimizer)
    if log.rates is None:
        raise ValueError("`rates` must be given to replay the run by `retry=`: no record has them")


def replay(
    log: Log,
    finding: Finding,
    task: TaskLike,
    optimizer: Optimizer,
    *,
    params: Params | None,
    seeds: int,
    progress: bool | None,
) -> Retry:
    """Trains the suspect stretch in lanes at several multiples of the run's own rates.

    Without `params` the stretch begins at the first update, because the task makes only the
    initial parameters. With `params` it begins at the finding's first step. The optimizer's state
    is new in both cases.
    """
    first, last = finding.at
    start = 0 if params is None else first
    # At least a tenth of the run, because a lane needs some updates to show that it is better.
    end = max(last + 1, start + int(np.ceil(log.loss.steps[-1] / 10)), start + 2)
    steps = end - start
    rates = log.at("rates", np.arange(start, end))
    assert rates is not None
    factors = FACTORS[finding.name]
    lanes: list[Schedule] | list[float]
    if np.ptp(rates) == 0:
        lanes = [float(factor * rates[0]) for factor in factors]
    else:
        lanes = [from_values(factor * rates) for factor in factors]
    name = first_parameter(optimizer)
    start_of = {} if params is None else {"params": params}
    result = sweep(
        task, optimizer, {name: lanes}, steps=steps, seeds=seeds, progress=progress, **start_of
    )
    losses = np.mean(np.where(result.status == "diverged", np.inf, result.final_losses), axis=1)
    own = losses[factors.index(1.0)]
    # If the run's own rates diverge or raise the loss, they are compared as if nothing was learned.
    # So a lane that ends above the start does not help.
    begin = float(np.median(result.losses[..., 0]))
    own = min(own, begin)
    margin = HELPS * max(begin - float(np.min(losses)), 0.0)
    order = np.argsort(losses, kind="stable")
    helped = tuple(factors[i] for i in order if losses[i] < own - margin)
    what = "a new start" if params is None else "the given `params`, and a new optimizer state"
    return Retry(start, steps, np.array(factors), losses, helped, f"{what}, {seeds} seeds")
