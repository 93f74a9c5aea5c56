"""`lrax.compat.optax`: the laws, and the installed Optax beside them."""

import compat_laws
import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

from lrax.compat import optax as compat

RAMP = {"init_value": 0.1, "end_value": 0.01, "transition_steps": 40}
DECAY = {"init_value": 0.1, "transition_steps": 20, "decay_rate": 0.5}
WARM = {"init_value": 0.01, "peak_value": 0.1, "warmup_steps": 10}
CYCLE = {"transition_steps": 50, "peak_value": 0.1}
SETTINGS = [
    ("constant_schedule", "value", {"value": 0.1}),
    ("linear_schedule", "init_value", RAMP | {"transition_begin": 5}),
    ("linear_schedule", "init_value", RAMP | {"transition_steps": 0}),
    ("polynomial_schedule", "init_value", RAMP | {"power": 0.5}),
    ("polynomial_schedule", "init_value", RAMP | {"power": 0.0}),
    ("exponential_decay", "init_value", DECAY | {"end_value": 0.02}),
    ("exponential_decay", "init_value", DECAY | {"decay_rate": 0.0, "end_value": 0.02}),
    ("exponential_decay", "init_value", DECAY | {"transition_steps": -1}),
    ("exponential_decay", "init_value", DECAY | {"decay_rate": 1.0, "end_value": 0.05}),
    ("exponential_decay", "init_value", DECAY | {"staircase": True, "transition_begin": 7}),
    ("cosine_decay_schedule", "init_value", {"init_value": 0.1, "decay_steps": 50, "alpha": 0.1}),
    (
        "cosine_decay_schedule",
        "init_value",
        {"init_value": 0.1, "decay_steps": 50, "exponent": 2.0},
    ),
    ("warmup_constant_schedule", "peak_value", WARM),
    ("warmup_constant_schedule", "peak_value", WARM | {"warmup_steps": 0}),
    ("warmup_cosine_decay_schedule", "peak_value", WARM | {"decay_steps": 50, "end_value": 0.001}),
    ("warmup_cosine_decay_schedule", "peak_value", WARM | {"decay_steps": 50, "exponent": 2.0}),
    ("warmup_cosine_decay_schedule", "peak_value", WARM | {"decay_steps": 50, "warmup_steps": 0}),
    (
        "warmup_exponential_decay_schedule",
        "peak_value",
        WARM | {"transition_steps": 20, "decay_rate": 0.5},
    ),
    ("cosine_onecycle_schedule", "peak_value", CYCLE),
    ("cosine_onecycle_schedule", "peak_value", CYCLE | {"pct_start": 1.0}),
    ("linear_onecycle_schedule", "peak_value", CYCLE),
    ("linear_onecycle_schedule", "peak_value", CYCLE | {"pct_start": 0.5, "pct_final": 0.5}),
    ("linear_onecycle_schedule", "peak_value", CYCLE | {"pct_start": 0.0, "pct_final": 1.0}),
]
every_setting = pytest.mark.parametrize(("name", "rate", "keywords"), SETTINGS)
STEPS = {30: 5.0, 37: 0.0, 60: 2.0}


@every_setting
def test_laws(name, rate, keywords):
    compat_laws.check(getattr(compat, name), rate, 60, **keywords)


# Until 0.2.7, a boundary at 0 was a division by zero.
OLD = tuple(map(int, optax.__version__.split(".")[:3])) < (0, 2, 8)


@every_setting
def test_live(name, rate, keywords):
    if OLD and keywords.get("pct_start") == 0:
        pytest.skip("Optax divides by zero")
    counts = np.arange(0, 100)
    theirs = getattr(optax.schedules, name)(**keywords)
    rates = np.array([float(theirs(int(count))) for count in counts])
    ours = getattr(compat, name)(**keywords)(counts)
    np.testing.assert_allclose(ours, rates, rtol=0, atol=2e-6 * np.max(rates))


@pytest.mark.parametrize("shape", ["linear", "cosine", None])
def test_laws_of_dicts(shape):
    def build(value, first, last):
        pieces = {60: last, 30: first, 37: 0.5}
        if shape is None:
            return compat.piecewise_constant_schedule(value, pieces)
        return compat.piecewise_interpolate_schedule(shape, value, pieces)

    compat_laws.check(build, "value", 70, value=0.1, first=5.0, last=2.0)


