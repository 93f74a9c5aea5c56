"""A sweep goes on with more points than its checkpoint has."""

import dataclasses
import json
import random
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import optax
import problems
import pytest
import test_checkpoint

import lrax
from lrax.sweeps.engine import loop as running, segments

interrupt_at = test_checkpoint.interrupt_at

TASK = problems.regression()
RATES = [1e-3, 1e-2, 3e-2, 0.1, 0.3]
OPTIONS = dict(steps=40, seeds=2, eval_every=15, objective="val_loss", checkpoint_every=0)
OPTIONS["execution"] = "loop"  # one program for all grids, and the same bits for each lane


def momentum(learning_rate):
    return optax.sgd(lrax.cosine(learning_rate, 40), momentum=0.9)


def swept(rates=RATES, task=TASK, **options):
    return lrax.sweep(task, momentum, {"learning_rate": rates}, **{**OPTIONS, **options})


def close(found, wanted):
    """Equal up to the rounding of other chunks."""
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


def assert_same(result, wanted, equal=np.testing.assert_array_equal):
    """Both have found the same, by default to the last bit."""
    for name in ("status", "causes", "stopped_at", "evaluated_at", "ranking"):
        np.testing.assert_array_equal(getattr(result, name), getattr(wanted, name))
    for name in ("hyperparams", "losses", "metrics", "evaluations", "aux", "monitors"):
        jax.tree.map(equal, getattr(result, name), getattr(wanted, name))
    assert result.best.hyperparams == wanted.best.hyperparams
    jax.tree.map(equal, result.best.params, wanted.best.params)
    jax.tree.map(equal, result.best.opt_state, wanted.best.opt_state)


def facts_of(path):
    with np.load(path) as file:
        return json.loads(str(file["facts"])), file["array/at"]


@pytest.fixture(scope="module")
def whole():
    return swept()


@pytest.mark.parametrize(
    "known", [[0.1], [1e-3, 1e-2, 3e-2], [0.3, 1e-3, 3e-2]], ids=["one", "first", "others"]
)
@pytest.mark.parametrize("before", [22, 30, 40])
def test_it_equals_the_sweep_of_all_points(known, before, tmp_path, whole):
    """With more updates at the same time, at an evaluation or not, and after the end."""
    path = tmp_path / "sweep.npz"
    swept(known, steps=before, checkpoint=path)
    result = swept(checkpoint=path)
    assert_same(result, whole)
    assert result.info["resumed_at"] == before
    assert_same(swept(checkpoint=path), whole)
    _, at = facts_of(path)
    assert at.tolist() == [40] * 5


@pytest.mark.parametrize(("execution", "known"), [("auto", 4), ("vmap", 1), ("steps", 2)])
@pytest.mark.slow
def test_in_chunks_of_several_lanes(execution, known, tmp_path, whole):
    path = tmp_path / "sweep.npz"
    swept(RATES[:known], steps=22, checkpoint=path, execution=execution)
    assert_same(swept(checkpoint=path, execution=execution), whole, close)


@pytest.mark.slow
def test_all_that_is_kept_and_recorded(tmp_path):
    options = dict(keep="best_evaluation", select="best", record_every=4, loss_every=3)
    options["monitors"] = [lrax.monitors.grad_norm]
    path = tmp_path / "sweep.npz"
    swept(RATES[:2], steps=22, checkpoint=path, **options)
    assert_same(swept(checkpoint=path, **options), swept(**options))


def test_the_same_points_in_another_order(tmp_path, whole):
    path = tmp_path / "sweep.npz"
    order = [3, 0, 4, 1, 2]
    swept([RATES[i] for i in order], steps=22, checkpoint=path)
    assert_same(swept(checkpoint=path), whole)


def test_a_second_axis(tmp_path):
    def optimizer(learning_rate, momentum):
        return optax.sgd(learning_rate, momentum)

    sweep = lambda grid, **options: lrax.sweep(TASK, optimizer, grid, **OPTIONS, **options)
    small = {"momentum": [0.9, 0.5], "learning_rate": [0.1, 0.01]}
    large = {"learning_rate": [0.01, 0.03, 0.1], "momentum": [0.5, 0.9, 0.0]}
    sweep(small, checkpoint=tmp_path / "a")
    assert_same(sweep(large, checkpoint=tmp_path / "a"), sweep(large))
    with pytest.raises(ValueError, match=r"points of \['learning_rate', 'momentum'\] there, of"):
        lrax.sweep(TASK, optax.sgd, {"learning_rate": [0.1]}, steps=10, checkpoint=tmp_path / "a")


