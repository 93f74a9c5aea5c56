"""lrax: everything about the learning rate, as pure JAX functions.

The help of a function, such as `help(lrax.warmup_cosine)`, gives its formula, its use and an
example.

- Schedules: `warmup_cosine`, `wsd`, `cosine`, `one_cycle`, `inverse_sqrt`, `constant` and others
  make a `Schedule`; `Horizon` converts epochs and tokens into steps.
- Schedules of schedules: `*`, `+`, `join`, `warmup`, `cooldown`, `clip`, `repeat`, `stack`.
- The rate: `scale_by_lr` applies a schedule or a rule, `get_lr` and `set_lr` read and set the rate,
  `scale_by_multipliers` multiplies it for each layer, `scale_by_hyperball` makes it an angle.
- Rules from feedback: `controllers.plateau`, `controllers.auto_cooldown`, `controllers.adgd` and
  others, or a `RateRule` of your own; `schedule * rule`. `controllers.skip_spikes`,
  `controllers.clip_spikes` and `controllers.restore_after_spikes` guard an optimizer.
- No rate to tune: `lr_free.prodigy`, `lr_free.momo_adam` and others are whole optimizers that
  estimate the size of their step; `get_lr` reads it. `lr_free.schedule_free_adamw` needs a rate,
  but no schedule.
- Training: `Task`, `minibatches` and `Stream` say what is trained, and `train` makes one run.
  `monitors` record values during a run, and `every` makes signals that its rules can follow. In a
  loop of your own, `recorded` keeps monitors in the optimizer's state and `history` reads them.
- Sweeps: `sweep` over a `log_grid`, `sobol` or `random_points`; a `SweepResult` has the best rate;
  `confirm` tests it. `sweep_over` compares optimizers of different structure, `sweep_function`
  sweeps any function, and `AskTell` serves Optuna. `Halving`, `Median` and `Forecast` stop early.
  In `sweep_exchange`, which is experimental, lanes exchange states and rates, by
  `PopulationBasedTraining`, `FanOut` or `Rollback`.
- Which rate: `find` searches by runs of full length and says how sure it is. `range_test` raises
  the rate from update to update, `suggest` reads a rate off the losses of this test, by lrax's rule
  or another package's, and `range_ramp` is for a loop of your own.
- Probes: `probes.critical_rate`, `probes.sharpness`, `probes.noise_scale`, `probes.effective_rates`
  each measure one thing that bears on the rate, and a monitor can call them; `probes.smooth` and
  `probes.diverged_at` look at a curve of losses.
- Theory: `theory.last_iterate_bound` bounds the last loss under any schedule,
  `theory.best_base_rate` gives the factor of a schedule that makes this bound least, and
  `theory.refined_schedule` computes rates from the gradient norms of a run; `theory.annealing_law`,
  `theory.multi_power_law` and `theory.functional_law` are laws of loss curves, `theory.fit_law`
  fits them to your own curves, and `theory.optimize_schedule` finds the schedule with the least
  loss by a law, for which `theory.functional_schedule` has a closed form; `theory.chebyshev` and
  `theory.silver` are step sizes with a guarantee, `theory.smoothness` and
  `theory.strong_convexity` measure the numbers that they need, and `theory.predicted_gap` and
  `theory.least_grad_norm` give the guaranteed bounds.
- Rates that transfer: `scaling.transfer` from one setting to another by published rules;
  `scaling.linear`, `scaling.adam_sde`, `scaling.complete_p` and others follow the batch, the width
  and the depth; `scaling.batch_ramp` grows the batch instead; `scaling.mup_multipliers`,
  `scaling.layer_multipliers` and `scaling.groups` make multipliers from shapes.
- Diagnosis: `diagnose` says what went wrong with a run, from a result, a table or a file.
- Tasks: `tasks.digits`, `tasks.char_lm`, `tasks.diabetes`, and models of Flax and Equinox by
  `tasks.from_nnx`, `tasks.from_linen`, `tasks.from_equinox`.
- Other frameworks: `compat.torch.OneCycleLR` and the like; `compat.from_config` reads a config.
- Pictures and errors: `display.schedules` draws schedules, `checks` finds the bad number in a
  compiled program.
- Command line: `python -m lrax show`, `python -m lrax sweep`, `python -m lrax demo`,
  `python -m lrax find`, `python -m lrax diagnose`.
"""

