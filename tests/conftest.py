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


# Files of laws over large tables. The everyday run tests each law on a third of its cases, and
# different laws on different thirds. The slow run tests the other cases.
TABLES = {
    "test_batches.py",
    "test_compat.py",
    "test_compat_arguments.py",
    "test_compat_keras.py",
    "test_compat_optax.py",
    "test_compat_torch.py",
    "test_compat_trainers.py",
    "test_convolutions.py",
    "test_history.py",
    "test_lanes.py",
    "test_laws.py",
    "test_optimum.py",
    "test_probes.py",
    "test_range_test.py",
}
PART = 3


@pytest.hookimpl(tryfirst=True)  # before `-m slow` selects
def pytest_collection_modifyitems(config, items):
    cases = collections.Counter()
    for item in items:
        law = item.nodeid.partition("[")[0]
        # A table of a few cases is a choice, and no sample.
        if item.path.name in TABLES and hasattr(item, "callspec"):
            cases[law] += 1
    seen = collections.Counter()
    for item in items:
        law = item.nodeid.partition("[")[0]
        if cases[law] > 2 * PART:
            seen[law] += 1
            if (seen[law] + zlib.crc32(law.encode())) % PART:
                item.add_marker(pytest.mark.slow)
        if "slow" in item.keywords and not config.getoption("--slow"):
            item.add_marker(pytest.mark.skip(reason="slow: run with --slow"))
