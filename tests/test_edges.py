"""Schedules at the edges of what is legal: extreme numbers, no steps, and a form without code."""

import functools
import json

import chex
import jax
import numpy as np
import pytest
from cases import CASES
from jax.tree_util import Partial

import lrax

COUNTS = np.array([0, 1, 2, 50, 99, 100, 10**6, 2**31 - 1])


def restarts(t, peak, first, mult, end, decay=1.0, cycles=None):
    """The rates of restarts that become shorter, in float64, cycle by cycle."""
    rates, begin, length = np.full(t.shape, float(end)), 0.0, float(first)
    for i in range(2000 if cycles is None else cycles):
        inside = (t >= begin) & (t < begin + length)
        part = np.where(inside, t - begin, 0) / max(length, 1e-300)
        wave = (1 + np.cos(np.pi * part)) / 2
        rates = np.where(inside, end + (peak * decay**i - end) * wave, rates)
        begin, length = begin + length, length * mult
    return rates


@pytest.mark.parametrize(
    "keywords",
    [
        dict(first=64, mult=0.5),
        dict(first=100, mult=0.9, end=0.01, decay=0.8),
        dict(first=1000, mult=0.75, end=0.01, cycles=3),
        dict(first=64, mult=1e-45, end=0.01),
    ],
    ids=str,
)
@pytest.mark.slow
def test_restarts_that_become_shorter_are_those_of_numpy(keywords):
    keywords = {"peak": 0.1, "end": 0.0, **keywords}
    counts = np.arange(0, 3000, dtype=np.float64)
    wanted = restarts(counts, **keywords)
    if "cycles" not in keywords:  # cycles of less than two updates are noise of the sampling
        wanted = wanted[: int((keywords["first"] - 2) / (1 - keywords["mult"]))]
    schedule = lrax.cosine_restarts(**keywords)

    @jax.jit
    @functools.partial(jax.grad, has_aux=True)
    def compiled(schedule):
        rates = schedule(counts)
        return rates.sum(), rates

    gradients, rates = compiled(schedule)
    for found in (schedule(counts), rates):
        np.testing.assert_allclose(found[: len(wanted)], wanted, atol=1e-5)
    assert float(schedule(10**6)) == pytest.approx(keywords["end"])
    assert all(np.all(np.isfinite(gradient)) for gradient in jax.tree.leaves(gradients))


@pytest.mark.parametrize("steps", [1e-45, 1e-38, 1e-30, 1e-10])
def test_a_decay_in_almost_no_time_has_decayed_after_one_update(steps):
    for schedule in (
        lrax.exponential(0.1, 0.9, steps),
        lrax.exponential(0.1, 0.9, steps, staircase=True),
        lrax.inverse_time(0.1, 0.5, steps),
    ):
        rates = np.asarray(schedule(COUNTS))
        assert rates[0] == np.float32(0.1)
        assert np.all(np.isfinite(rates))
        assert np.all(rates[1:] < 1e-8)


def test_rates_that_float32_does_not_hold_are_refused():
    with pytest.raises(ValueError, match="`peak` / `div` must be finite and non-negative, got"):
        lrax.one_cycle(0.1, 100, div=1e-45)
    with pytest.raises(ValueError, match="`final_div` must be finite and non-negative, got"):
        lrax.one_cycle(0.1, 100, final_div=1e-45)
    assert np.all(np.isfinite(lrax.one_cycle(0.1, 100, div=1e-30, final_div=1e30)(COUNTS)))


COMPAT = [
    lrax.compat.torch.OneCycleLR(max_lr=0.1, total_steps=100),
    lrax.compat.transformers.get_cosine_schedule_with_warmup(0.1, 10, 100),
]


def test_the_form_in_json_gives_the_same_schedule():
    stacked = lrax.stack([lrax.cosine(0.1, 100), lrax.constant(0.2)])
    for schedule in [*(case.build() for case in CASES), *COMPAT, stacked]:
        text = json.dumps(schedule.to_dict(), allow_nan=False)
        same = lrax.Schedule.from_dict(json.loads(text))
        chex.assert_trees_all_equal(same, schedule, strict=True)
        assert repr(same) == repr(schedule)


def own(count, peak):
    return peak + 0 * count


