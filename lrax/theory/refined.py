"""Schedules refined from the gradient norms of a run."""

from __future__ import annotations

import functools

import jax
import numpy as np
from jax import lax, numpy as jnp
from jax.typing import ArrayLike

from .. import _require

_POWERS = {"l2": -2, "l1": -1}


def refined_schedule(
    grad_norms: ArrayLike,
    *,
    norm: str = "l2",
    window: int | None = None,
    normalize: bool = True,
) -> jax.Array:
    r"""The rates that the gradient norms of an earlier run call for.

    $$\eta_t = \frac{w_t}{w_T} \sum_{p=t+1}^{T} w_p, \quad w_t = g_t^{-2} \text{ or } g_t^{-1}$$

    for the filtered norms $g$ of the gradients: `norm="l2"` squares them and is for stochastic
    gradient descent; `norm="l1"` does not and is for Adam. These rates make a bound on the loss
    after the last update small. Use it for the second run of a task: record the norms in a first
    run with a linear decay, pass the result to `lrax.from_values`, and multiply by the best peak.
    Equal norms give the linear decay. Norms that rise in the beginning and fall at the end give a
    warmup and a faster decay.

    The norms are filtered first by a running median, because single batches are noisy. Before the
    start the first norm is repeated, and after the end the norms are reflected. The last rate is
    always 0.

    Args:
      grad_norms: Norm of the gradient at each update, above 0; shape `[steps]`, `steps >= 2`.
      norm: Which norms these are: "l2" or "l1".
      window: Width of the median, an odd number of updates; 1 does not filter. `None` takes
        the authors' width, about a tenth of the updates.
      normalize: Whether the largest rate is 1. Otherwise the rates are on the scale of the formula,
        which is that of the authors' program; their paper divides by the sum of all weights
        instead of the last one.

    Returns:
      The rates, shape `[steps]`.

    Raises:
      ValueError: if a concrete norm is not positive, there are fewer than two, `norm` is unknown,
        or `window` is not odd and at least 1.
      TypeError: if `grad_norms` holds no real numbers, `window` is not an int, or `normalize` is
        not a bool.

    Example:
      >>> rates = lrax.theory.refined_schedule([2.0, 1.0, 1.0, 1.0, 1.0], window=1)
      >>> print(rates.round(3))
      [0.333 1.    0.667 0.333 0.   ]
      >>> schedule = 0.1 * lrax.from_values(rates)

    Reference:
      Defazio, Cutkosky, Mehta, Mishchenko. When, Why and How Much? Adaptive Learning Rate
      Scheduling by Refinement. 2023, arXiv:2310.07831.
    """
    given = _require.real(grad_norms=grad_norms)
    steps = _require.vector(given, "grad_norms")
    if steps < 2:
        raise ValueError(f"`grad_norms` must be at least two numbers, got {steps}")
    _require.positive(given, "grad_norms")
    _require.choice("norm", norm, _POWERS)
    width = _width(steps) if window is None else _require.count("window", window, 1)
    if width % 2 == 0:
        raise ValueError(f"`window` must be odd, got {window}")
    _require.flag("normalize", normalize)
    return _refined(given["grad_norms"], _POWERS[norm], width, normalize)


def _width(steps: int) -> int:
    """The authors' width of the median."""
    return 2 * (int(0.1 * steps) // 2) + 1


@functools.partial(jax.jit, static_argnums=(1, 2, 3))
def _refined(norms: jax.Array, power: int, width: int, normalize: bool) -> jax.Array:
    norms = _median(norms, width)
    # Relative to the last weight, which keeps the weights in the range of float32.
    weights = (norms / norms[-1]) ** power
    later = lax.cumsum(weights, reverse=True)[1:]
    rates = jnp.append(weights[:-1] * later, 0)
    if normalize:
        return rates / jnp.max(rates)
    return rates * norms[-1] ** power


def _median(values: jax.Array, width: int) -> jax.Array:
    """The running median, one window at a time: memory is linear in the number of values."""
    half, steps = width // 2, len(values)
    ahead = np.pad(np.arange(steps), (0, half), mode="reflect")
    padded = values[np.concatenate([np.zeros(half, ahead.dtype), ahead])]

    def median(start):
        return jnp.sort(lax.dynamic_slice(padded, (start,), (width,)))[half]

    return values if width == 1 else lax.map(median, jnp.arange(steps))
