"""The schedulers of PyTorch (`torch.optim.lr_scheduler`, and SWALR), by name and default.

`lr` stands where PyTorch has the optimizer: it is the rate that the optimizer was made with. A
schedule has no state, so there is no `last_epoch`: `lrax.shift` skips updates.
"""

from .chained import ChainedScheduler
from .cyclic import CyclicLR, CyclicMomentum
from .factors import ConstantLR, ExponentialLR, LinearLR, MultiStepLR, PolynomialLR, StepLR
from .functions import LambdaLR, MultiplicativeLR
from .one_cycle import OneCycleLR, OneCycleMomentum
from .sequential import SequentialLR
from .waves import SWALR, CosineAnnealingLR, CosineAnnealingWarmRestarts

__all__ = [
    "SWALR",
    "ChainedScheduler",
    "ConstantLR",
    "CosineAnnealingLR",
    "CosineAnnealingWarmRestarts",
    "CyclicLR",
    "CyclicMomentum",
    "ExponentialLR",
    "LambdaLR",
    "LinearLR",
    "MultiStepLR",
    "MultiplicativeLR",
    "OneCycleLR",
    "OneCycleMomentum",
    "PolynomialLR",
    "SequentialLR",
    "StepLR",
]
