"""Schedules from the configurations of other frameworks."""

import contextlib
import difflib
import importlib
import inspect
import json
import math
import numbers
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from .. import _require
from ..schedules.schedule import Schedule


def from_config(config: Mapping[str, Any], *, steps: int | None = None) -> Schedule:
    """The schedule that a configuration of transformers or PyTorch names.

    There are two kinds of configuration:

    - the arguments of transformers' `TrainingArguments`, among any others: `lr_scheduler_type`
      (default `"linear"`), `learning_rate` (default 5e-5), `lr_scheduler_kwargs`, also as JSON,
      `max_steps`, and the warmup: `warmup_steps`, which is a fraction of the training when below 1,
      or `warmup_ratio`. A warmup that is a fraction is rounded up to whole updates, as there;
    - `{"scheduler": "OneCycleLR", "lr": 0.1, ...}` or `{"class":
      "torch.optim.lr_scheduler.OneCycleLR", ...}`: a class of PyTorch with its arguments. The
      classes in the list `schedulers` get the same `lr` if they have none of their own.

    Args:
      config: The configuration. Numbers may be text, because YAML reads `1e-4` as text. They may be
        traced, except for the lengths of transformers.
      steps: Optimizer updates of the whole training, in place of `max_steps`. `num_train_epochs`
        alone does not determine them.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a key is missing or unknown, or a value out of its range.
      TypeError: if a value is of another type than it must be.

    Example:
      >>> config = {
      ...     "lr_scheduler_type": "linear",
      ...     "learning_rate": 1e-3,
      ...     "warmup_ratio": 0.1,
      ...     "max_steps": 1000,
      ... }
      >>> lrax.compat.from_config(config)
      warmup_linear(peak=0.001, steps=1000, warmup=100, init=0, end=0)
      >>> lrax.compat.from_config({"scheduler": "StepLR", "lr": 0.1, "step_size": 30})
      step_decay(init=0.1, step_size=30, factor=0.1)
    """
    if not isinstance(config, Mapping):
        raise TypeError(f"`config` must be a dict, got {config!r}")
    if steps is not None:
        steps = _require.count("steps", steps, 1)
    config = _with_numbers(config)
    if "scheduler" in config or "class" in config:
        if steps is not None:
            raise ValueError(
                "`steps` must be None for a class of PyTorch, which takes its length among its own"
                f" arguments, got {steps}"
            )
        return _of_torch(config)
    if "lr_scheduler_type" in config or "learning_rate" in config:
        return _of_transformers(config, steps)
    keys = ("scheduler", "class", "lr_scheduler_type", "learning_rate")
    found = [match for key in keys for match in difflib.get_close_matches(key, map(str, config), 1)]
    meant = f"; is {found[0]!r} misspelled?" if found else ""
    raise ValueError(
        f"`config` must have one of the keys {_quoted(keys)}, got {_quoted(config)}{meant}"
    )


