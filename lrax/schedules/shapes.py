"""Shapes: how a phase goes from its start value to its end value."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax import lax, numpy as jnp
from jax.tree_util import Partial

from .. import _require
from .concrete import known, library
from .counts import reached as _reached, real
from .schedule import Static

SHORTEST = 2.0**-30  # for a phase without length, to divide by
FEW = 8  # joins


def progress(done: Any, left: Any, steps: Any) -> tuple[Any, Any]:
    """The parts done and left of a phase of `steps` steps, from 0 to 1."""
    return _part_done(done, left, steps), _part_left(left, steps)


def _part_done(done, left, steps):
    # The ends are chosen, not divided: XLA may multiply by the reciprocal of a known length, and
    # 41 * (1 / 41) is not 1. A phase without length is a jump.
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

    The steps `left` are asked for, though they are `steps - done`, because a caller has them
    exactly: `end - count`. Of a phase that begins at a fractional step, `done` is already rounded
    where `count` is large.
    """
    if isinstance(shape, str) and shape in CURVES:
        return CURVES[shape](start, end, *progress(done, left, steps))
    p = _part_done(done, left, steps)
    way = SHAPES[shape](p, steps) if isinstance(shape, str) else shape(p)
    return start * (1 - way) + end * way


def as_shape(name: str, shape: Any) -> Any:
    """A shape as a hyperparameter: a word, or a function from the part done to the way made.

    The numbers that a `jax.tree_util.Partial` holds become leaves.
    """
    if isinstance(shape, Partial):
        return jax.tree.map(lambda leaf: _require.real(**{name: leaf})[name], shape)
    if not callable(shape):
        _require.choice(name, shape, [*SHAPES, *CURVES])
    return Static(shape)


def half_wave(x: Any) -> Any:
    """`(1 - cos(pi x)) / 2` for x from 0 to 1, with all digits near 0.

    A power below 1 of the textbook's form would be off by 2e-4 there.
    """
    return jnp.sin(np.pi / 2 * x) ** 2


def _exp10(p, _):
    return jnp.where(p < 1, (1 - 10**-p) / (1 - 0.1), 1)  # the quotient may miss 1 by its rounding


def _log(p, steps):
    xp = library(steps)
    whole = xp.where(steps > 0, xp.log1p(steps), 1)
    return jnp.where(p < 1, jnp.log1p(p * steps) / whole, 1)


def _sqrt(start, end, _, q):
    root = sqrt(q)  # of q: in 1 - p, the digits are lost that a root shows
    return start * root + end * (1 - root)


def _geometric(start, end, p, q):
    # A power of a number below 1, so from the higher value: of one above 1, the rounding of the
    # exponent would show. A ramp from or to zero is zero in between.
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
    """Of each row, the entry with the number of the joins that lie at or before the count."""
    if len(joins) > FEW:
        i = jnp.sum(reached(count, joins), axis=-1)
        return [jnp.asarray(row)[i] for row in rows]
    # A few comparisons take less time to compile than a look into a table.
    picked = [row[0] for row in rows]
    for k, join in enumerate(joins, 1):
        past = _reached(count, join)
        picked = [jnp.where(past, row[k], so_far) for row, so_far in zip(rows, picked, strict=True)]
    return picked


def most_power(x: Any) -> Any:
    """The exponent, at least 1, by which `x` is changed by e^80. Powers are held there.

    An overflow to infinity would make a NaN of 0 * inf, in the gradient for one.
    """
    xp = library(x)
    most = xp.maximum(80 / xp.maximum(abs(xp.log(xp.where(x > 0, x, 2.0))), 1e-30), 1)
    return most if known(most) else lax.stop_gradient(most)


def whole_power(x: Any, n: Any) -> Any:
    """`x ** n` for `x >= 0` and whole `n >= 0`, held by `most_power`, without a gradient in `n`."""
    if known(x) and np.all(x == 1):
        return x  # a power would cost time in every program for nothing
    most = most_power(x)
    n = lax.stop_gradient(jnp.minimum(n, library(most).floor(most)))
    return jnp.where(n > 0, x, 1) ** n  # JAX's gradient of 0^0 is NaN


def rest_of_power(rest: Any, exponent: Any) -> Any:
    """`1 - x ** exponent` from `rest = 1 - x`: near `x = 1` the power itself loses digits."""
    inside = rest < 1  # the rest of a long phase is rounded to 1 a few steps before its end
    safe = jnp.where(inside, rest, 0.5)
    return jnp.where(inside, -jnp.expm1(exponent * jnp.log1p(-safe)), 1)


# The part of the way made at the part done p; the names are those of the wsd literature.
SHAPES: dict[str, Callable[[Any, Any], Any]] = {
    "linear": lambda p, _: p,
    "cosine": lambda p, _: half_wave(p),  # (1 - cos(pi p)) / 2
    "1-sqrt": lambda p, _: sqrt(p),
    "1-square": lambda p, _: p**2,
    "square": lambda p, _: p * (2 - p),  # 1 - (1 - p)^2
    "exp2": lambda p, _: 2 - 2 ** (1 - p),  # Megatron's "exponential"
    "exp10": _exp10,  # (1 - 10^-p) / (1 - 1/10), timm's "exp"
    "rex": lambda p, _: p / (2 - p),  # 1 - (1 - p) / (1 - p / 2)
    "log": _log,  # log(1 + p * steps) / log(1 + steps): as a warmup, the steps of DeepSpeed's
}

# Shapes that depend on the two values themselves, or on the part left q.
CURVES: dict[str, Callable[[Any, Any, Any, Any], Any]] = {
    "sqrt": _sqrt,  # sqrt(1 - p) is the weight of the start
    "geometric": _geometric,  # start^(1 - p) * end^p: the logarithm is a straight line
    "inverse": _inverse,  # 1 / ((1 - p) / start + p / end): the reciprocal is one
}

# What each word for `inclusive` adds to the steps done, and to the length.
INCLUSIVE = {"left": (0.0, 0.0), "both": (0.0, -1.0), "right": (1.0, 0.0), "neither": (1.0, 1.0)}
