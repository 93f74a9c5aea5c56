"""The benchmarks run, and their strategies train the same."""

import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("task", ["mlp", pytest.param("char_lm", marks=pytest.mark.slow)])
def test_strategies_agree(task, capsys, monkeypatch):
    monkeypatch.setattr(sys, "path", [str(ROOT), *sys.path])
    from tests.benchmarks import sweeps

    results = sweeps.main(["--tasks", task, "--lanes", "2", "--steps", "4", "--repeats", "1"])
    shown = capsys.readouterr().out
    for name in ("(a) loop of jitted steps", "(b) loop of scans", "(c) jit(vmap(scan))", "(d) lrax.sweep"):
        np.testing.assert_allclose(results[task][name][2], results[task]["(b) loop of scans"][2], rtol=1e-5)
        assert name in shown
    assert "run / lrax" in shown
