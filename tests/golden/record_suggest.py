"""What fastai, Lightning (two versions), ignite and torch-lr-finder suggest for the same curves.

`name` is the kind of curve, `keywords` are the skips, `rates` the parts of a geometric ramp
(`start`, `end`, `steps`), `losses` its losses (null is NaN, and Infinity stands for itself). `suggested` has the
index of each package's rate among all rates, or null where it raises an error or returns None.
`minimum` divides that rate by 10.

Each package gets the curve as lrax's method of that name does: cut at the skips, then at the first
loss that is not finite, except Lightning, which skips and drops by itself. PyTorch computes in
float64. `LIGHTNING_252` in the environment is a folder with that version's package.
"""

import json
import math
import os
import subprocess
import sys

import numpy as np

METHODS = ("valley", "slide", "minimum", "steep", "torch_lr_finder", "lightning", "ignite")
OLD = "lightning_252"
SKIPS = ((0, 0), (0, 1), (10, 5), (10, 1), (3, 2))


def ramp(start, end, steps):
    return [start * (end / start) ** (i / steps) for i in range(steps)]


def curves(random):
    """Curves of all kinds that a range test gives, as `(kind, ramp, losses)`."""
    for index in range(66):
        steps = int(random.choice([12, 17, 25, 40, 60, 100]))
        start, end = 10.0 ** random.choice([-7, -5]), 10.0 ** random.choice([0, 1])
        x = np.linspace(0, 1, steps)
        low, cliff, depth = random.uniform(0.2, 0.5), random.uniform(0.6, 0.9), random.uniform(1, 2)
        fall = 2.5 - depth / (1 + np.exp(-(x - low) * 14))
        rise = np.exp(np.minimum((x - cliff) * 40, 12)) * 0.1
        noise = random.normal(size=steps) * random.choice([0.02, 0.1, 0.3])
        kinds = {
            "clean": fall + rise,
            "noisy": fall + rise + noise,
            "plateau": np.maximum(fall, 1.8) + noise * (x > 0.5),
            "falling": 2.5 - depth * x + noise * (index % 2),
            "rising": 0.5 + depth * x**2 + noise * 0.01,
            "diverging": fall + noise + np.where(x > cliff, 10.0 ** ((x - cliff) * 60), 0),
            "NaN tail": np.where(x > cliff, np.nan, fall + noise),
            "inf": np.where(x > cliff, np.inf, fall + rise + noise),
            "holes": np.where(random.random(steps) < 0.1, np.nan, fall + rise + noise),
            "NaN first": np.where(x == 0, np.nan, fall),
            "steps": np.round(fall + noise, 1),
        }
        kind = list(kinds)[index % len(kinds)]
        losses = [round(float(loss), 4) for loss in kinds[kind]]
        yield kind, (float(start), float(end), steps), losses


def special():
    """Curves at the limits of the rules."""
    yield "one", (1e-5, 1.0, 1), [1.0]
    yield "two", (1e-5, 1.0, 2), [1.0, 0.5]
    yield "three", (1e-5, 1.0, 3), [1.0, 0.5, 0.7]
    yield "three falling", (1e-5, 1.0, 3), [1.0, 0.5, 0.2]
    yield "sixteen falling", (1e-5, 1.0, 16), [2.0 - 0.1 * i for i in range(16)]
    yield "fifteen falling", (1e-5, 1.0, 15), [2.0 - 0.1 * i for i in range(15)]
    yield "flat", (1e-5, 1.0, 30), [1.0] * 30
    yield "all NaN", (1e-5, 1.0, 20), [math.nan] * 20


def settings():
    random = np.random.default_rng(0)
    for number, (kind, form, losses) in enumerate([*curves(random), *special()]):
        chosen = SKIPS if number % 4 == 0 else [SKIPS[0], SKIPS[1 + number % 4]]
        for start, end in chosen:
            keywords = {"skip_start": start, "skip_end": end}
            yield {"name": kind, "keywords": keywords, "ramp": form, "losses": losses}


