"""The programs of a sweep: they start, train and evaluate a chunk of lanes side by side.

A lane is one run: one point of the grid with one seed. The lanes of a chunk are laid out
`[groups, members]`. The members of a group share a key. So they also share the batches and the
random numbers of the loss. A batch is gathered once for all members. Their first layers have the
same input, so the matrix products of these layers become one large product.
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
from ...training.run import Keys, Lane, Run, Step, TaskLike, bound, initial, split
from ...training.signals import Signals
from ...training.task import Task
from ...training.train import when
from .cache import Reference, reference
from .xla.convolutions import as_products

# Updates of one call at most. The shuffled indices for all of them are drawn together, so this
# bounds the size of the indices and of the records.
BLOCK = 256
LANE = "lane"  # the axis of a mesh that lanes are spread over

Tree = Any
Data = list[Any]  # arrays
Leaf = Any  # a leaf of a task's functions: an array, or a function
Key = tuple[Any, ...]  # hashable; becomes part of a key of the cache
Index = Any  # an int32 scalar, traced
Measure = Callable[[Step], dict[str, Any]]  # returns the monitors' values for an update, or {}
Carry = tuple[Tree, tuple[Tree, Tree]]  # lanes, and the records of losses and of monitors
Structure = Any  # a `PyTreeDef`, which type checkers do not see as a class
StaticPart = Any  # the static data of a pytree's node: all that it holds except its children
Spec = Any  # a pytree of `PartitionSpec`s
Option = Any  # an argument of `executable.lower`
Program = Callable[..., Any]


class Problem(NamedTuple):
    """What the programs of a sweep are built from. They take the grid's values as arguments."""

    task: TaskLike  # a task, or a function of hyperparameters that returns one
    example: Task  # the task, or what the task's function returned for the first point
    optimizer: Optimizer
    monitors: Mapping[str, Monitor]
    signals: Signals
    record_every: int
    loss_every: int

    @property
    def data(self) -> Data:
        """The task's arrays. They are arguments of the programs, not constants in them."""
        return [leaf for leaf in self._leaves if _is_data(leaf)]

    def with_data(self, data: Data) -> TaskLike:
        """The task with its arrays replaced by these, which may be tracers.

        A function that returns tasks is returned as it is.
        """
        # The arrays of the tasks that a function returns are not known before it is called.
        if not isinstance(self.task, Task):
            return self.task
        arrays = iter(data)
        leaves = [next(arrays) if _is_data(leaf) else leaf for leaf in self._leaves]
        fields = jax.tree.unflatten(self._structure, leaves)
        return Task(*fields, stateful=self.task.stateful)

    @property
    def key(self) -> Key:
        """The key of the programs in the cache: equal keys mean equal programs."""
        functions = [self.optimizer, *self.monitors.values()]
        functions += [signal.function for signal in self.signals.values()]
        if isinstance(self.task, Task):
            functions += [leaf for leaf in self._leaves if not _is_data(leaf)]
            which = tuple(_is_data(leaf) for leaf in self._leaves)
            # Two tasks that are built in the same way have equal structures and share their
            # programs. But if a user's closure is part of the structure, a key with the structure
            # would keep the closure alive. Then the key has a weak reference to the task instead.
            lasting = all(_is_lasting(part) for part in _static_parts(self._structure))
            shape = (self._structure if lasting else Reference(self.task), which)
            shape = (*shape, self.task.stateful)
        else:
            functions.append(self.task)
            shape = ()
        names = tuple(self.monitors), tuple((n, s.n) for n, s in self.signals.items())
        references = tuple(map(reference, functions))
        return (*shape, names, self.record_every, self.loss_every, references)

    @property
    def _functions(self) -> Tree:
        """The task's functions, as a pytree.

        A function may be a pytree, such as a `Partial`, whose arguments are its leaves: arrays, or
        other functions. A function that is not a pytree is itself a leaf.
        """
        task = self.example
        # Batches from the host are arguments of `train`. Their source is not part of a program, so
        # all sources share the same programs.
        batch = FROM_HOST if source(task.batch).streamed else task.batch
        return task.init, task.loss, batch, task.evaluate

    @property
    def _leaves(self) -> list[Leaf]:
        return jax.tree.leaves(self._functions)

    @property
    def _structure(self) -> Structure:
        return jax.tree.structure(self._functions)


