"""`Schedule`: a learning-rate schedule as a value.

A schedule is a static formula and a dict of hyperparameters. Two plain functions make a new kind of
schedule. The builder documents and checks its arguments and returns `Schedule(_formula, {...})`.
The formula stands below it and is declared with `@builder(...)`. From this declaration a schedule
knows how to print itself, and `replace` knows how to build it again.
"""

from __future__ import annotations

import dataclasses
import inspect
import numbers
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp
from jax.core import Tracer
from jax.typing import ArrayLike

from .. import _require
from . import builders, display, lanes, plain
from .builders import builder
from .counts import as_count
from .span import span


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Static:
    """A string, a flag or a function as a hyperparameter: pytree structure, and not a leaf."""

    value: Any

    def __repr__(self) -> str:
        return repr(self.value)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Schedule:
    r"""A learning-rate schedule: a pytree of its hyperparameters, step counts included.

    `schedule(count)` is the rate of the optimizer update with the 0-based index `count`, so a
    `Schedule` serves wherever Optax takes a schedule. It is also a value. `jax.jit` takes it as an
    argument and does not recompile when a number changes; `jax.vmap` maps it over any of its
    numbers. It can be differentiated, stored in a checkpoint and printed:

    - `schedule.replace(peak=3e-4)`: the same schedule with other numbers, checked as the builder
      checks them;
    - `schedule.values(steps)`: the rates of the updates 0 to `steps - 1`;
    - `schedule * other`, `schedule + other`: schedules again; `other` is a schedule, a number or
      any function of the count.

    Schedules are made by builders such as `lrax.warmup_cosine`. To make one from a formula of your
    own, pass a function and the numbers that it takes. Define the function at the top level of a
    module, so that it can be pickled and is compiled only once.

    Args:
      formula: Function of `(count, **hyperparams)` that returns the rate. `count` is an array of
        any shape: of integers if the caller passes integers, otherwise of floats.
      hyperparams: The formula's hyperparameters by name: numbers, arrays, tracers, or schedules.

    Example:
      >>> schedule = lrax.warmup_cosine(peak=1e-3, steps=1000, warmup=100)
      >>> schedule
      warmup_cosine(peak=0.001, steps=1000, warmup=100, init=0, end=0)
      >>> float(schedule(50))
      0.0005
      >>> peaks = lrax.log_grid(1e-4, 1e-2, 3)
      >>> jax.vmap(lambda peak: schedule.replace(peak=peak)(50))(peaks)
      Array([5.e-05, 5.e-04, 5.e-03], dtype=float32)
    """

    # `eq` is off: `jax.jit(schedule)` hashes the schedule, and a generated hash would fail on the
    # hyperparameters. There is no `__post_init__` that checks them: a transformation rebuilds the
    # class with other objects, such as tracers, in place of the leaves.
    formula: Callable[..., Any] = dataclasses.field(metadata={"static": True})
    hyperparams: dict[str, Any]

    __array_ufunc__ = None  # so that `np.float32(2) * schedule` calls `__rmul__`

    def __call__(self, count: ArrayLike) -> jax.Array:
        """The rate of the update with this 0-based index; rates for an array of counts."""
        count = as_count(_as_counts("count", count))
        rates = lanes.mapped_over(self, count)  # None for a schedule without lanes
        if rates is not None:
            return rates
        # Concrete hyperparameters are NumPy arrays, and NumPy evaluates both branches of a `where`.
        # It would warn of a division by zero or an overflow in the branch that is not taken.
        with np.errstate(all="ignore"):
            rate = self.formula(count, **_plain(self.hyperparams))
            rate = jnp.asarray(rate, _require.float_dtype())
        shape = np.broadcast_shapes(rate.shape, count.shape)
        return rate if rate.shape == shape else jnp.broadcast_to(rate, shape)

    def replace(self, **hyperparams: Any) -> Schedule:
        """The same schedule with other hyperparameters, checked as its builder checks them.

        Args:
          **hyperparams: New values under the builder's argument names.

        Returns:
          A new `Schedule`; this one is unchanged.

        Raises:
          TypeError: if a name is not one of this schedule's hyperparameters.

        Example:
          >>> lrax.cosine(peak=0.1, steps=100).replace(steps=200)
          cosine(peak=0.1, steps=200, end=0)
        """
        known = self._shown()
        unknown = sorted(hyperparams.keys() - known.keys())
        if unknown:
            name = builders.name_of(self.formula)
            raise TypeError(f"`{name}` has no hyperparameter {unknown}; it has {list(known)}")
        declaration = builders.declared(self.formula)
        if declaration is None:
            return Schedule(self.formula, {**self.hyperparams, **_require.real(**hyperparams)})
        arguments, keywords = _arguments(declaration.build, {**_plain(known), **hyperparams})
        return declaration.build(*arguments, **keywords)

    def values(self, steps: int | ArrayLike) -> jax.Array:
        """The rates of the updates 0 to `steps - 1`, or at the given counts.

        Args:
          steps: How many updates, or an array of counts of shape `[n]`.

        Returns:
          Array of shape `[n]`; `[lanes, n]` where the hyperparameters have a lane axis.

        Example:
          >>> lrax.linear(init=1.0, end=0.0, steps=4).values(6)
          Array([1.  , 0.75, 0.5 , 0.25, 0.  , 0.  ], dtype=float32)
        """
        if isinstance(steps, (int, np.integer)):
            counts = np.arange(_require.count("steps", steps, 0))
        else:
            counts = _as_counts("steps", steps)
            if counts.ndim != 1:
                raise ValueError(
                    f"`steps` must be an int or an array of one axis, got shape {counts.shape}"
                )
        # `vmap` puts the counts first, in front of the lanes.
        return jnp.moveaxis(jax.vmap(self)(jnp.asarray(counts)), 0, -1)

    def to_dict(self) -> dict[str, Any]:
        """The schedule as a dict for JSON: the builder's name and its arguments.

        `json.dumps` takes the dict, and `Schedule.from_dict` gives the schedule back.

        Returns:
          A dict with the entries "schedule" and "arguments". A schedule among the arguments is
          such a dict too.

        Raises:
          ValueError: if the schedule holds a function, a formula of your own, or a traced number.

        Example:
          >>> lrax.constant(0.5).to_dict()
          {'schedule': 'constant', 'arguments': {'value': 0.5}}
        """
        return plain.to_dict(self)

    @classmethod
    def from_dict(cls, described: Any) -> Schedule:
        """The schedule that `to_dict` described.

        Only builders of lrax are called, and no other code is run, so the dict may come from a file
        that you do not trust.

        Args:
          described: What `to_dict` returned, or the same read by `json.loads`.

        Returns:
          A `Schedule`.

        Raises:
          ValueError: if `described` is not such a dict, does not name a builder of lrax, is deeper
            than 50 levels, or has an argument that the builder refuses.
          TypeError: if an argument has the wrong type.

        Example:
          >>> lrax.Schedule.from_dict({"schedule": "constant", "arguments": {"value": 0.5}})
          constant(value=0.5)
        """
        return plain.from_dict(described)

    def span(self) -> int | None:
        """The number of updates that a picture shows; None if a hyperparameter is traced.

        If the rate stays constant after the schedule's end, the picture extends a tenth beyond it.
        """
        return span(self)

    def _repr_html_(self) -> str | None:
        return display.html(self)

    def __mul__(self, other: Any) -> Schedule:
        return multiply(self, other) if _is_schedule_like(other) else NotImplemented

    __rmul__ = __mul__

    def __add__(self, other: Any) -> Schedule:
        return add(self, other) if _is_schedule_like(other) else NotImplemented

    __radd__ = __add__

    def __repr__(self) -> str:
        declaration = builders.declared(self.formula)
        shown = self._shown()
        arguments, keywords = _arguments(declaration.build, shown) if declaration else ((), shown)
        parts = [leaf_text(value) for value in arguments]
        # An argument that may be None has None as its default. So None need not be shown.
        parts += [
            f"{name}={leaf_text(value)}" for name, value in keywords.items() if value is not None
        ]
        return f"{builders.name_of(self.formula)}({', '.join(parts)})"

    def _shown(self) -> dict[str, Any]:
        """The builder's arguments. For most formulas they are the hyperparameters."""
        declaration = builders.declared(self.formula)
        if declaration is None or declaration.shown is None:
            return dict(self.hyperparams)
        return declaration.shown(self.hyperparams)


