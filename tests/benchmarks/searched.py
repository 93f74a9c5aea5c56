"""A schedule that was searched, beside the tuned cosine and the tuned linear decay:
`python -m tests.benchmarks.searched`.

The task is the small transformer on text, by Adam. All losses are held-out ones at the end of a run.

First the laws of loss curves: each is fitted to three schedules and predicts others, beside guesses
that need no law. Then the search, in less than 100 runs. From a few records, the laws, the bound and
the gradient norms each make a schedule. These compete with points of a family, a hold with a decay
after it, and in rungs the best few go on to more seeds. The two references are tuned, peak and
warmup, by more runs than that. At last all are trained with seeds that chose nothing, and compared
seed by seed.
"""

import argparse
import itertools
import time
import warnings
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
import optax
from jax import numpy as jnp
from scipy import stats

import lrax
from lrax import theory

from . import laws
from .sweeps import machine


class Size(NamedTuple):
    """How large all of it is."""

    steps: int = 1000
    warmup: int = 100  # of records
    every: int = 25  # updates between two evaluations of a record
    first: int = 200  # updates that the laws leave out
    laws: tuple[str, ...] = laws.LAWS
    fitted: int = 6  # seeds of the comparison of laws
    few: int = 3  # seeds of the records for the search
    points: int = 22  # of the family, which with ten others fill the first rung
    rungs: tuple[tuple[int, int], ...] = ((32, 1), (10, 3), (4, 8))  # points, and seeds so far
    peaks: tuple[float, ...] = tuple(2.0 ** np.arange(-7, -2))  # of the first records
    tuned: tuple[float, ...] = tuple(2.0 ** np.arange(-6, -2.5, 0.5))  # of the references
    warmups: tuple[float, ...] = (0.05, 0.1, 0.2, 0.3)  # of the references, parts of the steps
    tuning: int = 4  # seeds of the references
    held_out: int = 40  # seeds
    width: int = 16  # of the transformer
    execution: str = "auto"


FULL = Size()
SMOKE = Size(
    steps=40,
    warmup=4,
    every=2,
    first=8,
    laws=("annealing",),
    fitted=2,
    few=2,
    points=4,
    rungs=((10, 1), (2, 2)),
    peaks=(0.01, 0.03),
    tuned=(0.03,),
    warmups=(0.1,),
    tuning=2,
    held_out=3,
    width=8,
    execution="loop",  # one program for all numbers of lanes
)
PEAK = 2.0**-5  # of the comparison of laws
FAR = 1000  # the first held-out seed


class Lane(NamedTuple):
    """A schedule to train with: its kind, its numbers in words, its rates."""

    kind: str
    words: str
    rates: np.ndarray


def hold(peak, steps, warmup, part, power):
    """A warmup, the peak, and a decay (1 - t)^power to zero over the last part of the rest."""
    decay = max(round(part * (steps - warmup)), 1)
    after = lrax.delay(lrax.polynomial(peak, 0.0, decay, power), steps - warmup - decay, peak)
    return lrax.warmup(after, warmup)


