"""The doctor: it names what is wrong with recorded runs, and is silent on healthy ones."""

import json
import sys
from pathlib import Path

import jax
import numpy as np
import optax
import pandas
import pytest
from jax import numpy as jnp
from sklearn import datasets

import lrax
from lrax.cli.main import main

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
from tests.benchmarks import doctor  # noqa: E402
from tests.golden import record_runs  # noqa: E402

RUNS = record_runs.read()
STEPS = np.arange(0, 600, 4)
NOISE = np.random.default_rng(0).normal(size=150)
LOSS = 0.3 + 2 * np.exp(-STEPS / 60) + 0.03 * NOISE  # of a healthy run
RATES = np.asarray(lrax.warmup_cosine(0.1, 600, 30).values(STEPS), np.float64)
EARLY = np.asarray(lrax.warmup_cosine(0.1, 200, 30).values(STEPS), np.float64)
HEALTHY = [run for run in RUNS.values() if run.kind == "healthy"]
FAULTY = [run for run in RUNS.values() if run.kind != "healthy"]


def test_the_recorded_runs_are_many():
    assert (ROOT / "tests/golden/runs.npz").stat().st_size < 300_000
    for held_back in (False, True):
        assert sum(run.held_back == held_back for run in HEALTHY) >= 50
        assert sum(run.held_back == held_back for run in FAULTY) >= 50


def test_it_is_silent_on_healthy_runs():
    assert {run.name: names for run in HEALTHY if (names := doctor.diagnosed(run))} == {}


# The least fraction of the runs of a kind that is named rightly. Some high rates only over-fit, and
# a decay that is too strong looks like a harder task.
LEAST = {
    "rate_too_high": 0.6,
    "rate_too_low": 0.7,
    "decay_too_strong": 0.4,
    "updates_too_small": 0.6,
    "plateau": 0.3,
}


@pytest.mark.parametrize("kind", sorted({run.kind for run in FAULTY}))
def test_it_names_the_fault(kind):
    named = [doctor.right(kind, doctor.diagnosed(run)) for run in FAULTY if run.kind == kind]
    assert np.mean(named) >= LEAST.get(kind, 0.8)


@pytest.mark.parametrize("factor", [1e-6, 1e6])
def test_a_factor_of_the_loss_changes_nothing(factor):
    for run in [*HEALTHY[::6], *FAULTY[::4]]:
        arguments = doctor.arguments(run)
        table = arguments.pop("source")
        scaled = {n: v * (factor if "loss" in n else 1) for n, v in table.items()}
        assert lrax.diagnose(scaled, **arguments).names == doctor.diagnosed(run), run.name


def test_the_interval_of_the_logger_makes_no_alarm():
    alarms = []
    for run in HEALTHY:
        arguments = doctor.arguments(run)
        table = arguments.pop("source")
        kept = ~np.isnan(table["loss"])
        kept[np.flatnonzero(kept)[1::2]] = False
        kept |= ~np.isnan(table["val_loss"])
        thinned = {name: values[kept] for name, values in table.items()}
        if lrax.diagnose(thinned, **arguments):
            alarms.append(run.name)
    # One run at twice the best rate really has a spike, which stands out among fewer records.
    assert len(alarms) <= 1, alarms


@pytest.mark.parametrize("names", [["loss"], ["loss", "rates"]])
def test_with_fewer_curves_it_is_silent_too(names):
    told = lambda run: {name: run.series[name] for name in ("steps", *names)}
    assert [run.name for run in HEALTHY if lrax.diagnose(**told(run))] == []