def _as_counts(name: str, value: Any) -> jax.Array:
    """Requires a real number or an array of them, which may be traced."""
    # The values of JAX arrays are not checked: that would cost time at every update.
    if not isinstance(value, jax.Array):
        numbers = _require.as_numbers(value)
        if numbers is None or not np.all(numbers == numbers):  # a NaN is not equal to itself
            raise TypeError(f"`{name}` must be a number of updates, got {value!r}")
        # NumPy's integers wrap around in `jnp.asarray`, and Python's raise an OverflowError.
        limits = jnp.iinfo(jnp.result_type(int))  # of int32, or of int64 under x64
        if numbers.dtype.kind in "iu" and not np.all(
            (limits.min <= numbers) & (numbers <= limits.max)
        ):
            raise ValueError(f"`{name}` must fit in {limits.dtype}, got {value!r}")
        value = numbers if np.ndim(value) else value
    try:
        with np.errstate(over="ignore"):  # 1e300 is infinite in float32
            counts = jnp.asarray(value)
    except OverflowError as error:
        raise ValueError(f"`{name}` must fit in int32, got {value!r}") from error
    if not any(jnp.issubdtype(counts.dtype, kind) for kind in (jnp.integer, jnp.floating)):
        raise TypeError(f"`{name}` must be a number of updates, got {value!r}")
    return counts


