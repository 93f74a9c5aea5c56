"""A sweep that is ended or killed goes on where it was."""

import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import optax
import problems
import pytest

import lrax
from lrax.sweeps import progress
from lrax.sweeps.engine import segments
from lrax.sweeps.storage import store

TASK = problems.regression()
OPTIONS = dict(steps=40, seeds=2, eval_every=15, objective="val_loss", checkpoint_every=0)


def adam(learning_rate):
    return optax.adam(lrax.cosine(learning_rate, 40))


def swept(task=TASK, optimizer=adam, rates=(1e-3, 1e-2, 1e-1), **changes):
    return lrax.sweep(task, optimizer, {"learning_rate": list(rates)}, **{**OPTIONS, **changes})


def assert_equal(result, wanted):
    for name in ("losses", "status", "evaluated_at"):
        np.testing.assert_array_equal(getattr(result, name), getattr(wanted, name))
    for group in ("metrics", "evaluations", "aux"):
        jax.tree.map(np.testing.assert_array_equal, getattr(result, group), getattr(wanted, group))
    jax.tree.map(np.testing.assert_array_equal, result.best_params, wanted.best_params)


@pytest.fixture(scope="module")
def whole():
    return swept()


@pytest.fixture
def interrupt_at(monkeypatch):
    """Ctrl-C after so many reports of progress."""
    advance = progress.Progress.advance

    def at(reports):
        seen = []

        def advance_and_interrupt(self, steps, **facts):
            seen.append(steps)
            if len(seen) == reports:
                signal.raise_signal(signal.SIGINT)
            return advance(self, steps, **facts)

        monkeypatch.setattr(progress.Progress, "advance", advance_and_interrupt)

    yield at
    monkeypatch.setattr(progress.Progress, "advance", advance)


@pytest.mark.parametrize("reports", [1, 2, 3])
def test_an_interrupted_sweep_goes_on_to_the_same_bits(
    reports, tmp_path, whole, interrupt_at, monkeypatch
):
    path = tmp_path / "sweep"
    with monkeypatch.context():
        monkeypatch.setattr(segments, "SECONDS_PER_SEGMENT", 0.0)  # every segment is one step long
        interrupt_at(reports)
        part = swept(checkpoint=path)
    assert 0 < part.losses.shape[-1] < 40
    assert np.all(part.status == "interrupted")
    np.testing.assert_array_equal(part.losses, whole.losses[..., : part.losses.shape[-1]])
    interrupt_at(-1)
    assert_equal(swept(checkpoint=path), whole)
    assert_equal(swept(checkpoint=path), whole)  # and again, from what is finished
    assert [file.name for file in tmp_path.iterdir()] == ["sweep.npz"]


@pytest.mark.slow
def test_it_goes_on_through_blocks_of_drawn_batches(tmp_path, monkeypatch):
    wanted = swept(eval_every=None)
    monkeypatch.setattr("lrax.sweeps.engine.feed.BLOCK", 16)
    optimizer = lambda learning_rate: optax.adam(lrax.cosine(learning_rate, 40))
    for _ in range(12):
        result = swept(
            optimizer=optimizer, eval_every=None, checkpoint=tmp_path / "sweep", budget=0
        )
    np.testing.assert_array_equal(result.losses[..., :1], wanted.losses[..., :1])
    np.testing.assert_allclose(
        result.losses, wanted.losses[..., : result.losses.shape[-1]], rtol=1e-6
    )
    final = swept(optimizer=optimizer, eval_every=None, checkpoint=tmp_path / "sweep")
    np.testing.assert_allclose(final.losses, wanted.losses, rtol=1e-6)


def test_models_with_state_and_aux_go_on(tmp_path, interrupt_at):
    task = (
        problems.stateful() if hasattr(problems, "stateful") else lrax.tasks.digits(batch_size=16)
    )
    wanted = lrax.sweep(task, optax.adam, [1e-3, 1e-2], steps=12)
    interrupt_at(1)
    lrax.sweep(
        task, optax.adam, [1e-3, 1e-2], steps=12, checkpoint=tmp_path / "a", checkpoint_every=0
    )
    interrupt_at(-1)
    assert_equal(
        lrax.sweep(task, optax.adam, [1e-3, 1e-2], steps=12, checkpoint=tmp_path / "a"), wanted
    )