def fastai(name, rates, losses):
    import torch
    from fastai.callback import schedule

    found, _ = getattr(schedule, name)(torch.tensor(rates), torch.tensor(losses), len(rates))
    return found


def lightning(rates, losses, start, end):
    from lightning.pytorch.tuner.lr_finder import _LRFinder

    finder = _LRFinder("exponential", rates[0], 1.0, len(rates))
    finder.results = {"lr": rates, "loss": losses}
    return finder.suggestion(skip_begin=start, skip_end=end)


def ignite(rates, losses):
    from ignite.handlers.lr_finder import FastaiLRFinder

    finder = FastaiLRFinder()
    finder._history = {"lr": rates, "loss": losses}
    return finder.lr_suggestion()


def torch_lr_finder(rates, losses):
    import torch
    import torch_lr_finder
    from matplotlib import pyplot

    model = torch.nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    finder = torch_lr_finder.LRFinder(model, optimizer, torch.nn.MSELoss(), device="cpu")
    finder.history = {"lr": rates, "loss": losses}
    try:
        _, rate = finder.plot(skip_start=0, skip_end=0, ax=pyplot.figure().subplots())
    finally:
        pyplot.close("all")
    return rate


def suggested(method, rates, losses, keywords):
    """The index of the package's rate, or None."""
    start, end = keywords["skip_start"], keywords["skip_end"]
    part_rates, part = rates[start : len(rates) - end], losses[start : len(losses) - end]
    count = next((i for i, loss in enumerate(part) if not math.isfinite(loss)), len(part))
    part_rates, part = part_rates[:count], part[:count]
    try:
        if method.startswith("lightning"):
            rate = lightning(rates, losses, start, end)
        elif method == "ignite":
            rate = ignite(part_rates, part)
        elif method == "torch_lr_finder":
            rate = torch_lr_finder(part_rates, part)
        else:
            rate = fastai(method, part_rates, part)
    except (IndexError, RuntimeError, ValueError):
        return None
    if rate is None:
        return None
    rate = rate * 10 if method == "minimum" else rate
    (index,) = np.flatnonzero(np.isclose(rates, rate, rtol=1e-9, atol=0))
    return int(index)


def all_of(method):
    """What one method suggests in all settings."""
    import contextlib
    import io

    import matplotlib
    import torch

    matplotlib.use("agg")
    torch.set_default_dtype(torch.float64)
    found = []
    for setting in settings():
        with contextlib.redirect_stdout(io.StringIO()):  # torch-lr-finder prints
            rates = ramp(*setting["ramp"])
            found.append(suggested(method, rates, setting["losses"], setting["keywords"]))
    return found


def record():
    import fastai
    import ignite
    import lightning
    import torch

    rows = {method: all_of(method) for method in METHODS}
    # Two versions of a package do not fit into one process.
    program = "import json; from tests.golden.record_suggest import *"
    program += f"; print(json.dumps(all_of({OLD!r})))"
    path = os.pathsep.join([os.environ["LIGHTNING_252"], *filter(None, sys.path)])
    command = [sys.executable, "-W", "ignore", "-c", program]
    done = subprocess.run(
        command, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, check=True
    )
    rows[OLD] = json.loads(done.stdout.splitlines()[-1])
    found = []
    for number, setting in enumerate(settings()):
        losses = [None if math.isnan(loss) else loss for loss in setting["losses"]]
        losses = [1e999 if loss == math.inf else loss for loss in losses]
        answers = {method: rows[method][number] for method in rows}
        found.append(setting | {"losses": losses, "suggested": answers})
    versions = f"fastai {fastai.__version__}, lightning {lightning.__version__} and 2.5.2"
    versions += f", pytorch-ignite {ignite.__version__}, torch-lr-finder 0.2.2"
    return f"{versions}, torch {torch.__version__.split('+')[0]}", found
