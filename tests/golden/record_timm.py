"""timm's schedulers: the rate in the parameter group of `torch.optim.SGD` at each update, stepped
per update.

As in timm's training loop, nothing is called before the first update, which has the rate that the
constructor sets, and `step_update(count)` is called before every later one. `t_in_epochs=False` is
thus understood, and not in the keywords. Called per epoch, `step(epoch)` gives the same at the same
numbers.
"""

import bisect
import importlib.util
import math
import sys
import types

from . import FAR, cycle_starts, far_counts

BASE = {"lr": 0.1, "t_initial": 50}
WARM = {"warmup_t": 10, "warmup_lr_init": 1e-4}
CYCLES = {"t_initial": 10, "cycle_mul": 2.0, "cycle_limit": 4}

# (class, keywords with the optimizer's lr, how many counts or which)
COSINE = [
    ("CosineLRScheduler", BASE, 81),
    ("CosineLRScheduler", BASE | {"lr_min": 1e-3}, 81),
    ("CosineLRScheduler", BASE | WARM | {"lr_min": 1e-3}, 91),
    ("CosineLRScheduler", BASE | WARM | {"lr_min": 1e-3, "warmup_prefix": True}, 91),
    (
        "CosineLRScheduler",
        {"lr": 3e-4, "t_initial": 100, "warmup_t": 7, "warmup_prefix": True},
        140,
    ),
    ("CosineLRScheduler", {"lr": 0.1, "t_initial": 40, "warmup_t": 40, "warmup_lr_init": 0.01}, 71),
    ("CosineLRScheduler", {"lr": 0.1, "t_initial": 40, "warmup_t": 55, "warmup_lr_init": 0.01}, 90),
    ("CosineLRScheduler", {"lr": 0.1, "t_initial": 40, "warmup_t": 10, "warmup_lr_init": 0.3}, 71),
    ("CosineLRScheduler", BASE | {"k_decay": 2.0, "lr_min": 1e-3}, 81),
    ("CosineLRScheduler", BASE | {"k_decay": 0.7}, 81),
    ("CosineLRScheduler", BASE | WARM | {"k_decay": 1.5, "warmup_prefix": True}, 91),
    ("CosineLRScheduler", {"lr": 0.1, "t_initial": 1}, 40),
    ("CosineLRScheduler", {"lr": 0.1, "t_initial": 7.5, "lr_min": 0.01, "cycle_limit": 3}, 50),
    ("CosineLRScheduler", BASE | {"lr_min": 0.2}, 81),
    ("CosineLRScheduler", BASE | {"cycle_limit": 0}, 60),
    ("CosineLRScheduler", {"lr": 0.1, "t_initial": 15, "cycle_limit": 3}, 80),
    (
        "CosineLRScheduler",
        {"lr": 0.1, "t_initial": 15, "cycle_limit": 3, "cycle_decay": 0.5, "lr_min": 1e-3},
        80,
    ),
    (
        "CosineLRScheduler",
        {"lr": 0.1, "t_initial": 10, "cycle_limit": 4, "cycle_decay": 0.1, "lr_min": 0.01},
        80,
    ),
    ("CosineLRScheduler", {"lr": 0.1, "lr_min": 1e-3} | CYCLES, 180),
    ("CosineLRScheduler", {"lr": 0.1, "lr_min": 1e-3, "cycle_decay": 0.5} | CYCLES | WARM, 180),
    (
        "CosineLRScheduler",
        {"lr": 0.1, "lr_min": 1e-3, "cycle_decay": 0.5, "warmup_prefix": True} | CYCLES | WARM,
        190,
    ),
    ("CosineLRScheduler", {"lr": 0.1, "k_decay": 2.0} | CYCLES, 180),
    (
        "CosineLRScheduler",
        {"lr": 0.1, "t_initial": 10, "cycle_mul": 3.0, "cycle_limit": 9},
        [*range(150), *range(1205, 1216)],
    ),
    ("CosineLRScheduler", {"lr": 0.1, "t_initial": 10, "cycle_mul": 1.5, "cycle_limit": 4}, 120),
    ("CosineLRScheduler", {"lr": 0.1, "t_initial": 20, "cycle_mul": 0.5, "cycle_limit": 5}, 80),
    (
        "CosineLRScheduler",
        {"lr": 1e-3, "t_initial": FAR, "lr_min": 1e-5} | WARM | {"warmup_t": 2000},
        far_counts(2000),
    ),
    (
        "CosineLRScheduler",
        {
            "lr": 1e-3,
            "t_initial": FAR - 2000,
            "lr_min": 1e-5,
            "warmup_prefix": True,
            "warmup_t": 2000,
        },
        far_counts(2000),
    ),
]
TANH = [
    ("TanhLRScheduler", BASE, 81),
    ("TanhLRScheduler", BASE | {"lr_min": 1e-3}, 81),
    ("TanhLRScheduler", BASE | {"lb": -3.0, "ub": 2.0, "lr_min": 1e-3}, 81),
    ("TanhLRScheduler", BASE | {"lb": -1.0, "ub": 6.0}, 81),
    ("TanhLRScheduler", BASE | WARM | {"lr_min": 1e-3}, 91),
    ("TanhLRScheduler", BASE | WARM | {"lr_min": 1e-3, "warmup_prefix": True}, 91),
    ("TanhLRScheduler", {"lr": 0.1, "t_initial": 40, "warmup_t": 45, "warmup_lr_init": 0.01}, 80),
    ("TanhLRScheduler", {"lr": 0.1, "t_initial": 1}, 40),
    (
        "TanhLRScheduler",
        {"lr": 0.1, "t_initial": 15, "cycle_limit": 3, "cycle_decay": 0.5, "lr_min": 1e-3},
        80,
    ),
    ("TanhLRScheduler", {"lr": 0.1, "lr_min": 1e-3, "cycle_decay": 0.5} | CYCLES, 180),
    ("TanhLRScheduler", {"lr": 0.1, "lr_min": 1e-3, "warmup_prefix": True} | CYCLES | WARM, 190),
    ("TanhLRScheduler", {"lr": 0.1, "t_initial": 10, "cycle_limit": 0}, 40),
    (
        "TanhLRScheduler",
        {"lr": 1e-3, "t_initial": FAR, "lr_min": 1e-5, "warmup_t": 2000},
        far_counts(2000),
    ),
]
POLY = [
    ("PolyLRScheduler", BASE, 81),
    ("PolyLRScheduler", BASE | {"power": 1.0, "lr_min": 1e-3}, 81),
    ("PolyLRScheduler", BASE | {"power": 2.0, "lr_min": 1e-3}, 81),
    ("PolyLRScheduler", BASE | WARM | {"power": 0.9}, 91),
    ("PolyLRScheduler", BASE | WARM | {"power": 0.9, "warmup_prefix": True, "lr_min": 1e-3}, 91),
    ("PolyLRScheduler", BASE | {"k_decay": 2.0}, 81),
    ("PolyLRScheduler", BASE | {"k_decay": 0.5, "power": 1.0, "lr_min": 1e-3}, 81),
    ("PolyLRScheduler", {"lr": 0.1, "t_initial": 37, "power": 0.0}, 60),
    ("PolyLRScheduler", {"lr": 0.1, "t_initial": 1}, 40),
    (
        "PolyLRScheduler",
        {"lr": 0.1, "t_initial": 15, "cycle_limit": 3, "cycle_decay": 0.5, "lr_min": 1e-3},
        80,
    ),
    (
        "PolyLRScheduler",
        {"lr": 0.1, "lr_min": 1e-3, "cycle_decay": 0.5, "power": 1.0} | CYCLES,
        180,
    ),
    ("PolyLRScheduler", {"lr": 0.1, "warmup_prefix": True, "power": 2.0} | CYCLES | WARM, 190),
    (
        "PolyLRScheduler",
        {"lr": 1e-3, "t_initial": FAR, "power": 1.0, "lr_min": 1e-5, "warmup_t": 2000},
        far_counts(2000),
    ),
]
STEP = [
    ("StepLRScheduler", {"lr": 0.1, "decay_t": 30}, 70),
    ("StepLRScheduler", {"lr": 0.1, "decay_t": 30, "decay_rate": 0.1}, 120),
    ("StepLRScheduler", {"lr": 0.1, "decay_t": 7, "decay_rate": 0.5} | WARM, 80),
    (
        "StepLRScheduler",
        {"lr": 0.1, "decay_t": 7, "decay_rate": 0.5, "warmup_prefix": False} | WARM,
        80,
    ),
    ("StepLRScheduler", {"lr": 0.1, "decay_t": 2.4, "decay_rate": 0.97}, 80),
    ("StepLRScheduler", {"lr": 0.1, "decay_t": 2.4, "decay_rate": 0.97} | WARM, 80),
    ("StepLRScheduler", {"lr": 0.1, "decay_t": 1, "decay_rate": 0.9}, 60),
    (
        "StepLRScheduler",
        {"lr": 0.1, "decay_t": 20_000, "decay_rate": 0.3} | WARM,
        far_counts(20_010, 40_010),
    ),
    ("MultiStepLRScheduler", {"lr": 0.1, "decay_t": [30, 60], "decay_rate": 0.1}, 100),
    ("MultiStepLRScheduler", {"lr": 0.1, "decay_t": [30, 60]}, 70),
    ("MultiStepLRScheduler", {"lr": 0.1, "decay_t": [20, 45], "decay_rate": 0.5} | WARM, 80),
    (
        "MultiStepLRScheduler",
        {"lr": 0.1, "decay_t": [20, 45], "decay_rate": 0.5, "warmup_prefix": False} | WARM,
        80,
    ),
    (
        "MultiStepLRScheduler",
        {"lr": 0.1, "decay_t": [5, 20], "decay_rate": 0.5, "warmup_prefix": False} | WARM,
        60,
    ),
    ("MultiStepLRScheduler", {"lr": 0.1, "decay_t": [10, 10, 30], "decay_rate": 0.5}, 60),
    (
        "MultiStepLRScheduler",
        {"lr": 0.1, "decay_t": [1, 20], "decay_rate": 0.5},
        50,
    ),  # decays at 0, but for the constructor
    ("MultiStepLRScheduler", {"lr": 0.1, "decay_t": [2, 20], "decay_rate": 0.5}, 50),
    ("MultiStepLRScheduler", {"lr": 0.1, "decay_t": [10.5, 20.0], "decay_rate": 0.5}, 50),
    ("MultiStepLRScheduler", {"lr": 0.1, "decay_t": [], "decay_rate": 0.5}, 40),
]
STABLE = {"lr": 0.1, "t_initial": 70, "decay_t": 20}
WSD = [
    ("WSDLRScheduler", STABLE, 101),
    ("WSDLRScheduler", STABLE | WARM | {"lr_min": 1e-3}, 111),
    *[
        ("WSDLRScheduler", STABLE | WARM | {"lr_min": 1e-3, "decay_fn": name} | more, 111)
        for name, more in [
            ("linear", {}),
            ("1-sqrt", {}),
            ("cosine", {}),
            ("power", {}),
            ("power", {"decay_power": 2.0}),
            ("exp", {}),
            ("exp", {"decay_ratio": 0.5}),
        ]
    ],
    ("WSDLRScheduler", STABLE | WARM | {"stable_fn": "rsqrt"}, 111),
    (
        "WSDLRScheduler",
        STABLE | WARM | {"stable_fn": "rsqrt", "stable_timescale": 25.0, "decay_fn": "linear"},
        111,
    ),
    (
        "WSDLRScheduler",
        STABLE | {"stable_fn": "rsqrt", "stable_timescale": 25.0, "lr_min": 1e-3},
        101,
    ),
    ("WSDLRScheduler", STABLE | WARM | {"stable_fn": "power", "decay_fn": "cosine"}, 111),
    (
        "WSDLRScheduler",
        STABLE | WARM | {"stable_fn": "power", "stable_power": 0.8, "lr_min": 1e-3},
        111,
    ),
    (
        "WSDLRScheduler",
        STABLE | WARM | {"stable_fn": "power", "stable_power": 3.0, "lr_min": 0.01},
        111,
    ),  # meets the floor
    ("WSDLRScheduler", STABLE | {"lr_min": 0.2, "decay_fn": "linear"}, 101),
    (
        "WSDLRScheduler",
        {"lr": 0.1, "t_initial": 40, "decay_t": 40, "decay_fn": "linear"} | WARM,
        81,
    ),
    ("WSDLRScheduler", {"lr": 0.1, "t_initial": 40, "decay_t": 1}, 71),
    ("WSDLRScheduler", {"lr": 0.1, "t_initial": 1, "decay_t": 1}, 40),
    (
        "WSDLRScheduler",
        {"lr": 1e-3, "t_initial": FAR - 2000, "decay_t": 20_000, "warmup_t": 2000},
        far_counts(2000, 80_000),
    ),
]
RATES = [*COSINE, *TANH, *POLY, *STEP, *WSD]