def test_equal_points_are_told_apart_by_number(tmp_path):
    path = tmp_path / "sweep.npz"
    swept([0.1, np.nan, 0.1], checkpoint=path)
    rates = [np.nan, 0.1, 0.1, 0.1]
    assert_same(swept(rates, checkpoint=path), swept(rates))
    with pytest.raises(ValueError, match=r"of the 4 points there, absent here: .*rate=0\.1"):
        swept([np.nan, 0.1, 0.1], checkpoint=path)


@pytest.mark.parametrize("after", [1, 15, 30])
def test_interrupted_while_new_points_catch_up(
    after,
    tmp_path,
    whole,
    interrupt_at,
    monkeypatch,
):
    path = tmp_path / "sweep.npz"
    known = swept(RATES[1:4], steps=40, checkpoint=path)
    with monkeypatch.context() as patch:
        patch.setattr(segments, "SECONDS_PER_SEGMENT", 0.0)  # a segment is one update
        interrupt_at(after)
        part = swept(checkpoint=path)
    interrupt_at(-1)
    # What was trained is the result, and the known points lead it.
    assert part.status[:, 0].tolist() == ["interrupted", "done", "done", "done", "interrupted"]
    behind = [0, 4]
    done = int(part.stopped_at[0])
    assert after <= done < 40
    assert part.stopped_at.tolist() == [done, 40, 40, 40, done]
    np.testing.assert_array_equal(part.losses[1:4], known.losses)
    np.testing.assert_array_equal(part.losses[behind, :, :done], whole.losses[behind, :, :done])
    assert np.isnan(part.losses[behind, :, done:]).all()
    assert part.best.hyperparams == known.best.hyperparams
    jax.tree.map(np.testing.assert_array_equal, part.best.params, known.best.params)
    assert "interrupted" in part.table()
    # Both are in the file, and none of it is made again.
    facts, at = facts_of(path)
    assert facts["done"] == 40
    assert at.tolist() == [done, 40, 40, 40, done]
    events = []
    result = swept(checkpoint=path, on_event=lambda *event: events.append(event))
    assert_same(result, whole)
    assert [facts["done"] for kind, facts in events if kind == "start"] == [done]


def test_more_points_while_new_points_catch_up(tmp_path, whole, monkeypatch):
    path = tmp_path / "sweep.npz"
    monkeypatch.setattr(segments, "SECONDS_PER_SEGMENT", 0.0)
    swept(RATES[1:3], steps=30, checkpoint=path)
    for _ in range(5):
        swept(RATES[1:4], budget=0, checkpoint=path)
    part = swept(budget=0, checkpoint=path, keep="state")
    assert sorted(set(part.stopped_at.tolist())) == [1, 5, 30]
    assert part.kept is None
    with pytest.raises(ValueError, match="of the 5 points there, absent here"):
        swept(RATES[1:4], checkpoint=path)
    monkeypatch.undo()
    assert_same(swept(checkpoint=path), whole)


