"""Learning-rate-free methods: whole optimizers that estimate their step size, or need no schedule.

Which to choose:

- `momo_adam`, or `momo` in place of SGD with momentum, if the lowest loss is near 0, as in most
  classification. `lr` is only an upper limit, so one that is far too high does little harm.
- `prodigy` in place of Adam if no rate is known, with a schedule that decays from 1. `dadapt_adam`
  is its predecessor, for reproducing published results.
- `schedule_free_adamw` or `schedule_free_sgd` if the length of the run is not known. They need a
  rate, but no schedule. Evaluate the parameters from `schedule_free_eval_params`.
- `dog` for fine-tuning without momentum. Evaluate its `polynomial_average`.

A rate and a schedule found by search, as with `lrax.find`, were as good or better on most small
tasks (`python -m tests.benchmarks.controllers`). All methods but the schedule-free ones and `dog`
gain from a schedule as `lr`. `lrax.get_lr` reads the step size in use, and `lrax.set_lr` holds it.
Numbers may be traced, so a sweep can vary them.

The formulas and the defaults are those of the authors' packages. A comment above each optimizer
says why Optax's own method is not used.
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
