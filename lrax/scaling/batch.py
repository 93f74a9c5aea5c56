"""The batch size: what changes with it, for SGD, for Adam and for a moving average of weights."""

from __future__ import annotations

from typing import NamedTuple

from jax.typing import ArrayLike

from .. import _require
from .numbers import Number, numbers, plain


class AdamSde(NamedTuple):
    """What `adam_sde` returns: the four hyperparameters of Adam for the new batch size."""

    lr: Number
    b1: Number
    b2: Number
    eps: Number


def linear(lr: ArrayLike, *, batch: ArrayLike, base_batch: ArrayLike) -> Number:
    r"""The rate of SGD for another batch size, by the linear rule.

    $$\text{lr} \cdot \kappa, \qquad \kappa = \frac{\text{batch}}{\text{base\_batch}}$$

    Use it for SGD with or without momentum, and keep the momentum and the number of epochs. For
    large batches begin with a gradual warmup, from the old rate to the new one over about 5 epochs,
    as in the example. A `Schedule` scales as a whole: `linear(1.0, batch=..., base_batch=...) *
    schedule`.

    The rule stops being valid near the critical batch, `lrax.probes.critical_batch`: above
    that batch, the best rate grows more slowly and then not at all (`lrax.scaling.noise_scale`).
    The rule also fails if the base rate is already close to the limit of stability,
    `lrax.probes.max_stable_rate`. It is wrong for Adam.

    Args:
      lr: The rate that is good at `base_batch`, at least 0.
      batch: The new batch size, in examples over all devices and accumulation steps, above 0.
      base_batch: The batch size of `lr`, in the same unit, above 0.

    Returns:
      The rate for `batch`.

    Raises:
      ValueError: if a concrete number is out of its range, or shapes do not broadcast.
      TypeError: if an argument is not a number.

    Example:
      >>> peak = lrax.scaling.linear(0.1, batch=8192, base_batch=256)
      >>> peak
      3.2
      >>> schedule = lrax.warmup_cosine(peak, steps=14_000, warmup=780, init=0.1)

    Reference:
      Goyal et al., "Accurate, large minibatch SGD", arXiv 1706.02677.
    """
    leaves, kappa = _growth(batch, base_batch, lr=lr)
    _require.nonnegative(leaves, "lr")
    return plain(leaves["lr"] * kappa)


def sqrt(lr: ArrayLike, *, batch: ArrayLike, base_batch: ArrayLike) -> Number:
    r"""The rate of Adam for another batch size, by the square-root rule.

    $$\text{lr} \cdot \sqrt\kappa, \qquad \kappa = \frac{\text{batch}}{\text{base\_batch}}$$

    Use it for Adam and similar optimizers that normalise the gradient, when the batch changes
    by a factor of at most about 4 and the other hyperparameters stay. For larger factors, the betas
    and epsilon matter: see `adam_sde`.

    The rule stops being valid where the gradient is no longer mostly noise: above the noise scale
    the best rate stops growing, and in theory falls (`lrax.scaling.surge`).

    Args:
      lr: The rate that is good at `base_batch`, at least 0.
      batch: The new batch size, in examples, above 0.
      base_batch: The batch size of `lr`, in the same unit, above 0.

    Returns:
      The rate for `batch`.

    Raises:
      ValueError: if a concrete number is out of its range, or shapes do not broadcast.
      TypeError: if an argument is not a number.

    Example:
      >>> lrax.scaling.sqrt(3e-4, batch=1024, base_batch=256)
      0.0006

    Reference:
      Krizhevsky, "One weird trick for parallelizing convolutional neural networks", arXiv
      1404.5997; for Adam, Malladi et al., arXiv 2205.10287.
    """
    leaves, kappa = _growth(batch, base_batch, lr=lr)
    _require.nonnegative(leaves, "lr")
    return plain(leaves["lr"] * kappa**0.5)


