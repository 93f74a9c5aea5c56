"""Schedules with a plateau: a warmup, a stable phase that may be cut anywhere, a cooldown."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from jax import numpy as jnp
from jax.typing import ArrayLike

from .. import _require
from . import landmarks
from .builders import builder
from .counts import alike, minus, real
from .lengths import warn_if_empty
from .schedule import Schedule
from .shapes import as_shape, between, reached, require_end


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
    \end{cases}
    \quad p = \min\left(\frac{t - \text{steps} + \text{cooldown}}{\text{cooldown}}, 1\right)$$

    where `shape` decides the weight $s(p)$ of the peak: $1 - p$ for `"linear"`, $(1 + \cos(\pi p))
    / 2$ for `"cosine"`, $1 - \sqrt p$ for `"1-sqrt"`, $\sqrt{1 - p}$ for `"sqrt"`, $1 - p^2$ for
    `"1-square"`, $(1 - p)^2$ for `"square"`, $2 \cdot 2^{-p} - 1$ for `"exp2"`, $(10^{-p} - 1/10) /
    (9/10)$ for `"exp10"`, $(1 - p) / (1 - p/2)$ for `"rex"`, $1 - \log(1 + p \, n) / \log(1 + n)$
    in a phase of $n$ steps for `"log"`. For `"geometric"` the logarithm of the rate is a straight
    line, and for `"inverse"` its reciprocal; both need an `end` above 0. Use it when training may
    be extended or branched: any point of the plateau can be cooled down. A cooldown of 10 % to 20 %
    of `steps` matches a cosine of the same length; `"1-sqrt"` did best in the reference.

    Args:
      peak: Rate of the plateau, at least 0.
      steps: Length of the whole, warmup and cooldown included, in optimizer updates.
      warmup: Length of the warmup in optimizer updates, at least 0.
      cooldown: Length of the cooldown in optimizer updates, at least 0; `warmup + cooldown` is at
        most `steps`.
      init: Rate at the start, at least 0.
      end: Rate from the update with the index `steps` on, at least 0; above 0 for `"inverse"` and
        `"geometric"`.
      shape: One of the words above, or a function from p in [0, 1] to $1 - s(p)$, the fraction of
        the way from `peak` to `end`.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is negative, infinite or NaN, the phases are longer than
        `steps`, or `shape` is an unknown word.

    Warns:
      UserWarning: if `steps` is a concrete 0 and so is `end`: nothing is trained.

    Example:
      >>> lrax.wsd(peak=0.1, steps=8, warmup=2, cooldown=4).values(9)
      Array([0.   , 0.05 , 0.1  , 0.1  , 0.1  , 0.075, 0.05 , 0.025, 0.   ],      dtype=float32)

    Reference:
      Hägele et al. Scaling Laws and Compute-Optimal Training Beyond Fixed Training Durations.
      2024, arXiv:2405.18392.
    """
    hyperparams = _require.real(
        peak=peak, steps=steps, warmup=warmup, cooldown=cooldown, init=init, end=end
    )
    _require.nonnegative(hyperparams, "peak", "steps", "warmup", "cooldown", "init", "end")
    phases = (hyperparams["warmup"], hyperparams["cooldown"])
    _require.at_most("`warmup + cooldown` must be at most `steps`", phases, hyperparams["steps"])
    form = as_shape("shape", shape)
    require_end(hyperparams, "end", shape)
    warn_if_empty(hyperparams["steps"], hyperparams["end"])
    return Schedule(_wsd, {**hyperparams, "shape": form})


@builder(wsd)
def _wsd(count, peak, steps, warmup, cooldown, init, end, shape):
    left = minus(steps, count)
    warming = minus(warmup, count)
    up = between(init, peak, count, warming, warmup)
    down = between(peak, end, minus(cooldown, left), left, cooldown, shape)
    return jnp.where(warming > 0, up, down)


