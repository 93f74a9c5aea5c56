"""`batch_ramp`: what it keeps of a decay, and that the loss follows the run with a fixed batch."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from jax import numpy as jnp

import lrax
from lrax.scaling import batch_ramp

POWERS = {"sgd": 1.0, "adam": 0.5}
STEPS = 400


@dataclasses.dataclass(frozen=True)
class Case:
    name: str
    schedule: Any
    max_batch: int = 10**6
    multiple: int = 1


CASES = [
    Case("steps", lrax.step_decay(init=0.1, step_size=100, factor=0.5)),
    Case("linear", lrax.linear(init=0.1, end=0.0, steps=STEPS)),
    Case("cosine, capped", lrax.cosine(peak=0.1, steps=STEPS), max_batch=300),
    Case("warmup", lrax.warmup_cosine(0.1, steps=STEPS, warmup=50, end=0.01), multiple=8),
    Case("wsd", lrax.wsd(0.1, steps=STEPS, warmup=40, cooldown=100), max_batch=512, multiple=16),
    Case("restarts", lrax.repeat(lrax.linear(init=0.1, end=0.02, steps=100), 100)),
]
every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
both = pytest.mark.parametrize("optimizer", POWERS)


def ramped(case, optimizer):
    ramp = batch_ramp(
        case.schedule,
        steps=STEPS,
        batch=32,
        max_batch=case.max_batch,
        optimizer=optimizer,
        multiple=case.multiple,
    )
    return ramp, ramp.schedule.hyperparams["values"]


@both
@every_case
def test_examples_and_the_sum_of_steps_are_kept(case, optimizer):
    ramp, rates = ramped(case, optimizer)
    assert ramp.batches.dtype.kind == "i"
    assert ramp.batches.sum() == STEPS * 32
    assert len(ramp.batches) == len(rates) < STEPS
    np.testing.assert_array_equal(ramp.examples, np.cumsum(ramp.batches) - ramp.batches)
    assert ramp.batches[:-1].min() >= 32
    assert ramp.batches.max() <= case.max_batch
    assert np.all(ramp.batches % case.multiple == 0)
    # How far the parameters move: the rate times (batch / 32)^(1 - p), over all updates.
    power = 1 - POWERS[optimizer]
    moved = np.sum(rates * (ramp.batches / 32) ** power)
    old = np.asarray(case.schedule.values(STEPS), np.float64)
    assert moved == pytest.approx(old.sum(), rel=1e-12)


@both
@every_case
def test_the_noise_of_each_example_follows_the_decay(case, optimizer):
    ramp, rates = ramped(case, optimizer)
    old = np.asarray(case.schedule.values(STEPS), np.float64)
    found = rates / (ramp.batches / 32) ** POWERS[optimizer]
    # The mean of the old rates over the examples of the update.
    each = np.repeat(old, 32)
    means = np.add.reduceat(each, ramp.examples) / ramp.batches
    np.testing.assert_allclose(found, means, rtol=1e-9, atol=1e-15)
    assert rates[0] == pytest.approx(old[0], rel=1e-6), "the start is the old one"


def test_a_halved_rate_is_a_doubled_batch():
    sgd, rates = ramped(CASES[0], "sgd")
    assert sgd.batches.tolist() == [32] * 100 + [64] * 50 + [128] * 25 + [256] * 12 + [128]
    np.testing.assert_allclose(rates[:-1], 0.1, rtol=1e-6)
    adam, rates = ramped(CASES[0], "adam")
    np.testing.assert_array_equal(adam.batches, sgd.batches)
    np.testing.assert_allclose(rates[[0, 100, 150, 175]], 0.1 * 0.5 ** np.arange(0, 2, 0.5), 1e-6)


def test_seesaw_saves_as_many_updates_as_its_paper_says():
    quarter = lambda count: jnp.cos(jnp.pi / 2 * count / 4000)
    ramp = batch_ramp(quarter, steps=4000, batch=1000, max_batch=10**7)
    # In the limit, the new updates are the mean of the shape: 2 / pi, or 36% less.
    assert len(ramp.batches) / 4000 == pytest.approx(2 / np.pi, abs=0.01)


def test_a_rate_that_does_not_decay_changes_nothing():
    for schedule in (lrax.constant(0.1), lrax.linear(init=0.0, end=0.1, steps=10)):
        ramp = batch_ramp(schedule, steps=10, batch=4, max_batch=64)
        assert ramp.batches.tolist() == [4] * 10
        np.testing.assert_array_equal(ramp.schedule.values(10), schedule.values(10))


def losses(rates, batches, optimizer):
    """The expected loss before each update and at the end, on a quadratic with noisy gradients."""
    curvature = np.geomspace(0.1, 1, 10)
    square = np.full(10, 4.0)  # the mean of the squares of the parameters
    found = [curvature @ square]
    for rate, batch in zip(rates, batches, strict=True):
        # Where the gradient is mostly noise, Adam divides it by the noise: 1 / sqrt(batch).
        step = rate if optimizer == "sgd" else rate * np.sqrt(batch / 32)
        square = (1 - step * curvature) ** 2 * square + step**2 * 32 / batch
        found.append(curvature @ square)
    return np.array(found) / 2


@both
@every_case
def test_the_loss_follows_the_run_with_a_fixed_batch(case, optimizer):
    ramp, rates = ramped(case, optimizer)
    old = np.asarray(case.schedule.values(STEPS), np.float64)
    fixed = losses(old, np.full(STEPS, 32), optimizer)
    seen = np.append(ramp.examples, STEPS * 32) / 32
    expected = np.interp(seen, np.arange(STEPS + 1), fixed)
    difference = np.abs(losses(rates, ramp.batches, optimizer) / expected - 1)
    assert difference.max() < (0.06 if case.name == "restarts" else 0.01)  # at a sudden rise
    assert difference[-1] < 0.01
    # The rule of the other optimizer does not follow.
    other = next(name for name in POWERS if name != optimizer)
    wrong = losses(ramped(case, other)[1], ramp.batches, optimizer)
    assert np.abs(wrong / expected - 1).max() > 4 * difference.max()


def test_what_is_no_decay_of_a_fixed_batch_is_refused():
    run = {"steps": 10, "batch": 8, "max_batch": 64}
    decay = lrax.linear(init=1.0, end=0.0, steps=10)
    with pytest.raises(ValueError, match="`batch` must be at most `max_batch`, got 8 and 4"):
        batch_ramp(decay, **{**run, "max_batch": 4})
    with pytest.raises(ValueError, match="`batch` must be a multiple of `multiple`, got 8 and 3"):
        batch_ramp(decay, **run, multiple=3)
    with pytest.raises(ValueError, match=r"must have one rate for each update, got shape \(2, 10"):
        batch_ramp(decay * np.array([0.1, 0.2]), **run)
    with pytest.raises(ValueError, match="finite and non-negative rates, one of them above 0"):
        batch_ramp(0.0, **run)
