"""Theory: what mathematics says of the learning rate, as functions.

They take numbers, or the rates of a schedule, `schedule.values(steps)`. All of them work under
`jax.jit` and `jax.vmap` and can be differentiated.
"""

from .chebyshev import chebyshev
from .fitting import FittedLaw, fit_law
from .last_iterate import best_base_rate, last_iterate_bound
from .laws import annealing_law, multi_power_law
from .optimized import optimize_schedule
from .refined import refined_schedule
from .silver import silver

__all__ = [
    "FittedLaw",
    "annealing_law",
    "best_base_rate",
    "chebyshev",
    "fit_law",
    "last_iterate_bound",
    "multi_power_law",
    "optimize_schedule",
    "refined_schedule",
    "silver",
]
