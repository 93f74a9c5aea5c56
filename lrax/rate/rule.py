"""`RateRule`: a rule that decides the learning rate, as three pure functions."""

import dataclasses
import numbers
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp

from .. import _require
from ..schedules.builders import name_of
from ..schedules.schedule import Schedule, as_schedule, leaf_text
from .protocol import decide, require_no_lookalike, require_numeric, require_takes

Params = Any
RuleState = Any
Functions = tuple[Callable[..., Any], Callable[..., Any], Callable[..., Any]]  # as in `RateRule`
Factor = Any  # a RateRule, a Schedule, a number, or a function of the count


@dataclasses.dataclass(frozen=True, repr=False)
class RateRule:
    r"""A rule that decides the learning rate of every update, with a state of its own.

    A schedule is a function of the step count alone. A rule may also follow the loss, the
    gradients, or any other argument of `update`. Apply it with `lrax.scale_by_lr(rule)`.

    Rules multiply. `schedule * rule`, `number * rule` and `rule * rule` are rules whose rate is the
    product of both rates. A factor without state adds nothing to the state, so a checkpoint of
    `cosine * rule` continues under `0.1 * rule`. The state of `rule * rule` is the pair of both
    states.

    A rule obeys three laws. Its state is a pytree of arrays whose shapes and dtypes never change;
    its float scalars are float32 (float64 under x64), even if the parameters are not. Its functions
    are pure, so that `jax.jit` and `jax.vmap` take them. Its `rate` accepts keyword arguments that
    it does not know.

    Args:
      init: Function of the parameters that returns the first state, `()` for a rule without state.
        It must run under `jax.eval_shape`, so it may look at shapes and dtypes but not at concrete
        values.
      rate: Function `(count, state, *, updates, params, **extra) -> (rate, state)`. `count` is the
        0-based index of the update, an int32 scalar; it is passed by position, and so is `state`.
        `updates` are the updates before the rate multiplies them; under `optax.masked` and
        `optax.partition`, only those of the group. `params` is None if the caller gives none.
        `extra` holds the other arguments of `update`: the training loss as `value`, and signals by
        their names.
      first: Function of the state that returns the rate to report before the first update. Without
        it, that rate is NaN.
      name: How the rule is printed, such as "halve(above=1.0)". A rule without a name is printed
        with the names of its functions. A product is printed as it is written.

    Raises:
      TypeError: if one of the three is not a function of these arguments, or `name` is not a str.

    Example:
      >>> def rate(count, scale, *, value, **extra):
      ...     scale = jnp.where(value > 1.0, scale / 2, scale)
      ...     return scale, scale
      >>> halve = lrax.RateRule(init=lambda params: jnp.float32(1.0), rate=rate, name="halve")
      >>> 0.1 * halve
      0.1 * halve
      >>> optimizer = lrax.scale_by_lr(0.1 * halve)
      >>> state = optimizer.init(jnp.zeros(2))
      >>> updates, state = optimizer.update(jnp.ones(2), state, value=3.0)
      >>> print(lrax.get_lr(state))
      0.05
    """

    # `repr=False` on each field: a dataclass that inherits from this one and prints itself then
    # shows only the fields that it adds.
    init: Callable[[Params], RuleState] = dataclasses.field(repr=False)
    rate: Callable[..., tuple[Any, RuleState]] = dataclasses.field(repr=False)
    first: Callable[[RuleState], Any] | None = dataclasses.field(default=None, repr=False)
    name: str | None = dataclasses.field(default=None, repr=False, compare=False)

    __array_ufunc__ = None  # NumPy then leaves `np.float32(2) * rule` to `__rmul__`

    def __post_init__(self) -> None:
        for name in ("init", "rate", "first"):
            function = getattr(self, name)
            if not callable(function) and not (name == "first" and function is None):
                raise TypeError(f"`{name}` must be a function, got {function!r}")
        for name in ("init", "rate", "first"):
            function = getattr(self, name)
            if function is not None:
                require_takes(name, function)
        if self.name is not None and not isinstance(self.name, str):
            raise TypeError(f"`name` must be a str, got {self.name!r}")

    def __repr__(self) -> str:
        if self.name is not None:
            return self.name
        functions = {name: getattr(self, name) for name in ("init", "rate", "first")}
        parts = [f"{name}={name_of(function)}" for name, function in functions.items() if function]
        return f"RateRule({', '.join(parts)})"

    def __mul__(self, other: Factor) -> "RateRule":
        return product(self, other) if _is_factor(other) else NotImplemented

    def __rmul__(self, other: Factor) -> "RateRule":
        return product(other, self) if _is_factor(other) else NotImplemented


