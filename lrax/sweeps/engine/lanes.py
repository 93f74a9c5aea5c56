"""The programs of a sweep: begin, train and evaluate a chunk of lanes side by side.

A lane is one run: one point of the grid with one seed. The lanes of a chunk are laid out `[groups,
members]`: the members of a group share a key, and with it the initial parameters, the batches and
the loss's random numbers. The batch is gathered once for all of them, and the products of their
first layers merge into one large one.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax import lax, numpy as jnp
from jax.core import eval_jaxpr
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ...training.run import Lane, Optimizer, draw, initial, loss_key, rows, split, start, step
from ...training.task import Task
from .program import Program
from .xla.convolutions import as_products

BLOCK = 256  # steps whose shuffled indices are drawn together, and of one call at most: it bounds both their buffers
LANE = "lane"  # the axis of a mesh that lanes are spread over


class Programs(NamedTuple):
    """The compiled parts of a sweep. `data` holds the arrays of the task's pytrees."""

    init: Program  # (data, keys' bits) -> (params, state, keys) of the groups
    draw: Program  # (data, keys, block) -> rows, the indices of the batches of a block's steps
    start: Program  # (hyperparams, params, state) -> lanes
    train: Program  # (data, hyperparams, keys, rows, lanes, first, count) -> (lanes, records, finite); donates the lanes
    evaluate: Program  # (data, lanes) -> metrics
    known: dict[Any, Any]  # what earlier runs have learned of them


class Build(NamedTuple):
    """How the programs of a chunk are written."""

    products: bool = False  # whether convolutions become slices and matrix products
    scanned: bool = True  # whether the steps are a loop of the program; or one call each
    block: int = BLOCK  # steps whose batches are drawn together
    streamed: bool = False  # whether the batches come from the host, the same for all groups
    mesh: Mesh | None = None  # the devices that lanes are spread over, or the default one
    spread: int = (
        1  # the axis of a chunk that is spread: 0 for its groups, 1 for the members of each
    )


def programs(task: Task, optimizer: Optimizer, build: Build) -> tuple[Programs, list[Any]]:
    """The programs of a task and an optimizer, the same for the same functions, and the arrays of the task."""
    leaves, structure = jax.tree.flatten((task.init, task.loss, task.batch, task.evaluate))
    is_data = tuple(hasattr(leaf, "dtype") for leaf in leaves)
    data = [leaf for leaf in leaves if hasattr(leaf, "dtype")]
    functions = tuple(leaf for leaf in leaves if not hasattr(leaf, "dtype"))
    arguments = (structure, is_data, functions, task.stateful, optimizer, build)
    try:
        return _programs(*arguments), data
    except TypeError as error:
        if "unhashable" not in str(error):
            raise
        return _programs.__wrapped__(
            *arguments
        ), data  # a callable without a hash: compiled for this sweep alone


@functools.lru_cache(maxsize=32)
def _programs(
    structure: Any,
    is_data: tuple[bool, ...],
    functions: tuple,
    stateful: bool,
    optimizer: Optimizer,
    build: Build,
) -> Programs:
    def with_data(data):
        arrays, others = iter(data), iter(functions)
        fields = jax.tree.unflatten(
            structure, [next(arrays if is_array else others) for is_array in is_data]
        )
        return Task(*fields, stateful=stateful)

    def init_all(data, bits):
        task = with_data(data)

        def group(bits):
            keys = split(jax.random.wrap_key_data(bits, impl="threefry2x32"))
            return *initial(task, keys.init), keys

        # A loop, not a vmap: it runs once, and XLA takes twice as long to compile random draws from
        # a batch of keys.
        return lax.map(group, bits)

    def draw_all(data, keys, block):
        task = with_data(data)
        return jax.vmap(
            lambda keys: rows(task, keys, block * build.block, build.block), out_axes=1
        )(keys)

    def start_all(hyperparams, params, state):
        member = lambda hyperparams, params, state: start(optimizer, hyperparams, params, state)
        return _each(_each(member, (0, None, None)), (0, 0, 0))(hyperparams, params, state)

    def train_all(data, hyperparams, keys, drawn, lanes, first, count):
        task = with_data(data)

        def group(index, row, hyperparams, keys, lanes):
            batch = draw(task, keys, index, row)
            key = loss_key(keys, index)
            member = lambda hyperparams, lane: step(
                task,
                optimizer,
                hyperparams,
                lane,
                batch,
                key,
                rewritten=as_products if build.products else lambda function: function,
            )
            lanes, loss, aux = _each(member, (0, 0))(hyperparams, lanes)
            return lanes, {"loss": loss, "aux": aux}

        def all_groups(index, lanes):
            row = jax.tree.map(lambda rows: rows[index % build.block], drawn)
            return _each(group, (None, None if build.streamed else 0, 0, 0, 0))(
                index, row, hyperparams, keys, lanes
            )

        def body(i, carry):
            lanes, records = carry
            lanes, values = all_groups(first + i, lanes)
            return lanes, jax.tree.map(
                lambda record, value: record.at[i].set(value), records, values
            )

        if build.scanned:
            _, values = jax.eval_shape(all_groups, 0, lanes)
            records = jax.tree.map(
                lambda value: jnp.zeros((build.block, *value.shape), value.dtype), values
            )
            # `count` is traced: segments of every length are one program.
            lanes, records = lax.fori_loop(0, count, body, (lanes, records))
        else:
            lanes, values = all_groups(first, lanes)
            records = jax.tree.map(lambda value: value[None], values)
        return lanes, records, _each(_each(_is_finite, (0,)), (0,))(lanes)

    def evaluate_all(data, lanes):
        task = with_data(data)
        return _each(
            _each(lambda lane: _evaluate(task, lane, products=build.products), (0,)), (0,)
        )(lanes)

    lane, group, none = specs(build.spread)
    within = lambda spec: PartitionSpec(None, *spec)

    def spread(function, into, out, **options):
        """The program of a function of a chunk, each device with its own part of the lanes: nothing
        passes between.

        By `shard_map`, for where XLA partitions a program itself, convolutions get collectives and
        copies.
        """
        if build.mesh is None:
            return Program(function, **options)
        return Program(
            _on_each(build.mesh, function, into, out),
            shardings=_on(build.mesh, (into, out)),
            **options,
        )

    return Programs(
        spread(init_all, (none, group), group, hasty=True),
        spread(draw_all, (none, group, none), within(group), hasty=True),
        spread(start_all, (lane, group, group), lane, hasty=True),
        spread(
            train_all,
            (none, lane, group, none if build.streamed else within(group), lane, none, none),
            (lane, within(lane), lane),
            donate=[4],
        ),
        spread(evaluate_all, (none, lane), lane),
        {},
    )


