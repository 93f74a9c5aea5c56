"""Keras' schedules, as `keras.optimizers.SGD` uses them: its `learning_rate` at each value of its
`iterations`.

In float64, on Keras' PyTorch backend: its JAX backend takes every cosine in float32, whatever the
`floatx`. A few settings more are in Keras' default, float32, and say so by their `precision`.
"""

import bisect
import os

from . import FAR, cycle_starts, far_counts

DECAY = {"initial_learning_rate": 0.1, "decay_steps": 40}
WARM = {"initial_learning_rate": 0.0, "decay_steps": 50, "warmup_target": 0.1, "warmup_steps": 10}
RESTARTS = {"initial_learning_rate": 0.1, "first_decay_steps": 10}

# (class, keywords, how many counts or which)
COSINE = [
    ("CosineDecay", DECAY, 71),
    ("CosineDecay", DECAY | {"alpha": 0.1}, 71),
    ("CosineDecay", {"initial_learning_rate": 3e-4, "decay_steps": 97, "alpha": 0.01}, 128),
    ("CosineDecay", DECAY | {"alpha": 1.5}, 71),
    ("CosineDecay", DECAY | {"decay_steps": 1}, 40),
    ("CosineDecay", DECAY | {"decay_steps": 7.5}, 40),
    ("CosineDecay", DECAY | {"warmup_steps": 10}, 71),  # without a target there is no warmup
    ("CosineDecay", WARM, 91),
    ("CosineDecay", WARM | {"initial_learning_rate": 0.02, "alpha": 0.1}, 91),
    ("CosineDecay", WARM | {"initial_learning_rate": 0.3}, 91),
    ("CosineDecay", WARM | {"warmup_steps": 0}, 81),
    ("CosineDecay", WARM | {"warmup_steps": 1}, 81),
    ("CosineDecay", WARM | {"warmup_steps": 2.5}, 81),
    (
        "CosineDecay",
        WARM | {"decay_steps": FAR - 2000, "warmup_steps": 2000, "alpha": 0.01},
        far_counts(2000),
    ),
    ("CosineDecayRestarts", RESTARTS, 160),
    ("CosineDecayRestarts", RESTARTS, range(81_900, 81_920)),
    ("CosineDecayRestarts", RESTARTS | {"t_mul": 1.0}, 75),
    ("CosineDecayRestarts", RESTARTS | {"t_mul": 1.0, "m_mul": 0.5, "alpha": 0.1}, 75),
    ("CosineDecayRestarts", RESTARTS | {"m_mul": 0.5, "alpha": 0.1}, 160),
    ("CosineDecayRestarts", RESTARTS | {"t_mul": 1.5, "m_mul": 0.8}, 140),
    (
        "CosineDecayRestarts",
        RESTARTS | {"t_mul": 3.0, "alpha": 0.01},
        [*range(150), *range(1205, 1216)],
    ),
    ("CosineDecayRestarts", RESTARTS | {"first_decay_steps": 7.5, "t_mul": 2.0}, 120),
    ("CosineDecayRestarts", RESTARTS | {"first_decay_steps": 1, "m_mul": 0.9}, 70),
    ("CosineDecayRestarts", RESTARTS | {"m_mul": 1.2}, 80),
    (
        "CosineDecayRestarts",
        RESTARTS | {"first_decay_steps": 1000, "m_mul": 0.9},
        far_counts(1000, 3000, 7000, 63_000),
    ),
]
EXPONENTIAL = [
    ("ExponentialDecay", DECAY | {"decay_rate": 0.5}, 100),
    ("ExponentialDecay", DECAY | {"decay_rate": 0.5, "staircase": True}, 130),
    ("ExponentialDecay", DECAY | {"decay_steps": 1, "decay_rate": 0.96}, 80),
    ("ExponentialDecay", DECAY | {"decay_steps": 7, "decay_rate": 0.9, "staircase": True}, 80),
    ("ExponentialDecay", DECAY | {"decay_steps": 2.5, "decay_rate": 0.9, "staircase": True}, 60),
    ("ExponentialDecay", DECAY | {"decay_rate": 1.5}, 100),
    ("ExponentialDecay", DECAY | {"decay_rate": 1.0}, 50),
    ("ExponentialDecay", DECAY | {"decay_rate": 0.0}, 50),
    ("ExponentialDecay", DECAY | {"decay_steps": 10_000, "decay_rate": 0.7}, far_counts()),
    ("InverseTimeDecay", DECAY | {"decay_rate": 0.5}, 100),
    ("InverseTimeDecay", DECAY | {"decay_rate": 0.5, "staircase": True}, 130),
    ("InverseTimeDecay", DECAY | {"decay_steps": 1, "decay_rate": 0.1}, 80),
    ("InverseTimeDecay", DECAY | {"decay_steps": 2.5, "decay_rate": 2.0, "staircase": True}, 60),
    ("InverseTimeDecay", DECAY | {"decay_rate": 0.0}, 50),
    ("InverseTimeDecay", DECAY | {"decay_steps": 10_000, "decay_rate": 0.7}, far_counts()),
]
PIECEWISE = [
    ("PiecewiseConstantDecay", {"boundaries": [30, 60], "values": [0.1, 0.01, 0.001]}, 100),
    ("PiecewiseConstantDecay", {"boundaries": [0, 20], "values": [0.1, 0.05, 0.2]}, 50),
    ("PiecewiseConstantDecay", {"boundaries": [10], "values": [0.1, 0.0]}, 50),
    (
        "PiecewiseConstantDecay",
        {"boundaries": [10, 11, 12, 40], "values": [0.1, 0.2, 0.3, 0.4, 0.5]},
        71,
    ),
    (
        "PiecewiseConstantDecay",
        {"boundaries": [10.7, 20.0], "values": [0.1, 0.05, 0.02]},
        50,
    ),  # cut to whole counts
    ("PiecewiseConstantDecay", {"boundaries": [20, 20], "values": [0.1, 0.05, 0.02]}, 50),
    (
        "PiecewiseConstantDecay",
        {"boundaries": [30_000, 60_000], "values": [0.1, 0.01, 0.001]},
        far_counts(30_000, 60_000),
    ),
]
POLYNOMIAL = [
    ("PolynomialDecay", DECAY, 71),
    ("PolynomialDecay", DECAY | {"end_learning_rate": 0.01, "power": 2.0}, 71),
    ("PolynomialDecay", DECAY | {"end_learning_rate": 0.0, "power": 0.5}, 71),
    ("PolynomialDecay", DECAY | {"end_learning_rate": 0.5}, 71),
    ("PolynomialDecay", DECAY | {"power": 0.0}, 60),
    ("PolynomialDecay", DECAY | {"decay_steps": 1}, 40),
    ("PolynomialDecay", DECAY | {"decay_steps": 7.5}, 40),
    ("PolynomialDecay", DECAY | {"decay_steps": 10, "cycle": True}, 80),
    (
        "PolynomialDecay",
        DECAY | {"decay_steps": 17, "cycle": True, "end_learning_rate": 0.01, "power": 0.5},
        100,
    ),
    (
        "PolynomialDecay",
        DECAY | {"decay_steps": 17, "cycle": True, "end_learning_rate": 0.0, "power": 2.0},
        100,
    ),
    ("PolynomialDecay", DECAY | {"decay_steps": 7.5, "cycle": True}, 60),
    ("PolynomialDecay", DECAY | {"decay_steps": 1, "cycle": True}, 40),
    ("PolynomialDecay", DECAY | {"decay_steps": FAR}, far_counts()),
]
RATES = [*COSINE, *EXPONENTIAL, *PIECEWISE, *POLYNOMIAL]
DEFAULT = [
    ("CosineDecay", WARM | {"alpha": 0.1}, 91),
    ("CosineDecayRestarts", RESTARTS | {"m_mul": 0.5, "alpha": 0.1}, 160),
    ("CosineDecayRestarts", RESTARTS | {"t_mul": 1.5}, 140),
    ("CosineDecayRestarts", RESTARTS, range(81_900, 81_920)),
    ("ExponentialDecay", DECAY | {"decay_rate": 0.5, "staircase": True}, 130),
    ("InverseTimeDecay", DECAY | {"decay_rate": 0.5}, 100),
    ("PiecewiseConstantDecay", {"boundaries": [30, 60], "values": [0.1, 0.01, 0.001]}, 100),
    ("PolynomialDecay", DECAY | {"decay_steps": 17, "cycle": True}, 100),
]


