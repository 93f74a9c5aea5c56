"""What the tests are run with."""

import collections
import zlib

import everywhere
import jax
import pytest
from jax import experimental

jax.config.update("jax_numpy_rank_promotion", "raise")

collect_ignore = [
    "benchmarks"
]  # commands, and one of them needs PyTorch; `test_benchmarks.py` runs them


@pytest.fixture
def x64():
    """A context in which JAX has float64; jax 0.7 keeps it among its experiments."""
    return jax.enable_x64(True) if hasattr(jax, "enable_x64") else experimental.enable_x64(True)


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="also run the tests marked slow")


def pytest_configure(config):
    config.pluginmanager.register(everywhere)


# The everyday run tests a law that has more than `FEW` cases on a quarter of them, and different
# laws on different quarters. The slow run tests the other cases.
FEW = 3
PART = 4
CHECKS = {"test_devices.py", "test_hosts.py"}  # their cases are tests of different things


@pytest.hookimpl(tryfirst=True)  # before `-m slow` selects
def pytest_collection_modifyitems(config, items):
    cases = collections.Counter()
    for item in items:
        if hasattr(item, "callspec") and item.path.name not in CHECKS:
            cases[item.nodeid.partition("[")[0]] += 1
    seen = collections.Counter()
    for item in items:
        law = item.nodeid.partition("[")[0]
        if cases[law] > FEW:
            seen[law] += 1
            if (seen[law] + zlib.crc32(law.encode())) % PART:
                item.add_marker(pytest.mark.slow)
        if "slow" in item.keywords and not config.getoption("--slow"):
            item.add_marker(pytest.mark.skip(reason="slow: run with --slow"))