def test_killed_before_the_first_save_it_keeps_the_known_points(tmp_path, whole, monkeypatch):
    path = tmp_path / "sweep.npz"
    swept(RATES[:3], checkpoint=path)
    good = path.read_bytes()

    def stopped(self, *args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(running.Loop, "_read", stopped)
        with pytest.raises(KeyboardInterrupt):
            swept(checkpoint=path)
    assert path.read_bytes() == good
    assert_same(swept(checkpoint=path), whole)


@pytest.mark.slow
def test_points_that_diverge_on_either_side(tmp_path):
    rates = [np.inf, 0.01, 1e30, 0.1, np.nan]
    options = dict(steps=320, eval_every=100)
    for i, known in enumerate([rates[:2], rates[1:4], [1e30], [0.1]]):
        path = tmp_path / f"{i}.npz"
        swept(known, checkpoint=path, **options)
        result, wanted = swept(rates, checkpoint=path, **options), swept(rates, **options)
        for name in ("status", "causes", "stopped_at", "ranking"):
            np.testing.assert_array_equal(getattr(result, name), getattr(wanted, name))
        np.testing.assert_array_equal(result.losses, wanted.losses)
        np.testing.assert_array_equal(result.metrics["val_loss"], wanted.metrics["val_loss"])
        assert result.best.hyperparams == wanted.best.hyperparams


def test_a_stop_rule_asks_new_points_at_its_next_look(tmp_path):
    rates = lrax.log_grid(1e-5, 10.0, 12).tolist()
    rule = lrax.Halving(eta=2, first=0.125)
    options = dict(steps=160, stop=rule, eval_every=None)  # asked after 20, 40 and 80
    path = tmp_path / "sweep.npz"
    for _ in range(100):
        part = swept(rates[:10], budget=0, checkpoint=path, **options)
        if part.losses.shape[-1] > 40:
            break
    gone = part.stopped_at < part.losses.shape[-1]
    assert 0 < gone.sum() < 9
    assert part.losses.shape[-1] <= 80
    result = swept(rates, checkpoint=path, **options)
    # Those that were stopped stay so; the new ones were asked about at 80 for the first time.
    np.testing.assert_array_equal(result.stopped_at[:10][gone], part.stopped_at[gone])
    assert result.stopped_at[10:].min() >= 80
    assert_same(swept(rates, checkpoint=path, **options), result)
    # After the end, nobody is asked.
    more = swept([*rates, 0.05], checkpoint=path, **options)
    np.testing.assert_array_equal(more.stopped_at, [*result.stopped_at, 160])


class Unnamed:
    """A rule whose `repr` is an address."""

    def looks(self, steps):
        return (steps // 2,)

    def keep(self, record):
        return record.alive


@dataclasses.dataclass(frozen=True)
class Keeping(Unnamed):
    by: object = 1.0


def test_a_rule_that_no_checkpoint_can_recognise_is_refused(tmp_path):
    for rule in (Unnamed(), Keeping(by=lambda: None)):
        with pytest.raises(
            ValueError, match=r"`stop` must have a `repr` .*Make the rule a frozen datac"
        ):
            swept(checkpoint=tmp_path / "a", stop=rule)
        swept(RATES[:1], steps=4, stop=rule)
    assert not list(tmp_path.iterdir())
    for _ in range(2):
        swept(RATES[:1], steps=4, checkpoint=tmp_path / "a", stop=Keeping())


@pytest.mark.slow
def test_choices(tmp_path):
    cosines = [lrax.cosine(rate, 40) for rate in (0.01, 0.1, 0.2)]
    optimizer = lambda schedule: optax.sgd(schedule)
    sweep = lambda schedules, **options: lrax.sweep(
        TASK, optimizer, {"schedule": schedules}, **OPTIONS, **options
    )
    wanted = sweep(cosines)
    sweep([cosines[2], cosines[0]], checkpoint=tmp_path / "a")
    result = sweep(cosines, checkpoint=tmp_path / "a")
    np.testing.assert_array_equal(result.losses, wanted.losses)
    assert result.ranking.tolist() == wanted.ranking.tolist()
    with pytest.raises(ValueError, match="of the 3 points there, absent here: schedule=cosine"):
        sweep([cosines[0], cosines[1], lrax.cosine(0.3, 40)], checkpoint=tmp_path / "a")
    # A formula that the sweep did not have is another program; one more of those it had is none.
    line = lrax.linear(0.1, 0.0, 40)
    with pytest.raises(ValueError, match="task and optimizer: "):
        sweep([*cosines, line], checkpoint=tmp_path / "a")
    sweep([cosines[0], line], checkpoint=tmp_path / "b")
    mixed = [cosines[1], line, cosines[0], lrax.linear(0.2, 0.0, 40)]
    result = sweep(mixed, checkpoint=tmp_path / "b")
    np.testing.assert_array_equal(result.losses, sweep(mixed).losses)


def test_choices_of_pytrees(tmp_path):
    betas = [{"a": 0.9, "b": 0.99}, {"a": 0.5, "b": 0.99}, {"a": 0.9, "b": 0.9}]
    optimizer = lambda betas: optax.adam(0.1, b1=betas["a"], b2=betas["b"])
    sweep = lambda which, **options: lrax.sweep(
        TASK, optimizer, {"betas": [betas[i] for i in which]}, **OPTIONS, **options
    )
    sweep([2, 0], checkpoint=tmp_path / "a")
    result = sweep([0, 1, 2], checkpoint=tmp_path / "a")
    assert_same(result, sweep([0, 1, 2]))


def test_independent_random_numbers_belong_to_places(tmp_path):
    path = tmp_path / "sweep.npz"
    options = dict(rng="independent")
    swept(RATES[:3], checkpoint=path, **options)
    with pytest.raises(ValueError, match="the 3 points there must come first here, in their order"):
        swept([0.2, *RATES], checkpoint=path, **options)
    assert_same(swept(checkpoint=path, **options), swept(**options))


@pytest.mark.slow
def test_batches_from_the_host_are_read_once(tmp_path):
    read = []

    def batches():
        draw = np.random.default_rng(0)
        for i in range(40):
            read.append(i)
            rows = draw.integers(0, len(problems.X), 8)
            yield {"x": problems.X[rows], "y": problems.Y[rows]}

    path = tmp_path / "sweep.npz"
    sweep = lambda rates, **options: swept(rates, problems.regression(batch=batches()), **options)
    sweep(RATES[:2], steps=22, checkpoint=path)
    read.clear()
    result = sweep(RATES, checkpoint=path)
    assert read == list(range(40))
    assert_same(result, sweep(RATES))


def test_a_source_that_ends_while_points_catch_up(tmp_path):
    def batches(count):
        for i in range(count):
            rows = np.arange(i, i + 8) % len(problems.X)
            yield {"x": problems.X[rows], "y": problems.Y[rows]}

    path = tmp_path / "sweep.npz"
    options = dict(steps=600, eval_every=None)  # blocks of 256 updates
    sweep = lambda rates, count, **more: swept(
        rates, problems.regression(batch=batches(count)), **options, **more
    )
    sweep(RATES[:2], 600, checkpoint=path)
    with pytest.raises(Exception, match="batch") as caught:
        sweep(RATES, 300, checkpoint=path)
    assert "They are saved in" in "".join(caught.value.__notes__)
    assert facts_of(path)[1].tolist() == [600, 600, 256, 256, 256]
    assert_same(sweep(RATES, 600, checkpoint=path), sweep(RATES, 600))


def test_events_and_progress_count_from_the_new_points(tmp_path, capsys):
    path = tmp_path / "sweep.npz"
    swept(RATES[:3], steps=30, checkpoint=path)
    events = []
    swept(checkpoint=path, on_event=lambda *event: events.append(event), progress=True)
    done = [facts["done"] for kind, facts in events if kind == "segment"]
    assert done == sorted(done)
    assert done[-1] == 40
    start = next(facts for kind, facts in events if kind == "start")
    assert start["done"] == 0
    segments = [facts for kind, facts in events if kind == "segment"]
    assert all(facts["losses"].shape[:2] == (5, 2) for facts in segments)
    first = np.concatenate([f["losses"] for f in segments if f["done"] <= 30], axis=-1)
    assert np.isnan(first[:3]).all()
    assert np.isfinite(first[3:]).all()
    assert "40/40" in capsys.readouterr().err


@pytest.mark.slow
def test_a_task_that_is_a_function_and_given_parameters(tmp_path):
    def task(scale):
        init = lambda key: {"w": scale * jax.random.normal(key, (3,)), "b": 0.0 * scale}
        return dataclasses.replace(TASK, init=init)

    optimizer = lambda learning_rate: optax.adam(learning_rate)
    sweep = lambda scales, **options: lrax.sweep(
        task, optimizer, {"scale": scales, "learning_rate": [0.01, 0.1]}, **OPTIONS, **options
    )
    sweep([1.0], checkpoint=tmp_path / "a")
    assert_same(sweep([0.1, 1.0], checkpoint=tmp_path / "a"), sweep([0.1, 1.0]))
    params = {"w": np.ones(3, np.float32), "b": np.float32(0)}
    swept(RATES[2:], checkpoint=tmp_path / "b", params=params)
    assert_same(swept(checkpoint=tmp_path / "b", params=params), swept(params=params))


def test_in_a_directory_of_orbax(tmp_path, whole, interrupt_at):
    pytest.importorskip("orbax.checkpoint")
    path = tmp_path / "sweep.orbax"
    swept(RATES[2:4], checkpoint=path)
    interrupt_at(1)
    assert "interrupted" in swept(checkpoint=path).status
    interrupt_at(-1)
    assert_same(swept(checkpoint=path), whole)


PROGRAM = """
import sys
sys.path[:0] = [{tests!r}]
import lrax.sweeps.engine.segments, test_growing
lrax.sweeps.engine.segments.SECONDS_PER_SEGMENT = 0.0  # every segment is one step long, and saved
result = test_growing.swept(steps=400, checkpoint={path!r})
result.save({out!r})
"""


@pytest.mark.slow
def test_killed_while_new_points_catch_up(tmp_path):
    path, out = tmp_path / "sweep.npz", tmp_path / "result.npz"
    program = PROGRAM.format(tests=str(Path(__file__).parent), path=str(path), out=str(out))
    swept(RATES[1:3], steps=300, checkpoint=path)
    draw, before = random.Random(0), np.zeros(5)
    for _ in range(4):
        known = path.stat().st_mtime_ns
        process = subprocess.Popen([sys.executable, "-c", program])
        while process.poll() is None and path.stat().st_mtime_ns == known:
            time.sleep(0.01)
        time.sleep(draw.random() * 0.3)
        process.kill()
        process.wait()
        _, at = facts_of(path)  # a whole file, and one that never goes back
        assert np.all(at >= before)
        before = at
    assert before[[1, 2]].tolist() == [300, 300] or before.min() > 300
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
    found, wanted = lrax.SweepResult.load(out), swept(steps=400)
    np.testing.assert_array_equal(found.losses, wanted.losses)
    np.testing.assert_array_equal(found.metrics["val_loss"], wanted.metrics["val_loss"])
    assert found.ranking.tolist() == wanted.ranking.tolist()
