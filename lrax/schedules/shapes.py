"""Shapes: how a phase goes from its start value to its end value.

A shape maps the progress of a phase to the weights of its two values. Progress comes as the pair
`(p, q)`, the part done and the part left, each computed from exact integer steps: `q = 1 - p` in
float32 would lose every digit near the end of a long phase, and `p = 1 - q` near its start. For the
same reason a shape returns both weights.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax import lax, numpy as jnp
from jax.tree_util import Partial

from .. import _require
from .counts import reached as _reached, real, times as _times
from .schedule import Static
from .staging import either, held, known, log, log1p, maximum, minimum, plus, where

Weights = tuple[Any, Any]

SHORTEST = 2.0**-30  # for a phase without length, to divide by
FEW = 8  # boundaries
STRAIGHT = ("linear", "cosine")  # the same shape upwards and downwards


def progress(done: Any, left: Any, steps: Any) -> Weights:
    """The parts done and left of a phase of `steps` steps, from 0 to 1.

    A phase without length is a jump.

    The steps `left` are asked for, though they are `steps - done`, because a caller has them
    exactly: `end - count`. Of a phase that begins at a fractional step, `done` is already rounded
    where `count` is large.
    """
    done, left = real(done), real(left)
    inside = left > 0
    length = maximum(steps, SHORTEST)
    return where(inside, maximum(done / length, 0), 1), _part(left, length)


def _part(steps, length):
    """`steps / length`, exactly 0 and 1 at its ends and outside."""
    # Many divisions by one number may be made as multiplications by its reciprocal, and 41 * (1 /
    # 41) is not 1.
    return where(steps < length, maximum(steps / length, 0), 1)


def between(
    start: Any,
    end: Any,
    done: Any,
    left: Any,
    steps: Any,
    shape: str | Callable[[Any], Any] = "linear",
) -> Any:
    """The value in a phase from `start` to `end`: exact at both ends, held outside."""
    done, left = real(done), real(left)
    if shape in STRAIGHT:
        rises, low, high, length = sides(start, end, steps)
        x = either(
            rises, lambda: plus(done, where(steps > 0, 0, length)), lambda: left
        )  # no length: a jump at its end
        return upwards(low, high, x, length, shape)
    p, q = progress(done, left, steps)
    if not isinstance(shape, str):
        way = shape(p)
        return start * (1 - way) + end * way
    if shape in CURVES:
        return CURVES[shape](start, end, p, q)
    of_start, of_end = SHAPES[shape](p, q, maximum(steps, 0))
    return start * of_start + end * of_end


def sides(start: Any, end: Any, steps: Any) -> tuple[Any, Any, Any, Any]:
    """Of a phase: whether it rises, its lower and its higher value, and a length to divide by."""
    # Known before any count is, so that it costs nothing.
    rises = upward(start, end)
    return rises, where(rises, start, end), where(rises, end, start), maximum(steps, SHORTEST)


def upward(start: Any, end: Any) -> Any:
    """Whether the way from `start` to `end` goes up; of several ways, for each.

    From a known 0 one way does, and to it does not, for no rate is below; where one is, this costs
    it but digits.
    """
    zeros = [known(value) and np.ndim(value) == 0 and value == 0 for value in (start, end)]
    if any(zeros) and np.ndim(start) == np.ndim(end) == 0:
        return zeros[0]
    return end > start


def upwards(low: Any, high: Any, x: Any, length: Any, shape: Any) -> Any:
    """The value `x` steps from the lower end of a phase, for a shape that is symmetric.

    As the lower value and a part of what lies between, it has all its digits at both ends, for one
    division.
    """
    if shape == "linear":
        return where(x < length, plus(maximum(x, 0) * ((high - low) / length), low), high)
    inside = plus(half_wave(_unit(x / length)) * (high - low), low)
    return inside if meets(low, high) else where(x < length, inside, high)


def _unit(x):
    """`x` held from 0 to 1, by one instruction."""
    return lax.clamp(np.zeros((), x.dtype), x, np.ones((), x.dtype))


def meets(low: Any, high: Any) -> bool:
    """Whether `low + (high - low)` is known to be `high`, without rounding."""
    if known(low, high):
        return bool(np.all(low + (high - low) == high))
    return known(low) and not np.any(low)


def as_shape(name: str, shape: Any) -> Any:
    """A shape as a hyperparameter: a word, or a function from the part done to the way made.

    The numbers that a `jax.tree_util.Partial` holds become leaves.
    """
    if isinstance(shape, Partial):
        return jax.tree.map(lambda leaf: _require.real(**{name: leaf})[name], shape)
    if not callable(shape):
        _require.choice(name, shape, [*SHAPES, *CURVES])
    return Static(shape)


def _linear(p, q, _):
    return q, p


def _cosine(p, q, _):
    # The smaller of the two weights is computed, and the larger, which has no digits to lose, is
    # what it leaves.
    less = half_wave(
        where(p < q, p, q)
    )  # of a minimum, the gradient in the middle would be shared, and so be zero
    return where(p < q, 1 - less, less), where(p < q, less, 1 - less)


def _one_minus_sqrt(p, q, _):
    # 1 - sqrt(p) = q / (1 + sqrt(p)), for its digits near the end.
    root = sqrt(p)
    return q / (1 + root), root


def _sqrt(p, q, _):
    root = sqrt(q)
    return root, p / (1 + root)


def _one_minus_square(p, q, _):
    return q * (1 + p), p**2


def _square(p, q, _):
    return q**2, p * (1 + q)


def _exp2(p, q, _):
    return _falling(p, q, 2)


def _exp10(p, q, _):
    return _falling(p, q, 10)


def _falling(p, q, base):
    # (r^p - r) / (1 - r) for r = 1 / base: an exponential moved and scaled to end at zero.
    rate = np.log(base)
    return _exact(
        p, q, jnp.expm1(rate * q) / (base - 1), -jnp.expm1(-rate * p) * (base / (base - 1))
    )


def _exact(p, q, of_start, of_end):
    """Weights whose own arithmetic misses 0 and 1 at the ends by its rounding."""
    of_start = where(p <= 0, 1, where(q <= 0, 0, of_start))
    return of_start, where(p <= 0, 0, where(q <= 0, 1, of_end))


def _rex(p, q, _):
    return q / (q + p / 2), p / 2 / (q + p / 2)


def _log(p, q, steps):
    # 1 - log(1 + p s) / log(1 + s), its numerator as one logarithm for the digits near the end.
    whole = where(steps > 0, log1p(steps), 1)
    done = p * steps
    return _exact(p, q, jnp.log1p(q * steps / (1 + done)) / whole, jnp.log1p(done) / whole)


def _geometric(start, end, p, q):
    # From the nearer end: the exponent's rounding is multiplied by the logarithm of the ratio. A
    # ramp from or to zero is zero in between.
    falls = start * power(end / where(start > 0, start, 1), p)
    rises = end * power(start / where(end > 0, end, 1), q)
    return where(
        p <= 0, start, where(p <= 0.5, where(start > 0, falls, 0), where(end > 0, rises, 0))
    )


def _inverse(start, end, p, q):
    whole = start * p + end * q
    inside = start * end / where(whole > 0, whole, 1)
    return where(p <= 0, start, where(q <= 0, end, inside))


def sqrt(x: Any) -> Any:
    """Square root with gradient 0 at 0, where the true one is infinite and would make a NaN."""
    return where(x > 0, jnp.sqrt(where(x > 0, x, 1)), 0)


@jax.custom_jvp
def power(x: Any, exponent: Any) -> Any:
    """`x ** exponent` for `x >= 0`, with gradient 0 at `x == 0`."""
    return x**exponent


@power.defjvp
def _power_jvp(primals, tangents):
    x, exponent = primals
    value, some = power(x, exponent), x > 0
    base = where(some, x, 1)
    of_x = where(some, exponent * base ** (exponent - 1), 0)
    return value, of_x * tangents[0] + value * jnp.log(base) * tangents[1]


def reached(count: Any, boundaries: Any) -> Any:
    """Which boundaries lie at or before each count; shape `[*counts, boundaries]`."""
    boundaries = boundaries if known(boundaries) else jnp.asarray(boundaries)
    return _reached(count[..., None], boundaries.reshape((1,) * count.ndim + boundaries.shape))


def pick(count: Any, boundaries: Any, *rows: Any) -> list[Any]:
    """Of each row, the entry with the number of the boundaries that lie at or before the count."""
    if len(boundaries) > FEW:
        i = jnp.sum(reached(count, boundaries), axis=-1)
        return [jnp.asarray(row)[i] for row in rows]
    picked = [
        row[0] for row in rows
    ]  # by comparisons, of which a few take less than a look into a table
    for k in range(len(boundaries)):
        past = _reached(count, boundaries[k])
        picked = [
            _after(past, row[k + 1], so_far) for row, so_far in zip(rows, picked, strict=True)
        ]
    return picked


def _after(past, x, y):
    """`x` after a boundary and `y` before it; no instruction where both are the same."""
    return y if x is y or (known(x, y) and not np.ndim(x) and x == y) else where(past, x, y)


def whole_power(x: Any, n: Any) -> Any:
    """`x ** n` for `x >= 0` and whole `n >= 0`, without a gradient in `n`.

    Held from a change by e^80 on: an overflow to infinity would make a NaN of 0 * inf, in the
    gradient for one. The first power is always `x` itself.
    """
    most = 80 / maximum(abs(log(where(x > 0, x, 2.0))), 1e-30)
    most = held(maximum(most - most % 1, 1))
    return where(n > 0, x, 1) ** held(minimum(n, most))  # JAX's gradient of 0^0 is NaN


def rest_of_power(rest: Any, exponent: Any) -> Any:
    """`1 - x ** exponent` from `rest = 1 - x`: near `x = 1` the power itself loses digits."""
    inside = rest < 1  # the rest of a long phase is rounded to 1 a few steps before its end
    return where(inside, -jnp.expm1(exponent * jnp.log1p(-where(inside, rest, 0.5))), 1)


def times(count: Any, steps: Any) -> Any:
    """How many whole times `steps` goes into a count, without a gradient: exact below 2^24."""
    in_integers = _times(count, steps)
    if in_integers is not None:
        return real(in_integers[0])
    count = real(count)
    near = jnp.round(count / steps)
    # The quotient is rounded, but not so far that another whole number were nearest.
    return held(near - (count < near * steps).astype(near.dtype))


def divided(count: Any, steps: Any) -> tuple[Any, Any]:
    """The `times` and the rest of any count, exact above 2^24 too; faster than `lax.rem`."""
    in_integers = _times(count, steps)
    if in_integers is not None:
        return tuple(map(real, in_integers))
    count = real(count)
    near = jnp.round(count / steps)
    if np.dtype(count.dtype) == np.float32:
        # Products of 12 bits by 12 bits are exact.
        many, large = coarse(near), coarse(steps)
        few, small = near - many, steps - large
        rest = count - many * large - many * small - few * large - few * small
    else:
        rest = count - near * steps
    more = times(rest, steps)  # of a quotient above 2^24, what is nearest is some off
    return near + more, rest - more * steps


def coarse(x: Any) -> Any:
    """A float32 of 12 bits, near to this one."""
    if known(x):
        return ((np.float32(x).view(np.int32) + 2**11) & -(2**12)).view(np.float32)
    return lax.reduce_precision(x, 8, 11)


def half_wave(x: Any) -> Any:
    """`(1 - cos(pi x)) / 2` for x from 0 to 1, with all digits near 0 and exact at both ends."""
    # XLA's cosine takes any angle, and so five times as long as a polynomial for those asked for
    # here. That of half the angle, 1 - cos(pi x / 2), is x^2 and a short one; by its y, the wave is
    # y (2 - y), which near 1 forgives y errors.
    square = x * x
    factors = WAVE[np.dtype(x.dtype) == np.float64]
    series = factors[-1]
    for factor in factors[-2::-1]:
        series = square * series + factor
    half = square * series
    return half * (2 - half)


def _wave(degree):
    """The polynomial of `degree` in s = x^2 next to (1 - cos(pi x / 2)) / s, for x from 0 to 1."""
    exact = lambda s: np.pi**2 / 8 * np.sinc(np.sqrt(s) / 4) ** 2
    near = np.polynomial.Chebyshev.interpolate(exact, degree, domain=[0, 1])
    return near.convert(kind=np.polynomial.Polynomial).coef.tolist()


WAVE = _wave(3), _wave(8)  # off by 2e-7 of the value, and by 2e-15: for float32 and float64


# The weight of the start value over the part done p; the names are those of the wsd literature.
SHAPES: dict[str, Callable[[Any, Any, Any], Weights]] = {
    "linear": _linear,  # 1 - p
    "cosine": _cosine,  # (1 + cos(pi p)) / 2
    "1-sqrt": _one_minus_sqrt,  # 1 - sqrt(p)
    "sqrt": _sqrt,  # sqrt(1 - p)
    "1-square": _one_minus_square,  # 1 - p^2
    "square": _square,  # (1 - p)^2
    "exp2": _exp2,  # 2 * 2^-p - 1, Megatron's "exponential"
    "exp10": _exp10,  # (10^-p - 1/10) / (9/10), timm's "exp"
    "rex": _rex,  # (1 - p) / (1 - p / 2)
    "log": _log,  # 1 - log(1 + p * steps) / log(1 + steps): as a warmup, the steps of DeepSpeed's
}

# Shapes that depend on the two values themselves.
CURVES: dict[str, Callable[[Any, Any, Any, Any], Any]] = {
    "geometric": _geometric,  # start^(1 - p) * end^p: the logarithm is a straight line
    "inverse": _inverse,  # 1 / ((1 - p) / start + p / end): the reciprocal is one
}

# What each word for `inclusive` adds to the steps done, and to the length.
INCLUSIVE = {"left": (0.0, 0.0), "both": (0.0, -1.0), "right": (1.0, 0.0), "neither": (1.0, 1.0)}
