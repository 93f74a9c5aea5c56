"""How a rule of lrax is printed: as the call that made it."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from jax.core import Tracer

from ..schedules.schedule import leaf_text


def call_text(name: str, function: Callable[..., Any], arguments: Mapping[str, Any]) -> str:
    """The call of `function` with these arguments, without those that are the defaults."""
    parts = []
    for argument, parameter in inspect.signature(function).parameters.items():
        value = arguments[argument]
        if isinstance(value, Tracer) or not np.array_equal(value, parameter.default):
            parts.append(f"{argument}={leaf_text(value)}")
    return f"{name}({', '.join(parts)})"