SHAPES = {
    "cosine": lrax.cosine(1.0, 1000),
    "cosine to a tenth": lrax.cosine(1.0, 1000, end=0.1),
    "power 3": lrax.polynomial(1.0, 0.0, 1000, 3.0),
    "power 5": lrax.polynomial(1.0, 0.0, 1000, 5.0),
    "exponential": lrax.exponential(1.0, 0.99, 1),
    "staircase": lrax.exponential(1.0, 0.5, 100, staircase=True),
    "steps": lrax.multistep(1.0, [300, 600, 800], 0.1),
    "noam": lrax.noam(64, 100),
    "inverse time": lrax.inverse_time(1.0, 0.05, 1),
    "rex": lrax.rex(1.0, 0.0, 1000),
    "triangles": lrax.cyclic(0.1, 1.0, 125),
    "triangle": lrax.cyclic(0.0, 1.0, 500),
    "falling triangles": lrax.cyclic(0.1, 1.0, 125, mode="triangular2"),
    "restarts": lrax.cosine_restarts(1.0, 250),
    "restarts, longer each time": lrax.cosine_restarts(1.0, 143, mult=2.0),
    "restarts, cut": lrax.cosine_restarts(1.0, 300),
    "restarts to a tenth": lrax.cosine_restarts(1.0, 250, end=0.1),
    "one cycle": lrax.one_cycle(1.0, 1000, pct_start=0.45),
    "three phases": lrax.one_cycle(1.0, 1000, phases=3),
    "wsd": lrax.wsd(1.0, 1000, 50, 200),
    "wsd-s": lrax.wsd_s(1.0, 50, [300, 600, 1000], 50, end=0.1),
    "infinite": lrax.infinite(1.0, 0.3, 50, 300),
    "tri-stage": lrax.tri_stage(1.0, 100, 400, 500),
    "constant": lrax.constant(1.0),
}


@pytest.mark.parametrize("every", [1, 7, 20, 33])
@pytest.mark.slow
def test_usual_schedules_are_no_fault(every):
    steps = np.arange(0, 1000, every)
    loss = np.exp(-steps / 50) + 1e-3 * np.exp(-steps / 500)
    found = {
        name: names
        for name, shape in SHAPES.items()
        if (names := lrax.diagnose(loss=loss, steps=steps, rates=shape).names)
    }
    assert found == {}


def written(tmp_path, kind):
    """The same run under the names and in the form of a logger."""
    rows = pandas.DataFrame({"step": STEPS, "loss": LOSS, "learning_rate": EARLY})
    evaluations = pandas.DataFrame({"step": STEPS[9::10], "eval_loss": LOSS[9::10] + 0.1})
    if kind == "trainer_state.json":
        log = [*rows.to_dict("records"), *evaluations.to_dict("records"), {"train_runtime": 3.0}]
        text = json.dumps({"log_history": log, "max_steps": 800, "global_step": 600})
    elif kind == "jsonl":
        lines = [
            {"_step": row.step, "train": {"loss": row.loss, "lr": row.learning_rate}}
            for row in rows.itertuples()
        ]
        lines += [
            {"_step": row.step, "eval/loss": row.eval_loss} for row in evaluations.itertuples()
        ]
        text = "\n".join(map(json.dumps, lines)) + "\nbroken\n"
    elif kind == "keras.json":
        text = json.dumps({name: values.tolist() for name, values in rows.items()})
    else:  # as Lightning's CSVLogger, or an export of Weights & Biases
        frame = rows.merge(evaluations, how="outer", on="step").assign(note="text", epoch=0)
        front = "" if kind == "csv" else "run-7 - "
        names = {"loss": f"{front}train/loss", "learning_rate": f"{front}lr-AdamW"}
        frame = frame.rename(columns={**names, "eval_loss": "val_loss"})
        text = frame.to_csv(index=False, sep="\t" if kind == "tsv" else ",")
    path = tmp_path / (kind if "." in kind else f"log.{kind}")
    path.write_text(text)
    return path


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "trainer_state.json", "keras.json"])
def test_files_of_loggers_are_read(tmp_path, kind):
    found = lrax.diagnose(written(tmp_path, kind))
    assert found.names == ["schedule_ended_early"]
    assert found[0].at == (200, 596)
    words = {
        "csv": "rates from 'lr-AdamW'",
        "tsv": "columns without a number: note",
        "jsonl": "1 lines could not be read and were left out: 166",
        "trainer_state.json": "600 of 800 steps",
        "keras.json": "no validation loss",
    }
    assert words[kind] in " ".join(found.notes)