@pytest.mark.parametrize("shape", ["linear", "cosine", None])
@pytest.mark.parametrize("pieces", [STEPS, {40: 0.5, 10: 3.0}, {0: 0.5, 20: 0.5}, {}])
def test_live_dicts(shape, pieces):
    if OLD and shape and 0 in pieces:
        pytest.skip("Optax divides by zero")
    arguments = (0.1, pieces) if shape is None else (shape, 0.1, pieces)
    name = "piecewise_constant_schedule" if shape is None else "piecewise_interpolate_schedule"
    theirs = getattr(optax.schedules, name)(*arguments)
    rates = np.array([float(theirs(count)) for count in range(80)])
    ours = getattr(compat, name)(*arguments).values(80)
    np.testing.assert_allclose(ours, rates, rtol=0, atol=2e-6 * np.max(rates))


def test_laws_of_compositions():
    def sgdr(peak, warmup):
        first = {"init_value": 0.0, "peak_value": peak, "warmup_steps": warmup, "decay_steps": 20}
        return compat.sgdr_schedule([first, {**first, "peak_value": 0.05, "decay_steps": 30}])

    def join(peak, begin):
        up = compat.linear_schedule(0.0, peak, begin)
        return compat.join_schedules([up, 0.1, compat.cosine_decay_schedule(peak, 30)], [begin, 25])

    compat_laws.check(sgdr, "peak", 50, peak=0.1, warmup=5)
    compat_laws.check(join, "peak", 50, peak=0.1, begin=10)


def test_joins_of_closures():
    pieces = [
        optax.linear_schedule(0.0, 0.1, 10),
        optax.cosine_decay_schedule(0.1, 50),
        optax.constant_schedule(0.5),
    ]
    for boundaries in ([10, 40], [20, 10], [15, 15]):
        theirs = optax.join_schedules(pieces, boundaries)
        rates = [float(theirs(jnp.asarray(count))) for count in range(80)]
        ours = compat.join_schedules(pieces, boundaries)
        np.testing.assert_allclose([ours(count) for count in range(80)], rates, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "name", ["linear_schedule", "warmup_cosine_decay_schedule", "cosine_onecycle_schedule"]
)
def test_traced_where_optax_fails(name):
    keywords = {
        "linear_schedule": RAMP,
        "warmup_cosine_decay_schedule": WARM | {"decay_steps": 50},
        "cosine_onecycle_schedule": CYCLE,
    }[name]

    def rates(numbers):
        return getattr(compat, name)(**numbers)(jnp.arange(60.0))

    expected = rates(keywords)
    np.testing.assert_allclose(jax.jit(rates)(keywords), expected, rtol=0, atol=1e-6)
    with pytest.raises(jax.errors.JAXTypeError):
        jax.jit(lambda numbers: getattr(optax, name)(**numbers)(3))(keywords)


@pytest.mark.parametrize("peak", [0.0, 0.1])
def test_a_traced_peak_of_zero(peak):
    build = lambda peak: compat.warmup_cosine_decay_schedule(0.1, peak, 10, 80, end_value=0.01)(
        jnp.arange(100.0)
    )
    np.testing.assert_allclose(jax.jit(build)(peak), build(peak), rtol=0, atol=1e-7)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: compat.linear_schedule(-0.1, 0.0, 10), "`init_value`"),
        (lambda: compat.polynomial_schedule(0.1, 0.0, -1.0, 10), "`power`"),
        (lambda: compat.exponential_decay(0.1, 10, -0.5), "`decay_rate`"),
        (lambda: compat.cosine_decay_schedule(0.1, 0), "`decay_steps`"),
        (
            lambda: compat.warmup_cosine_decay_schedule(0.0, 0.1, 80, 80),
            "`decay_steps` must be above `warmup_steps`",
        ),
        (lambda: compat.warmup_exponential_decay_schedule(0.0, 0.1, -1, 10, 0.5), "`warmup_steps`"),
        (lambda: compat.piecewise_constant_schedule(0.1, {10: -0.5}), "`boundaries_and_scales`"),
        (
            lambda: compat.piecewise_interpolate_schedule("cubic", 0.1, {10: 0.5}),
            "`interpolate_type`",
        ),
        (
            lambda: compat.linear_onecycle_schedule(10, 0.1, pct_start=0.9),
            "`pct_start` must be at most `pct_final`",
        ),
        (lambda: compat.cosine_onecycle_schedule(0, 0.1), "`transition_steps`"),
        (lambda: compat.sgdr_schedule([]), "`cosine_kwargs`"),
        (
            lambda: compat.join_schedules([0.1, 0.2], []),
            "`schedules` must be one more than `boundaries`",
        ),
    ],
)
def test_bad_calls_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
