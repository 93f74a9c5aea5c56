"""Shapes: how a phase goes from its start value to its end value."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax import lax, numpy as jnp
from jax.tree_util import Partial

from .. import _require
from .concrete import known, library
from .counts import reached as _reached, real
from .schedule import Static

SHORTEST = 2.0**-30  # a phase's length is raised to at least this before it divides
FEW = 8  # up to this many joins, `pick` compares the count with each one


def progress(done: Any, left: Any, steps: Any) -> tuple[Any, Any]:
    """The fractions done and left of a phase of `steps` steps, from 0 to 1."""
    return _part_done(done, left, steps), _part_left(left, steps)


def _part_done(done, left, steps):
    # The 1 at the end comes from `where`, not from the division: XLA may multiply by the reciprocal
    # of a known length, and 41 * (1 / 41) is not 1. A phase of length 0 is a jump.
    length = library(steps).maximum(steps, SHORTEST)
    return jnp.where(left > 0, jnp.maximum(real(done) / length, 0), 1)


def _part_left(left, steps):
    length = library(steps).maximum(steps, SHORTEST)
    return jnp.where(real(left) < length, jnp.maximum(real(left) / length, 0), 1)


def between(
    start: Any,
    end: Any,
    done: Any,
    left: Any,
    steps: Any,
    shape: str | Callable[[Any], Any] = "linear",
) -> Any:
    """The value in a phase from `start` to `end`: exact at both ends, held outside.

    The steps `left` are an argument, although they are `steps - done`. A caller has them exactly,
    as the last step minus the count. If the phase begins at a fractional step and the count is
    large, `done` is already rounded.
    """
    if isinstance(shape, str) and shape in CURVES:
        return CURVES[shape](start, end, *progress(done, left, steps))
    p = _part_done(done, left, steps)
    way = SHAPES[shape](p, steps) if isinstance(shape, str) else shape(p)
    return start * (1 - way) + end * way


def as_shape(name: str, shape: Any) -> Any:
    """A shape as a hyperparameter: a word, or a function of the fraction of steps done.

    The numbers that a `jax.tree_util.Partial` holds become leaves.
    """
    if isinstance(shape, Partial):
        return jax.tree.map(lambda leaf: _require.real(**{name: leaf})[name], shape)
    if not callable(shape):
        _require.choice(name, shape, [*SHAPES, *CURVES])
    return Static(shape)


def require_end(hyperparams: Mapping[str, Any], name: str, shape: Any) -> None:
    """Requires an end above 0 for shapes whose curve to 0 would be 0 right after its start."""
    if isinstance(shape, str) and shape in ("geometric", "inverse"):
        _require.positive(hyperparams, name)


def half_wave(x: Any) -> Any:
    """`(1 - cos(pi x)) / 2` for x from 0 to 1, accurate near 0.

    The form with the cosine loses digits there: its power with an exponent below 1 would be off by
    2e-4.
    """
    return jnp.sin(np.pi / 2 * x) ** 2


def _exp10(p, _):
    return jnp.where(p < 1, (1 - 10**-p) / (1 - 0.1), 1)  # rounded, the quotient may not be 1


def _log(p, steps):
    xp = library(steps)
    whole = xp.where(steps > 0, xp.log1p(steps), 1)
    return jnp.where(p < 1, jnp.log1p(p * steps) / whole, 1)


def _sqrt(start, end, _, q):
    root = sqrt(q)  # of q, because 1 - p loses digits near the end and a root magnifies the error
    return start * root + end * (1 - root)


def _geometric(start, end, p, q):
    # The power is of low / high, which is at most 1. For a ratio above 1, the rounding of the
    # exponent would be magnified. A ramp from or to zero is zero in between.
    xp = library(start, end)
    rises = end > start
    high, low = xp.where(rises, end, start), xp.where(rises, start, end)
    away = jnp.where(rises, q, p)
    inside = high * power(low / xp.where(high > 0, high, 1), away)
    return jnp.where(away < 1, inside, low)


def _inverse(start, end, p, q):
    whole = start * p + end * q
    inside = start * end / jnp.where(whole > 0, whole, 1)
    return jnp.where(p <= 0, start, jnp.where(q <= 0, end, inside))


def sqrt(x: Any) -> Any:
    """Square root with gradient 0 at 0, where the true one is infinite and would make a NaN."""
    return jnp.where(x > 0, jnp.sqrt(jnp.where(x > 0, x, 1)), 0)


@jax.custom_jvp
def power(x: Any, exponent: Any) -> Any:
    """`x ** exponent` for `x >= 0`, with gradient 0 at `x == 0`."""
    return x**exponent


@power.defjvp
def _power_jvp(primals, tangents):
    x, exponent = primals
    value, some = power(x, exponent), x > 0
    base = jnp.where(some, x, 1)
    of_x = jnp.where(some, exponent * base ** (exponent - 1), 0)
    return value, of_x * tangents[0] + value * jnp.log(base) * tangents[1]


def reached(count: Any, boundaries: Any) -> Any:
    """Which boundaries lie at or before each count; shape `[*counts, boundaries]`."""
    boundaries = boundaries if known(boundaries) else jnp.asarray(boundaries)
    return _reached(count[..., None], boundaries.reshape((1,) * count.ndim + boundaries.shape))


def pick(count: Any, joins: Any, *rows: Any) -> list[Any]:
    """The entry `i` of each row, where `i` is the number of joins at or before the count."""
    if len(joins) > FEW:
        i = jnp.sum(reached(count, joins), axis=-1)
        return [jnp.asarray(row)[i] for row in rows]
    # A few comparisons take less time to compile than a table that is indexed.
    picked = [row[0] for row in rows]
    for k, join in enumerate(joins, 1):
        past = _reached(count, join)
        picked = [jnp.where(past, row[k], so_far) for row, so_far in zip(rows, picked, strict=True)]
    return picked


def most_power(x: Any) -> Any:
    """The largest exponent that powers of `x` use. It gives e^80 or e^-80, and is at least 1.

    A larger one could overflow, and 0 * inf is NaN, for example in the gradient.
    """
    xp = library(x)
    most = xp.maximum(80 / xp.maximum(abs(xp.log(xp.where(x > 0, x, 2.0))), 1e-30), 1)
    return most if known(most) else lax.stop_gradient(most)


def whole_power(x: Any, n: Any) -> Any:
    """`x ** n` for `x >= 0` and whole `n >= 0`, without a gradient in `n`.

    The exponent is at most `most_power(x)`.
    """
    if known(x) and np.all(x == 1):
        return x  # a power would cost time in every program for nothing
    most = most_power(x)
    n = lax.stop_gradient(jnp.minimum(n, library(most).floor(most)))
    return jnp.where(n > 0, x, 1) ** n  # JAX's gradient of 0^0 is NaN


def rest_of_power(rest: Any, exponent: Any) -> Any:
    """`1 - x ** exponent` from `rest = 1 - x`, which is more accurate than x near 1."""
    inside = rest < 1  # the rest of a long phase is rounded to 1 a few steps before its end
    safe = jnp.where(inside, rest, 0.5)
    return jnp.where(inside, -jnp.expm1(exponent * jnp.log1p(-safe)), 1)


# From p, the fraction of steps done, to the fraction of the way from start to end. The names come
# from the wsd literature. They describe the weight of the start, which is 1 minus that fraction.
SHAPES: dict[str, Callable[[Any, Any], Any]] = {
    "linear": lambda p, _: p,
    "cosine": lambda p, _: half_wave(p),  # (1 - cos(pi p)) / 2
    "1-sqrt": lambda p, _: sqrt(p),
    "1-square": lambda p, _: p**2,
    "square": lambda p, _: p * (2 - p),  # 1 - (1 - p)^2
    "exp2": lambda p, _: 2 - 2 ** (1 - p),  # Megatron's "exponential"
    "exp10": _exp10,  # (1 - 10^-p) / (1 - 1/10), timm's "exp"
    "rex": lambda p, _: p / (2 - p),  # 1 - (1 - p) / (1 - p / 2)
    "log": _log,  # log(1 + p * steps) / log(1 + steps), the shape of DeepSpeed's warmup
}

# Shapes that depend on the two values themselves, or on q, the fraction of steps left.
CURVES: dict[str, Callable[[Any, Any, Any, Any], Any]] = {
    "sqrt": _sqrt,  # sqrt(1 - p) is the weight of the start
    "geometric": _geometric,  # start^(1 - p) * end^p: the logarithm is a straight line
    "inverse": _inverse,  # 1 / ((1 - p) / start + p / end): the reciprocal is a straight line
}

# For each word of `inclusive`, what is added to the steps done and to the length.
INCLUSIVE = {"left": (0.0, 0.0), "both": (0.0, -1.0), "right": (1.0, 0.0), "neither": (1.0, 1.0)}
