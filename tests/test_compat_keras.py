"""`lrax.compat.keras`: the laws, and Keras itself where it is installed."""

import os

import compat_laws
import jax
import numpy as np
import pytest

import lrax
from lrax.compat import keras

DECAY = {"initial_learning_rate": 0.1, "decay_steps": 40}
SETTINGS = [
    ("CosineDecay", DECAY | {"alpha": 0.1}),
    ("CosineDecay", DECAY | {"alpha": 0.1, "warmup_target": 0.2, "warmup_steps": 10}),
    ("CosineDecayRestarts", {"initial_learning_rate": 0.1, "first_decay_steps": 10, "alpha": 0.1}),
    (
        "CosineDecayRestarts",
        {"initial_learning_rate": 0.1, "first_decay_steps": 10, "m_mul": 0.5, "alpha": 0.1},
    ),
    ("ExponentialDecay", DECAY | {"decay_rate": 0.5}),
    ("ExponentialDecay", DECAY | {"decay_rate": 0.5, "staircase": True}),
    ("ExponentialDecay", DECAY | {"decay_rate": 0.0}),
    ("InverseTimeDecay", DECAY | {"decay_rate": 0.5}),
    ("PolynomialDecay", DECAY | {"end_learning_rate": 0.01, "power": 2.0}),
    ("PolynomialDecay", DECAY | {"power": 0.0}),
    (
        "PolynomialDecay",
        DECAY | {"decay_steps": 17, "end_learning_rate": 0.01, "power": 0.5, "cycle": True},
    ),
    ("PolynomialDecay", DECAY | {"decay_steps": 17, "power": 0.0, "cycle": True}),
]
every_setting = pytest.mark.parametrize(("name", "keywords"), SETTINGS)


@every_setting
def test_laws(name, keywords):
    compat_laws.check(getattr(keras, name), "initial_learning_rate", 80, **keywords)


def test_laws_of_lists():
    def build(value, second, boundary):
        return keras.PiecewiseConstantDecay([boundary, 40], [value, second, 0.01])

    compat_laws.check(build, "value", 60, value=0.1, second=0.05, boundary=20)


@every_setting
def test_live(name, keywords):
    os.environ.setdefault("KERAS_BACKEND", "torch" if _has("torch") else "jax")
    schedules = pytest.importorskip("keras").optimizers.schedules
    theirs = getattr(schedules, name)(**keywords)
    counts = np.arange(0, 75)
    if name == "CosineDecayRestarts":
        counts = np.setdiff1d(counts, [10, 30, 70])  # restarts, where the logarithm may miss
    rates = [float(theirs(int(count))) for count in counts]
    np.testing.assert_allclose(
        getattr(keras, name)(**keywords)(counts), rates, rtol=0, atol=2e-6 * np.max(rates)
    )
    ours = getattr(keras, name)(**theirs.get_config())
    assert repr(ours) == repr(getattr(keras, name)(**keywords))


def _has(module):
    try:
        __import__(module)
    except ImportError:
        return False
    return True


def test_the_first_tooth_is_the_polynomial():
    plain, cycled = (
        keras.PolynomialDecay(0.1, 17, 0.01, 2.0, cycle=cycle).values(18) for cycle in (False, True)
    )
    np.testing.assert_allclose(plain, cycled, rtol=1e-6)


@pytest.mark.parametrize("t", [2**24 - 3, 10**7, 16_777_200])
def test_teeth_far_out(t):
    schedule = keras.PolynomialDecay(1.0, 1000, 0.0, cycle=True)
    n = -(-t // 1000)
    np.testing.assert_allclose(schedule(t), 1 - t / (n * 1000), rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: keras.CosineDecay(0.1, 0), "`decay_steps` must be finite and positive"),
        (lambda: keras.CosineDecay(0.1, 10, alpha=-0.1), "`alpha` must be finite and non-negative"),
        (
            lambda: keras.CosineDecayRestarts(0.1, 10, t_mul=0.5),
            "`t_mul` must be finite and at least 1",
        ),
        (
            lambda: keras.CosineDecayRestarts(0.1, 10, m_mul=0.5, alpha=1.5),
            "`alpha` must be at most 1",
        ),
        (lambda: keras.ExponentialDecay(0.1, 10, -1.0), "`decay_rate`"),
        (lambda: keras.InverseTimeDecay(0.1, 10, -1.0), "`decay_rate`"),
        (lambda: keras.PiecewiseConstantDecay([20, 10], [0.1, 0.2, 0.3]), "ascending"),
        (lambda: keras.PiecewiseConstantDecay([], [0.1]), "at least one number"),
        (lambda: keras.PolynomialDecay(0.1, 10, power=-1.0), "`power`"),
    ],
)
def test_bad_calls_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_flags():
    with pytest.raises(TypeError, match="`cycle`"):
        keras.PolynomialDecay(0.1, 10, cycle=1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="`staircase`"):
        keras.ExponentialDecay(0.1, 10, 0.5, staircase=1)  # type: ignore[arg-type]


def test_replace():
    schedule = keras.PolynomialDecay(0.1, 17, cycle=True).replace(power=2.0)
    assert repr(schedule) == repr(keras.PolynomialDecay(0.1, 17, power=2.0, cycle=True))
    assert isinstance(schedule, lrax.Schedule)
    assert len(jax.tree.leaves(schedule)) == 4
