"""Other frameworks' schedules: their own names, arguments, defaults and quirks, past the end too.

Each function returns a `Schedule` whose value at `count` is the rate that the framework's optimizer
uses in its update number `count`. Where a framework's schedule is one of lrax's, that is what is
returned: its `repr` is the translation.
"""

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
from .config import from_config

__all__ = ["from_config"]