def _is_schedule_like(value: Any) -> bool:
    """Whether a value is a `Schedule`, a real number or an array of them, or a function.

    For a `RateRule` the result is False, so that Python leaves `schedule * rule` to the rule. An
    array that does not hold numbers is refused later, by `as_schedule`, with an error that shows
    it.
    """
    # The class `RateRule` cannot be imported here, because its package imports this one. So a rule
    # is recognized by its attributes.
    if isinstance(value, Schedule):
        return True
    if all(hasattr(value, name) for name in ("init", "rate", "first")):
        return False
    return callable(value) or isinstance(value, numbers.Real) or hasattr(value, "__array__")


def as_schedule(value: Any, name: str = "schedule") -> Schedule:
    """Turns a number or a function of the count into a `Schedule`; a `Schedule` stays as it is."""
    if isinstance(value, Schedule):
        return value
    if callable(value):
        return Schedule(_call, {"function": Static(value)})
    try:
        number = _require.real(**{name: value})
    except TypeError as error:
        raise TypeError(
            f"`{name}` must be a number, a Schedule or a function of the count, got {value!r}"
        ) from error
    # `constant` checks this too, but its error message would call the argument `value`.
    _require.nonnegative(number, name)
    return constant(number[name])


def constant(value: ArrayLike) -> Schedule:
    r"""The same rate at every step.

    $$\eta(t) = \text{value}$$

    Use it as the simplest baseline, and as the stable phase of a composed schedule.

    Args:
      value: The rate, at least 0.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if `value` is concrete and negative, infinite or NaN.

    Example:
      >>> float(lrax.constant(0.1)(1000))
      0.1
    """
    hyperparams = _require.real(value=value)
    _require.nonnegative(hyperparams, "value")
    return Schedule(_constant, hyperparams)


@builder(constant)
def _constant(_, value):
    return value


def multiply(*schedules: Any) -> Schedule:
    r"""The product of schedules; `a * b` is the same.

    $$\eta(t) = \prod_i \eta_i(t)$$

    Use it to multiply a shape by a warmup factor, a layer's multiplier or the peak of a sweep.

    Args:
      *schedules: At least one `Schedule`, number or function of the count.

    Returns:
      A `Schedule` whose leaves are those of all factors.

    Raises:
      ValueError: if there is no factor, or a concrete number is negative, infinite or NaN.
      TypeError: if a factor is neither a `Schedule` nor a number nor a function.

    Example:
      >>> 2.0 * lrax.linear(init=1.0, end=0.0, steps=10)
      multiply(linear(init=1, end=0, steps=10), constant(value=2))
    """
    return Schedule(_multiply, {"schedules": several("multiply", schedules)})


