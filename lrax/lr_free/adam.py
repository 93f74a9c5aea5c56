"""What the methods share with Adam."""

from typing import Any

import jax
from jax import numpy as jnp

from .sums import wide


def bias_correction(b1: Any, b2: Any, steps: jax.Array) -> jax.Array:
    """The factor on the step that corrects both averages, after `steps` earlier updates."""
    number = wide(steps) + 1
    return jnp.sqrt(1 - b2**number) / (1 - b1**number)
