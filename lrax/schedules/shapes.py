"""Shapes: how a phase goes from its start value to its end value.

A shape maps the progress of a phase to the weights of its two values. Progress comes as the pair `(p, q)`, the part
done and the part left, each computed from exact integer steps: `q = 1 - p` in float32 would lose every digit near the
end of a long phase, and `p = 1 - q` near its start. For the same reason a shape returns both weights.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from jax import numpy as jnp

from .. import _require
from .schedule import Static

Weights = tuple[Any, Any]


def progress(done: Any, left: Any, steps: Any) -> Weights:
    """The parts done and left of a phase of `steps` steps, clipped to it; one without length is a jump.

    The steps `left` are asked for, though they are `steps - done`, because a caller has them exactly: `end - count`.
    Of a phase that begins at a fractional step, `done` is already rounded where `count` is large.
    """
    some = steps > 0
    length = jnp.where(some, steps, 1)
    p = jnp.where(some, jnp.clip(done, 0, steps) / length, jnp.where(left > 0, 0, 1))
    q = jnp.where(some, jnp.clip(left, 0, steps) / length, jnp.where(left > 0, 1, 0))
    return p, q


def between(
    start: Any, end: Any, done: Any, left: Any, steps: Any, shape: str | Callable[[Any], Any] = "linear"
) -> Any:
    """The value in a phase from `start` to `end`: exact at both ends, held outside."""
    p, q = progress(done, left, steps)
    of_start, of_end = SHAPES[shape](p, q) if isinstance(shape, str) else _of_function(shape, p)
    return start * of_start + end * of_end


def as_shape(name: str, shape: Any) -> Static:
    """A shape as a hyperparameter: one of `SHAPES`, or a function from the part done to the part of the way made."""
    if not callable(shape):
        _require.choice(name, shape, SHAPES)
    return Static(shape)


def _linear(p, q):
    return q, p


def _cosine(p, q):
    # (1 + cos(pi p)) / 2 = sin^2(pi q / 2), which keeps its digits where the cosine form cancels.
    return jnp.sin(np.pi / 2 * q) ** 2, jnp.sin(np.pi / 2 * p) ** 2


def _one_minus_sqrt(p, q):
    # 1 - sqrt(p) = q / (1 + sqrt(p)), for its digits near the end.
    root = sqrt(p)
    return q / (1 + root), root


def _sqrt(p, q):
    root = sqrt(q)
    return root, p / (1 + root)


def _one_minus_square(p, q):
    return q * (1 + p), p**2


def _square(p, q):
    return q**2, p * (1 + q)


def _of_function(shape, p):
    way = shape(p)
    return 1 - way, way


def sqrt(x: Any) -> Any:
    """Square root with gradient 0 at 0, where the true one is infinite and turns a clipped phase into NaN."""
    return jnp.where(x > 0, jnp.sqrt(jnp.where(x > 0, x, 1)), 0)


def power(x: Any, exponent: Any) -> Any:
    """`x ** exponent` for `x >= 0`, with gradient 0 at `x == 0`."""
    return jnp.where(x > 0, jnp.where(x > 0, x, 1) ** exponent, jnp.where(exponent > 0, 0.0, 1.0))


# The weight of the start value over the part done p; the names are those of the wsd literature.
SHAPES: dict[str, Callable[[Any, Any], Weights]] = {
    "linear": _linear,  # 1 - p
    "cosine": _cosine,  # (1 + cos(pi p)) / 2
    "1-sqrt": _one_minus_sqrt,  # 1 - sqrt(p)
    "sqrt": _sqrt,  # sqrt(1 - p)
    "1-square": _one_minus_square,  # 1 - p^2
    "square": _square,  # (1 - p)^2
}
