"""The benchmarks run, and their strategies train the same."""

import json
import re
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import lrax

ROOT = Path(__file__).parent.parent


@pytest.fixture
def benchmark_path(monkeypatch):
    """The commands are run from the repository's root."""
    monkeypatch.setattr(sys, "path", [str(ROOT), *sys.path])


@pytest.mark.slow
@pytest.mark.parametrize("task", ["mlp", "cnn", "char_lm"])
def test_strategies_agree(task, benchmark_path, capsys, tmp_path):
    from tests.benchmarks import alternatives, sweeps

    options = ["--lanes", "2", "--steps", "4", "--rounds", "1", "--repeats", "1", "--no-torch"]
    results = sweeps.main(["--tasks", task, *options, "--json", str(tmp_path / "results.json")])
    shown, measured = capsys.readouterr().out, results[task, 2]
    assert set(measured) == {"lrax.sweep", *alternatives.STRATEGIES}
    for name, found in measured.items():
        assert name in shown
        np.testing.assert_allclose(found.losses, measured["loop of scans"].losses, rtol=1e-5)
        assert 0 < found.run < found.first
    summary = json.loads((tmp_path / "results.json").read_text())["summary"]
    assert summary == [{"task": task, "lanes": 2, **sweeps.ratios(measured)}]


def test_ratios_are_against_the_fastest(benchmark_path):
    from tests.benchmarks import alternatives, sweeps

    of = lambda first, run: sweeps.Measured(first, run, np.ones(2), "")
    measured = {name: of(4.0 + i, 2.0 + i) for i, name in enumerate(alternatives.STRATEGIES)}
    measured |= {
        "lrax.sweep": of(2.0, 1.0),
        "PyTorch loop": of(9.0, 9.0),
        "PyTorch ensemble": of(3.0, 3.0),
    }
    assert sweeps.ratios(measured) == {"run": 2.0, "answer": 0.5, "torch": 3.0}


@pytest.mark.slow
def test_time_to_the_answer_is_measured_with_and_without_stopping(benchmark_path, capsys, tmp_path):
    from tests.benchmarks import stopping

    options = [
        "--rates",
        "4",
        "--seeds",
        "1",
        "--steps",
        "18",
        "--widths",
        "--json",
        str(tmp_path / "results.json"),
    ]
    full, halved = stopping.main(options)
    assert full.result.metrics["val_loss"].shape == (4, 1)
    assert stopping.compare(full, full, full.result.hyperparams["peak"])["excess"] == pytest.approx(
        0, abs=1e-6
    )
    assert "full grid" in capsys.readouterr().out
    assert halved.result.losses.shape == (4, 1, 18)
    assert "speedup" in json.loads((tmp_path / "results.json").read_text())


@pytest.mark.slow
def test_stop_rules_are_compared(benchmark_path, capsys):
    from tests.benchmarks import stopping

    cases = {"teacher, momentum, linear": stopping.held_out()["teacher, momentum, linear"]}
    stopping.by_rules(cases, points=6, seeds=1, groups=2)
    last = capsys.readouterr().out.splitlines()[-1]
    assert re.match(r"Forecast +work 0\.\d\d, at most 0\.\d\d; keeps the best of [12] of 2,", last)


@pytest.mark.slow
def test_laws_are_compared_to_published_curves(benchmark_path, capsys, tmp_path, monkeypatch):
    from tests.benchmarks import laws

    # Curves of the law itself, in the form of the published ones.
    numbers = {"L0": 2.6, "A": 0.5, "alpha": 0.4, "C": 0.7, "decay": 0.999}
    (tmp_path / "csv_25").mkdir()
    for name in laws.GIVEN + laws.UNSEEN:
        rates = laws.rates_of(name)
        at = np.arange(2160, len(rates), 400)
        losses = np.asarray(lrax.theory.annealing_law(rates, **numbers))[at]
        table = np.stack([at, rates[at], losses], axis=1)
        np.savetxt(tmp_path / "csv_25" / f"{name}.csv", table, delimiter=",", header="step,lr,loss")
    monkeypatch.setattr(laws, "SIZES", ("25",))
    monkeypatch.setattr(laws, "LAWS", ("annealing",))
    laws.main([str(tmp_path), "--subsets", "1"])
    words = capsys.readouterr().out
    assert "pairs of unseen schedules in the right order: 15 of 15" in words
    assert all(float(part.split()[0]) > 0.999 for part in words.split(" R2 ")[1:] if part[0] != "m")


