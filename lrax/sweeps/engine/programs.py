"""The programs of a sweep: they begin, train and evaluate a chunk of lanes side by side.

A lane is one run: one point of the grid with one seed. The lanes of a chunk are laid out
`[groups, members]`. The members of a group share a key, and with it the batches and the loss's
random numbers: a batch is gathered once for all of them, and the products of their first layers
merge into one large product.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
from jax import lax, numpy as jnp
from jax.core import eval_jaxpr
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ...training.batches import FROM_HOST, source
from ...training.monitors import Monitor, measured
from ...training.optimizer import Optimizer
from ...training.run import Keys, Lane, Run, TaskLike, bound, initial, split
from ...training.signals import Signals
from ...training.task import Task
from ...training.train import when
from .cache import Reference
from .xla.convolutions import as_products

# Updates of one call at most, whose shuffled indices are drawn together: it bounds the buffers of
# both the indices and the records.
BLOCK = 256
LANE = "lane"  # the axis of a mesh that lanes are spread over

Tree = Any
Data = list[Any]


class Problem(NamedTuple):
    """What a sweep trains, apart from its grid: everything that its programs are made of."""

    task: TaskLike
    example: Task  # the task, or what the task's function returned for the first point
    optimizer: Optimizer
    monitors: Mapping[str, Monitor]
    signals: Signals
    record_every: int
    loss_every: int

    @property
    def data(self) -> Data:
        """The arrays of a task that is no function of hyperparameters."""
        return [leaf for leaf in self._leaves if _is_data(leaf)]

    def with_data(self, data: Data) -> TaskLike:
        """The task, its arrays replaced by these."""
        if not isinstance(self.task, Task):
            return self.task
        arrays = iter(data)
        leaves = [next(arrays) if _is_data(leaf) else leaf for leaf in self._leaves]
        fields = jax.tree.unflatten(self._structure, leaves)
        return Task(*fields, stateful=self.task.stateful)

    @property
    def key(self) -> tuple[Any, ...]:
        """What tells its programs from those of another problem."""
        functions = [self.optimizer, *self.monitors.values()]
        functions += [signal.function for signal in self.signals.values()]
        if isinstance(self.task, Task):
            functions += [leaf for leaf in self._leaves if not _is_data(leaf)]
            which = tuple(_is_data(leaf) for leaf in self._leaves)
            # Two tasks that are built alike share their programs. A structure that holds a user's
            # closure must not outlive its task: then the task itself is the key.
            lasting = all(_is_lasting(part) for part in _static_parts(self._structure))
            shape = (self._structure if lasting else Reference(self.task), which)
            shape = (*shape, self.task.stateful)
        else:
            functions.append(self.task)
            shape = ()
        names = tuple(self.monitors), tuple((n, s.n) for n, s in self.signals.items())
        references = tuple(Reference(function) for function in functions)
        return (*shape, names, self.record_every, self.loss_every, references)

    @property
    def _functions(self) -> Any:
        task = self.example
        batch = FROM_HOST if source(task.batch).streamed else task.batch
        return task.init, task.loss, batch, task.evaluate

    @property
    def _leaves(self) -> list[Any]:
        return jax.tree.leaves(self._functions)

    @property
    def _structure(self) -> Any:
        return jax.tree.structure(self._functions)


class Build(NamedTuple):
    """How the programs of a chunk are written."""

    products: bool = False  # whether convolutions become slices and matrix products
    scanned: bool = True  # whether the updates are a loop of the program, or one call each
    block: int = BLOCK  # updates whose batches are drawn together
    streamed: bool = False  # whether batches come from the host, the same for all groups
    mesh: Mesh | None = None  # the devices that lanes are spread over, or the default one
    spread: int = 1  # the axis of a chunk that is spread: 0 its groups, 1 the members of each


class Part(NamedTuple):
    """One program before it is traced."""

    function: Callable[..., Any]
    options: dict[str, Any]  # of `executable.lower`


def parts(problem: Problem, build: Build) -> dict[str, Part]:
    """The programs of a chunk.

    - `start(data, hyperparams, bits, given) -> (lanes, keys)`; `bits` are the groups' key data,
      `given` their parameters and state to start from, or None.
    - `draw(data, keys, block) -> rows`, what is drawn ahead for the updates of a block, or None.
    - `train(data, hyperparams, keys, rows, lanes, first, count) -> (lanes, records, finite)`; the
      lanes are donated.
    - `evaluate(data, hyperparams, keys, lanes) -> metrics`.
    """
    rewrite = as_products if build.products else (lambda function: function)

    def run_of(data: Data, hyperparams: Any) -> Run:
        task = problem.with_data(data)
        return bound(task, problem.optimizer, hyperparams, problem.signals, rewrite)

    def start(data: Data, hyperparams: Tree, bits: jax.Array, given: Tree) -> tuple[Tree, Tree]:
        task = problem.with_data(data)

        def group(hyperparams: Tree, bits: jax.Array, given: Tree) -> tuple[Tree, Keys]:
            keys = split(jax.random.wrap_key_data(bits, impl="threefry2x32"))
            params, state = (None, None) if given is None else given
            if given is None and isinstance(task, Task):
                params, state = initial(task, keys)  # once for all members
            member = lambda hyperparams: run_of(data, hyperparams).init(keys, params, state)
            return each(member, (0,))(hyperparams), keys

        # A loop, not a vmap: it runs once, and XLA takes twice as long to compile random draws
        # from a batch of keys.
        return lax.map(lambda args: group(*args), (hyperparams, bits, given))

    def draw(data: Data, keys: Tree, block: jax.Array) -> Tree:
        task = problem.with_data(data)
        batches = source((task if isinstance(task, Task) else problem.example).batch)
        rows = lambda keys: batches.ahead(block * build.block, build.block, keys.data)
        return jax.vmap(rows, out_axes=1)(keys)

    def train(
        data: Data,
        hyperparams: Tree,
        keys: Tree,
        drawn: Tree,
        lanes: Tree,
        first: jax.Array,
        count: jax.Array,
    ) -> tuple[Tree, Tree, jax.Array]:
        def member(hyperparams: Tree, lane: Lane, keys: Keys, row: Any, index: Any) -> Any:
            run = run_of(data, hyperparams)
            lane, step = run.step(lane, index, row, keys)
            is_due = index % problem.record_every == 0
            values = when(is_due, lambda: measured(problem.monitors, step))
            return lane, ({"loss": step.loss, "aux": step.aux}, values)

        group = each(member, (0, 0, None, None, None))
        all_groups = each(group, (0, 0, 0, None if build.streamed else 0, None))

        def update(index: Any, lanes: Tree) -> tuple[Tree, Any]:
            row = jax.tree.map(lambda rows: rows[index % build.block], drawn)
            return all_groups(hyperparams, lanes, keys, row, index)

        def body(i: Any, carry: Any) -> Any:
            lanes, records = carry
            lanes, values = update(first + i, lanes)
            record = lambda room, value, every: write(room, value, every, i)
            return lanes, jax.tree.map(record, records, values, cadences)

        def write(record: jax.Array, value: jax.Array, every: int, i: Any) -> jax.Array:
            if every == 1:
                return record.at[i].set(value)
            index = first + i
            slot = index // every - -(-first // every)
            # What is not due is written past the end, and dropped.
            slot = jnp.where(index % every == 0, slot, record.shape[0])
            return record.at[slot].set(value, mode="drop")

        _, values = jax.eval_shape(update, first, lanes)
        cadences = (
            jax.tree.map(lambda _: problem.loss_every, values[0]),
            jax.tree.map(lambda _: problem.record_every, values[1]),
        )
        if build.scanned:
            length = lambda every: -(-build.block // every)
            records = jax.tree.map(
                lambda value, every: jnp.zeros((length(every), *value.shape), value.dtype),
                values,
                cadences,
            )
            # `count` is traced: calls of every length are one program.
            lanes, records = lax.fori_loop(0, count, body, (lanes, records))
        else:
            lanes, values = update(first, lanes)
            records = jax.tree.map(lambda value: value[None], values)
        return lanes, records, each(each(_is_finite, (0,)), (0,))(lanes)

    def evaluate(data: Data, hyperparams: Tree, keys: Tree, lanes: Tree) -> Tree:
        member = lambda hyperparams, lane, keys: run_of(data, hyperparams).evaluate(lane, keys)
        return each(each(member, (0, 0, None)), (0, 0, 0))(hyperparams, lanes, keys)

    lane, group, none = specs(build.spread)
    within = lambda spec: PartitionSpec(None, *spec)
    rows = none if build.streamed else within(group)

    def part(function: Callable[..., Any], into: Any, out: Any, **options: Any) -> Part:
        """A function of a chunk, each device with its own lanes: nothing passes between devices.

        By `shard_map`: where XLA partitions a program itself, convolutions get collectives.
        """
        if build.mesh is None:
            return Part(function, options)
        spread, shardings = on_devices(build.mesh, function, into, out)
        return Part(spread, {**options, "shardings": shardings})

    found = {
        "start": part(start, (none, lane, group, group), (lane, group), hasty=True),
        "train": part(
            train,
            (none, lane, group, rows, lane, none, none),
            (lane, within(lane), lane),
            donate=[4],
        ),
    }
    if not build.streamed:
        found["draw"] = part(draw, (none, group, none), within(group), hasty=True)
    if problem.example.evaluate is not None:
        found["evaluate"] = part(evaluate, (none, lane, group, lane), lane)
    return found


def specs(spread: int) -> tuple[PartitionSpec, PartitionSpec, PartitionSpec]:
    """How what belongs to lanes, to groups and to none of them lies on the devices."""
    if spread == 0:
        return PartitionSpec(LANE), PartitionSpec(LANE), PartitionSpec()
    return PartitionSpec(None, LANE), PartitionSpec(), PartitionSpec()


def each(function: Callable[..., Any], axes: tuple[int | None, ...]) -> Callable[..., Any]:
    """`jax.vmap`; for a batch of one the function itself, which XLA compiles to faster code."""

    def mapped(*args: Any) -> Any:
        batched = [arg for arg, axis in zip(args, axes, strict=True) if axis == 0]
        if jax.tree.leaves(batched)[0].shape[0] > 1:
            return jax.vmap(function, in_axes=axes)(*args)
        first = lambda tree: jax.tree.map(lambda leaf: leaf[0], tree)
        alone = [first(arg) if axis == 0 else arg for arg, axis in zip(args, axes, strict=True)]
        return jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], function(*alone))

    return mapped


def on_devices(
    mesh: Mesh, function: Callable[..., Any], into: tuple[PartitionSpec, ...], out: Any
) -> tuple[Callable[..., Any], tuple[Any, Any]]:
    """A function of a chunk that each device calls with its own lanes, and how arrays lie."""
    return _on_each(mesh, function, into, out), _on(mesh, (into, out))


def _is_data(leaf: Any) -> bool:
    return hasattr(leaf, "dtype")


def _static_parts(structure: Any) -> list[Any]:
    """What the nodes of a tree's structure hold beside their children, functions among it."""
    data = structure.node_data()
    own = [] if data is None else [data[1]]
    return own + [part for child in structure.children() for part in _static_parts(child)]