# For each name: the schedule by its peak, its steps and its warmup.
GIVEN: dict[str, Callable[..., lrax.Schedule]] = {
    "constant": lambda peak, steps, warmup: lrax.warmup_constant(peak, warmup),
    "cosine": lrax.warmup_cosine,
    "drop": lambda peak, steps, warmup: lrax.warmup(
        lrax.multistep(peak, [steps // 2], 0.2), warmup
    ),
}
UNSEEN: dict[str, Callable[..., lrax.Schedule]] = {
    "linear": lrax.warmup_linear,
    "late drop": lambda peak, steps, warmup: lrax.warmup(
        lrax.multistep(peak, [steps * 3 // 4], 0.1), warmup
    ),
    "WSD, 1/5": lambda peak, steps, warmup: hold(peak, steps, warmup, 0.2, 1.0),
    "WSD, 1/2": lambda peak, steps, warmup: hold(peak, steps, warmup, 0.5, 1.0),
    "square": lambda peak, steps, warmup: hold(peak, steps, warmup, 1.0, 2.0),
    "cosine, half the peak": lambda peak, steps, warmup: lrax.warmup_cosine(
        peak / 2, steps, warmup
    ),
}


class Trainer:
    """Trains lanes, and counts the runs."""

    def __init__(self, size):
        self.size = size
        self.task = lrax.tasks.char_lm(
            width=size.width, layers=1, heads=2, context=32, batch_size=8
        )
        self.runs = 0

    def __call__(self, rates, seeds, **options):
        self.runs += len(rates) * len(seeds)
        # As tables, all schedules are one formula, and all sweeps share a program.
        return lrax.sweep(
            self.task,
            optax.adam,
            {"learning_rate": [lrax.from_values(each) for each in rates]},
            steps=self.size.steps,
            seeds=list(seeds),
            objective="val_loss",
            progress=False,
            execution=self.size.execution,
            **options,
        )

    def rates(self, schedule, peak, warmup=None):
        steps = self.size.steps
        made = schedule(peak, steps, self.size.warmup if warmup is None else warmup)
        return np.asarray(made.values(steps), np.float64)

    def recorded(self, rates, seeds, **options):
        """The sweep, the updates before each evaluation, and the losses, the mean over seeds."""
        found = self(rates, seeds, eval_every=self.size.every, **options)
        losses = found.evaluations["val_loss"].mean(axis=1)
        kept = found.evaluated_at > self.size.first
        return found, found.evaluated_at[kept] - 1, losses[:, kept]


def fitted(law, rates, at, losses):
    return theory.fit_law(law, list(rates), list(losses), steps=[at] * len(losses))


def compare_laws(size):
    """The errors of the predicted ends of unseen schedules, for each law and each guess."""
    trainer = Trainer(size)
    rates = [trainer.rates(each, PEAK) for each in (GIVEN | UNSEEN).values()]
    found, at, losses = trainer.recorded(rates, range(size.fitted))
    given = len(GIVEN)
    ends = losses[:, -1]
    noise = found.scores.std(axis=1, ddof=1) / size.fitted**0.5
    print(f"\nlaws: ends by {trainer.runs} runs, with a standard error of {noise.mean():.4f}")
    for name, end in zip(GIVEN | UNSEEN, ends, strict=True):
        print(f"  {name:24}{end:.4f}")
    told = {}
    for law in size.laws:
        one = fitted(law, rates[:given], at, losses[:given])
        told[f"law, {law}"] = [float(one.predict(each)[-1]) for each in rates[given:]]
        low, high = one.interval
        inside = ends[given:] / told[f"law, {law}"]
        print(f"{law}: r2 {one.r2:.4f}, interval {low:.3f} to {high:.3f}, which holds", end=" ")
        print(f"{np.sum((low <= inside) & (inside <= high))} of {len(inside)} ends")
    distance = np.abs(np.array(rates[given:])[:, None] - np.array(rates[:given])).mean(axis=2)
    told["the nearest given schedule's end"] = ends[np.argmin(distance, axis=1)]
    told["the constant rate's end"] = np.full(len(UNSEEN), ends[list(GIVEN).index("constant")])
    told["the mean of the given ends"] = np.full(len(UNSEEN), ends[:given].mean())
    # It has seen three quarters of the curve that it predicts.
    third = (at >= size.steps / 2) & (at < size.steps * 3 / 4)
    lines = np.polyfit(at[third], losses[given:, third].T, 1)
    told["a line through its third quarter"] = np.polyval(lines, at[-1])
    errors = {}
    print("| predicted by | mean error | largest | pairs in the right order |\n|---|---|---|---|")
    for name, values in told.items():
        errors[name] = np.abs(np.asarray(values) - ends[given:])
        pairs = list(itertools.combinations(range(len(UNSEEN)), 2))
        gaps = [(values[a] - values[b]) * (ends[given + a] - ends[given + b]) for a, b in pairs]
        mean, most = errors[name].mean(), errors[name].max()
        print(
            f"| {name} | {mean:.4f} | {most:.4f} | {np.sum(np.array(gaps) > 0)} of {len(pairs)} |"
        )
    return errors


def absolute(step):
    """The sum of the gradient's absolute values, from which `refined_schedule` is made for Adam."""
    return optax.tree.norm(step.grads, ord=1)


def theoretical(trainer):
    """What the records make: a schedule with a peak of 1 for each law, the bound and the norms.

    Also the best peak of the linear decay, at which the records for the laws are made.
    """
    size = trainer.size
    seeds = range(size.few)
    norms = {"l1": absolute, "l2": lrax.monitors.grad_norm}
    line = [trainer.rates(lrax.warmup_linear, peak) for peak in size.peaks]
    swept = trainer(line, seeds, monitors=norms)
    means = swept.scores.mean(axis=1)
    best = int(np.argmin(means))
    peak = size.peaks[best]
    print(f"linear decay: {dict(zip(np.round(size.peaks, 4), means.round(4), strict=True))}")
    l1, l2 = (np.median(swept.monitors[name][best], axis=0) for name in norms)
    made = {"refined": np.asarray(theory.refined_schedule(l1, norm="l1"))}
    bound = lambda rates: theory.best_base_rate(rates, grad_norm=jnp.asarray(l2, rates.dtype))[1]
    made["bound"] = theory.optimize_schedule(bound, line[best], size.steps)
    rates = [trainer.rates(each, peak) for each in GIVEN.values()]
    _, at, losses = trainer.recorded(rates, seeds)
    for law in size.laws:
        one = fitted(law, rates, at, losses)
        made[f"law, {law}"] = theory.optimize_schedule(one, rates[0], size.steps)
    for name, schedule in made.items():
        values = schedule if isinstance(schedule, np.ndarray) else schedule.values(size.steps)
        made[name] = np.asarray(values, np.float64)
        above = np.flatnonzero(made[name] > made[name].max() / 2) / size.steps
        print(
            f"{name}: peak {made[name].max():.4g} at {made[name].argmax() / size.steps:.2f} of the"
            f" run, half of it from {above[0]:.2f} to {above[-1]:.2f}, end {made[name][-1]:.2g}"
        )
        made[name] /= made[name].max()
    return made, peak


def candidates(trainer):
    """Each theoretical schedule at two peaks, and points of the family."""
    size = trainer.size
    made, peak = theoretical(trainer)
    lanes = [
        Lane(name, f"peak {part * peak:.4g}", part * peak * shape)
        for name, shape in made.items()
        for part in (1.0, 0.5)
    ]
    # From a low one to a high one, evenly in the logarithm.
    ranges = {"peak": (peak / 4, peak), "warmup": (0.025, 0.3), "part": (0.1, 1.0)}
    ranges["power"] = (0.5, 2.0)
    low, high = np.log(list(ranges.values())).T
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that the number is no power of 2
        drawn = stats.qmc.Sobol(len(ranges), rng=0).random(size.points)
    for values in np.exp(low + (high - low) * drawn):
        numbers = dict(zip(ranges, values.tolist(), strict=True))
        words = ", ".join(f"{name} {value:.3g}" for name, value in numbers.items())
        numbers["warmup"] = max(round(numbers["warmup"] * size.steps), 1)
        rates = hold(steps=size.steps, **numbers).values(size.steps)
        lanes.append(Lane("hold and decay", words, np.asarray(rates, np.float64)))
    return lanes


def search(size):
    """The best lane of each kind, the best of all first, and the number of runs."""
    trainer = Trainer(size)
    lanes = candidates(trainer)
    scores = np.full((len(lanes), size.rungs[-1][1]), np.nan)
    order = np.arange(len(lanes))
    ranking = []
    before = 0
    for points, seeds in size.rungs:
        order, dropped = order[:points], order[points:]
        ranking = [*dropped, *ranking]
        found = trainer([lanes[i].rates for i in order], range(before, seeds))
        scores[order, before:seeds] = found.scores
        order = order[np.argsort(scores[order, :seeds].mean(axis=1))]
        before = seeds
    ranking = [*order, *ranking]
    print(f"\nthe search: {trainer.runs} runs; the means over their seeds, the best of each first")
    best = {}
    for i in ranking:
        lane = lanes[i]
        seen = scores[i][np.isfinite(scores[i])]
        print(f"  {lane.kind:18}{seen.mean():.4f}, {len(seen)} seeds: {lane.words}")
        best.setdefault(lane.kind, lane)
    return list(best.values()), trainer.runs


def reference(size, name, schedule):
    """A decay with the best of all peaks and warmups, and the number of runs."""
    trainer = Trainer(size)
    pairs = list(itertools.product(size.tuned, size.warmups))
    rates = [trainer.rates(schedule, peak, round(part * size.steps)) for peak, part in pairs]
    means = trainer(rates, range(size.tuning)).scores.mean(axis=1)
    best = int(np.argmin(means))
    peak, part = pairs[best]
    words = f"peak {peak:.4g}, warmup {part}"
    if len(size.tuned) > 1:
        edges = {size.tuned[0], size.tuned[-1], size.warmups[0], size.warmups[-1]}
        words += " (at the edge of the grid)" if {peak, part} & edges else ""
    print(f"{name}: {trainer.runs} runs; {means[best]:.4f} at {words}")
    return Lane(name, words, rates[best]), trainer.runs


def compare_schedules(size):
    """Held-out scores `[lanes, seeds]` by kind, and p-values of the searched one's gains."""
    lanes, runs = search(size)
    pairs = [
        reference(size, "tuned cosine", lrax.warmup_cosine),
        reference(size, "tuned linear", lrax.warmup_linear),
    ]
    assert all(runs <= more for _, more in pairs) or size is SMOKE
    lanes += [lane for lane, _ in pairs]
    seeds = range(FAR, FAR + size.held_out)
    scores = Trainer(size)([lane.rates for lane in lanes], seeds).scores
    print(f"\n{size.held_out} held-out seeds; the searched schedule is the first one")
    print("| schedule | loss | the searched one's gain | 95 % of the gain | p | better with |")
    print("|---|---|---|---|---|---|")
    p_values = {}
    for lane, row in zip(lanes, scores, strict=True):
        line = f"| {lane.kind}: {lane.words} | {row.mean():.4f} |"
        if lane is lanes[0]:
            print(f"{line} | | | |")
            continue
        gains = row - scores[0]
        test = stats.ttest_1samp(gains, 0.0)
        low, high = test.confidence_interval()
        p_values[lane.kind] = float(test.pvalue)
        print(
            f"{line} {gains.mean():+.4f} | {low:+.4f} to {high:+.4f} | {test.pvalue:.2g} |"
            f" {np.sum(gains > 0)} of {len(gains)} |"
        )
    return {lane.kind: row for lane, row in zip(lanes, scores, strict=True)}, p_values, runs


def main(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--smoke", action="store_true", help="a tiny size, for tests")
    parser.add_argument("--only", choices=("laws", "search"), help="one of the two parts")
    options = parser.parse_args(arguments)
    size = SMOKE if options.smoke else FULL
    warnings.filterwarnings("ignore", message="cloud_tpu_init")
    machine(with_torch=False)
    begin = time.process_time()
    errors = compare_laws(size) if options.only != "search" else None
    compared = compare_schedules(size) if options.only != "laws" else None
    print(f"{time.process_time() - begin:.0f} s of the processor, on {jax.default_backend()}")
    return errors, compared


if __name__ == "__main__":
    main()
