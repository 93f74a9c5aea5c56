"""`lrax.range_test`: what it trains, what it says, and what it survives."""

import jax
import numpy as np
import optax
import problems
import pytest
from jax import numpy as jnp

import lrax

STEPS = 60


def quiet(task, optimizer=optax.adam, **keywords):
    return lrax.range_test(task, optimizer, **({"steps": STEPS, "progress": False} | keywords))


def by_hand(task, rates, seed, optimizer=optax.adam):
    """The losses of a loop that builds the optimizer anew for each rate."""
    ramp = lrax.from_values(rates)
    trained = lrax.train(task, optimizer, steps=len(rates))(ramp, jax.random.key(seed))
    return np.asarray(trained.losses)


@pytest.fixture(scope="module")
def digits():
    return lrax.range_test(lrax.tasks.digits(), optax.adam, seeds=3, progress=False)


def test_losses_are_those_of_a_run_before_each_update():
    task = problems.regression()
    found = quiet(task, start=1e-5, end=0.1, seeds=[3, 8])
    assert found.rates.shape == (STEPS,)
    assert found.losses.shape == (2, STEPS)
    np.testing.assert_allclose(found.rates, 1e-5 * 1e4 ** (np.arange(STEPS) / STEPS), rtol=1e-12)
    for losses, seed in zip(found.losses, (3, 8), strict=True):
        np.testing.assert_allclose(losses, by_hand(task, found.rates, seed), rtol=1e-4)
    both = quiet(task, start=1e-5, end=0.1, inclusive="both")
    assert both.rates[-1] == pytest.approx(0.1)
    linear = quiet(task, start=1e-5, end=0.1, kind="linear")
    np.testing.assert_allclose(linear.rates, np.linspace(1e-5, 0.1, STEPS, endpoint=False))


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda rate: optax.sgd(rate),
        lambda rate: optax.scale(-rate),  # takes a number only
        lambda rate: optax.scale_by_schedule(lambda count: -rate(count)),  # a schedule only
        lambda rate: optax.inject_hyperparams(optax.sgd)(rate),
        lambda rate: optax.chain(optax.identity(), lrax.scale_by_lr(rate)),
    ],
    ids=["either", "number", "schedule", "inject_hyperparams", "scale_by_lr"],
)
def test_the_optimizer_takes_a_rate_or_a_schedule(optimizer):
    task = problems.regression()
    found = quiet(task, optimizer, start=1e-4, end=0.1)
    wanted = quiet(task, optax.sgd, start=1e-4, end=0.1)
    np.testing.assert_allclose(found.losses, wanted.losses, rtol=1e-5)
    assert wanted.losses[0, -1] < 0.9 * wanted.losses[0, 0]


def test_an_optimizer_that_is_broken_tells_its_own_error():
    def broken(rate):
        raise RuntimeError("my own")

    with pytest.raises(RuntimeError, match="my own"):
        quiet(problems.regression(), broken)


def valley(best=0.0, dtype=np.float32):
    """A noisy parabola of curvature 1: gradient descent diverges where the rate is above 2."""
    return lrax.Task(
        lambda key: jnp.ones((), dtype),
        lambda params, batch: best + 0.5 * jnp.square(params - batch),
        lambda step, key: 0.1 * jax.random.normal(key, (), dtype),
    )


def test_a_lane_stands_still_once_it_has_diverged():
    found = quiet(valley(1.0), optax.sgd, start=1e-3, end=1e3, steps=100, seeds=2)
    at = found.diverged_at[0]
    assert 0 < at < 99
    assert found.rates[at] > 2
    assert np.isfinite(found.losses[:, : at + 1]).all()
    assert np.isnan(found.losses[:, at + 1 :]).all()
    assert found.flags.diverged_at == at
    average = lrax.probes.smooth(found.losses[0, : at + 1])
    assert lrax.probes.diverged_at(average) == at
    assert 0.05 < found.suggest() < 2


@pytest.mark.parametrize("offset", [-5.0, -0.4])
def test_a_loss_below_zero_is_no_divergence(offset):
    found = quiet(valley(offset), optax.sgd, start=1e-3, end=1.0)
    assert found.diverged_at.tolist() == [-1]
    assert np.isfinite(found.losses).all()
    assert not found.flags.no_descent