def test_tensorboard_is_read(tmp_path):
    writers = pytest.importorskip("tensorboard.summary.writer.event_file_writer")
    from tensorboard.compat.proto import event_pb2, summary_pb2

    writer = writers.EventFileWriter(str(tmp_path))
    for step, loss, rate in zip(STEPS, LOSS, EARLY, strict=True):
        values = [
            summary_pb2.Summary.Value(tag=tag, simple_value=value)
            for tag, value in (("Loss/train", loss), ("lr", rate))
        ]
        writer.add_event(event_pb2.Event(step=step, summary=summary_pb2.Summary(value=values)))
    writer.close()
    file = next(tmp_path.glob("*tfevents*"))
    for path in (tmp_path, file):
        assert lrax.diagnose(path).names == ["schedule_ended_early"]


def test_without_tensorboard_the_extra_is_named(tmp_path, monkeypatch):
    loader = "tensorboard.backend.event_processing.event_file_loader"
    monkeypatch.setitem(sys.modules, loader, None)
    path = tmp_path / "events.out.tfevents.1"
    path.write_bytes(b"")
    with pytest.raises(ImportError, match=r"lrax\[tensorboard\]"):
        lrax.diagnose(path)


def test_columns_and_arrays_can_be_told():
    table = {"at": STEPS, "cost": LOSS, "eta": EARLY, "other": LOSS}
    with pytest.raises(ValueError, match=r"`loss=`: there are \['at', 'cost', 'eta', 'other'\]"):
        lrax.diagnose(table)
    told = lrax.diagnose(table, loss="cost", rates="eta", steps="at")
    assert told.names == ["schedule_ended_early"]
    assert told[0].at == (200, 596)
    assert any("not used: other" in note for note in told.notes)
    for rates in (EARLY, lrax.warmup_cosine(0.1, 200, 30)):
        assert lrax.diagnose(loss=LOSS, steps=STEPS, rates=rates).names == told.names
    frame = pandas.DataFrame(table)
    assert lrax.diagnose(frame, loss="cost", rates="eta", steps="at").names == told.names
    assert not lrax.diagnose(loss=LOSS, steps=STEPS, rates=RATES)


def test_a_shorter_column_is_spread_over_the_run():
    """In a dict as in an argument: where over-fitting begins is a step of the run."""
    val_loss = np.concatenate([np.linspace(2.3, 1.0, 8), np.linspace(1.1, 3.0, 8)])
    told = lrax.diagnose(loss=LOSS, val_loss=val_loss, rates=RATES)
    read = lrax.diagnose({"loss": LOSS, "val_loss": val_loss, "lr": RATES})
    assert [each.at for each in read] == [each.at for each in told]
    assert any(each.name == "over_fitting" and each.at[1] > 100 for each in read)
    assert any("different lengths" in note for note in read.notes)


