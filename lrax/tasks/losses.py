"""What the small tasks minimise and report; each function's leading arguments are held by a
`jax.tree_util.Partial`.

Data so held are leaves of the task's functions, and the networks are static: the functions of two
tasks built alike have the same structure.
"""

import math
from typing import Any

import jax
import optax
from jax import numpy as jnp

from .networks import Network


def init(network: Network, key: jax.Array) -> Any:
    """Parameters at the start."""
    return network.init(key)


def cross_entropy(network: Network, params: Any, batch: Any) -> jax.Array:
    """Mean cross-entropy, in nats, of the integer labels `batch["targets"]`."""
    return _cross_entropy(network.apply(params, batch["inputs"]), batch["targets"])


def squared_error(network: Network, params: Any, batch: Any) -> jax.Array:
    """Mean squared error of the one output against `batch["targets"]`."""
    return jnp.mean(jnp.square(_residuals(network, params, batch)))


def evaluate_classification(network: Network, held_out: Any, params: Any) -> dict[str, jax.Array]:
    """Mean cross-entropy, and the fraction of labels that are the likeliest of the network."""
    logits, labels = network.apply(params, held_out["inputs"]), jnp.asarray(held_out["targets"])
    correct = jnp.argmax(logits, axis=-1) == labels
    return {"val_loss": _cross_entropy(logits, labels), "val_accuracy": jnp.mean(correct)}


def evaluate_language(network: Network, held_out: Any, params: Any) -> dict[str, jax.Array]:
    """Mean cross-entropy per character, in nats and in bits."""
    loss = cross_entropy(network, params, held_out)
    return {"val_loss": loss, "val_bits_per_char": loss / math.log(2)}


def evaluate_regression(network: Network, held_out: Any, params: Any) -> dict[str, jax.Array]:
    """Mean squared error, and $R^2$, the part of the held-out targets' variance that is explained."""
    loss = jnp.mean(jnp.square(_residuals(network, params, held_out)))
    return {"val_loss": loss, "val_r2": 1 - loss / jnp.var(jnp.asarray(held_out["targets"]))}


def _cross_entropy(logits: jax.Array, labels: Any) -> jax.Array:
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, jnp.asarray(labels)))


def _residuals(network: Network, params: Any, batch: Any) -> jax.Array:
    return network.apply(params, batch["inputs"])[:, 0] - jnp.asarray(batch["targets"])
