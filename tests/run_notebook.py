"""Runs a notebook in a Jupyter kernel and stores its outputs.

`python tests/run_notebook.py notebooks/01_quickstart.ipynb` replaces the outputs in the file.
`--smoke` runs it at a small size and changes no file; with `--out PATH` the executed notebook is
written there. Execution counts and times are not kept, so that a rerun changes only what differs.
"""

import argparse
import hashlib
import os
from pathlib import Path

import nbclient
import nbformat

SECONDS = 600  # that a cell may take


def code_hash(notebook):
    """The hash of all code cells: stored outputs carry the hash of the code that made them."""
    code = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    return hashlib.sha256(code.encode()).hexdigest()


def execute(path, *, smoke):
    """The notebook with the outputs of a fresh kernel, whose folder is the current one."""
    notebook = nbformat.read(path, as_version=4)
    # An inherited variable would store small outputs as full ones.
    os.environ.pop("LRAX_SMOKE", None)
    if smoke:
        os.environ["LRAX_SMOKE"] = "1"
    # The backend of matplotlib is the kernel's own, as for a user.
    os.environ.pop("MPLBACKEND", None)
    client = nbclient.NotebookClient(notebook, timeout=SECONDS, kernel_name="python3")
    client.execute(cwd=os.getcwd())
    for cell in notebook.cells:
        cell.metadata = {}  # the times at which it began and ended
        if cell.cell_type == "code":
            cell.execution_count = None
            cell.outputs = merged(cell.outputs)
            for output in cell.outputs:
                if output.output_type == "execute_result":
                    output.execution_count = None
    notebook.metadata["language_info"] = {"name": "python"}
    notebook.metadata["lrax"] = {"code_hash": code_hash(notebook)}
    return notebook


def merged(outputs):
    """The outputs with adjacent pieces of printed text joined: the kernel cuts them by time."""
    found = []
    for output in outputs:
        last = found[-1] if found else {}
        if output.output_type == "stream" == last.get("output_type") and output.name == last.name:
            last.text += output.text
        else:
            found.append(output)
    return found


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("path", type=Path)
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    notebook = execute(options.path, smoke=options.smoke)
    place = options.out or (None if options.smoke else options.path)
    if place is not None:
        nbformat.write(notebook, place)


if __name__ == "__main__":
    main()
