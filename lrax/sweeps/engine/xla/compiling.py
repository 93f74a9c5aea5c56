"""How XLA is to compile a program for a CPU."""

import functools
import math
from typing import Any

import jax
from jax.extend.core import Jaxpr

from .equations import equations

# What draws random numbers takes LLVM longer to optimise than all else, for code that runs once.
# XLA's other backends have no such setting, or do not heed it.
HASTY = {"xla_backend_optimization_level": 0}
# From jaxlib 0.9 on XLA gives sums to a library that is fast for those of columns, such as the
# gradients of biases, and several times slower than XLA itself for those of rows, as in a softmax.
# Products stay with it: it is good at them.
OWN_SUMS = {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_DOT"}


def compiler_options(jaxpr: Jaxpr, *, hasty: bool) -> dict[str, Any]:
    """The options for a program: of one that runs seldom its compilation is to be quick, not its code."""
    if hasty:
        return HASTY
    rows, columns = sums(jaxpr)
    return OWN_SUMS if rows > columns and _is_known(*OWN_SUMS.items()) else {}


def sums(jaxpr: Jaxpr) -> tuple[int, int]:
    """How many elements are summed along the last dimension, and along others."""
    rows = columns = 0
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
    """Whether this jaxlib has such options."""
    try:
        jax.jit(lambda: 0).lower().compile(compiler_options=dict(options))
    except jax.errors.JaxRuntimeError:
        return False
    return True
