"""What `lrax.diagnose` says of recorded runs with and without faults, beside two other linters.

`python -m tests.benchmarks.doctor`; the others are shown if gradsnitch or losslint are installed.
"""

import argparse
import collections
import contextlib
import csv
import importlib
import tempfile
import warnings
from pathlib import Path

import numpy as np

import lrax
from tests.golden import record_runs

# The findings that name a fault. A high rate may end in a divergence, and so may a bad batch.
RIGHT = {
    "rate_too_high": {"rate_too_high", "diverging", "spiking", "warmup_too_short"},
    "no_warmup": {"warmup_too_short", "rate_too_high", "diverging", "spiking"},
    "spiking": {"spiking", "diverging"},
    "updates_too_small": {"updates_too_small", "rate_too_low"},
}


def right(kind, names):
    """Whether one of the findings names the fault."""
    return bool(RIGHT.get(kind, {kind}) & set(names))


def diagnosed(recorded, **more):
    """The names of the findings on a recorded run."""
    found = lrax.diagnose(**arguments(recorded), **more)
    return found.names


def arguments(recorded):
    """A recorded run as arguments of `lrax.diagnose`: a table, and the validation loss."""
    series = recorded.series
    table = {name: series[name] for name in ("steps", "rates", "loss", *record_runs.MONITORS)}
    # A row with nothing but an evaluation, as loggers write it.
    rows = np.concatenate([series["steps"], series["eval_steps"]])
    order = np.argsort(rows, kind="stable")
    empty = np.full(len(series["eval_steps"]), np.nan)
    table = {
        name: np.concatenate([values, series["eval_steps"] if name == "steps" else empty])[order]
        for name, values in table.items()
    }
    before = np.full(len(series["steps"]), np.nan)
    table["val_loss"] = np.concatenate([before, series["val_loss"]])[order]
    return {"source": table, "dtype": recorded.dtype}


def write_csv(recorded, path):
    """The run as a CSV that all three linters read: evaluations stand in the row before them."""
    series = recorded.series
    rows = np.searchsorted(series["steps"], series["eval_steps"], side="right") - 1
    losses = dict(zip(rows, series["val_loss"], strict=True))
    names = ("loss", "rates", "grad_norm", "update_ratio")
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["step", "train_loss", "lr", "grad_norm", "update_ratio", "val_loss"])
        for row, step in enumerate(series["steps"]):
            cells = [repr(float(series[name][row])) for name in names]
            writer.writerow([int(step), *cells, repr(float(losses[row])) if row in losses else ""])


def others():
    """The linters that are installed, as functions of a path: {name: function}."""
    found = {}
    with contextlib.suppress(ImportError):
        gradsnitch = importlib.import_module("gradsnitch")
        found["gradsnitch"] = lambda path: [finding.name for finding in gradsnitch.lint_csv(path)]
    with contextlib.suppress(ImportError):
        parsing = importlib.import_module("losslint.parsing")
        checks = importlib.import_module("losslint.checks")
        found["losslint"] = lambda path: [
            finding.check for finding in checks.run_all_checks(parsing.load_run(Path(path)))
        ]
    return found


def confusion(runs):
    """For each kind: how many runs there are, are named rightly, otherwise, and not at all."""
    table = collections.defaultdict(collections.Counter)
    for recorded in runs:
        names = diagnosed(recorded)
        kind = recorded.kind
        word = "silent" if not names else "right" if right(kind, names) else "otherwise"
        table[kind][word] += 1
    return table


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.parse_args(arguments)
    runs = record_runs.read().values()
    halves = {
        "the half by which the thresholds were chosen": [r for r in runs if not r.held_back],
        "the half that was held back": [r for r in runs if r.held_back],
    }
    for words, half in halves.items():
        print(f"\n{words}\n{'kind':22}{'runs':>6}{'right':>7}{'otherwise':>11}{'silent':>8}")
        for kind, counts in sorted(confusion(half).items()):
            cells = counts["right"], counts["otherwise"], counts["silent"]
            print(f"{kind:22}{sum(cells):6}{cells[0]:7}{cells[1]:11}{cells[2]:8}")
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the other packages
        path = f"{folder}/run.csv"
        groups = [(held, kind) for kind in ("healthy", "faulty") for held in (False, True)]
        words = [f"{kind}{', held' if held else ''}" for held, kind in groups]
        print(f"\n{'flagged':12}" + "".join(f"{word:>16}" for word in words))
        for name, lint in {"lrax": None, **others()}.items():
            flagged = collections.Counter()
            total = collections.Counter()
            for recorded in runs:
                kind = "healthy" if recorded.kind == "healthy" else "faulty"
                write_csv(recorded, path)
                group = recorded.held_back, kind
                flagged[group] += bool(lint(path) if lint else diagnosed(recorded))
                total[group] += 1
            cells = [f"{flagged[group]} of {total[group]}" for group in groups]
            print(f"{name:12}" + "".join(f"{cell:>16}" for cell in cells))


if __name__ == "__main__":
    main()
