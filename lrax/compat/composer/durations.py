"""Composer's durations: a number of updates, or text in batches, epochs or parts of the run.

They follow composer/optim/scheduler.py of mosaicml/composer 0f1df8bb.
"""

from __future__ import annotations

import re

import numpy as np
from jax.typing import ArrayLike

from ...schedules.horizon import Horizon
from ..arguments import Number, floor, is_given, nonnegative, positive

Duration = ArrayLike | str

_FORM = re.compile(r"([0-9]*\.?[0-9]+(?:e[+-]?[0-9]+)?)(ba|ep|dur)", re.IGNORECASE)


def duration(name: str, value: Duration, horizon: Horizon | None, ratio: ArrayLike = 1.0) -> Number:
    """A duration in optimizer updates, scaled by the scale schedule ratio.

    A part of the run, such as "0.1dur", is not scaled: the run itself is.
    """
    scale = positive(scale_schedule_ratio=ratio)["scale_schedule_ratio"]
    scaled = is_given(ratio, 1)
    if horizon is not None and not isinstance(horizon, Horizon):
        raise TypeError(f"`horizon` must be a lrax.Horizon, got {horizon!r}")
    if not isinstance(value, str):
        steps = nonnegative(**{name: value})[name]
        return floor(steps * scale) if scaled else steps
    match = _FORM.fullmatch(value.strip())
    if match is None:
        raise ValueError(
            f"`{name}` must be a number of updates, or text such as '100ba', '10ep' or '0.1dur', "
            f"got {value!r}"
        )
    number = float(match[1])
    unit = match[2].lower()
    if unit == "ba":
        return floor(np.floor(number) * scale)
    if horizon is None:
        raise ValueError(f"`horizon` must be given for `{name}` of {value!r}, got none")
    if unit == "dur":
        return np.floor(number * float(horizon.steps))
    return floor(number * float(horizon.steps_per_epoch) * scale)
