"""What a user would write by hand with JAX and Optax, each as well as it can be.

Every strategy is a function of a `Problem` whose result trains all lanes when called, and gives
their last losses on the host. It does the whole job of `lrax.sweep`, from a key on: it draws the
initial parameters and the batches in a jitted function of its own, for just as many steps as there
are. Lanes share both, as those of a sweep do.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from jax import lax, numpy as jnp

from lrax.training.batches import source as as_source
from lrax.training.run import split


class Problem(NamedTuple):
    """What is to be trained, with which rates, from which key on."""

    task: Any
    rates: np.ndarray
    key: jax.Array
    steps: int


def problem(task, rates, steps):
    """The problem that `lrax.sweep` solves for the seed 0. Nobody pays for an evaluation: the others have none."""
    return Problem(
        dataclasses.replace(task, evaluate=None),
        np.asarray(rates, np.float32),
        jax.random.key(0),
        steps,
    )


def drawn(problem):
    """A function that gives the initial parameters, and the batches of all steps."""
    task, steps = problem.task, problem.steps
    # The data is an argument, for as a constant of the program it would be compiled.
    source = jax.device_put(task.batch)

    @jax.jit
    def draw(source, key):
        batches, keys = as_source(source), split(key)
        rows = batches.ahead(0, steps, keys.data)
        batch = lambda i: batches.batch(i, jax.tree.map(lambda row: row[i], rows), keys.data)
        return task.init(keys.init), jax.vmap(batch)(jnp.arange(steps))

    return lambda: draw(source, problem.key)


def update(task, rate, params, state, batch):
    loss, grads = jax.value_and_grad(task.loss)(params, batch)
    updates, state = optax.adam(rate).update(grads, state, params)
    return optax.apply_updates(params, updates), state, loss


def update_at(task, rate, params, state, batches, i):
    """The step of a Python loop. It picks its batch, for a program that cut them all apart compiles for seconds."""
    return update(task, rate, params, state, jax.tree.map(lambda leaf: leaf[i], batches))


def on_device(numbers):
    """Each by itself, once, and not at every step."""
    return [jax.device_put(number) for number in numbers]


def begin(rate, params):
    """Copies, for the steps take their buffers."""
    return jax.tree.map(jnp.copy, params), optax.adam(rate).init(params)


def last_loss(task, rate, params, batches):
    def body(carry, batch):
        params, state, loss = update(task, rate, *carry, batch)
        return (params, state), loss

    return lax.scan(body, (params, optax.adam(rate).init(params)), batches)[1][-1]


def loop_of_steps(problem):
    """A Python loop over lanes and steps of one jitted step, its buffers donated."""
    draw, start = drawn(problem), jax.jit(begin)
    step = jax.jit(lambda *args: update_at(problem.task, *args), donate_argnums=(1, 2))

    def run():
        first, batches = draw()
        indices, losses = on_device(np.arange(problem.steps, dtype=np.int32)), []
        for rate in on_device(problem.rates):
            params, state = start(rate, first)
            for i in indices:
                params, state, loss = step(rate, params, state, batches, i)
            losses.append(loss)
        return np.array(jax.device_get(losses))

    return run


def loop_of_scans(problem):
    """A Python loop over lanes of one jitted scan."""
    draw, trained = drawn(problem), jax.jit(lambda *args: last_loss(problem.task, *args))

    def run():
        params, batches = draw()
        return np.array(jax.device_get([trained(rate, params, batches) for rate in problem.rates]))

    return run


def vmap_of_scan(problem):
    """All lanes in one `jit(vmap(scan))`."""
    draw = drawn(problem)
    trained = jax.jit(
        jax.vmap(lambda *args: last_loss(problem.task, *args), in_axes=(0, None, None))
    )
    return lambda: np.asarray(trained(problem.rates, *draw()))


def map_of_scan(problem):
    """All lanes in one `jit(lax.map(scan))`, one after the other."""
    draw = drawn(problem)

    @jax.jit
    def trained(rates, params, batches):
        return lax.map(lambda rate: last_loss(problem.task, rate, params, batches), rates)

    return lambda: np.asarray(trained(problem.rates, *draw()))


def loop_of_vmapped_steps(problem):
    """A Python loop over steps of all lanes at once, their buffers donated."""
    draw, start = drawn(problem), jax.jit(jax.vmap(begin, in_axes=(0, None)))
    lanes = jax.vmap(lambda *args: update_at(problem.task, *args), in_axes=(0, 0, 0, None, None))
    step = jax.jit(lanes, donate_argnums=(1, 2))

    def run():
        params, batches = draw()
        rates = jax.device_put(problem.rates)
        params, state = start(rates, params)
        for i in on_device(np.arange(problem.steps, dtype=np.int32)):
            params, state, loss = step(rates, params, state, batches, i)
        return np.asarray(loss)

    return run


STRATEGIES = {
    "loop of jitted steps": loop_of_steps,
    "loop of scans": loop_of_scans,
    "jit(vmap(scan))": vmap_of_scan,
    "jit(lax.map(scan))": map_of_scan,
    "loop of vmapped steps": loop_of_vmapped_steps,
}
