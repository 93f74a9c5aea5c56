"""How often intervals hold the truth, and how wide they are: `python -m tests.benchmarks.intervals`.

Each task is swept with many seeds on a grid of 12 rates to a decade. The truth is the vertex of a
parabola through the five points around the best mean of all seeds. Draws of 2 to 10 of the seeds,
on every third rate, play the user's sweep. A rate of which more than 2 % of the lanes diverge is
lost; of others the diverged lanes are left out of the truth, and only there.

A curve counts as flat if the rates within 1 % of the best mean reach over more than an octave.
"""

import argparse
import time
import warnings
from typing import NamedTuple

import jax
import numpy as np
import optax
from jax import numpy as jnp

import lrax
from lrax.sweeps import statistics
from lrax.sweeps.optimum import optimum

PER_DECADE = 12
DECADES = 2.5
STEP = 3  # the user's grid has every third rate
SEEDS = (2, 3, 5, 10)
LOST = 0.02
HESSIAN = np.geomspace(0.05, 1.0, 16).astype(np.float32)


class Case(NamedTuple):
    task: lrax.Task
    optimizer: object
    low: float  # the least rate
    steps: int
    seeds: int
    options: dict
    design: bool  # whether the method was designed on it


def quadratic():
    """A quadratic whose gradients have as much noise as its Hessian has curvature."""
    return lrax.Task(
        init=lambda key: jnp.ones(16),
        loss=lambda params, noise: jnp.sum(
            HESSIAN * params**2 / 2 + jnp.sqrt(HESSIAN) * params * noise
        ),
        batch=lambda step, key: jax.random.normal(key, (16,)),
        evaluate=lambda params: {"risk": jnp.sum(HESSIAN * params**2) / 2},
    )


