"""How good the rates of finders are, and what they cost: `python -m tests.benchmarks.finders`.

Each combination of a task, an optimizer and a schedule is trained once, densely: at many rates,
with many seeds. Some of the seeds are the truth's, the others the finders'. `lrax.find` is then
played many times from the record, each time with three of its seeds. Every rate that a finder gives
is trained with all seeds of the truth. Nothing is interpolated.

Rates are rounded to 48ths of a decade, and those of range tests to 24ths, so that draws share runs.
With `--cache FOLDER` the runs are kept there, and the next call trains what is missing.

Half of the combinations had no part in the making of `find`. They have a star.

With `--forecast`, `find` is also played with `lrax.Forecast` in place of the halving of its first
stage: with the rule as it is, and with one that is asked first where the halving is. What the first
stage saves is left to the later ones.
"""

import argparse
import dataclasses
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from jax import lax, nn, numpy as jnp
from jax.tree_util import Partial

import lrax
from lrax.finders.range_test import RangeTest
from lrax.finders.search import planned, search
from lrax.finders.suggest import METHODS
from lrax.sweeps.result import SweepResult
from lrax.sweeps.stopping import Evidence
from lrax.tasks import losses
from lrax.tasks.networks import MLP

LATTICE = 48  # rates are whole numbers of this part of a decade
EVALUATIONS = 24  # of each run, evenly spaced
FIRST = 1000  # the first seed of the finders; the truth's begin at 0
RAMP = 100  # updates of a range test
RUNS = (2, 7, 15)
SEEDS = 3  # of a search
EPISODE = 60  # steps of the pole, and so its highest return
SHARE = 0.5  # of the rates go on at the first look of a forecast that looks where the halving does
CAP = 1.0  # regrets that are compared count as this at most
NEAR = 0.03  # a regret up to which a range of good rates is called right
APART = 0.01  # regrets differ by more than this, or are the same


class Case(NamedTuple):
    task: Any  # a Task, or a function of (schedule, key, steps) for `sweep_function`
    optimizer: Callable  # of a schedule
    shape: Callable | None  # (peak, steps) -> Schedule; None for a constant rate
    steps: int  # a multiple of 7 * 24, so that shorter runs can be recorded as well
    held: bool  # whether it had no part in the making of `find`
    params: Any = None
    objective: str = "val_loss"

    @property
    def sign(self):
        return -1.0 if self.objective == "val_return" else 1.0

    def made(self, steps):
        """The optimizer as a function of the rate, or of the peak of the schedule."""
        if self.shape is None:
            return self.optimizer
        return lambda rate: self.optimizer(self.shape(rate, steps))


