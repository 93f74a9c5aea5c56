"""Losses and metrics of the small tasks.

A `jax.tree_util.Partial` holds the leading arguments of each function. Its data are leaves of the
task's functions, and its network is static. So two tasks with equal arguments share a program.
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


def init(network: Network, key: jax.Array) -> Params:
    """Parameters at the start."""
    return network.init(key)


def cross_entropy(network: Network, params: Params, batch: Batch) -> jax.Array:
    """Mean cross-entropy, in nats, of the integer labels `batch["targets"]`."""
    return _cross_entropy(network.apply(params, batch["inputs"]), batch["targets"])


def squared_error(network: Network, params: Params, batch: Batch) -> jax.Array:
    """Mean squared error of the one output against `batch["targets"]`."""
    return jnp.mean(jnp.square(_residuals(network, params, batch)))


def evaluate_classification(network: Network, held_out: Arrays, params: Params) -> Metrics:
    """Mean cross-entropy and accuracy: the fraction of labels with the largest logit."""
    logits = network.apply(params, held_out["inputs"])
    labels = jnp.asarray(held_out["targets"])
    correct = jnp.argmax(logits, axis=-1) == labels
    return {"val_loss": _cross_entropy(logits, labels), "val_accuracy": jnp.mean(correct)}


def evaluate_language(network: Network, held_out: Arrays, params: Params) -> Metrics:
    """Mean cross-entropy per character, in nats and in bits."""
    loss = cross_entropy(network, params, held_out)
    return {"val_loss": loss, "val_bits_per_char": loss / math.log(2)}


def evaluate_regression(network: Network, held_out: Arrays, params: Params) -> Metrics:
    """Mean squared error and $R^2$, the explained part of the held-out targets' variance."""
    loss = jnp.mean(jnp.square(_residuals(network, params, held_out)))
    return {"val_loss": loss, "val_r2": 1 - loss / jnp.var(jnp.asarray(held_out["targets"]))}


def _cross_entropy(logits: jax.Array, labels: Any) -> jax.Array:
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, jnp.asarray(labels)))


def _residuals(network: Network, params: Params, batch: Batch) -> jax.Array:
    return network.apply(params, batch["inputs"])[:, 0] - jnp.asarray(batch["targets"])
