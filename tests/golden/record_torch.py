"""PyTorch's schedulers, as they drive `torch.optim.SGD`: the rate, and momentum, in its group at each update."""

from . import FAR, far_counts, function

FUNCTIONS = ("lr_lambda", "scale_fn")
DRIFT = 1e-9  # PyTorch multiplies its way along the cosine, and climbs back from a rate near zero with that one's error


def nested(scheduler, **keywords):
    return {"scheduler": scheduler, "keywords": keywords}


# (class, keywords with the optimizer's lr, how many counts or which)
CONSTANT = [
    ("ConstantLR", {"lr": 0.1}, 40),
    ("ConstantLR", {"lr": 0.1, "factor": 0.5, "total_iters": 10}, 50),
    ("ConstantLR", {"lr": 0.003, "factor": 0.1, "total_iters": 37}, 70),
    ("ConstantLR", {"lr": 0.1, "factor": 1.0, "total_iters": 5}, 40),
    ("ConstantLR", {"lr": 0.1, "factor": 0.25, "total_iters": 1}, 40),
    (
        "ConstantLR",
        {"lr": 0.1, "factor": 0.25, "total_iters": 0},
        40,
    ),  # the end is met only after a step: never
    (
        "ConstantLR",
        {"lr": 0.1, "factor": 0.25, "total_iters": 7.5},
        40,
    ),  # and only when equal: never
    ("ConstantLR", {"lr": 0.1, "factor": 0.0, "total_iters": 10}, 40),  # comes back by dividing
]
LINEAR = [
    ("LinearLR", {"lr": 0.1}, 40),
    ("LinearLR", {"lr": 0.1, "start_factor": 0.1, "total_iters": 20}, 60),
    ("LinearLR", {"lr": 0.1, "start_factor": 1.0, "end_factor": 0.0, "total_iters": 40}, 71),
    ("LinearLR", {"lr": 0.02, "start_factor": 1.0, "end_factor": 0.1, "total_iters": 33}, 64),
    ("LinearLR", {"lr": 0.1, "start_factor": 1e-8, "total_iters": 10}, 50),
    ("LinearLR", {"lr": 0.1, "start_factor": 0.5, "end_factor": 0.5, "total_iters": 10}, 40),
    ("LinearLR", {"lr": 0.1, "start_factor": 0.2, "end_factor": 0.9, "total_iters": 15}, 50),
    ("LinearLR", {"lr": 0.1, "start_factor": 0.2, "total_iters": 1}, 40),
    ("LinearLR", {"lr": 0.1, "start_factor": 0.2, "total_iters": 0}, 40),
    ("LinearLR", {"lr": 0.1, "start_factor": 0.2, "total_iters": 7.5}, 40),
    (
        "LinearLR",
        {"lr": 0.1, "start_factor": 1.0, "end_factor": 0.0, "total_iters": FAR},
        far_counts(),
    ),
]
STEPS = [
    ("StepLR", {"lr": 0.1, "step_size": 30}, 120),
    ("StepLR", {"lr": 0.1, "step_size": 10, "gamma": 0.5}, 80),
    ("StepLR", {"lr": 0.1, "step_size": 7, "gamma": 0.3}, 60),
    ("StepLR", {"lr": 0.1, "step_size": 1, "gamma": 0.9}, 60),
    ("StepLR", {"lr": 0.1, "step_size": 200}, 60),
    ("StepLR", {"lr": 0.1, "step_size": 20, "gamma": 1.0}, 60),
    ("StepLR", {"lr": 0.001, "step_size": 20, "gamma": 2.0}, 90),
    (
        "StepLR",
        {"lr": 0.1, "step_size": 2.5, "gamma": 0.5},
        40,
    ),  # only at whole counts that it divides: 5, 10, ...
    ("MultiStepLR", {"lr": 0.1, "milestones": [30, 60]}, 100),
    ("MultiStepLR", {"lr": 0.1, "milestones": [10, 20, 40], "gamma": 0.5}, 80),
    ("MultiStepLR", {"lr": 0.1, "milestones": [40, 10], "gamma": 0.5}, 80),
    ("MultiStepLR", {"lr": 0.1, "milestones": [20, 20, 50], "gamma": 0.5}, 80),
    ("MultiStepLR", {"lr": 0.1, "milestones": [0, 20], "gamma": 0.5}, 60),
    ("MultiStepLR", {"lr": 0.1, "milestones": [1], "gamma": 0.5}, 40),
    ("MultiStepLR", {"lr": 0.1, "milestones": [], "gamma": 0.5}, 40),
    (
        "MultiStepLR",
        {"lr": 0.1, "milestones": [10.5, 20.0], "gamma": 0.5},
        50,
    ),  # a count never equals 10.5
    ("MultiStepLR", {"lr": 0.1, "milestones": [5, 25], "gamma": 3.0}, 50),
    (
        "MultiStepLR",
        {"lr": 0.1, "milestones": [30_000, 60_000, 90_000]},
        far_counts(30_000, 60_000, 90_000),
    ),
]
EXPONENTIAL = [
    ("ExponentialLR", {"lr": 0.1, "gamma": 0.9}, 80),
    ("ExponentialLR", {"lr": 0.1, "gamma": 0.99}, 80),
    ("ExponentialLR", {"lr": 0.1, "gamma": 0.5}, 60),
    ("ExponentialLR", {"lr": 0.1, "gamma": 1.0}, 40),
    ("ExponentialLR", {"lr": 1e-5, "gamma": 1.05}, 100),
    ("ExponentialLR", {"lr": 0.1, "gamma": 0.9999}, far_counts()),
]
POLYNOMIAL = [
    ("PolynomialLR", {"lr": 0.1}, 40),
    ("PolynomialLR", {"lr": 0.1, "total_iters": 40}, 71),
    ("PolynomialLR", {"lr": 0.1, "total_iters": 60, "power": 2.0}, 91),
    ("PolynomialLR", {"lr": 0.1, "total_iters": 37, "power": 0.5}, 68),
    ("PolynomialLR", {"lr": 0.01, "total_iters": 100, "power": 0.9}, 131),
    ("PolynomialLR", {"lr": 0.1, "total_iters": 20, "power": 0.0}, 51),
    ("PolynomialLR", {"lr": 0.1, "total_iters": 1, "power": 2.0}, 40),
    ("PolynomialLR", {"lr": 0.1, "total_iters": 0}, 40),
    ("PolynomialLR", {"lr": 0.1, "total_iters": 7.5}, 40),  # stops at count 7, short of zero
    ("PolynomialLR", {"lr": 0.1, "total_iters": FAR, "power": 0.9}, far_counts()),
]
COSINE = [
    ("CosineAnnealingLR", {"lr": 0.1, "T_max": 50, "eta_min": 0.001}, 190),
    ("CosineAnnealingLR", {"lr": 0.1, "T_max": 40}, 140),
    ("CosineAnnealingLR", {"lr": 3e-4, "T_max": 100, "eta_min": 3e-5}, 240),
    ("CosineAnnealingLR", {"lr": 0.1, "T_max": 33}, 100),
    ("CosineAnnealingLR", {"lr": 0.1, "T_max": 7, "eta_min": 0.01}, 60),
    ("CosineAnnealingLR", {"lr": 0.1, "T_max": 1}, 40),
    ("CosineAnnealingLR", {"lr": 0.1, "T_max": 2, "eta_min": 0.02}, 40),
    ("CosineAnnealingLR", {"lr": 0.1, "T_max": 20, "eta_min": 0.5}, 70),
    ("CosineAnnealingLR", {"lr": 0.1, "T_max": 20, "eta_min": 0.1}, 50),
    ("CosineAnnealingLR", {"lr": 0.1, "T_max": 7.5, "eta_min": 0.01}, 60),
    ("CosineAnnealingLR", {"lr": 0.1, "T_max": FAR, "eta_min": 1e-4}, far_counts(), DRIFT),
    ("CosineAnnealingLR", {"lr": 0.1, "T_max": FAR}, far_counts(), DRIFT),
    ("CosineAnnealingWarmRestarts", {"lr": 0.1, "T_0": 10}, 75),
    ("CosineAnnealingWarmRestarts", {"lr": 0.1, "T_0": 10, "T_mult": 2, "eta_min": 0.001}, 160),
    ("CosineAnnealingWarmRestarts", {"lr": 0.1, "T_0": 7, "T_mult": 3, "eta_min": 0.01}, 130),
    ("CosineAnnealingWarmRestarts", {"lr": 0.1, "T_0": 1}, 40),
    ("CosineAnnealingWarmRestarts", {"lr": 0.1, "T_0": 1, "T_mult": 2}, 70),
    ("CosineAnnealingWarmRestarts", {"lr": 0.1, "T_0": 50}, 120),
    ("CosineAnnealingWarmRestarts", {"lr": 0.1, "T_0": 13, "eta_min": 0.3}, 60),
    (
        "CosineAnnealingWarmRestarts",
        {"lr": 0.1, "T_0": 1000, "T_mult": 3, "eta_min": 1e-3},
        far_counts(1000, 4000, 13_000, 40_000),
    ),
]
UP_DOWN = {"lr": 0.5, "base_lr": 0.01, "max_lr": 0.1, "step_size_up": 10}
CYCLIC = [
    ("CyclicLR", UP_DOWN, 75),
    ("CyclicLR", UP_DOWN | {"step_size_down": 20}, 100),
    ("CyclicLR", UP_DOWN | {"mode": "triangular2"}, 110),
    (
        "CyclicLR",
        UP_DOWN | {"base_lr": 0.0, "max_lr": 1.0, "step_size_down": 5, "mode": "triangular2"},
        90,
    ),
    ("CyclicLR", UP_DOWN | {"mode": "exp_range", "gamma": 0.97}, 90),
    (
        "CyclicLR",
        UP_DOWN | {"step_size_up": 7, "step_size_down": 16, "mode": "exp_range", "gamma": 0.99},
        90,
    ),
    ("CyclicLR", UP_DOWN | {"step_size_up": 1}, 40),
    ("CyclicLR", UP_DOWN | {"step_size_up": 2.5}, 40),
    ("CyclicLR", UP_DOWN | {"base_lr": 0.1, "max_lr": 0.01, "step_size_up": 9}, 60),
    ("CyclicLR", UP_DOWN | {"base_lr": 0.1}, 40),
    ("CyclicLR", UP_DOWN | {"scale_fn": "1 / t"}, 70),
    ("CyclicLR", UP_DOWN | {"scale_fn": "1 / (1 + 0.1 * t)", "scale_mode": "iterations"}, 70),
    ("CyclicLR", {"lr": 0.1, "base_lr": 1e-4, "max_lr": 1e-2}, range(0, 12_001, 250)),
]
ONCE = {"lr": 0.5, "max_lr": 0.1}
PAST = 140  # and so up to the count that PyTorch refuses
ONE_CYCLE = [
    ("OneCycleLR", ONCE | {"total_steps": 100}, PAST),
    ("OneCycleLR", ONCE | {"total_steps": 60, "pct_start": 0.25, "max_lr": 0.01}, PAST),
    ("OneCycleLR", ONCE | {"total_steps": 37}, PAST),
    ("OneCycleLR", ONCE | {"total_steps": 60, "anneal_strategy": "linear"}, PAST),
    ("OneCycleLR", ONCE | {"total_steps": 60, "three_phase": True}, PAST),
    (
        "OneCycleLR",
        ONCE | {"total_steps": 47, "three_phase": True, "anneal_strategy": "linear"},
        PAST,
    ),
    ("OneCycleLR", ONCE | {"total_steps": 50, "three_phase": True, "pct_start": 0.5}, PAST),
    ("OneCycleLR", ONCE | {"total_steps": 50, "three_phase": True, "pct_start": 0.6}, PAST),
    ("OneCycleLR", ONCE | {"epochs": 5, "steps_per_epoch": 13}, PAST),
    ("OneCycleLR", ONCE | {"total_steps": 50, "div_factor": 10.0, "final_div_factor": 100.0}, PAST),
    ("OneCycleLR", ONCE | {"total_steps": 50, "div_factor": 1.0, "final_div_factor": 1.0}, PAST),
    ("OneCycleLR", ONCE | {"total_steps": 40, "pct_start": 0.0}, PAST),
    ("OneCycleLR", ONCE | {"total_steps": 40, "pct_start": 1.0}, PAST),
    ("OneCycleLR", ONCE | {"total_steps": 10, "pct_start": 0.1}, PAST),  # divides zero by zero
    ("OneCycleLR", ONCE | {"total_steps": 5}, PAST),
    ("OneCycleLR", ONCE | {"total_steps": 2}, PAST),
    ("OneCycleLR", ONCE | {"total_steps": 1}, PAST),
    ("OneCycleLR", ONCE | {"total_steps": FAR, "pct_start": 0.1}, far_counts(10_000)),
    ("OneCycleLR", ONCE | {"total_steps": FAR, "three_phase": True}, far_counts(30_000, 60_000)),
]
MOMENTUM = [
    ("CyclicLR", UP_DOWN, 60),
    ("CyclicLR", UP_DOWN | {"mode": "triangular2"}, 90),
    ("CyclicLR", UP_DOWN | {"mode": "exp_range", "gamma": 0.97}, 60),
    ("CyclicLR", UP_DOWN | {"step_size_down": 17, "base_momentum": 0.7, "max_momentum": 0.99}, 60),
    ("OneCycleLR", ONCE | {"total_steps": 60}, PAST),
    ("OneCycleLR", ONCE | {"total_steps": 45, "anneal_strategy": "linear"}, PAST),
    ("OneCycleLR", ONCE | {"total_steps": 60, "three_phase": True}, PAST),
    (
        "OneCycleLR",
        ONCE | {"total_steps": 41, "pct_start": 0.4, "base_momentum": 0.8, "max_momentum": 0.99},
        PAST,
    ),
]
FUNCTIONAL = [
    ("LambdaLR", {"lr": 0.1, "lr_lambda": "0.95 ** t"}, 60),
    ("LambdaLR", {"lr": 0.1, "lr_lambda": "1 / (1 + 0.1 * t)"}, 60),
    ("LambdaLR", {"lr": 0.1, "lr_lambda": "0.5 ** (t // 10)"}, 60),
    ("LambdaLR", {"lr": 0.1, "lr_lambda": "0.0 * t"}, 40),
    ("MultiplicativeLR", {"lr": 0.1, "lr_lambda": "0.95 + 0 * t"}, 60),
    ("MultiplicativeLR", {"lr": 0.1, "lr_lambda": "0.8 + 0.2 * t / (t + 1)"}, 60),
    (
        "MultiplicativeLR",
        {"lr": 0.1, "lr_lambda": "1 - 0.5 * (t % 10 == 0)"},
        60,
    ),  # not applied at count 0
]
SWA = [
    ("SWALR", {"lr": 0.1, "swa_lr": 0.05}, 40),
    ("SWALR", {"lr": 0.1, "swa_lr": 0.01, "anneal_epochs": 25}, 60),
    ("SWALR", {"lr": 0.1, "swa_lr": 0.01, "anneal_epochs": 25, "anneal_strategy": "linear"}, 60),
    ("SWALR", {"lr": 0.01, "swa_lr": 0.1, "anneal_epochs": 17}, 50),
    ("SWALR", {"lr": 0.1, "swa_lr": 0.0, "anneal_epochs": 10, "anneal_strategy": "linear"}, 40),
    ("SWALR", {"lr": 0.1, "swa_lr": 0.05, "anneal_epochs": 1}, 40),
    ("SWALR", {"lr": 0.1, "swa_lr": 0.05, "anneal_epochs": 0}, 40),
]