@pytest.mark.slow
def test_a_schedule_is_searched_and_compared_on_held_out_seeds(benchmark_path, capsys):
    from tests.benchmarks import searched

    errors, (scores, p_values, runs) = searched.main(["--smoke"])
    shown = capsys.readouterr().out
    size = searched.SMOKE
    assert {len(values) for values in errors.values()} == {len(searched.UNSEEN)}
    assert runs == 2 * len(size.peaks) + 2 * len(searched.GIVEN) + 10 + 2
    assert {"tuned cosine", "tuned linear"} < set(p_values) < set(scores)
    assert {row.shape for row in scores.values()} == {(size.held_out,)}
    assert all(f"| {kind}: " in shown for kind in scores)


@pytest.mark.slow
def test_memory_grows_by_lanes_and_nothing_is_compiled_twice(benchmark_path, capsys):
    from tests.benchmarks import memory

    rows = memory.main(["--lanes", "1", "8", "--steps", "2", "--megabytes", "2", "--here"])
    assert [row.recompiled for row in rows] == [0, 0]
    assert rows[0].compiled > 0
    (added,) = memory.growth(rows, "program")
    assert 0 < added < 1 or np.isnan(added)  # no copy of the data
    assert "compiled by second sweeps: 0" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("loop", [[], ["--by-hand"]], ids=["sweep", "by hand"])
def test_monitors_change_no_loss_and_their_cost_is_measured(loop, benchmark_path, capsys, tmp_path):
    from tests.benchmarks import monitors

    path = tmp_path / "results.json"
    options = ["--tasks", "mlp", "--lanes", "2", "--steps", "11", "--repeats", "1"]
    (row,) = monitors.main([*options, *loop, "--json", str(path)])
    assert "mlp" in capsys.readouterr().out
    assert row.record_every == 10
    assert json.loads(path.read_text())["rows"] == [row._asdict()]


@pytest.mark.slow
def test_widths_are_those_asked_for(benchmark_path, capsys):
    from tests.benchmarks import widths

    results = widths.main(
        [
            "--tasks",
            "diabetes",
            "--lanes",
            "4",
            "--steps",
            "2",
            "--widths",
            "1",
            "2",
            "--repeats",
            "1",
        ]
    )
    assert [width for _, width in results] == ["auto", 1, 2]
    assert [plan.split(" to a call")[0] for _, plan in list(results.values())[1:]] == [
        "one lane",
        "2 lanes",
    ]
    assert "one lane to a call" in capsys.readouterr().out


def test_schedules_agree_with_those_of_optax(capsys, monkeypatch):
    monkeypatch.setattr(sys, "path", [str(ROOT), *sys.path])
    from tests.benchmarks import schedules

    shapes = ["multistep", "warmup_cosine"]
    results = schedules.main(["--shapes", *shapes, "--steps", "40", "--repeats", "1"])
    shown = capsys.readouterr().out
    assert all(word in shown for word in [*shapes, "median", "highest"])
    for ours, theirs in results.values():
        np.testing.assert_allclose(ours.rates, theirs.rates, rtol=1e-4, atol=1e-8)
        assert min(ours[:3]) > 0
    assert np.isnan(results["warmup_cosine"][1].traced)  # Optax's cannot be traced in its peak


@pytest.mark.slow
def test_intervals_hold_the_truth_of_a_quadratic(benchmark_path, capsys):
    from tests.benchmarks import intervals

    name = "noisy quadratic, SGD"
    found = intervals.main(["--seeds", "30", "--draws", "20", "--only", name])
    rows, apart = found[name]
    assert min(row.held for row in rows) >= 0.7
    assert rows[0].width > rows[-1].width
    assert min(each.paired for each in apart) >= 0.7
    assert name in capsys.readouterr().out


