"""`lrax.compat.timm`: its laws, one setting of each translation and of each formula, and live comparisons."""

import importlib.util
import inspect
import pickle
import sys

import chex
import jax
import numpy as np
import pytest
from golden import record_timm
from jax import numpy as jnp
from jax.tree_util import Partial

import lrax
from lrax.compat import timm as ours

STEPS = 40
COUNTS = np.arange(-1, STEPS + 41)
WARM = {"warmup_t": 7, "warmup_lr_init": 1e-3}
CYCLES = {"t_initial": 10, "cycle_mul": 1.5, "cycle_decay": 0.5, "cycle_limit": 3, "lr_min": 1e-3}


@pytest.fixture
def timm():
    """Measures timm's schedulers, which need PyTorch alone; `import timm` itself needs torchvision."""
    pytest.importorskip("torch")
    if importlib.util.find_spec("timm") is None:
        pytest.skip("timm is not installed")
    before = sys.modules.get("timm")
    yield record_timm
    if before is None:
        sys.modules.pop("timm", None)  # a stand-in that other packages would take for the real one


def squared(p):
    return (1 - p) ** 2


# (class, keywords, whether it is a translation into other schedules of lrax)
SETTINGS = [
    ("CosineLRScheduler", {"t_initial": STEPS, "lr_min": 1e-3}, True),
    ("CosineLRScheduler", {"t_initial": STEPS, "k_decay": 1.5, "warmup_prefix": True} | WARM, True),
    ("CosineLRScheduler", CYCLES | WARM, True),
    ("CosineLRScheduler", CYCLES | WARM | {"k_decay": 1.5}, False),
    ("CosineLRScheduler", CYCLES | {"cycle_mul": 0.5, "warmup_prefix": True} | WARM, False),
    ("TanhLRScheduler", {"t_initial": STEPS, "lr_min": 1e-3}, True),
    ("TanhLRScheduler", {"t_initial": STEPS} | WARM, True),
    ("TanhLRScheduler", {"t_initial": STEPS, "warmup_prefix": True} | WARM, True),
    ("TanhLRScheduler", CYCLES | WARM, False),
    ("PolyLRScheduler", {"t_initial": STEPS, "power": 0.9} | WARM, True),
    ("PolyLRScheduler", CYCLES | WARM | {"k_decay": 2.0}, False),
    ("PolyLRScheduler", CYCLES | {"power": 0.0, "warmup_prefix": True} | WARM, False),
    ("StepLRScheduler", {"decay_t": 9, "decay_rate": 0.5}, True),
    ("StepLRScheduler", {"decay_t": 2.4, "decay_rate": 0.97, "warmup_prefix": False} | WARM, True),
    ("MultiStepLRScheduler", {"decay_t": [12, 30], "decay_rate": 0.5}, True),
    ("MultiStepLRScheduler", {"decay_t": [1, 30], "decay_rate": 0.5} | WARM, True),
    ("WSDLRScheduler", {"t_initial": STEPS, "decay_t": 15, "lr_min": 1e-3} | WARM, True),
    ("WSDLRScheduler", {"t_initial": STEPS, "decay_t": 15, "stable_fn": "rsqrt"} | WARM, False),
    (
        "WSDLRScheduler",
        {"t_initial": STEPS, "decay_t": 15, "decay_fn": "exp", "decay_ratio": 0.3},
        False,
    ),
    (
        "WSDLRScheduler",
        {"t_initial": STEPS, "decay_t": 15, "decay_fn": "power", "decay_power": 1.7},
        False,
    ),
    ("CosineLRScheduler", {"t_initial": STEPS, "noise_range_t": (5, 20), "noise_seed": 3}, True),
]
every_setting = pytest.mark.parametrize(("name", "keywords", "translated"), SETTINGS)


def build(name, keywords, lr=0.1):
    return getattr(ours, name)(lr=lr, **keywords)


