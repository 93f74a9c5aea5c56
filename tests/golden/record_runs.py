"""Training runs of lrax's own tasks, some with a fault that was put into the training itself.

`python -m tests.golden.record_runs` writes `runs.npz`, from the repository's root. It takes minutes
and needs scikit-learn. `read()` gives the runs as `{name: Recorded}`. The doctor is tested on them.
"""

import dataclasses
import hashlib
import json
import zipfile
from pathlib import Path

import jax
import numpy as np
import optax
from jax import numpy as jnp

import lrax

FILE = Path(__file__).parent / "runs.npz"
RECORDS = 150  # of each run, evenly spaced
EVALUATIONS = 30
PRECISION = 1e-3  # relative: the logarithms are stored as whole numbers of this size
MONITORS = ("grad_norm", "update_ratio", "param_norm")
LOG = 1.5  # so that int16 reaches from 1e-21 to 1e21
ZERO, NAN, INFINITE = -32768, -32767, 32767
SERIES = ("steps", "rates", "loss", "eval_steps", "val_loss", *MONITORS)


@dataclasses.dataclass(frozen=True)
class Recorded:
    """A recorded run.

    Attributes:
      name: "kind/task/optimizer/what".
      kind: "healthy", or the fault that the training has.
      held_back: Whether the run was kept away while the thresholds were chosen.
      dtype: The dtype of the parameters.
      series: The recorded arrays, by the names of `SERIES`.
    """

    name: str
    kind: str
    held_back: bool
    dtype: str
    series: dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Planned:
    """A run to make: what is trained, and the rate of every update."""

    kind: str
    what: str
    curve: np.ndarray
    decay: float = 0.0  # weight decay, times the rate


def read():
    """The recorded runs, by name."""
    with np.load(FILE) as file:
        head = json.loads(str(file["head"]))
        # int16 wraps around, in the sums as in the differences.
        codes = {name: np.cumsum(file[name], axis=1, dtype=np.int16) for name in SERIES}
    arrays = {name: codes[name] if "steps" in name else decoded(codes[name]) for name in SERIES}
    runs = {}
    for place, (name, dtype) in enumerate(zip(head["names"], head["dtypes"], strict=True)):
        series = {key: values[place].astype(np.float64) for key, values in arrays.items()}
        # Runs of fewer updates have fewer records; the rows are padded with -1 steps.
        for steps, keys in (
            ("steps", ("rates", "loss", *MONITORS, "steps")),
            ("eval_steps", ("val_loss", "eval_steps")),
        ):
            count = int(np.sum(series[steps] >= 0))
            for key in keys:
                series[key] = series[key][:count]
        runs[name] = Recorded(name, name.split("/")[0], is_held_back(name), dtype, series)
    return runs


def is_held_back(name):
    """Half of the settings, by a hash of the task and the optimizer in each kind of run."""
    return hashlib.sha256(name.encode()).digest()[0] % 2 == 1


# The rate that is best for each task and optimizer under a warmup and a cosine, to half a decade.
BEST = {
    "digits": {"sgd": 0.3, "momentum": 0.05, "adam": 0.005},
    "logistic": {"sgd": 3.0, "momentum": 0.3, "adam": 0.1},
    "cnn": {"sgd": 0.2, "momentum": 0.05, "adam": 0.005},
    "char_lm": {"sgd": 0.5, "momentum": 0.1, "adam": 0.01},
    "diabetes": {"sgd": 0.03, "momentum": 0.003, "adam": 0.003},
}
STEPS = {"digits": 600, "logistic": 450, "cnn": 300, "char_lm": 600, "diabetes": 150}
CORES = {
    "sgd": optax.identity,
    "momentum": lambda: optax.trace(0.9),
    "adam": optax.scale_by_adam,
}


def make_task(name):
    return {
        "digits": lambda: lrax.tasks.digits(),
        "logistic": lambda: lrax.tasks.digits(widths=()),
        "cnn": lambda: lrax.tasks.digits("cnn", batch_size=32),
        "char_lm": lambda: lrax.tasks.char_lm(
            width=16, layers=1, heads=2, context=16, batch_size=16, characters=200_000
        ),
        "diabetes": lambda: lrax.tasks.diabetes(),
    }[name]()


def optimizer_of(core):
    def optimizer(lr, decay):
        return optax.chain(
            CORES[core](), optax.add_decayed_weights(decay), optax.scale_by_learning_rate(lr)
        )

    return optimizer


def curve_of(schedule, steps):
    return np.asarray(schedule.values(np.arange(steps)), np.float64)