def product(left: Factor, right: Factor) -> RateRule:
    """The rule whose rate is the product of two rates."""
    for factor in (left, right):
        # A negative factor comes from `optax.adam(rule)`: Optax takes the rule for a number and
        # multiplies it by -1.
        if isinstance(factor, (int, float)) and factor < 0:
            raise ValueError(
                f"a rule must be multiplied by a factor of at least 0, got {factor}. A rule is"
                " applied by `lrax.scale_by_lr(rule)`, as in `optax.chain(optax.scale_by_adam(),"
                " lrax.scale_by_lr(rule))`, and not by `optax.adam(rule)`."
            )
    if not isinstance(left, RateRule):
        functions = _scaled(as_rule(left, "left"), as_rule(right, "right"))
    elif not isinstance(right, RateRule):
        functions = _scaled(as_rule(right, "right"), left)
    else:
        functions = _both(left, right)
    return _Product(*functions, factors=(left, right))


@dataclasses.dataclass(frozen=True, repr=False)
class _Product(RateRule):
    """A product, which is printed as it was written."""

    # The factors are kept, and not their text. A rule may be built anew at every trace, so the text
    # is made only when `__repr__` is called.
    factors: tuple[Factor, ...] = dataclasses.field(default=(), compare=False)

    def __repr__(self) -> str:
        left, right = self.factors
        return f"{_factor_text(left)} * {_factor_text(right, nested=True)}"


def _factor_text(factor: Factor, *, nested: bool = False) -> str:
    if isinstance(factor, RateRule):
        # Parentheses matter: the state of `a * (b * c)` is `(a, (b, c))`, not `((a, b), c)`.
        return f"({factor!r})" if nested and isinstance(factor, _Product) else repr(factor)
    if isinstance(factor, Schedule) or not callable(factor):
        return leaf_text(factor)
    return name_of(factor)


def _both(left: RateRule, right: RateRule) -> Functions:
    def init(params: Params) -> RuleState:
        return left.init(params), right.init(params)

    def rate(count: jax.Array, state: RuleState, /, **arguments: Any) -> tuple[Any, RuleState]:
        left_rate, left_state = decide(left, count, state[0], arguments)
        right_rate, right_state = decide(right, count, state[1], arguments)
        return left_rate * right_rate, (left_state, right_state)

    def first(state: RuleState) -> Any:
        return first_rate(left, state[0]) * first_rate(right, state[1])

    return init, rate, first


def _scaled(stateless: RateRule, rule: RateRule) -> Functions:
    # The state is the rule's own, so that a checkpoint can be resumed under another schedule.
    def rate(count: jax.Array, state: RuleState, /, **arguments: Any) -> tuple[Any, RuleState]:
        factor, _ = decide(stateless, count, (), arguments)
        rate, state = decide(rule, count, state, arguments)
        return factor * rate, state

    def first(state: RuleState) -> Any:
        return first_rate(stateless, ()) * first_rate(rule, state)

    return rule.init, rate, first


def first_rate(rule: RateRule, state: RuleState) -> Any:
    """The rate to report before the first update: NaN for a rule without `first`."""
    if rule.first is None:
        return jnp.nan
    rate = rule.first(state)
    require_numeric("first rate is a number", rate)
    return rate


def as_rule(value: Factor, name: str) -> RateRule:
    """Turns a number, a `Schedule` or a function of the count into a rule without state.

    A rule is returned as it is.
    """
    if isinstance(value, RateRule):
        return value
    require_no_lookalike(name, value)
    if isinstance(value, Schedule) or callable(value):
        schedule = as_schedule(value, name)
    else:
        number = _number(value, name)
        schedule = lambda _: number

    def init(params: Params) -> RuleState:
        del params
        return ()

    def rate(count: jax.Array, state: RuleState, /, **arguments: Any) -> tuple[Any, RuleState]:
        del arguments
        return schedule(count), state

    def first(state: RuleState) -> Any:
        del state
        return schedule(jnp.zeros([], jnp.int32))

    return RateRule(init, rate, first)


def one_rate(rate: Any, name: str = "learning_rate") -> Any:
    """Requires a scalar, and returns it."""
    if jnp.ndim(rate):
        raise ValueError(
            f"`{name}` must be a scalar, got one of shape {jnp.shape(rate)}. For a rate per lane,"
            " go through `jax.vmap`; for one per group of parameters, through `optax.partition`."
        )
    return rate


def _number(value: Any, name: str) -> Any:
    try:
        values = _require.real(**{name: value})
    except TypeError as error:
        raise TypeError(
            f"`{name}` must be a number, a Schedule, a function of the count or a RateRule,"
            f" got {value!r}"
        ) from error
    one_rate(values[name], name)
    _require.nonnegative(values, name)
    return values[name]


def _is_factor(value: Any) -> bool:
    numeric = isinstance(value, (numbers.Real, np.ndarray, np.generic, jax.Array))
    return numeric or callable(value) or isinstance(value, (RateRule, Schedule))
