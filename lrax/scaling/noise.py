"""The batch size and the noise of the gradient: the rate for one batch from that for large ones."""

from __future__ import annotations

from jax.typing import ArrayLike

from .. import _require
from .numbers import Number, numbers, plain


def noise_scale(max_lr: ArrayLike, *, batch: ArrayLike, noise_scale: ArrayLike) -> Number:
    r"""The best rate of SGD at a batch size, from the noise scale.

    $$\frac{\text{max\_lr}}{1 + \text{noise\_scale} / \text{batch}}$$

    The rate grows linearly with small batches, is half of `max_lr` at the noise scale, and
    approaches `max_lr` above. Use it for SGD where `linear` would go too far, with the noise scale
    of `lrax.probes.critical_batch`. To scale a known rate, take the ratio of two values, as in the
    example: `max_lr` then cancels.

    The result stops being valid as training goes on: the noise scale grows, often by orders of
    magnitude. The formula assumes one step on a quadratic loss, and the noise scale can be measured
    only to within a factor of a few. It is about SGD; for Adam see `surge`.

    Args:
      max_lr: The best rate without noise, as with the whole data as the batch; at least 0.
      batch: The batch size, in examples, above 0.
      noise_scale: The noise scale of the gradient, in examples, at least 0.

    Returns:
      The rate for `batch`.

    Raises:
      ValueError: if a concrete number is out of its range, or shapes do not broadcast.
      TypeError: if an argument is not a number.

    Example:
      >>> lrax.scaling.noise_scale(1.0, batch=1000, noise_scale=1000)
      0.5
      >>> at = lambda batch: lrax.scaling.noise_scale(1.0, batch=batch, noise_scale=1000)
      >>> print(f"{0.1 * at(4096) / at(256):.3f}")  # 0.1 was good at 256; `linear` says 1.6
      0.394

    Reference:
      McCandlish et al., "An empirical model of large-batch training", arXiv 1812.06162.
    """
    leaves = numbers(max_lr=max_lr, batch=batch, noise_scale=noise_scale)
    _require.nonnegative(leaves, "max_lr", "noise_scale")
    _require.positive(leaves, "batch")
    return plain(leaves["max_lr"] / (1 + leaves["noise_scale"] / leaves["batch"]))


def surge(max_lr: ArrayLike, *, batch: ArrayLike, noise_scale: ArrayLike) -> Number:
    r"""The best rate of Adam at a batch size: it rises, peaks at the noise scale, and falls.

    $$\frac{2 \, \text{max\_lr}}{\sqrt{\text{noise\_scale} / \text{batch}} +
      \sqrt{\text{batch} / \text{noise\_scale}}}$$

    Small batches follow the square-root rule; `max_lr` is the rate at the peak. Use it to see how
    far `sqrt` may be trusted, for Adam, Lion and others whose update is close to the gradient's
    sign. To scale a known rate, take the ratio of two values.

    The formula has several limits. It is derived for the sign of the gradient, without
    momentum, for normal noise, and for batches that are not far above the peak. For larger batches,
    the paper's rate levels off above 0. If most of the curvature is in the diagonal of the Hessian,
    there is no peak at all. The noise scale grows during training, and the peak with it. The peak
    is not quite at the noise scale of SGD, so measure it in a sweep where the choice is costly.

    Args:
      max_lr: The best rate at the batch size of the peak, at least 0.
      batch: The batch size, in examples, above 0.
      noise_scale: The batch size of the peak, in examples, above 0.

    Returns:
      The rate for `batch`.

    Raises:
      ValueError: if a concrete number is out of its range, or shapes do not broadcast.
      TypeError: if an argument is not a number.

    Example:
      >>> batches = np.array([100, 400, 1600])
      >>> lrax.scaling.surge(1e-3, batch=batches, noise_scale=400)
      array([0.0008, 0.001 , 0.0008])

    Reference:
      Li et al., "Surge phenomenon in optimal learning rate and batch size scaling", arXiv
      2405.14578.
    """
    leaves = numbers(max_lr=max_lr, batch=batch, noise_scale=noise_scale)
    _require.nonnegative(leaves, "max_lr")
    _require.positive(leaves, "batch", "noise_scale")
    root = (leaves["batch"] / leaves["noise_scale"]) ** 0.5
    return plain(2 * leaves["max_lr"] / (1 / root + root))