def _with_numbers(value: Any) -> Any:
    """The configuration with text converted to numbers where it is one: YAML reads 1e-4 as text."""
    if isinstance(value, Mapping):
        return {key: _with_numbers(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_with_numbers(each) for each in value]
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            number = float(value)
            return int(number) if number.is_integer() and "e" not in value.lower() else number
    return value


def _of_torch(config: Mapping[str, Any], lr: Any = None) -> Schedule:
    key = next(iter(key for key in ("scheduler", "class") if key in config))
    module, _, name = str(config[key]).rpartition(".")
    if module not in ("", "torch.optim.lr_scheduler", "torch.optim.swa_utils"):
        raise ValueError(
            f"`config[{key!r}]` must be a class of torch.optim.lr_scheduler, got {config[key]!r}"
        )
    if name == "ReduceLROnPlateau":
        raise ValueError(
            f"`config[{key!r}]` must be a schedule of the step count, got {name!r}, which follows"
            " the loss"
        )
    torch = importlib.import_module(".torch", __package__)
    _choice(key, name, [name for name in torch.__all__ if not name.endswith("Momentum")])
    keywords = {name: value for name, value in config.items() if name != key}
    if lr is not None:
        keywords = {"lr": lr, **keywords}
    if isinstance(keywords.get("schedulers"), (list, tuple)):
        children = keywords["schedulers"]
        if not all(
            isinstance(child, Mapping) and child.keys() & {"scheduler", "class"}
            for child in children
        ):
            raise ValueError(
                "`config['schedulers']` must be dicts with the key 'scheduler' or 'class', got"
                f" {children}"
            )
        keywords["schedulers"] = [_of_torch(child, keywords.get("lr")) for child in children]
    return _called(getattr(torch, name), keywords, "config", name)


def _of_transformers(config: Mapping[str, Any], steps: int | None) -> Schedule:
    given = _training_arguments(config)
    name = getattr(given["lr_scheduler_type"], "value", given["lr_scheduler_type"])
    name = name if isinstance(name, str) else repr(name)
    transformers = importlib.import_module(".transformers.scheduler", __package__)
    if name in transformers.CONTROLLERS:
        message = f"must be a schedule of the step count, got {name!r}, which follows the loss"
        raise ValueError(f"`config['lr_scheduler_type']` {message}")
    _choice("lr_scheduler_type", name, transformers.FUNCTIONS)
    function = transformers.FUNCTIONS[name]
    takes = inspect.signature(function).parameters
    specific = _specific(given["lr_scheduler_kwargs"])
    lengths = _lengths(given, steps, takes, specific)
    keywords = {"lr": given["learning_rate"]}
    keywords |= {key: value for key, value in lengths.items() if key in takes}
    if name in ("constant", "constant_with_warmup"):  # transformers passes them no others
        specific = {}
    return _called(
        function, {**keywords, **specific}, "config['lr_scheduler_kwargs']", repr(name), keywords
    )


def _training_arguments(config: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that the schedule depends on, with the defaults of transformers."""
    for key in _DEFAULTS.keys() - config.keys():
        others = [str(other) for other in config if other not in _DEFAULTS]
        for other in difflib.get_close_matches(key, others, 1, 0.85):
            raise ValueError(f"`config` has the unknown key {other!r}; did you mean {key!r}?")
    # A field that was not given may be None.
    given = {
        key: default if config.get(key) is None else config[key]
        for key, default in _DEFAULTS.items()
    }
    for key in ("max_steps", "warmup_steps", "warmup_ratio"):
        if not isinstance(given[key], numbers.Real):
            raise TypeError(f"`config[{key!r}]` must be a number, got {given[key]!r}")
    steps = given["warmup_steps"]
    ratio = given["warmup_ratio"]
    if not 0 <= steps < math.inf:
        raise ValueError(f"`config['warmup_steps']` must be at least 0, got {steps}")
    if not 0 <= ratio < 1 + 1e-9:
        raise ValueError(f"`config['warmup_ratio']` must be from 0 to 1, got {ratio}")
    return given


_DEFAULTS = {
    "lr_scheduler_type": "linear",
    "learning_rate": 5e-5,
    "lr_scheduler_kwargs": {},
    "max_steps": -1,
    "warmup_steps": 0,
    "warmup_ratio": 0.0,
}


def _specific(value: Any) -> Mapping[str, Any]:
    """The schedule's own arguments, given as a dict or as JSON."""
    if isinstance(value, str):
        try:
            value = _with_numbers(json.loads(value))
        except ValueError as error:
            raise ValueError(
                f"`config['lr_scheduler_kwargs']` must be a dict or JSON, got {value!r}"
            ) from error
    if not isinstance(value, Mapping):
        raise TypeError(f"`config['lr_scheduler_kwargs']` must be a dict, got {value!r}")
    return value


def _lengths(
    given: Mapping[str, Any], steps: int | None, takes: Iterable[str], specific: Mapping[str, Any]
) -> dict[str, int | None]:
    """The lengths of the training and of its warmup, in updates."""
    total = steps if steps is not None else given["max_steps"] if given["max_steps"] > 0 else None
    warmup = given["warmup_steps"]
    ratio = 0 if warmup >= 1 else warmup or given["warmup_ratio"]
    needs_total = "num_training_steps" in takes and "num_stable_steps" not in specific
    if total is None and (needs_total or (ratio and "num_warmup_steps" in takes)):
        raise ValueError(
            "`config['max_steps']` must be the updates of the whole training, or `steps` be given,"
            f" got {given['max_steps']} and None"
        )
    return {
        "num_training_steps": total,
        # transformers rounds a fraction of the training up, and a number of updates down.
        "num_warmup_steps": math.ceil(total * ratio) if ratio and total else int(warmup),
    }


def _called(
    function: Callable[..., Schedule],
    keywords: Mapping[str, Any],
    where: str,
    name: str,
    own: Iterable[str] = (),
) -> Schedule:
    """Calls a function with the arguments of a configuration; errors name the key at fault.

    The arguments `own` do not come from the part `where` of the configuration.
    """
    parameters = inspect.signature(function).parameters
    takes = [key for key in parameters if key not in own]
    for key in keywords:
        if key not in parameters:
            raise ValueError(
                f"`{where}` must have keys that {name} takes, {_quoted(takes)}, got"
                f" {key!r}{_meant(key, takes)}"
            )
    for key, parameter in parameters.items():
        if parameter.default is inspect.Parameter.empty and key not in keywords:
            raise ValueError(
                f"`{where}` must have the key {key!r} for {name}, got {_quoted(keywords)}"
            )
    try:
        return function(**keywords)
    except (TypeError, ValueError) as error:
        if type(error) not in (TypeError, ValueError):
            raise  # a subclass, such as JAX's errors, which may not be made from a text alone
        raise type(error)(f"in `config`: {error}") from error


def _choice(key: str, value: Any, options: Iterable[str]) -> None:
    options = list(options)
    if value not in options:
        raise ValueError(
            f"`config[{key!r}]` must be one of {_quoted(options)}, got"
            f" {value!r}{_meant(value, options)}"
        )


def _meant(value: Any, options: Iterable[str]) -> str:
    close = difflib.get_close_matches(str(value), options, 1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _quoted(names: Iterable[Any]) -> str:
    names = [repr(name) for name in names]
    more = f" and {len(names) - 20} more" if len(names) > 20 else ""
    return (", ".join(names[:20]) or "none") + more
