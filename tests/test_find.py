"""`lrax.find` on tasks whose best rate is known, and whose first updates mislead."""

import os
import signal

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import lrax
from lrax.sweeps.engine import engine, segments

pytest.importorskip("scipy")


STEPS = 60
FOLD = 1  # with this number seeds 0 and 1 tilt a curve to different sides
LOST = 1e6  # stands for NaN in a table: parameters that are not finite would be a diverged lane
PLACES = np.linspace(-9, 4, 651)  # log10 of rates, where a curve is tabulated


def init(key):
    noise = {
        "shift": jax.random.normal(key),
        "side": jnp.sign(jax.random.normal(jax.random.fold_in(key, FOLD))),
    }
    return curved(lambda x, part: 1 + x**2), noise


def curved(curve, noise=0.0, tilt=0.0, first=0.0):
    """Parameters by which the validation loss is `curve(log10(rate), part of the run)`.

    All tests have these in one task, so that they share its programs. The optimizer `told` writes
    the rate into them. Each seed adds a number to all rates; some seeds tilt the curve to one side
    and some to the other, seeds 0 and 1 to different ones.
    """
    early, late = (np.broadcast_to(curve(PLACES, part), PLACES.shape) for part in (0.0, 1.0))
    settings = dict(x=0.0, part=0.0, noise=noise, tilt=tilt, first=first)
    params = {"table": np.nan_to_num(np.stack([early, late]), nan=LOST), **settings}
    return jax.tree.map(jnp.float32, params)


def evaluate(params, state):
    x = params["x"]
    values = [jnp.interp(x, PLACES, row) for row in params["table"]]
    value = jnp.where(params["part"] < 0.4, *values)
    value = jnp.where(value > LOST / 2, jnp.nan, value)
    value += params["noise"] * state["shift"] + params["tilt"] * state["side"] * x
    return {"val_loss": value, "val_accuracy": 2 - value}


def loss(params, state, batch):
    value = evaluate(params, state)["val_loss"]
    return jnp.where(params["part"] == 0, params["first"], value), state


TASK = lrax.Task(init, loss, lambda index, key: jnp.zeros(()), evaluate, stateful=True)


def told(rate):
    def update(updates, state, params=None):
        to = {**params, "x": jnp.log10(rate), "part": params["part"] + 1 / STEPS}
        return jax.tree.map(lambda new, old: (new - old).astype(old.dtype), to, params), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def find(params, **options):
    return lrax.find(TASK, told, steps=STEPS, progress=False, params=params, **options)


def octaves(rate, best):
    return abs(np.log2(rate / best))


@pytest.mark.parametrize("best", [3e-4, 0.02, 1.5])
@pytest.mark.parametrize("runs", [7, 15, pytest.param(40, marks=pytest.mark.slow)])
def test_the_best_of_a_smooth_curve_is_found(best, runs):
    params = curved(lambda x, part: 1 + (x - np.log10(best)) ** 2, noise=0.05)
    found = find(params, runs=runs)
    assert octaves(found.rate, best) < 0.1
    assert found.interval[0] <= best <= found.interval[1]
    # With 7 runs there is one seed.
    assert found.certain == (runs > 7)
    assert bool(found.why) == (not found.certain)
    assert found.good[0] <= found.rate <= found.good[1]
    assert found.runs <= runs


def test_rates_are_surely_good_where_the_seeds_tell():
    params = curved(lambda x, part: 1 + (x + 2) ** 2, noise=0.05)
    found = find(params, runs=20)
    # The truly good rates are within a tenth of a decade.
    low, high = np.log10(found.surely_good)
    assert -2.1 <= low < -2 < high <= -1.9
    for fewer in (dict(seeds=1), dict(seeds=2), dict(runs=2), dict(budget=0)):
        assert find(params, **{"runs": 20, **fewer}).surely_good is None
    # Seeds that tilt the curve to different sides leave fewer rates that are surely good.
    tilted = find(curved(lambda x, part: 1 + (x + 2) ** 2, tilt=0.05), runs=40, seeds=4)
    ends = tilted.surely_good
    assert ends is None or np.log10(ends[1] / ends[0]) < 0.9 * (high - low)