def tri_stage(
    peak: ArrayLike,
    warmup: ArrayLike,
    hold: ArrayLike,
    cooldown: ArrayLike,
    *,
    init_scale: ArrayLike = 0.01,
    final_scale: ArrayLike = 0.01,
) -> Schedule:
    r"""Warmup, hold, exponential decay: the three stages of speech models.

    $$\eta(t) = \text{peak} \cdot \begin{cases}
      \text{init\_scale} + (1 - \text{init\_scale}) \, t / \text{warmup} & t < \text{warmup} \\
      1 & t < \text{warmup} + \text{hold} \\
      \text{final\_scale}^p & \text{otherwise}
    \end{cases}
    \quad p = \min\left(\frac{t - \text{warmup} - \text{hold}}{\text{cooldown}}, 1\right)$$

    Use it to rerun recipes of fairseq; `lrax.wsd` with `shape="geometric"` has the same curve in
    absolute terms.

    Args:
      peak: Rate of the second stage, at least 0.
      warmup: Length of the first stage in optimizer updates, at least 0.
      hold: Length of the second stage, at least 0.
      cooldown: Length of the third stage, at least 0.
      init_scale: Rate at the start as a fraction of `peak`, at least 0.
      final_scale: Rate at the end as a fraction of `peak`, above 0.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is out of its range.

    Example:
      >>> print(lrax.tri_stage(peak=1.0, warmup=2, hold=2, cooldown=2).values(8).round(3))
      [0.01 0.505 1. 1. 1. 0.1 0.01 0.01 ]

    Reference:
      Park et al. SpecAugment: A Simple Data Augmentation Method for Automatic Speech Recognition.
      2019, arXiv:1904.08779.
    """
    hyperparams = _require.real(
        peak=peak,
        warmup=warmup,
        hold=hold,
        cooldown=cooldown,
        init_scale=init_scale,
        final_scale=final_scale,
    )
    _require.nonnegative(hyperparams, "peak", "warmup", "hold", "cooldown", "init_scale")
    _require.positive(hyperparams, "final_scale")
    return Schedule(_tri_stage, hyperparams)


@builder(tri_stage)
def _tri_stage(count, peak, warmup, hold, cooldown, init_scale, final_scale):
    warming = minus(warmup, count)
    since = minus(count, warmup + hold)
    up = between(init_scale, 1, count, warming, warmup)
    down = between(1, final_scale, since, minus(cooldown, since), cooldown, "geometric")
    return peak * jnp.where(warming > 0, up, down)


def wsd_s(
    peak: ArrayLike,
    warmup: ArrayLike,
    boundaries: ArrayLike,
    cooldown: ArrayLike,
    *,
    init: ArrayLike = 0.0,
    end: ArrayLike,
    shape: str | Callable[[Any], Any] = "inverse",
) -> Schedule:
    r"""WSD, simplified: one run, cooled down before each boundary and at `peak` again after it.

    $$\eta(t) = \begin{cases}
      \text{init} + (\text{peak} - \text{init}) \, t / \text{warmup} & t < \text{warmup} \\
      \text{peak} & t < b_i - c_i \\
      \left((1 - p) / \text{peak} + p / \text{end}\right)^{-1} & \text{otherwise}
    \end{cases} \quad p = \frac{t - b_i + c_i}{c_i}$$

    where $b_i$ is the next boundary after $t$, and $c_i$ the length of its cooldown. The last case
    is that of the default `shape`. Use it to get good models at several budgets from one run. The
    checkpoint at a boundary is the model of that budget, and training continues from it. After the
    last boundary the rate is `end`. In the reference, a cooldown is 10 % of its boundary, and `end`
    is a tenth of `peak`.

    Args:
      peak: Rate of the plateaus, at least 0.
      warmup: Length of the warmup in optimizer updates, at least 0.
      boundaries: Number of updates of each budget, in ascending order; shape `[budgets]`.
      cooldown: Length of the cooldown before each boundary, at least 0: one number for all, or one
        per boundary.
      init: Rate at the start, at least 0.
      end: Rate towards which each cooldown falls, at least 0; above 0 for `"inverse"` and
        `"geometric"`. Only the updates from the last boundary on have this rate.
      shape: Shape of the cooldowns, as under `lrax.wsd`. The default is the reference's.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is out of its range, or the boundaries are not a list in
        ascending order.

    Example:
      >>> schedule = lrax.wsd_s(
      ...     peak=1.0, warmup=2, boundaries=[6, 10], cooldown=2, end=0.2, shape="linear"
      ... )
      >>> print(schedule.values(12).round(2))
      [0. 0.5 1. 1. 1. 0.6 1. 1. 1. 0.6 0.2 0.2]

    Reference:
      Wen et al. Understanding Warmup-Stable-Decay Learning Rates: A River Valley Loss Landscape
      Perspective. 2024, arXiv:2410.05192.
    """
    hyperparams = _require.real(
        peak=peak, warmup=warmup, boundaries=boundaries, cooldown=cooldown, init=init, end=end
    )
    _require.nonnegative(hyperparams, "peak", "warmup", "boundaries", "cooldown", "init", "end")
    _require.vector(
        hyperparams, "boundaries", *(["cooldown"] if np.ndim(hyperparams["cooldown"]) else [])
    )
    _require.ascending(hyperparams, "boundaries")
    if not np.shape(hyperparams["boundaries"])[0]:
        raise ValueError("`boundaries` must hold at least one, got none")
    form = as_shape("shape", shape)
    require_end(hyperparams, "end", shape)
    return Schedule(_wsd_s, {**hyperparams, "shape": form})


