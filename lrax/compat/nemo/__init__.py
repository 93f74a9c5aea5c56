r"""NeMo's schedulers (`nemo.core.optim.lr_scheduler`), with the optimizer's `lr` in front.

Unless a docstring says otherwise, the rate in the warmup is `lr` times $(t + 1) / (\text{warmup} +
1)$, so no update has the rate 0. The warmup is given as `warmup_steps`, or as `warmup_ratio`, a
fraction of `max_steps` that is rounded down. After `max_steps` the rate is `min_lr`, whatever the
decay has come to.
"""

from .annealings import (
    CosineAnnealing,
    InverseSquareRootAnnealing,
    PolynomialDecayAnnealing,
    SquareAnnealing,
    SquareRootAnnealing,
    T5InverseSquareRootAnnealing,
    WarmupAnnealing,
)
from .holds import (
    PolynomialHoldDecayAnnealing,
    WarmupHoldAnnealLinear,
    WarmupHoldAnnealOneMinusSquareRoot,
)
from .noam import NoamAnnealing, NoamHoldAnnealing, inverse_power
from .policies import WarmupHoldPolicy, WarmupPolicy

__all__ = [
    "CosineAnnealing",
    "InverseSquareRootAnnealing",
    "NoamAnnealing",
    "NoamHoldAnnealing",
    "PolynomialDecayAnnealing",
    "PolynomialHoldDecayAnnealing",
    "SquareAnnealing",
    "SquareRootAnnealing",
    "T5InverseSquareRootAnnealing",
    "WarmupAnnealing",
    "WarmupHoldAnnealLinear",
    "WarmupHoldAnnealOneMinusSquareRoot",
    "WarmupHoldPolicy",
    "WarmupPolicy",
    "inverse_power",
]
