"""How the tests' programs are compiled: most of their time is the compiler's."""

import functools

import jax
from jax._src import compiler  # no public setting is for all programs from here on

# The emitters of fused loops take longer for a small program than all other passes together. Without
# them its code differs from that of users, as it does without the optimizations.
FLAGS = {"xla_cpu_use_fusion_emitters": False}

_options = compiler.get_compile_options


def quickly(quick: bool) -> None:
    """Compiles all programs from here on quickly, or as they are compiled for users."""
    jax.config.update("jax_disable_most_optimizations", quick)
    compiler.get_compile_options = _quick_options if quick and _are_known() else _options


def _quick_options(*args, **keywords):
    options = _options(*args, **keywords)
    options.env_option_overrides = [*options.env_option_overrides, *FLAGS.items()]
    return options


@functools.cache
def _are_known() -> bool:
    """Whether the installed compiler has such flags: they come and go with its releases."""
    try:
        jax.jit(lambda x: x).lower(0.0).compile(compiler_options=FLAGS)
    except jax.errors.JaxRuntimeError:
        return False
    return True