def common(task, core):
    """The healthy runs of a task and an optimizer, and those with a wrong rate or schedule."""
    steps, best = STEPS[task], BEST[task][core]
    warm = steps // 20
    on = lambda schedule: curve_of(schedule, steps)
    cosine = lambda peak, **more: on(lrax.warmup_cosine(peak, steps, warm, **more))
    constant = lambda rate: np.full(steps, rate)
    half = steps // 2
    # Healthy: all usual shapes, and rates up to three times below the best.
    yield Planned("healthy", "cosine", cosine(best))
    yield Planned("healthy", "cosine, a third of the rate", cosine(best / 3))
    yield Planned("healthy", "cosine to a tenth", cosine(best, end=best / 10))
    yield Planned("healthy", "constant", constant(best / 2))
    yield Planned("healthy", "wsd", on(lrax.wsd(best, steps, warm, steps // 5)))
    yield Planned("healthy", "linear", on(lrax.linear(best, 0.0, steps)))
    yield Planned("healthy", "one cycle", on(lrax.one_cycle(best, steps)))
    yield Planned("healthy", "inverse sqrt", on(lrax.inverse_sqrt(best, warm)))
    yield Planned("healthy", "restarts", on(lrax.cosine_restarts(best, steps // 3)))
    yield Planned("healthy", "steps", on(lrax.step_decay(best / 2, steps // 3, 0.2)))
    yield Planned("healthy", "weight decay", cosine(best), 1e-3 if core == "sgd" else 1e-2)
    # The rate.
    yield Planned("rate_too_high", "10 x, cosine", cosine(10 * best))
    yield Planned("rate_too_high", "10 x, constant", constant(10 * best))
    yield Planned("rate_too_high", "30 x, wsd", on(lrax.wsd(30 * best, steps, warm, steps // 5)))
    yield Planned("rate_too_low", "1/100, cosine", cosine(best / 100))
    yield Planned("rate_too_low", "1/100, constant", constant(best / 200))
    yield Planned("rate_too_low", "1/300, wsd", on(lrax.wsd(best / 300, steps, warm, steps // 5)))
    # The schedule.
    late = lrax.warmup_cosine(best, steps, int(0.8 * steps))
    yield Planned("warmup_too_long", "80 %", on(late))
    early = lrax.warmup_cosine(best, int(0.4 * steps), warm)
    yield Planned("schedule_ended_early", "cosine to 40 %", on(early))
    bounce = best * (1 + np.cos(np.pi * np.arange(steps) / (0.6 * steps))) / 2
    yield Planned("schedule_climbs_back", "cosine past its end", bounce)
    whole = cosine(best)
    yield Planned(
        "count_fault", "restart at half", np.concatenate([whole[:half], whole[: steps - half]])
    )
    # Weight decay: the equilibrium norm is far below what the task needs.
    strong = {"sgd": 0.1, "momentum": 0.3, "adam": 3.0}[core]
    yield Planned("decay_too_strong", "strong", cosine(best), strong)


def run(task, core, planned, steps):
    """Trains planned runs side by side; gives (planned, series)."""
    grid = {
        "lr": [lrax.from_values(each.curve) for each in planned],
        "decay": [each.decay for each in planned],
    }
    every = max(steps // RECORDS, 1)
    result = lrax.sweep(
        task,
        optimizer_of(core),
        lrax.points(grid),
        steps=steps,
        seeds=[list(CORES).index(core)],  # one for each optimizer
        monitors=[getattr(lrax.monitors, name) for name in MONITORS],
        record_every=every,
        eval_every=max(steps // EVALUATIONS, 1),
        stop=None,
        progress=False,
    )
    for place, each in enumerate(planned):
        at = np.arange(0, steps, every)
        series = {"steps": at, "rates": each.curve[at], "loss": result.losses[place, 0][at]}
        series |= {name: result.monitors[name][place, 0] for name in MONITORS}
        series["eval_steps"] = result.evaluated_at
        series["val_loss"] = result.evaluations["val_loss"][place, 0]
        yield each, series


def with_bad_batches(task, at):
    """The same task with a broken shard of data: large inputs under wrong labels at some updates."""
    batches = task.batch

    def batch(step, key):
        # One permutation for all updates would need the key of the run; a draw is as good here.
        size = batches.size
        count = jax.tree.leaves(batches.arrays)[0].shape[0]
        rows = jax.random.randint(key, (size,), 0, count)
        drawn = jax.tree.map(lambda array: jnp.asarray(array)[rows], batches.arrays)
        bad = jnp.any(step == jnp.asarray(at))
        targets = jnp.where(bad, jnp.roll(drawn["targets"], 1), drawn["targets"])
        return {"inputs": jnp.where(bad, 30.0, 1.0) * drawn["inputs"], "targets": targets}

    return dataclasses.replace(task, batch=batch)


def trained(task, core, rate, steps):
    """The same task, starting from trained parameters."""
    train = jax.jit(lrax.train(task, optimizer_of(core), steps=steps))
    params = train({"lr": rate, "decay": 0.0}, jax.random.key(7)).params
    return dataclasses.replace(task, init=lambda key: params)


def in_dtype(task, dtype):
    """The same task with parameters of another dtype."""
    cast = lambda tree: jax.tree.map(lambda leaf: leaf.astype(dtype), tree)
    return dataclasses.replace(
        task,
        init=lambda key: cast(task.init(key)),
        loss=lambda params, batch: task.loss(params, batch).astype(jnp.float32),
        evaluate=lambda params: {
            name: value.astype(jnp.float32) for name, value in task.evaluate(params).items()
        },
    )


def special():
    """Faults that need a task of their own: (task name, task, core, steps, dtype, runs)."""
    cosine = lambda peak, steps: curve_of(lrax.warmup_cosine(peak, steps, steps // 20), steps)
    # Over-fitting: a large network and few examples, at a good rate.
    for core, rate in (("adam", 0.003), ("momentum", 0.03), ("sgd", 0.3)):
        task = lrax.tasks.digits(widths=(128, 128), held_out=0.95, batch_size=32)
        steps = 900
        planned = [
            Planned("over_fitting", "constant", np.full(steps, rate)),
            Planned("over_fitting", "cosine", cosine(2 * rate, steps)),
        ]
        yield "few digits", task, core, steps, "float32", planned
    for core, rate in (("adam", 0.01), ("momentum", 0.01)):
        task = lrax.tasks.diabetes()
        steps = 1500
        yield (
            "diabetes", task, core, steps, "float32",
            [Planned("over_fitting", "too long", cosine(rate, steps))],
        )  # fmt: skip
    text = lrax.tasks.char_lm(
        width=32, layers=1, heads=2, context=16, batch_size=16, characters=3000
    )
    yield (
        "small text", text, "adam", 1500, "float32",
        [Planned("over_fitting", "cosine", cosine(0.01, 1500))],
    )  # fmt: skip
    # A bad batch, or three.
    for index, (name, core) in enumerate(
        (("digits", "sgd"), ("digits", "adam"), ("cnn", "momentum"), ("logistic", "momentum"),
         ("cnn", "adam"), ("logistic", "sgd"), ("logistic", "adam"))
    ):  # fmt: skip
        steps = STEPS[name]
        every = steps // RECORDS
        at = [every * round(share * RECORDS) for share in (0.4, 0.6, 0.73)]
        count = 1 if index % 2 else 3
        task = with_bad_batches(make_task(name), at[:count])
        planned = [Planned("spiking", f"{count} bad", cosine(BEST[name][core], steps))]
        yield name, task, core, steps, "float32", planned
    # Parameters in bfloat16 with a small rate, and healthy ones with a large one.
    for name, core in (("digits", "adam"), ("digits", "momentum"), ("cnn", "adam"),
                       ("logistic", "adam"), ("logistic", "sgd"), ("digits", "sgd")):  # fmt: skip
        task, steps, rate = in_dtype(make_task(name), jnp.bfloat16), STEPS[name], BEST[name][core]
        yield (
            name, task, core, steps, "bfloat16",
            [
                Planned("updates_too_small", "1/30", cosine(rate / 30, steps)),
                Planned("updates_too_small", "1/100", cosine(rate / 100, steps)),
                Planned("healthy", "bfloat16", cosine(rate, steps)),
            ],
        )  # fmt: skip
    # No warmup at rates that some tasks train at with a warmup, and not without.
    for name, core in (("char_lm", "adam"), ("char_lm", "momentum"), ("cnn", "sgd"),
                       ("digits", "sgd"), ("digits", "momentum"), ("cnn", "momentum")):  # fmt: skip
        steps = STEPS[name]
        planned = []
        for factor in (2, 3, 5, 8):
            peak = factor * BEST[name][core]
            cold = curve_of(lrax.cosine(peak, steps), steps)
            warm = curve_of(lrax.warmup_cosine(peak, steps, steps // 4), steps)
            planned += [Planned("no_warmup", f"{factor} x", cold)]
            planned += [Planned("with_warmup", f"{factor} x", warm)]
        yield name, make_task(name), core, steps, "float32", planned
    # From trained parameters the loss has little left to fall.
    for name, core in (("char_lm", "adam"), ("digits", "adam"), ("cnn", "momentum")):
        steps, rate = STEPS[name], BEST[name][core]
        task = trained(make_task(name), core, rate, steps)
        planned = [Planned("healthy", "fine-tuning, cosine", cosine(rate / 3, steps))]
        planned += [Planned("healthy", "fine-tuning, constant", np.full(steps, rate / 10))]
        yield name, task, core, steps, "float32", planned
    # A constant rate for much longer than it helps.
    for name, core, factor in (("diabetes", "sgd", 0.3), ("char_lm", "adam", 2),
                               ("char_lm", "momentum", 3)):  # fmt: skip
        steps = 4 * STEPS[name]
        yield (
            name, make_task(name), core, steps, "float32",
            [Planned("plateau", "constant", np.full(steps, factor * BEST[name][core]))],
        )  # fmt: skip


def all_runs():
    for task in BEST:
        for core in CORES:
            planned = list(common(task, core))
            yield task, make_task(task), core, STEPS[task], "float32", planned
    yield from special()


def record():
    """Trains all runs: {name: (dtype, series)}."""
    runs = {}
    for task_name, task, core, steps, dtype, planned in all_runs():
        for each, series in run(task, core, planned, steps):
            name = f"{each.kind}/{task_name}/{core}/{each.what}"
            assert name not in runs
            runs[name] = dtype, series
        print(len(runs), task_name, core, flush=True)
    return runs


BY_OUTCOME = ("rate_too_high", "rate_too_low", "decay_too_strong", "no_warmup")


def judged(runs):
    """The runs that are what they are meant to be, by their validation loss at the end.

    The regret of a run is how far it ends above the best run of the same task and optimizer, as a
    part of the fall of that one. A healthy run has at most 10 %, a rate or a decay that is wrong
    more than 15 %. A run with a high rate and a long warmup is healthy with at most 2 %: some of
    them nearly diverge. Others are left out, for they are neither.
    Faults of the schedule, the data and the dtype are what they are by construction.
    """
    ends = {name: np.median(series["val_loss"][-3:]) for name, (_, series) in runs.items()}
    pair = lambda name: tuple(name.split("/")[1:3])
    kept = {}
    for name, (dtype, series) in runs.items():
        kind, _, _, what = name.split("/", 3)
        same = [other for other in runs if pair(other) == pair(name)]
        finite = [ends[other] for other in same if np.isfinite(ends[other])]
        best = min(finite)
        slow = [runs[other][1]["val_loss"][0] for other in same if "rate_too_low" in other]
        start = max(slow, default=series["val_loss"][0])
        regret = (ends[name] - best) / (start - best) if np.isfinite(ends[name]) else np.inf
        if kind == "with_warmup":
            name = name.replace("with_warmup", "healthy").replace(what, f"warmup, {what}")
        if regret > {"healthy": 0.1, "with_warmup": 0.02}.get(kind, np.inf):
            continue
        if kind in BY_OUTCOME and regret < 0.15:
            continue
        kept[name] = dtype, series
    return kept


def coded(values):
    """Logarithms as int16, which compress well; 0, NaN and infinity have codes of their own."""
    values = np.asarray(values, np.float64)
    usual = np.isfinite(values) & (values > 0)
    codes = np.round(np.log(np.where(usual, values, 1.0)) / (LOG * PRECISION)).astype(np.int64)
    codes = np.where(values == 0, ZERO, np.where(np.isnan(values), NAN, codes))
    return np.where(np.isposinf(values), INFINITE, codes).astype(np.int16)


def decoded(codes):
    values = np.exp(codes.astype(np.float64) * LOG * PRECISION)
    values[codes == ZERO] = 0.0
    values[codes == NAN] = np.nan
    values[codes == INFINITE] = np.inf
    return values


def write(runs):
    """Writes `runs.npz`."""
    arrays = {}
    for key in SERIES:
        rows = [series[key] for _, series in runs.values()]
        longest = max(map(len, rows))
        padded = np.full((len(rows), longest), -1, np.int16)
        for place, row in enumerate(rows):
            padded[place, : len(row)] = row if "steps" in key else coded(row)
        # Differences along a curve are small, and so compress better.
        arrays[key] = np.diff(padded, axis=1, prepend=np.int16(0))
    head = {
        "names": list(runs),
        "dtypes": [dtype for dtype, _ in runs.values()],
        "versions": {"jax": jax.__version__, "optax": optax.__version__, "lrax": lrax.__version__},
        "made_by": "python -m tests.golden.record_runs",
    }
    with zipfile.ZipFile(FILE, "w", zipfile.ZIP_LZMA) as file:
        for key, array in {"head": np.array(json.dumps(head)), **arrays}.items():
            with file.open(f"{key}.npy", "w") as entry:
                np.lib.format.write_array(entry, array, allow_pickle=False)
    print(f"{len(runs)} runs, {FILE.stat().st_size // 1000} kB")


if __name__ == "__main__":
    write(judged(record()))