@builder(wsd_s, ranks={"boundaries": 1, "cooldown": "boundaries"})
def _wsd_s(count, peak, warmup, boundaries, cooldown, init, end, shape):
    # The last update before a boundary makes its checkpoint. The update at the boundary is at the
    # peak again.
    i = jnp.minimum(jnp.sum(reached(count, boundaries), axis=-1), len(boundaries) - 1)
    length = jnp.broadcast_to(cooldown, boundaries.shape)[i]
    at, ends = alike(count, boundaries)
    left = real(jnp.asarray(ends)[i] - jnp.maximum(at, -1))
    down = between(peak, end, length - left, left, length, shape)
    warming = minus(warmup, count)
    return jnp.where(warming > 0, between(init, peak, count, warming, warmup), down)


def infinite(
    peak: ArrayLike,
    stable: ArrayLike,
    warmup: ArrayLike,
    cooldown: ArrayLike,
    *,
    init: ArrayLike = 0.0,
    shape: str | Callable[[Any], Any] = "cosine",
) -> Schedule:
    r"""An infinite schedule: a warmup to `peak`, a cooldown to `stable`, then `stable` forever.

    $$\eta(t) = \begin{cases}
      \text{init} + (\text{peak} - \text{init}) \, t / \text{warmup} & t < \text{warmup} \\
      \text{stable} + (\text{peak} - \text{stable}) \, s(p) & \text{otherwise}
    \end{cases} \quad p = \min\left(\frac{t - \text{warmup}}{\text{cooldown}}, 1\right)$$

    Use it for continual pretraining. At any step of the stable phase, branch a final model off with
    `lrax.cooldown(schedule, at, steps, end, shape="geometric")`, the reference's annealing. The
    stable phase itself can go on.

    Args:
      peak: Highest rate, first reached at the update with the index `warmup`; at least 0.
      stable: Rate of the stable phase, at least 0.
      warmup: Length of the warmup in optimizer updates, at least 0.
      cooldown: Length of the cooldown from `peak` to `stable` in optimizer updates, at least 0.
      init: Rate at the start, at least 0.
      shape: Shape of the cooldown, as under `lrax.wsd`.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is negative, infinite or NaN, or `shape` is an unknown word.

    Example:
      >>> schedule = lrax.infinite(peak=1.0, stable=0.5, warmup=2, cooldown=2)
      >>> cooled = lrax.cooldown(schedule, at=6, steps=2, end=0.125, shape="geometric")
      >>> print(cooled.values(10).round(3))
      [0. 0.5 1. 0.75 0.5 0.5 0.5 0.25 0.125 0.125 ]

    Reference:
      Singh et al. Beyond Cosine Decay: On the Effectiveness of Infinite Learning Rate Schedule for
      Continual Pre-training. 2025, arXiv:2503.02844.
    """
    hyperparams = _require.real(
        peak=peak, stable=stable, warmup=warmup, cooldown=cooldown, init=init
    )
    _require.nonnegative(hyperparams, "peak", "stable", "warmup", "cooldown", "init")
    form = as_shape("shape", shape)
    require_end(hyperparams, "stable", shape)
    return Schedule(_infinite, {**hyperparams, "shape": form})


@builder(infinite, landmarks=landmarks.open_ended)
def _infinite(count, peak, stable, warmup, cooldown, init, shape):
    warming = minus(warmup, count)
    since = minus(count, warmup)
    up = between(init, peak, count, warming, warmup)
    down = between(peak, stable, since, minus(cooldown, since), cooldown, shape)
    return jnp.where(warming > 0, up, down)
