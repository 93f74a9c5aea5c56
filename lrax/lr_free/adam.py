"""Adam's bias correction, which several methods use."""

from typing import Any

import jax
from jax import numpy as jnp

from .sums import wide


def bias_correction(b1: Any, b2: Any, steps: jax.Array) -> jax.Array:
    """The factor on the step that corrects the bias of both averages, after `steps` updates."""
    number = wide(steps) + 1
    return jnp.sqrt(1 - b2**number) / (1 - b1**number)