def test_seeds_are_lanes_of_their_own(digits):
    alone = lrax.range_test(lrax.tasks.digits(), optax.adam, seeds=[1], progress=False)
    # At rates far above the best, rounding alone makes the rest differ.
    np.testing.assert_allclose(alone.losses[0, :60], digits.losses[1, :60], rtol=1e-4)
    each = [lrax.suggest(digits.rates, losses) for losses in digits.losses]
    assert digits.suggest() == np.median(each)


def test_the_suggestion_is_near_the_best_constant_rate(digits):
    grid = lrax.log_grid(1e-4, 0.3, 9)
    swept = lrax.sweep(lrax.tasks.digits(), optax.adam, grid, steps=100, progress=False)
    best = swept.best.hyperparams["learning_rate"]
    methods = ("lrax", "valley", "lightning")
    lrax_off, valley, lightning = (abs(np.log10(digits.suggest(m) / best)) for m in methods)
    assert lrax_off < 0.5 < valley < lightning


def test_packages_get_a_curve_as_they_would_have_it(digits):
    average = lrax.probes.smooth(digits.losses, "debiased", 0.98)
    each = [
        lrax.suggest(digits.rates, curve, "valley", skip_start=10, skip_end=5) for curve in average
    ]
    assert digits.suggest("valley") == np.median(each)
    average = lrax.probes.smooth(digits.losses, "seeded", 0.95)
    each = [lrax.suggest(digits.rates, curve, "ignite") for curve in average]
    assert digits.suggest("ignite") == np.median(each)


def test_both_pairings(digits):
    rates, losses = digits.curves(pairing="after")
    np.testing.assert_array_equal(rates, digits.rates[:-1])
    np.testing.assert_array_equal(losses, digits.losses[:, 1:])
    assert digits.suggest(pairing="after") <= digits.suggest()


@pytest.mark.slow
def test_the_validation_loss_is_of_the_same_parameters():
    task = lrax.tasks.diabetes()
    found = quiet(task, start=1e-4, end=1.0, seeds=2, validation="val_loss")
    assert found.validation.shape == (2, STEPS)
    params = task.init(jax.random.split(jax.random.key(1), 3)[0])
    assert found.validation[1, 0] == pytest.approx(float(task.evaluate(params)["val_loss"]), 1e-5)
    assert 1e-4 < found.suggest(which="validation") < 1
    without = quiet(task, start=1e-4, end=1.0, seeds=2)
    np.testing.assert_allclose(found.losses, without.losses, rtol=1e-4)
    with pytest.raises(ValueError, match="`which` must be 'train_loss'"):
        without.suggest(which="validation")
    with pytest.raises(ValueError, match="`validation` must be one of 'val_loss'"):
        quiet(task, validation="loss")
    with pytest.raises(ValueError, match="`validation` must be None"):
        quiet(valley(), validation="loss")


@pytest.mark.slow
def test_groups_keep_their_ratios():
    task = lrax.tasks.diabetes()
    keywords = dict(start=1e-4, end=0.1, steps=20)
    tenth = quiet(task, optax.sgd, multipliers=0.1, **keywords)
    same = quiet(task, optax.sgd, start=1e-5, end=0.01, steps=20)
    np.testing.assert_allclose(tenth.losses, same.losses, rtol=1e-5)
    still = quiet(task, optax.sgd, multipliers=lambda params: 0.0, **keywords)
    np.testing.assert_allclose(still.losses[0, 0], tenth.losses[0, 0], rtol=1e-6)


def test_it_starts_from_given_parameters_and_leaves_them_alone():
    task = problems.regression()
    trained = lrax.train(task, optax.adam, steps=100)(0.1, jax.random.key(5)).params
    before = jax.tree.map(np.array, trained)
    found = quiet(task, params=trained, start=1e-6, end=1e-3)
    assert found.losses[0, 0] < 0.5 * quiet(task, start=1e-6, end=1e-3).losses[0, 0]
    jax.tree.map(np.testing.assert_array_equal, before, trained)


def test_a_task_with_state():
    def loss(params, state, batch):
        return jnp.square(params - batch) + 0.1, state + 1

    task = lrax.Task(
        lambda key: (jnp.zeros(()), jnp.zeros(())),
        loss,
        lambda step, key: jnp.ones(()),
        lambda params, state: {"loss": jnp.square(params - 1), "count": state},
        stateful=True,
    )
    found = quiet(task, optax.sgd, start=1e-3, end=0.9, validation="count")
    np.testing.assert_array_equal(found.validation[0], np.arange(STEPS))
    assert 1e-3 < found.suggest() < 0.9