def faults(keywords, counts):
    """Counts at which Keras' floor of a quotient of logarithms gives another cycle than exact arithmetic."""
    from keras import ops

    first, mult = keywords["first_decay_steps"], ops.convert_to_tensor(keywords.get("t_mul", 2.0))
    if mult == 1.0:
        return []
    starts = list(cycle_starts(first, keywords.get("t_mul", 2.0), max(counts)))
    done = ops.convert_to_tensor([float(count) for count in counts]) / first
    cycles = ops.floor(ops.log(1.0 - done * (1.0 - mult)) / ops.log(mult))
    return [
        n
        for n, cycle in zip(counts, cycles, strict=True)
        if int(cycle) != bisect.bisect_right(starts, n) - 1
    ]


def measure(name, keywords, counts, precision=None):
    import keras

    counts = list(range(counts) if isinstance(counts, int) else counts)
    keras.config.set_floatx("float32" if precision else "float64")
    setting = {"name": name, "keywords": keywords}
    if counts != list(range(len(counts))):
        setting["counts"] = counts
    if precision:
        setting["precision"] = precision
    optimizer = keras.optimizers.SGD(getattr(keras.optimizers.schedules, name)(**keywords))
    rates = []
    for count in counts:
        optimizer.iterations.assign(count)
        rates.append(float(optimizer.learning_rate))
    if name == "CosineDecayRestarts" and (wrong := faults(keywords, counts)):
        setting["faults"] = wrong
    return setting | {"rates": rates}


def record():
    os.environ["KERAS_BACKEND"] = "torch"
    import keras

    settings = [measure(*setting) for setting in RATES] + [
        measure(*setting, precision=1e-6) for setting in DEFAULT
    ]
    return keras.__version__, settings
