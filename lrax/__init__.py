"""lrax: everything about the learning rate, as pure JAX functions."""

from importlib.metadata import version as _version

from . import tasks
from .rate import ScaleByLrState, get_lr, scale_by_lr, set_lr
from .schedules.decays import cosine, exponential, linear
from .schedules.schedule import Schedule, add, constant, multiply
from .schedules.warmups import warmup_cosine, wsd
from .sweeps.grid import log_grid
from .sweeps.optimum import Optimum
from .sweeps.result import SweepResult
from .sweeps.sweep import sweep
from .sweeps.train import train
from .tasks.batches import minibatches
from .tasks.task import Task

__version__ = _version("lrax")

__all__ = [
    "Optimum",
    "ScaleByLrState",
    "Schedule",
    "SweepResult",
    "Task",
    "add",
    "constant",
    "cosine",
    "exponential",
    "get_lr",
    "linear",
    "log_grid",
    "minibatches",
    "multiply",
    "scale_by_lr",
    "set_lr",
    "sweep",
    "tasks",
    "train",
    "warmup_cosine",
    "wsd",
]
