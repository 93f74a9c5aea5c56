"""What every test runs under, and the names that every doctest may use."""

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
from jax import experimental, numpy as jnp

import lrax

jax.config.update("jax_numpy_rank_promotion", "raise")

collect_ignore = [
    "benchmarks"
]  # commands, and one of them needs PyTorch; `test_benchmarks.py` runs them


class Doctests:
    @pytest.fixture(autouse=True)
    def names(self, doctest_namespace):
        doctest_namespace.update(lrax=lrax, jax=jax, jnp=jnp, np=np, optax=optax)


# Where the last digit counts, or what the compiler makes of a program.
OPTIMISED = ("laws", "properties", "schedule", "compat", "rate", "compiling", "benchmarks")


@pytest.fixture(scope="module", autouse=True)
def optimised(request):
    """Whether programs are compiled as for users; most need not be, and run for milliseconds only."""
    optimised = request.config.getoption("--slow") or any(
        word in request.module.__name__ for word in OPTIMISED
    )
    compilation.quickly(not optimised)
    yield optimised
    compilation.quickly(False)


@pytest.fixture
def quick(request, optimised):
    """For a test whose programs are its own and need not be optimised, in a module of others."""
    compilation.quickly(not request.config.getoption("--slow"))
    yield
    compilation.quickly(not optimised)


MEMORY = 900 * 2**20  # bytes of a worker, from which on it forgets what it has compiled


@pytest.fixture(scope="module", autouse=True)
def bounded_memory():
    """Programs that earlier modules compiled are kept only while a worker is small."""
    yield
    if _resident() > MEMORY:
        jax.clear_caches()
        gc.collect()
        with contextlib.suppress(OSError, AttributeError):  # only glibc gives memory back
            ctypes.CDLL("libc.so.6").malloc_trim(0)


def _resident():
    """Bytes of this process in memory; 0 where Linux does not tell."""
    statm = Path("/proc/self/statm")
    pages = int(statm.read_text().split()[1]) if statm.exists() else 0
    return pages * os.sysconf("SC_PAGE_SIZE") if pages else 0


@pytest.fixture
def x64():
    """A context in which JAX has float64; jax 0.7 keeps it among its experiments."""
    return jax.enable_x64(True) if hasattr(jax, "enable_x64") else experimental.enable_x64(True)


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="also run the tests marked slow")


def pytest_configure(config):
    # Registered by hand: a fixture of a conftest.py does not reach the docstrings of lrax/ and the
    # README beside it.
    config.pluginmanager.register(Doctests())


def pytest_collection_modifyitems(config, items):
    if not config.getoption("--slow"):
        for item in items:
            if "slow" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="slow: run with --slow"))