def _is_lasting(part: Any) -> bool:
    """Whether it is no closure, and holds none: such as a function at the top of a module."""
    if isinstance(part, (tuple, list)):
        return all(map(_is_lasting, part))
    if isinstance(part, dict):
        return all(map(_is_lasting, part.values()))
    part = getattr(part, "value", part)  # of what is wrapped to be static
    return not callable(part) or "<" not in getattr(part, "__qualname__", "<")


def _is_finite(lane: Lane) -> jax.Array:
    floats = [x for x in jax.tree.leaves(lane.params) if jnp.issubdtype(x.dtype, jnp.inexact)]
    return jnp.all(jnp.array([jnp.all(jnp.isfinite(x)) for x in floats]))


def _on_each(
    mesh: Mesh, function: Callable[..., Any], into: tuple[PartitionSpec, ...], out: Any
) -> Callable[..., Any]:
    """`jax.shard_map` of a function traced outside of it.

    jax 0.7 cannot batch the gradients of convolutions inside.
    """

    def part(leaf: Any, spec: PartitionSpec) -> jax.ShapeDtypeStruct:
        axes = (*spec, *[None] * (leaf.ndim - len(spec)))
        sizes = [
            size if axis is None else size // mesh.size
            for size, axis in zip(leaf.shape, axes, strict=True)
        ]
        return jax.ShapeDtypeStruct(sizes, leaf.dtype)

    def call(*args: Any) -> Any:
        shapes = [
            jax.tree.map(functools.partial(part, spec=spec), arg)
            for arg, spec in zip(args, into, strict=True)
        ]
        closed, results = jax.make_jaxpr(function, return_shape=True)(*shapes)
        structure = jax.tree.structure(results)

        def on_device(constants: Any, *args: Any) -> Any:
            leaves = eval_jaxpr(closed.jaxpr, constants, *jax.tree.leaves(args))
            return jax.tree.unflatten(structure, leaves)

        specs = PartitionSpec(), *into
        mapped = jax.shard_map(on_device, mesh=mesh, in_specs=specs, out_specs=out, check_vma=False)
        return mapped(closed.consts, *args)

    return call


def _on(mesh: Mesh, specs: Any) -> Any:
    is_spec = lambda value: isinstance(value, PartitionSpec)
    return jax.tree.map(lambda spec: NamedSharding(mesh, spec), specs, is_leaf=is_spec)
