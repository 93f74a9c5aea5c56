"""`Task`: what is trained."""

import dataclasses
import inspect
from collections.abc import Callable, Iterable
from typing import Any

from .batches import Minibatches, check_batch

Batches = Minibatches | Callable[..., Any] | Iterable[Any]

# A second parameter with one of these names is the state of a model: not the batch of a `loss`, and
# not the key of an `evaluate`.
_STATES = ("state", "model_state", "batch_stats")


@dataclasses.dataclass(frozen=True, eq=False)
class Task:
    """What is trained: everything except the optimizer, as functions and a source of batches.

    The functions are traced, compiled and mapped over the runs of a sweep, so they must be pure.
    Arrays that they close over, or that are bound in a `jax.tree_util.Partial`, become arguments of
    the compiled program and are stored once for all runs.

    Args:
      init: `init(key) -> params`, the parameters at the start. Any pytree of arrays.
      loss: `loss(params, batch) -> scalar`, or `loss(params, batch, key)` when it draws random
        numbers, as dropout does; `key` is new in every step. It may return `(scalar, aux)` instead.
        If `aux` is a dict, its scalars are recorded at every step; everything else is dropped.
      batch: `lrax.minibatches(arrays, size=...)`; or a pure function `batch(step, key) -> batch`
        whose `key` is new in every step; or, for `lrax.sweep` only, batches from the host: any
        iterable of batches, such as a list, a PyTorch `DataLoader` or a grain iterator, or a
        generator function without arguments. Batches from the host are read ahead while the device
        works. They come in the order of their source, and are the same for all lanes; see
        `lrax.Stream`.
      evaluate: `evaluate(params) -> {name: scalar}`, such as the loss and accuracy on held-out
        data, or `evaluate(params, key)`; or `None`.
      stateful: Whether the model has state that training updates without a gradient, such as the
        running statistics of batch norm. Then `init(key) -> (params, state)`, `loss(params, state,
        batch[, key]) -> (scalar, state)` or `(scalar, (state, aux))`, and `evaluate(params,
        state[, key])`.

    Raises:
      TypeError: if an argument is not as described.

    Example:
      >>> x = np.linspace(-1.0, 1.0, 64, dtype=np.float32)
      >>> task = lrax.Task(
      ...     init=lambda key: jax.random.normal(key),
      ...     loss=lambda params, batch: jnp.mean((params * batch["x"] - batch["y"]) ** 2),
      ...     batch=lrax.minibatches({"x": x, "y": 3 * x}, size=16),
      ...     evaluate=lambda params: {"error": abs(params - 3)},
      ... )
      >>> trained = lrax.train(task, optax.sgd, steps=50)(0.5, jax.random.key(0))
      >>> print(round(float(trained.params), 3))
      3.0
    """

    init: Callable[..., Any]
    loss: Callable[..., Any]
    batch: Batches
    evaluate: Callable[..., Any] | None = None
    _: dataclasses.KW_ONLY
    stateful: bool = False

    def __post_init__(self) -> None:
        for name in ("init", "loss"):
            if not callable(getattr(self, name)):
                raise TypeError(f"`{name}` must be a function, got {getattr(self, name)!r}")
        if self.evaluate is not None and not callable(self.evaluate):
            raise TypeError(f"`evaluate` must be a function or None, got {self.evaluate!r}")
        check_batch(self.batch)
        if not isinstance(self.stateful, bool):
            raise TypeError(f"`stateful` must be a bool, got {self.stateful!r}")


def takes_key(function: Callable[..., Any], before: int, name: str) -> bool:
    """Whether a function takes a key after its `before` positional arguments.

    Args:
      function: A loss or an `evaluate`.
      before: The number of arguments before the key.
      name: What error messages call the function.
    """
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # a callable without a readable signature
        return False
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    by_name = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is p.empty]
    # `functools.partial` makes every parameter after one that it binds by name keyword-only.
    if by_name:
        raise TypeError(
            f"`{name}` must take its arguments by position, got {', '.join(by_name)}"
            " by keyword only"
        )
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        # A wrapper with `*args` passes on whatever it gets. A loss behind it gets the key. An
        # `evaluate` does not: it got no key in earlier versions, and may not expect one.
        return name == "loss"
    required = [p for p in positional if p.default is p.empty]
    # Only the loss or the `evaluate` of a task without state has these numbers of arguments before
    # the key. With `stateful=True` there is one more.
    stateless = before == {"loss": 2, "evaluate": 1}.get(name)
    # `loss(params, state, key)` is not refused. It ends in a key, so `state` is its batch, such as
    # the state of an environment.
    with_key = name == "loss" and bool(required) and required[-1].name in ("key", "rng")
    second = required[1].name if len(required) == before + 1 and not with_key else ""
    if stateless and (len(required) > before + 1 or second in _STATES):
        words = "params, batch" if name == "loss" else "params"
        raise TypeError(
            f"`{name}` must take ({words}) and optionally a key, got"
            f" {inspect.signature(function)}; a model with a state needs `stateful=True`"
        )
    if len(positional) < before and name == "loss":
        words = ("params", "state", "batch") if before == 3 else ("params", "batch")
        raise TypeError(
            f"`{name}` must take ({', '.join(words)}) and optionally a key,"
            f" got {inspect.signature(function)}"
        )
    # A further parameter with a default, as in `loss(params, batch, scale=1.0)`, is a setting and
    # not the key, unless it is called `key` or `rng`.
    return len(positional) > before and (
        positional[before].default is inspect.Parameter.empty
        or positional[before].name in ("key", "rng")
    )
