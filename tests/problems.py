"""Tiny tasks that compile in a moment, for the tests of training and sweeping."""

import jax
import numpy as np
import optax
from jax import numpy as jnp

import lrax
from lrax.sweeps.choices import Points
from lrax.sweeps.engine import devices as hardware, engine as engines, plan as planning
from lrax.sweeps.engine.feed import Feed
from lrax.sweeps.engine.programs import Problem
from lrax.sweeps.seeds import as_keys, folded

X = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
Y = X @ np.array([1.0, -2.0, 0.5], np.float32) + 0.1


def init(key):
    return {"w": 0.1 * jax.random.normal(key, (3,)), "b": jnp.zeros(())}


def squared_error(params, batch):
    return jnp.mean((batch["x"] @ params["w"] + params["b"] - batch["y"]) ** 2)


def evaluate(params):
    return {"val_loss": squared_error(params, {"x": X, "y": Y})}


def drawn(key):
    """A batch of 8 examples that a key draws."""
    rows = jax.random.randint(key, (8,), 0, len(X))
    return {"x": jnp.asarray(X)[rows], "y": jnp.asarray(Y)[rows]}


def regression(**fields):
    """Linear regression on 40 examples, in batches of 8."""
    defaults = dict(
        init=init,
        loss=squared_error,
        batch=lrax.minibatches({"x": X, "y": Y}, size=8),
        evaluate=evaluate,
    )
    return lrax.Task(**{**defaults, **fields})


def engine(
    task,
    rates,
    *,
    optimizer=optax.adam,
    seeds=1,
    steps=300,
    execution="vmap",
    convolutions="auto",
    rng="common",
    devices=None,
):
    """The engine of a sweep, as `lrax.sweep` prepares it."""
    points = Points({"learning_rate": np.asarray(rates, np.float64)})
    problem = Problem(task, task, optimizer, {}, {}, 1, 1)
    bits = as_keys(seeds)[1]
    if rng == "independent":
        bits = folded(bits, np.arange(len(points)))
    chosen = hardware.chosen(devices)
    feed = Feed(problem, points, bits, given=None, steps=steps, rng=rng, devices=chosen)
    plan = planning.plan(execution, convolutions, engines.facts(problem, feed))
    return engines.prepared(problem, feed, plan)