import importlib as _importlib
import typing as _typing
from importlib.metadata import version as _version

from . import compat, display
from ._require import checks
from .rate.access import get_lr, set_lr
from .rate.hyperball import scale_by_hyperball
from .rate.multipliers import scale_by_multipliers
from .rate.rule import RateRule
from .rate.scale import ScaleByLrState, scale_by_lr
from .schedules.combinators import (
    clip,
    delay,
    link,
    maximum,
    minimum,
    repeat,
    scale,
    shift,
    stretch,
)
from .schedules.cycles import cosine_restarts, cyclic, one_cycle
from .schedules.decays import cosine, linear, polynomial, rex, tanh
from .schedules.horizon import Horizon
from .schedules.noise import with_noise
from .schedules.open_ended import (
    cosine_inverse_sqrt,
    exponential,
    inverse_sqrt,
    inverse_time,
    noam,
    power_law,
)
from .schedules.phases import cooldown, join, warmup
from .schedules.pieces import from_values, multistep, piecewise, piecewise_constant, step_decay
from .schedules.plateaus import infinite, tri_stage, wsd, wsd_s
from .schedules.ramps import ramp, range_ramp
from .schedules.schedule import Schedule, add, constant, multiply
from .schedules.stacks import stack
from .schedules.untuned import untuned_warmup
from .schedules.warmups import warmup_constant, warmup_cosine, warmup_linear
from .training import monitors
from .training.batches import minibatches
from .training.signals import every
from .training.streams import Stream
from .training.task import Task
from .training.train import Trained, train

# For type checkers and editors, which do not run `__getattr__`.
if _typing.TYPE_CHECKING:
    from . import controllers, lr_free, probes, scaling, sweeps as sweeps, tasks, theory
    from .finders.diagnose.diagnose import diagnose
    from .finders.find import find
    from .finders.found import Found
    from .finders.range_test import RangeTest, range_test
    from .finders.suggest import suggest
    from .sweeps.ask_tell import AskTell, Outcome
    from .sweeps.confirm import Confirmation, confirm
    from .sweeps.exchange_result import ExchangeResult
    from .sweeps.exchanging import Exchange, Move, Population
    from .sweeps.fan_out import FanOut
    from .sweeps.forecast import Forecast
    from .sweeps.function import sweep_function
    from .sweeps.grid import log_grid
    from .sweeps.optimum import Optimum
    from .sweeps.points import points, random_points, sobol
    from .sweeps.population_based import PopulationBasedTraining
    from .sweeps.result import SweepResult
    from .sweeps.rollback import Rollback
    from .sweeps.rules import Halving, Median
    from .sweeps.statistics import Paired
    from .sweeps.stopping import Evidence, Stopping
    from .sweeps.structural import StructuralResult, sweep_over
    from .sweeps.sweep import sweep
    from .sweeps.sweep_exchange import sweep_exchange
    from .training.history import History, history
    from .training.recorded import recorded

