"""What a user would write by hand with JAX and Optax, each as well as it can be: one trace, batches as an argument."""

from typing import NamedTuple

import jax
import numpy as np
import optax
from jax import numpy as jnp

from lrax.sweeps import train


class Problem(NamedTuple):
    """One task, with everything that the strategies share."""

    task: object
    rates: np.ndarray
    steps: int
    params: object  # the initial parameters of every lane
    batches: object  # [steps, ...], the batches of every lane


def problem(task, rates, steps):
    """The parameters and batches that `lrax.sweep` gives to the seed 0."""
    keys = train.split(jax.random.key(0))
    rows = train.rows(task, keys, 0, steps)
    batches = jax.jit(jax.vmap(lambda i: train.draw(task, keys, i, None if rows is None else rows[i])))(
        jnp.arange(steps)
    )
    return Problem(task, np.asarray(rates, np.float32), steps, task.init(keys.init), batches)


def update(task, rate, params, state, batch):
    loss, grads = jax.value_and_grad(task.loss)(params, batch)
    updates, state = optax.adam(rate).update(grads, state, params)
    return optax.apply_updates(params, updates), state, loss


def scan(task, rate, params, batches):
    def body(carry, batch):
        params, state, loss = update(task, rate, *carry, batch)
        return (params, state), loss

    return jax.lax.scan(body, (params, optax.adam(rate).init(params)), batches)[1]


def loop_of_steps(problem):
    """(a) A Python loop over lanes and steps of one jitted step, its buffers donated."""
    step = jax.jit(lambda *args: update(problem.task, *args), donate_argnums=(1, 2))
    init = jax.jit(lambda rate, params: optax.adam(rate).init(params))
    batches = [jax.tree.map(lambda leaf, i=i: leaf[i], problem.batches) for i in range(problem.steps)]
    rates = list(jnp.asarray(problem.rates))  # on the device once, and not at every step

    def run():
        losses = []
        for rate in rates:
            params, state = jax.tree.map(jnp.copy, problem.params), init(rate, problem.params)
            for batch in batches:
                params, state, loss = step(rate, params, state, batch)
            losses.append(loss)
        return np.array(jax.device_get(losses))

    return run


def loop_of_scans(problem):
    """(b) A Python loop over lanes of one jitted scan."""
    trained = jax.jit(lambda rate, params, batches: scan(problem.task, rate, params, batches))

    def run():
        losses = [trained(rate, problem.params, problem.batches) for rate in problem.rates]
        return np.array(jax.device_get(losses))[:, -1]

    return run


def vmap_of_scan(problem):
    """(c) All lanes in one `jit(vmap(scan))`."""
    lanes = jax.vmap(lambda *args: scan(problem.task, *args), in_axes=(0, None, None))
    trained = jax.jit(lanes)
    return lambda: np.asarray(trained(problem.rates, problem.params, problem.batches))[:, -1]