@pytest.mark.slow
def test_probes_are_as_exact_as_promised(benchmark_path, capsys):
    from tests.benchmarks import probes

    found = probes.main(["--products", "20"])
    percent = lambda text: 0.0 if text == "rounding" else float(text.split()[0])
    for (probe, cost), wrong in found.items():
        errors = [percent(text) for text in wrong.values() if "median" not in text]
        if "20 products" in cost or "1 product" in cost.split(", "):
            assert max(errors) < 1
        if "critical_rate" in probe:
            assert max(errors) < 20
            assert int(cost.split()[0]) <= 10
    assert "`critical_rate`" in capsys.readouterr().out


@pytest.mark.slow
def test_finders_are_judged_by_training_their_rates(benchmark_path, capsys, tmp_path):
    from tests.benchmarks import finders

    name = "cancer, momentum, constant"
    options = ["--only", name, "--draws", "3", "--seeds", "4", "--truth", "3"]
    found = finders.main([*options, "--cache", str(tmp_path)])[name]
    shown = capsys.readouterr().out
    assert all(word in shown for word in [name, "find, 15 runs", "valley"])
    for runs in finders.RUNS:
        assert np.all(found[f"find, {runs} runs"].runs <= runs)
    assert np.median(found["find, 15 runs"].octaves) < np.median(found["lightning"].octaves)
    # The second time everything is read.
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    again = finders.main([*options, "--cache", str(tmp_path)])[name]
    assert kept == {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    np.testing.assert_array_equal(again["valley"].regret, found["valley"].regret)


@pytest.mark.slow
def test_a_search_that_is_played_from_a_record_is_the_search_itself(benchmark_path, tmp_path):
    from lrax.finders.search import planned, search
    from tests.benchmarks import finders

    case = finders.cases()["cancer, momentum, constant"]
    found = lrax.find(case.task, case.optimizer, steps=case.steps, seeds=3, progress=False)
    record = finders.Record(case, case.steps, [0, 1, 2], True, tmp_path / "own.npz")
    plan = planned(case.steps, runs=15, seeds=3)
    played = search(finders.player(record, [0, 1, 2]), plan, "learning_rate", lambda rate: {})
    assert played.runs == found.runs
    assert played.rate == pytest.approx(found.rate, rel=1e-3)
    np.testing.assert_allclose(played.interval, found.interval, rtol=1e-2)


def test_searches_are_compared_by_regrets_with_a_cap(benchmark_path):
    from tests.benchmarks import finders

    def row(regret, first, kept):
        blank = np.zeros(len(regret))
        fields = dict.fromkeys(finders.Row._fields, blank)
        fields |= {"regret": np.array(regret), "first": np.array(first), "kept": np.array(kept)}
        return finders.Row(**{**fields, "refused": 0})

    plain = [row([0.5, np.inf], [6, 6], [True, True]), row([0.01, 0.0], [6, 6], [True, False])]
    other = [row([0.5, 0.4], [4, 5], [True, True]), row([0.015, 0.1], [4, 5], [True, True])]
    # 0 and -60 points, then 0.5 and 10 points: means of -30 and 5.25.
    assert finders.compared(other, plain) == ["4.5", "100%", "1 / 2 / 1", "-12.4 ± 17.6"]
    assert finders.compared(plain, plain) == ["6.0", "75%", "0 / 4 / 0", "+0.0 ± 0.0"]


@pytest.mark.slow
def test_a_forecast_that_is_played_from_a_record_stops_what_a_sweep_stops(
    benchmark_path, capsys, tmp_path
):
    from tests.benchmarks import finders

    name = "cancer, AdamW, cosine"
    options = ["--only", name, "--find", "--forecast", "--draws", "2", "--seeds", "3"]
    found = finders.main([*options, "--truth", "2", "--cache", str(tmp_path)])[name]
    assert finders.COMPARED in capsys.readouterr().out
    case = finders.cases()[name]
    bench = finders.Bench(name, case, tmp_path, 3, 2, True)  # reads what was trained
    for runs, rules in bench.rules.items():
        assert rules["early Forecast"].first == bench.plan(runs).stop.first
        for rule in rules:
            assert np.all(found[f"find, {runs} runs, {rule}"].runs <= runs)
    grid = {"rate": bench.plan(15).grid}
    for rule in bench.rules[15].values():
        played = finders.player(bench.own, [2, 0, 1])(grid, range(2), rule)
        swept = lrax.sweep(
            case.task,
            case.made(case.steps),
            grid,
            steps=case.steps,
            seeds=[finders.FIRST + 2, finders.FIRST],
            objective=case.objective,
            stop=rule,
            progress=False,
        )
        np.testing.assert_array_equal(played.stopped_at, swept.stopped_at)
        assert len(np.unique(played.stopped_at)) > 3


def test_the_critical_rate_at_the_start_can_lie_far_below_the_best_rate(
    benchmark_path, capsys, tmp_path
):
    from tests.benchmarks import curvature

    name, begin = curvature.BOWL, np.array(curvature.BEGIN)
    stiffness = np.array(curvature.STIFFNESS)
    options = ["--only", name, "--draws", "1", "--seeds", "3", "--truth", "1"]
    row = curvature.main([*options, "--cache", str(tmp_path)])[name]
    assert name in capsys.readouterr().out
    # Adam's first update at rate 1 is -1 for each parameter.
    critical = 2 * np.sum(stiffness * begin) / np.sum(stiffness)
    np.testing.assert_allclose(row.start, critical, rtol=0.1)
    # Each parameter's stiffness is divided by its first gradient, so 1 / begin is left.
    assert row.limit == pytest.approx(38 * begin.min(), rel=0.01)

    steps = curvature.bowl().steps
    rates = np.logspace(-1, 1, 97)[:, None]
    shape = lrax.warmup_cosine(1.0, steps, warmup=steps // 20)
    part = np.asarray(shape.values(np.arange(steps)), np.float64)
    x = np.tile(begin, (97, 1))
    first = second = np.zeros_like(x)
    for count in range(steps):
        grads = stiffness * x
        first = 0.9 * first + 0.1 * grads
        second = 0.999 * second + 0.001 * grads**2
        mean, square = first / (1 - 0.9 ** (count + 1)), second / (1 - 0.999 ** (count + 1))
        x = x - rates * part[count] * mean / (np.sqrt(square) + 1e-8)
    best = rates[np.argmin(np.sum(stiffness * x**2, axis=1)), 0]
    assert row.best == pytest.approx(best, rel=0.1)
    assert best > 30 * critical

    # A bounded search goes on above its grid, but not with few runs.
    few, many = (row.played[runs] for runs in curvature.RUNS)
    for found in (few, many):
        np.testing.assert_array_equal(found.rates[:, 0], [13, 8])
        assert found.first[1, 0] < found.first[0, 0]
    assert few.regret[1, 0] > 10 * few.regret[0, 0]
    assert many.regret[1, 0] == pytest.approx(many.regret[0, 0])


@pytest.mark.slow
@pytest.mark.parametrize(  # notebook 03 has the others
    ("only", "word"),
    [
        *((each, "octaves") for each in ("width", "depth", "fit", "joint")),
        ("coordinates", "largest |slope| of a change"),
    ],
)
def test_experiments_of_transfer_run(only, word, benchmark_path, capsys):
    from tests.benchmarks import transfer

    (found,) = transfer.main(["--smoke", "--only", only]).values()
    shown = capsys.readouterr().out
    assert only in shown
    assert word in shown
    assert len(found) >= 1


def test_a_sweep_goes_on_beyond_its_edge(benchmark_path, monkeypatch):
    from tests.benchmarks import transfer

    class Found:
        def __init__(self, rates):
            # The best rate is 8; what the grid begins with ends at 2.
            distance = np.log2(rates / 8)[:, None]
            self.scores = np.exp(distance**2 + np.array([0.0, 0.1]))

    monkeypatch.setattr(lrax, "sweep", lambda task, made, grid, **_: Found(grid["peak"]))
    one = transfer.swept(None, None, 1.0, 10, transfer.SMOKE)
    assert not transfer.edge(one)
    assert one.optimum.value == pytest.approx(8, rel=0.01)
    assert transfer.regret(one, one.rates[np.argmin(one.scores.mean(axis=1))]) == "0.0%"
    moved, half = transfer.octaves(one, one)
    assert moved == 0
    assert half > 0


@pytest.mark.slow
def test_controllers_are_judged_beside_rates_that_were_swept(benchmark_path, capsys, tmp_path):
    from tests.benchmarks import controllers

    names = ["auto_cooldown", "plateau, validation loss", "hypergradient, hdm", "kl"]
    names += ["dog, its average", "schedule_free_sgd", "prodigy, init_distance"]
    names += ["no guard, Adam", "skip_spikes, Adam"]
    options = ["--smoke", "--cache", str(tmp_path), "--only", *names]
    found = controllers.main(options)
    shown = capsys.readouterr().out
    assert all(f"| {name} |" in shown for name in ["Adam", *names])
    assert set(found) == {"cancer", "pole"}
    alone = {"kl", "hypergradient, hdm", "no guard, Adam", "skip_spikes, Adam"}
    assert set(found["cancer"]) ^ set(found["pole"]) == alone
    # The reference is the better of the two best constant rates.
    assert min(found["cancer"][name][0, 0] for name in ("Adam", "momentum")) == 1.0
    assert all(np.all((lost > 0) & (lost < 100)) for lost in found["pole"].values())
    for table in found.values():
        assert table["momentum"].shape == (3, 2)
        # The rule waits for 100 updates, so in 20 it is Adam.
        ours, adam = table["auto_cooldown"][0, 0], table["Adam"][0, 0]
        np.testing.assert_allclose(ours, adam, rtol=1e-3)
    assert found["cancer"]["hypergradient, hdm"].shape == (3, 1)
    assert found["cancer"]["prodigy, init_distance"].shape == (3, 2)
    # The reference of the guards is the first world. Bad batches change what is trained, and 20
    # losses are too few for a spike.
    good, *bad = found["cancer"]["no guard, Adam"][:, 0]
    assert good == 1.0
    assert all(abs(np.log(ratio)) > 1e-3 for ratio in bad)
    guarded = found["cancer"]["skip_spikes, Adam"][:, 0]
    np.testing.assert_allclose(guarded, [good, *bad], rtol=1e-3)
    # The second time everything is read.
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    again = controllers.main(options)
    assert kept == {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    np.testing.assert_array_equal(
        again["cancer"]["auto_cooldown"], found["cancer"]["auto_cooldown"]
    )


def test_bad_batches_come_at_their_updates_alone(benchmark_path):
    from tests.benchmarks import controllers

    worlds = [controllers.spoiled(lrax.tasks.diabetes(), world, 20).batch for world in range(3)]
    for step in range(20):
        good, inputs, labels = (batch(step, jax.random.key(step)) for batch in worlds)
        factor = 100 if step in (8, 11, 14, 16) else 1
        np.testing.assert_allclose(inputs["inputs"], factor * good["inputs"], rtol=1e-6)
        np.testing.assert_array_equal(inputs["targets"], good["targets"])
        np.testing.assert_array_equal(labels["inputs"], good["inputs"])
        rolled = np.roll(good["targets"], int(factor > 1))
        np.testing.assert_array_equal(labels["targets"], rolled)


@pytest.mark.slow
def test_lanes_that_exchange_are_compared_to_a_tuned_schedule(benchmark_path, capsys):
    from tests.benchmarks import exchange

    ((name, ways),) = exchange.main(["--smoke", "--points", "4", "--seeds", "2"]).items()
    assert {losses.shape for losses in ways.values()} == {(2,)}
    assert all(np.all(np.isfinite(losses)) for losses in ways.values())
    # The best of each seed is at least as good as one peak for all.
    assert np.all(ways["cosine, each seed's best"] <= ways[exchange.REFERENCE])
    assert f"| {name} |" in capsys.readouterr().out