@every_setting
def test_what_is_one_of_lrax_is_returned(name, keywords, translated):
    assert ("compat" in repr(build(name, keywords))) is not translated


@every_setting
def test_rates_are_mapped(name, keywords, translated):
    lrs = np.array([0.3, 0.1, 0.02], np.float32)
    mapped = jax.jit(jax.vmap(lambda lr: build(name, keywords, lr)(COUNTS)))(lrs)
    wanted = [build(name, keywords, lr)(COUNTS) for lr in lrs]
    np.testing.assert_allclose(mapped, wanted, rtol=2e-6, atol=1e-8)


@every_setting
def test_every_number_may_be_traced(name, keywords, translated):
    static = {
        key: value
        for key, value in keywords.items()
        if isinstance(value, (str, bool, tuple)) or "seed" in key
    }
    static |= {
        key: value for key, value in keywords.items() if key == "decay_t" and value == 2.4
    }  # known, it is rounded
    given = {
        key: jnp.asarray(value, jnp.float32) for key, value in keywords.items() if key not in static
    }
    rates = jax.jit(lambda numbers: build(name, numbers | static)(COUNTS))(given)
    np.testing.assert_allclose(rates[1:], build(name, keywords)(COUNTS)[1:], rtol=2e-6, atol=1e-7)


@every_setting
def test_one_trace_for_all_values(name, keywords, translated):
    traces = []

    @jax.jit
    def rate(schedule):
        traces.append(schedule)
        return schedule(3)

    for lr, longer in [(0.1, 0), (0.2, 5), (jnp.float32(0.3), np.int32(9)), (np.float64(0.4), 2)]:
        spans = {
            key: value + longer
            for key, value in keywords.items()
            if key in ("t_initial", "warmup_t")
        }
        rate(build(name, keywords | spans, lr))
    assert len(traces) == 1


@pytest.mark.slow
@every_setting
def test_gradients_are_finite(name, keywords, translated):
    schedule = build(name, keywords)
    gradients = jax.jit(
        jax.vmap(jax.grad(lambda schedule, count: schedule(count)), in_axes=(None, 0))
    )
    found = jax.tree.leaves(gradients(schedule, COUNTS.astype(np.float32)))
    assert found
    assert all(np.all(np.isfinite(gradient)) for gradient in found)


@every_setting
def test_copies_are_equal(name, keywords, translated):
    schedule = build(name, keywords)
    for same in [
        pickle.loads(pickle.dumps(schedule)),
        eval(repr(schedule), vars(lrax)),
        schedule.replace(),
    ]:
        chex.assert_trees_all_close(same, schedule, rtol=1e-12)


def test_a_decay_of_ones_own():
    keywords = {"t_initial": STEPS, "decay_t": 15, "lr_min": 1e-3}
    schedule = build("WSDLRScheduler", keywords | {"decay_fn": squared})
    np.testing.assert_allclose(schedule(STEPS - 3), 1e-3 + (0.1 - 1e-3) * 0.2**2, rtol=1e-6)
    leaves = jax.tree.leaves(
        build("WSDLRScheduler", keywords | {"decay_fn": Partial(lambda k, p: (1 - p) ** k, 2.0)})
    )
    assert len(leaves) == len(jax.tree.leaves(schedule)) + 1