def sequence(lr, milestones, *schedulers):
    return "SequentialLR", {"lr": lr, "schedulers": list(schedulers), "milestones": milestones}


def chain(lr, *schedulers):
    return "ChainedScheduler", {"lr": lr, "schedulers": list(schedulers)}


WARMUP = nested("LinearLR", start_factor=0.1, total_iters=10)
LINEAR_DOWN = nested("LinearLR", start_factor=1.0, end_factor=0.0, total_iters=20)
DECAY = nested("CosineAnnealingLR", T_max=50, eta_min=0.001)
TO_ZERO = nested("CosineAnnealingLR", T_max=40)
EXP = nested("ExponentialLR", gamma=0.9)
TENTH = nested("ConstantLR", factor=0.1, total_iters=20)
FLAT = nested("ConstantLR", factor=1.0)
HALVES = nested("StepLR", step_size=6, gamma=0.5)
RESTARTS = nested("CosineAnnealingWarmRestarts", T_0=10, T_mult=2, eta_min=0.001)
CYCLE = nested("CyclicLR", base_lr=0.02, max_lr=0.1, step_size_up=8)
ONE = nested("OneCycleLR", max_lr=0.2, total_steps=40)
SEQUENTIAL = [
    (*sequence(0.1, [10], WARMUP, DECAY), 140),
    (*sequence(0.1, [10], nested("LinearLR", start_factor=1e-8, total_iters=10), TO_ZERO), 70),
    (*sequence(0.1, [20], TENTH, EXP), 70),
    (*sequence(0.1, [3], TENTH, EXP), 50),
    (*sequence(0.1, [20], EXP, HALVES), 60),
    (*sequence(0.1, [15], EXP, nested("MultiStepLR", milestones=[0, 5, 12])), 60),
    (*sequence(0.1, [15], EXP, nested("PolynomialLR", total_iters=25, power=2.0)), 70),
    (*sequence(0.1, [15], nested("PolynomialLR", total_iters=10), TENTH), 60),
    (*sequence(0.1, [15], nested("PolynomialLR", total_iters=30), WARMUP), 60),
    (*sequence(0.1, [15], EXP, nested("LambdaLR", lr_lambda="0.95 ** t")), 50),
    (*sequence(0.1, [10], WARMUP, RESTARTS), 110),
    (*sequence(0.1, [25], RESTARTS, EXP), 60),
    # these have no closed form, and go on from the rate in use
    (*sequence(0.1, [15], EXP, nested("MultiplicativeLR", lr_lambda="0.95 + 0 * t")), 50),
    (*sequence(0.1, [15], EXP, nested("MultiplicativeLR", lr_lambda="1 - 0.5 / (1 + t)")), 50),
    (*sequence(0.1, [30], TO_ZERO, nested("SWALR", swa_lr=0.05, anneal_epochs=10)), 70),
    (*sequence(0.1, [30], TO_ZERO, nested("SWALR", swa_lr=0.05, anneal_epochs=0)), 50),
    # these set the group's initial rate when they are built, and so the first scheduler's, or the
    # later ones'
    (*sequence(0.1, [10], WARMUP, ONE), 80),
    (*sequence(0.1, [10], WARMUP, CYCLE), 70),
    (*sequence(0.1, [41], ONE, EXP), 70),
    (*sequence(0.1, [32], CYCLE, EXP), 70),
    (*sequence(0.1, [10, 30], EXP, CYCLE, EXP), 70),
    (*sequence(0.1, [10, 30], EXP, ONE, EXP), 70),
    (*sequence(0.1, [10, 40], WARMUP, FLAT, LINEAR_DOWN), 90),
    (
        *sequence(
            0.1, [5, 10, 15], *[nested("ExponentialLR", gamma=g) for g in (0.9, 0.8, 0.7, 0.6)]
        ),
        50,
    ),
    (*sequence(0.1, [10, 10], WARMUP, HALVES, EXP), 50),
    (*sequence(0.1, [0], WARMUP, DECAY), 90),
    (*sequence(0.1, [0], EXP, WARMUP), 50),
    (*sequence(0.1, [1], WARMUP, EXP), 50),
    (*sequence(0.1, [], DECAY), 90),
    (*sequence(0.1, [20], HALVES, HALVES), 60),
    # unlike alone: a closed form at 0 knows that no steps are no phase, or divides by them
    (*sequence(0.1, [10], WARMUP, nested("ConstantLR", factor=0.5, total_iters=0)), 40),
    (*sequence(0.1, [10], EXP, nested("LinearLR", total_iters=0)), 40),
    # inside another, as the first: the inner clock or the inner schedulers are one step ahead
    (
        *sequence(
            0.1, [20], nested("SequentialLR", schedulers=[WARMUP, EXP], milestones=[10]), DECAY
        ),
        90,
    ),
    (*sequence(0.1, [20], nested("ChainedScheduler", schedulers=[WARMUP, EXP]), DECAY), 90),
    (*sequence(0.1, [20], nested("ChainedScheduler", schedulers=[EXP, DECAY]), DECAY), 90),
    (*sequence(0.1, [20], nested("ChainedScheduler", schedulers=[TENTH, HALVES]), DECAY), 90),
    # and later: they are asked for a rate that they have not got
    (*sequence(0.1, [20], WARMUP, nested("ChainedScheduler", schedulers=[EXP])), 50),
    (
        *sequence(
            0.1, [20], WARMUP, nested("SequentialLR", schedulers=[WARMUP, DECAY], milestones=[10])
        ),
        50,
    ),
    (
        *sequence(
            3e-4,
            [2000],
            nested("LinearLR", start_factor=0.001, total_iters=2000),
            nested("CosineAnnealingLR", T_max=98_000, eta_min=3e-5),
        ),
        far_counts(2000),
        DRIFT,
    ),
    (
        *sequence(
            1e-3,
            [80_000],
            FLAT,
            nested("LinearLR", start_factor=1.0, end_factor=0.0, total_iters=20_000),
        ),
        far_counts(80_000),
    ),
]
CHAINED = [
    (*chain(0.1, TENTH, EXP), 60),
    (*chain(0.1, WARMUP, HALVES), 70),
    (*chain(0.1, WARMUP, TO_ZERO), 130),
    (*chain(0.1, WARMUP, DECAY), 130),
    (*chain(0.1, DECAY, WARMUP), 130),
    (*chain(1.0, EXP, nested("CosineAnnealingLR", T_max=20, eta_min=0.2)), 70),
    (*chain(0.1, WARMUP, nested("PolynomialLR", total_iters=40, power=2.0)), 70),
    (*chain(0.1, EXP, nested("MultiStepLR", milestones=[10, 30], gamma=0.5)), 60),
    (*chain(0.1, EXP, nested("MultiplicativeLR", lr_lambda="1 + 1 / (t + 1)")), 60),
    # an absolute one overwrites what came before it in each step
    (*chain(0.1, EXP, nested("LambdaLR", lr_lambda="0.99 ** t")), 60),
    (*chain(0.1, nested("LambdaLR", lr_lambda="0.99 ** t"), EXP), 60),
    (*chain(0.1, RESTARTS, nested("ConstantLR", factor=0.5, total_iters=25)), 60),
    (*chain(0.1, RESTARTS, HALVES), 60),
    (*chain(0.1, EXP, nested("SWALR", swa_lr=0.05, anneal_epochs=10)), 60),
    (*chain(0.1, EXP), 40),
    (
        *chain(
            0.1, *[nested("ConstantLR", factor=0.5, total_iters=steps) for steps in (10, 20, 30)]
        ),
        60,
    ),
]
RATES = [
    *CONSTANT,
    *LINEAR,
    *STEPS,
    *EXPONENTIAL,
    *POLYNOMIAL,
    *COSINE,
    *CYCLIC,
    *ONE_CYCLE,
    *FUNCTIONAL,
    *SWA,
    *SEQUENTIAL,
    *CHAINED,
]