def adam_sde(
    lr: ArrayLike,
    b1: ArrayLike,
    b2: ArrayLike,
    eps: ArrayLike,
    *,
    batch: ArrayLike,
    base_batch: ArrayLike,
) -> AdamSde:
    r"""All hyperparameters of Adam for another batch size, by the square-root rule of its SDE.

    $$\sqrt\kappa \, \text{lr}, \quad 1 - \kappa (1 - \text{b1}), \quad
      1 - \kappa (1 - \text{b2}), \quad \text{eps} / \sqrt\kappa, \qquad
      \kappa = \frac{\text{batch}}{\text{base\_batch}}$$

    Training then follows the same stochastic differential equation, in 1 / kappa times as many
    updates. The averages reach back over the same number of examples, and epsilon keeps its size
    relative to the gradient's noise. Use it when the batch changes by a factor of 2 to 8. Divide
    the steps of warmup and schedule by kappa.

    The rule stops being valid where kappa (1 - b1) reaches 1: there the new b1 is 0, and
    beyond it would be negative. At b1 = 0.9 that is a factor of 10. The rule assumes that the
    gradient is mostly noise, so it fails near the critical batch too. Weight decay is not part of
    the rule: for AdamW, choose it so that its `decay_timescale` in epochs stays the same. Gradients
    are means over the examples of a batch.

    Args:
      lr: The rate that is good at `base_batch`, at least 0.
      b1: The decay of the first moment at `base_batch`, at least 0 and below 1.
      b2: The decay of the second moment at `base_batch`, at least 0 and below 1.
      eps: Adam's epsilon at `base_batch`, at least 0.
      batch: The new batch size, in examples, above 0.
      base_batch: The batch size at which the four numbers are good, in the same unit, above 0.

    Returns:
      An `AdamSde` of `lr`, `b1`, `b2` and `eps` for `batch`.

    Raises:
      ValueError: if a concrete number is out of its range, `batch` is so large that b1 or b2 would
        be negative, or shapes do not broadcast.
      TypeError: if an argument is not a number.

    Example:
      >>> adam = lrax.scaling.adam_sde(3e-4, 0.9, 0.999, 1e-8, batch=1024, base_batch=256)
      >>> adam
      AdamSde(lr=0.0006, b1=0.6, b2=0.996, eps=5e-09)
      >>> optimizer = optax.adam(adam.lr, adam.b1, adam.b2, adam.eps)

    Reference:
      Malladi et al., "On the SDEs and scaling rules for adaptive gradient algorithms", arXiv
      2205.10287.
    """
    leaves, kappa = _growth(batch, base_batch, lr=lr, b1=b1, b2=b2, eps=eps)
    _require.nonnegative(leaves, "lr", "eps")
    _require.below_one(leaves, "b1", "b2")
    for name in ("b1", "b2"):
        # `kappa <= 1 / (1 - b)`, without a division.
        words = f"`batch` / `base_batch` times (1 - `{name}`) must be at most 1"
        _require.at_most(words, kappa * (1 - leaves[name]), 1.0)
    return AdamSde(
        lr=plain(leaves["lr"] * kappa**0.5),
        b1=plain(1 - kappa * (1 - leaves["b1"])),
        b2=plain(1 - kappa * (1 - leaves["b2"])),
        eps=plain(leaves["eps"] / kappa**0.5),
    )


def ema(decay: ArrayLike, *, batch: ArrayLike, base_batch: ArrayLike) -> Number:
    r"""The decay of a moving average of weights for another batch size.

    $$\text{decay}^\kappa, \qquad \kappa = \frac{\text{batch}}{\text{base\_batch}}$$

    The average then reaches back over the same number of examples. Use it for averages of weights,
    teachers of self-supervised learning included, together with the rule for the rate. For Adam's
    b2 it keeps the half-life of the second moment in tokens. With b1 unchanged, that is another
    rule for language models, used down to a batch of one sequence. `adam_sde` has the same b2 to
    first order in 1 - decay.

    The rule stops being valid where decay^kappa is far from 1, such as below 0.5: the average then
    follows single updates. The rate must be scaled too, or the weights themselves move differently.

    Args:
      decay: The decay at `base_batch`, at least 0 and below 1: the average is `decay * average +
        (1 - decay) * weights`.
      batch: The new batch size, in examples, above 0.
      base_batch: The batch size of `decay`, in the same unit, above 0.

    Returns:
      The decay for `batch`.

    Raises:
      ValueError: if a concrete number is out of its range, or shapes do not broadcast.
      TypeError: if an argument is not a number.

    Example:
      >>> lrax.scaling.ema(0.999, batch=1024, base_batch=256)
      0.996006
      >>> print(f"{lrax.scaling.ema(0.95, batch=8, base_batch=512):.4f}")  # b2 for small batches
      0.9992

    Reference:
      Busbridge et al., "How to scale your EMA", arXiv 2307.13813; for b2, Marek et al., "Small
      batch size training for language models", arXiv 2507.07101.
    """
    leaves, kappa = _growth(batch, base_batch, decay=decay)
    _require.below_one(leaves, "decay")
    return plain(leaves["decay"] ** kappa)


def _growth(
    batch: ArrayLike, base_batch: ArrayLike, **others: ArrayLike
) -> tuple[dict[str, Number], Number]:
    """All arguments, checked for their types, and the factor by which the batch grows."""
    leaves = numbers(**others, batch=batch, base_batch=base_batch)
    _require.positive(leaves, "batch", "base_batch")
    return leaves, leaves["batch"] / leaves["base_batch"]