@pytest.mark.parametrize("columns", [("epoch",), ("epoch", "batch")])
def test_counts_within_an_epoch_are_no_steps(columns):
    counts = {"epoch": np.arange(len(LOSS)) // 100, "batch": np.arange(len(LOSS)) % 100}
    table = {name: counts[name] for name in columns} | {"loss": LOSS, "lr": RATES}
    found = lrax.diagnose(table)
    assert not found
    assert any("does not count updates" in note for note in found.notes)
    assert [each.name for each in found] == [each.name for each in lrax.diagnose(loss=LOSS)]


def test_parameters_that_grow_are_not_called_a_loss_that_was_thrown():
    still = 2.3 + 0.01 * np.sin(np.arange(len(LOSS)))
    grown = np.geomspace(1.0, 50.0, len(LOSS))
    found = lrax.diagnose(loss=still, rates=RATES, monitors={"param_norm": grown})
    (high,) = [each for each in found if each.name == "rate_too_high"]
    assert "parameters have become" in high.what
    assert "thrown" not in high.what


def test_broken_lines_are_numbered_as_in_the_file(tmp_path):
    rows = [f"{step},{loss}" for step, loss in enumerate(LOSS)]
    path = tmp_path / "run.csv"
    path.write_text("\n".join(["step,loss", "", *rows[:2], "3", *rows[3:]]))
    assert any(note.endswith("left out: 5") for note in lrax.diagnose(path).notes)


def test_a_nan_is_a_gap_or_a_divergence():
    gaps = LOSS.copy()
    gaps[1::2] = np.nan
    assert lrax.diagnose(loss=gaps, steps=STEPS, rates=RATES).names == []
    broken = LOSS.copy()
    broken[100:] = np.nan
    found = lrax.diagnose(loss=broken, steps=STEPS, rates=RATES)
    assert found.names == ["diverging"]
    assert found[0].at == (396, 400)
    assert found[0].confidence == "certain"
    broken[50] = np.inf
    assert lrax.diagnose(loss=broken, steps=STEPS)[0].at == (196, 200)
    first = lrax.diagnose(loss=np.where(STEPS < 4, np.inf, LOSS))
    assert "no rate can help" in first[0].what


def test_steps_that_go_back_are_a_fault_or_a_resume():
    fresh = np.concatenate([STEPS[:80], STEPS[:70]])
    found = lrax.diagnose(loss=LOSS, steps=fresh, rates=0.1)
    assert "count_fault" in found.names
    # After a checkpoint the last steps are made again: that is as it should be.
    resumed = np.concatenate([STEPS[:80], STEPS[75:145]])
    again = np.concatenate([LOSS[:80], LOSS[75:145]])
    rates = np.concatenate([RATES[:80], RATES[75:145]])
    assert lrax.diagnose(loss=again, steps=resumed, rates=rates).names == []


@pytest.mark.parametrize("cut", [0.4, 0.5, 0.6, 0.7])
def test_a_schedule_that_begins_anew_is_a_fault_wherever_it_does(cut):
    done = int(cut * len(RATES))
    rates = np.concatenate([RATES[:done], RATES[: len(RATES) - done]])
    found = lrax.diagnose(loss=LOSS, steps=STEPS, rates=rates)
    assert found.names == ["count_fault"]
    assert found[0].confidence == "certain"


def test_a_long_log_needs_little_memory():
    steps = np.arange(200_000)
    noise = np.random.default_rng(0).normal(size=len(steps))
    loss = 1 + np.exp(-steps / 20_000) + 0.1 * noise
    rates = lrax.cosine(0.1, steps=len(steps)).values(steps)
    assert lrax.diagnose(loss=loss, rates=rates).names == []
    loss[150_000:150_003] = 5.0
    found = lrax.diagnose(loss=loss, rates=rates)
    assert found.names == ["spiking"]
    assert found[0].at == (150_000, 150_002)


@pytest.mark.parametrize("count", [1, 2, 29, 31, 150])
@pytest.mark.parametrize("rates", [None, 0.0, 0.1])
def test_curves_that_say_nothing_are_no_error(count, rates):
    steps = np.arange(count)
    curves = [np.full(count, 2.0), np.zeros(count), -1.0 - steps, 1e300 * np.exp(-steps / 20)]
    curves += [1e-300 * np.exp(-steps / 20), np.where(steps < count / 2, 1.0, 0.0)]
    monitors = {"param_norm": np.zeros(count), "grad_norm": np.zeros(count)}
    for loss in curves:
        found = lrax.diagnose(loss=loss, rates=rates, monitors=monitors, val_loss=loss[:1])
        json.dumps(found.to_dict(), allow_nan=False)
    same = lrax.diagnose(loss=np.ones(count), steps=np.zeros(count), rates=rates)
    assert not same


def test_few_records_say_little():
    found = lrax.diagnose(loss=LOSS[:10])
    assert not found
    assert any("its progress is not looked at" in note for note in found.notes)


@pytest.fixture(scope="module")
def swept():
    monitors = [lrax.monitors.update_ratio, lrax.monitors.param_norm]
    task = lrax.tasks.digits()
    return task, lrax.sweep(
        task, optax.sgd, [0.003, 0.3, 30.0], steps=200, monitors=monitors, eval_every=20
    )


def test_a_lane_of_a_sweep(swept):
    _, result = swept
    best = lrax.diagnose(result)
    assert not best
    assert "the best: learning_rate=0.3" in str(best)
    assert lrax.diagnose(result, lane=(0, 0)).names == ["rate_too_low"]
    assert lrax.diagnose(result, lane=(2, 0)).names == ["diverging"]
    for lane in ((3, 0), (0, 1), (0,), "worst", (0.5, 0)):
        with pytest.raises((ValueError, TypeError), match="`lane` must be"):
            lrax.diagnose(result, lane=lane)


def test_the_schedule_of_a_choice_is_known():
    task = lrax.tasks.diabetes()
    schedules = [lrax.cosine(0.003, 40), lrax.cosine(0.003, 120)]
    result = lrax.sweep(task, optax.adam, {"learning_rate": schedules}, steps=120)
    assert "schedule_ended_early" in lrax.diagnose(result, lane=(0, 0)).names
    assert "schedule_ended_early" not in lrax.diagnose(result, lane=(1, 0)).names


@pytest.mark.parametrize(("point", "rate", "helps"), [(0, 0.003, 100.0), (2, 30.0, 0.01)])
def test_a_replay_finds_the_rate_that_would_have_helped(swept, point, rate, helps):
    task, result = swept
    found = lrax.diagnose(
        result, lane=(point, 0), rates=rate, retry=task, optimizer=optax.sgd, seeds=1
    )
    assert helps in found.retry.helped
    assert 0 < np.log10(helps) / np.log10(found.retry.helped[0]) <= 2
    assert f"{found.retry.helped[0]:g} x the rate would have helped most" in str(found)
    json.dumps(found.to_dict(), allow_nan=False)


def test_a_replay_from_a_checkpoint_begins_at_the_finding(swept):
    task, _ = swept
    spiky = LOSS.copy()
    spiky[100] = 5.0
    params = task.init(jax.random.key(0))
    again = {"retry": task, "optimizer": optax.sgd, "rates": RATES, "seeds": 1}
    found = lrax.diagnose(loss=spiky, **again, params=params)
    assert found.names == ["spiking"]
    assert found.retry.start == 100
    assert "the given `params`" in found.retry.reset


def test_a_replay_is_only_made_where_a_rate_can_help(swept):
    task, _ = swept
    again = {"retry": task, "optimizer": optax.sgd}
    found = lrax.diagnose(loss=LOSS, steps=STEPS, rates=EARLY, **again)
    assert found.retry is None
    assert any("nothing was replayed" in note for note in found.notes)
    for missing, arguments in (
        ("rates", again),
        ("optimizer", {"retry": task, "rates": 0.1}),
        ("params", {"params": {}}),
    ):
        with pytest.raises(ValueError, match=f"`{missing}`"):
            lrax.diagnose(loss=LOSS, **arguments)


def test_findings_show_themselves():
    found = lrax.diagnose(loss=LOSS, steps=STEPS, rates=EARLY, val_loss=LOSS[::10] + 0.1)
    assert len(found) == 1
    assert [each.name for each in found] == found.names
    text = str(found)
    for word in (
        "schedule_ended_early (certain), steps 200 to 596",
        "evidence:",
        "change:",
        "lrax.",
    ):
        assert word in text
    described = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert described["healthy"] is False
    assert described["findings"][0]["at"] == [200, 596]
    assert "<table>" in found._repr_html_()
    assert len(found.plot().axes) == 2
    with pytest.raises(AttributeError):
        found[0].name = "another"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "an empty one"),
        ("hello\nworld\n", "a line of names and lines of numbers"),
        ('{"a": 1}\n{"a": 2}\n', "name it by `loss=`"),
        ("\0\0\0\0", "a binary file"),
        ("{broken\n", "a JSON object on each line"),
    ],
)
def test_files_that_hold_no_run_are_refused(tmp_path, text, message):
    path = tmp_path / "log"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        lrax.diagnose(path)


