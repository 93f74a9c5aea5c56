"""What a sweep tells while it runs: events for loggers, and who leads for the progress bar."""

import re
import warnings

import numpy as np
import optax
import problems
import pytest

import lrax
from lrax.sweeps.choices import Points
from lrax.sweeps.engine import segments
from lrax.sweeps.events import guarded
from lrax.sweeps.progress import Progress, standing, words

RATES = lrax.log_grid(1e-3, 1e-1, 4)
TASK = problems.regression()


@pytest.fixture(autouse=True)
def short_segments(monkeypatch):
    monkeypatch.setattr(segments, "SECONDS_PER_SEGMENT", 1e-5)


def recorded(grid=RATES, **options):
    events = []
    result = lrax.sweep(
        TASK,
        optax.adam,
        {"learning_rate": grid},
        on_event=lambda kind, facts: events.append((kind, facts)),
        **{"steps": 30, "seeds": 2, **options},
    )
    return result, events


def of(kind, events):
    return [facts for name, facts in events if name == kind]


def test_each_event_and_its_facts():
    result, events = recorded(eval_every=10)
    (start,), (end,) = of("start", events), of("end", events)
    assert events[0] == ("start", start)
    assert events[-1] == ("end", end)
    assert start.keys() == {"points", "seeds", "steps", "done", "plan"}
    np.testing.assert_array_equal(start["points"]["learning_rate"], RATES)
    assert (start["seeds"], start["steps"], start["done"]) == (["0", "1"], 30, 0)
    assert start["plan"] == result.info["plan"]
    assert end == {"result": result}

    segments = of("segment", events)
    assert len(segments) > 2
    np.testing.assert_array_equal(
        np.concatenate([s["losses"] for s in segments], axis=-1), result.losses
    )
    assert [s["done"] for s in segments] == np.cumsum(
        [s["losses"].shape[-1] for s in segments]
    ).tolist()
    assert segments[-1]["done"] == 30
    assert segments[-1]["best"] == {
        "learning_rate": RATES[np.argmin(result.final_losses.mean(axis=1))]
    }
    np.testing.assert_allclose(
        segments[-1]["loss"], result.final_losses.mean(axis=1).min(), rtol=1e-6
    )
    assert all(s["alive"] == s["lanes"] == 8 for s in segments)

    evaluations = of("evaluate", events)
    assert [e["done"] for e in evaluations] == [10, 20, 30]
    for i, facts in enumerate(evaluations):
        np.testing.assert_array_equal(
            facts["metrics"]["val_loss"], result.evaluations["val_loss"][..., i]
        )
        before = [
            name
            for name, other in events[: next(j for j, (_, f) in enumerate(events) if f is facts)]
        ]
        assert "segment" in before  # whose steps the evaluation comes after


def test_the_evaluation_at_the_end_is_an_event_too():
    result, events = recorded()
    (facts,) = of("evaluate", events)
    assert facts["done"] == 30
    np.testing.assert_array_equal(facts["metrics"]["val_loss"], result.metrics["val_loss"])


def test_points_that_are_stopped():
    result, events = recorded(grid=lrax.log_grid(1e-4, 1.0, 24), steps=270, stop=lrax.Halving())
    stops = of("stop", events)
    assert [facts["done"] for facts in stops] == [30, 90]
    stopped = [point for facts in stops for point in facts["stopped"]]
    assert sorted(stopped) == np.flatnonzero(result.stopped_at < 270).tolist()
    assert [facts["alive"] for facts in stops] == [24 - len(stops[0]["stopped"]), 24 - len(stopped)]
    last = of("segment", events)[-1]
    assert last["alive"] == 2 * (24 - len(stopped))
    assert np.all(np.isnan(last["losses"][stopped]))
    assert np.all(np.isfinite(np.delete(last["losses"], stopped, axis=0)))