def build(optimizer, name, keywords):
    from torch.optim import lr_scheduler, swa_utils

    keywords = {
        key: function(value) if key in FUNCTIONS else value for key, value in keywords.items()
    }
    if "schedulers" in keywords:
        keywords["schedulers"] = [
            build(optimizer, s["scheduler"], s["keywords"]) for s in keywords["schedulers"]
        ]
    if name == "ChainedScheduler":
        return lr_scheduler.ChainedScheduler(**keywords, optimizer=optimizer)
    return getattr(swa_utils if name == "SWALR" else lr_scheduler, name)(optimizer, **keywords)


def measure(name, keywords, counts, precision=None, with_momentum=False):
    """Trains a parameter without a gradient, as PyTorch's own loops do: the optimizer's step, then the scheduler's."""
    import torch

    counts = range(counts) if isinstance(counts, int) else counts
    setting = {"name": name, "keywords": keywords} | ({"precision": precision} if precision else {})
    rates, momentum, wanted = [], [], set(counts)
    optimizer = torch.optim.SGD(
        [torch.nn.Parameter(torch.zeros(1))], lr=keywords["lr"], momentum=0.9
    )
    count = 0
    try:
        scheduler = build(
            optimizer, name, {key: value for key, value in keywords.items() if key != "lr"}
        )
        while True:
            if count in wanted:
                rates.append(float(optimizer.param_groups[0]["lr"]))
                momentum.append(float(optimizer.param_groups[0]["momentum"]))
            if count == max(counts):
                break
            optimizer.step()
            count += 1
            scheduler.step()
    except (ArithmeticError, ValueError, NotImplementedError, AttributeError) as error:
        setting |= {"raises_at": count, "error": type(error).__name__}
    if list(counts) != list(range(len(counts))):
        setting["counts"] = list(counts)[: len(rates)]
    return setting | {"rates": rates} | ({"momentum": momentum} if with_momentum else {})


def record():
    import warnings

    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        settings = [measure(*setting) for setting in RATES]
        settings += [measure(*setting, with_momentum=True) for setting in MOMENTUM]
    return torch.__version__.split("+")[0], settings