def specs(spread: int) -> tuple[PartitionSpec, PartitionSpec, PartitionSpec]:
    """How what belongs to lanes, to groups and to none of them lies on the devices."""
    if spread == 0:
        return PartitionSpec(LANE), PartitionSpec(LANE), PartitionSpec()
    return PartitionSpec(None, LANE), PartitionSpec(), PartitionSpec()


def _on_each(
    mesh: Mesh, function: Callable[..., Any], into: tuple[PartitionSpec, ...], out: Any
) -> Callable[..., Any]:
    """`jax.shard_map` of a function traced outside of it, for jax 0.7 cannot batch convolutions' gradients inside."""

    def part(leaf: Any, spec: PartitionSpec) -> jax.ShapeDtypeStruct:
        axes = (*spec, *[None] * (leaf.ndim - len(spec)))
        sizes = [
            size if axis is None else size // mesh.size
            for size, axis in zip(leaf.shape, axes, strict=True)
        ]
        return jax.ShapeDtypeStruct(sizes, leaf.dtype)

    def call(*args: Any) -> Any:
        parts = [
            jax.tree.map(functools.partial(part, spec=spec), arg)
            for arg, spec in zip(args, into, strict=True)
        ]
        closed, shapes = jax.make_jaxpr(function, return_shape=True)(*parts)
        structure = jax.tree.structure(shapes)

        def each(constants: Any, *args: Any) -> Any:
            return jax.tree.unflatten(
                structure, eval_jaxpr(closed.jaxpr, constants, *jax.tree.leaves(args))
            )

        specs = PartitionSpec(), *into
        mapped = jax.shard_map(each, mesh=mesh, in_specs=specs, out_specs=out, check_vma=False)
        return mapped(closed.consts, *args)

    return call


def _on(mesh: Mesh, specs: Any) -> Any:
    is_spec = lambda value: isinstance(value, PartitionSpec)
    return jax.tree.map(lambda spec: NamedSharding(mesh, spec), specs, is_leaf=is_spec)


def _each(function: Callable[..., Any], axes: tuple[int | None, ...]) -> Callable[..., Any]:
    """`jax.vmap`; of a single one the function itself, for XLA treats a batch of one worse than none."""

    def mapped(*args: Any) -> Any:
        sizes = [
            leaf.shape[0]
            for arg, axis in zip(args, axes, strict=True)
            if axis == 0
            for leaf in jax.tree.leaves(arg)
        ]
        if sizes[0] > 1:
            return jax.vmap(function, in_axes=axes)(*args)
        alone = [
            jax.tree.map(lambda leaf: leaf[0], arg) if axis == 0 else arg
            for arg, axis in zip(args, axes, strict=True)
        ]
        return jax.tree.map(lambda leaf: leaf[None], function(*alone))

    return mapped


def _is_finite(lane: Lane) -> jax.Array:
    arrays = [
        leaf for leaf in jax.tree.leaves(lane.params) if jnp.issubdtype(leaf.dtype, jnp.inexact)
    ]
    return jnp.all(jnp.array([jnp.all(jnp.isfinite(array)) for array in arrays]))


def _evaluate(task: Task, lane: Lane, *, products: bool) -> dict[str, jax.Array]:
    assert task.evaluate is not None
    evaluate = as_products(task.evaluate) if products else task.evaluate
    metrics = evaluate(lane.params, lane.state) if task.stateful else evaluate(lane.params)
    if not isinstance(metrics, dict) or any(jnp.shape(value) for value in metrics.values()):
        raise TypeError(f"`evaluate` must return a dict of scalars, got {metrics!r}")
    return {name: jnp.asarray(value, jnp.float32) for name, value in metrics.items()}
