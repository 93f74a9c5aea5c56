"""`PopulationBasedTraining`: population-based training of the rate."""

import dataclasses
import math

import numpy as np

from .. import _require
from .exchanging import Move, Population


@dataclasses.dataclass(frozen=True)
class PopulationBasedTraining:
    r"""Population-based training (PBT): the worst lanes go on from the best ones; experimental.

    $$\theta_i \leftarrow \theta_j, \quad \eta_i \leftarrow c \, \eta_j, \qquad
    i \in \text{worst}, \; j \sim U(\text{best}), \; c \sim U(\text{perturb})$$

    Use it with eight rates or more around a guess, where the best rate changes during the run and
    no schedule is known. It prefers what is best now: a high rate that would pay off after a later
    decay loses. The best and the worst are the first and the last `ceil(quantile * points)` points
    of a seed by their objective, at most half of them. A copy takes all hyperparameters of its
    source, and its rate is perturbed. A lane that is not finite is replaced too.

    Args:
      quantile: The part of the points that is replaced, between 0 and 1.
      perturb: Factors above 0, one of which is drawn for each copy.

    Raises:
      ValueError: if an argument is out of its range.
      TypeError: if `quantile` is not a real number, or `perturb` not a tuple of them.

    Example:
      >>> task = lrax.tasks.diabetes()
      >>> rates = lrax.log_grid(1e-3, 1e-1, 4)
      >>> result = lrax.sweep_exchange(
      ...     task, optax.adam, rates, steps=40, every=10, exchange=lrax.PopulationBasedTraining()
      ... )
      >>> result.rates.shape
      (4, 4, 1)

    Reference:
      Jaderberg et al., Population Based Training of Neural Networks (2017), arXiv:1711.09846,
      section 4.1.1, truncation selection.
    """

    # The paper replaces a fifth and perturbs by 0.8 or 1.2. Ray Tune replaces a quarter, perturbs
    # by the same, and sometimes draws a value anew. The defaults here are a quarter, and 0.8 or
    # 1.25: the product of 0.8 and 1.2 is below 1, which makes the rates of many copies drift down
    # whatever the losses are.
    quantile: float = 0.25
    perturb: tuple[float, ...] = (0.8, 1.25)

    def __post_init__(self):
        _require.fraction("quantile", self.quantile)
        _require.positive({"perturb": _factors(self.perturb)}, "perturb")

    def move(self, record: Population, rng: np.random.Generator) -> Move:
        """How the lanes go on after a segment."""
        scores = record.scores
        points, seeds = scores.shape
        # A count of 4.0000000001 is 4 with a rounding error, and must not become 5.
        count = min(math.ceil(self.quantile * points - 1e-9), points // 2)
        source = np.tile(np.arange(points)[:, None], seeds)
        factors = np.ones((points, seeds))
        for seed in range(seeds):
            order = np.argsort(scores[:, seed], kind="stable")
            sound = np.isfinite(scores[order, seed])
            best = order[: max(count, 1)][sound[: max(count, 1)]]
            if not len(best):
                continue  # all have diverged
            worst = order[(np.arange(points) >= points - count) | ~sound]
            source[worst, seed] = rng.choice(best, len(worst))
            factors[worst, seed] = rng.choice(np.asarray(self.perturb, np.float64), len(worst))
        column = np.arange(seeds)
        copied = {name: values[-1][source, column] for name, values in record.hyperparams.items()}
        return Move({**copied, record.name: copied[record.name] * factors}, source)


def _factors(perturb: _require.Unchecked) -> np.ndarray:
    """The factors as an array of one axis."""
    if not isinstance(perturb, (tuple, list)) or not perturb:
        raise TypeError(f"`perturb` must be a tuple of factors, got {perturb!r}")
    return np.array([_require.number("perturb", factor) for factor in perturb])
