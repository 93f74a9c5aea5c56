"""What the tests are run with."""

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


def pytest_collection_modifyitems(config, items):
    if not config.getoption("--slow"):
        for item in items:
            if "slow" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="slow: run with --slow"))
