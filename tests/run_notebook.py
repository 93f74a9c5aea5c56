"""Runs a notebook without Jupyter: `python tests/run_notebook.py notebooks/01_quickstart.ipynb`
stores its outputs.

Cells run in order in one namespace. Lines that begin with `%` or `!` are for Colab and are left
out. Printed text and the value of a cell's last expression become its outputs, a matplotlib Figure
as a picture; counts and times are not kept, so that a rerun changes only what differs. `--smoke`
only runs, small, and stores nothing.
"""

import ast
import base64
import contextlib
import hashlib
import io
import json
import os
import re
import sys
from pathlib import Path


def source(cell):
    return "".join(cell["source"])


def code_hash(notebook):
    """Of all code cells: outputs carry the hash of the code that made them."""
    code = "\n".join(source(cell) for cell in notebook["cells"] if cell["cell_type"] == "code")
    return hashlib.sha256(code.encode()).hexdigest()


def run_cell(code, namespace):
    """Runs a cell; returns its outputs in the notebook format."""
    code = re.sub(r"^(\s*)[%!].*$", r"\1pass", code, flags=re.MULTILINE)
    tree = ast.parse(code)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    printed, value = io.StringIO(), None
    with contextlib.redirect_stdout(printed):
        exec(compile(tree, "<cell>", "exec"), namespace)
        if last is not None:
            value = eval(compile(ast.Expression(last.value), "<cell>", "eval"), namespace)
    outputs = []
    if printed.getvalue():
        text = printed.getvalue().splitlines(keepends=True)
        outputs.append({"output_type": "stream", "name": "stdout", "text": text})
    if value is not None:
        data = {"text/plain": repr(value).splitlines(keepends=True)}
        if hasattr(value, "savefig"):
            picture = io.BytesIO()
            value.savefig(picture, dpi=70)
            data["image/png"] = base64.b64encode(picture.getvalue()).decode()
        outputs.append({"output_type": "display_data", "data": data, "metadata": {}})
    return outputs


def main(path, *, smoke):
    os.environ.pop("LRAX_SMOKE", None)  # an inherited one would store small outputs as full ones
    if smoke:
        os.environ["LRAX_SMOKE"] = "1"
    notebook = json.loads(path.read_text())
    namespace = {"__name__": "__main__"}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            cell["outputs"] = run_cell(source(cell), namespace)
    if not smoke:
        notebook["metadata"]["lrax"] = {"code_hash": code_hash(notebook)}
        path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), smoke="--smoke" in sys.argv)
