"""`noise_scale`: how noisy a gradient is, from the gradients of micro-batches."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
from jax import numpy as jnp
from jax.typing import ArrayLike

from .. import _require
from .groups import Group, grouped, ungrouped
from .losses import Tree, real_tree


class NoiseScale(NamedTuple):
    """A measurement of `noise_scale`, a pytree. Average both parts first, then read `scale`.

    `jax.tree.map(lambda part: part.mean(0), stacked)` is the average of several measurements.
    `optax.incremental_update(new, old, 0.1)` is one step of a moving average.

    Attributes:
      grad_sq: The estimate of the squared norm of the true gradient. It may be negative.
      trace: The estimate of the trace of the covariance of the gradient of one example.
    """

    grad_sq: jax.Array
    trace: jax.Array

    @property
    def scale(self) -> jax.Array:
        """The noise scale in examples, trace / grad_sq; NaN where `grad_sq` is not positive."""
        positive = self.grad_sq > 0
        return jnp.where(positive, self.trace / jnp.where(positive, self.grad_sq, 1.0), jnp.nan)


def noise_scale(
    micro_grads: Tree, micro_batch: ArrayLike, *, group: Group | None = None
) -> NoiseScale | dict[str, NoiseScale]:
    r"""The simple gradient noise scale, by an unbiased estimator from micro-batches.

    $$\hat{G}^2 = \frac{B \|\bar g\|^2 - b \, \overline{\|g_k\|^2}}{B - b}, \qquad
      \hat{S} = \frac{\overline{\|g_k\|^2} - \|\bar g\|^2}{1/b - 1/B}, \qquad
      \text{scale} = \hat{S} / \hat{G}^2$$

    with K micro-batches of b examples and B = K b. $g_k$ is the gradient of a micro-batch, and the
    bar is the mean over micro-batches. Use it to judge a batch size: see `critical_batch`. One
    measurement is very noisy. Average `grad_sq` and `trace` over tens of measurements *separately*,
    and divide last: a mean of ratios is biased upwards. The estimate of the squared gradient may be
    negative, and `scale` is NaN then. The estimate is not clipped, because clipping would bias the
    average.

    Per-example gradients are micro-batches of 1, and give the best estimate from the same examples.
    Gradients of micro-batches are what gradient accumulation computes anyway.

    The estimate has limits. Gradients must be means over their examples, not sums, and not yet
    clipped. With batch norm the examples of a micro-batch are not independent. Examples drawn
    without replacement from a small data set vary less. `scale` ignores curvature, so it estimates
    the critical batch size only to within a factor of a few. Published work has further doubts: see
    the references of `critical_batch`.

    Args:
      micro_grads: Gradients like the parameters, each leaf with a leading axis of K micro-batches,
        at least 2.
      micro_batch: Examples in each micro-batch, b, at least 1.
      group: Function from the path of a parameter, such as `"block_0/mlp/kernel"`, to the name of
        its group. The result is then one `NoiseScale` for each group.

    Returns:
      A `NoiseScale` of `grad_sq`, `trace` and `scale`, or `{group: NoiseScale}`.

    Raises:
      ValueError: if the leading axes differ or are shorter than 2, or `micro_batch` is below 1.
      TypeError: if an argument is not as described.

    Example:
      >>> grads = {"w": jnp.array([1.0, 3.0])}  # of 2 micro-batches of 4, for one parameter
      >>> noise = lrax.probes.noise_scale(grads, micro_batch=4)
      >>> print(noise.grad_sq, noise.trace, noise.scale)
      3.0 8.0 2.6666667

      As a monitor, which records both parts:

      >>> task = lrax.tasks.diabetes()
      >>> rows = lambda batch: jax.tree.map(lambda x: x.reshape(8, -1, *x.shape[1:]), batch)
      >>> grads = jax.vmap(jax.grad(task.loss), in_axes=(None, 0))
      >>> noise = lambda step: lrax.probes.noise_scale(
      ...     grads(step.params, rows(step.batch)), micro_batch=4
      ... )._asdict()
      >>> train = lrax.train(task, optax.sgd, steps=4, monitors={"noise": noise})
      >>> sorted(train(0.01, jax.random.key(0)).monitors)
      ['noise/grad_sq', 'noise/trace']

    Reference:
      McCandlish et al., "An empirical model of large-batch training", arXiv 1812.06162, appendix A.
    """
    small = _require.real(micro_batch=micro_batch)
    if jnp.ndim(small["micro_batch"]):
        raise ValueError(f"`micro_batch` must be a scalar, got {micro_batch!r}")
    _require.at_least(small, 1, "micro_batch")
    grads = real_tree("micro_grads", micro_grads)
    shapes = [leaf.shape[:1] for leaf in jax.tree.leaves(grads)]
    if len(set(shapes)) > 1 or not shapes[0] or shapes[0][0] < 2:
        raise ValueError(
            "`micro_grads` must have a leading axis of at least 2 micro-batches in every leaf, got"
            f" {shapes[0] if len(set(shapes)) == 1 else shapes}"
        )
    b = jnp.asarray(small["micro_batch"], _require.float_dtype())
    found = {name: _estimate(leaves, b) for name, leaves in grouped(grads, group).items()}
    return ungrouped(found, group)


def critical_batch(noise: NoiseScale) -> jax.Array:
    r"""The batch size above which more examples in a batch save few updates.

    $$\overline{\text{trace}} \, / \, \overline{\text{grad\_sq}}$$

    with the means over all measurements. At this batch size, a run needs twice the updates of a run
    with very large batches, and twice the examples of a run with very small ones. With SGD, the
    rate for a batch of B is about 1 / (1 + critical / B) times the rate for very large batches. Use
    it to choose a batch size to within a factor of 2 or 3, from 20 or more measurements around the
    time of interest.

    It misleads in these cases. The critical batch grows during training, often by orders of
    magnitude, so a value holds only for the time of its measurements. The formula assumes that the
    Hessian is a multiple of the identity. It is derived for SGD: the critical batch of Adam is
    often larger, and depends on the size of the data rather than of the model. Before a costly
    decision, measure a few batch sizes in a sweep.

    Args:
      noise: One measurement of `noise_scale`, or several that are stacked by `jax.vmap` or
        `jax.lax.scan`. The parts may have any shape.

    Returns:
      A scalar, in examples. NaN if the mean of `grad_sq` is not positive: then there are too few
      measurements, or the gradient is too small to be distinguished from noise.

    Raises:
      TypeError: if `noise` is not a `NoiseScale`.

    Example:
      >>> grads = 1.0 + jax.random.normal(jax.random.key(0), (500, 4, 5))
      >>> noise = jax.vmap(lambda grads: lrax.probes.noise_scale(grads, 8))(grads)
      >>> print(f"{lrax.probes.critical_batch(noise):.0f}")  # trace 8 * 5, squared gradient 5
      8

    Reference:
      McCandlish et al., arXiv 1812.06162; on its limits, arXiv 2410.21676 and 2505.23971.
    """
    if not isinstance(noise, NoiseScale):
        raise TypeError(f"`noise` must be a NoiseScale, as `noise_scale` returns it, got {noise!r}")
    return NoiseScale(*(jnp.mean(jnp.asarray(part)) for part in noise)).scale


def _estimate(leaves: list[Any], b: jax.Array) -> NoiseScale:
    count = leaves[0].shape[0]
    wide = [leaf.astype(jnp.promote_types(leaf.dtype, b.dtype)) for leaf in leaves]
    means = [jnp.mean(leaf, axis=0, keepdims=True) for leaf in wide]
    large_sq = sum(jnp.sum(mean**2) for mean in means)
    # The variance around the mean. The difference of squares in the formula gives the same number,
    # but it would lose its digits where the gradients are nearly equal.
    pairs = zip(wide, means, strict=True)
    spread = sum(jnp.sum((leaf - mean) ** 2) for leaf, mean in pairs) / (count - 1)
    # `large_sq` includes the noise of the mean, which is `spread / count` = trace / B.
    return NoiseScale(grad_sq=large_sq - spread / count, trace=b * spread)
