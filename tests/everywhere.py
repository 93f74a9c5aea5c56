"""Fixtures of all tests. Those of a conftest.py would reach no docstring of lrax/ and no README."""

import contextlib
import ctypes
import gc
import os
from pathlib import Path

import compilation
import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

import lrax

# Where the last digit counts, or what the compiler makes of a program.
OPTIMISED = ("laws", "properties", "compiling", "benchmarks")


def pytest_sessionstart():
    compilation.share()


def pytest_collection_finish():
    """What is imported by now stays: garbage is looked for in the rest alone, and not so often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000)


@pytest.fixture(autouse=True)
def names(doctest_namespace):
    doctest_namespace.update(lrax=lrax, jax=jax, jnp=jnp, np=np, optax=optax)


@pytest.fixture(scope="module", autouse=True)
def optimised(request):
    """Whether programs are compiled as for users; most need not be, and run for milliseconds."""
    optimised = request.config.getoption("--slow") or any(
        f"test_{word}" in request.node.name for word in OPTIMISED
    )
    compilation.quickly(not optimised)
    yield optimised
    compilation.quickly(False)


@pytest.fixture
def quick(request, optimised):
    """For a test whose programs are its own and need no optimising, in a module of others."""
    compilation.quickly(not request.config.getoption("--slow"))
    yield
    compilation.quickly(not optimised)


@pytest.fixture
def as_for_users(optimised):
    """For a test of what the compiler makes of a program, in a module of others."""
    compilation.quickly(False)
    yield
    compilation.quickly(not optimised)


@pytest.fixture(scope="module", autouse=True)
def small_after_a_module():
    yield
    _forget_from(900 * 2**20)


@pytest.fixture(autouse=True)
def small_after_a_test():
    """A table of many programs fills a worker alone; other modules keep theirs to their end."""
    yield
    _forget_from(1200 * 2**20)


def _forget_from(most):
    """Forgets what has been compiled, if this process has so many bytes in memory."""
    if _resident() > most:
        jax.clear_caches()
        compilation.forget()
        gc.collect()
        with contextlib.suppress(OSError, AttributeError):  # only glibc gives memory back
            ctypes.CDLL("libc.so.6").malloc_trim(0)


def _resident():
    """Bytes of this process in memory; 0 where Linux does not tell."""
    statm = Path("/proc/self/statm")
    pages = int(statm.read_text().split()[1]) if statm.exists() else 0
    return pages * os.sysconf("SC_PAGE_SIZE") if pages else 0
