"""The schedulers of rl_games and skrl that follow a KL divergence, on random settings and values.

`name` is the package, `keywords` are the arguments of its scheduler, `metrics` the divergences it
is given (null is NaN), `rates` the rate after each of them.
"""

import importlib.metadata
import math

import numpy as np

SETTINGS = 30  # of each package
BASE = 1e-3  # every optimizer's first rate


def rl_games(metrics, **keywords):
    from rl_games.common.schedulers import AdaptiveScheduler

    # Its limits are 1e-6 and 1e-2, and its factors 2 and 1.5.
    scheduler = AdaptiveScheduler(**keywords)
    rate = BASE
    for divergence in metrics:
        rate, _ = scheduler.update(rate, 0.0, 0, 0, divergence)
        yield rate


def skrl(metrics, **keywords):
    import torch
    from skrl.resources.schedulers.torch import KLAdaptiveLR

    optimizer = torch.optim.SGD([torch.zeros(1)], lr=BASE)
    scheduler = KLAdaptiveLR(optimizer, **keywords)
    for divergence in metrics:
        scheduler.step(divergence)
        yield optimizer.param_groups[0]["lr"]


def record():
    random = np.random.default_rng(2)
    recorded = []
    for drive in (rl_games, skrl):
        for _ in range(SETTINGS):
            keywords = {"kl_threshold": float(random.choice([0.008, 0.01, 0.02]))}
            if drive is skrl:
                keywords["min_lr"] = float(random.choice([1e-6, 1e-4, 5e-4]))
                keywords["max_lr"] = float(random.choice([1e-2, 2e-3]))
                keywords["lr_factor"] = float(random.choice([1.2, 1.5, 2.0]))
                keywords["kl_factor"] = float(random.choice([1.5, 2.0, 3.0]))
            walk = np.cumsum(random.normal(size=40)) * random.uniform(0.3, 1)
            metrics = [float(f"{divergence:.4g}") for divergence in 0.01 * np.exp(walk)]
            metrics[5], metrics[17] = 0.0, math.nan
            rates = [float(f"{rate:.14g}") for rate in drive(metrics, **keywords)]
            metrics[17] = None
            setting = {"name": drive.__name__, "keywords": keywords, "metrics": metrics}
            recorded.append(setting | {"rates": rates})
    versions = [f"{name} {importlib.metadata.version(name)}" for name in ("rl-games", "skrl")]
    return ", ".join(versions), recorded
