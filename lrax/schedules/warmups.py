"""Schedules that begin with a warmup: a ramp up to the peak, then a decay."""

from collections.abc import Callable
from typing import Any

from jax import numpy as jnp
from jax.typing import ArrayLike

from .. import _require
from .schedule import Schedule
from .shapes import as_shape, between


def warmup_cosine(
    peak: ArrayLike,
    steps: ArrayLike,
    warmup: ArrayLike,
    *,
    init: ArrayLike = 0.0,
    end: ArrayLike = 0.0,
) -> Schedule:
    r"""A linear warmup to `peak`, then half a cosine wave down to `end`.

    $$\eta(t) = \begin{cases}
      \text{init} + (\text{peak} - \text{init}) \, t / \text{warmup} & t < \text{warmup} \\
      \text{end} + (\text{peak} - \text{end}) \, (1 + \cos(\pi p)) / 2 & \text{otherwise}
    \end{cases} \quad p = \min\left(\frac{t - \text{warmup}}{\text{steps} - \text{warmup}}, 1\right)$$

    Use it as the default for Adam and its kin; a warmup of 1 % to 10 % of `steps` and `end` of 0 to 0.1 of `peak`
    are good first choices. It agrees with `optax.warmup_cosine_decay_schedule` (whose `decay_steps` also includes the
    warmup), and every number may be traced, `peak` among them.

    Args:
      peak: Highest rate, first reached at the update with the index `warmup`; at least 0.
      steps: Length of the whole, warmup included, in optimizer updates; at least `warmup`.
      warmup: Length of the warmup in optimizer updates, at least 0; with 0 the first update has the rate `peak`.
      init: Rate at the start, at least 0. The default leaves the parameters untouched in the first update.
      end: Rate from the update with the index `steps` on, at least 0.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a known number is negative, infinite or NaN, or `warmup` is above `steps`.

    Example:
      >>> lrax.warmup_cosine(peak=0.1, steps=6, warmup=2).values(8).round(3)
      Array([0.   , 0.05 , 0.1  , 0.085, 0.05 , 0.015, 0.   , 0.   ], dtype=float32)

    Reference:
      Goyal et al. Accurate, Large Minibatch SGD: Training ImageNet in 1 Hour. 2017, arXiv:1706.02677 (the warmup).
      Loshchilov, Hutter. SGDR: Stochastic Gradient Descent with Warm Restarts. 2016, arXiv:1608.03983 (the cosine).
    """
    hyperparams = _require.real(peak=peak, steps=steps, warmup=warmup, init=init, end=end)
    _require.nonnegative(hyperparams, "peak", "steps", "warmup", "init", "end")
    _require.at_most("`warmup` must be at most `steps`", hyperparams["warmup"], hyperparams["steps"])
    return Schedule(_warmup_cosine, hyperparams)


def _warmup_cosine(count, peak, steps, warmup, init, end):
    up = between(init, peak, count, warmup - count, warmup)
    down = between(peak, end, count - warmup, steps - count, steps - warmup, "cosine")
    return jnp.where(count < warmup, up, down)


def wsd(
    peak: ArrayLike,
    steps: ArrayLike,
    warmup: ArrayLike,
    cooldown: ArrayLike,
    *,
    init: ArrayLike = 0.0,
    end: ArrayLike = 0.0,
    shape: str | Callable[[Any], Any] = "linear",
) -> Schedule:
    r"""Warmup, stable, decay: a linear warmup to `peak`, a plateau, and a cooldown to `end`.

    $$\eta(t) = \begin{cases}
      \text{init} + (\text{peak} - \text{init}) \, t / \text{warmup} & t < \text{warmup} \\
      \text{peak} & \text{warmup} \le t < \text{steps} - \text{cooldown} \\
      \text{end} + (\text{peak} - \text{end}) \, s(p) & \text{otherwise}
    \end{cases} \quad p = \min\left(\frac{t - \text{steps} + \text{cooldown}}{\text{cooldown}}, 1\right)$$

    with the weight $s(p)$ of the peak by `shape`: $1 - p$ for `"linear"`, $(1 + \cos(\pi p)) / 2$ for `"cosine"`,
    $1 - \sqrt p$ for `"1-sqrt"`, $\sqrt{1 - p}$ for `"sqrt"`, $1 - p^2$ for `"1-square"`, $(1 - p)^2$ for `"square"`.
    Use it when training may be extended or branched: any point of the plateau can be cooled down. A cooldown of 10 % to
    20 % of `steps` matches a cosine of the same length; `"1-sqrt"` did best in the reference.

    Args:
      peak: Rate of the plateau, at least 0.
      steps: Length of the whole, warmup and cooldown included, in optimizer updates.
      warmup: Length of the warmup in optimizer updates, at least 0.
      cooldown: Length of the cooldown in optimizer updates, at least 0; `warmup + cooldown` is at most `steps`.
      init: Rate at the start, at least 0.
      end: Rate from the update with the index `steps` on, at least 0.
      shape: One of the words above, or a function from p in [0, 1] to the part of the way to `end` that is made.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a known number is negative, infinite or NaN, the phases are longer than `steps`, or `shape` is no
        known word.

    Example:
      >>> lrax.wsd(peak=0.1, steps=8, warmup=2, cooldown=4).values(9)
      Array([0.   , 0.05 , 0.1  , 0.1  , 0.1  , 0.075, 0.05 , 0.025, 0.   ],      dtype=float32)

    Reference:
      Hägele et al. Scaling Laws and Compute-Optimal Training Beyond Fixed Training Durations. 2024, arXiv:2405.18392.
    """
    hyperparams = _require.real(peak=peak, steps=steps, warmup=warmup, cooldown=cooldown, init=init, end=end)
    _require.nonnegative(hyperparams, "peak", "steps", "warmup", "cooldown", "init", "end")
    phases = (hyperparams["warmup"], hyperparams["cooldown"])
    _require.at_most("`warmup + cooldown` must be at most `steps`", phases, hyperparams["steps"])
    return Schedule(_wsd, {**hyperparams, "shape": as_shape("shape", shape)})


def _wsd(count, peak, steps, warmup, cooldown, init, end, shape):
    left = steps - count
    up = between(init, peak, count, warmup - count, warmup)
    down = between(peak, end, cooldown - left, left, cooldown, shape)
    return jnp.where(count < warmup, up, down)
