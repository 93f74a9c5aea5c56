"""Schedules in sequence: joined, with a warmup in front, or with a cooldown at the end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from jax import numpy as jnp
from jax.typing import ArrayLike

from .. import _require
from . import landmarks
from .builders import builder
from .counts import alike, minus, reached
from .schedule import Schedule, Static, as_schedule, several
from .shapes import as_shape, between, require_end


def join(schedules: Sequence[Any], boundaries: ArrayLike, *, clock: str = "local") -> Schedule:
    r"""Several schedules in sequence: each begins at its boundary and ends at the next one.

    $$\eta(t) = \eta_i(t - b_i), \quad i = \#\{k: \text{boundaries}_k \le t\},
    \quad b = (0, \text{boundaries})$$

    Use it for any sequence of phases. The boundaries may be traced. No phase is evaluated before
    its start or beyond its end, because some formulas are NaN there.

    Args:
      schedules: Two or more: each a `Schedule`, number or function of the count.
      boundaries: Index of the first update of each schedule except the first, at least 0, in
        ascending order; shape `[schedules - 1]`.
      clock: `"local"`: each schedule counts from its own start. `"global"`: all count from 0.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if there are fewer than two schedules, their number is not one more than that of
        the boundaries, or the boundaries are not in ascending order.

    Example:
      >>> up = lrax.linear(init=0.0, end=1.0, steps=2)
      >>> phases = [up, 1.0, lrax.rex(init=1.0, end=0.0, steps=2)]
      >>> print(lrax.join(phases, boundaries=[2, 4]).values(7).round(2))
      [0.   0.5  1.   1.   1.   0.67 0.  ]
    """
    pieces = several("join", tuple(_require.listed("schedules", schedules)))
    hyperparams = _require.real(boundaries=boundaries)
    joins = _require.vector(hyperparams, "boundaries")
    if not len(pieces) == joins + 1 > 1:
        raise ValueError(
            "`schedules` must have one entry more than `boundaries`, which must have one at least,"
            f" got {len(pieces)} and {joins}"
        )
    _require.nonnegative(hyperparams, "boundaries")
    _require.ascending(hyperparams, "boundaries")
    _require.choice("clock", clock, ("local", "global"))
    return Schedule(_join, {"schedules": pieces, **hyperparams, "clock": Static(clock)})


@builder(join, landmarks=landmarks.join, ranks={"boundaries": 1})
def _join(count, schedules, boundaries, clock):
    # `where` evaluates every phase at every count. So each phase gets a count clamped to its start
    # and its end, because its rate might be NaN beyond them.
    rate = schedules[0](_at_most(count, boundaries[0]))
    for i, schedule in enumerate(schedules[1:]):
        begin = boundaries[i]
        at = count if i + 1 == len(boundaries) else _at_most(count, boundaries[i + 1])
        at = jnp.maximum(minus(at, begin), 0) if clock == "local" else _at_least(at, begin)
        rate = jnp.where(reached(count, begin), schedule(at), rate)
    return rate


def _at_most(count, last):
    return jnp.minimum(*alike(count, last))


def _at_least(count, first):
    return jnp.maximum(*alike(count, first))


def warmup(
    schedule: Any,
    steps: ArrayLike,
    init: ArrayLike = 0.0,
    *,
    shape: str | Callable[[Any], Any] = "linear",
    anchor: str = "shift",
) -> Schedule:
    r"""A warmup in front of any schedule.

    Use it for a schedule that begins at its highest rate, with optimizers whose first updates are
    unreliable, such as Adam; 1 % to 10 % of the updates are a good length.

    $$\eta(t) = \begin{cases}
      \text{init} \cdot s(p) + \eta_0(0) \, (1 - s(p)) & t < \text{steps} \\
      \eta_0(t - \text{steps}) & \text{otherwise}
    \end{cases} \quad p = t / \text{steps}$$

    The formula is that of `anchor="shift"`: the schedule begins when the warmup has ended. With
    `"overlay"` the schedule counts from the start, and the warmup leads to
    $\eta_0(\text{steps})$. The warmup then adds nothing to the length of the schedule. With
    `"scale"` the schedule also counts from the start, and the rate is
    $\eta_0(t) \, (\text{init} + (1 - \text{init}) (1 - s(p)))$ with `init` as a factor.

    Args:
      schedule: A `Schedule`, number or function of the count.
      steps: Length of the warmup in optimizer updates, at least 0.
      init: Rate at the start, at least 0; with `anchor="scale"` a factor on the schedule's rate.
      shape: As under `lrax.ramp`, with `init` as the start.
      anchor: `"shift"`, `"overlay"` or `"scale"`.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is negative, infinite or NaN, or a word is unknown.

    Example:
      >>> decay = lrax.linear(init=1.0, end=0.0, steps=4)
      >>> for anchor in ["shift", "overlay", "scale"]:
      ...     print(lrax.warmup(decay, 2, anchor=anchor).values(7))
      [0.   0.5  1.   0.75 0.5  0.25 0.  ]
      [0.   0.25 0.5  0.25 0.   0.   0.  ]
      [0.    0.375 0.5   0.25  0.    0.    0.   ]
    """
    hyperparams = _require.real(steps=steps, init=init)
    _require.nonnegative(hyperparams, "steps", "init")
    _require.choice("anchor", anchor, ("shift", "overlay", "scale"))
    words = {"shape": as_shape("shape", shape), "anchor": Static(anchor)}
    return Schedule(_warmup, {"schedule": as_schedule(schedule), **hyperparams, **words})


@builder(warmup, landmarks=landmarks.warmup)
def _warmup(count, schedule, steps, init, shape, anchor):
    if anchor == "scale":
        return schedule(count) * between(init, 1, count, minus(steps, count), steps, shape)
    shifted = anchor == "shift"
    peak = schedule(0 if shifted else steps)
    left = minus(steps, count)
    # As in `join`, a shifted schedule is not evaluated before its own start.
    after = schedule(jnp.maximum(minus(count, steps), 0) if shifted else count)
    return jnp.where(left > 0, between(init, peak, count, left, steps, shape), after)


def cooldown(
    schedule: Any,
    at: ArrayLike,
    steps: ArrayLike,
    end: ArrayLike = 0.0,
    *,
    shape: str | Callable[[Any], Any] = "1-sqrt",
) -> Schedule:
    r"""Any schedule, cooled down to `end` from the step `at` on.

    $$\eta(t) = \begin{cases}
      \eta_0(t) & t < \text{at} \\
      \text{end} + (\eta_0(\text{at}) - \text{end}) \, s(p) & \text{otherwise}
    \end{cases} \quad p = \min\left(\frac{t - \text{at}}{\text{steps}}, 1\right)$$

    Use it to make a final model from a run whose length was not fixed in advance. `at` may be
    traced. So one compiled program serves for any `at`, and the lanes of one sweep may each cool
    down at a different step.

    Args:
      schedule: A `Schedule`, number or function of the count.
      at: Index of the first update of the cooldown, still at the schedule's own rate; at least 0.
      steps: Length of the cooldown in optimizer updates, at least 0; 10 % to 20 % of the whole is a
        good choice.
      end: Rate from the update with the index `at + steps` on, at least 0.
      shape: As under `lrax.ramp`.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is negative, infinite or NaN, or `shape` is an unknown word.

    Example:
      >>> lrax.cooldown(0.4, at=2, steps=4, shape="linear").values(8)
      Array([0.4, 0.4, 0.4, 0.3, 0.2, 0.1, 0. , 0. ], dtype=float32)

    Reference:
      Hägele et al. Scaling Laws and Compute-Optimal Training Beyond Fixed Training Durations.
      2024, arXiv:2405.18392.
    """
    hyperparams = _require.real(at=at, steps=steps, end=end)
    _require.nonnegative(hyperparams, "at", "steps", "end")
    form = as_shape("shape", shape)
    require_end(hyperparams, "end", shape)
    return Schedule(
        _cooldown,
        {"schedule": as_schedule(schedule), **hyperparams, "shape": form},
    )


@builder(cooldown, landmarks=landmarks.cooldown)
def _cooldown(count, schedule, at, steps, end, shape):
    since = minus(count, at)
    # As in `join`, the schedule is not evaluated after `at`, where its rate is not used.
    down = between(schedule(at), end, since, minus(steps, since), steps, shape)
    return jnp.where(since < 0, schedule(_at_most(count, at)), down)
