"""The programs of a sweep: begin, train and evaluate all lanes side by side.

A lane is one run: one point of the grid with one seed. Lanes are laid out `[groups, members]`: the members of a group
share a key, and with it the batches and the loss's random numbers. The batch is gathered once for all of them, and the
products of their first layers merge into one large one.
"""

import functools
from typing import Any, NamedTuple

import jax
from jax import lax, numpy as jnp

from ..tasks.task import Task
from .program import Program
from .train import Lane, Optimizer, begin, draw, loss_key, rows, split, step

BLOCK = 256  # steps whose shuffled indices are drawn together, and of one call at most: it bounds both their buffers


class Programs(NamedTuple):
    """The compiled parts of a sweep. `data` holds the arrays of the task's pytrees."""

    begin: Program  # (data, hyperparams, keys) -> (lanes, keys); the keys of a group become those of its parts
    draw: Program  # (data, keys, block) -> rows, the indices of the batches of a block's steps
    train: Program  # (data, hyperparams, keys, rows, lanes, first, count) -> (lanes, records); the lanes are donated
    evaluate: Program  # (data, lanes) -> (metrics, finite)


def programs(task: Task, optimizer: Optimizer) -> tuple[Programs, list[Any]]:
    """The programs of a task and an optimizer, the same for the same functions, and the arrays of the task."""
    leaves, structure = jax.tree.flatten((task.init, task.loss, task.batch, task.evaluate))
    is_data = tuple(hasattr(leaf, "dtype") for leaf in leaves)
    data = [jnp.asarray(leaf) for leaf in leaves if hasattr(leaf, "dtype")]
    functions = tuple(leaf for leaf in leaves if not hasattr(leaf, "dtype"))
    arguments = (structure, is_data, functions, task.stateful, optimizer)
    try:
        return _programs(*arguments), data
    except TypeError as error:
        if "unhashable" not in str(error):
            raise
        return _programs.__wrapped__(*arguments), data  # a callable without a hash: compiled for this sweep alone


@functools.lru_cache(maxsize=16)
def _programs(
    structure: Any, is_data: tuple[bool, ...], functions: tuple, stateful: bool, optimizer: Optimizer
) -> Programs:
    def with_data(data):
        arrays, others = iter(data), iter(functions)
        fields = jax.tree.unflatten(structure, [next(arrays if is_array else others) for is_array in is_data])
        return Task(*fields, stateful=stateful)

    def begin_all(data, hyperparams, keys):
        task = with_data(data)

        def group(hyperparams, key):
            keys = split(key)
            return jax.vmap(lambda hyperparams: begin(task, optimizer, hyperparams, keys))(hyperparams), keys

        # A loop, not a vmap: it runs once, and XLA takes twice as long to compile random draws from a batch of keys.
        return lax.map(lambda arguments: group(*arguments), (hyperparams, keys))

    def draw_all(data, keys, block):
        task = with_data(data)
        return jax.vmap(lambda keys: rows(task, keys, block * BLOCK, BLOCK), out_axes=1)(keys)

    def train_all(data, hyperparams, keys, drawn, lanes, first, count):
        task = with_data(data)

        def group(index, row, hyperparams, keys, lanes):
            batch = draw(task, keys, index, row)
            member = lambda hyperparams, lane: step(task, optimizer, hyperparams, lane, batch, loss_key(keys, index))
            lanes, loss, aux = jax.vmap(member)(hyperparams, lanes)
            return lanes, {"loss": loss, "aux": aux}

        def all_groups(i, lanes):
            row = jax.tree.map(lambda rows: rows[(first + i) % BLOCK], drawn)
            return jax.vmap(group, in_axes=(None, 0, 0, 0, 0))(first + i, row, hyperparams, keys, lanes)

        def body(i, carry):
            lanes, records = carry
            lanes, values = all_groups(i, lanes)
            return lanes, jax.tree.map(lambda record, value: record.at[i].set(value), records, values)

        _, values = jax.eval_shape(all_groups, 0, lanes)
        records = jax.tree.map(lambda value: jnp.zeros((BLOCK, *value.shape), value.dtype), values)
        # `count` is traced: segments of every length are one program.
        return lax.fori_loop(0, count, body, (lanes, records))

    def evaluate_all(data, lanes):
        task = with_data(data)
        return jax.vmap(jax.vmap(lambda lane: _evaluate(task, lane)))(lanes)

    return Programs(
        Program(begin_all, hasty=True),
        Program(draw_all, hasty=True),
        Program(train_all, donate=[4]),
        Program(evaluate_all),
    )


def _evaluate(task: Task, lane: Lane) -> tuple[dict[str, jax.Array], jax.Array]:
    """The metrics of one run, and whether its parameters are finite."""
    arrays = [leaf for leaf in jax.tree.leaves(lane.params) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    finite = jnp.all(jnp.array([jnp.all(jnp.isfinite(array)) for array in arrays]))
    if task.evaluate is None:
        return {}, finite
    metrics = task.evaluate(lane.params, lane.state) if task.stateful else task.evaluate(lane.params)
    if not isinstance(metrics, dict) or any(jnp.shape(value) for value in metrics.values()):
        raise TypeError(f"`evaluate` must return a dict of scalars, got {metrics!r}")
    return {name: jnp.asarray(value, jnp.float32) for name, value in metrics.items()}, finite
