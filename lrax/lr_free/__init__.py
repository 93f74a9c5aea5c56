"""Learning-rate-free methods: whole optimizers that estimate the size of their step.

Which to choose:

- `momo_adam`, or `momo` in place of momentum, if the least loss is near 0, as in most
  classification. The given rate is only a limit, so one that is far too high does little harm.
- `prodigy` if nothing is known of the rate of Adam, with a schedule that decays from 1.
  `dadapt_adam` came before it, and is here to repeat what others have done.
- `schedule_free_adamw` or `schedule_free_sgd` if the length of the run is not known. They need a
  rate, but no schedule. Evaluate `schedule_free_eval_params`.
- `dog` for fine-tuning without momentum. Evaluate its `polynomial_average`.

A rate and a schedule that were searched for, as by `lrax.find`, were as good or better on most
small tasks: `python -m tests.benchmarks.controllers`. All but the schedule-free methods and `dog`
gain from a schedule as `lr`. `lrax.get_lr` reads the step size in use, the estimate times the
schedule, and `lrax.set_lr` holds it. Numbers may be traced, and so be swept.

The formulas and the defaults are those of the authors' packages. A comment above each function says
what Optax's own method lacks.
"""

from .averaging import polynomial_average
from .dadapt import dadapt_adam
from .dog import dog
from .momo import momo
from .momo_adam import momo_adam
from .prodigy import prodigy
from .schedule_free import schedule_free_eval_params
from .schedule_free_adamw import schedule_free_adamw
from .schedule_free_sgd import schedule_free_sgd

__all__ = [
    "dadapt_adam",
    "dog",
    "momo",
    "momo_adam",
    "polynomial_average",
    "prodigy",
    "schedule_free_adamw",
    "schedule_free_eval_params",
    "schedule_free_sgd",
]
