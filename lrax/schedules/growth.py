"""Growth by a factor every so many steps, in less time than a power takes."""

from typing import Any

import jax
import numpy as np
from jax import lax, numpy as jnp

from .shapes import coarse
from .staging import held, known


def growth(factor: Any, count: Any, steps: Any) -> Any:
    """`factor ** (count / steps)` with all digits of float32, for results below e^80.

    A power of numbers that are not known takes XLA eight times as long as `exp`, and its exponent
    is rounded, of which the power shows as many times as much as the exponent is large. Here the
    exponent is a sum: what is large in it is a product of numbers of 12 bits, which is exact.
    """
    # Found out here, for within a rule of differentiation nothing is known.
    return _growth(factor, count, steps, *_slope(held(factor), held(steps)))


@jax.custom_jvp
def _growth(factor, count, steps, large, small):
    if np.dtype(count.dtype) == np.float64:
        return factor ** (count / steps)  # which has digits to lose
    many = coarse(count)
    near = jnp.exp(many * large)
    # Not the product of two exponentials, of which XLA makes that of the sum; and of this one, at
    # most 0.04, a series.
    rest = many * small + (count - many) * (large + small)
    return near / (1 - rest * (1 - rest * (1 / 2 - rest * (1 / 6))))


@_growth.defjvp
def _growth_jvp(primals, tangents):
    factor, count, steps, *_ = primals
    of_factor, of_count, of_steps, *_ = tangents
    value, exponent = _growth(*primals), count / steps
    slope = exponent * (of_factor / factor) + jnp.log(factor) * (
        (of_count - exponent * of_steps) / steps
    )
    return value, value * slope


def _slope(factor, steps):
    """`log(factor) / steps` as the sum of a number of 12 bits and a small one, computed once."""
    if known(factor, steps):
        slope = np.log(np.float64(factor)) / np.float64(steps)
        large = coarse(slope)
        return large, np.float32(slope - large)
    # The digits of the logarithm are those of a power that is nearly as large as floats go: log(f)
    # = log(f^k) / k, of which exp gives back what log has rounded. By a power of 2 as the k,
    # nothing else is.
    k = lax.reduce_precision(50 / jnp.maximum(jnp.abs(jnp.log(factor)), 1e-9), 8, 0)
    high_power = factor**k
    log = jnp.log(high_power)
    rounded = high_power * jnp.exp(-log) - 1
    length = k * steps
    large = coarse(log / length)
    some = coarse(length)
    return large, ((log - large * some) - large * (length - some) + rounded) / length