@builder(multiply)
def _multiply(count, schedules):
    product = schedules[0](count)
    for schedule in schedules[1:]:
        product = product * schedule(count)
    return product


def add(*schedules: Any) -> Schedule:
    r"""The sum of schedules; `a + b` is the same.

    $$\eta(t) = \sum_i \eta_i(t)$$

    Use it to put a floor under a schedule that ends at zero.

    Args:
      *schedules: At least one `Schedule`, number or function of the count.

    Returns:
      A `Schedule` whose leaves are those of all terms.

    Raises:
      ValueError: if there is no term, or a concrete number is negative, infinite or NaN.
      TypeError: if a term is neither a `Schedule` nor a number nor a function.

    Example:
      >>> lrax.linear(init=1.0, end=0.0, steps=10) + 0.5
      add(linear(init=1, end=0, steps=10), constant(value=0.5))
    """
    return Schedule(_add, {"schedules": several("add", schedules)})


@builder(add)
def _add(count, schedules):
    total = schedules[0](count)
    for schedule in schedules[1:]:
        total = total + schedule(count)
    return total


def several(name: str, schedules: tuple[Any, ...]) -> tuple[Schedule, ...]:
    """Requires at least one number, function of the count or `Schedule`; returns `Schedule`s."""
    if not schedules:
        raise ValueError(f"`schedules` of `{name}` must be at least one schedule, got none")
    return tuple(as_schedule(schedule, f"schedules[{i}]") for i, schedule in enumerate(schedules))


def _function(hyperparams):
    # The builder is `as_schedule`, whose argument is named `value`.
    return {"value": hyperparams["function"]}


@builder(as_schedule, shown=_function)
def _call(count, function):
    # Optax calls its schedules with an int32 count, and a user's function may index a table with
    # it. `Schedule.__call__` silences the warnings of NumPy. They are switched on again here, so
    # that users see those of their own functions.
    whole = count if jnp.issubdtype(count.dtype, jnp.integer) else count.astype(jnp.int32)
    with np.errstate(divide="warn", over="warn", invalid="warn"):
        return function(whole)


def _plain(hyperparams: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value.value if isinstance(value, Static) else value
        for name, value in hyperparams.items()
    }


def _arguments(
    build: Callable[..., Schedule], hyperparams: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The positional arguments of a builder (its `*schedules`), and its keyword arguments.

    The keywords are put in the order of the builder's signature, because JAX sorts the keys of a
    dict.
    """
    parameters = inspect.signature(build).parameters
    keywords = {name: hyperparams[name] for name in parameters if name in hyperparams}
    positional = [
        name for name in keywords if parameters[name].kind is inspect.Parameter.VAR_POSITIONAL
    ]
    return tuple(value for name in positional for value in keywords.pop(name)), keywords


def leaf_text(value: Any) -> str:
    """A leaf as one would type it.

    A tracer, or an array of more than 64 entries, is shown by dtype and shape, as `float32[8]`.
    """
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(leaf_text, value))}]"
    if isinstance(value, (jax.Array, np.ndarray, np.generic)):
        if isinstance(value, Tracer) or value.size > 64:
            # Every float is shown with the dtype that it has in a compiled program, even if it is a
            # NumPy float64 now.
            floats = jnp.issubdtype(value.dtype, jnp.floating)
            dtype = _require.float_dtype() if floats else value.dtype
            return f"{dtype}{list(value.shape)}".replace(" ", "")
        return _digits(np.asarray(value))
    return repr(value)


def _digits(value: np.ndarray) -> str:
    if value.ndim:
        return f"[{', '.join(map(_digits, value))}]"
    number = float(value)
    with np.errstate(over="ignore"):
        rounded = np.float32(value)
    # Compare as Python floats: NumPy would cast both to float32, and they would nearly always be
    # equal.
    if float(rounded) == number and not number.is_integer():
        number = float(str(rounded))  # the shortest decimal of the float32, such as 0.1
    elif not number.is_integer():
        number = float(f"{number:.15g}")  # 15 digits, so that 0.1 * 0.1 prints as 0.01
    return str(int(number)) if number.is_integer() and abs(number) < 1e15 else repr(number)