def test_a_sweep_that_goes_on_says_from_where(tmp_path, capsys):
    _, events = recorded(steps=200, checkpoint=tmp_path / "a", checkpoint_every=0, budget=0)
    done = of("checkpoint", events)[-1]["done"]
    assert of("checkpoint", events)[-1]["path"] == str(tmp_path / "a.npz")
    assert 0 < done < 200
    result, events = recorded(steps=200, checkpoint=tmp_path / "a", progress=True)
    assert of("start", events)[0]["done"] == done == result.info["resumed_at"]
    segments = of("segment", events)
    assert segments[0]["done"] == done + segments[0]["losses"].shape[-1]
    # Of a part of the records, and over those of the first run too.
    np.testing.assert_allclose(
        segments[-1]["loss"], result.final_losses.mean(axis=1).min(), rtol=0.1
    )
    shown = capsys.readouterr().err
    assert f"{done}/200" in shown  # of the whole sweep, and not from 0 again
    assert "200/200" in shown


def test_lanes_alive_are_those_that_the_result_does_not_call_diverged():
    result, events = recorded(grid=[*lrax.log_grid(1e-2, 1e3, 11), np.nan], steps=200)
    finite = np.isfinite(result.losses).all(axis=-1)
    assert 2 < np.sum(result.status == "diverged") < 20
    assert np.any(finite & (result.status == "diverged"))  # which end far above where they began
    assert of("segment", events)[-1]["alive"] == np.sum(result.status == "done")


def test_the_leader_is_no_accident_of_one_segment():
    steps, noise = 400, np.random.default_rng(0)
    losses = np.array([1.0, 1.1])[:, None, None] + 0.5 * noise.normal(size=(2, 1, steps))
    points = Points({"rate": np.array([0.1, 0.2])})

    def now(done):
        alive, finite = np.ones(2, bool), np.ones((2, 1), bool)
        return standing(points, losses[..., :done], alive, finite, "train_loss", None)

    leaders = [now(done)["best"]["rate"] for done in range(1, steps + 1)]
    by_segment = np.mean(losses[0, 0, 200:] > losses[1, 0, 200:])
    assert by_segment > 0.3
    assert np.mean(np.array(leaders[200:]) == 0.2) < by_segment / 2


def test_the_leader_is_scored_as_in_the_result():
    result, events = recorded(steps=40)
    last = of("segment", events)[-1]
    np.testing.assert_allclose(last["loss"], result.final_losses.mean(axis=1).min(), rtol=1e-6)


def test_where_nobody_leads_nobody_is_named():
    _, events = recorded(grid=[np.nan, np.inf])
    last = of("segment", events)[-1]
    assert (last["best"], last["alive"], last["lanes"]) == ({}, 0, 4)
    assert np.isnan(last["loss"])
    assert words(last) == {"alive": "0/4"}


def test_a_line_without_tqdm_has_the_same_facts(capsys, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "tqdm.auto", None)
    bar = Progress(100, True)
    bar.start(40)
    bar.say("compiling ...")
    with bar:
        bar._start -= 2.0  # twenty steps in two seconds
        bar.advance(60, alive="3/4")
        bar._drawn -= 1.0
        bar.advance(60, alive="3/4")
    shown = capsys.readouterr().err
    assert shown.startswith("\rsweep: compiling ...")
    assert re.search(r"\rsweep: step 60/100, (9\.\d+|10) steps/s, 00:04 left, alive=3/4", shown)


def test_a_logger_that_fails_costs_no_training():
    def broken(kind, facts):
        if kind == "segment":
            raise OSError("connection lost")

    with pytest.warns(
        RuntimeWarning,
        match=r"`on_event` failed at 'segment' and the sweep goes on: OSError: connecti",
    ):
        result = lrax.sweep(TASK, optax.adam, RATES, steps=30, on_event=broken)
    np.testing.assert_array_equal(
        result.losses, lrax.sweep(TASK, optax.adam, RATES, steps=30).losses
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(RuntimeWarning) as caught:  # for who wants to know at once
            guarded(broken)("segment", {})
        assert isinstance(caught.value.__context__, OSError)


def test_what_is_no_error_goes_through():
    def interrupts(kind, facts):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        lrax.sweep(TASK, optax.adam, RATES, steps=30, on_event=interrupts)
    with pytest.raises(TypeError, match="`on_event` must be a function"):
        lrax.sweep(TASK, optax.adam, RATES, steps=30, on_event="wandb")
