"""Theory: what mathematics says of the learning rate, as functions.

They take numbers, or the rates of a schedule, `schedule.values(steps)`. They work under `jax.jit`
and `jax.vmap` and can be differentiated. The exceptions are `fit_law`, `optimize_schedule` and
`functional_schedule`, which search.
"""

from .chebyshev import chebyshev
from .curvature import smoothness, strong_convexity
from .fitting import fit_law
from .functional import functional_law
from .functional_optimum import functional_schedule
from .guarantees import least_grad_norm, predicted_gap
from .last_iterate import best_base_rate, last_iterate_bound
from .laws import annealing_law, multi_power_law
from .optimized import optimize_schedule
from .refined import refined_schedule
from .silver import silver

__all__ = [
    "annealing_law",
    "best_base_rate",
    "chebyshev",
    "fit_law",
    "functional_law",
    "functional_schedule",
    "last_iterate_bound",
    "least_grad_norm",
    "multi_power_law",
    "optimize_schedule",
    "predicted_gap",
    "refined_schedule",
    "silver",
    "smoothness",
    "strong_convexity",
]