@pytest.mark.slow
def test_another_sweep_is_refused_with_the_difference(tmp_path):
    path = tmp_path / "sweep.npz"
    swept(checkpoint=path, steps=3)
    data = {"x": problems.X + 1, "y": problems.Y}
    for changes, message in [
        (dict(rates=(1e-3, 1e-2, 0.2)), "points there, absent here: learning_rate=0.1\n"),
        (dict(rates=(1e-3, 1e-2)), "points there, absent here: learning_rate=0.1\n"),
        (dict(seeds=3), "seeds: "),
        (dict(rng="independent"), "rng: 'common' there, 'independent' here"),
        (dict(eval_every=2), "eval_every: 15 there, 2 here"),
        (dict(optimizer=optax.sgd), "task and optimizer: "),
        (
            dict(optimizer=lambda learning_rate: optax.adam(learning_rate, b1=0.8)),
            "task and optimizer: ",
        ),
        (dict(task=problems.regression(batch=lrax.minibatches(data, size=8))), "data: "),
    ]:
        with pytest.raises(
            ValueError, match=f"`checkpoint` must be of the same sweep(.|\n)*{message}"
        ):
            swept(checkpoint=path, **{"steps": 3, **changes})
    assert swept(checkpoint=path, steps=3).losses.shape == (
        3,
        2,
        3,
    )  # nothing of this has touched it


def test_a_rate_of_nan_is_the_same_again(tmp_path):
    for _ in range(2):
        result = swept(rates=(1e-3, np.nan, np.inf), steps=3, checkpoint=tmp_path / "sweep")
        assert result.status[:2, 0].tolist() == ["done", "diverged"]


def test_a_closed_over_array_is_part_of_the_sweep(tmp_path):
    def task(shift):
        offset = shift * np.ones((1, 3), np.float32)
        loss = lambda params, batch: problems.squared_error(
            params, {**batch, "x": batch["x"] + offset}
        )
        return dataclasses.replace(TASK, loss=loss)

    lrax.sweep(task(0.0), optax.adam, [0.1], steps=3, checkpoint=tmp_path / "a")
    with pytest.raises(ValueError, match="task and optimizer: "):
        lrax.sweep(task(1.0), optax.adam, [0.1], steps=3, checkpoint=tmp_path / "a")


def test_a_spoiled_file_is_named_and_never_half_read(tmp_path):
    path = tmp_path / "sweep.npz"
    swept(checkpoint=path, steps=3)
    good = path.read_bytes()
    draw = random.Random(0)
    for _ in range(40):
        spoiled = bytearray(good)
        for _ in range(draw.choice([1, 30])):
            spoiled[draw.randrange(len(spoiled))] ^= 1 << draw.randrange(8)
        if draw.random() < 0.5:
            spoiled = spoiled[: draw.randrange(len(spoiled))]
        path.write_bytes(spoiled)
        errors = []
        try:
            result = swept(checkpoint=path, steps=3)
        except ValueError as error:
            errors.append(str(error))
        assert all(str(path) in error for error in errors)
        if not errors:  # a bit that nothing reads, such as one of a time stamp
            path.write_bytes(good)
            assert_equal(result, swept(checkpoint=path, steps=3))
    for content in (b"", b"not a checkpoint"):
        path.write_bytes(content)
        with pytest.raises(
            ValueError, match=r"`path` must be a whole file of a lrax\.Checkpoint, got .*sweep\.npz"
        ):
            swept(checkpoint=path, steps=3)
    swept(steps=3).save(path)
    with pytest.raises(
        ValueError, match=r"must hold lrax\.Checkpoint/4, got 'lrax\.SweepResult/3'"
    ):
        swept(checkpoint=path, steps=3)


def test_a_file_can_run_no_code(tmp_path):
    swept(checkpoint=tmp_path / "sweep", steps=3)
    with np.load(tmp_path / "sweep.npz", allow_pickle=False) as file:
        assert json.loads(str(file["facts"]))["done"] == 3
        assert all(array.dtype.kind in "biufcU" for array in file.values())


def test_a_file_with_more_updates_than_steps_is_damaged(tmp_path):
    path = tmp_path / "sweep.npz"
    swept(checkpoint=path, steps=3, eval_every=None)
    with np.load(path) as file:
        members = dict(file)
    facts = json.loads(str(members["facts"]))
    longer = dict(members, facts=np.array(json.dumps(facts | {"done": 5})))
    longer["array/at"] = np.full_like(members["array/at"], 5)
    for name in (name for name in members if name.startswith("array/records/")):
        longer[name] = np.pad(members[name], [(0, 0), (0, 0), (0, 2)])
    np.savez(path, **longer)
    with pytest.raises(ValueError, match="its facts are not those of this sweep"):
        swept(checkpoint=path, steps=3, eval_every=None)