def test_a_few_runs_give_a_range_that_says_so():
    params = curved(lambda x, part: 1 + (x + 2) ** 2, noise=0.05)
    found = find(params, runs=2)
    assert found.runs <= 2
    assert not found.certain
    assert "a range" in found.why
    assert found.interval[0] <= 0.01 <= found.interval[1]


def test_rates_that_begin_well_do_not_win():
    # High rates are better until two fifths of the run, low ones in the end.
    def curve(x, part):
        early = 1 + (x - 0.2) ** 2
        late = 1 + (x + 2.3) ** 2
        return 0.5 * early + 0.5 * late if part < 0.4 else late

    params = curved(curve, noise=0.02)
    assert octaves(find(params, runs=30).rate, 10**-2.3) < 0.3
    # Rates that were stopped early are trained again, and count with their new runs.
    assert octaves(find(params, runs=12).rate, 10**-2.3) < 0.3
    # Too few runs to come down to it: that is said.
    assert find(params, runs=7).at_edge == "low"


def test_the_deeper_of_two_basins_is_found():
    def curve(x, part):
        return np.minimum(1.1 + 4 * (x + 3) ** 2, 1.0 + 4 * (x - 0.1) ** 2)

    found = find(curved(curve, noise=0.02))
    assert octaves(found.rate, 10**0.1) < 0.3


def test_seeds_with_different_basins_are_not_called_certain():
    def curve(x, part):
        return np.minimum(1 + 4 * (x + 3) ** 2, 1 + 4 * x**2)

    found = find(curved(curve, tilt=0.1), seeds=4, runs=40)
    assert not found.certain
    assert "basins" in found.why
    assert "`lrax.find` with `seeds` " in found.why  # the call that would tell


def test_the_best_rate_beside_a_cliff_is_below_it():
    cliff = np.log10(0.05)

    def curve(x, part):
        return np.where(x > cliff, np.nan, 2 - 0.5 * x)

    found = find(curved(curve, noise=0.01))
    assert found.rate <= 0.05
    assert octaves(found.rate, 0.05) < 0.5
    assert found.interval[1] < 0.05 * 10**0.25


def test_an_optimum_outside_of_the_bounds_is_at_the_edge():
    params = curved(lambda x, part: 1 + (x + 2) ** 2)
    above = find(params, bounds=(0.1, 10))
    assert above.at_edge == "low"
    assert not above.certain
    assert above.interval[0] == 0
    assert "give `bounds` of (" in above.why
    assert find(params, bounds=(1e-5, 1e-3)).at_edge == "high"


def test_without_bounds_the_search_goes_on_beyond_its_grid():
    found = find(curved(lambda x, part: 1 + (x - 1.4) ** 2), runs=30, seeds=1)
    assert octaves(found.rate, 10**1.4) < 0.2


def test_a_flat_curve_is_not_called_certain():
    found = find(curved(lambda x, part: 1.0 + 0 * x, noise=0.1))
    assert not found.certain
    assert found.good[1] > 1e3 * found.good[0]


def test_an_accuracy_is_made_high():
    params = curved(lambda x, part: 1.1 + 0.1 * (x + 1) ** 2)
    found = find(params, objective="val_accuracy")
    assert octaves(found.rate, 0.1) < 0.1
    assert found.value == pytest.approx(0.9, abs=1e-3)


def test_a_loss_of_zero_is_no_failure():
    found = find(curved(lambda x, part: np.maximum((x + 2) ** 2 - 0.1, 0)))
    assert octaves(found.rate, 0.01) < 1


def test_a_loss_that_is_not_finite_anywhere_is_an_error_that_says_why():
    with pytest.raises(ValueError, match="not finite before the first update"):
        find(curved(lambda x, part: np.nan * x, first=jnp.nan), bounds=(1e-3, 1))
    with pytest.raises(ValueError, match="no rate can be named"):
        find(curved(lambda x, part: np.nan * x), bounds=(1e-3, 1))


def test_three_lines_say_the_rate_how_sure_it_is_and_why():
    found = find(curved(lambda x, part: 1 + (x + 2) ** 2, noise=0.05))
    lines = str(found).splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("0.01 is the rate for 60 steps, by val_loss")
    assert repr(found) == str(found)
    assert found.hyperparams == {"rate": found.rate}
    assert found.steps == STEPS
    pytest.importorskip("matplotlib")
    assert found.plot()._repr_png_()[:4] == b"\x89PNG"
    assert "<img" in found._repr_html_()


