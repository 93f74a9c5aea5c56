"""NumPy for concrete numbers, JAX for traced ones.

Numbers that are concrete when a schedule is built stay NumPy numbers. No device is touched, and
their arithmetic is done on the host, outside of any compiled program.
"""

from types import ModuleType
from typing import Any

import numpy as np
from jax import numpy as jnp


def known(*values: Any) -> bool:
    """Whether all are numbers on the host: neither traced nor on a device."""
    return all(isinstance(value, (np.ndarray, np.generic, bool, int, float)) for value in values)


def library(*values: Any) -> ModuleType:
    """`numpy` where all values are on the host, `jax.numpy` otherwise."""
    return np if known(*values) else jnp
