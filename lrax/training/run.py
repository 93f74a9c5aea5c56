"""One run: its start, its training step, and its evaluation.

This is the only definition of a training step. `lrax.train`, sweeps and finders loop over it. A
monitor is a function of a `Step` that only observes a run. A signal is a measurement that is fed
back into the run, through the optimizer's `update`.
"""

import contextlib
import dataclasses
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import optax
from jax import numpy as jnp

from .. import _require
from .batches import Source, source
from .optimizer import Optimizer, taken, transformation
from .signals import Signal, Signals, refreshed, unmeasured, update_arguments
from .task import Task, takes_key

Params = Any
State = Any
Batch = Any
Hyperparams = Mapping[str, Any]
Metrics = dict[str, jax.Array]
TaskLike = Task | Callable[..., Task]
Rewrite = Callable[[Callable[..., Any]], Callable[..., Any]]


class Keys(NamedTuple):
    """The keys of one run: for its parameters, its batches, and the random numbers of its loss."""

    init: jax.Array
    data: jax.Array
    loss: jax.Array


def split(key: jax.Array) -> Keys:
    """The keys of the run with this key."""
    return Keys(*jax.random.split(key, 3))


class Lane(NamedTuple):
    """The state that a run carries from one update to the next."""

    params: Params
    state: State  # of a stateful model, None otherwise
    opt_state: optax.OptState
    signals: dict[str, Signal]


class Step(NamedTuple):
    """One update of a run, as monitors and signals see it.

    Attributes:
      index: 0-based index of the update, an int32 scalar.
      key: The key of the loss in this update.
      batch: The batch, transformed.
      params: The parameters before the update.
      state: The model's state before the update; None for a model without state.
      opt_state: The optimizer's state after the update: `lrax.get_lr` reads this update's rate.
      loss: The loss of the parameters before the update, a scalar.
      aux: The scalars of the loss's aux, by name.
      grads: The gradient, as the optimizer gets it.
      updates: What the optimizer returns, as it is added to the parameters.
    """

    # The field hides the method `tuple.index`, which pyright reports.
    index: jax.Array  # pyright: ignore[reportIncompatibleMethodOverride]
    key: jax.Array
    batch: Batch
    params: Params
    state: State
    opt_state: optax.OptState
    loss: jax.Array
    aux: dict[str, jax.Array]
    grads: Params
    updates: Params


