"""Composer's schedulers (`composer.optim.scheduler`), with the optimizer's `lr` in front.

A duration is a number of optimizer updates, or Composer's text in batches, epochs or parts of the
run (`"100ba"`, `"10ep"`, `"0.1dur"`) together with `horizon`, a `lrax.Horizon`. As in Composer, a
duration that is text or scaled is rounded down to whole updates. Where Composer is given several
schedulers, it multiplies them: that is `lrax.multiply`.
"""

from .decays import (
    ConstantScheduler,
    CosineAnnealingScheduler,
    ExponentialScheduler,
    LinearScheduler,
    MultiStepScheduler,
    PolynomialScheduler,
    StepScheduler,
)
from .restarts import CosineAnnealingWarmRestartsScheduler
from .warmups import (
    ConstantWithWarmupScheduler,
    CosineAnnealingWithWarmupScheduler,
    LinearWithWarmupScheduler,
    MultiStepWithWarmupScheduler,
    PolynomialWithWarmupScheduler,
)

__all__ = [
    "ConstantScheduler",
    "ConstantWithWarmupScheduler",
    "CosineAnnealingScheduler",
    "CosineAnnealingWarmRestartsScheduler",
    "CosineAnnealingWithWarmupScheduler",
    "ExponentialScheduler",
    "LinearScheduler",
    "LinearWithWarmupScheduler",
    "MultiStepScheduler",
    "MultiStepWithWarmupScheduler",
    "PolynomialScheduler",
    "PolynomialWithWarmupScheduler",
    "StepScheduler",
]
