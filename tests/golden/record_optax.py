"""Optax's schedules in float64, at the counts 0, 1, 2, ... that its `scale_by_schedule` gives them.

The counts are int64 here: the int32 ones that its optimizers keep are divided in float32, under x64
too.
"""

from . import FAR, far_counts


def nested(scheduler, **keywords):
    return {"scheduler": scheduler, "keywords": keywords}


RAMP = {"init_value": 0.1, "end_value": 0.01, "transition_steps": 40}
POLY = RAMP | {"power": 2.0}
DECAY = {"init_value": 0.1, "transition_steps": 20, "decay_rate": 0.5}
COSINE = {"init_value": 0.1, "decay_steps": 50}
WARM = {"init_value": 0.0, "peak_value": 0.1, "warmup_steps": 10}
TO = WARM | {"decay_steps": 80}
EXP = WARM | {"transition_steps": 20, "decay_rate": 0.5}
CYCLE = {"transition_steps": 100, "peak_value": 0.1}

# (function, keywords, how many counts or which)
RAMPS = [
    ("constant_schedule", {"value": 0.1}, 40),
    ("constant_schedule", {"value": 0.0}, 40),
    ("linear_schedule", RAMP, 71),
    ("linear_schedule", RAMP | {"init_value": 0.0, "end_value": 1.0, "transition_steps": 13}, 44),
    ("linear_schedule", RAMP | {"transition_begin": 12}, 83),
    ("linear_schedule", RAMP | {"transition_begin": -5}, 71),
    ("linear_schedule", RAMP | {"transition_steps": 1}, 40),
    ("linear_schedule", RAMP | {"transition_steps": 0}, 40),  # the initial value for ever
    ("linear_schedule", RAMP | {"transition_steps": -3}, 40),
    ("linear_schedule", RAMP | {"transition_steps": 7.5}, 40),
    ("linear_schedule", RAMP | {"transition_steps": FAR}, far_counts()),
    ("polynomial_schedule", POLY, 71),
    ("polynomial_schedule", POLY | {"power": 0.5, "end_value": 0.0}, 71),
    ("polynomial_schedule", POLY | {"power": 1.0, "transition_begin": 20}, 91),
    ("polynomial_schedule", POLY | {"power": 0.0}, 71),
    ("polynomial_schedule", POLY | {"power": 3, "init_value": 0.0}, 71),
    ("polynomial_schedule", POLY | {"transition_steps": 0}, 40),
    ("polynomial_schedule", POLY | {"transition_steps": FAR, "power": 0.9}, far_counts()),
]
EXPONENTIAL = [
    ("exponential_decay", DECAY, 80),
    ("exponential_decay", DECAY | {"staircase": True}, 80),
    ("exponential_decay", DECAY | {"transition_begin": 15}, 80),
    (
        "exponential_decay",
        DECAY | {"transition_begin": 15, "staircase": True, "end_value": 0.02},
        100,
    ),
    ("exponential_decay", DECAY | {"transition_begin": -4}, 60),
    ("exponential_decay", DECAY | {"end_value": 0.03}, 80),
    ("exponential_decay", DECAY | {"end_value": 0.3}, 60),
    ("exponential_decay", DECAY | {"decay_rate": 1.5, "end_value": 0.3}, 100),
    ("exponential_decay", DECAY | {"decay_rate": 1.0, "end_value": 0.05}, 50),
    ("exponential_decay", DECAY | {"decay_rate": 0.0}, 50),
    ("exponential_decay", DECAY | {"decay_rate": 0.0, "end_value": 0.5}, 50),
    ("exponential_decay", DECAY | {"transition_steps": 0}, 50),
    ("exponential_decay", DECAY | {"transition_steps": 1, "decay_rate": 0.97}, 80),
    (
        "exponential_decay",
        DECAY | {"transition_steps": 2.4, "decay_rate": 0.97, "staircase": True},
        80,
    ),
    ("exponential_decay", DECAY | {"transition_steps": 10_000, "decay_rate": 0.7}, far_counts()),
]
COSINES = [
    ("cosine_decay_schedule", COSINE, 81),
    ("cosine_decay_schedule", COSINE | {"alpha": 0.1}, 81),
    ("cosine_decay_schedule", COSINE | {"exponent": 2.0, "alpha": 0.01}, 81),
    ("cosine_decay_schedule", COSINE | {"exponent": 0.5}, 81),
    ("cosine_decay_schedule", COSINE | {"decay_steps": 1}, 40),
    ("cosine_decay_schedule", COSINE | {"decay_steps": 7.5, "alpha": 0.1}, 40),
    ("cosine_decay_schedule", COSINE | {"alpha": 1.5}, 81),
    ("cosine_decay_schedule", COSINE | {"decay_steps": FAR, "alpha": 0.01}, far_counts()),
]
WARMUPS = [
    ("warmup_constant_schedule", WARM, 50),
    ("warmup_constant_schedule", WARM | {"init_value": 0.3, "warmup_steps": 1}, 40),
    ("warmup_constant_schedule", WARM | {"warmup_steps": 0}, 40),  # the initial value for ever
    ("warmup_constant_schedule", WARM | {"warmup_steps": 2000}, far_counts(2000)),
    ("warmup_cosine_decay_schedule", TO, 111),
    ("warmup_cosine_decay_schedule", TO | {"end_value": 0.01}, 111),
    (
        "warmup_cosine_decay_schedule",
        TO | {"init_value": 0.02, "end_value": 0.01, "exponent": 2.0},
        111,
    ),
    ("warmup_cosine_decay_schedule", TO | {"warmup_steps": 0}, 111),
    ("warmup_cosine_decay_schedule", TO | {"warmup_steps": 1, "decay_steps": 2}, 40),
    ("warmup_cosine_decay_schedule", TO | {"warmup_steps": 79, "end_value": 0.01}, 111),
    (
        "warmup_cosine_decay_schedule",
        TO | {"warmup_steps": 80},
        40,
    ),  # refused: nothing left to decay
    (
        "warmup_cosine_decay_schedule",
        TO | {"peak_value": 0.0, "init_value": 0.1, "end_value": 0.01},
        111,
    ),
    ("warmup_cosine_decay_schedule", TO | {"end_value": 0.2}, 111),
    (
        "warmup_cosine_decay_schedule",
        TO | {"warmup_steps": 2000, "decay_steps": FAR, "end_value": 1e-3},
        far_counts(2000),
    ),
    ("warmup_exponential_decay_schedule", EXP, 80),
    ("warmup_exponential_decay_schedule", EXP | {"transition_begin": 7, "staircase": True}, 100),
    ("warmup_exponential_decay_schedule", EXP | {"end_value": 0.04, "init_value": 0.01}, 80),
    ("warmup_exponential_decay_schedule", EXP | {"warmup_steps": 0}, 60),
    ("warmup_exponential_decay_schedule", EXP | {"decay_rate": 1.1, "end_value": 0.15}, 150),
    ("warmup_exponential_decay_schedule", EXP | {"decay_rate": 0.0}, 60),
    ("warmup_exponential_decay_schedule", EXP | {"transition_steps": 0}, 60),
    (
        "warmup_exponential_decay_schedule",
        EXP | {"warmup_steps": 2000, "transition_steps": 10_000, "decay_rate": 0.7},
        far_counts(2000),
    ),
]
PIECEWISE = [
    (
        "piecewise_constant_schedule",
        {"init_value": 0.1, "boundaries_and_scales": {30: 0.1, 60: 0.1}},
        100,
    ),
    (
        "piecewise_constant_schedule",
        {"init_value": 0.1, "boundaries_and_scales": {40: 0.5, 10: 3.0}},
        71,
    ),
    (
        "piecewise_constant_schedule",
        {"init_value": 0.1, "boundaries_and_scales": {0: 0.5, 1: 0.5}},
        40,
    ),
    (
        "piecewise_constant_schedule",
        {"init_value": 0.1, "boundaries_and_scales": {10: 0.0, 20: 2.0}},
        50,
    ),
    ("piecewise_constant_schedule", {"init_value": 0.1}, 40),
    (
        "piecewise_constant_schedule",
        {"init_value": 0.1, "boundaries_and_scales": {30_000: 0.1, 60_000: 0.1}},
        far_counts(30_000, 60_000),
    ),
    *[
        (
            "piecewise_interpolate_schedule",
            {"interpolate_type": shape, "init_value": 0.1} | pieces,
            counts,
        )
        for shape in ("linear", "cosine")
        for pieces, counts in [
            ({"boundaries_and_scales": {30: 5.0, 60: 0.1}}, 91),
            ({"boundaries_and_scales": {37: 0.0, 60: 2.0}}, 91),
            ({"boundaries_and_scales": {40: 0.5, 10: 3.0, 41: 0.2}}, 72),
            ({"boundaries_and_scales": {0: 0.5, 20: 0.5}}, 51),  # a jump at once
            ({"boundaries_and_scales": {}}, 40),
        ]
    ],
]
ONE_CYCLE = [
    ("cosine_onecycle_schedule", CYCLE, 131),
    (
        "cosine_onecycle_schedule",
        CYCLE | {"pct_start": 0.25, "div_factor": 10.0, "final_div_factor": 100.0},
        131,
    ),
    ("cosine_onecycle_schedule", CYCLE | {"transition_steps": 37}, 68),
    ("cosine_onecycle_schedule", CYCLE | {"transition_steps": 37, "pct_start": 0.0}, 68),
    (
        "cosine_onecycle_schedule",
        CYCLE | {"transition_steps": 37, "pct_start": 1.0},
        68,
    ),  # its last boundary hides the peak
    ("cosine_onecycle_schedule", CYCLE | {"transition_steps": 2}, 40),
    ("cosine_onecycle_schedule", CYCLE | {"transition_steps": 1}, 40),
    (
        "cosine_onecycle_schedule",
        CYCLE | {"transition_steps": FAR, "pct_start": 0.1},
        far_counts(10_000),
    ),
    ("linear_onecycle_schedule", CYCLE, 131),
    (
        "linear_onecycle_schedule",
        CYCLE | {"pct_start": 0.25, "pct_final": 0.5, "div_factor": 10.0},
        131,
    ),
    ("linear_onecycle_schedule", CYCLE | {"transition_steps": 37, "final_div_factor": 100.0}, 68),
    ("linear_onecycle_schedule", CYCLE | {"transition_steps": 37, "pct_start": 0.0}, 68),
    ("linear_onecycle_schedule", CYCLE | {"transition_steps": 37, "pct_final": 1.0}, 68),
    (
        "linear_onecycle_schedule",
        CYCLE | {"transition_steps": 37, "pct_start": 0.5, "pct_final": 0.5},
        68,
    ),
    ("linear_onecycle_schedule", CYCLE | {"transition_steps": 2}, 40),
    ("linear_onecycle_schedule", CYCLE | {"transition_steps": 1}, 40),
    ("linear_onecycle_schedule", CYCLE | {"transition_steps": FAR}, far_counts(30_000, 85_000)),
]


