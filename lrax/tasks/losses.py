"""Losses and metrics of the small tasks.

The tasks wrap each function in a `jax.tree_util.Partial`, which holds its first arguments. As a
pytree, a `Partial` has the data as leaves, and the network as a static part. So the functions of
two tasks with equal networks are equal up to their data, and share a compiled program.
"""

import math
from typing import Any

import jax
import optax
from jax import numpy as jnp

from ..training.batches import Batch
from .networks import Network, Params

Metrics = dict[str, jax.Array]  # scalars
Arrays = dict[str, Any]  # {"inputs", "targets"} of the held-out examples
Labels = Any  # an array of ints, NumPy's or JAX's


def init(network: Network, key: jax.Array) -> Params:
    """The initial parameters of a network."""
    return network.init(key)


def cross_entropy(network: Network, params: Params, batch: Batch) -> jax.Array:
    """Mean cross-entropy in nats, where `batch["targets"]` are integer labels."""
    return _cross_entropy(network.apply(params, batch["inputs"]), batch["targets"])


def squared_error(network: Network, params: Params, batch: Batch) -> jax.Array:
    """Mean squared error of the one output against `batch["targets"]`."""
    return jnp.mean(jnp.square(_residuals(network, params, batch)))


def evaluate_classification(network: Network, held_out: Arrays, params: Params) -> Metrics:
    """Mean cross-entropy, and accuracy: the fraction of examples whose label has the top logit."""
    logits = network.apply(params, held_out["inputs"])
    labels = jnp.asarray(held_out["targets"])
    correct = jnp.argmax(logits, axis=-1) == labels
    return {"val_loss": _cross_entropy(logits, labels), "val_accuracy": jnp.mean(correct)}


def evaluate_language(network: Network, held_out: Arrays, params: Params) -> Metrics:
    """Mean cross-entropy per character, in nats and in bits."""
    loss = cross_entropy(network, params, held_out)
    return {"val_loss": loss, "val_bits_per_char": loss / math.log(2)}


def evaluate_regression(network: Network, held_out: Arrays, params: Params) -> Metrics:
    """Mean squared error, and $R^2$: the fraction of the targets' variance that is explained."""
    loss = jnp.mean(jnp.square(_residuals(network, params, held_out)))
    return {"val_loss": loss, "val_r2": 1 - loss / jnp.var(jnp.asarray(held_out["targets"]))}


def _cross_entropy(logits: jax.Array, labels: Labels) -> jax.Array:
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, jnp.asarray(labels)))


def _residuals(network: Network, params: Params, batch: Batch) -> jax.Array:
    # `[:, 0]`, or the difference of [batch, 1] and [batch] would be a matrix.
    return network.apply(params, batch["inputs"])[:, 0] - jnp.asarray(batch["targets"])