def test_the_command_has_an_exit_status_for_ci(tmp_path, capsys, swept):
    _, result = swept
    ill = str(written(tmp_path, "csv"))
    well = str(tmp_path / "well.csv")
    pandas.DataFrame({"step": STEPS, "loss": LOSS, "lr": RATES}).to_csv(well, index=False)
    result.save(tmp_path / "swept.npz")
    assert main(["diagnose", well]) == 0
    assert main(["diagnose", str(tmp_path / "swept.npz")]) == 0
    capsys.readouterr()
    assert main(["diagnose", well, ill, "--json"]) == 1
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["healthy"] for line in lines] == [True, False]
    assert main(["diagnose", ill, "--out", str(tmp_path / "ill.png")]) == 1
    assert (tmp_path / "ill.png").read_bytes()[:4] == b"\x89PNG"
    capsys.readouterr()
    assert main(["diagnose", str(tmp_path / "none.csv"), ill]) == 2
    assert "No such file" in capsys.readouterr().err
    assert main(["diagnose", ill, "--loss", "cost"]) == 2
    assert "--loss must be a column of" in capsys.readouterr().err
    assert main(["diagnose", __file__]) == 2


@pytest.mark.slow
def test_the_benchmark_prints_both_halves(capsys):
    doctor.main([])
    shown = capsys.readouterr().out
    assert "held back" in shown
    assert "lrax" in shown


