"""Compiler options of XLA for programs on a CPU."""

import functools
import math
from typing import Any

import jax
from jax.extend.core import Jaxpr

from .equations import equations

# For programs that run once. LLVM takes longer to optimise the code that draws random numbers than
# all other code of a sweep. XLA's other backends ignore this option or do not know it.
HASTY = {"xla_backend_optimization_level": 0}
# Since jaxlib 0.9, XLA computes sums with a library. The library is fast for sums over columns,
# such as gradients of biases. For sums over rows, such as those of a softmax, it is several times
# slower than XLA's own code. With this option the library computes matrix products only.
OWN_SUMS = {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_DOT"}


def compiler_options(jaxpr: Jaxpr, *, hasty: bool) -> dict[str, Any]:
    """The options for a program.

    Args:
      jaxpr: The program.
      hasty: Whether it runs so rarely that a short compilation matters more than fast code.
    """
    if hasty:
        return HASTY
    # One option holds for all sums of a program, so the larger kind decides.
    rows, columns = sums(jaxpr)
    return OWN_SUMS if rows > columns and _is_known(*OWN_SUMS.items()) else {}


def sums(jaxpr: Jaxpr) -> tuple[int, int]:
    """How many elements are reduced along the last dimension, and how many along others."""
    rows = 0
    columns = 0
    for equation in equations(jaxpr):
        if equation.primitive.name in ("reduce_sum", "reduce_max"):
            aval: Any = equation.invars[0].aval
            if aval.ndim - 1 in equation.params["axes"]:
                rows += math.prod(aval.shape)
            else:
                columns += math.prod(aval.shape)
    return rows, columns


@functools.cache
def _is_known(*options: tuple[str, Any]) -> bool:
    """Whether this jaxlib knows these options."""
    # JAX has no list of the options, but raises an error for one that it does not know. So a small
    # program is compiled with them.
    try:
        jax.jit(lambda: 0).lower().compile(compiler_options=dict(options))
    except jax.errors.JaxRuntimeError:
        return False
    return True
