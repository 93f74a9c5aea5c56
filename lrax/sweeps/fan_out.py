"""`FanOut`: lanes fan out around a base rate, and converge to their mean."""

import dataclasses

import numpy as np

from .. import _require
from .exchanging import Move, Population, Values

FALL = 0.5  # one exchange multiplies the base rate by this or more, so that it stays positive


@dataclasses.dataclass(frozen=True)
class FanOut:
    r"""Fan out and converge (HDET): spreads the rates, averages the parameters; experimental.

    $$\theta \leftarrow \frac{1}{n} \sum_r \theta_r, \qquad \Delta = \sum_r w_r \eta_r - \bar\eta,
    \qquad w_r \propto e^{(\bar\ell - \ell_r) / \text{temperature}}$$
    $$v \leftarrow \beta v + (1 - \beta) \Delta, \qquad
    \bar\eta \leftarrow (1 - \text{decay}) \, \bar\eta + \text{step} \cdot v, \qquad
    \eta_r = \bar\eta \, \rho_{\pi(r)}$$

    with the parameters $\theta_r$ and the rates $\eta_r$ of $n$ lanes, the mean rate $\bar\eta$,
    the objective of the segment $\ell_r$ and its mean $\bar\ell$, the velocity $v$, which starts at
    0, $\beta$ = `momentum`, multipliers $\rho$ evenly spaced from 1 - `spread` to 1 + `spread`, and
    a random permutation $\pi$. Use it to see how one run with averaged replicas behaves: all lanes
    of a seed are one model after each exchange. Each lane keeps its optimizer's state. In the
    authors' data-parallel training all replicas take steps along one averaged gradient; here each
    lane follows its own gradient of the same batch. A lane that is not finite goes on from the mean
    of the finite lanes, with the optimizer's state of the best lane.

    Args:
      spread: How far the rates spread, as a fraction of the base rate, between 0 and 1.
      step: How fast the base rate follows the velocity, at least 0; with 0 it does not.
      momentum: Of the velocity, at least 0 and below 1.
      temperature: The difference in the objective that changes a lane's weight by a factor of e,
        above 0. With a low temperature the best lane alone decides.
      decay: The fraction by which the base rate falls in each exchange, at least 0 and below 1.
        Leave it 0 if the schedule of the lanes decays by itself.

    Raises:
      ValueError: if an argument is out of its range.
      TypeError: if an argument is not a real number.

    Example:
      >>> rule = lrax.FanOut(spread=0.5)
      >>> rule.fan(0.1, 5)
      array([0.05 , 0.075, 0.1  , 0.125, 0.15 ])
      >>> task = lrax.tasks.diabetes()
      >>> result = lrax.sweep_exchange(
      ...     task, optax.adam, rule.fan(0.01, 4), steps=40, every=10, exchange=rule
      ... )
      >>> result.rates.mean(axis=1).shape  # the base rate of each segment
      (4, 1)

    Reference:
      Cheng et al., Scalable Hyperparameter-Divergent Ensemble Training with Automatic Learning Rate
      Exploration for Large Models (2026), arXiv:2604.24708, sections 3.2 to 3.4.
    """

    # The defaults are those of the authors' code; `spread` is that of its example.
    spread: float = 1 / 9
    step: float = 0.5
    momentum: float = 0.9
    temperature: float = 0.002
    decay: float = 0.0

    def __post_init__(self):
        _require.fraction("spread", self.spread)
        _require.nonnegative({"step": _require.number("step", self.step)}, "step")
        for name in ("momentum", "decay"):
            value = {name: _require.number(name, getattr(self, name))}
            _require.nonnegative(value, name)
            _require.below_one(value, name)
        temperature = _require.number("temperature", self.temperature)
        _require.positive({"temperature": temperature}, "temperature")

    def fan(self, base: float, points: int) -> np.ndarray:
        """The rates around a base, as the grid for `sweep_exchange`.

        Args:
          base: The base rate, above 0.
          points: How many rates, at least 1. One rate is the base itself.

        Returns:
          `[points]`, ascending.
        """
        _require.positive({"base": _require.number("base", base)}, "base")
        return base * self._multipliers(_require.count("points", points, 1))

    def move(self, record: Population, rng: np.random.Generator) -> Move:
        """How the lanes go on after a segment."""
        points, seeds = record.rates.shape
        base = self._base(record)
        ratios = np.tile(self._multipliers(points)[:, None], seeds)
        sound = np.isfinite(record.scores)
        best = np.argmin(record.scores, axis=0)
        own = np.arange(points)[:, None]
        # A lane that is not finite has an optimizer state that is not finite either.
        source = np.where(sound, own, best)
        rates = base * rng.permuted(ratios, axis=0)
        return Move({record.name: rates}, source, averaged=sound)

    def _multipliers(self, points: int) -> np.ndarray:
        half = max((points - 1) / 2, 0.5)
        return 1 + self.spread * (np.arange(points) - (points - 1) / 2) / half

    def _base(self, record: Population) -> Values:
        """The next base rate of each seed, `[seeds]`."""
        # The velocity is computed from all segments up to now, so the rule keeps no state.
        velocity = np.zeros(record.rates.shape[1])
        mean = velocity
        for rates, losses in zip(
            record.hyperparams[record.name], np.moveaxis(record.objective, -1, 0), strict=True
        ):
            mean = rates.mean(axis=0)
            velocity = self.momentum * velocity + (1 - self.momentum) * (
                np.sum(self._weights(losses) * rates, axis=0) - mean
            )
        base = (1 - self.decay) * mean + self.step * velocity
        return np.maximum(base, FALL * mean)

    def _weights(self, losses: Values) -> Values:
        """The weight of each lane, `[points, seeds]`; equal ones if no lane is finite."""
        least = losses.min(axis=0)
        # Differences to the least loss, not to the mean: the weights are the same, and an infinite
        # loss has weight 0.
        excess = losses - np.where(np.isfinite(least), least, 0.0)
        weights = np.where(np.isfinite(least), np.exp(-excess / self.temperature), 1.0)
        return weights / weights.sum(axis=0)
