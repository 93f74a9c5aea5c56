"""timm's schedulers of the step count, as functions with their names, arguments and defaults.

`lr` stands in place of the optimizer. Their `t` is what you count: for the rates of a run that
steps per epoch, count epochs; `t_in_epochs` is not taken, nor is `initialize`. The first update has
the rate that timm's constructor sets: `lr`, or `warmup_lr_init` with a warmup. After the last cycle
`lr_min` is held. Noise has timm's distribution, and not its random numbers, which are PyTorch's.

A schedule of lrax is returned where there is one, without the arguments that change nothing. The
others have a formula here. Parity is tested with timm 1.0.31.
`PlateauLRScheduler` follows a metric: it is no function of the count.
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
