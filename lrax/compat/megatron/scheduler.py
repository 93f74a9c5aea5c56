"""Megatron-LM's rate and weight decay.

They follow megatron/core/optimizer_param_scheduler.py of NVIDIA/Megatron-LM d98e8a64.
"""

from __future__ import annotations

from jax.typing import ArrayLike

from ... import _require
from ...schedules.decays import linear
from ...schedules.open_ended import inverse_sqrt
from ...schedules.phases import join
from ...schedules.plateaus import wsd
from ...schedules.ramps import ramp
from ...schedules.schedule import Schedule, constant
from ...schedules.warmups import warmup_constant, warmup_cosine, warmup_linear
from ..arguments import largest, listed, nonnegative, ordered


def OptimizerParamScheduler(
    init_lr: ArrayLike,
    max_lr: ArrayLike,
    min_lr: ArrayLike,
    lr_warmup_steps: ArrayLike,
    lr_decay_steps: ArrayLike,
    lr_decay_style: str,
    *,
    wsd_decay_steps: ArrayLike | None = None,
    lr_wsd_decay_style: str = "exponential",
) -> Schedule:
    r"""A linear warmup, then a phase of the style `lr_decay_style`, as a schedule of lrax.

    `lr_decay_steps` includes the warmup. The inverse square root counts from the start of the
    warmup, so that it continues from the peak. It drops to `min_lr` after `lr_decay_steps`;
    `"constant"` does not. By `"exponential"`, the share of the way from `max_lr` to `min_lr` that
    is left at the fraction $p$ of the decay is $2 \cdot 2^{-p} - 1$.

    Args:
      init_lr: Rate at the start of the warmup, at least 0; at most `max_lr`.
      max_lr: Highest rate, at least `min_lr`.
      min_lr: Rate at the end, at least 0.
      lr_warmup_steps: Length of the warmup, at least 0 and below `lr_decay_steps`.
      lr_decay_steps: Length of the whole, above 0.
      lr_decay_style: `"constant"`, `"linear"`, `"cosine"`, `"inverse-square-root"` or `"WSD"`.
      wsd_decay_steps: Length of the last phase of `"WSD"`; together with the warmup at most
        `lr_decay_steps`.
      lr_wsd_decay_style: Its shape: `"linear"`, `"cosine"`, `"exponential"` or `"minus_sqrt"`.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is out of its range, an option is unknown, or
        `wsd_decay_steps` is missing.

    Example:
      >>> megatron = lrax.compat.megatron.OptimizerParamScheduler
      >>> megatron(0.0, 1.0, 0.1, lr_warmup_steps=10, lr_decay_steps=100, lr_decay_style="cosine")
      warmup_cosine(peak=1, steps=100, warmup=10, init=0, end=0.1)
      >>> megatron(
      ...     0.0, 1.0, 0.1, 10, 100, "WSD", wsd_decay_steps=20, lr_wsd_decay_style="minus_sqrt"
      ... )
      wsd(peak=1, steps=100, warmup=10, cooldown=20, init=0, end=0.1, shape='1-sqrt')
    """
    given = nonnegative(init_lr=init_lr, max_lr=max_lr, min_lr=min_lr)
    given |= nonnegative(lr_warmup_steps=lr_warmup_steps, lr_decay_steps=lr_decay_steps)
    init, peak, end, warm, steps = given.values()
    _require.at_most("`min_lr` must be at most `max_lr`", end, peak)
    _require.at_most("`init_lr` must be at most `max_lr`", init, peak)
    ordered(given, "lr_warmup_steps", "lr_decay_steps")
    styles = ("constant", "linear", "cosine", "inverse-square-root", "WSD")
    _require.choice("lr_decay_style", lr_decay_style, styles)
    if lr_decay_style == "constant":
        return warmup_constant(peak, warm, init=init)
    if lr_decay_style == "linear":
        return warmup_linear(peak, steps, warm, init=init, end=end)
    if lr_decay_style == "cosine":
        return warmup_cosine(peak, steps, warm, init=init, end=end)
    if lr_decay_style == "inverse-square-root":
        # Megatron takes the root of the count itself, and drops to `min_lr` after `lr_decay_steps`.
        some = largest(warm, 1)
        decay = inverse_sqrt(peak, 0, some, end=end)
        return join([linear(init, peak, warm), decay, end], listed([some, steps + 1]))
    _require.choice("lr_wsd_decay_style", lr_wsd_decay_style, _WSD)
    if wsd_decay_steps is None:
        raise ValueError("`wsd_decay_steps` must be given for the style 'WSD', got none")
    last = nonnegative(wsd_decay_steps=wsd_decay_steps)["wsd_decay_steps"]
    return wsd(peak, steps, warm, last, init=init, end=end, shape=_WSD[lr_wsd_decay_style])


_WSD = {"linear": "linear", "cosine": "cosine", "exponential": "exp2", "minus_sqrt": "1-sqrt"}


def weight_decay(
    start_wd: ArrayLike,
    end_wd: ArrayLike,
    wd_incr_steps: ArrayLike,
    wd_incr_style: str = "constant",
) -> Schedule:
    r"""The weight decay of `OptimizerParamScheduler`: a `lrax.ramp` from `start_wd` up to `end_wd`.

    Args:
      start_wd: Weight decay at the start, at least 0.
      end_wd: Weight decay at the end, at least `start_wd`; with `"constant"`, the same.
      wd_incr_steps: Length of the ramp, at least 0.
      wd_incr_style: `"constant"`, `"linear"` or `"cosine"`.

    Returns:
      A `Schedule`, for `optax.inject_hyperparams`.

    Raises:
      ValueError: if a concrete number is out of its range, or `wd_incr_style` is unknown.

    Example:
      >>> print(lrax.compat.megatron.weight_decay(0.0, 0.1, 4, "cosine").values(6).round(3))
      [0. 0.015 0.05 0.085 0.1 0.1 ]
    """
    given = nonnegative(start_wd=start_wd, end_wd=end_wd, wd_incr_steps=wd_incr_steps)
    start, end, steps = given.values()
    _require.choice("wd_incr_style", wd_incr_style, ("constant", "linear", "cosine"))
    _require.at_most("`start_wd` must be at most `end_wd`", start, end)
    if wd_incr_style == "constant":
        _require.at_most(
            "`end_wd` must be `start_wd` where `wd_incr_style` is 'constant'", end, start
        )
        return constant(end)
    return ramp(start, end, steps, shape=wd_incr_style)