@pytest.fixture(scope="module")
def whole_batches():
    """A small network on some digits, by gradient descent with all of them in each batch."""
    images, labels = datasets.load_digits(return_X_y=True)
    batch = {"x": images[:200].astype(np.float32) / 16 - 0.3, "y": np.eye(10)[labels[:200]]}
    batch = jax.tree.map(jnp.float32, batch)

    def init(key):
        first, last = jax.random.split(key)
        return {
            "first": jax.random.normal(first, (64, 32)) / 8,
            "last": jax.random.normal(last, (32, 10)) / 6,
        }

    def loss(params, batch):
        outputs = jnp.tanh(batch["x"] @ params["first"]) @ params["last"]
        return jnp.mean(jnp.sum((outputs - batch["y"]) ** 2, axis=-1)) / 2

    def stable_rate(step):
        of_batch = lambda params: loss(params, step.batch)
        sharpness = lrax.probes.sharpness(of_batch, step.params, key=jax.random.key(0), steps=12)
        return lrax.probes.max_stable_rate(sharpness)

    return lrax.sweep(
        lrax.Task(init, loss, lambda index, key: batch),
        lambda rate: lrax.scale_by_lr(rate),
        [0.1, 0.4, 0.8],
        steps=300,
        seeds=1,
        monitors={"stable_rate": stable_rate, "learning_rate": lrax.monitors.learning_rate},
        record_every=5,
        stop=None,
        progress=False,
    )


@pytest.mark.parametrize(("point", "at_edge"), [(0, False), (1, True)])
def test_training_at_the_edge_of_stability_is_no_fault(whole_batches, point, at_edge):
    found = lrax.diagnose(whole_batches, lane=(point, 0))
    assert not found
    assert any("at the edge of stability" in note for note in found.notes) == at_edge


def test_a_rate_above_the_largest_stable_one_is_evidence(whole_batches):
    found = lrax.diagnose(whole_batches, lane=(2, 0))
    assert found.names == ["diverging"]
    assert found[0].evidence["above the largest stable rate since step"] == 0
    assert 2 < found[0].evidence["rate, of the largest stable one then"] < 8


def test_a_stable_rate_acquits_the_rate():
    loss = np.concatenate([1 + np.exp(-np.arange(100) / 20), [np.nan]])
    loss[:100] += 0.02 * np.random.default_rng(0).normal(size=100)
    rates = np.full(101, 0.1)
    found = lrax.diagnose(loss=loss, rates=rates, monitors={"stable_rate": np.full(21, 0.4)})
    assert found[0].evidence["rate, of the largest stable one"] == pytest.approx(0.25)


def test_a_name_of_a_column_needs_a_source():
    with pytest.raises(
        ValueError, match="`rates` must be an array: no `source` is given, got 'lr'"
    ):
        lrax.diagnose(loss=np.ones(40), rates="lr")
