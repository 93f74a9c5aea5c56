"""Training as a pure function, and the one step that a single run and every lane of a sweep share."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import optax
from jax import lax, numpy as jnp

from .. import _require
from .batches import Minibatches
from .optimizer import first_parameter
from .streams import from_host, is_source
from .task import Task, takes_key

Optimizer = Callable[..., optax.GradientTransformation]
Rewrite = Callable[[Callable[..., Any]], Callable[..., Any]]


class Trained(NamedTuple):
    """What `lrax.train` returns."""

    losses: jax.Array  # shape=(steps,); at each step, of the parameters before its update
    params: Any  # as the task's `init` returns them


class Lane(NamedTuple):
    """One run under way."""

    params: Any
    state: Any  # of a stateful model, else None
    opt_state: optax.OptState


class Keys(NamedTuple):
    """The keys of one run: for its parameters, its data, and the loss's own random numbers."""

    init: jax.Array
    data: jax.Array
    loss: jax.Array


def train(task: Task, optimizer: Optimizer, *, steps: int) -> Callable[..., Trained]:
    """Training as a pure function of hyperparameters and key.

    Use it where `lrax.sweep` is more than is wanted: `jax.jit(jax.vmap(train, in_axes=(0, None)))`
    is a whole sweep in one program, and its lanes are those of `lrax.sweep`, whose seed `s` is the
    key `jax.random.key(s)`.

    Args:
      task: What is trained.
      optimizer: Function from hyperparameters to an `optax.GradientTransformation`, such as
        `optax.adam` or `lambda lr, wd: optax.adamw(lrax.warmup_cosine(lr, 1000, 100),
        weight_decay=wd)`. They arrive as tracers.
      steps: Optimizer updates, at least 1.

    Returns:
      `train(hyperparams, key) -> (losses, params)`. `hyperparams` is a dict by the optimizer's
      argument names, or a number for its first. `losses` has the shape `[steps]`; each is taken
      before its update.

    Raises:
      ValueError: if `steps` is below 1.
      TypeError: if an argument is not as described.

    Example:
      >>> task = lrax.tasks.diabetes()
      >>> train = lrax.train(task, optax.sgd, steps=20)
      >>> rates = {"learning_rate": jnp.array([0.0, 0.01, 0.1])}
      >>> losses, params = jax.jit(jax.vmap(train, in_axes=(0, None)))(rates, jax.random.key(0))
      >>> losses.shape
      (3, 20)
    """
    steps = _require.count("steps", steps, 1)
    check_task(task)
    if is_source(task.batch):
        raise TypeError(
            "`task` must have batches that a pure function draws, `lrax.minibatches` or a function of (step, key), got"
            f" a {type(task.batch).__name__}: batches from the host are for `lrax.sweep`"
        )
    first = first_parameter(optimizer)

    def run(hyperparams: Mapping[str, Any] | Any, key: jax.Array) -> Trained:
        if not isinstance(hyperparams, Mapping):
            hyperparams = {first: hyperparams}
        keys = split(key)
        lane = start(optimizer, hyperparams, *initial(task, keys.init))

        def body(lane, xs):
            index, row = xs
            batch = draw(task, keys, index, row)
            lane, loss, _ = step(task, optimizer, hyperparams, lane, batch, loss_key(keys, index))
            return lane, loss

        lane, losses = lax.scan(body, lane, (jnp.arange(steps), rows(task, keys, 0, steps)))
        return Trained(losses, trained(task, lane))

    return run


def check_task(task: Any) -> None:
    """Requires a `Task`."""
    if not isinstance(task, Task):
        raise TypeError(f"`task` must be a lrax.Task, got {type(task).__name__}")


def split(key: jax.Array) -> Keys:
    """The keys of the run with this key."""
    return Keys(*jax.random.split(key, 3))


def loss_key(keys: Keys, index: Any) -> jax.Array:
    """The key of the loss at one step."""
    return jax.random.fold_in(keys.loss, index)


def rows(task: Task, keys: Keys, first: Any, steps: int) -> jax.Array | None:
    """What must be drawn ahead for the batches of `steps` steps: the shuffled indices of minibatches."""
    return task.batch.rows(first, steps, keys.data) if isinstance(task.batch, Minibatches) else None


