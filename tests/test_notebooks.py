"""Every notebook of the folder runs in a Jupyter kernel, and is stored as it should be."""

import base64
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import nbformat
import pytest
from run_notebook import code_hash

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
REPOSITORY = PROJECT["urls"]["Repository"]


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def pictures(cell):
    found = [output.data for output in cell.outputs if "data" in output]
    return [base64.b64decode(data["image/png"]) for data in found if "image/png" in data]


def assert_figures_show(notebook):
    """A cell that ends in a plot has its picture: the figure's own, as no other code runs here."""
    ends = [cell for cell in code_cells(notebook) if is_plot(cell.source.splitlines()[-1])]
    assert ends
    for cell in ends:
        assert len(pictures(cell)) == 1, cell.source


def is_plot(line):
    return re.search(r"\.plot\w*\(.*\)$", line)


def test_there_are_notebooks():
    assert NOTEBOOKS


@pytest.mark.slow  # each compiles many programs, for 10 seconds to 2 minutes even at smoke size
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs_at_smoke_size_in_a_kernel_and_shows_its_figures(path, tmp_path):
    before = path.read_bytes()
    out = tmp_path / "executed.ipynb"
    command = [sys.executable, str(ROOT / "tests" / "run_notebook.py"), str(path)]
    done = subprocess.run(
        [*command, "--smoke", "--out", str(out)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    assert path.read_bytes() == before
    assert_figures_show(nbformat.read(out, as_version=4))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_begins_with_the_badge_and_the_install_line(path):
    notebook = nbformat.read(path, as_version=4)
    place = REPOSITORY.removeprefix("https://github.com/")
    badge = f"https://colab.research.google.com/github/{place}/blob/main/notebooks/{path.name}"
    assert badge in notebook.cells[0].source
    installs = [cell for cell in notebook.cells if "pip install" in cell.source]
    assert [notebook.cells.index(cell) for cell in installs] == [1]
    install = f'    %pip install -q "lrax @ git+{REPOSITORY}"'
    assert f'if "google.colab" in sys.modules:\n{install}' in installs[0].source
    for forbidden in (" -U", "--upgrade", "jax[", "jax=="):
        assert forbidden not in installs[0].source


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_is_stored_as_it_should_be(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = code_cells(notebook)
    assert any("assert " in cell.source for cell in code)  # a notebook proves its claims
    outputs = [output for cell in code for output in cell.outputs]
    assert all(cell.execution_count is None for cell in code)
    assert all(output.get("execution_count") is None for output in outputs)
    assert {output.output_type for output in outputs} <= {
        "stream",
        "display_data",
        "execute_result",
    }
    assert not any(output.get("name") == "stderr" for output in outputs)
    assert "widget" not in path.read_text()
    assert_figures_show(notebook)
    # The width of a PNG is in its header. The narrowest figure is 6 inches wide, at 100 dpi.
    stored = [picture for cell in code for picture in pictures(cell)]
    assert min(int.from_bytes(picture[16:20], "big") for picture in stored) >= 600
    assert notebook.metadata["lrax"]["code_hash"] == code_hash(notebook), (
        "code and outputs differ: run run_notebook.py"
    )
    assert path.stat().st_size < 1_000_000