def test_a_function_has_no_form_in_json():
    for schedule in (
        lrax.Schedule(own, {"peak": np.float32(0.1)}),
        2.0 * lrax.warmup(lambda count: 0.1, 10),
        lrax.ramp(0.1, 0.0, 10, shape=lambda p: p),
        lrax.ramp(0.1, 0.0, 10, shape=Partial(own, peak=np.float32(0.1))),
    ):
        with pytest.raises(ValueError, match="a function has no form in JSON"):
            schedule.to_dict()
    with pytest.raises(ValueError, match="`peak` must be concrete"):
        jax.eval_shape(lambda peak: lrax.cosine(peak, 10).to_dict(), 0.1)


def form(name, **arguments):
    return {"schedule": name, "arguments": arguments}


def nested(depth):
    described = form("constant", value=0.1)
    for _ in range(depth):
        described = form("scale", schedule=described, factor=1.0)
    return described


@pytest.mark.parametrize(
    ("described", "message"),
    [
        (3, "`described` must be a dict"),
        ({"schedule": "constant"}, "`described` must be a dict"),
        ({"schedule": 3, "arguments": {}}, "`schedule` must be the name of a builder"),
        ({"schedule": "constant", "arguments": [0.1]}, "`arguments` must be a dict"),
        (form("os.system", command="true"), "`schedule` must be the name of a builder of lrax"),
        (form("as_schedule", value=0.1), "`schedule` must be the name of a builder of lrax"),
        (form("compat.os.system"), "`schedule` must be the name of a builder of lrax"),
        (form("compat.torch.Tensor"), "`schedule` must be the name of a builder of lrax"),
        (form("tune", loss=0.1), "`schedule` must be the name of a builder of lrax"),
        (form("cosine", peak=0.1), r"`cosine` must be given \['steps'\]"),
        (form("cosine", peak=0.1, steps=9, lr=1), r"`cosine` has no argument \['lr'\]"),
        (form("cosine", peak=-0.1, steps=9), "`peak` must be finite and non-negative"),
        (form("cosine", peak=float("nan"), steps=9), "`peak` must be finite, got nan"),
        (form("cosine", peak=b"x", steps=9), "`peak` must be a value of JSON"),
        (form("multiply", schedules=3), "`schedules` must be a list, got 3"),
        (nested(51), "at most 50 levels deep"),
        (nested(5000), "at most 50 levels deep"),
    ],
)
def test_a_bad_form_is_named(described, message):
    with pytest.raises(ValueError, match=message):
        lrax.Schedule.from_dict(described)


def test_a_form_of_the_wrong_types_is_named():
    with pytest.raises(TypeError, match="`peak` must be a real number"):
        lrax.Schedule.from_dict(form("cosine", peak="0.1", steps=9))
    with pytest.raises(TypeError, match="`schedule` must be a number, a Schedule"):
        lrax.Schedule.from_dict(form("scale", schedule="print()", factor=1))
    deep = lrax.constant(0.1)
    for _ in range(60):
        deep = lrax.scale(deep, 1.0)
    with pytest.raises(ValueError, match="at most 50 levels deep"):
        deep.to_dict()


EMPTY = {
    "cosine": dict(peak=0.1),
    "linear": dict(init=0.1, end=0.0),
    "polynomial": dict(init=0.1, end=0.0),
    "rex": dict(init=0.1, end=0.0),
    "tanh": dict(init=0.1, end=0.0),
    "one_cycle": dict(peak=0.1),
    "warmup_cosine": dict(peak=0.1, warmup=0),
    "warmup_linear": dict(peak=0.1, warmup=0),
    "wsd": dict(peak=0.1, warmup=0, cooldown=0),
}


@pytest.mark.parametrize("builder", EMPTY)
def test_no_steps_at_all_are_warned_of(builder):
    build, keywords = getattr(lrax, builder), EMPTY[builder]
    with pytest.warns(UserWarning, match="`steps` is 0, so the rate is 0 at every") as record:
        build(**keywords, steps=0)
    assert record[0].filename == __file__
    build(**keywords, steps=1)
    jax.eval_shape(lambda steps: build(**keywords, steps=steps), 0)
    if builder != "one_cycle":
        build(**{**keywords, "end": 0.01}, steps=0)
    build(**keywords, steps=1).replace(steps=0)  # inside of lrax, where no user calls it
