"""Python objects that a command names: tasks, optimizers and parameters."""

import difflib
import functools
import importlib
import importlib.util
import operator
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import optax

from ..schedules.schedule import Schedule
from ..schedules.warmups import warmup_constant, warmup_cosine, warmup_linear
from ..training import monitors
from ..training.optimizer import first_parameter
from ..training.run import Optimizer
from ..training.task import Task
from .errors import Mistake
from .values import warmup_steps

Named = Any  # any object that a user's module has under a name

DECAYS = {"constant": None, "linear": warmup_linear, "cosine": warmup_cosine}
LISTED = 12  # the most names that a message lists


def named(text: str, what: str) -> Named:
    """The object of `module:attribute` or `path/to/file.py:attribute`.

    Args:
      text: The text that the command gives.
      what: What the object is, as error messages call it.

    Returns:
      The object.

    Raises:
      Mistake: if there is no such module, file or attribute.
    """
    place, _, attribute = text.rpartition(":")
    if not place or not all(part.isidentifier() for part in attribute.split(".")):
        raise Mistake(f"{what} must be module:attribute or path/to/file.py:attribute, got {text!r}")
    module = _file(Path(place).absolute()) if place.endswith(".py") else _module(place)
    try:
        return operator.attrgetter(attribute)(module)
    except AttributeError:
        names = [
            name
            for name, value in vars(module).items()
            if name[0] != "_" and not isinstance(value, ModuleType)
        ]
        if len(names) > LISTED:
            names = difflib.get_close_matches(attribute, names, LISTED)
        known = f"; it has {', '.join(sorted(names))}" if names else ""
        raise Mistake(f"{place} has no {attribute!r}{known}") from None


def _module(name: str) -> ModuleType:
    if not all(part.isidentifier() for part in name.split(".")):
        raise Mistake(f"{name!r} is not the name of a module, nor a file that ends in .py")
    # `python -m lrax` puts the current folder on the search path, so a module there is found. An
    # installed script would not do so.
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # the module exists, but one that it imports does not
        raise Mistake(
            f"there is no module {name!r} in the current folder or among the installed packages"
        ) from None


@functools.cache  # a file that holds both the task and the optimizer is executed only once
def _file(path: Path) -> ModuleType:
    try:
        found = path.is_file()
    except (OSError, ValueError):  # a name that is too long, or holds a null byte
        found = False
    if not found:
        raise Mistake(f"there is no file {path}")
    # Like a script, the file can import modules from its own folder. It is registered in
    # `sys.modules` under its own name, so that those modules can import it, unless that name is
    # already taken.
    sys.path.insert(0, str(path.parent))
    name = path.stem if path.stem not in sys.modules else f"_{path.stem}_of_the_command_line"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise Mistake(f"{path} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def task(text: str) -> Task:
    """The task of `module:attribute`, a `Task` or a function without arguments that returns one."""
    found = named(text, "the task")
    made = found() if callable(found) and not isinstance(found, Task) else found
    if not isinstance(made, Task):
        how = "is" if made is found else "returned"
        raise Mistake(
            f"{text} must be a lrax.Task or a function that returns one, but {how} an object of"
            f" type {type(made).__name__}"
        )
    return made


def parameters(text: str) -> Named:
    """The parameters that the text names: the object itself, or what it returns as a function."""
    found = named(text, "--params")
    # An Equinox module is a pytree of parameters that can be called. A function is a leaf.
    is_function = callable(found) and jax.tree_util.all_leaves([found])
    return found() if is_function else found


def monitor(text: str) -> Callable[..., Any]:
    """The monitor that the text names: one of `lrax.monitors`, or a `module:function`."""
    if text in monitors.__all__:
        return getattr(monitors, text)
    if ":" not in text:
        known = ", ".join(monitors.__all__)
        raise Mistake(f"--monitor must be one of {known}, or module:function, got {text!r}")
    found = named(text, "--monitor")
    if not callable(found):
        raise Mistake(f"--monitor {text} must be a function of a Step, got {type(found).__name__}")
    return found


def optimizer(
    text: str, *, steps: int, warmup: str, decay: str, names: Sequence[str] = ()
) -> tuple[Optimizer, str]:
    """The optimizer of `module:function`, with schedules in place of its rates.

    Args:
      text: The text that the command gives.
      steps: Length of a run.
      warmup: Length of the warmup, in steps or percent.
      decay: A name in `DECAYS`.
      names: The parameters that are rates; by default the first one.

    Returns:
      The optimizer as a function of hyperparameters, and a text that says what it is.

    Raises:
      Mistake: if there is no such function, or the warmup is longer than the run.
    """
    found: Optimizer = named(text, "--optimizer")
    if not callable(found):
        raise Mistake(
            f"--optimizer {text} must be a function that returns an optax optimizer, but is an"
            f" object of type {type(found).__name__}"
        )
    rates = list(names) or [first_parameter(found)]
    length = warmup_steps(warmup, steps)
    if decay == "constant" and not length:
        return found, text
    shape = DECAYS[decay]

    def schedule(peak: Any) -> Schedule:
        return warmup_constant(peak, length) if shape is None else shape(peak, steps, length)

    @functools.wraps(found)  # keeps the signature, from which the hyperparameters are read
    def scheduled(**hyperparams: Any) -> optax.GradientTransformation:
        return found(**hyperparams | {name: schedule(hyperparams[name]) for name in rates})

    lengths = f"{length}" if decay == "constant" else f"{steps}, {length}"
    return scheduled, f"{text} under warmup_{decay}({', '.join(rates)}, {lengths})"
