"""How the tests' programs are compiled: most of their time is the compiler's."""

import functools
import os

import jax
from jax._src import compiler  # no public setting is for all programs from here on

# The emitters of fused loops take longer for a small program than all other passes together. Without
# them its code differs from that of users, as it does without the optimizations.
EMITTERS = "xla_cpu_use_fusion_emitters"

_options = compiler.get_compile_options
_flags = os.environ.get("XLA_FLAGS", "")


def quickly(quick: bool) -> None:
    """Compiles all programs from here on quickly, or as for users; those of subprocesses too."""
    known = quick and _is_known()  # which compiles, and so has XLA read this process's flags before
    jax.config.update("jax_disable_most_optimizations", quick)
    compiler.get_compile_options = _quick_options if known else _options
    os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = str(quick)
    os.environ["XLA_FLAGS"] = f"{_flags} --{EMITTERS}=false" if known else _flags


def _quick_options(*args, **keywords):
    options = _options(*args, **keywords)
    options.env_option_overrides = [*options.env_option_overrides, (EMITTERS, False)]
    return options


@functools.cache
def _is_known() -> bool:
    """Whether the installed compiler has the flag: they come and go with its releases."""
    try:
        jax.jit(lambda x: x).lower(0.0).compile(compiler_options={EMITTERS: False})
    except jax.errors.JaxRuntimeError:
        return False
    return True