class Build(NamedTuple):
    """The settings with which the programs of a chunk are built."""

    products: bool = False  # whether convolutions become slices and matrix products
    scanned: bool = True  # whether the program loops over updates, or is called for each of them
    block: int = BLOCK  # updates whose batches are drawn together
    streamed: bool = False  # whether batches come from the host, the same ones for all groups
    mesh: Mesh | None = None  # the devices that lanes are spread over; None for the default device
    spread: int = 1  # the axis of a chunk that is divided among devices: 0 groups, 1 members


class Part(NamedTuple):
    """One program before it is traced, and the options with which it is compiled."""

    function: Program
    options: dict[str, Option]


def parts(problem: Problem, build: Build) -> dict[str, Part]:
    """The programs of a chunk.

    - `initial(data, bits) -> given`: the parameters and state that the groups start from. `bits`
      are the key data of the groups.
    - `start(data, hyperparams, bits, given) -> (lanes, keys)`: lanes before their first update.
      `given` is None if each lane draws its own parameters.
    - `draw(data, keys, block) -> rows`: what is drawn ahead for the updates of a block, such as
      indices of examples, or None.
    - `train(data, hyperparams, keys, rows, lanes, first, count) -> (lanes, records, finite)`: the
      lanes after `count` updates. The argument `lanes` is donated.
    - `evaluate(data, hyperparams, keys, lanes) -> metrics`.

    There is no `initial` if a function of hyperparameters returns the task, no `draw` if batches
    come from the host, and no `evaluate` if the task has none.
    """
    lane, group, none = specs(build.spread)
    # The records and the rows have an axis of updates in front of the others.
    within = lambda spec: PartitionSpec(None, *spec)
    rows = none if build.streamed else within(group)

    def part(function: Program, into: Spec, out: Spec, **options: Option) -> Part:
        """A program that each device runs with its own lanes.

        Devices do not communicate. With shardings alone, XLA would divide the program in its own
        way, and devices would communicate in convolutions. `jax.shard_map` leaves XLA no choice.
        """
        if build.mesh is None:
            return Part(function, options)
        spread, shardings = on_devices(build.mesh, function, into, out)
        return Part(spread, {**options, "shardings": shardings})

    found = {}
    if isinstance(problem.task, Task):
        found["initial"] = part(_initial(problem), (none, group), group, hasty=True)
    found |= {
        "start": part(
            _start(problem, build), (none, lane, group, group), (lane, group), hasty=True
        ),
        "train": part(
            _train(problem, build),
            (none, lane, group, rows, lane, none, none),
            (lane, within(lane), lane),
            donate=[4],
        ),
    }
    if not build.streamed:
        draw = _draw(problem, build)
        found["draw"] = part(draw, (none, group, none), within(group), hasty=True)
    if problem.example.evaluate is not None:
        found["evaluate"] = part(_evaluate(problem, build), (none, lane, group, lane), lane)
    return found


def _run_of(problem: Problem, build: Build, data: Data, hyperparams: Tree) -> Run:
    """The run of one lane."""
    task = problem.with_data(data)
    rewrite = as_products if build.products else (lambda function: function)
    return bound(task, problem.optimizer, hyperparams, problem.signals, rewrite)


def _initial(problem: Problem) -> Program:
    """The program `initial`. All chunks of the same seeds share its results."""

    def start(data: Data, bits: jax.Array) -> Tree:
        task: Any = problem.with_data(data)
        # A loop, not a vmap: XLA takes twice as long to compile random draws from a batch of keys.
        # That the loop runs more slowly matters little, because it runs only once.
        return lax.map(lambda bits: initial(task, _keys(bits)), bits)

    return start


