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
    r"""Mean metrics over all examples of held-out data, one batch after the other.

    $$m = \frac{1}{n} \sum_b n_b \, m_b$$

    `n_b` is the number of examples of batch `b`. The last batch is short where `n` is no multiple
    of the batch size. So a metric that is a mean over the examples of a batch, such as a loss or an
    accuracy, is the mean over all examples. A metric that is not such a mean, such as an AUC or a
    perplexity, becomes the mean of its values by batch.

    The examples come in their own order, and the transform for training is not applied. It is a
    pure function of the arrays, so it may be compiled and mapped over lanes.

    Args:
      held_out: The data and the batch size.
      metrics_of: Function of a batch and its 0-based index that returns `{name: scalar}`.

    Returns:
      The metrics, in the dtype of rates.

    Raises:
      TypeError: if `metrics_of` does not return a dict of scalars.
    """
    size = held_out.size
    whole, rest = divmod(held_out.examples, size)

    def metrics(index: jax.Array, length: int) -> Metrics:
        # A slice for each batch: to reshape the arrays to [batches, size, ...] would copy them.
        batch = jax.tree.map(
            lambda array: lax.dynamic_slice_in_dim(jnp.asarray(array), index * size, length),
            held_out.arrays,
        )
        return as_metrics(metrics_of(batch, index))

    if whole == 1:
        total = _scaled(metrics(jnp.int32(0), size), size)
    else:
        # A sum that goes on from batch to batch has the same bits for lanes together and alone.
        shapes = jax.eval_shape(lambda: metrics(jnp.int32(0), size))
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        add = lambda total, index: (_plus(total, _scaled(metrics(index, size), size)), None)
        total, _ = lax.scan(add, zeros, jnp.arange(whole, dtype=jnp.int32))
    if rest:
        total = _plus(total, _scaled(metrics(jnp.int32(whole), rest), rest))
    return jax.tree.map(lambda value: value / held_out.examples, total)


def as_metrics(metrics: Any) -> Metrics:
    """Requires what an `evaluate` returns: a dict of real scalars."""
    is_dict = isinstance(metrics, Mapping)
    if not is_dict or any(jnp.shape(value) != () for value in metrics.values()):
        raise TypeError(f"`evaluate` must return a dict of scalars, got {metrics!r}")
    return {name: jnp.asarray(value, _require.float_dtype()) for name, value in metrics.items()}


def _plus(one: Metrics, other: Metrics) -> Metrics:
    return jax.tree.map(jnp.add, one, other)


def _scaled(metrics: Metrics, factor: int) -> Metrics:
    return jax.tree.map(lambda value: value * factor, metrics)