def test_a_state_has_the_best_lanes_before_the_first_evaluation(tmp_path, interrupt_at):
    path = tmp_path / "sweep.npz"
    options = dict(keep="best_evaluation", checkpoint=path)
    interrupt_at(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segments, "SECONDS_PER_SEGMENT", 0.0)
        swept(**options)
    interrupt_at(-1)
    with np.load(path) as file:
        facts = json.loads(str(file["facts"]))
        assert np.all(np.isinf(file["array/best_value"]))
    assert (facts["keeps_best"], facts["evaluated_at"]) == (True, [])
    assert_equal(swept(**options), swept(keep="best_evaluation"))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_keeps_the_last_good_file(tmp_path, monkeypatch, interrupt_at, whole):
    path = tmp_path / "sweep.npz"
    monkeypatch.setattr(segments, "SECONDS_PER_SEGMENT", 0.0)
    interrupt_at(1)
    swept(checkpoint=path)
    interrupt_at(-1)
    good, fsync = path.read_bytes(), os.fsync

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store.os, "fsync", full)
    events = []
    tell = lambda kind, facts: events.append(kind)
    with pytest.warns(
        RuntimeWarning,
        match=r"the checkpoint could not be written: No space left .* saved before is kept.*sweep",
    ):
        assert_equal(swept(checkpoint=path, on_event=tell), whole)  # training goes on
    assert "segment" in events
    assert "checkpoint" not in events  # nothing was saved
    monkeypatch.setattr(store.os, "fsync", fsync)
    assert path.read_bytes() == good
    assert [file.name for file in tmp_path.iterdir()] == ["sweep.npz"]


def test_a_path_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(OSError, match=r"`checkpoint` must be a place .*: No such file.*absent"):
        swept(checkpoint=tmp_path / "absent" / "sweep", steps=3)


PROGRAM = """
import sys
sys.path[:0] = [{tests!r}]
import lrax.sweeps.engine.segments, test_checkpoint
lrax.sweeps.engine.segments.SECONDS_PER_SEGMENT = 0.0  # every segment is one step long, and saved
result = test_checkpoint.swept(steps=400, checkpoint={path!r})
result.save({out!r})
"""


@pytest.mark.slow
def test_killed_at_random_moments_it_loses_nothing_that_was_saved(tmp_path):
    path, out = tmp_path / "sweep.npz", tmp_path / "result.npz"
    program = PROGRAM.format(tests=str(Path(__file__).parent), path=str(path), out=str(out))
    draw, kills, before = random.Random(0), 0, 0
    while not out.exists():
        process = subprocess.Popen([sys.executable, "-c", program])
        if kills < 6:
            while not path.exists() and process.poll() is None:
                time.sleep(0.01)
            known = path.stat().st_mtime_ns if path.exists() else 0
            while process.poll() is None and path.stat().st_mtime_ns == known:
                time.sleep(0.01)
            time.sleep(draw.random() * 0.2)
            process.kill()
            process.wait()
            kills += 1
            with np.load(path) as file:  # a whole file, and one that never goes back
                done = json.loads(str(file["facts"]))["done"]
            assert done >= before
            before = done
        else:
            assert process.wait() == 0
    wanted = swept(steps=400)
    assert_equal(lrax.SweepResult.load(out), wanted)
    assert before > 0


@pytest.mark.parametrize("budget", [0, "0s", 0.0])
def test_a_budget_ends_the_sweep(budget, whole):
    result = swept(budget=budget)
    assert result.losses.shape[-1] < 40
    assert np.all(result.status == "interrupted")
    np.testing.assert_array_equal(result.losses, whole.losses[..., : result.losses.shape[-1]])
    assert_equal(swept(budget="2h"), whole)


def test_bad_durations_are_named():
    for bad in ("10 minutes", "1.2.3s", "", "."):
        with pytest.raises(ValueError, match='`budget` must be seconds, or a str such as "90s"'):
            swept(budget=bad)
    with pytest.raises(ValueError, match="`budget` must be at least 0, got -1"):
        swept(budget=-1)
    with pytest.raises(TypeError, match="`checkpoint_every` must be seconds"):
        swept(checkpoint="x", checkpoint_every=None)
