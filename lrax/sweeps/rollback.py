"""`Rollback`: a lane whose loss spiked goes back to where it was before."""

import dataclasses

import numpy as np

from .. import _require
from ..training.tail import tail_mean
from .exchanging import Mask, Move, Population


@dataclasses.dataclass(frozen=True)
class Rollback:
    r"""A lane whose loss spiked goes back by a segment, at a lower rate; experimental.

    $$\ell_k - \ell^* > (\text{factor} - 1) \, |\ell^*| \quad\Rightarrow\quad
    \theta \leftarrow \theta_{k-1}, \quad \eta \leftarrow \text{back\_off} \cdot \eta$$

    with the mean loss $\ell_k$ of the last tenth of segment $k$, and $\ell^*$, the least of the
    first loss and of these means of the segments before. Use it for long runs near the highest
    stable rate, and against batches that ruin a run. A lane whose loss or parameters are not finite
    goes back too. Other lanes are not touched. The lane goes on with the batches that come next:
    those of the undone updates are not used again.

    What ruined the lane may be older than its spike: bad batches at the very end of a segment show
    only in the next one. So a lane that spikes again at once goes back to where it was another
    segment earlier. Damage that takes longer to show is not undone. Take segments of a hundred
    updates or more: the mean loss of a few batches may exceed the limit by chance, and the segment
    is then lost.

    The optimizer's state goes back too, and with it the count of its schedule: the lane ends as
    many updates short of the schedule's end as it went back. `controllers.restore_after_spikes`
    does the same for one run, inside the optimizer.

    Args:
      factor: A loss above this many times the least one is a spike; above 1.
      back_off: The factor by which the rate of the lane is multiplied, above 0 and at most 1.

    Raises:
      ValueError: if an argument is out of its range.
      TypeError: if an argument is not a real number.

    Example:
      A rate that is far too high comes down by itself:

      >>> task = lrax.tasks.diabetes()
      >>> call = dict(steps=80, every=10, exchange=lrax.Rollback(back_off=0.1))
      >>> result = lrax.sweep_exchange(task, optax.sgd, [0.1, 100.0], **call)
      >>> result.back[:, :, 0].any(axis=0)
      array([False,  True])
      >>> bool(np.isfinite(result.values).all())
      True

    Reference:
      Chowdhery et al., PaLM (2022), arXiv:2204.02311, section 5.1: training went back to a
      checkpoint before the spike and skipped the batches of the spike.
    """

    factor: float = 4.0
    back_off: float = 0.5

    def __post_init__(self):
        if not 1 < _require.number("factor", self.factor) < np.inf:
            raise ValueError(f"`factor` must be finite and above 1, got {self.factor!r}")
        if not 0 < _require.number("back_off", self.back_off) <= 1:
            raise ValueError(f"`back_off` must be above 0 and at most 1, got {self.back_off!r}")

    def move(self, record: Population, rng: np.random.Generator) -> Move:
        """How the lanes go on after a segment."""
        del rng  # nothing here is random
        segments = len(record.hyperparams[record.name])
        spiked = self._spiked(record, segments)
        again = spiked & self._spiked(record, segments - 1)
        rates = np.where(spiked, self.back_off * record.rates, record.rates)
        return Move({record.name: rates}, back=spiked.astype(int) + again)

    def _spiked(self, record: Population, segments: int) -> Mask:
        """Which lanes spiked in the last of the first `segments` segments; none if that is 0."""
        if segments == 0:
            return np.zeros(record.rates.shape, bool)
        losses = record.losses.astype(np.float64)
        starts = range(0, segments * record.every, record.every)
        with np.errstate(invalid="ignore", over="ignore"):
            ends = [tail_mean(losses[..., i : i + record.every]) for i in starts]
            # `fmin` skips the segments that were not finite.
            usual = np.fmin.reduce([losses[..., 0], *ends[:-1]])
            spiked = ~(ends[-1] - usual <= (self.factor - 1) * np.abs(usual))
        return spiked | ~np.isfinite(record.objective[..., segments - 1])