@dataclasses.dataclass(frozen=True)
class Run:
    """A run of one task with one optimizer. All methods are pure.

    Attributes:
      task: What is trained.
      optimizer: The transformation, built from this run's hyperparameters.
      signals: What is measured on a cadence and handed to the optimizer's `update`, by name.
      rewrite: Function that transforms the loss, its gradient and the evaluation before they are
        called. The sweep engine passes its rewriter of convolutions here.
    """

    task: Task
    optimizer: optax.GradientTransformationExtraArgs
    signals: Signals = dataclasses.field(default_factory=dict)
    rewrite: Rewrite = lambda function: function

    @property
    def source(self) -> Source:
        """Where the batches come from."""
        return source(self.task.batch)

    def init(self, keys: Keys, params: Params = None, state: State = None) -> Lane:
        """The run before its first update.

        Args:
          keys: The run's keys.
          params: Parameters to start from; by default those of the task's `init`.
          state: The model's state to start from, for a stateful task; by default that of `init`.
        """
        if params is None:
            params, state = initial(self.task, keys)
        elif self.task.stateful and state is None:
            state = initial(self.task, keys)[1]
        with _hint_of_a_state(self.task, params):
            signals = {
                name: unmeasured(signal, params, state) for name, signal in self.signals.items()
            }
            return Lane(params, state, self.optimizer.init(params), signals)

    def step(self, lane: Lane, index: jax.Array, row: Any, keys: Keys) -> tuple[Lane, Step]:
        """One update.

        Args:
          lane: The run before it.
          index: 0-based index of the update. It must not have a batch axis under `vmap`: `lax.cond`
            on it then remains a branch, and a signal costs nothing in the updates in which it is
            not measured.
          row: This update's row of `Source.ahead`, or its batch from the host.
          keys: The run's keys.
        """
        with _hint_of_a_state(self.task, lane.params):
            return self._step(lane, index, row, keys)

    def _step(self, lane: Lane, index: jax.Array, row: Any, keys: Keys) -> tuple[Lane, Step]:
        key = jax.random.fold_in(keys.loss, index)
        batch = self.source.batch(index, row, keys.data)
        signals = refreshed(self.signals, lane.signals, index, lane.params, lane.state)
        loss_of = self._loss(lane.state, batch, key)
        value_and_grad = self.rewrite(jax.value_and_grad(loss_of, has_aux=True))
        (loss, (state, aux)), grads = value_and_grad(lane.params)

        extra = update_arguments(signals, index, self.signals)
        value_fn = _taking(lambda params: self.rewrite(loss_of)(params)[0], extra)
        grad_fn = _taking(lambda params: value_and_grad(params)[1], extra)
        updates, opt_state = self.optimizer.update(
            grads,
            lane.opt_state,
            lane.params,
            value=loss,
            grad=grads,
            value_fn=value_fn,
            grad_fn=grad_fn,
            **extra,
        )
        loss = loss.astype(_require.float_dtype())
        step = Step(
            index, key, batch, lane.params, lane.state, opt_state, loss, aux, grads, updates
        )
        signals = refreshed(self.signals, signals, index, step=step)
        params = optax.apply_updates(lane.params, updates)
        return Lane(params, state, opt_state, signals), step

    def evaluate(self, lane: Lane, keys: Keys) -> Metrics:
        """What the task's `evaluate` returns for this run, as float32 scalars.

        They are float32 under x64 too: a sweep keeps its evaluations in that dtype.
        """
        evaluate = self.task.evaluate
        if evaluate is None:
            return {}
        arguments = (lane.params, lane.state) if self.task.stateful else (lane.params,)
        if takes_key(evaluate, len(arguments), "evaluate"):
            # Derived from the key of `init`. lrax folds no other number into that key.
            arguments = (*arguments, jax.random.fold_in(keys.init, 1))
        metrics = self.rewrite(evaluate)(*arguments)
        if not isinstance(metrics, dict) or any(jnp.shape(value) for value in metrics.values()):
            raise TypeError(f"`evaluate` must return a dict of scalars, got {metrics!r}")
        return {name: jnp.asarray(value, jnp.float32) for name, value in metrics.items()}

    def _loss(self, state: State, batch: Batch, key: jax.Array) -> Callable[[Params], Any]:
        """The loss as a function of the parameters: `(loss, (new state, scalars of aux))`."""
        before = (state,) if self.task.stateful else ()
        takes = takes_key(self.task.loss, 2 + len(before), "loss")
        after = (batch, key) if takes else (batch,)

        def loss_of(params: Params) -> tuple[jax.Array, tuple[State, dict[str, jax.Array]]]:
            output = self.task.loss(params, *before, *after)
            loss, rest = _loss_and_rest(output)
            if not self.task.stateful:
                return loss, (None, _scalars(rest))
            new, aux = _state_and_aux(state, rest)
            return loss, (new, _scalars(aux))

        return loss_of


def bound(
    task: TaskLike,
    optimizer: Optimizer,
    hyperparams: Hyperparams,
    signals: Signals | None = None,
    rewrite: Rewrite | None = None,
) -> Run:
    """The run of a task, or of a function that returns one, with these hyperparameters.

    A hyperparameter goes to the optimizer, to the task's function, or to both: to each that has a
    parameter of this name, or takes `**kwargs`.
    """
    if not isinstance(task, Task):
        task = built_task(task, hyperparams)
    options = {} if rewrite is None else {"rewrite": rewrite}
    return Run(task, transformation(optimizer, hyperparams), signals or {}, **options)


def built_task(function: Callable[..., Task], hyperparams: Hyperparams) -> Task:
    """The task that a function of hyperparameters returns."""
    task = function(**taken(function, hyperparams))
    if not isinstance(task, Task):
        raise TypeError(f"`task` must be a lrax.Task or a function that returns one, got {task!r}")
    return task