def test_a_schedule_is_compressed_for_short_runs():
    lengths = []

    def schedule(peak, steps):
        lengths.append(steps)
        return lrax.warmup_cosine(peak, steps, steps // 10)

    task = lrax.tasks.diabetes()
    options = dict(steps=70, objective="val_loss", schedule=schedule, progress=False, seeds=1)
    found = lrax.find(task, optax.adam, runs=2, **options)
    assert set(lengths) == {20, 70}  # 20 in training, 70 for the answer
    (rate,) = found.hyperparams.values()
    assert list(found.hyperparams) == ["learning_rate"]
    assert isinstance(rate, lrax.Schedule)
    np.testing.assert_allclose(rate.values(range(71)).max(), found.rate, rtol=1e-6)


def test_the_power_of_the_horizon_is_measured():
    """SGD on a noisy quadratic: the best constant rate at each horizon is known exactly."""
    size, noise, steps = 400, 0.5, 160

    def expected(rate, updates):
        kept = (1 - rate) ** 2
        return kept**updates + rate**2 * noise**2 * (1 - kept**updates) / (1 - kept)

    rates = np.geomspace(1e-3, 1, 20_000)
    long, short = (rates[np.argmin(expected(rates, n))] for n in (steps, steps // 4))
    task = lrax.Task(
        init=lambda key: jnp.ones(size),
        loss=lambda x, draw: jnp.mean(x**2 / 2 + noise * draw * x) * size,
        batch=lambda index, key: jax.random.normal(key, (size,)),
        evaluate=lambda x: {"val_loss": jnp.mean(x**2)},
    )
    options = dict(steps=steps, schedule=lambda peak, steps: lrax.constant(peak), bounds=(1e-3, 1))
    found = lrax.find(task, optax.sgd, runs=30, progress=False, **options)
    truth = np.log(long / short) / np.log(4)
    assert truth < -0.5
    assert abs(found.horizon_exponent - truth) < 0.15
    low, high = found.horizon_interval
    assert low <= truth <= high < 0
    assert found.runs <= 30
    assert found.shorter.steps == steps // 4
    assert f"; it moves as steps^{found.horizon_exponent:.2f}" in str(found)
    # The usual budget is for the rate alone.
    assert lrax.find(task, optax.sgd, runs=15, progress=False, **options).horizon_exponent is None


def test_why_the_power_of_the_horizon_is_missing_is_told():
    def call(schedule):
        task = lrax.tasks.diabetes()
        options = dict(steps=48, runs=60, seeds=2, bounds=(1e-3, 0.1), progress=False)
        return lrax.find(task, optax.sgd, schedule=schedule, **options)

    # The warmup is too long for a quarter of the horizon.
    too_long = lambda peak, steps: lrax.warmup_cosine(peak, steps, warmup=20)
    with pytest.warns(RuntimeWarning, match="not measured: `schedule` failed for 12 steps: ValueE"):
        found = call(too_long)
    assert found.horizon_exponent is None
    assert found.rate > 0
    # All shorter runs diverge.
    too_high = lambda peak, steps: lrax.constant(peak * (1 if steps == 48 else 1e30))
    with pytest.warns(RuntimeWarning, match="not measured: in runs of 12 steps, no rate can be"):
        assert call(too_high).horizon_exponent is None


def test_a_search_goes_on_from_its_checkpoints(tmp_path):
    params = curved(lambda x, part: 1 + (x + 2) ** 2, noise=0.05)
    whole = find(params, runs=20)
    first = find(params, runs=20, checkpoint=tmp_path / "search.npz")
    kept = sorted(path.name for path in tmp_path.iterdir())
    assert kept == ["search-1.npz", "search-2.npz", "search-3.npz"]
    (tmp_path / "search-3.npz").unlink()
    again = find(params, runs=20, checkpoint=tmp_path / "search.npz")
    assert str(first) == str(whole) == str(again)
    assert again.evidence.info["resumed_at"] == STEPS


def test_all_stages_share_their_programs(monkeypatch):
    compiled = []
    original = engine._compiled
    monkeypatch.setattr(engine, "_compiled", lambda *args: compiled.append(args) or original(*args))
    other = lambda rate: told(rate)  # no other test's programs serve it
    stages = []
    params = curved(lambda x, part: 1 + (x + 2) ** 2, noise=0.05)
    on_event = lambda kind, facts: stages.append(kind) if kind == "start" else None
    lrax.find(TASK, other, steps=STEPS, params=params, progress=False, runs=25, on_event=on_event)
    assert len(stages) == 3
    assert len(compiled) == 1


def test_a_search_that_is_ended_says_so():
    found = find(curved(lambda x, part: 1 + (x + 2) ** 2), budget=0)
    assert found.evidence.done < STEPS  # the first rung ends a segment
    assert not found.certain
    assert "the search was ended early" in found.why


def interrupting(stage, at):
    """An `on_event` that presses Ctrl-C in a stage, after `at` updates."""
    begun = []

    def on_event(kind, facts):
        if kind == "start":
            begun.append(facts)
        if kind == "segment" and len(begun) == stage and facts["done"] == at:
            os.kill(os.getpid(), signal.SIGINT)

    return on_event


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_ctrl_c_in_a_stage_ends_the_search_and_the_same_call_goes_on(stage, tmp_path, monkeypatch):
    params = curved(lambda x, part: 1 + (x + 2.1) ** 2, noise=0.05, tilt=0.02)
    options = dict(runs=20, checkpoint=tmp_path / "search.npz")
    whole = find(params, runs=20)
    with monkeypatch.context() as patch:
        patch.setattr(segments, "SECONDS_PER_SEGMENT", 0.0)
        part = find(params, on_event=interrupting(stage, at=7), **options)
    assert part.ended
    assert not part.certain
    assert "the search was ended early" in part.why
    assert ("of 60 updates" in part.why) == (stage == 1)
    assert part.runs < whole.runs
    assert part.confirmed is None
    assert len(list(tmp_path.iterdir())) == stage
    begun = []
    seen = lambda kind, facts: begun.append(facts["done"]) if kind == "start" else None
    again = find(params, on_event=seen, **options)
    # Earlier stages are read, and the interrupted one goes on near where it was.
    assert begun[: stage - 1] == [STEPS] * (stage - 1)
    assert 7 <= begun[stage - 1] < STEPS
    assert str(again) == str(whole)
    np.testing.assert_array_equal(again.evidence.losses, whole.evidence.losses)
    np.testing.assert_array_equal(again.evidence.scores, whole.evidence.scores)
    np.testing.assert_array_equal(again.confirmed.scores, whole.confirmed.scores)


def test_ctrl_c_while_the_power_of_the_horizon_is_measured_keeps_the_rate(monkeypatch):
    task = lrax.tasks.diabetes()
    options = dict(steps=48, runs=60, seeds=2, bounds=(1e-4, 1.0), progress=False)
    options |= dict(schedule=lambda peak, steps: lrax.constant(peak))
    lengths = []
    whole = lrax.find(
        task,
        optax.adam,
        **options,
        on_event=lambda kind, facts: kind == "start" and lengths.append(facts["steps"]),
    )
    assert whole.horizon_exponent is not None
    stage = lengths.index(12) + 1
    monkeypatch.setattr(segments, "SECONDS_PER_SEGMENT", 0.0)
    with pytest.warns(RuntimeWarning, match="not measured: the search was ended early") as told:
        part = lrax.find(task, optax.adam, **options, on_event=interrupting(stage, at=4))
    assert told[0].filename == __file__
    assert part.ended
    assert part.horizon_exponent is None
    assert (part.rate, part.interval, part.why) == (whole.rate, whole.interval, whole.why)


def test_it_goes_on_from_trained_parameters_with_state_and_batches_of_the_host():
    start = {"w": jnp.ones((), jnp.bfloat16)}

    def loss(params, state, batch):
        value = (params["w"].astype(jnp.float32) - 2) * batch["x"]
        return jnp.mean(value**2), {"seen": state["seen"] + 1}

    task = lrax.Task(
        lambda key: ({"w": jnp.zeros((), jnp.bfloat16)}, {"seen": jnp.zeros(())}),
        loss,
        [{"x": np.ones(4, np.float32)}] * 40,
        lambda params, state: {"val_loss": (params["w"].astype(jnp.float32) - 2) ** 2 + 0.01},
        stateful=True,
    )
    options = dict(steps=40, seeds=1, runs=9, progress=False)
    found = lrax.find(task, optax.sgd, params=start, **options)
    assert 0.02 < found.rate < 1.1  # it diverges at 1 and is too slow at 0.01
    assert found.evidence.losses[0, 0, 0] == pytest.approx(1.0)


def test_several_rates_are_found_each_along_its_own_line():
    best = {"first": 0.02, "second": 3e-4}

    def moved(first, second):
        def update(updates, state, params=None):
            to = {**params, "x": jnp.log10(first), "y": jnp.log10(second)}
            return jax.tree.map(lambda new, old: new - old, to, params), state

        return optax.GradientTransformation(lambda params: optax.EmptyState(), update)

    def value(params, shift):
        x, y = (params[k] - np.log10(v) for k, v in zip("xy", best.values(), strict=True))
        # The best value of each rate depends on the other one. High rates diverge.
        return jnp.where(params["y"] > -1, jnp.nan, 1 + x**2 + y**2 + 0.8 * x * y) + 0.05 * shift

    task = lrax.Task(
        lambda key: (dict(x=jnp.zeros(()), y=-4 * jnp.ones(())), jax.random.normal(key)),
        lambda params, shift, batch: (value(params, shift), shift),
        lambda index, key: jnp.zeros(()),
        lambda params, shift: {"val_loss": value(params, shift)},
        stateful=True,
    )
    options = dict(steps=24, names=("first", "second"), runs=40, progress=False)
    found = lrax.find(task, moved, **options)
    assert found.runs <= 40
    assert found.certain
    for name, rate in best.items():
        assert octaves(found.rate[name], rate) < 0.3
        low, high = found.interval[name]
        assert low <= rate <= high
        assert found.good[name][0] <= found.rate[name] <= found.good[name][1]
    assert found.hyperparams == found.rate
    assert len(str(found).splitlines()) == 3
    pytest.importorskip("matplotlib")
    assert found.plot()._repr_png_()[:4] == b"\x89PNG"
    assert found.plot("second")._repr_png_()[:4] == b"\x89PNG"
    with pytest.raises(ValueError, match="`name` must be one of"):
        found.plot("third")
    # A limit of the caller is kept, and said.
    bounds = {"first": (1e-5, 1e-3), "second": (1e-5, 1e-2)}
    edge = lrax.find(task, moved, **options, bounds=bounds)
    assert edge.at_edge == {"first": "high", "second": None}
    assert not edge.certain
    assert "first: the best rate is the highest" in edge.why
    # Too few runs for the lines: a coarse answer that says so.
    assert not lrax.find(task, moved, **{**options, "runs": 7}).certain


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (dict(runs=0.5), ValueError, "`runs` must be at least 1"),
        (dict(runs=np.inf), ValueError, "`runs` must be"),
        (dict(bounds=(1, 0.1)), ValueError, "`bounds` must be two finite rates"),
        (dict(bounds=(1,)), ValueError, "`bounds` must be two rates"),
        (dict(bounds=(0, 1)), ValueError, "`bounds` must be two finite rates above 0"),
        (dict(bounds={"rate": (0.1, 1)}), ValueError, r"without `names`"),
        (dict(names=("rate", "other")), ValueError, "`names` must be parameters of the optimizer"),
        (dict(names=("rate",)), ValueError, "`names` must be 2 to 3 different names"),
        (dict(seeds=0), ValueError, "`seeds` must be at least 1"),
        (dict(schedule=3), TypeError, r"`schedule` must be a function of \(peak, steps\)"),
        (dict(objective="margin"), ValueError, "`mode` must be 'min' or 'max'"),
        (dict(objective="val_error"), ValueError, "`objective` must be one of"),
    ],
)
def test_bad_arguments_are_named(options, error, message):
    with pytest.raises(error, match=message):
        find(curved(lambda x, part: 1 + x**2), **options)
