"""Hugging Face transformers' `get_scheduler`: the rate in the parameter group of `torch.optim.SGD` at each update."""

from . import FAR, far_counts

# (name, num_warmup_steps, num_training_steps, scheduler_specific_kwargs, how many counts or which,
# lr unless 0.1)
WARMUPS = [(0, 50), (10, 100), (7, 61), (1, 40), (40, 40), (50, 40), (2.5, 40)]
PLAIN = [
    ("constant", None, None, None, 40),
    ("constant", 10, 50, None, 40),  # the warmup is ignored
    ("constant_with_warmup", 0, None, None, 40),
    ("constant_with_warmup", 1, None, None, 40),
    ("constant_with_warmup", 13, None, None, 50),
    ("constant_with_warmup", 2.5, 50, None, 40),
    ("constant_with_warmup", 2000, None, None, far_counts(2000)),
    *[("linear", warmup, steps, None, steps + 31) for warmup, steps in WARMUPS],
    ("linear", 2000, FAR, None, far_counts(2000)),
    *[("cosine", warmup, steps, None, steps + 61) for warmup, steps in WARMUPS],
    ("cosine", 10, 100, {"num_cycles": 1.0}, 160),
    ("cosine", 10, 100, {"num_cycles": 1.5}, 131),
    ("cosine", 5, 60, {"num_cycles": 0.25}, 120),
    ("cosine", 5, 60, {"num_cycles": 0}, 80),
    ("cosine", 2000, FAR, None, far_counts(2000)),
    *[("cosine_with_restarts", warmup, steps, None, steps + 31) for warmup, steps in WARMUPS],
    ("cosine_with_restarts", 10, 100, {"num_cycles": 3}, 131),
    ("cosine_with_restarts", 10, 100, {"num_cycles": 4}, 131),  # 22.5 steps a cycle
    ("cosine_with_restarts", 10, 100, {"num_cycles": 2.5}, 131),
    ("cosine_with_restarts", 0, 50, {"num_cycles": 5}, 81),
    ("cosine_with_restarts", 0, 40, {"num_cycles": 40}, 60),
    ("cosine_with_restarts", 2000, FAR, {"num_cycles": 7}, far_counts(2000, 16_000)),
]
POLYNOMIAL = [
    *[("polynomial", warmup, steps, None, steps + 31) for warmup, steps in WARMUPS],
    ("polynomial", 10, 100, {"power": 2.0}, 131),
    ("polynomial", 10, 100, {"power": 0.5, "lr_end": 0.01}, 131),
    ("polynomial", 10, 70, {"lr_end": 0.0}, 101),
    ("polynomial", 0, 50, {"power": 0.0, "lr_end": 0.01}, 81),  # the rate drops after the last step
    ("polynomial", 10, 70, {"lr_end": 0.1, "power": 3.0}, 101),  # refused: not below the rate
    ("polynomial", 2000, FAR, {"lr_end": 1e-5}, far_counts(2000)),
]
INVERSE = [
    ("inverse_sqrt", 0, None, None, 60),
    ("inverse_sqrt", 1, None, None, 60),
    ("inverse_sqrt", 10, None, None, 100),
    ("inverse_sqrt", 10, 80, {"timescale": 40}, 100),
    ("inverse_sqrt", 10, 80, {"timescale": 4}, 100),
    ("inverse_sqrt", 0, 80, {"timescale": 10}, 100),
    ("inverse_sqrt", 2.5, None, None, 50),
    ("inverse_sqrt", 2000, None, None, far_counts(2000)),
]
FLOOR = [
    *[
        ("cosine_with_min_lr", warmup, steps, {"min_lr": 0.01}, steps + 61)
        for warmup, steps in WARMUPS
    ],
    ("cosine_with_min_lr", 10, 100, {"min_lr_rate": 0.1}, 131),
    ("cosine_with_min_lr", 10, 100, {"min_lr": 0.0}, 131),
    ("cosine_with_min_lr", 10, 80, {"min_lr": 0.2}, 111),
    ("cosine_with_min_lr", 10, 100, {"min_lr_rate": 0.1, "num_cycles": 1.5}, 131),
    ("cosine_with_min_lr", 2000, FAR, {"min_lr": 1e-3}, far_counts(2000)),
    *[
        ("cosine_warmup_with_min_lr", warmup, steps, {"min_lr": 0.01}, steps + 61)
        for warmup, steps in WARMUPS
    ],
    ("cosine_warmup_with_min_lr", 10, 100, {"min_lr_rate": 0.1, "warmup_lr_rate": 0.2}, 131),
    ("cosine_warmup_with_min_lr", 10, 100, {"min_lr": 0.01, "warmup_lr_rate": 0.0}, 131),
    ("cosine_warmup_with_min_lr", 1, 40, {"min_lr": 0.01, "warmup_lr_rate": 0.3}, 71),
    ("cosine_warmup_with_min_lr", 0, 40, {"min_lr": 0.01, "warmup_lr_rate": 0.3}, 71),
    ("cosine_warmup_with_min_lr", 10, 100, {"min_lr_rate": 0.1, "num_cycles": 1.0}, 131),
    (
        "cosine_warmup_with_min_lr",
        2000,
        FAR,
        {"min_lr_rate": 0.1, "warmup_lr_rate": 0.01},
        far_counts(2000),
    ),
]
WSD = [
    ("warmup_stable_decay", 10, 100, {"num_decay_steps": 20}, 131),
    ("warmup_stable_decay", 10, 100, {"num_decay_steps": 20, "min_lr_ratio": 0.1}, 131),
    *[
        (
            "warmup_stable_decay",
            10,
            80,
            {"num_decay_steps": 25, "warmup_type": up, "decay_type": down, "min_lr_ratio": 0.05},
            111,
        )
        for up, down in [
            ("linear", "linear"),
            ("cosine", "1-sqrt"),
            ("1-sqrt", "cosine"),
            ("1-sqrt", "linear"),
        ]
    ],
    (
        "warmup_stable_decay",
        10,
        80,
        {"num_decay_steps": 25, "num_cycles": 1.5, "min_lr_ratio": 0.1},
        111,
    ),
    (
        "warmup_stable_decay",
        10,
        80,
        {"num_decay_steps": 25, "num_cycles": 1.0, "min_lr_ratio": 0.1},
        111,
    ),
    (
        "warmup_stable_decay",
        10,
        None,
        {"num_decay_steps": 20, "num_stable_steps": 30, "decay_type": "linear"},
        91,
    ),
    (
        "warmup_stable_decay",
        10,
        100,
        {"num_decay_steps": 20, "num_stable_steps": 30, "decay_type": "linear"},
        91,
    ),
    (
        "warmup_stable_decay",
        0,
        60,
        {"num_decay_steps": 20, "decay_type": "1-sqrt", "min_lr_ratio": 0.1},
        91,
    ),
    ("warmup_stable_decay", 0, 60, {"num_decay_steps": 60, "decay_type": "linear"}, 91),
    ("warmup_stable_decay", 10, 60, {"num_decay_steps": 0, "min_lr_ratio": 0.1}, 91),
    ("warmup_stable_decay", 10, 60, {"num_decay_steps": 1, "decay_type": "linear"}, 91),
    (
        "warmup_stable_decay",
        30,
        60,
        {"num_decay_steps": 50, "decay_type": "linear"},
        111,
    ),  # a stable part of -20 steps
    (
        "warmup_stable_decay",
        2000,
        FAR,
        {"num_decay_steps": 20_000, "decay_type": "1-sqrt"},
        far_counts(2000, 80_000),
    ),
]
OTHER_RATES = [
    ("linear", 6, 45, None, 76, 2e-5),
    ("polynomial", 6, 45, None, 76, 3e-4),
    ("polynomial", 6, 45, {"lr_end": 1e-5, "power": 1.5}, 76, 3e-4),
    ("cosine_with_min_lr", 6, 45, {"min_lr": 1e-5}, 76, 3e-4),
    ("cosine_with_min_lr", 6, 45, {"min_lr_rate": 0.25}, 76, 3e-4),
    ("cosine_warmup_with_min_lr", 6, 45, {"min_lr": 1e-5, "warmup_lr_rate": 0.01}, 76, 3e-4),
    ("warmup_stable_decay", 6, 45, {"num_decay_steps": 13, "min_lr_ratio": 0.01}, 76, 1.0),
]
RATES = [*PLAIN, *POLYNOMIAL, *INVERSE, *FLOOR, *WSD, *OTHER_RATES]


def measure(name, warmup, steps, specific, counts, lr=0.1):
    import torch
    from transformers import get_scheduler

    counts = list(range(counts)) if isinstance(counts, int) else counts
    own = {
        "num_warmup_steps": warmup,
        "num_training_steps": steps,
        "scheduler_specific_kwargs": specific,
    }
    own = {key: value for key, value in own.items() if value is not None}
    setting = {"name": "get_scheduler", "keywords": {"name": name, "lr": lr} | own}
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)
    rates, wanted, count = [], set(counts), 0
    try:
        scheduler = get_scheduler(name, optimizer, **own)
        while True:
            if count in wanted:
                rates.append(float(optimizer.param_groups[0]["lr"]))
            if count == counts[-1]:
                break
            optimizer.step()
            count += 1
            scheduler.step()
    except (ArithmeticError, ValueError) as error:
        setting |= {"raises_at": count, "error": type(error).__name__}
    if counts != list(range(len(counts))):
        setting["counts"] = counts[: len(rates)]
    return setting | {"rates": rates}


def record():
    import warnings

    import transformers

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return transformers.__version__, [measure(*setting) for setting in RATES]