def scheduler_class(name):
    """A class of `timm.scheduler`, which needs PyTorch alone, without the models and torchvision of `import timm`."""
    if "timm" not in sys.modules:
        package = types.ModuleType("timm")
        package.__path__ = importlib.util.find_spec("timm").submodule_search_locations
        sys.modules["timm"] = package
    return getattr(importlib.import_module("timm.scheduler"), name)


def faults(keywords, counts):
    """Counts at which timm's floor of a logarithm gives another cycle than exact arithmetic."""
    mult, first = keywords.get("cycle_mul", 1.0), keywords["t_initial"]
    if mult == 1.0:
        return []
    warmup = keywords.get("warmup_t", 0)
    behind = warmup if keywords.get("warmup_prefix") else 0
    starts = []
    for start in cycle_starts(first, mult, max(counts)):
        starts.append(start)
        if len(starts) > 64:  # cycles that shrink have an end
            break
    found = []
    for count in counts:
        local = count - behind
        if count >= max(warmup, 1) and (inside := 1 - local / first * (1 - mult)) > 0:
            exact = bisect.bisect_right(starts, local) - 1
            if math.floor(math.log(inside, mult)) != exact:
                found.append(count)
    return found


def measure(name, keywords, counts):
    import torch

    counts = list(range(counts)) if isinstance(counts, int) else counts
    setting = {"name": name, "keywords": keywords}
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=keywords["lr"])
    own = {key: value for key, value in keywords.items() if key != "lr"}
    scheduler = scheduler_class(name)(optimizer, **own, t_in_epochs=False)
    rates = []
    for count in counts:
        try:
            if count:
                scheduler.step_update(count)
        except ValueError as error:
            setting |= {"raises_at": count, "error": type(error).__name__}
            break
        rates.append(optimizer.param_groups[0]["lr"])
    if counts != list(range(len(counts))):
        setting["counts"] = counts[: len(rates)]
    if wrong := faults(keywords, counts[: len(rates)]) if "t_initial" in keywords else []:
        setting["faults"] = wrong
    return setting | {"rates": rates}


def record():
    from importlib.metadata import version

    return version("timm"), [measure(*setting) for setting in RATES]