# These modules are loaded when one of their names is first used. They are more than half of the
# package, and a training job that takes a schedule needs none of them.
_MODULES = {
    "AskTell": "sweeps.ask_tell",
    "Confirmation": "sweeps.confirm",
    "Evidence": "sweeps.stopping",
    "Exchange": "sweeps.exchanging",
    "ExchangeResult": "sweeps.exchange_result",
    "FanOut": "sweeps.fan_out",
    "Forecast": "sweeps.forecast",
    "Found": "finders.found",
    "Halving": "sweeps.rules",
    "History": "training.history",
    "Median": "sweeps.rules",
    "Move": "sweeps.exchanging",
    "Optimum": "sweeps.optimum",
    "Outcome": "sweeps.ask_tell",
    "Paired": "sweeps.statistics",
    "Population": "sweeps.exchanging",
    "PopulationBasedTraining": "sweeps.population_based",
    "Rollback": "sweeps.rollback",
    "Stopping": "sweeps.stopping",
    "RangeTest": "finders.range_test",
    "StructuralResult": "sweeps.structural",
    "SweepResult": "sweeps.result",
    "confirm": "sweeps.confirm",
    "controllers": "controllers",
    "diagnose": "finders.diagnose.diagnose",
    "find": "finders.find",
    "history": "training.history",
    "log_grid": "sweeps.grid",
    "lr_free": "lr_free",
    "points": "sweeps.points",
    "probes": "probes",
    "random_points": "sweeps.points",
    "range_test": "finders.range_test",
    "recorded": "training.recorded",
    "scaling": "scaling",
    "sobol": "sweeps.points",
    "suggest": "finders.suggest",
    "sweep": "sweeps.sweep",
    "sweep_exchange": "sweeps.sweep_exchange",
    "sweep_function": "sweeps.function",
    "sweep_over": "sweeps.structural",
    "sweeps": "sweeps",
    "tasks": "tasks",
    "theory": "theory",
}

__version__ = _version("lrax")

__all__ = [
    "AskTell",
    "Confirmation",
    "Evidence",
    "Exchange",
    "ExchangeResult",
    "FanOut",
    "Forecast",
    "Found",
    "Halving",
    "History",
    "Horizon",
    "Median",
    "Move",
    "Optimum",
    "Outcome",
    "Paired",
    "Population",
    "PopulationBasedTraining",
    "RangeTest",
    "RateRule",
    "Rollback",
    "ScaleByLrState",
    "Schedule",
    "Stopping",
    "Stream",
    "StructuralResult",
    "SweepResult",
    "Task",
    "Trained",
    "add",
    "checks",
    "clip",
    "compat",
    "confirm",
    "constant",
    "controllers",
    "cooldown",
    "cosine",
    "cosine_inverse_sqrt",
    "cosine_restarts",
    "cyclic",
    "delay",
    "diagnose",
    "display",
    "every",
    "exponential",
    "find",
    "from_values",
    "get_lr",
    "history",
    "infinite",
    "inverse_sqrt",
    "inverse_time",
    "join",
    "linear",
    "link",
    "log_grid",
    "lr_free",
    "maximum",
    "minibatches",
    "minimum",
    "monitors",
    "multiply",
    "multistep",
    "noam",
    "one_cycle",
    "piecewise",
    "piecewise_constant",
    "points",
    "polynomial",
    "power_law",
    "probes",
    "ramp",
    "random_points",
    "range_ramp",
    "range_test",
    "recorded",
    "repeat",
    "rex",
    "scale",
    "scale_by_hyperball",
    "scale_by_lr",
    "scale_by_multipliers",
    "scaling",
    "set_lr",
    "shift",
    "sobol",
    "stack",
    "step_decay",
    "stretch",
    "suggest",
    "sweep",
    "sweep_exchange",
    "sweep_function",
    "sweep_over",
    "tanh",
    "tasks",
    "theory",
    "train",
    "tri_stage",
    "untuned_warmup",
    "warmup",
    "warmup_constant",
    "warmup_cosine",
    "warmup_linear",
    "with_noise",
    "wsd",
    "wsd_s",
]


def __getattr__(name: str) -> _typing.Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = _importlib.import_module(f".{_MODULES[name]}", __name__)
    if name != _MODULES[name]:  # a name inside of a module, not the module itself
        value = getattr(value, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})
