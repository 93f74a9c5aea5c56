"""Weight decay as a timescale: over how much training a weight is forgotten."""

from __future__ import annotations

from typing import NamedTuple

from jax.typing import ArrayLike

from .. import _require
from .numbers import Number, numbers, plain


class DecayTimescale(NamedTuple):
    """What `decay_timescale` returns: the same time in two units."""

    iterations: Number
    epochs: Number


def decay_timescale(
    lr: ArrayLike, weight_decay: ArrayLike, *, batch: ArrayLike, dataset_size: ArrayLike
) -> DecayTimescale:
    r"""The time over which AdamW averages its updates, in updates and in epochs.

    $$\text{iterations} = \frac{1}{\text{lr} \cdot \text{weight\_decay}}, \qquad
      \text{epochs} = \text{iterations} \cdot \frac{\text{batch}}{\text{dataset\_size}}$$

    The weights of AdamW are a moving average of its past updates, with the decay
    1 - lr * weight_decay. When the model, the data or the batch grows, keep `epochs`: raise the
    weight decay with the batch, and lower it with the data. The best value is often a fraction of
    the run, so for a run of one epoch `epochs` is near 0.1 to 1.

    The formula assumes that the decay is multiplied by the rate: for an independent decay, as in
    the paper of AdamW, pass `lr=1`. It does not hold for L2 regularisation, which Adam divides by
    its second moment. With a schedule the time is that of the peak rate. For parameters that no
    normalisation follows, decay is also a regulariser, which this timescale does not describe.

    Args:
      lr: The rate, at its peak, above 0.
      weight_decay: The decay of AdamW as in `optax.adamw`, where the rate multiplies it; above 0.
      batch: The batch size, in examples or tokens, above 0.
      dataset_size: The size of the data set in the same unit, above 0.

    Returns:
      A `DecayTimescale` of `iterations` and `epochs`.

    Raises:
      ValueError: if a concrete number is out of its range, or shapes do not broadcast.
      TypeError: if an argument is not a number.

    Example:
      >>> lrax.scaling.decay_timescale(1e-3, 0.1, batch=128, dataset_size=1_280_000)
      DecayTimescale(iterations=10000.0, epochs=1.0)

    Reference:
      Wang and Aitchison, "How to set AdamW's weight decay as you scale model and dataset size",
      arXiv 2405.13698; Bergsma et al., "Power lines", arXiv 2505.13738.
    """
    leaves = numbers(lr=lr, weight_decay=weight_decay, batch=batch, dataset_size=dataset_size)
    _require.positive(leaves, *leaves)
    iterations = 1 / (leaves["lr"] * leaves["weight_decay"])
    epochs = iterations * (leaves["batch"] / leaves["dataset_size"])
    return DecayTimescale(iterations=plain(iterations), epochs=plain(epochs))
