"""Schedules of other frameworks: their own names, arguments, defaults and quirks.

Each function returns a `Schedule`. Its value at `count` is the rate that the framework's optimizer
uses in its update number `count`, past the end of training too. Where a framework's schedule is
one of lrax's, that one is returned, so its `repr` is the translation.

A framework is a module such as `lrax.compat.torch`. It is loaded when it is first used.
"""

import importlib
import types
import typing

from .config import from_config

# For type checkers and editors, which do not run `__getattr__`.
if typing.TYPE_CHECKING:
    from . import (
        big_vision as big_vision,
        composer as composer,
        deepspeed as deepspeed,
        keras as keras,
        levanter as levanter,
        maxtext as maxtext,
        megatron as megatron,
        nemo as nemo,
        optax as optax,
        t5x as t5x,
        timm as timm,
        torch as torch,
        transformers as transformers,
    )

__all__ = ["from_config"]

_FRAMEWORKS = (
    "big_vision",
    "composer",
    "deepspeed",
    "keras",
    "levanter",
    "maxtext",
    "megatron",
    "nemo",
    "optax",
    "t5x",
    "timm",
    "torch",
    "transformers",
)


def __getattr__(name: str) -> types.ModuleType:
    if name in _FRAMEWORKS:
        return importlib.import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_FRAMEWORKS})
