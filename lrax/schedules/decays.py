"""Schedules of one phase: from a first rate to a last one, then held."""

from jax import lax, numpy as jnp
from jax.typing import ArrayLike

from .. import _require
from .schedule import Schedule, Static
from .shapes import between, power, progress


def linear(init: ArrayLike, end: ArrayLike, steps: ArrayLike) -> Schedule:
    r"""A straight line from `init` to `end` over `steps` steps, then `end`.

    $$\eta(t) = \text{init} \cdot (1 - p) + \text{end} \cdot p, \quad p = \min(t / \text{steps}, 1)$$

    Use it as a decay to zero, which is optimal for the last iterate in the convex worst case and hard to beat in
    practice, or as a warmup. The first update has the rate `init`, and the one with the index `steps` is the first at
    `end`.

    Args:
      init: Rate at the start, at least 0.
      end: Rate at the end, at least 0.
      steps: Length in optimizer updates, at least 0; with 0 the rate is `end` from the start.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a known number is negative, infinite or NaN.

    Example:
      >>> lrax.linear(init=0.4, end=0.0, steps=4).values(6)
      Array([0.4, 0.3, 0.2, 0.1, 0. , 0. ], dtype=float32)

    Reference:
      Defazio, Cutkosky, Mehta, Mishchenko. Optimal Linear Decay Learning Rate Schedules and Further Refinements. 2023,
      arXiv:2310.07831.
    """
    hyperparams = _require.real(init=init, end=end, steps=steps)
    _require.nonnegative(hyperparams, "init", "end", "steps")
    return Schedule(_linear, hyperparams)


def _linear(count, init, end, steps):
    return between(init, end, count, steps - count, steps)


def cosine(peak: ArrayLike, steps: ArrayLike, end: ArrayLike = 0.0, *, exponent: ArrayLike = 1.0) -> Schedule:
    r"""Half a cosine wave from `peak` down to `end`, then `end`.

    $$\eta(t) = \text{end} + (\text{peak} - \text{end}) \left(\frac{1 + \cos(\pi p)}{2}\right)^{\text{exponent}},
    \quad p = \min(t / \text{steps}, 1)$$

    Use it when the length of training is known; `end` at 0 to 0.1 of `peak`. With a warmup in front it is
    `lrax.warmup_cosine`.

    Args:
      peak: Rate at the start, at least 0.
      steps: Length in optimizer updates, at least 0; with 0 the rate is `end` from the start.
      end: Rate at the end, at least 0, absolute (Optax's `alpha` is `end / peak`).
      exponent: Power of the cosine shape, above 0; larger falls sooner.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a known number is negative, infinite or NaN, or `exponent` is 0.

    Example:
      >>> lrax.cosine(peak=0.1, steps=4).values(5).round(3)
      Array([0.1  , 0.085, 0.05 , 0.015, 0.   ], dtype=float32)

    Reference:
      Loshchilov, Hutter. SGDR: Stochastic Gradient Descent with Warm Restarts. 2016, arXiv:1608.03983.
    """
    hyperparams = _require.real(peak=peak, steps=steps, end=end, exponent=exponent)
    _require.nonnegative(hyperparams, "peak", "steps", "end")
    _require.positive(hyperparams, "exponent")
    return Schedule(_cosine, hyperparams)


def _cosine(count, peak, steps, end, exponent):
    # Past the end torch and transformers climb the cosine again and t5x restarts it; ours holds, as Optax does.
    _, left = progress(count, steps - count, steps)
    weight = power(jnp.sin(jnp.pi / 2 * left) ** 2, exponent)
    return peak * weight + end * (1 - weight)


def exponential(
    init: ArrayLike,
    rate: ArrayLike,
    steps: ArrayLike = 1,
    *,
    staircase: bool = False,
    begin: ArrayLike = 0,
    end: ArrayLike | None = None,
) -> Schedule:
    r"""Multiplies the rate by `rate` every `steps` steps.

    $$\eta(t) = \text{init} \cdot \text{rate}^{\,u}, \quad u = \max(t - \text{begin}, 0) / \text{steps}$$

    with $\lfloor u \rfloor$ in place of $u$ when `staircase`. Use it where the length of training is open; a factor of
    0.94 to 0.97 per epoch is common. With `rate` above 1 it is the sweep of a range test. From a change by $e^{80}$ on
    the rate is held, since float32 ends soon after.

    Args:
      init: Rate at the start, at least 0.
      rate: Factor per `steps` updates, above 0.
      steps: Updates per factor, above 0.
      staircase: Whether the rate falls at once after every `steps` updates instead of smoothly.
      begin: Updates before the decay begins, at least 0.
      end: Bound, at least 0: a floor when `rate` is below 1, a ceiling when above. `None` for none.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a known number is out of its range.
      TypeError: if `staircase` is not a bool.

    Example:
      >>> lrax.exponential(init=1.0, rate=0.5, steps=2, end=0.25).values(6)
      Array([1.        , 0.70710677, 0.5       , 0.35355338, 0.25      ,
             0.25      ], dtype=float32)
      >>> lrax.exponential(init=1.0, rate=0.5, steps=2, staircase=True).values(6)
      Array([1.  , 1.  , 0.5 , 0.5 , 0.25, 0.25], dtype=float32)
    """
    hyperparams = _require.real(init=init, rate=rate, steps=steps, begin=begin)
    _require.nonnegative(hyperparams, "init", "begin")
    _require.positive(hyperparams, "rate", "steps")
    if end is not None:
        hyperparams |= _require.real(end=end)
        _require.nonnegative(hyperparams, "end")
    if not isinstance(staircase, bool):
        raise TypeError(f"`staircase` must be a bool, got {staircase!r}")
    return Schedule(_exponential, {**hyperparams, "end": hyperparams.get("end"), "staircase": Static(staircase)})


def _exponential(count, init, rate, steps, begin, end, staircase):
    # Held from a factor of e^80 on: an overflow to infinity would make a NaN of 0 * inf, in the gradient for one.
    last = lax.stop_gradient(80 * steps / jnp.abs(jnp.log(rate)))
    since = jnp.minimum(jnp.maximum(count - begin, 0), last)
    # Whole powers and the rest apart: the quotient since / steps, rounded, would lose digits of a high power, and its
    # floor could be the next stair. The remainder is exact.
    whole, rest = jnp.divmod(since, steps)
    value = init * rate ** lax.stop_gradient(whole)
    if not staircase:
        value = value * rate ** (rest / steps)
    if end is None:
        return value
    bounded = jnp.where(rate < 1, jnp.maximum(value, end), jnp.minimum(value, end))
    return jnp.where(rate == 1, value, bounded)