def draw(task: Task, keys: Keys, index: Any, row: jax.Array | None) -> Any:
    """The batch of one step."""
    if isinstance(task.batch, Minibatches):
        return task.batch.take(row)
    if task.batch is from_host:
        return row
    assert callable(task.batch)
    return task.batch(index, jax.random.fold_in(keys.data, index))


def initial(task: Task, key: jax.Array) -> tuple[Any, Any]:
    """The parameters of a run, and the state of a stateful model or `None`."""
    params = task.init(key)
    if not task.stateful:
        return params, None
    if not (isinstance(params, tuple) and len(params) == 2):
        raise TypeError("`init` of a stateful task must return (params, state)")
    return params


def start(optimizer: Optimizer, hyperparams: Mapping[str, Any], params: Any, state: Any) -> Lane:
    """A run before its first step."""
    return Lane(params, state, _build(optimizer, hyperparams).init(params))


def step(
    task: Task,
    optimizer: Optimizer,
    hyperparams: Mapping[str, Any],
    lane: Lane,
    batch: Any,
    key: jax.Array,
    *,
    rewritten: Rewrite = lambda function: function,
) -> tuple[Lane, jax.Array, dict[str, jax.Array]]:
    """One update of one run: its loss before the update, and the scalars of the loss's `aux`.

    The loss and its gradient are computed as `rewritten` says.
    """
    arguments = (batch, key) if takes_key(task.loss, stateful=task.stateful) else (batch,)

    def loss_fn(params):
        if not task.stateful:
            loss, aux = _loss_and_aux(task.loss(params, *arguments))
            return loss, (None, _scalars(aux))
        loss, rest = _loss_and_aux(task.loss(params, lane.state, *arguments))
        state, aux = _state_and_aux(lane.state, rest)
        return loss, (state, _scalars(aux))

    def value_fn(params, **_):
        return rewritten(loss_fn)(params)[0]

    (loss, (state, aux)), grads = rewritten(jax.value_and_grad(loss_fn, has_aux=True))(lane.params)
    # Rules that follow the loss, and line searches, take these by Optax's names; the others ignore
    # them.
    updates, opt_state = _build(optimizer, hyperparams).update(
        grads, lane.opt_state, lane.params, value=loss, grad=grads, value_fn=value_fn
    )
    lane = Lane(optax.apply_updates(lane.params, updates), state, opt_state)
    return lane, loss.astype(_require.float_dtype()), aux


def trained(task: Task, lane: Lane) -> Any:
    """The parameters of a run, as the task's `init` returns them."""
    return (lane.params, lane.state) if task.stateful else lane.params


def _build(
    optimizer: Optimizer, hyperparams: Mapping[str, Any]
) -> optax.GradientTransformationExtraArgs:
    transformation = optimizer(**hyperparams)
    if not (
        callable(getattr(transformation, "init", None))
        and callable(getattr(transformation, "update", None))
    ):
        raise TypeError(
            f"`optimizer` must return an optax.GradientTransformation, got {transformation!r}"
        )
    return optax.with_extra_args_support(transformation)


def _loss_and_aux(output: Any) -> tuple[jax.Array, Any]:
    loss, aux = output if isinstance(output, tuple) and len(output) == 2 else (output, None)
    loss = jnp.asarray(loss)
    if loss.shape != ():
        raise TypeError(
            f"`loss` must return a scalar or (scalar, aux), got a loss of shape {loss.shape}"
        )
    return loss, aux


def _state_and_aux(old: Any, rest: Any) -> tuple[Any, Any]:
    """Tells `state` from `(state, aux)` by the structure of the state, which may be a pair itself."""
    structure = jax.tree.structure(old)
    if jax.tree.structure(rest) == structure:
        return rest, None
    if isinstance(rest, tuple) and len(rest) == 2 and jax.tree.structure(rest[0]) == structure:
        return rest
    raise TypeError(
        "`loss` of a stateful task must return (scalar, state) or (scalar, (state, aux)) with a state like the one of"
        f" `init`, {structure}, got {jax.tree.structure(rest)}"
    )


def _scalars(aux: Any) -> dict[str, jax.Array]:
    if not isinstance(aux, Mapping):
        return {}
    arrays = {
        name: value for name, value in aux.items() if isinstance(value, (int, float, jax.Array))
    }
    return {
        name: jnp.asarray(value, _require.float_dtype())
        for name, value in arrays.items()
        if jnp.ndim(value) == 0
    }