@pytest.mark.parametrize(
    ("name", "keywords", "message"),
    [
        ("CosineLRScheduler", {"t_initial": 0}, "`t_initial` must be finite and positive, got 0"),
        (
            "CosineLRScheduler",
            {"t_initial": 9, "lr_min": -1},
            "`lr_min` must be finite and non-negative, got -1",
        ),
        (
            "CosineLRScheduler",
            {"t_initial": 9, "cycle_mul": 0},
            "`cycle_mul` must be finite and positive, got 0",
        ),
        (
            "CosineLRScheduler",
            {"t_initial": 9, "noise_range_t": 3, "noise_pct": 2},
            "`noise_pct` must be at most 1",
        ),
        (
            "TanhLRScheduler",
            {"t_initial": 9, "lb": 3, "ub": 3},
            "`ub` must be above `lb`, got 3",
        ),
        (
            "PolyLRScheduler",
            {"t_initial": 9, "power": -1},
            "`power` must be finite and non-negative, got -1",
        ),
        ("StepLRScheduler", {"decay_t": 0}, "`decay_t` must be finite and positive, got 0"),
        ("MultiStepLRScheduler", {"decay_t": [9, 3]}, "`decay_t` must be in ascending order"),
        (
            "WSDLRScheduler",
            {"t_initial": 9, "decay_t": 10},
            "`decay_t` must be at most `t_initial`, got 10.0 and 9.0",
        ),
        (
            "WSDLRScheduler",
            {"t_initial": 9, "decay_t": 3, "decay_fn": "sqrt"},
            "`decay_fn` must be one of 'linear'",
        ),
        (
            "WSDLRScheduler",
            {"t_initial": 9, "decay_t": 3, "decay_ratio": 1},
            "`decay_ratio` must be below 1",
        ),
        (
            "WSDLRScheduler",
            {"t_initial": 9, "decay_t": 3, "stable_fn": "rsqrt"},
            "`stable_timescale` must be given where `warmup_t` is 0",
        ),
    ],
)
def test_bad_calls_are_named(name, keywords, message):
    with pytest.raises(ValueError, match=message):
        build(name, keywords)


def test_noise_is_never_on_the_first_update_and_between_its_limits():
    keywords = {"t_initial": STEPS, "noise_pct": 0.3}
    plain = build("CosineLRScheduler", keywords).values(STEPS)
    noisy = build("CosineLRScheduler", keywords | {"noise_range_t": 0}).values(STEPS)
    parts = np.asarray(noisy / plain - 1)
    assert parts[0] == 0
    assert np.all(np.abs(parts) <= 0.3 + 1e-6)
    assert len(set(parts[1:])) == STEPS - 1
    seeded = build("CosineLRScheduler", keywords | {"noise_range_t": (3, 9), "noise_seed": None})
    assert np.flatnonzero(np.asarray(seeded.values(STEPS) - plain)).tolist() == [*range(3, 9)]


def test_restarts_where_timm_misses_one():
    # timm's floor of a logarithm puts 1210 = 10 * (1 + 3 + ... + 81) at the end of the cycle
    # before.
    for more in ({}, {"k_decay": 1.0 + 1e-6}):
        schedule = build(
            "CosineLRScheduler", {"t_initial": 10, "cycle_mul": 3, "cycle_limit": 9} | more
        )
        np.testing.assert_allclose(schedule([1209, 1210, 3640]), [0.0, 0.1, 0.1], atol=1e-6)


@pytest.mark.parametrize("name", ours.__all__)
def test_arguments_and_defaults_are_those_of_timm(name, timm):
    theirs = inspect.signature(timm.scheduler_class(name)).parameters
    wanted = {key: value.default for key, value in theirs.items()}
    found = {
        key: value.default
        for key, value in inspect.signature(getattr(ours, name)).parameters.items()
    }
    assert list(found) == [
        "lr",
        *(key for key in wanted if key not in ("optimizer", "t_in_epochs", "initialize")),
    ]
    assert all(found[key] == wanted[key] for key in found if key != "lr")


@pytest.mark.parametrize(
    ("name", "keywords", "translated"), [one for one in SETTINGS if "noise_seed" not in one[1]]
)
def test_rates_are_those_of_timm(name, keywords, translated, timm):
    setting = timm.measure(name, {"lr": 0.1} | keywords, STEPS + 20)
    rates = np.array(setting["rates"])
    counts = np.setdiff1d(np.arange(len(rates)), setting.get("faults", []))
    np.testing.assert_allclose(build(name, keywords)(counts), rates[counts], rtol=0, atol=1e-7)
