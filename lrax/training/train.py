"""`lrax.train`: one run as a pure function of hyperparameters and key."""

# Keeps annotations as they are written, so that `help` shows the names of type aliases and not what
# they stand for.
from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import optax
from jax import lax, numpy as jnp
from jax.core import Tracer

from .. import _require
from .batches import source
from .monitors import Monitor, as_monitors, measured
from .optimizer import Optimizer, first_parameter, parameters
from .run import Hyperparams, Keys, Lane, Params, State, TaskLike, as_start, bound, initial, split
from .signals import Every, as_signals
from .task import Task


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Trained:
    """What `lrax.train` returns: the records, and all that is needed to continue the run.

    Attributes:
      losses: `[steps]`, the training loss before each update.
      params: The parameters after the last update.
      state: The state of a stateful model after the last update; None for other models.
      opt_state: The optimizer's state after the last update.
      aux: `{name: [steps]}`, the scalars of the loss's aux.
      metrics: `{name: scalar}`, what the task's `evaluate` returns after the last update.
      monitors: `{name: [records]}`, what the monitors returned at the updates 0, record_every, ...
    """

    losses: jax.Array
    params: Params
    state: State
    opt_state: optax.OptState
    aux: dict[str, jax.Array]
    metrics: dict[str, jax.Array]
    monitors: dict[str, jax.Array]


def train(
    task: TaskLike,
    optimizer: Optimizer,
    *,
    steps: int,
    monitors: Iterable[Monitor] | Mapping[str, Monitor] = (),
    record_every: int = 1,
    signals: Mapping[str, Every] | None = None,
    params: Params | None = None,
) -> Callable[[Hyperparams | Any, jax.Array], Trained]:
    """Training as a pure function of hyperparameters and key.

    Use it if `lrax.sweep` does more than you need, or inside your own `jit`, `vmap` and `grad`. For
    the function `train` that it returns, `jax.jit(jax.vmap(train, in_axes=(0, None)))` is a whole
    sweep in one program. The key `jax.random.key(s)` gives the same runs as the seed `s` of
    `lrax.sweep`.

    Args:
      task: What is trained: a `lrax.Task`, or a function of hyperparameters that returns one.
      optimizer: Function from hyperparameters to an `optax.GradientTransformation`, such as
        `optax.adam` or `lambda lr, wd: optax.adamw(lrax.warmup_cosine(lr, 1000, 100),
        weight_decay=wd)`. The hyperparameters arrive as tracers.
      steps: Optimizer updates, at least 1.
      monitors: Functions of a `Step` whose values are recorded, or `{name: function}`;
        `lrax.monitors` has ready-made ones.
      record_every: Updates between two calls of the monitors, at least 1.
      signals: `{name: lrax.every(n, function)}`, values that are measured every n updates and
        handed to the optimizer's `update` by name.
      params: Parameters to start from, in place of those that the task's `init` returns, and of the
        same structure; for a stateful task also (params, state).

    Returns:
      `train(hyperparams, key) -> Trained`. `hyperparams` is a dict, whose keys are parameters of
      the optimizer or of the task's function, or one value for the optimizer's first parameter.

    Raises:
      ValueError: if `steps` or `record_every` is below 1, a signal has a reserved name, or `params`
        is of another structure than what `init` returns.
      TypeError: if an argument is not as described.

    Example:
      >>> task = lrax.tasks.diabetes()
      >>> train = lrax.train(task, optax.sgd, steps=20)
      >>> rates = {"learning_rate": jnp.array([0.0, 0.01, 0.1])}
      >>> trained = jax.jit(jax.vmap(train, in_axes=(0, None)))(rates, jax.random.key(0))
      >>> trained.losses.shape
      (3, 20)
    """
    steps = _require.count("steps", steps, 1)
    record_every = _require.count("record_every", record_every, 1)
    check_task(task)
    if isinstance(task, Task):
        _check_drawn(task)
    parameters(optimizer)  # refuses `optax.adam(1e-3)`, which is not a function
    recorded = as_monitors(monitors)
    measurements = as_signals({} if signals is None else signals)

    def run(hyperparams: Hyperparams | Any, key: jax.Array) -> Trained:
        if not isinstance(hyperparams, Mapping):
            hyperparams = {first_parameter(optimizer): _checked_first(hyperparams)}
        check_names(hyperparams, optimizer, task)
        this = bound(task, optimizer, hyperparams, measurements)
        # If `task` is a function, its batches are known only now.
        _check_drawn(this.task)
        keys = split(_require.key("key", key))
        lane = this.init(keys, *_start(this.task, keys, params))

        def update(lane: Lane, xs: Any) -> Any:
            index, row = xs
            lane, step = this.step(lane, index, row, keys)
            # The index has no batch axis, so under `vmap` this remains a `cond`, and the monitors
            # are called only when they are due.
            values = when(index % record_every == 0, lambda: measured(recorded, step))
            return lane, (step.loss, step.aux, values)

        xs = jnp.arange(steps), this.source.ahead(0, steps, keys.data)
        lane, (losses, aux, values) = lax.scan(update, lane, xs)
        # Drop the zeros of the updates at which the monitors were not due.
        values = jax.tree.map(lambda leaf: leaf[::record_every], values)
        return Trained(
            losses, lane.params, lane.state, lane.opt_state, aux, this.evaluate(lane, keys), values
        )

    return run


