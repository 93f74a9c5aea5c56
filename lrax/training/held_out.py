"""Held-out data, evaluated in batches."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
from jax import lax, numpy as jnp

from .. import _require
from .batches import Batch, Minibatches

Metrics = dict[str, jax.Array]  # scalars


def in_batches(
    held_out: Minibatches, metrics_of: Callable[[Batch, jax.Array], Mapping[str, Any]]
) -> Metrics:
    r"""Mean metrics over all examples of held-out data, computed one batch after the other.

    $$m = \frac{1}{n} \sum_b n_b \, m_b$$

    `n_b` is the number of examples in batch `b`, and `n` their sum. The last batch is smaller if
    `n` is not a multiple of the batch size. A metric that is a mean over the examples of a batch,
    such as a loss or an accuracy, becomes the mean over all examples. Any other metric, such as an
    AUC or a perplexity, becomes the mean of its values on the batches, weighted by `n_b`.

    The examples come in the order of the arrays, and the transform for training is not applied.
    This is a pure function of the arrays, so it may be compiled and mapped over lanes.

    Args:
      held_out: The data and the batch size.
      metrics_of: Function of a batch and its 0-based index that returns `{name: scalar}`.

    Returns:
      The metrics, in the dtype of learning rates: float32, or float64 under x64.

    Raises:
      TypeError: if `metrics_of` does not return a dict of scalars.
    """
    size = held_out.size
    whole, rest = divmod(held_out.examples, size)

    def metrics(index: jax.Array, length: int) -> Metrics:
        # Slice each batch: reshaping the arrays to [batches, size, ...] would copy them.
        batch = jax.tree.map(
            lambda array: lax.dynamic_slice_in_dim(jnp.asarray(array), index * size, length),
            held_out.arrays,
        )
        return as_metrics(metrics_of(batch, index))

    if whole == 1:
        total = _scaled(metrics(jnp.int32(0), size), size)  # one batch needs no loop
    else:
        # Add up in a scan, one batch after the other. This fixes the order of the sum, so a lane
        # gets the same bits alone and together with others. The scan starts from zeros, with the
        # names and dtypes that `eval_shape` finds.
        shapes = jax.eval_shape(lambda: metrics(jnp.int32(0), size))
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        add = lambda total, index: (_plus(total, _scaled(metrics(index, size), size)), None)
        total, _ = lax.scan(add, zeros, jnp.arange(whole, dtype=jnp.int32))
    if rest:
        total = _plus(total, _scaled(metrics(jnp.int32(whole), rest), rest))
    return jax.tree.map(lambda value: value / held_out.examples, total)


def as_metrics(metrics: Any) -> Metrics:
    """Requires a dict of scalars from an `evaluate`; casts them to the dtype of learning rates."""
    is_dict = isinstance(metrics, Mapping)
    if not is_dict or any(jnp.shape(value) != () for value in metrics.values()):
        raise TypeError(f"`evaluate` must return a dict of scalars, got {metrics!r}")
    return {name: jnp.asarray(value, _require.float_dtype()) for name, value in metrics.items()}


def _plus(one: Metrics, other: Metrics) -> Metrics:
    return jax.tree.map(jnp.add, one, other)


def _scaled(metrics: Metrics, factor: int) -> Metrics:
    return jax.tree.map(lambda value: value * factor, metrics)
