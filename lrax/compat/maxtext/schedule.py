"""MaxText's schedule.

It follows src/maxtext/utils/maxtext_utils.py of AI-Hypercomputer/maxtext e591f30c.
"""

from __future__ import annotations

from jax.typing import ArrayLike

from ... import _require
from ...schedules.combinators import repeat
from ...schedules.decays import linear
from ...schedules.phases import join
from ...schedules.ramps import ramp
from ...schedules.schedule import Schedule, constant
from ..arguments import Number, floor, is_given, largest, listed, nonnegative, where


def create_learning_rate_schedule(
    learning_rate: ArrayLike = 3e-5,
    steps: ArrayLike = -1,
    *,
    learning_rate_schedule_steps: ArrayLike,
    warmup_steps_fraction: ArrayLike = 0.1,
    learning_rate_final_fraction: ArrayLike = 0.1,
    lr_schedule_type: str = "cosine",
    wsd_decay_steps_fraction: ArrayLike = 0.1,
    wsd_decay_style: str = "linear",
    version: str = "current",
) -> Schedule:
    r"""A linear warmup, then half a cosine wave, or a plateau and a cooldown; 0 after the end.

    The decay is on a closed grid: its first update is at the peak, and its last one, at the index
    `learning_rate_schedule_steps - 1`, at the end. After it the rate is 0 until `steps`; where that
    is not given, a cosine climbs again and a line holds. Phases are fractions of the schedule,
    rounded down.

    Args:
      learning_rate: Highest rate, at least 0.
      steps: Length of the run in optimizer updates; where it is above
        `learning_rate_schedule_steps`, the rest is at 0. With a literal -1 there is no rest.
      learning_rate_schedule_steps: Length of the schedule, above 0.
      warmup_steps_fraction: Warmup as a fraction of the schedule, from 0 to 1.
      learning_rate_final_fraction: Rate at the end as a fraction of `learning_rate`, at least 0.
      lr_schedule_type: `"cosine"` or `"wsd"`.
      wsd_decay_steps_fraction: Cooldown of `"wsd"` as a fraction of the schedule; at most 1
        together with the warmup.
      wsd_decay_style: `"linear"` or `"cosine"`.
      version: `"current"` is the code since pull request 3095. `"closed_warmup"` is that from pull
        request 2883 until then, in which the warmup was on a closed grid too and gave the peak
        twice. `"open_decay"` is that before both, with a cosine only, whose last update is one
        increment short of the end.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is out of its range, or an option is unknown.

    Example:
      >>> for version in ["open_decay", "closed_warmup", "current"]:
      ...     print(lrax.compat.maxtext.create_learning_rate_schedule(
      ...         1.0,
      ...         12,
      ...         learning_rate_schedule_steps=10,
      ...         warmup_steps_fraction=0.3,
      ...         version=version,
      ...     ).values([0, 1, 2, 3, 4, 9, 10]).round(2))
      [0. 0.33 0.67 1. 0.96 0.14 0. ]
      [0. 0.5 1. 1. 0.94 0.1 0. ]
      [0. 0.33 0.67 1. 0.94 0.1 0. ]
    """
    given = nonnegative(
        learning_rate=learning_rate,
        learning_rate_schedule_steps=learning_rate_schedule_steps,
        warmup_steps_fraction=warmup_steps_fraction,
        learning_rate_final_fraction=learning_rate_final_fraction,
        wsd_decay_steps_fraction=wsd_decay_steps_fraction,
    )
    peak, total, part_up, part_end, part_down = given.values()
    _require.positive(given, "learning_rate_schedule_steps")
    _require.choice("lr_schedule_type", lr_schedule_type, ("cosine", "wsd"))
    _require.choice("wsd_decay_style", wsd_decay_style, ("linear", "cosine"))
    _require.choice("version", version, _VERSIONS)
    is_wsd = lr_schedule_type == "wsd"
    if is_wsd and version == "open_decay":
        raise ValueError(
            "`lr_schedule_type` must be 'cosine' with the version 'open_decay', got 'wsd'"
        )
    if is_wsd:
        words = "`warmup_steps_fraction` + `wsd_decay_steps_fraction` must be at most 1"
        _require.at_most(words, (part_up, part_down), 1.0)
    _require.at_most("`warmup_steps_fraction` must be at most 1", part_up, 1.0)
    warmup = floor(total * part_up)
    decay = floor(total * part_down) if is_wsd else total - warmup
    end = where(decay > 0, part_end * peak, peak)  # without a decay, the peak is held
    down = _decay(
        peak,
        end,
        decay if version == "open_decay" else decay - 1,
        is_line=is_wsd and wsd_decay_style == "linear",
    )
    pieces = [_warmup(peak, warmup, version == "closed_warmup")]
    boundaries = [warmup]
    if is_wsd:
        pieces.append(constant(peak))
        boundaries.append(total - decay)
    pieces.append(down)
    if is_given(steps, -1):
        last = nonnegative(steps=steps)["steps"]
        pieces.append(constant(0.0))
        boundaries.append(where(last > total, total, 2.0**31))
    return join(pieces, listed(boundaries))


_VERSIONS = ("current", "closed_warmup", "open_decay")


def _warmup(peak: Number, steps: Number, is_closed: bool) -> Schedule:
    """A line whose last update, on a closed grid, has the peak."""
    increments = largest(steps - 1, 0) if is_closed else steps
    # Optax's line of no increment, in a closed warmup of one update, stays where it begins.
    return linear(0, where((steps > 0) & (increments <= 0), 0, peak), increments)


def _decay(peak: Number, end: Number, increments: Number, *, is_line: bool) -> Schedule:
    """A line whose end is held, or a half wave, which climbs again as in MaxText."""
    some = increments > 0
    if is_line:
        # As in Optax, a line of no increment stays where it begins.
        return linear(peak, where(some, end, peak), largest(increments, 0))
    length = largest(increments, 1)
    return repeat(ramp(where(some, peak, end), end, length, shape="cosine"), length, mirror=True)