def _start(problem: Problem, build: Build) -> Program:
    """The program `start`."""

    def start(data: Data, hyperparams: Tree, bits: jax.Array, given: Tree) -> tuple[Tree, Tree]:
        def group(hyperparams: Tree, bits: jax.Array, given: Tree) -> tuple[Tree, Keys]:
            keys = _keys(bits)
            # The members share what they start from. But a function that returns tasks may return
            # another task for each member. Then nothing is given, and each member draws its own.
            params, state = (None, None) if given is None else given
            member = lambda hyperparams: _run_of(problem, build, data, hyperparams).init(
                keys, params, state
            )
            return each(member, (0,))(hyperparams), keys

        # A loop, as in `initial`.
        return lax.map(lambda args: group(*args), (hyperparams, bits, given))

    return start


def _keys(bits: jax.Array) -> Keys:
    """The keys of a group from its key data."""
    return split(jax.random.wrap_key_data(bits, impl="threefry2x32"))


def _draw(problem: Problem, build: Build) -> Program:
    """The program `draw`."""

    def draw(data: Data, keys: Tree, block: jax.Array) -> Tree:
        task = problem.with_data(data)
        # A function that returns tasks would need hyperparameters. But only indices of examples are
        # drawn ahead, and they are the same for all points. So the task of the first point is used.
        batches = source((task if isinstance(task, Task) else problem.example).batch)
        rows = lambda keys: batches.ahead(block * build.block, build.block, keys.data)
        # `[updates, groups, ...]`, because one update indexes the rows of all groups.
        return jax.vmap(rows, out_axes=1)(keys)

    return draw


