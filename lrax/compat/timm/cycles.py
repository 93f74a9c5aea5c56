"""timm's cycles: lengths that grow or shrink, and peaks that fall.

They follow timm/scheduler/cosine_lr.py of timm 1.0.31.
"""

from collections.abc import Callable
from typing import Any

from jax import lax, numpy as jnp

from ...schedules.shapes import (
    between,
    power,
    progress,
    rest_of_power,
    whole_power,
)

LEVELS = 6  # the first 2^6 - 1 cycles may grow
FAR = 2.0**40  # no schedule has as many steps

Weight = Callable[[Any, Any], tuple[Any, Any]]


def cycled(
    count: Any,
    weight: Weight,
    *,
    lr: Any,
    t_initial: Any,
    lr_min: Any,
    cycle_mul: Any,
    cycle_decay: Any,
    cycle_limit: Any,
    warmup_t: Any,
    warmup_lr_init: Any,
    warmup_prefix: bool,
    meets: bool = False,
) -> Any:
    """The rate in cycles, of which cycle `i` goes from `lr * cycle_decay**i` to `lr_min`.

    `weight(p, q)` returns the weights of these two rates, for the part `p` of a cycle that is done
    and the rest `q = 1 - p`. The warmup climbs to `lr`. With `meets` and without `warmup_prefix`,
    it climbs to the rate that the cycles have at its end.
    """

    def cycles(count: Any) -> Any:
        cycle, done, left, length = _cycle(count, t_initial, cycle_mul)
        of_top, of_end = weight(*progress(done, left, length))
        rate = lr * whole_power(cycle_decay, cycle) * of_top + lr_min * of_end
        return jnp.where(cycle < cycle_limit, rate, lr_min)

    count = jnp.maximum(count, 0)
    top = jnp.where(warmup_t > 0, cycles(warmup_t), lr) if meets and not warmup_prefix else lr
    up = between(warmup_lr_init, top, count, warmup_t - count, warmup_t)
    # timm's constructor sets the rate of the first update: `lr`, if there is no warmup.
    after = cycles(jnp.maximum(count - warmup_t, 0) if warmup_prefix else count)
    return jnp.where(count < jnp.where(warmup_t > 0, warmup_t, 1), up, after)


def _cycle(count: Any, first: Any, mult: Any) -> tuple[Any, Any, Any, Any]:
    """The index of the cycle at a count, the steps done and left of it, and its length."""
    # The cycle is found by halving, as in `lrax.cosine_restarts`. timm takes the floor of a
    # logarithm, which is a cycle off at some restarts. If cycles shrink, timm fails at counts above
    # the sum of all lengths. Here such counts are in very short cycles, soon beyond `cycle_limit`.
    powers, sums = [mult], [jnp.ones_like(mult)]  # of 1, 2, 4, ... cycles
    for _ in range(LEVELS - 1):
        sums.append(jnp.minimum(sums[-1] * (1 + powers[-1]), FAR))
        powers.append(jnp.clip(powers[-1] ** 2, 1 / FAR, FAR))
    index, start, length = (
        jnp.zeros_like(count),
        jnp.zeros_like(count),
        first + jnp.zeros_like(count),
    )
    for i in reversed(range(LEVELS)):
        after = start + length * sums[i]
        fits = count >= after
        index, start = jnp.where(fits, index + 2**i, index), jnp.where(fits, after, start)
        length = jnp.where(fits, length * powers[i], length)
    length = jnp.maximum(length, 1e-6)
    # A remainder is exact at every count. It is used for cycles of equal lengths.
    done = count - start
    rest = lax.stop_gradient(lax.rem(jnp.where(mult == 1, count, done), length))
    more = lax.stop_gradient(jnp.round((done - rest) / length))
    done = done - more * length
    done, index = done + lax.stop_gradient(rest - done), index + more
    return index, done, length - done, length


def raised(p: Any, q: Any, exponent: Any) -> tuple[Any, Any]:
    """`p ** exponent` and `1 - p ** exponent`, of a part `p` and its rest `q`."""
    done = power(p, exponent)
    return done, jnp.where(p > 0.5, rest_of_power(q, exponent), 1 - done)
