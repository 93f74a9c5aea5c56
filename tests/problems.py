"""Tiny tasks that compile in a moment, for the tests of training and sweeping."""

import jax
import numpy as np
from jax import numpy as jnp

import lrax

X = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
Y = X @ np.array([1.0, -2.0, 0.5], np.float32) + 0.1


def init(key):
    return {"w": 0.1 * jax.random.normal(key, (3,)), "b": jnp.zeros(())}


def squared_error(params, batch):
    return jnp.mean((batch["x"] @ params["w"] + params["b"] - batch["y"]) ** 2)


def evaluate(params):
    return {"val_loss": squared_error(params, {"x": X, "y": Y})}


def regression(**fields):
    """Linear regression on 40 examples, in batches of 8."""
    defaults = dict(
        init=init,
        loss=squared_error,
        batch=lrax.minibatches({"x": X, "y": Y}, size=8),
        evaluate=evaluate,
    )
    return lrax.Task(**{**defaults, **fields})
