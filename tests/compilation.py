"""How the tests' programs are compiled: most of their time is the compiler's."""

import functools
import hashlib
import os
import threading

import jax
from jax._src import compiler  # no public setting is for all programs from here on
from jax._src.interpreters import mlir

# With these a program's code differs from that of users, as it does without the optimizations.
QUICK = {
    # The emitters of fused loops take longer for a small program than all other passes together.
    "xla_cpu_use_fusion_emitters": False,
    # In one part: a small program takes a quarter less than in the parts that threads compile.
    "xla_cpu_parallel_codegen_split_count": 1,
}

PROGRAMS_IN_A_CONTEXT = 50


class _Here(threading.local):
    """This thread's context of the compiler, and how many more programs it serves."""

    context = None
    left = 0


_here = _Here()
_new_context = mlir.make_ir_context
_options = compiler.get_compile_options
_compile = compiler.compile_or_get_cached
_programs = {}
_flags = os.environ.get("XLA_FLAGS", "")


def quickly(quick: bool) -> None:
    """Compiles all programs from here on quickly, or as for users; those of subprocesses too."""
    # Which compiles, and so has XLA read this process's flags before.
    known = _known() if quick else {}
    jax.config.update("jax_disable_most_optimizations", quick)
    compiler.get_compile_options = functools.partial(_with_options, known)
    os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = str(quick)
    flags = [f"--{name}={str(value).lower()}" for name, value in known.items()]
    os.environ["XLA_FLAGS"] = " ".join([_flags, *flags])


def share() -> None:
    """Shares what programs have in common: of many small ones, that is most of the time and memory.

    Equal programs are compiled once: many tests write the same one anew, and JAX knows only its
    own. And programs are written down in contexts of the compiler that serve many of them.
    """
    compiler.compile_or_get_cached = _once
    mlir.make_ir_context = _context


def forget() -> None:
    """Frees the programs that are kept for others."""
    _programs.clear()


def _once(backend, module, devices, options, host_callbacks, *others):
    if host_callbacks:  # which belong to one caller
        return _compile(backend, module, devices, options, host_callbacks, *others)
    text = module.operation.get_asm(enable_debug_info=False)  # whoever calls it, and from where
    written = hashlib.sha256(text.encode()).digest()
    key = id(backend), written, options.SerializeAsString(), tuple(map(str, devices.flat))
    if key not in _programs:
        _programs[key] = _compile(backend, module, devices, options, host_callbacks, *others)
    return _programs[key]


def _context():
    if _here.left == 0:  # a context keeps the constants of all its programs
        _here.context, _here.left = _new_context(), PROGRAMS_IN_A_CONTEXT
    _here.left -= 1
    return _here.context


def _with_options(overrides, *args, **keywords):
    options = _options(*args, **keywords)
    options.env_option_overrides = [*options.env_option_overrides, *overrides.items()]
    return options


@functools.cache
def _known() -> dict[str, bool | int]:
    """Those of the options that the installed compiler has: they come and go with its releases."""
    return {name: value for name, value in QUICK.items() if _is_known(name, value)}


def _is_known(name: str, value: bool | int) -> bool:
    try:
        jax.jit(lambda x: x).lower(0.0).compile(compiler_options={name: value})
    except jax.errors.JaxRuntimeError:
        return False
    return True
