"""The rates of the authors' SPS and of pytorch_optimizer's AliG on random least squares.

`name` is the optimizer, `keywords` are its arguments, `rates` its rate in each update. Needs `sps`
of github.com/IssamLaradji/sps on the path, which is not on PyPI, and pytorch_optimizer.
"""

import importlib.metadata

import numpy as np

UPDATES = 40
TRUTH = np.linspace(-1.0, 1.0, 8)


def batches():
    """One underdetermined batch of equations for each update: [updates, equations, unknowns]."""
    return np.random.default_rng(0).normal(size=(UPDATES, 6, 8))


SETTINGS = [
    # SPS_max: its smoothing, from the first rate 1, or a highest rate.
    ("Sps", {"n_batches_per_epoch": 7}),
    ("Sps", {"n_batches_per_epoch": 2, "c": 0.2}),
    ("Sps", {"adapt_flag": "constant"}),
    ("Sps", {"adapt_flag": "constant", "c": 1.0, "eta_max": 0.3}),
    ("AliG", {"max_lr": 0.4}),
    ("AliG", {"max_lr": None}),
]


def rates_of(name, keywords):
    import pytorch_optimizer
    import sps
    import torch

    x = torch.zeros(8, dtype=torch.float64, requires_grad=True)
    make = sps.Sps if name == "Sps" else pytorch_optimizer.AliG
    optimizer = make([x], **keywords)
    for rows in map(torch.tensor, batches()):
        optimizer.zero_grad()
        loss = 0.5 * ((rows @ (x - torch.tensor(TRUTH))) ** 2).mean()
        loss.backward()
        if name == "Sps":
            optimizer.step(loss=loss)
            yield optimizer.state["step_size"]
        else:
            optimizer.step(lambda loss=loss: float(loss))
            yield optimizer.param_groups[0]["step_size"]


def record():
    recorded = [
        {"name": name, "keywords": keywords, "rates": [float(r) for r in rates_of(name, keywords)]}
        for name, keywords in SETTINGS
    ]
    version = importlib.metadata.version("pytorch_optimizer")
    return f"sps 0.6.0 (6d112a1), pytorch_optimizer {version}", recorded
