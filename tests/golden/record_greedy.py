"""`GreedyLR` of transformers on random settings and metrics.

`keywords` are the arguments of the scheduler, `metrics` the values it is given (null is NaN),
`rates` the rate after each of them.
"""

import math

import numpy as np

SETTINGS = 80
BASE = 0.1  # every optimizer's first rate
WINDOW = 3  # of the settings that smooth


def metrics_of(random, mode, signed):
    """Falls and stalls in turn, noisy."""
    length = int(random.integers(45, 65))
    steps = np.repeat(random.random(9) < 0.5, 8)[:length] * random.uniform(0.05, 0.3)
    values = 4 - np.cumsum(steps) + random.normal(size=length) * random.choice([0.003, 0.05])
    values = np.abs(values) + 0.1 if mode == "min" else 12 - np.abs(values)
    return values - (14 if signed else 0)


def settings():
    random = np.random.default_rng(1)
    for index in range(SETTINGS):
        mode = str(random.choice(["min", "max"]))
        smooth = index % 4 == 3
        # The relative threshold goes the wrong way for negative metrics.
        threshold_mode = "rel" if index % 2 else "abs"
        metrics = metrics_of(random, mode, threshold_mode == "abs" and index % 4 == 0)
        holes = random.random(len(metrics)) < random.choice([0.0, 0.1])
        # With `smooth`, the running sum stays NaN: what follows the window after it is no mean.
        holes[: -WINDOW if smooth else 0] = False
        keywords = {
            "mode": mode,
            "factor": float(random.choice([0.5, 0.8, 0.95])),
            "patience": int(random.integers(0, 5)),
            "threshold": float(random.choice([0.0, 1e-6, 1e-2])),
            "threshold_mode": threshold_mode,
            "cooldown": int(random.integers(0, 4)),
            "warmup": int(random.integers(0, 4)),
            "min_lr": float(random.choice([1e-3, 2e-2, 6e-2])),
            "max_lr": float(random.choice([0.1, 0.15, 1.0])),
            "eps": float(random.choice([1e-8, 1e-3])),
            "smooth": smooth,
            "window_size": WINDOW,
            "reset_start": int(random.choice([0, 1, 2, 500])),
        }
        yield keywords, metrics, holes


def record():
    import torch
    import transformers
    from transformers.optimization import GreedyLR

    recorded = []
    for keywords, metrics, holes in settings():
        optimizer = torch.optim.SGD([torch.zeros(1)], lr=BASE)
        scheduler = GreedyLR(optimizer, **keywords)
        metrics = [
            math.nan if hole else round(float(metric), 5)
            for metric, hole in zip(metrics, holes, strict=True)
        ]
        rates = []
        for metric in metrics:
            scheduler.step(metric)
            rates.append(round(optimizer.param_groups[0]["lr"], 14))
        metrics = [None if math.isnan(metric) else metric for metric in metrics]
        recorded.append({"keywords": keywords, "metrics": metrics, "rates": rates})
    return f"{transformers.__version__}, torch {torch.__version__.split('+')[0]}", recorded
