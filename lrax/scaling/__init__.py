"""Rates that transfer: what changes with the batch, the width, the depth and the layer.

Rules of one thing take numbers and return numbers. Where a rule changes more than the rate, it
returns all that it changes:

- the batch: `linear` for SGD, `sqrt` or `adam_sde` for Adam, `ema` for a moving average;
- the batch and the gradient's noise: `noise_scale` for SGD, `surge` for Adam;
- weight decay: `decay_timescale`, the time over which weights are forgotten;
- width and depth: `complete_p`.

Their arguments may be traced or have an axis of lanes. With Python numbers they return Python
floats in double precision, and start no device.
"""

from .batch import adam_sde, ema, linear, sqrt
from .decay import decay_timescale
from .depth import complete_p
from .noise import noise_scale, surge

__all__ = [
    "adam_sde",
    "complete_p",
    "decay_timescale",
    "ema",
    "linear",
    "noise_scale",
    "sqrt",
    "surge",
]