def _train(problem: Problem, build: Build) -> Program:
    """The program `train`."""
    everything = lambda step: measured(problem.monitors, step)
    nothing = lambda _: {}
    # For a program of one update: a branch calls the monitors if the update is due.
    sometimes = lambda step: when(step.index % problem.record_every == 0, lambda: everything(step))

    def train(
        data: Data,
        hyperparams: Tree,
        keys: Tree,
        drawn: Tree,
        lanes: Tree,
        first: jax.Array,
        count: jax.Array,
    ) -> tuple[Tree, Tree, jax.Array]:
        every = problem.record_every

        def update(index: Index, lanes: Tree, measure: Measure) -> tuple[Tree, Tree]:
            def member(hyperparams: Tree, lane: Lane, keys: Keys, row: Tree, index: Index) -> Tree:
                run = _run_of(problem, build, data, hyperparams)
                lane, step = run.step(lane, index, row, keys)
                return lane, ({"loss": step.loss, "aux": step.aux}, measure(step))

            group = each(member, (0, 0, None, None, None))
            all_groups = each(group, (0, 0, 0, None if build.streamed else 0, None))
            row = jax.tree.map(lambda rows: rows[index % build.block], drawn)
            return all_groups(hyperparams, lanes, keys, row, index)

        def body(i: Index, carry: Carry, measure: Measure) -> Carry:
            lanes, (losses, monitors) = carry
            lanes, (loss, values) = update(first + i, lanes, measure)
            record = lambda room, value: _recorded(room, value, problem.loss_every, first, i)
            losses = jax.tree.map(record, losses, loss)
            if values:
                record = lambda room, value: _recorded(room, value, every, first, i)
                monitors = jax.tree.map(record, monitors, values)
            return lanes, (losses, monitors)

        measured_body = functools.partial(body, measure=everything)
        plain_body = functools.partial(body, measure=nothing)

        def turn(at: tuple[Index, Carry]) -> tuple[Index, Carry]:
            """Makes the updates before the next one that is monitored, and then that one."""
            i, carry = at
            # The first index from `i` on at which `first + index` is a multiple of `every`.
            due = i + -(first + i) % every
            carry = lax.fori_loop(i, jnp.minimum(due, count), plain_body, carry)
            # A loop of one update or none, not a branch: XLA updates the lanes in place in a loop,
            # and copies them in a branch.
            end = jnp.minimum(due + 1, count)
            return end, lax.fori_loop(due, end, measured_body, carry)

        _, values = jax.eval_shape(
            lambda index, lanes: update(index, lanes, everything), first, lanes
        )
        if not build.scanned:
            lanes, values = update(first, lanes, sometimes)
            records = jax.tree.map(lambda value: value[None], values)
        else:
            # Arrays for the records of a whole block. A call of fewer updates leaves zeros at the
            # end, which the host cuts off.
            room = lambda every: (
                lambda value: jnp.zeros((-(-build.block // every), *value.shape), value.dtype)
            )
            losses = jax.tree.map(room(problem.loss_every), values[0])
            carry = lanes, (losses, jax.tree.map(room(every), values[1]))
            # `count` is traced, so that one program serves calls of every length.
            if every == 1 or not problem.monitors:
                carry = lax.fori_loop(0, count, measured_body, carry)
            else:
                # A branch in every update would cost more than the monitors: XLA copies the arrays
                # that a branch reads, such as gradients and parameters.
                _, carry = lax.while_loop(lambda at: at[0] < count, turn, (jnp.int32(0), carry))
            lanes, records = carry
        return lanes, records, each(each(_is_finite, (0,)), (0,))(lanes)

    return train


def _recorded(
    room: jax.Array, value: jax.Array, every: int, first: jax.Array, i: Index
) -> jax.Array:
    """Adds the value of an update to the records of a call, if the update is to be recorded.

    An update is recorded if its index is a multiple of `every`.

    Args:
      room: The array of records, `[records, ...]`.
      value: The value of this update.
      every: Updates from one record to the next.
      first: The index of the call's first update.
      i: How many updates of the call came before this one.
    """
    if every == 1:
        return room.at[i].set(value)
    index = first + i
    # The number of records before this one, minus the number of records before the call.
    slot = index // every - -(-first // every)
    # A value that is not recorded gets an index past the end, and JAX drops it. So there is no
    # branch.
    slot = jnp.where(index % every == 0, slot, room.shape[0])
    return room.at[slot].set(value, mode="drop")


def _evaluate(problem: Problem, build: Build) -> Program:
    """The program `evaluate`."""

    def evaluate(data: Data, hyperparams: Tree, keys: Tree, lanes: Tree) -> Tree:
        def member(hyperparams: Tree, lane: Lane, keys: Keys) -> Tree:
            return _run_of(problem, build, data, hyperparams).evaluate(lane, keys)

        return each(each(member, (0, 0, None)), (0, 0, 0))(hyperparams, lanes, keys)

    return evaluate


def specs(spread: int) -> tuple[PartitionSpec, PartitionSpec, PartitionSpec]:
    """How arrays are divided among the devices: arrays of lanes, arrays of groups, and all others.

    Args:
      spread: The axis of a chunk that is divided: 0 for the groups, 1 for the members.
    """
    if spread == 0:
        return PartitionSpec(LANE), PartitionSpec(LANE), PartitionSpec()
    return PartitionSpec(None, LANE), PartitionSpec(), PartitionSpec()


def each(function: Program, axes: tuple[int | None, ...]) -> Program:
    """`jax.vmap`, except that a batch of size 1 is passed to `function` without a batch axis.

    XLA compiles faster code without the axis.

    Args:
      function: The function.
      axes: 0 or None for each argument, as in `in_axes` of `jax.vmap`. One must be 0.
    """

    def mapped(*args: Tree) -> Tree:
        batched = [arg for arg, axis in zip(args, axes, strict=True) if axis == 0]
        if jax.tree.leaves(batched)[0].shape[0] > 1:
            return jax.vmap(function, in_axes=axes)(*args)
        first = lambda tree: jax.tree.map(lambda leaf: leaf[0], tree)
        alone = [first(arg) if axis == 0 else arg for arg, axis in zip(args, axes, strict=True)]
        return jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], function(*alone))

    return mapped


def on_devices(
    mesh: Mesh, function: Program, into: tuple[PartitionSpec, ...], out: Spec
) -> tuple[Program, tuple[Tree, Tree]]:
    """A function of a chunk, changed so that each device calls it with its own lanes.

    Args:
      mesh: The devices.
      function: The function.
      into: How each argument is divided among the devices.
      out: How the results are divided.

    Returns:
      The function, and the shardings of its arguments and its results.
    """
    return _on_each(mesh, function, into, out), _on(mesh, (into, out))


def _is_data(leaf: Leaf) -> bool:
    """Whether a leaf is an array."""
    return hasattr(leaf, "dtype")


def _static_parts(structure: Structure) -> list[StaticPart]:
    """The static data of all nodes of a structure, such as functions."""
    data = structure.node_data()  # (type of the node, what it holds), or None for a leaf
    own = [] if data is None else [data[1]]
    return own + [part for child in structure.children() for part in _static_parts(child)]


def _is_lasting(part: StaticPart) -> bool:
    """Whether a part of a structure neither is a closure nor holds one.

    A function at the top level of a module lives as long as the module, so the cache may keep a
    reference to it.
    """
    if isinstance(part, (tuple, list)):
        return all(map(_is_lasting, part))
    if isinstance(part, dict):
        return all(map(_is_lasting, part.values()))
    part = getattr(part, "value", part)  # a static value may be wrapped in a node of its own
    # The names of closures and lambdas contain "<locals>" or "<lambda>". A callable without a name
    # may be a closure too, so it counts as one.
    return not callable(part) or "<" not in getattr(part, "__qualname__", "<")


def _is_finite(lane: Lane) -> jax.Array:
    """Whether all parameters of a lane are finite."""
    floats = [x for x in jax.tree.leaves(lane.params) if jnp.issubdtype(x.dtype, jnp.inexact)]
    return jnp.all(jnp.array([jnp.all(jnp.isfinite(x)) for x in floats]))


def _on_each(mesh: Mesh, function: Program, into: tuple[PartitionSpec, ...], out: Spec) -> Program:
    """`jax.shard_map` of a function that is traced first, with the shapes of one device's arrays.

    The function is traced outside of `jax.shard_map`, because inside of it jax 0.7 cannot trace a
    `vmap` of gradients of convolutions.
    """

    def part(leaf: jax.Array, spec: PartitionSpec) -> jax.ShapeDtypeStruct:
        """The shape of a device's part of an array."""
        axes = (*spec, *[None] * (leaf.ndim - len(spec)))
        sizes = [
            size if axis is None else size // mesh.size
            for size, axis in zip(leaf.shape, axes, strict=True)
        ]
        return jax.ShapeDtypeStruct(sizes, leaf.dtype)

    def call(*args: Tree) -> Tree:
        shapes = [
            jax.tree.map(functools.partial(part, spec=spec), arg)
            for arg, spec in zip(args, into, strict=True)
        ]
        closed, results = jax.make_jaxpr(function, return_shape=True)(*shapes)
        structure = jax.tree.structure(results)

        def on_device(constants: Tree, *args: Tree) -> Tree:
            leaves = eval_jaxpr(closed.jaxpr, constants, *jax.tree.leaves(args))
            return jax.tree.unflatten(structure, leaves)

        # Every device gets the whole of each array that the function closes over.
        specs = PartitionSpec(), *into
        mapped = jax.shard_map(on_device, mesh=mesh, in_specs=specs, out_specs=out, check_vma=False)
        return mapped(closed.consts, *args)

    return call


def _on(mesh: Mesh, specs: Spec) -> Tree:
    """A tree of shardings from a tree of `PartitionSpec`s."""
    return jax.tree.map(lambda spec: NamedSharding(mesh, spec), specs)