def initial(task: Task, keys: Keys) -> tuple[Params, State]:
    """The parameters of a run, and the state of a stateful model or None."""
    params = task.init(keys.init)
    if not task.stateful:
        return params, None
    if not (isinstance(params, tuple) and len(params) == 2):
        raise TypeError(
            f"`init` of a stateful task must return (params, state), got {type(params).__name__}"
        )
    return params


def as_start(
    given: Any, params_like: Params, state_like: State | None
) -> tuple[Params, State | None]:
    """What a run starts from: the parameters, and the state or None if it was not given.

    Parameters may themselves be a pair. So the value given is compared with the structure of what
    `init` returns, to tell parameters from (params, state).

    Args:
      given: The argument `params` of a caller.
      params_like: The parameters that `init` returns, or their shapes.
      state_like: The state beside them; None for a task that is not stateful.
    """
    structure = jax.tree.structure(given)
    if state_like is not None and structure == jax.tree.structure((params_like, state_like)):
        return given
    if structure != jax.tree.structure(params_like):
        raise ValueError(
            f"`params` must have the structure of the task's, {jax.tree.structure(params_like)},"
            f" got {structure}"
        )
    return given, None


@contextlib.contextmanager
def _hint_of_a_state(task: Task, params: Params) -> Iterator[None]:
    """Adds a hint to any error if the parameters may be a (params, state) of a stateful model.

    That is so if the task is not stateful and the parameters are a plain tuple of two.
    """
    try:
        yield
    except Exception as error:
        if not task.stateful and type(params) is tuple and len(params) == 2:
            error.add_note(
                "`init` of the task returned a pair, which is taken for the parameters. If it is"
                " (params, state), give the `lrax.Task` the argument `stateful=True`."
            )
        raise


def _taking(function: Callable[[Params], Any], extra: Mapping[str, Any]) -> Callable[..., Any]:
    """A function of the parameters that also takes, and ignores, the extra arguments of `update`.

    Optax's line searches pass their extra arguments on to `value_fn`, if its signature names them.
    They raise an error for an argument that neither they nor `value_fn` name, so the signature
    names all of them. It names `grad_fn` too, which the line searches have no parameter for.
    """

    def call(params: Params, **_: Any) -> Any:
        return function(params)

    by_name = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in extra]
    by_name.append(inspect.Parameter("grad_fn", inspect.Parameter.KEYWORD_ONLY))
    first = inspect.Parameter("params", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    signature = inspect.Signature([first, *by_name])
    call.__signature__ = signature  # pyright: ignore[reportFunctionMemberAccess]
    return call


def _loss_and_rest(output: Any) -> tuple[jax.Array, Any]:
    """The loss, and the second value that the task's `loss` returned, or None."""
    loss, rest = output if isinstance(output, tuple) and len(output) == 2 else (output, None)
    if loss is None:
        raise TypeError("`loss` must return a scalar or (scalar, aux), got None")
    loss = jnp.asarray(loss)
    if loss.shape != ():
        raise TypeError(
            f"`loss` must return a scalar or (scalar, aux), got a loss of shape {loss.shape}"
        )
    return loss, rest


def _state_and_aux(old: State, rest: Any) -> tuple[State, Any]:
    """The new state and aux, from a `state` or a `(state, aux)`.

    A state may itself be a pair, so the two are told apart by the structure of the old state.
    """
    structure = jax.tree.structure(old)
    if jax.tree.structure(rest) == structure:
        return rest, None
    is_pair = isinstance(rest, tuple) and len(rest) == 2
    if is_pair and jax.tree.structure(rest[0]) == structure:
        return rest
    raise TypeError(
        "`loss` of a stateful task must return (scalar, state) or (scalar, (state, aux)), with a"
        f" state like that of `init`, {structure}, got {jax.tree.structure(rest)}"
    )


def _scalars(aux: Any) -> dict[str, jax.Array]:
    """The scalars of a loss's aux; everything else is dropped."""
    if not isinstance(aux, Mapping):
        return {}
    dtype = _require.float_dtype()
    is_number = lambda value: isinstance(value, (int, float, jax.Array)) and jnp.ndim(value) == 0
    return {name: jnp.asarray(value, dtype) for name, value in aux.items() if is_number(value)}