def test_batches_from_the_host():
    random = np.random.default_rng(0)
    batches = [np.float32(1 + 0.01 * random.normal()) for _ in range(STEPS)]
    task = lrax.Task(lambda key: jnp.zeros(()), lambda p, b: jnp.square(p - b), iter(batches))
    found = quiet(task, optax.sgd, start=1e-3, end=0.9, seeds=2)
    assert found.losses[0, 0] == pytest.approx(batches[0] ** 2, rel=1e-5)
    assert np.isfinite(found.losses).all()


def test_bf16():
    found = quiet(valley(1.0, jnp.bfloat16), optax.sgd, start=1e-3, end=1e3)
    assert found.flags.diverged_at > 0
    assert not found.flags.no_descent


@pytest.mark.parametrize("seeds", [1, 3])
def test_a_nan_at_the_first_step(seeds):
    task = lrax.Task(lambda key: jnp.ones(()), lambda p, b: p * jnp.nan, lambda step, key: 0.0)
    found = quiet(task, seeds=seeds)
    assert np.isnan(found.losses).all()
    assert found.flags.diverged_at == 0
    assert found.flags.no_descent
    assert not found.flags.hit_upper_edge
    assert "the loss is finite at only 0 updates" in repr(found)
    for method in ("lrax", "valley", "ignite"):
        with pytest.raises(ValueError, match="finite"):
            found.suggest(method)
    assert len(found.plot()._repr_png_()) > 5000


def flat():
    return lrax.Task(lambda key: jnp.ones(()), lambda p, b: 0 * p + 2.0, lambda step, key: 0.0)


def test_a_flat_loss():
    found = quiet(flat())
    assert found.flags.no_descent
    assert found.flags.monotone
    assert found.flags.diverged_at == -1
    with pytest.raises(ValueError, match="flat"):
        found.suggest()
    assert "no rate suggested: the loss does not fall" in repr(found)


def test_a_range_that_is_too_low_and_one_that_is_too_high():
    low = quiet(valley(1.0), optax.sgd, start=1e-3, end=0.1).flags
    assert low.hit_upper_edge
    assert low.monotone
    assert not (low.no_descent)
    assert not (low.hit_lower_edge)
    high = quiet(valley(1.0), optax.sgd, start=2.2, end=100.0)
    assert high.flags.no_descent
    with pytest.raises(ValueError, match="must"):
        high.suggest()


@pytest.mark.parametrize(
    "steps", [1, *(pytest.param(steps, marks=pytest.mark.slow) for steps in (2, 5, 11))]
)
def test_a_few_steps(steps):
    found = quiet(valley(1.0), optax.sgd, steps=steps, start=1e-3, end=0.1)
    assert found.losses.shape == (1, steps)
    assert len(repr(found).splitlines()) == 3
    assert len(found.plot()._repr_png_()) > 3000


def test_what_is_wrong_is_named():
    task = problems.regression()
    for wrong, words in [
        ({"start": 0.0}, "`start` must be finite and positive"),
        ({"start": 1.0, "end": 1.0}, "`end` must be above `start`"),
        ({"steps": 0}, "`steps` must be at least 1"),
        ({"kind": "cosine"}, "`kind` must be one of"),
        ({"inclusive": "right"}, "`inclusive` must be one of"),
        ({"multipliers": -1.0}, "`multipliers` must be"),
    ]:
        with pytest.raises(ValueError, match=words):
            quiet(task, **wrong)
    with pytest.raises(TypeError, match="`optimizer` must be a function"):
        quiet(task, optax.adam(1e-3))
    with pytest.raises(TypeError, match=r"`task` must be a lrax\.Task"):
        quiet(lambda: task)


def test_pictures_and_words(digits):
    lines = repr(digits).splitlines()
    assert len(lines) == 3
    assert "100 steps x 3 seeds" in lines[0]
    assert f"suggested rate {digits.suggest():.2g}" in lines[1]
    assert "over seeds" in lines[1]
    (axes,) = digits.plot().axes
    assert axes.get_xscale() == "log"
    assert axes.get_xlabel() == "learning rate"
    low, high = axes.get_ylim()
    assert low < np.nanmin(digits.losses)
    assert high < 1.5 * digits.losses[:, :10].max()
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert f"suggested: {digits.suggest():.2g}" in labels
    assert "<pre>" in digits._repr_html_()
    assert "image/png" in digits._repr_html_()
