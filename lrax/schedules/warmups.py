"""Schedules that begin with a linear warmup to the peak."""

from __future__ import annotations

from jax import numpy as jnp
from jax.typing import ArrayLike

from .. import _require
from . import landmarks
from .builders import builder
from .counts import minus
from .lengths import warn_if_empty
from .schedule import Schedule
from .shapes import between


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
    \end{cases}
    \quad p = \min\left(\frac{t - \text{warmup}}{\text{steps} - \text{warmup}}, 1\right)$$

    Use it as the default for Adam and its kin; a warmup of 1 % to 10 % of `steps` and `end` of 0 to
    0.1 of `peak` are good first choices. It agrees with `optax.warmup_cosine_decay_schedule` (whose
    `decay_steps` also includes the warmup). Every number may be traced, `peak` included.

    Args:
      peak: Highest rate, first reached at the update with the index `warmup`; at least 0.
      steps: Length of the whole, warmup included, in optimizer updates; at least `warmup`.
      warmup: Length of the warmup in optimizer updates, at least 0; with 0 the first update has the
        rate `peak`.
      init: Rate at the start, at least 0. The default leaves the parameters untouched in the first
        update.
      end: Rate from the update with the index `steps` on, at least 0.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is negative, infinite or NaN, or `warmup` is above `steps`.

    Warns:
      UserWarning: if `steps` is a concrete 0 and so is `end`: nothing is trained.

    Example:
      >>> print(lrax.warmup_cosine(peak=0.1, steps=6, warmup=2).values(8).round(3))
      [0. 0.05 0.1 0.085 0.05 0.015 0. 0. ]

    Reference:
      Goyal et al. Accurate, Large Minibatch SGD: Training ImageNet in 1 Hour. 2017,
      arXiv:1706.02677 (the warmup). Loshchilov, Hutter. SGDR: Stochastic Gradient Descent with Warm
      Restarts. 2016, arXiv:1608.03983 (the cosine).
    """
    hyperparams = _require.real(peak=peak, steps=steps, warmup=warmup, init=init, end=end)
    _require.nonnegative(hyperparams, "peak", "steps", "warmup", "init", "end")
    _require.at_most(
        "`warmup` must be at most `steps`", hyperparams["warmup"], hyperparams["steps"]
    )
    warn_if_empty(hyperparams["steps"], hyperparams["end"])
    return Schedule(_warmup_cosine, hyperparams)


@builder(warmup_cosine)
def _warmup_cosine(count, peak, steps, warmup, init, end):
    up = between(init, peak, count, minus(warmup, count), warmup)
    down = between(peak, end, minus(count, warmup), minus(steps, count), steps - warmup, "cosine")
    return jnp.where(minus(warmup, count) > 0, up, down)


def warmup_linear(
    peak: ArrayLike,
    steps: ArrayLike,
    warmup: ArrayLike,
    *,
    init: ArrayLike = 0.0,
    end: ArrayLike = 0.0,
) -> Schedule:
    r"""A linear warmup to `peak`, then a straight line down to `end`.

    $$\eta(t) = \begin{cases}
      \text{init} + (\text{peak} - \text{init}) \, t / \text{warmup} & t < \text{warmup} \\
      \text{peak} + (\text{end} - \text{peak}) \, p & \text{otherwise}
    \end{cases}
    \quad p = \min\left(\frac{t - \text{warmup}}{\text{steps} - \text{warmup}}, 1\right)$$

    Use it as the default for fine-tuning, and for pretraining with `end` at 0, where the reference
    found it better than a cosine that decays to a tenth of `peak`.

    Args:
      peak: Highest rate, first reached at the update with the index `warmup`; at least 0.
      steps: Length of the whole, warmup included, in optimizer updates; at least `warmup`.
      warmup: Length of the warmup in optimizer updates, at least 0; with 0 the first update has the
        rate `peak`.
      init: Rate at the start, at least 0. The default leaves the parameters untouched in the first
        update.
      end: Rate from the update with the index `steps` on, at least 0.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is negative, infinite or NaN, or `warmup` is above `steps`.

    Warns:
      UserWarning: if `steps` is a concrete 0 and so is `end`: nothing is trained.

    Example:
      >>> lrax.warmup_linear(peak=0.4, steps=6, warmup=2).values(8)
      Array([0. , 0.2, 0.4, 0.3, 0.2, 0.1, 0. , 0. ], dtype=float32)

    Reference:
      Bergsma et al. Straight to Zero: Why Linearly Decaying the Learning Rate to Zero Works Best
      for LLMs. 2025, arXiv:2502.15938.
    """
    hyperparams = _require.real(peak=peak, steps=steps, warmup=warmup, init=init, end=end)
    _require.nonnegative(hyperparams, "peak", "steps", "warmup", "init", "end")
    _require.at_most(
        "`warmup` must be at most `steps`", hyperparams["warmup"], hyperparams["steps"]
    )
    warn_if_empty(hyperparams["steps"], hyperparams["end"])
    return Schedule(_warmup_linear, hyperparams)


@builder(warmup_linear)
def _warmup_linear(count, peak, steps, warmup, init, end):
    up = between(init, peak, count, minus(warmup, count), warmup)
    down = between(peak, end, minus(count, warmup), minus(steps, count), steps - warmup)
    return jnp.where(minus(warmup, count) > 0, up, down)


def warmup_constant(peak: ArrayLike, warmup: ArrayLike, *, init: ArrayLike = 0.0) -> Schedule:
    r"""A linear warmup to `peak`, and then the constant rate `peak`.

    $$\eta(t) = \text{init} + (\text{peak} - \text{init}) \min(t / \text{warmup}, 1)$$

    Use it where the length of training is open, or when another rule lowers the rate later.

    Args:
      peak: Rate from the update with the index `warmup` on, at least 0.
      warmup: Length of the warmup in optimizer updates, at least 0; with 0 every update has the
        rate `peak`.
      init: Rate at the start, at least 0. The default leaves the parameters untouched in the first
        update.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is negative, infinite or NaN.

    Example:
      >>> lrax.warmup_constant(peak=0.4, warmup=2).values(5)
      Array([0. , 0.2, 0.4, 0.4, 0.4], dtype=float32)
    """
    hyperparams = _require.real(peak=peak, warmup=warmup, init=init)
    _require.nonnegative(hyperparams, "peak", "warmup", "init")
    return Schedule(_warmup_constant, hyperparams)


@builder(warmup_constant, landmarks=landmarks.after_warmup(0.5))
def _warmup_constant(count, peak, warmup, init):
    return between(init, peak, count, minus(warmup, count), warmup)