def sgdr(*cycles):
    names = ("init_value", "peak_value", "warmup_steps", "decay_steps", "end_value")
    return "sgdr_schedule", {
        "cosine_kwargs": [dict(zip(names, cycle, strict=False)) for cycle in cycles]
    }


def join(boundaries, *schedules):
    return "join_schedules", {"schedules": list(schedules), "boundaries": boundaries}


UP = nested("linear_schedule", init_value=0.0, end_value=0.1, transition_steps=10)
DOWN = nested("cosine_decay_schedule", **COSINE)
COMPOSED = [
    (*sgdr((0.0, 0.1, 5, 30, 0.01), (0.01, 0.1, 5, 40, 0.01)), 101),
    (*sgdr((0.0, 0.1, 5, 20), (0.0, 0.05, 0, 30, 0.001), (0.0, 0.02, 7, 25)), 106),
    (*sgdr((0.0, 0.1, 5, 30, 0.01)), 61),
    (*sgdr((0.0, 0.1, 0, 10), (0.0, 0.1, 0, 20), (0.0, 0.1, 0, 40)), 101),
    (
        *sgdr((0.0, 1e-3, 1000, 30_000, 1e-5), (1e-5, 5e-4, 1000, 70_000, 1e-5)),
        far_counts(1000, 30_000, 31_000),
    ),
    (*join([10], UP, DOWN), 91),
    (
        *join(
            [10, 40], UP, nested("constant_schedule", value=0.1), nested("linear_schedule", **RAMP)
        ),
        111,
    ),
    (*join([5], UP, DOWN), 91),  # cut short
    (*join([15, 15], UP, DOWN, nested("exponential_decay", **DECAY)), 60),
    (*join([0], UP, DOWN), 81),
    (
        *join([20, 10], UP, DOWN, nested("constant_schedule", value=0.5)),
        60,
    ),  # the later schedule wins
    (*join([], DOWN), 60),
    (
        *join(
            [30],
            nested("join_schedules", schedules=[UP, DOWN], boundaries=[10]),
            nested("exponential_decay", **DECAY),
        ),
        80,
    ),
    (
        *join(
            [12],
            nested("piecewise_constant_schedule", init_value=0.1, boundaries_and_scales={4: 0.5}),
            nested("polynomial_schedule", **POLY | {"power": 0.5}),
        ),
        80,
    ),
]
RATES = [*RAMPS, *EXPONENTIAL, *COSINES, *WARMUPS, *PIECEWISE, *ONE_CYCLE, *COMPOSED]


def build(name, keywords):
    import optax

    keywords = dict(keywords)
    if "schedules" in keywords:
        keywords["schedules"] = [
            build(s["scheduler"], s["keywords"]) for s in keywords["schedules"]
        ]
    return getattr(optax.schedules, name)(**keywords)


def measure(name, keywords, counts):
    import jax
    import numpy as np
    from jax import numpy as jnp

    counts = list(range(counts)) if isinstance(counts, int) else counts
    setting = {"name": name, "keywords": keywords}
    try:
        schedule = build(name, keywords)
    except ValueError as error:
        return setting | {"raises_at": 0, "error": type(error).__name__, "rates": []}
    if counts != list(range(len(counts))):
        setting["counts"] = counts
    rates = jax.vmap(lambda count: jnp.asarray(schedule(count)))(jnp.asarray(counts, jnp.int64))
    assert rates.dtype == jnp.float64, (setting, rates.dtype)
    return setting | {"rates": np.asarray(rates).tolist()}


def record():
    import jax
    import optax

    jax.config.update("jax_enable_x64", True)
    return optax.__version__, [measure(*setting) for setting in RATES]
