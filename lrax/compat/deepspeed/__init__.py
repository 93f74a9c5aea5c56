"""DeepSpeed's schedulers (`deepspeed.runtime.lr_schedules`, 0.19.8), by name and default.

Its warmups lag by one update: the constructor sets the rate of "step -1", so the updates 0 and 1
have the lowest rate. Its `OneCycle` and `LRRangeTest` count from 1 and so do not lag. The
logarithmic warmup is the default.
"""

from .cycles import LRRangeTest, OneCycle
from .warmups import WarmupCosineLR, WarmupDecayLR, WarmupLR

__all__ = ["LRRangeTest", "OneCycle", "WarmupCosineLR", "WarmupDecayLR", "WarmupLR"]
