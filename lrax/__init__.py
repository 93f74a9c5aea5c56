"""lrax: everything about the learning rate, as pure JAX functions."""

from importlib.metadata import version as _version

from . import compat, controllers, display, tasks
from ._require import checks
from .rate.access import get_lr, set_lr
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
from .schedules.ramps import ramp
from .schedules.schedule import Schedule, add, constant, multiply
from .schedules.stacks import stack
from .schedules.warmups import warmup_constant, warmup_cosine, warmup_linear
from .sweeps.ask_tell import AskTell, Outcome
from .sweeps.confirm import Confirmation, confirm
from .sweeps.function import sweep_function
from .sweeps.grid import log_grid
from .sweeps.optimum import Optimum
from .sweeps.points import points, random_points, sobol
from .sweeps.result import SweepResult
from .sweeps.rules import Halving, Median
from .sweeps.statistics import Paired
from .sweeps.stopping import Evidence, Stopping
from .sweeps.structural import StructuralResult, sweep_over
from .sweeps.sweep import sweep
from .training import monitors
from .training.batches import minibatches
from .training.signals import every
from .training.streams import Stream
from .training.task import Task
from .training.train import Trained, train

__version__ = _version("lrax")

__all__ = [
    "AskTell",
    "Confirmation",
    "Evidence",
    "Halving",
    "Horizon",
    "Median",
    "Optimum",
    "Outcome",
    "Paired",
    "RateRule",
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
    "display",
    "every",
    "exponential",
    "from_values",
    "get_lr",
    "infinite",
    "inverse_sqrt",
    "inverse_time",
    "join",
    "linear",
    "link",
    "log_grid",
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
    "ramp",
    "random_points",
    "repeat",
    "rex",
    "scale",
    "scale_by_lr",
    "scale_by_multipliers",
    "set_lr",
    "shift",
    "sobol",
    "stack",
    "step_decay",
    "stretch",
    "sweep",
    "sweep_function",
    "sweep_over",
    "tanh",
    "tasks",
    "train",
    "tri_stage",
    "warmup",
    "warmup_constant",
    "warmup_cosine",
    "warmup_linear",
    "with_noise",
    "wsd",
    "wsd_s",
]
