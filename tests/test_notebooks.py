"""Every notebook of the folder runs, and is stored as it should be."""

import base64
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from run_notebook import code_hash, source

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def test_there_are_notebooks():
    assert NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs_at_smoke_size_in_a_fresh_process(path, tmp_path):
    before = path.read_bytes()
    command = [sys.executable, str(ROOT / "tests" / "run_notebook.py"), str(path), "--smoke"]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, "MPLBACKEND": "agg"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert path.read_bytes() == before


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_is_stored_as_it_should_be(path):
    notebook = json.loads(path.read_text())
    cells = notebook["cells"]
    assert (
        f"https://colab.research.google.com/github/lrax/lrax/blob/main/notebooks/{path.name}"
        in source(cells[0])
    )
    installs = [cell for cell in cells if "pip install" in source(cell)]
    assert [cells.index(cell) for cell in installs] == [1]
    assert 'if "google.colab" in sys.modules:\n    %pip install -q lrax' in source(cells[1])
    for forbidden in (" -U", "--upgrade", "jax[", "jax=="):
        assert forbidden not in source(cells[1])
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert any("assert " in source(cell) for cell in code)  # a notebook proves its claims
    assert all(cell["execution_count"] is None for cell in code)
    assert all(
        output["output_type"] in ("stream", "display_data")
        for cell in code
        for output in cell["outputs"]
    )
    assert "widget" not in path.read_text()
    outputs = [output.get("data", {}) for cell in code for output in cell["outputs"]]
    pictures = [base64.b64decode(data["image/png"]) for data in outputs if "image/png" in data]
    assert pictures
    widths = [
        int.from_bytes(picture[16:20], "big") for picture in pictures
    ]  # in the header of a PNG
    assert min(widths) >= 1000, "too coarse to read: see the dpi in run_notebook.py"
    assert notebook["metadata"]["lrax"]["code_hash"] == code_hash(notebook), (
        "code and outputs differ: run_notebook.py"
    )
    assert path.stat().st_size < 400_000