def annealed(optimizer, steps):
    return lambda learning_rate: optimizer(
        lrax.warmup_cosine(learning_rate, steps=steps, warmup=max(steps // 20, 1))
    )


def cases(seeds):
    """`{name: Case}`, all of the benchmark's tasks."""
    momentum = lambda rate: optax.sgd(rate, 0.9)
    digits = lrax.tasks.digits
    diabetes = lrax.tasks.diabetes
    text = lrax.tasks.char_lm(width=8, layers=1, heads=2, context=8, batch_size=8)
    linear = diabetes(widths=(), batch_size=331)
    loss = {"objective": "val_loss"}
    accuracy = {"objective": "val_accuracy", "mode": "max"}
    risk = {"objective": "risk", "mode": "min"}
    new = lambda task, make, low, steps, options, design, many=1: Case(
        task, make, low, steps, many * seeds, options, design
    )
    of = annealed
    return {
        "digits, Adam": new(digits(), of(optax.adam, 200), 1e-3, 200, loss, True),
        "digits, momentum": new(digits(), of(momentum, 200), 5e-3, 200, {}, True),
        "text, Adam": new(text, of(optax.adam, 100), 1e-3, 100, loss, True),
        "diabetes, SGD": new(diabetes(), optax.sgd, 2e-4, 200, loss, True),
        "noisy quadratic, SGD": new(quadratic(), optax.sgd, 5e-3, 100, risk, True),
        "digits, Lion": new(digits(), of(optax.lion, 200), 1e-4, 200, loss, True),
        "digits, Adagrad": new(digits(), optax.adagrad, 3e-3, 200, {}, True),
        "digits, AdamW, accuracy": new(
            digits(widths=(16,)), of(optax.adamw, 100), 1e-3, 100, accuracy, False
        ),
        "text, momentum": new(text, of(momentum, 100), 5e-3, 100, loss, False),
        "least squares, Adam: flat": new(linear, of(optax.adam, 400), 3e-3, 400, {}, False),
        "least squares, SGD: cliff": new(linear, optax.sgd, 1e-3, 60, {}, False),
        "digits, RMSProp": new(
            digits(widths=(16,)), of(optax.rmsprop, 200), 3e-4, 200, loss, False
        ),
        "diabetes, Adam": new(diabetes(widths=(16,)), of(optax.adam, 200), 1e-3, 200, {}, False),
    }


def measured(case):
    """The rates, and the scores `[rates, seeds]`."""
    rates = case.low * 10 ** (np.arange(round(DECADES * PER_DECADE) + 1) / PER_DECADE)
    result = lrax.sweep(
        case.task,
        case.optimizer,
        rates,
        steps=case.steps,
        seeds=case.seeds,
        loss_every=1 if not case.options else max(case.steps // 20, 1),
        progress=False,
        **case.options,
    )
    return rates, result.scores.astype(np.float64)


class Truth(NamedTuple):
    means: np.ndarray  # [rates], infinite where lost
    optimum: float  # in logarithms, as the two that follow
    low: float  # of the rates within 1 % of the best
    high: float

    @property
    def flat(self):
        return self.high - self.low > np.log(2)


def truth(rates, scores):
    x = np.log(rates)
    known = np.isfinite(scores)
    lost = known.mean(axis=1) < 1 - LOST
    with np.errstate(invalid="ignore"):
        sums = np.where(known, scores, 0.0).sum(axis=1)
        means = np.where(lost, np.inf, sums / np.maximum(known.sum(axis=1), 1))
    best = int(np.argmin(means))
    near = np.arange(max(best - 2, 0), min(best + 3, len(x)))
    near = near[np.isfinite(means[near])]
    place = x[best]
    if near[0] < best < near[-1]:  # else it is at an edge or beside the cliff
        a, b, _ = np.polyfit(x[near] - place, means[near], 2)
        if a > 0:
            place += np.clip(-b / (2 * a), x[near[0]] - place, x[near[-1]] - place)
    fine = np.linspace(x[0], x[-1], 4001)
    top = 2 * np.max(np.abs(means[~lost]))
    line = np.interp(fine, x, np.where(lost, top, means))
    worse = line > means[best] + 0.01 * abs(means[best])
    below = fine[worse & (fine < x[best])]
    above = fine[worse & (fine > x[best])]
    return Truth(means, place, below.max(initial=fine[0]), above.min(initial=fine[-1]))


def draws(rates, scores, seeds, count):
    """What users would have: their rates, and the scores of their seeds."""
    generator = np.random.default_rng(seeds)
    for _ in range(count):
        first = generator.integers(STEP)
        chosen = generator.choice(scores.shape[1], seeds, replace=False)
        yield first, rates[first::STEP], scores[first::STEP][:, chosen]


class Row(NamedTuple):
    """One task and one number of seeds; shares are of draws, widths and errors in octaves."""

    held: float  # whose interval holds the true optimum
    width: float  # in the median
    error: float  # in the median
    claims: float  # that name good rates
    false: float  # that name good rates which are not
    flat: float  # that say flat


def optima(rates, scores, seeds, count):
    """How `optimum` does."""
    true = truth(rates, scores)
    slack = np.log(10) / PER_DECADE / 10  # the truth's own straight lines are not exact
    rows = []
    for _, own, values in draws(rates, scores, seeds, count):
        found = optimum(own, values)
        low, high = (
            np.log(found.interval) if found.interval[0] else (-np.inf, np.log(found.interval[1]))
        )
        false = False
        if found.good is not None:
            good = np.log(found.good)
            false = good[0] < true.low - slack or good[1] > true.high + slack
        rows.append(
            (
                low <= true.optimum <= high,
                high - low,
                abs(np.log(found.value) - true.optimum),
                found.good is not None,
                false,
                found.flat,
            )
        )
    held, width, error, claims, false, flat = np.array(rows, np.float64).T
    octave = np.log(2)
    return Row(
        held.mean(),
        np.median(width) / octave,
        np.median(error) / octave,
        claims.mean(),
        false.mean(),
        flat.mean(),
    )


class Others(NamedTuple):
    """The shares of intervals that hold the truth; for the sensitivity, how far it is off."""

    means: float  # of the mean score at the best rate, as in `confirm`
    paired: float  # of the differences from a rate that is fixed beforehand
    chosen: float  # of the differences from the best rate of the draw
    sensitivity: float  # median of the estimate over the truth


def others(rates, scores, seeds, count):
    """How `confirm`, `paired` and `sensitivity` do, at the rates next to the best one."""
    true = truth(rates, scores)
    full = np.all(np.isfinite(scores), axis=1)
    held, fixed, chosen, ratio = [], [], [], []
    for first, own, values in draws(rates, scores, seeds, count):
        kept = np.flatnonzero(full[first::STEP])
        own = own[kept]
        values = values[kept]
        means = true.means[first::STEP][kept]
        best = int(np.argmin(means))
        near = [i for i in (best - 2, best - 1, best + 1, best + 2) if 0 <= i < len(own)]
        _, interval = statistics.means(values)
        held.append(interval[best, 0] <= means[best] <= interval[best, 1])
        for reference, into in ((best, fixed), (int(np.argmin(values.mean(axis=1))), chosen)):
            pairs = statistics.paired(values, reference).interval
            differences = means - means[reference]
            into += [pairs[i, 0] <= differences[i] <= pairs[i, 1] for i in near if i != reference]
        start = float(true.means[0])  # the least rate has hardly trained
        expected = statistics.sensitivity(own, scores[first::STEP][kept], start)
        ratio.append(statistics.sensitivity(own, values, start) / expected)
    return Others(np.mean(held), np.mean(fixed), np.mean(chosen), float(np.median(ratio)))


def main(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=120, help="seeds that are the truth")
    parser.add_argument("--draws", type=int, default=300)
    parser.add_argument("--only", nargs="*", help="names of tasks")
    options = parser.parse_args(arguments)
    known = cases(options.seeds)
    found = {}
    print("| task | flat | " + " | ".join(f"{n} seeds" for n in SEEDS) + " |")
    second, peaked = [], []
    for name in options.only or known:
        case = known[name]
        begin = time.perf_counter()
        rates, scores = measured(case)
        trained = time.perf_counter() - begin
        rows = [optima(rates, scores, n, options.draws) for n in SEEDS]
        apart = [others(rates, scores, n, options.draws) for n in SEEDS]
        found[name] = rows, apart
        true = truth(rates, scores)
        cells = [f"{row.held:.0%}, {row.width:.2f}" for row in rows]
        mark = "" if case.design else " *"
        words = "flat" if true.flat else ""
        print(f"| {name}{mark} | {words} | " + " | ".join(cells) + " |", flush=True)
        if not true.flat:
            peaked.append(rows)
        good = [f"{row.claims:.0%}, {row.false:.0%}, {row.flat:.0%}" for row in rows]
        second.append(f"| {name}{mark} | {words} | " + " | ".join(good) + f" | {trained:.0f} s")
    if peaked:
        held, width = np.array(peaked)[..., :2].transpose(2, 0, 1)
        cells = [
            f"{share:.0%}, {octaves:.2f}"
            for share, octaves in zip(held.mean(axis=0), np.median(width, axis=0), strict=True)
        ]
        print("| all that are not flat: mean, median | | " + " | ".join(cells) + " |")
    print("\ngood rates: shares of the draws that name some, that do so wrongly, that say flat")
    print("\n".join(second))
    print("\nseeds: means, paired, paired to the best of the draw, sensitivity over its truth")
    for i, n in enumerate(SEEDS):
        each = np.array([apart[i] for _, apart in found.values()])
        cells = [
            f"{np.median(column):.3f} ({column.min():.3f} to {column.max():.3f})"
            for column in each.T
        ]
        print(f"| {n} | " + " | ".join(cells) + " |")
    return found


if __name__ == "__main__":
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        main()
