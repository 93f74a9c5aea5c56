"""timm's schedulers of the step count, as functions with their names, arguments and defaults.

`lr` stands in place of the optimizer. Lengths are in units of the count that the schedule is called
with: updates, or epochs if a run steps once per epoch. So there is no `t_in_epochs`, and no
`initialize`. The first update has the rate that timm's constructor sets: `lr`, or `warmup_lr_init`
with a warmup. After the last cycle `lr_min` is held. Noise has timm's distribution, but not its
random numbers, which are PyTorch's.

A schedule of lrax is returned where it is the same function. The others have a formula here. The
tests compare them with timm 1.0.31. `PlateauLRScheduler` follows a metric, and is not a function of
the count.
"""

from .cyclic import CosineLRScheduler, PolyLRScheduler, TanhLRScheduler
from .stairs import MultiStepLRScheduler, StepLRScheduler
from .wsd import WSDLRScheduler

__all__ = [
    "CosineLRScheduler",
    "MultiStepLRScheduler",
    "PolyLRScheduler",
    "StepLRScheduler",
    "TanhLRScheduler",
    "WSDLRScheduler",
]