def _start(task: Task, keys: Keys, given: Any) -> tuple[Params | None, State | None]:
    """Parameters and state to start from; None for each that `init` must make."""
    if given is None:
        return None, None
    params_like, state_like = jax.eval_shape(lambda: initial(task, keys))
    return as_start(given, params_like, state_like)


def _check_drawn(task: Task) -> None:
    """Requires batches that a program can draw by itself."""
    if source(task.batch).streamed:
        raise TypeError(
            "`task` must have batches that a pure function draws, `lrax.minibatches` or a function"
            f" of (step, key), got a {type(task.batch).__name__}: batches from the host are for"
            " `lrax.sweep`"
        )


def _checked_first(value: Any) -> Any:
    """Requires one number, schedule or function: the value of the optimizer's first parameter."""
    if callable(value) or isinstance(value, Tracer):
        return value
    number = _require.as_numbers(value)
    if number is None or number.ndim:
        raise TypeError(
            "`hyperparams` must be {name: value}, or one number, Schedule or function for the"
            f" optimizer's first, got {value!r}; for several numbers, go through `jax.vmap`"
        )
    _require.held("hyperparams", number)
    return value


def when(is_due: jax.Array, measure: Callable[[], Any]) -> Any:
    """What `measure` returns if the condition holds; otherwise zeros, without calling it."""
    blank = lambda: jax.tree.map(
        lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(measure)
    )
    return lax.cond(is_due, measure, blank)


def check_task(task: Any) -> None:
    """Requires a `Task` or a function."""
    if not isinstance(task, Task) and not callable(task):
        raise TypeError(
            "`task` must be a lrax.Task or a function of hyperparameters that returns one, got"
            f" {type(task).__name__}"
        )


def check_names(hyperparams: Mapping[str, Any], optimizer: Optimizer, task: TaskLike) -> None:
    """Requires values for all required parameters, and only names of parameters.

    The parameters are those of the optimizer and of the task's function. Nothing is checked if one
    of these takes any name, or has no readable signature.
    """
    functions = [optimizer] if isinstance(task, Task) else [optimizer, task]
    known = [parameters(function) for function in functions]
    if any(not names or any(p.kind is p.VAR_KEYWORD for p in names.values()) for names in known):
        return
    every = [name for names in known for name in names]
    needed = [n for names in known for n, p in names.items() if p.default is p.empty]
    missing = [name for name in needed if name not in hyperparams]
    if missing:
        raise ValueError(
            f"`hyperparams` must give values to every parameter without a default, not {missing}"
        )
    unknown = [name for name in hyperparams if name not in every]
    if unknown:
        raise ValueError(
            f"`hyperparams` must name parameters of the optimizer or the task's function, {every},"
            f" got {unknown}"
        )