def with_batch_norm():
    """Digits by a network of two convolutions with strides, each with batch norm."""
    data = lrax.tasks.digits("cnn", batch_size=32)
    kernels = [(3, 3, 1, 8), (3, 3, 8, 16)]

    def init(key):
        keys = jax.random.split(key, 3)
        he = nn.initializers.he_normal()
        params = {
            f"conv_{i}": {
                "kernel": he(keys[i], shape),
                "scale": jnp.ones(shape[-1]),
                "bias": jnp.zeros(shape[-1]),
            }
            for i, shape in enumerate(kernels)
        }
        params["head"] = {"kernel": 0.3 * he(keys[2], (64, 10)), "bias": jnp.zeros(10)}
        state = {
            f"conv_{i}": {"mean": jnp.zeros(shape[-1]), "variance": jnp.ones(shape[-1])}
            for i, shape in enumerate(kernels)
        }
        return params, state

    def apply(params, state, x, training):
        seen = {}
        for name in ("conv_0", "conv_1"):
            layer = params[name]
            x = lax.conv_general_dilated(
                x, layer["kernel"], (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
            mean, variance = state[name]["mean"], state[name]["variance"]
            if training:
                mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
            old = state[name]
            seen[name] = {
                "mean": 0.9 * old["mean"] + 0.1 * mean,
                "variance": 0.9 * old["variance"] + 0.1 * variance,
            }
            x = (x - mean) * lax.rsqrt(variance + 1e-5) * layer["scale"] + layer["bias"]
            x = nn.relu(x)
        x = x.reshape(x.shape[0], -1)
        return x @ params["head"]["kernel"] + params["head"]["bias"], seen

    def entropy(logits, labels):
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    def loss(params, state, batch):
        logits, state = apply(params, state, batch["inputs"], True)
        return entropy(logits, batch["targets"]), state

    held_out = data.evaluate.args[1]

    def evaluate(params, state):
        logits, _ = apply(params, state, jnp.asarray(held_out["inputs"]), False)
        return {"val_loss": entropy(logits, jnp.asarray(held_out["targets"]))}

    return lrax.Task(init, loss, data.batch, evaluate, stateful=True)


def classes(network, inputs, targets, train, test, size):
    """A task of classification by the examples of the rows `train`."""
    inputs = inputs.astype(np.float32)
    targets = targets.astype(np.int32)
    return lrax.Task(
        init=Partial(losses.init, network),
        loss=Partial(losses.cross_entropy, network),
        batch=lrax.minibatches({"inputs": inputs[train], "targets": targets[train]}, size),
        evaluate=Partial(
            losses.evaluate_classification,
            network,
            {"inputs": inputs[test], "targets": targets[test]},
        ),
    )


def cancer():
    """Breast cancer or not, by 30 measurements of a table of 569 rows."""
    from sklearn.datasets import load_breast_cancer

    inputs, targets = load_breast_cancer(return_X_y=True)
    inputs = (inputs - inputs.mean(0)) / inputs.std(0)
    rows = np.random.default_rng(0).permutation(len(targets))
    return classes(MLP((30, 16, 2)), inputs, targets, rows[:300], rows[300:], 32)


def fine_tuning():
    """Few digits, and the parameters of a network that knows digits upside down."""
    from sklearn.datasets import load_digits

    inputs, targets = load_digits(return_X_y=True)
    inputs = inputs / 16
    network = MLP((64, 32, 32, 10))
    rows = np.random.default_rng(0).permutation(len(targets))
    turned = inputs.reshape(-1, 8, 8)[:, ::-1].reshape(-1, 64)
    before = classes(network, turned, targets, rows[:900], rows[900:], 64)
    train = jax.jit(lrax.train(before, optax.adam, steps=400))
    params = train({"learning_rate": 0.01}, jax.random.key(0)).params
    return classes(network, inputs, targets, rows[900:1200], rows[1200:], 32), params


def pole(optimizer, schedule, key, steps, *, parts=EVALUATIONS, average=None):
    """Policy gradients for a pole on a cart: 8 episodes of 60 steps to an update.

    The optimizer is given what rules follow. `value` is what the update's episodes lost of the
    highest return, as a part of it: the gradient is an estimate of this number's. `val_loss` is the
    same of 32 other episodes, played anew before each part of the run. `kl` is how far the update
    before has moved the policy, on its own episodes.

    Args:
      optimizer: A function of the schedule.
      schedule: What the optimizer is made of.
      key: The key of the run.
      steps: Updates; a multiple of `parts`.
      parts: How often the policy is evaluated.
      average: (state, params) -> the parameters to evaluate; None for those in training.
    """
    episodes = 8
    network = MLP((4, 16, 2))

    def moved(x, push):
        place, speed, angle, turn = x
        sine, cosine = jnp.sin(angle), jnp.cos(angle)
        part = (push + 0.05 * turn**2 * sine) / 1.1
        spin = (9.8 * sine - cosine * part) / (0.5 * (4 / 3 - 0.1 * cosine**2 / 1.1))
        back = part - 0.05 * spin * cosine / 1.1
        return jnp.stack([place, speed, angle, turn]) + 0.02 * jnp.stack([speed, back, turn, spin])

    def played(params, key, count):
        """Log-probabilities and rewards `[EPISODE, count]`, and what `distance` reads."""
        first, key = jax.random.split(key)
        start = 0.05 * jax.random.normal(first, (count, 4))

        def step(carry, key):
            x, up = carry
            odds = nn.log_softmax(network.apply(params, x))
            action = jax.random.categorical(key, odds)
            chosen = jnp.take_along_axis(odds, action[:, None], axis=1)[:, 0]
            moved_x = jax.vmap(moved)(x, 20.0 * action - 10.0)
            now = up * (jnp.abs(moved_x[:, 0]) < 2.4) * (jnp.abs(moved_x[:, 2]) < 0.2)
            return (moved_x, now), (chosen * up, now, (x, odds, up))

        keys = jax.random.split(key, EPISODE)
        return lax.scan(step, (start, jnp.ones(count)), keys)[1]

    def loss(params, key):
        chosen, rewards, seen = played(params, key, episodes)
        to_go = jnp.cumsum(rewards[::-1], axis=0)[::-1]
        gain = lax.stop_gradient(to_go - to_go.mean(axis=1, keepdims=True)) / EPISODE
        return -jnp.mean(jnp.sum(chosen * gain, axis=0)), (lost(rewards), seen)

    def lost(rewards):
        return 1 - rewards.sum(axis=0).mean() / EPISODE

    def distance(seen, params):
        """The mean KL divergence of a policy from the one that played."""
        x, odds, up = seen
        now = nn.log_softmax(jax.vmap(network.apply, (None, 0))(params, x))
        return jnp.sum(up * jnp.sum(jnp.exp(odds) * (odds - now), axis=-1)) / jnp.sum(up)

    def tested(params, state):
        judged = params if average is None else average(state, params)
        return played(judged, test, 32)[1]

    transform = optax.with_extra_args_support(optimizer(schedule))
    start, train, test = jax.random.split(key, 3)
    params = network.init(start)

    def part(carry, x):
        keys, number = x
        *carry, val_loss = carry

        def update(carry, x):
            params, state, kl = carry
            key, fresh = x
            (value, (short, seen)), grads = jax.value_and_grad(loss, has_aux=True)(params, key)
            updates, state = transform.update(
                grads,
                state,
                params,
                value=short,
                grad=grads,
                kl=kl,
                val_loss=val_loss,
                fresh={"val_loss": fresh},
                measurement={"val_loss": number},
            )
            params = optax.apply_updates(params, updates)
            return (params, state, distance(seen, params)), value

        carry, values = lax.scan(update, tuple(carry), (keys, jnp.arange(len(keys)) == 0))
        rewards = tested(*carry[:2])
        return (*carry, lost(rewards)), (values, rewards.sum(axis=0).mean())

    keys = jax.random.split(train, (parts, steps // parts))
    state = transform.init(params)
    begin = (params, state, jnp.zeros([]), lost(tested(params, state)))
    _, (values, returns) = lax.scan(part, begin, (keys, 1 + jnp.arange(parts)))
    return {"loss": values.reshape(-1), "return_curve": returns, "val_return": returns[-1]}


def momentum(rate):
    return optax.sgd(rate, momentum=0.9)


def adamw(rate):
    return optax.adamw(rate, weight_decay=0.01)


def muon(rate):
    return optax.contrib.muon(rate)


def cosine(peak, steps):
    return lrax.warmup_cosine(peak, steps, warmup=steps // 20)


def wsd(peak, steps):
    return lrax.wsd(peak, steps, warmup=steps // 20, cooldown=steps // 5)


def cases():
    """`{name: Case}`: the half by which `find` was made, then the half that was set aside."""
    digits = lrax.tasks.digits()
    images = with_batch_norm()
    text = lrax.tasks.char_lm(
        width=16, layers=1, heads=2, context=16, batch_size=8, characters=200_000
    )
    diabetes = lrax.tasks.diabetes()
    table = cancer()
    tuned, params = fine_tuning()
    return {
        "MLP, momentum, constant": Case(digits, momentum, None, 504, False),
        "MLP, Muon, WSD": Case(digits, muon, wsd, 504, False),
        "CNN, momentum, cosine": Case(images, momentum, cosine, 336, False),
        "text, Adam, cosine": Case(text, optax.adam, cosine, 336, False),
        "text, Muon, WSD": Case(text, muon, wsd, 336, False),
        "diabetes, Adam, constant": Case(diabetes, optax.adam, None, 504, False),
        "cancer, AdamW, cosine": Case(table, adamw, cosine, 504, False),
        "fine-tuning, Lion, WSD": Case(tuned, optax.lion, wsd, 504, False, params),
        "MLP, Adam, WSD": Case(digits, optax.adam, wsd, 504, True),
        "MLP, Lion, cosine": Case(digits, optax.lion, cosine, 504, True),
        "CNN, AdamW, WSD": Case(images, adamw, wsd, 336, True),
        "text, momentum, constant": Case(text, momentum, None, 336, True),
        "diabetes, momentum, cosine": Case(diabetes, momentum, cosine, 504, True),
        "cancer, momentum, constant": Case(table, momentum, None, 504, True),
        "fine-tuning, Adam, cosine": Case(tuned, optax.adam, cosine, 504, True, params),
        "pole, Adam, constant": Case(pole, optax.adam, None, 336, True, None, "val_return"),
    }


def key_of(rate, part=1):
    """The nearest whole number of the lattice, or of every `part`-th of its rates."""
    return int(part * np.round(np.log10(rate) * LATTICE / part))


def rate_of(key):
    return 10.0 ** (np.asarray(key) / LATTICE)


def forecasts(case, halving):
    """`{name: Forecast}`: rules for the first stage in place of a `Halving`."""
    rates = lambda rate: lrax.constant(rate) if case.shape is None else case.shape(rate, case.steps)
    return {
        "Forecast": lrax.Forecast(rates),
        "early Forecast": lrax.Forecast(rates, first=halving.first, share=SHARE),
    }


def file_of(folder, name, kind, count):
    """The file that keeps a record of the combination `name` with `count` seeds."""
    slug = "".join(letter if letter.isalnum() else "_" for letter in name)
    return folder / f"{slug}-{kind}-{count}.npz"


@dataclasses.dataclass(frozen=True)
class Watch:
    """A stop rule that stops nothing. A sweep evaluates its objective where a rule looks."""

    times: tuple[int, ...]

    def looks(self, steps):
        return self.times

    def keep(self, record):
        return record.alive


class Record:
    """The runs of a case that were trained, for some seeds and one horizon.

    Attributes:
      steps: Updates of each run.
      times: `[times]`, after how many updates runs were evaluated.
      scores: `{key: [seeds, times]}`, the objective, lower is better.
      lost: `{key: [seeds]}`, the first update whose loss is not finite, above `steps` if none.
    """

    def __init__(self, case, steps, seeds, often, path, looks=()):
        """Reads the file if it is there.

        Args:
          case: What is trained; with `looks`, no function.
          steps: Updates of each run.
          seeds: The seeds.
          often: Whether runs are evaluated during the training.
          path: The file.
          looks: After how many updates they are evaluated in addition.
        """
        self.case, self.steps, self.seeds, self.path = case, steps, seeds, path
        count = EVALUATIONS if often else 1
        self.times = np.union1d(steps * np.arange(1, count + 1) // count, looks).astype(int)
        self.scores = {}
        self.lost = {}
        if path.exists():
            with np.load(path) as file:
                for key, scores, lost in zip(*(file[n] for n in file.files), strict=True):
                    self.scores[int(key)], self.lost[int(key)] = scores, lost

    def need(self, keys):
        """Trains what is not there."""
        missing = sorted(set(map(int, keys)) - set(self.scores))
        if not missing:
            return
        train = self._function if self.case.task is pole else self._sweep
        curves, values = train(rate_of(missing))
        broken = ~np.isfinite(curves)
        lost = np.where(broken.any(-1), broken.argmax(-1), self.steps + 1)
        lost = np.where(np.isfinite(values[..., -1]), lost, np.minimum(lost, self.steps))
        for i, key in enumerate(missing):
            self.scores[key], self.lost[key] = self.case.sign * values[i], lost[i]
        keys = sorted(self.scores)
        np.savez(
            self.path,
            keys=keys,
            scores=[self.scores[key] for key in keys],
            lost=[self.lost[key] for key in keys],
        )

    def _sweep(self, rates):
        """Losses `[rates, seeds, steps]`, and the objective `[rates, seeds, times]`."""
        objective = self.case.objective
        found = lrax.sweep(
            self.case.task,
            self.case.made(self.steps),
            rates,
            steps=self.steps,
            seeds=self.seeds,
            objective=objective,
            params=self.case.params,
            eval_every=self.steps,  # at the end
            stop=Watch(tuple(self.times[:-1])),
            progress=False,
        )
        # A sweep also evaluates where it stops diverged runs, and no more where all have diverged.
        values = np.full((*found.status.shape, len(self.times)), np.nan)
        for i, at in enumerate(self.times):
            if at in found.evaluated_at:
                column = list(found.evaluated_at).index(at)
                values[..., i] = found.evaluations[objective][..., column]
        return found.losses, values

    def _function(self, rates):
        optimizer, steps = self.case.made(self.steps), self.steps
        found = lrax.sweep_function(
            lambda hyperparams, key: pole(optimizer, hyperparams["rate"], key, steps),
            {"rate": rates},
            seeds=self.seeds,
            objective="val_return",
            progress=False,
        )
        return found.curves["loss"], found.curves["return_curve"][..., -len(self.times) :]

    def means(self, keys):
        """The mean objective at the end, infinite where a run diverged; `[rates]`."""
        self.need(keys)
        return np.array([self.ends(key).mean() for key in keys])

    def ends(self, key):
        """The objective at the end, infinite where a run diverged; `[seeds]`."""
        whole = self.lost[int(key)] > self.steps
        return np.where(whole, self.scores[int(key)][:, -1].astype(np.float64), np.inf)


def player(record, chosen):
    """A trainer for `search`: it reads runs with the seeds `chosen` from a record.

    Stop rules and diverged runs are treated as a sweep treats them.
    """
    steps = record.steps

    def train(grid, seeds, stop):
        ((name, rates),) = grid.items()
        keys = [key_of(rate) for rate in rates]
        record.need(keys)
        columns = [chosen[seed] for seed in seeds]
        scores = np.stack([record.scores[key][columns] for key in keys])
        lost = np.stack([record.lost[key][columns] for key in keys])
        grid = {name: np.asarray(rates, np.float64)}
        place = lambda done: int(np.flatnonzero(record.times == done)[0])
        schedules = None
        if hasattr(stop, "rates"):
            every = [stop.rates(**{name: rate})(np.arange(steps)) for rate in rates]
            schedules = np.stack(every).astype(np.float64)
        curves = np.where(np.arange(steps) < lost[..., None], 0.0, np.nan)
        alive = np.ones(len(keys), bool)
        stopped_at = np.full(len(keys), steps)
        asked = () if isinstance(stop, str) else stop.looks(steps)
        eighths = [steps * i // 8 for i in range(1, 8)] if steps >= 256 else []
        for done in sorted({*asked, *eighths}):
            leaving = alive & np.all(lost <= done, axis=1)
            if done in asked:
                before = [place(look) for look in asked if look <= done]
                evidence = Evidence(
                    losses=curves[..., :done],
                    objective=scores[..., before],
                    hyperparams=grid,
                    monitors={},
                    done=done,
                    steps=steps,
                    alive=alive & ~leaving,
                    look=asked.index(done),
                    rates=schedules,
                    objective_at=record.times[before],
                )
                leaving |= alive & ~leaving & ~stop.keep(evidence)
            stopped_at[leaving] = done
            curves[leaving, :, done:] = np.nan
            alive &= ~leaving
        status = np.where((stopped_at < steps)[:, None], "pruned", "done")
        status = np.where(lost <= stopped_at[:, None], "diverged", status)
        values = np.stack([row[..., place(at)] for row, at in zip(scores, stopped_at, strict=True)])
        return SweepResult(
            hyperparams=grid,
            seeds=[str(seed) for seed in seeds],
            losses=curves,
            steps=steps,
            metrics={"objective": values.astype(np.float64)},
            status=status,
            stopped_at=stopped_at,
            causes=np.full(status.shape, ""),
            objective="objective",
            mode="min",
            info={},
        )

    return train


class Truth(NamedTuple):
    key: float  # of the best rate
    value: float  # the mean objective there
    low: float  # keys: of the rates within 1 % of the best mean
    high: float
    dense: list[int]  # the keys of the dense sweep


def truth(record):
    """The best rate by all seeds: dense where it matters, and denser beside a cliff."""
    half, eighth = LATTICE // 2, LATTICE // 8
    low, high = -5 * LATTICE, LATTICE
    while True:
        coarse = list(range(low, high + 1, half))
        means = record.means(coarse)
        best = coarse[int(np.argmin(means))]
        if best == high and high < 4 * LATTICE:
            high += LATTICE
        elif best == low and low > -8 * LATTICE:
            low -= LATTICE
        else:
            break
    dense = sorted({*coarse, *range(best - LATTICE, best + LATTICE + 1, eighth)})
    best = dense[int(np.argmin(record.means(dense)))]
    fine = sorted({*dense, *range(best - eighth, best + eighth + 1, eighth // 3)})
    means = record.means(fine)
    best = int(np.argmin(means))
    worse = np.flatnonzero((means > 2 * abs(means[best])) & (np.array(fine) > fine[best]))
    if len(worse) and fine[worse[0]] - fine[best] <= half // 2:
        # The last rate before the cliff may be the best one.
        fine = sorted({*fine, *range(fine[best], fine[worse[0]], eighth // 6)})
    means, keys = record.means(fine), np.array(fine)
    best = int(np.argmin(means))
    within = keys[means <= means[best] + 0.01 * abs(means[best])]
    place, value = _vertex(keys, means)
    return Truth(place, value, within.min(), within.max(), dense)


def _vertex(keys, means):
    """The vertex of a parabola around the best rate, or that rate beside a cliff or an edge.

    The value there is the parabola's: the least of many noisy means would be too low.
    """
    best = int(np.argmin(means))
    x = keys - keys[best]
    # Where the curve rises by this share within a quarter of a decade, it is no parabola there.
    near = (np.abs(x) <= LATTICE // 4) & (means <= means[best] + 0.2 * abs(means[best]))
    x, y = x[near], means[near]
    if np.sum(x < 0) < 2 or np.sum(x > 0) < 2:
        return float(keys[best]), means[best]
    curve = np.polyfit(x, y, 2)
    edge = LATTICE / 8
    move = np.clip(-curve[1] / (2 * curve[0]), -edge, edge) if curve[0] > 0 else 0.0
    return float(keys[best] + move), float(np.polyval(curve, move))


class Answer(NamedTuple):
    """What a finder said in one draw."""

    key: int | None  # None where it refuses
    runs: float
    certain: bool = True
    interval: tuple[float, float] | None = None
    why: str = ""
    good: tuple[float, float] | None = None  # rates
    sure: tuple[float, float] | None = None  # the same with confidence
    first: float = np.nan  # the cost of the first stage
    kept: bool = False  # whether the first stage trained the rate to its end that ends best there


class Row(NamedTuple):
    """A finder on a case; an entry for each draw that has a rate."""

    octaves: np.ndarray
    regret: np.ndarray  # infinite where a run of the truth diverged
    runs: np.ndarray
    refused: int
    certain: np.ndarray
    held: np.ndarray  # whether the interval holds the best rate
    width: np.ndarray  # of the interval, in octaves
    dense: np.ndarray  # the regret of the dense sweep with the same seeds
    good: np.ndarray  # the worst regret of a good rate, NaN without good rates
    sure: np.ndarray  # that of the rates that are good with confidence
    first: np.ndarray
    kept: np.ndarray


class Bench:
    """The records of a case, and the answers of the finders."""

    def __init__(self, name, case, folder, seeds, true_seeds, forecast):
        self.case, self.folder, self.name = case, folder, name
        self.seeds = list(range(FIRST, FIRST + seeds))
        path = lambda kind, count: file_of(folder, name, kind, count)
        steps = case.steps
        self.true = Record(case, steps, list(range(true_seeds)), False, path("true", true_seeds))
        # `{runs: {name: rule}}`; the pole is no task, and a forecast may look after any update.
        self.rules = {}
        if forecast and case.task is not pole:
            for runs in RUNS[1:]:
                self.rules[runs] = forecasts(case, self.plan(runs).stop)
        rules = [rule for some in self.rules.values() for rule in some.values()]
        looks = sorted({look for rule in rules for look in rule.looks(steps)})
        kind = "looks" if looks else "own"
        self.own = Record(case, steps, self.seeds, True, path(kind, seeds), looks)
        short = planned(steps, runs=RUNS[0], seeds=SEEDS).horizon
        self.short = Record(case, short, self.seeds, True, path("short", seeds))
        self.ramp_path = path("ramp", seeds)
        self.truth = truth(self.true)
        quarter = LATTICE // 4
        self.own.need(self.truth.dense)
        self.short.need(range(-5 * LATTICE, LATTICE + 1, LATTICE // 2))
        near = range(-5 * LATTICE, LATTICE + 1, quarter)
        self.short.need(key for key in near if abs(key - self.truth.key) < LATTICE)

    def ramp(self):
        """The range test with all seeds, a `RangeTest`."""
        if self.ramp_path.exists():
            with np.load(self.ramp_path) as file:
                parts = [file[name] for name in ("rates", "losses", "diverged_at")]
        else:
            found = lrax.range_test(
                self.case.task,
                self.case.optimizer,
                steps=RAMP,
                seeds=self.seeds,
                params=self.case.params,
                progress=False,
            )
            parts = found.rates, found.losses, found.diverged_at
            np.savez(
                self.ramp_path, **dict(zip(("rates", "losses", "diverged_at"), parts, strict=True))
            )
        return RangeTest(*parts, seeds=list(map(str, self.seeds)))

    def suggested(self, method, draws):
        """The rates that a range test suggests, with the first seed of each draw."""
        if self.case.task is pole:
            return []  # it takes a task
        whole = self.ramp()
        answers = []
        for chosen in draws:
            one = chosen[0]
            test = RangeTest(
                whole.rates, whole.losses[[one]], whole.diverged_at[[one]], [whole.seeds[one]]
            )
            try:
                key = key_of(test.suggest(method), 2)
            except ValueError:
                key = None
            answers.append(Answer(key, RAMP / self.case.steps))
        return answers

    def plan(self, runs):
        return planned(self.case.steps, runs=runs, seeds=SEEDS, schedule=self.case.shape)

    def found(self, runs, draws, rule=None):
        """What `find` says; with a `rule`, if it is that of the first stage."""
        plan = self.plan(runs)
        if rule is not None:
            plan = dataclasses.replace(plan, stop=rule)
        record = self.own if plan.horizon == self.case.steps else self.short
        answers = []
        for chosen in draws:
            train = player(record, chosen)
            first = train({"rate": plan.grid}, range(plan.several), plan.stop)
            ends = [record.ends(key_of(rate))[chosen[: plan.several]].mean() for rate in plan.grid]
            found = search(train, plan, "rate", lambda rate: {})
            with np.errstate(divide="ignore"):
                interval = tuple(LATTICE * np.log10(found.interval))
            answers.append(
                Answer(
                    key_of(found.rate),
                    found.runs,
                    found.certain,
                    interval,
                    found.why,
                    found.good,
                    found.surely_good,
                    first.stopped_at.sum() * plan.several / self.case.steps,
                    bool(first.stopped_at[np.argmin(ends)] == first.steps),
                )
            )
        return answers

    def dense(self, draws):
        """What the dense sweep with the same seeds says."""
        keys = self.truth.dense
        ends = np.stack([self.own.ends(key) for key in keys])
        cost = len(keys) * SEEDS
        return [
            Answer(keys[int(np.argmin(ends[:, chosen].mean(axis=1)))], cost) for chosen in draws
        ]

    def worst(self, rates):
        """The highest regret between two rates, where the truth is interpolated; NaN for None."""
        if rates is None:
            return np.nan
        keys = np.array(sorted(self.true.scores))
        means = self.true.means(keys)
        places = np.linspace(*(LATTICE * np.log10(rates)), 9)
        value = np.interp(places, keys[np.isfinite(means)], means[np.isfinite(means)]).max()
        return (value - self.truth.value) / abs(self.truth.value)

    def judged(self, answers, dense):
        """The answers of a finder beside the truth."""
        told = [i for i, answer in enumerate(answers) if answer.key is not None]
        kept = [answers[i] for i in told]
        keys = [answer.key for answer in kept]
        octave = LATTICE * np.log10(2)
        best = self.truth.key
        intervals = np.array([answer.interval or (np.nan, np.nan) for answer in kept])
        low, high = intervals.reshape(-1, 2).T
        regret = lambda keys: (self.true.means(keys) - self.truth.value) / abs(self.truth.value)
        return Row(
            octaves=np.abs(np.array(keys) - best) / octave,
            regret=regret(keys),
            runs=np.array([answer.runs for answer in kept]),
            refused=len(answers) - len(kept),
            certain=np.array([answer.certain for answer in kept]),
            # Keys are rounded, so the interval may miss the best rate by rounding alone.
            held=(low - 0.5 <= best) & (best <= high + 0.5),
            width=(high - low) / octave,
            dense=regret([dense[i].key for i in told]),
            good=np.array([self.worst(answer.good) for answer in kept]),
            sure=np.array([self.worst(answer.sure) for answer in kept]),
            first=np.array([answer.first for answer in kept]),
            kept=np.array([answer.kept for answer in kept]),
        )


def drawn(count, seeds):
    """Which of the finders' seeds each draw has."""
    generator = np.random.default_rng(0)
    return [list(generator.choice(seeds, SEEDS, replace=False)) for _ in range(count)]


def measured(name, case, folder, options):
    """`{finder: Row}`, and the truth."""
    bench = Bench(name, case, folder, options.seeds, options.truth, options.forecast)
    draws = drawn(options.draws, options.seeds)
    dense = bench.dense(draws)
    answers = {"dense sweep": dense}
    for runs in RUNS:
        answers[f"find, {runs} runs"] = bench.found(runs, draws)
        for rule_name, rule in bench.rules.get(runs, {}).items():
            answers[f"find, {runs} runs, {rule_name}"] = bench.found(runs, draws, rule)
    if not options.find:
        answers |= {method: bench.suggested(method, draws) for method in METHODS}
    answers = {finder: found for finder, found in answers.items() if found}
    # All rates in one sweep.
    keys = {answer.key for found in answers.values() for answer in found}
    bench.true.need(keys - {None})
    rows = {finder: bench.judged(found, dense) for finder, found in answers.items()}
    if options.why:
        for found in answers["find, 15 runs"]:
            print(name, found, flush=True)
    return rows, bench.truth


def pooled(rows):
    """The rows of a finder on several cases as one."""
    join = lambda field: np.concatenate([getattr(row, field) for row in rows])
    fields = {field: join(field) for field in Row._fields if field != "refused"}
    return Row(**fields, refused=sum(row.refused for row in rows))


def percent(value):
    return "diverged" if np.isinf(value) else f"{100 * value:.{1 if value < 0.1 else 0}f}%"


def words(row):
    """Cells of a table."""
    middle = lambda values: float(np.median(values)) if len(values) else np.nan
    top = lambda values: float(np.max(values)) if len(values) else np.nan
    cells = [
        f"{middle(row.octaves):.2f} / {top(row.octaves):.1f}",
        f"{percent(middle(row.regret))} / {percent(top(row.regret))}",
        f"{row.runs.mean():.1f}" if len(row.runs) else "",
    ]
    if len(row.width) and not np.all(np.isnan(row.width)):
        cells += [
            f"{row.held.mean():.0%}, {middle(row.width):.2f}",
            f"{1 - row.certain.mean():.0%}",
        ]
    else:
        cells += ["", f"{row.refused / (row.refused + len(row.runs)):.0%}"]
    return cells


def good_words(row):
    """Cells of a table of good rates."""
    there = ~np.isnan(row.sure)
    return [
        percent(np.median(row.good)),
        f"{np.mean(row.good <= NEAR):.0%}",
        f"{np.mean(~there):.0%}",
        percent(np.median(row.sure[there])) if there.any() else "",
        f"{np.mean(row.sure[there] <= 0.01):.0%}, {np.mean(row.sure[there] <= NEAR):.0%}"
        if there.any()
        else "",
    ]


def compared(rows, others):
    """Cells of a table: a search beside another one on the same draws of the same combinations.

    The last cell is the mean difference in regret, in points of percent, and its standard error
    over combinations, because the draws of a combination share seeds.

    Args:
      rows: A `Row` for each combination.
      others: Those of the other search.
    """
    pairs = [
        np.minimum(row.regret, CAP) - np.minimum(other.regret, CAP)
        for row, other in zip(rows, others, strict=True)
    ]
    every, means = np.concatenate(pairs), np.array([pair.mean() for pair in pairs])
    error = means.std(ddof=1) / len(means) ** 0.5 if len(means) > 1 else np.nan
    row = pooled(rows)
    return [
        f"{row.first.mean():.1f}",
        f"{row.kept.mean():.0%}",
        f"{np.sum(every < -APART)} / {np.sum(np.abs(every) <= APART)} / {np.sum(every > APART)}",
        f"{100 * means.mean():+.1f} ± {100 * error:.1f}",
    ]


HEAD = "octaves | regret | runs | interval holds, width | cannot tell"
GOOD = "worst good rate | within 3 % | sure: none | its worst rate | within 1 %, 3 %"
COMPARED = "first stage | keeps the best | better / same / worse | difference"


def main(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="*", help="names of combinations")
    parser.add_argument("--half", choices=("first", "held", "both"), default="both")
    parser.add_argument("--draws", type=int, default=20, help="draws of seeds for each")
    parser.add_argument("--seeds", type=int, default=24, help="seeds of the finders")
    parser.add_argument("--truth", type=int, default=12, help="seeds of the truth")
    parser.add_argument("--find", action="store_true", help="leave out the range tests")
    parser.add_argument("--forecast", action="store_true", help="also `find` with forecasts")
    parser.add_argument("--why", action="store_true", help="print each answer of 15 runs")
    parser.add_argument("--quick", action="store_true", help="5 draws, 6 seeds, 4 of the truth")
    parser.add_argument("--cache", type=Path, help="a folder that keeps the runs")
    options = parser.parse_args(arguments)
    if options.quick:
        options.draws, options.seeds, options.truth = 5, 6, 4
    known = cases()
    names = options.only or [
        name
        for name, case in known.items()
        if options.half == "both" or case.held == (options.half == "held")
    ]
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        if options.cache is not None:
            options.cache.mkdir(parents=True, exist_ok=True)
        print(f"| combination | best, octaves within 1 % | finder | {HEAD} |")
        for name in names:
            begin = time.process_time()
            rows, true = measured(name, known[name], options.cache or Path(folder), options)
            found[name] = rows
            star = " *" if known[name].held else ""
            span = (true.high - true.low) / LATTICE / np.log10(2)
            facts = f"{name}{star} | {rate_of(true.key):.2g}, {span:.1f}"
            for finder, row in rows.items():
                print(f"| {facts} | {finder} | " + " | ".join(words(row)) + " |")
                facts = " | "
            print(f"| | | {time.process_time() - begin:.0f} s of the processor |", flush=True)
    for held in (False, True):
        half = [name for name in found if known[name].held == held]
        if not half:
            continue
        print(f"\n{'set aside' if held else 'the half by which `find` was made'}")
        print(f"| finder | {HEAD} |")
        for finder in found[half[0]]:
            row = pooled([found[name][finder] for name in half if finder in found[name]])
            print(f"| {finder} | " + " | ".join(words(row)) + " |")
        print(f"\n| finder | {GOOD} |")
        for finder in (f"find, {runs} runs" for runs in RUNS):
            row = pooled([found[name][finder] for name in half if finder in found[name]])
            print(f"| {finder} | " + " | ".join(good_words(row)) + " |")
        if options.forecast:
            print(f"\n| finder | {COMPARED} |")
            for finder in found[half[0]]:
                plain = ", ".join(finder.split(", ")[:2])
                if plain not in (f"find, {runs} runs" for runs in RUNS[1:]):
                    continue
                some = [found[name] for name in half if finder in found[name]]
                cells = compared([row[finder] for row in some], [row[plain] for row in some])
                print(f"| {finder} | " + " | ".join(cells) + " |")
    return found


if __name__ == "__main__":
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        main()
