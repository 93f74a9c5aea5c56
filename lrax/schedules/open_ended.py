"""Schedules without an end: they decay for as long as training goes on."""

from __future__ import annotations

import numpy as np
from jax import numpy as jnp
from jax.typing import ArrayLike

from .. import _require
from . import landmarks
from .builders import builder
from .concrete import known, library
from .counts import divided, minus, real
from .schedule import Schedule, Static
from .shapes import between, most_power

# A length in steps is raised to at least this before it divides. XLA flushes the smallest numbers
# of float32 to 0, and a division by 0 would follow.
SHORTEST = 2.0**-90


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

    $$\eta(t) = \text{init} \cdot \text{rate}^{\,u},
    \quad u = \max(t - \text{begin}, 0) / \text{steps}$$

    with $\lfloor u \rfloor$ in place of $u$ when `staircase`. Use it where the length of training
    is open; a factor of 0.94 to 0.97 per epoch is common. With `rate` above 1 it is the ramp of a
    range test. Once the rate has changed by a factor of $e^{80}$ it is held, because float32
    overflows soon after.

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
      ValueError: if a concrete number is out of its range.
      TypeError: if `staircase` is not a bool.

    Example:
      >>> print(lrax.exponential(init=1.0, rate=0.5, steps=2, end=0.25).values(6).round(3))
      [1. 0.707 0.5 0.354 0.25 0.25 ]
      >>> lrax.exponential(init=1.0, rate=0.5, steps=2, staircase=True).values(6)
      Array([1.  , 1.  , 0.5 , 0.5 , 0.25, 0.25], dtype=float32)
    """
    hyperparams = _require.real(init=init, rate=rate, steps=steps, begin=begin)
    _require.nonnegative(hyperparams, "init", "begin")
    _require.positive(hyperparams, "rate", "steps")
    if end is not None:
        hyperparams |= _require.real(end=end)
        _require.nonnegative(hyperparams, "end")
    words = {"staircase": Static(_require.flag("staircase", staircase))}
    return Schedule(_exponential, {**hyperparams, "end": hyperparams.get("end"), **words})


@builder(exponential, landmarks=landmarks.exponential)
def _exponential(count, init, rate, steps, begin, end, staircase):
    most = most_power(rate)
    steps = library(steps).maximum(steps, SHORTEST)
    since = jnp.maximum(minus(count, begin), 0)
    if staircase:
        whole, _ = divided(since, steps)
        value = init * _growth(rate, jnp.minimum(whole, library(most).floor(most)), np.ones(()))
    else:
        value = init * _growth(rate, jnp.minimum(real(since), steps * most), steps)
    if end is None:
        return value
    bounded = jnp.where(rate < 1, jnp.maximum(value, end), jnp.minimum(value, end))
    return jnp.where(rate == 1, value, bounded)


def _growth(rate, since, steps):
    """`rate ** (since / steps)`."""
    # A decay can use one exponential: where its exponent is large enough to be inexact, the rate is
    # so small that the error does not matter beside the peak.
    if known(rate, steps) and rate <= 1:
        return jnp.exp(since * (np.log(rate) / steps))
    # The whole periods and the rest are raised separately. In a single power of float32 the
    # exponent is rounded, and a growth by more than e^8 is then off by more than 1e-6 of the peak.
    # A concrete rate that is rounded to float32 has the same effect; `rounding` corrects it.
    whole, rest = divided(since, steps)
    value = rate**whole * rate ** (rest / steps)
    if not known(rate):
        return value
    rounding = np.log(rate / rate.astype(_require.float_dtype()))
    return value * jnp.exp((whole + rest / steps) * rounding)


def inverse_time(
    init: ArrayLike, rate: ArrayLike, steps: ArrayLike = 1, *, staircase: bool = False
) -> Schedule:
    r"""Divides the rate by a number that grows with time.

    $$\eta(t) = \frac{\text{init}}{1 + \text{rate} \cdot t / \text{steps}}$$

    with $\lfloor t / \text{steps} \rfloor$ when `staircase`. Use it where theory asks for rates
    with an infinite sum and a finite sum of squares, as in stochastic approximation.

    Args:
      init: Rate at the start, at least 0.
      rate: What is added to the divisor every `steps` updates, at least 0.
      steps: Updates in which the divisor grows by `rate`, above 0.
      staircase: Whether the rate falls at once after every `steps` updates instead of smoothly.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is out of its range.
      TypeError: if `staircase` is not a bool.

    Example:
      >>> print(lrax.inverse_time(init=1.0, rate=1.0, steps=2).values(5).round(3))
      [1. 0.667 0.5 0.4 0.333 ]

    Reference:
      Robbins, Monro. A Stochastic Approximation Method. The Annals of Mathematical Statistics,
      1951.
    """
    hyperparams = _require.real(init=init, rate=rate, steps=steps)
    _require.nonnegative(hyperparams, "init", "rate")
    _require.positive(hyperparams, "steps")
    return Schedule(
        _inverse_time, {**hyperparams, "staircase": Static(_require.flag("staircase", staircase))}
    )


@builder(inverse_time, landmarks=landmarks.inverse_time)
def _inverse_time(count, init, rate, steps, staircase):
    steps = library(steps).maximum(steps, SHORTEST)
    since = jnp.maximum(count, 0)
    periods = divided(since, steps)[0] if staircase else real(since) / steps
    return init / (1 + rate * periods)


def inverse_sqrt(
    peak: ArrayLike, warmup: ArrayLike, timescale: ArrayLike | None = None, *, end: ArrayLike = 0.0
) -> Schedule:
    r"""A linear warmup from 0 to `peak`, then a decay with the square root of time.

    $$\eta(t) = \begin{cases}
      \text{peak} \cdot t / \text{warmup} & t < \text{warmup} \\
      \max\!\left(\text{peak} \sqrt{\frac{\tau}{\tau + t - \text{warmup}}}, \text{end}\right)
      & \text{otherwise}
    \end{cases} \quad \tau = \text{timescale}$$

    Use it when the length of training is open; a `lrax.cooldown` gives a final model at any time.

    Args:
      peak: Highest rate, first reached at the update with the index `warmup`; at least 0.
      warmup: Length of the warmup in optimizer updates, at least 0.
      timescale: Updates after the warmup until the rate has fallen to 0.71 of `peak`, above 0.
        `None` is `warmup`, or 10000 without a warmup, as in transformers.
      end: Floor of the decay, at least 0.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is out of its range.

    Example:
      >>> print(lrax.inverse_sqrt(peak=1.0, warmup=2).values(9).round(3))
      [0. 0.5 1. 0.816 0.707 0.632 0.577 0.535 0.5 ]

    Reference:
      Raffel et al. Exploring the Limits of Transfer Learning with a Unified Text-to-Text
      Transformer. 2019, arXiv:1910.10683.
    """
    hyperparams = _require.real(peak=peak, warmup=warmup, end=end)
    _require.nonnegative(hyperparams, "peak", "warmup", "end")
    if timescale is not None:
        hyperparams |= _require.real(timescale=timescale)
        _require.positive(hyperparams, "timescale")
    return Schedule(_inverse_sqrt, {**hyperparams, "timescale": hyperparams.get("timescale")})


@builder(inverse_sqrt, landmarks=landmarks.after_warmup(10, "timescale"))
def _inverse_sqrt(count, peak, warmup, timescale, end):
    # Other libraries differ: Levanter holds the peak for 10000 steps in any case, and NeMo counts
    # from 1.
    tau = library(warmup).where(warmup > 0, warmup, 10_000) if timescale is None else timescale
    since, warming = real(jnp.maximum(minus(count, warmup), 0)), minus(warmup, count)
    decay = jnp.maximum(peak * jnp.sqrt(tau / (tau + since)), end)
    return jnp.where(warming > 0, between(0, peak, count, warming, warmup), decay)


def cosine_inverse_sqrt(
    peak: ArrayLike,
    warmup: ArrayLike,
    wave: ArrayLike,
    *,
    init: ArrayLike = 0.0,
    end: ArrayLike = 0.0,
) -> Schedule:
    r"""A linear warmup, a cosine halfway to `end`, then a decay with the square root of time.

    $$\eta(t) = \begin{cases}
      \text{init} + (\text{peak} - \text{init}) \, t / \text{warmup} & t < \text{warmup} \\
      \text{end} + \frac{\text{peak} - \text{end}}{2}
      \left(1 + \cos\frac{\pi u}{2 \, \text{wave}}\right)
        & u < \text{wave} \\
      \frac{\text{peak} + \text{end}}{2} \sqrt{\frac{\tau}{\tau + u - \text{wave}}}
      & \text{otherwise}
    \end{cases} \quad u = t - \text{warmup}, \quad
    \tau = \frac{\text{wave}}{\pi} \, \frac{\text{peak} + \text{end}}{\text{peak} - \text{end}}$$

    with $\tau$ such that the slope has no jump. Use it for long pretraining of open length, with a
    `lrax.cooldown` at its end, as StableLM 2 and ModernBERT do.

    Args:
      peak: Highest rate, first reached at the update with the index `warmup`; at least 0.
      warmup: Length of the warmup in optimizer updates, at least 0.
      wave: Length of the cosine phase in optimizer updates, a quarter of a period; above 0.
      init: Rate at the start, at least 0.
      end: Rate that the cosine heads for, and does not reach; from 0 to `peak`.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is out of its range.

    Example:
      >>> schedule = lrax.cosine_inverse_sqrt(peak=1.0, warmup=2, wave=4)
      >>> print(schedule.values([0, 2, 4, 6, 10]).round(3))
      [0. 1. 0.854 0.5 0.246 ]

    Reference:
      Bellagente et al. Stable LM 2 1.6B Technical Report. 2024, arXiv:2402.17834.
    """
    hyperparams = _require.real(peak=peak, warmup=warmup, wave=wave, init=init, end=end)
    _require.nonnegative(hyperparams, "peak", "warmup", "init", "end")
    _require.positive(hyperparams, "wave")
    _require.at_most("`end` must be at most `peak`", hyperparams["end"], hyperparams["peak"])
    return Schedule(_cosine_inverse_sqrt, hyperparams)


@builder(cosine_inverse_sqrt, landmarks=landmarks.after_warmup(6, "wave"))
def _cosine_inverse_sqrt(count, peak, warmup, wave, init, end):
    warming, past = minus(warmup, count), minus(count, warmup)
    waving = minus(wave, past)
    since = jnp.minimum(real(jnp.maximum(past, 0)), wave)
    cosine = end + (peak - end) / 2 * (1 + jnp.cos(jnp.pi / 2 * since / wave))
    some = peak + end > 0
    # The time since the wave divided by tau. It is written without tau, which is infinite where
    # `peak` equals `end`.
    beyond = (
        real(jnp.maximum(minus(past, wave), 0))
        / wave
        * (jnp.pi * (peak - end) / library(some).where(some, peak + end, 1))
    )
    decay = (peak + end) / 2 / jnp.sqrt(1 + beyond)
    down = jnp.where(waving > 0, cosine, decay)
    return jnp.where(warming > 0, between(init, peak, count, warming, warmup), down)


def noam(d_model: ArrayLike, warmup: ArrayLike, scale: ArrayLike = 1.0) -> Schedule:
    r"""The schedule of the first transformer: a linear warmup, then the inverse square root.

    $$\eta(t) = \text{scale} \cdot d_{\text{model}}^{-1/2}
    \min\left(s^{-1/2},\; s \cdot \text{warmup}^{-3/2}\right),
    \quad s = t + 1$$

    Use it to rerun published recipes. `lrax.inverse_sqrt` takes the peak rate instead, which here
    is `scale / sqrt(d_model * warmup)`.

    Args:
      d_model: Width of the model, above 0.
      warmup: Length of the warmup in optimizer updates, at least 0; the peak is at the index
        `warmup - 1`.
      scale: Factor on the whole, at least 0.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is out of its range.

    Example:
      >>> print((1e4 * lrax.noam(d_model=512, warmup=4000).values([0, 1999, 3999, 15999])).round(3))
      [0.002 3.494 6.988 3.494]

    Reference:
      Vaswani et al. Attention Is All You Need. 2017, arXiv:1706.03762.
    """
    hyperparams = _require.real(d_model=d_model, warmup=warmup, scale=scale)
    _require.positive(hyperparams, "d_model")
    _require.nonnegative(hyperparams, "warmup", "scale")
    return Schedule(_noam, hyperparams)


@builder(noam, landmarks=landmarks.after_warmup(10))
def _noam(count, d_model, warmup, scale):
    # The paper counts steps from 1. Paddle starts at 0, with a rate of 0; NeMo uses 1 for both 0
    # and 1.
    step = real(jnp.maximum(count, 0)) + 1
    peak = scale / d_model**0.5
    some = warmup > 0
    up = step / library(warmup).where(some, warmup, 1) ** 1.5
    return peak * jnp.where(some & (step < warmup), up, 1 / jnp.sqrt(step))


def power_law(
    peak: ArrayLike,
    batch_size: ArrayLike,
    tokens_per_step: ArrayLike,
    *,
    a: ArrayLike = 4.6,
    b: ArrayLike = -0.51,
) -> Schedule:
    r"""The power scheduler: a power law in the tokens seen, bounded by `peak`.

    Its hyperparameters transfer across batch sizes and lengths of training.

    $$\eta(t) = \min\left(\text{peak},\; a \cdot \text{batch\_size} \cdot n^{b}\right), \quad
    n = t \cdot \text{tokens\_per\_step}$$

    Use it for language models in the maximal update parametrisation, with a `lrax.warmup` in front
    and a `lrax.cooldown` at the end as in the reference, where `a` and `b` were fitted on small
    models.

    Args:
      peak: Highest rate, at least 0.
      batch_size: Sequences per optimizer update, above 0.
      tokens_per_step: Tokens per optimizer update, above 0.
      a: Amplitude of the law, at least 0.
      b: Exponent of the law, any number; negative for a decay.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is out of its range.

    Example:
      >>> schedule = lrax.power_law(peak=0.02, batch_size=128, tokens_per_step=128 * 4096)
      >>> schedule.values([0, 1000, 100_000])
      Array([0.02      , 0.02      , 0.00200...], dtype=float32)

    Reference:
      Shen et al. Power Scheduler: A Batch Size and Token Number Agnostic Learning Rate Scheduler.
      2024, arXiv:2408.13359.
    """
    hyperparams = _require.real(
        peak=peak, batch_size=batch_size, tokens_per_step=tokens_per_step, a=a, b=b
    )
    _require.nonnegative(hyperparams, "peak", "a")
    _require.positive(hyperparams, "batch_size", "tokens_per_step")
    _require.finite(hyperparams, "b")
    return Schedule(_power_law, hyperparams)


@builder(power_law, landmarks=landmarks.power_law)
def _power_law(count, peak, batch_size, tokens_per_step, a, b):
    # The count and the tokens of a step are raised separately. Their product is beyond the integers
    # that float32 holds exactly, and as an int32 it overflows.
    count = real(count)
    some = jnp.where(count > 0, count, 1.0)
    law = a * batch_size * some**b * tokens_per_step**b
    # At the count 0 a decaying law is infinite, so the rate is its bound, the peak. A growing one
    # is 0 there, and a constant one the same as everywhere.
    xp = library(peak, batch_size, a, b)
    constant = xp.minimum(peak, a * batch_size)
    first = xp.where(b < 0, peak, xp.where(b > 0, 0 * peak, constant))
    return jnp.where(count > 0, jnp.minimum(peak, law), first)
