"""The best rate by `stop=lrax.Halving()` against the full grid: `python -m
tests.benchmarks.stopping`.

Both compile and train anew, on digits with a warmup and a cosine, for so long that stopping is
worth it. What counts is the time to the answer, all of it, and how good the answer is: the full
grid's validation loss, over its seeds, at the rate that was chosen, beside that of the full grid's
own choice.

With `--rules`, the rules are compared over the tasks of the benchmark of finders instead: the share
of the full grid's updates that each rule makes, and whether it keeps the full grid's best point.
With `--held-out`, over tasks that had no part in the making of any rule, under other optimizers and
schedules.
"""

import argparse
import json
import os
import time
from typing import NamedTuple

import jax
import numpy as np
import optax
from jax import numpy as jnp

import lrax
from lrax.tasks.networks import MLP

from . import finders
from .sweeps import machine


class Answer(NamedTuple):
    seconds: float
    rate: float
    loss: float  # on held-out examples, of that rate's own lanes, over the seeds
    result: lrax.SweepResult


def answer(task, rates, steps, seeds, stop):
    """The time to the best rate, compilation included, and what that rate reached."""
    warmup = max(steps // 20, 1)
    adam = lambda peak: optax.adam(lrax.warmup_cosine(peak, steps=steps, warmup=warmup))
    options = {} if stop is None else {"stop": stop}
    jax.clear_caches()
    begin = time.perf_counter()
    result = lrax.sweep(
        task,
        adam,
        {"peak": rates},
        steps=steps,
        seeds=seeds,
        objective="val_loss",
        progress=False,
        **options,
    )
    seconds = time.perf_counter() - begin
    point = result.best_lane[0]
    return Answer(
        seconds, float(rates[point]), float(np.mean(result.metrics["val_loss"][point])), result
    )


def full_losses(full):
    """The full grid's validation loss of every rate over the seeds; without a number, as good as never."""
    losses = np.mean(full.result.metrics["val_loss"], axis=1)
    return np.where(np.isfinite(losses), losses, np.inf)


def compare(full, halved, rates):
    losses = full_losses(full)
    chosen = float(losses[np.argmin(np.abs(np.log(rates / halved.rate)))])
    return {
        "speedup": full.seconds / halved.seconds,
        "excess": chosen / full.loss - 1,
        "chosen_loss": chosen,
    }


RANGES = {"momentum": (1e-4, 10.0), "Adam": (1e-5, 1.0), "AdamW": (1e-5, 1.0)}
RANGES |= {"Lion": (1e-6, 0.1), "Muon": (1e-4, 3.0), "SGD": (1e-3, 100.0)}
RANGES |= {"NAdam": (1e-5, 1.0), "RMSProp": (1e-5, 1.0), "Adagrad": (1e-3, 10.0)}


def seen():
    """`{name: Case}`: the tasks by which the constants of `lrax.Forecast` were chosen."""
    found = finders.cases().items()
    return {n: case for n, case in found if optimizer_of(n) in RANGES and "pole" not in n}


def held_out():
    """`{name: Case}`: tasks, optimizers and schedules that were first looked at when this was run."""
    spirals, teacher, features, mirror = two_spirals(), taught(), many_features(), autoencoder()
    few = lrax.tasks.digits(widths=(64,), batch_size=8)
    wide = lrax.tasks.char_lm(
        width=32, layers=2, heads=2, context=32, batch_size=8, characters=200_000
    )
    rows = {
        "digits by eights, Adam, linear": (few, optax.adam, linear, 504),
        "digits by eights, NAdam, one cycle": (few, optax.nadam, one_cycle, 504),
        "spirals, Adam, cosine": (spirals, optax.adam, finders.cosine, 1008),
        "spirals, momentum, WSD": (spirals, finders.momentum, finders.wsd, 1008),
        "teacher, momentum, linear": (teacher, finders.momentum, linear, 504),
        "teacher, Muon, constant": (teacher, finders.muon, None, 504),
        "features, SGD, cosine": (features, optax.sgd, finders.cosine, 1008),
        "features, Adagrad, constant": (features, optax.adagrad, None, 1008),
        "autoencoder, RMSProp, WSD": (mirror, optax.rmsprop, finders.wsd, 504),
        "autoencoder, Lion, linear": (mirror, optax.lion, linear, 504),
        "two layers of text, AdamW, linear": (wide, finders.adamw, linear, 336),
        "two layers of text, RMSProp, constant": (wide, optax.rmsprop, None, 336),
    }
    return {name: finders.Case(*row, held=True) for name, row in rows.items()}


def optimizer_of(name):
    return name.split(", ")[1]


def linear(peak, steps):
    return lrax.warmup_linear(peak, steps, warmup=steps // 20)


def one_cycle(peak, steps):
    return lrax.one_cycle(peak, steps)


def two_spirals():
    """Which of two noisy spirals in a plane a point is of."""
    random = np.random.default_rng(0)
    turn = 3 * np.pi * np.sqrt(random.uniform(size=1200))
    which = np.arange(1200) % 2
    angle = turn + np.pi * which
    inputs = np.stack([turn * np.cos(angle), turn * np.sin(angle)], axis=1) / 5
    inputs += 0.05 * random.normal(size=inputs.shape)
    rows = random.permutation(1200)
    return finders.classes(MLP((2, 32, 32, 2)), inputs, which, rows[:800], rows[800:], 32)


def regression(network, inputs, targets, train, size):
    """A task of regression by the first `train` examples; `targets` are `[examples, outputs]`."""
    inputs, targets = inputs.astype(np.float32), targets.astype(np.float32)

    def error(params, batch):
        return jnp.mean((network.apply(params, batch["inputs"]) - batch["targets"]) ** 2)

    rest = {"inputs": inputs[train:], "targets": targets[train:]}
    return lrax.Task(
        init=network.init,
        loss=error,
        batch=lrax.minibatches({"inputs": inputs[:train], "targets": targets[:train]}, size),
        evaluate=lambda params: {"val_loss": error(params, rest)},
    )


def taught():
    """What a random network of one hidden layer says, with noise."""
    random = np.random.default_rng(1)
    inputs = random.normal(size=(1500, 20))
    hidden = np.maximum(inputs @ random.normal(size=(20, 10)) / 20**0.5, 0)
    targets = hidden @ random.normal(size=10) + 0.3 * random.normal(size=1500)
    return regression(MLP((20, 64, 1)), inputs, targets[:, None], 1000, 32)


def many_features():
    """A linear model of 100 features, whose variances fall as a power of their index."""
    random = np.random.default_rng(2)
    scale = np.arange(1, 101) ** -0.75
    inputs = random.normal(size=(3000, 100)) * scale
    targets = inputs @ random.normal(size=100) + 0.2 * random.normal(size=3000)
    return regression(MLP((100, 1)), inputs, targets[:, None], 2000, 16)


def autoencoder():
    """Digits by digits, through eight numbers."""
    from sklearn.datasets import load_digits

    inputs = load_digits().data / 16
    return regression(MLP((64, 32, 8, 32, 64)), inputs, inputs, 1400, 32)


def by_rules(cases, points, seeds, groups):
    """A line for each task: what each rule costs, and how much worse is the best that it keeps.

    Args:
      cases: `{name: Case}`.
      points: Rates of a grid.
      seeds: Seeds of a sweep.
      groups: Sweeps of each task and rule, each with seeds of its own.
    """
    rows = {}
    for name, case in cases.items():
        rates = lambda rate, case=case: (
            lrax.constant(rate) if case.shape is None else case.shape(rate, case.steps)
        )
        rules = {
            "Halving()": lrax.Halving(),
            "Halving(2, 1/8)": lrax.Halving(eta=2, first=1 / 8),
            "Halving(1.5)": lrax.Halving(eta=1.5),
            "Forecast": lrax.Forecast(rates),
        }
        found = {rule: [] for rule in rules}
        for group in range(groups):

            def sweep(stop, case=case, rates=rates, name=name, group=group):
                return lrax.sweep(
                    case.task,
                    lambda rate: case.optimizer(rates(rate)),
                    {"rate": lrax.log_grid(*RANGES[optimizer_of(name)], points)},
                    steps=case.steps,
                    seeds=list(range(seeds * group, seeds * (group + 1))),
                    objective=case.objective,
                    eval_every=case.steps // 42,
                    params=case.params,
                    progress=False,
                    stop=stop,
                )

            scores = np.mean(sweep(None).metrics[case.objective], axis=1)
            scores = np.where(np.isfinite(scores), scores, np.inf)
            for rule, stop in rules.items():
                stopped_at = sweep(stop).stopped_at
                left = scores[stopped_at == case.steps].min()
                found[rule].append((np.mean(stopped_at) / case.steps, left / scores.min() - 1))
        for rule, pairs in found.items():
            rows.setdefault(rule, []).extend(pairs)
            cost, excess = np.mean(pairs, axis=0)[0], [f"{pair[1]:+.1%}" for pair in pairs]
            print(f"{name:38}{rule:17} work {cost:.2f}   {' '.join(excess)}", flush=True)
    for rule, pairs in rows.items():
        cost, excess = np.array(pairs).T
        print(
            f"{rule:17} work {cost.mean():.2f}, at most {cost.max():.2f}; keeps the best of"
            f" {np.sum(excess == 0)} of {len(excess)}, within 1% {np.sum(excess <= 0.01)},"
            f" worst {excess.max():+.1%}"
        )


def main(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rates", type=int, default=48)
    parser.add_argument(
        "--range", type=float, nargs=2, default=(1e-5, 1.0), metavar=("LOW", "HIGH")
    )
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument(
        "--widths", type=int, nargs="*", default=(128, 128), help="hidden layers of the MLP"
    )
    parser.add_argument("--eta", type=int, default=3)
    parser.add_argument(
        "--first", type=float, default=1 / 9, help="fraction of the steps before the first decision"
    )
    parser.add_argument("--full-only", action="store_true", help="only the full grid")
    parser.add_argument("--json", metavar="FILE", help="write the results there, too")
    parser.add_argument(
        "--rules",
        nargs="*",
        metavar="PART",
        help="tasks whose names have these parts; all by default",
    )
    parser.add_argument("--held-out", action="store_true", help="`--rules` over other tasks")
    parser.add_argument("--groups", type=int, default=4, help="sweeps of each task, for `--rules`")
    options = parser.parse_args(arguments)
    if options.rules is not None or options.held_out:
        cases = held_out() if options.held_out else seen()
        parts = options.rules or [""]
        cases = {name: case for name, case in cases.items() if any(p in name for p in parts)}
        return by_rules(cases, 24, options.seeds, options.groups)

    facts = machine(with_torch=False)
    task, rates = (
        lrax.tasks.digits(widths=options.widths),
        lrax.log_grid(*options.range, options.rates),
    )
    print(
        f"digits, MLP {list(options.widths)}: {options.rates} rates x {options.seeds} seeds x {options.steps} steps"
    )
    print(f"{'':14}{'seconds':>9}{'best rate':>12}{'its val_loss':>14}")

    def measure(name, stop):
        found = answer(task, rates, options.steps, options.seeds, stop)
        print(f"{name:14}{found.seconds:9.2f}{found.rate:12.3g}{found.loss:14.4f}", flush=True)
        return found

    full = measure("full grid", None)
    if options.full_only:
        return full, None
    halved = measure("Halving", lrax.Halving(eta=options.eta, first=options.first))
    found = compare(full, halved, rates)
    words, counts = np.unique(halved.result.status, return_counts=True)
    print(
        "lanes of Halving:",
        ", ".join(f"{count} {word}" for word, count in zip(words, counts, strict=True)),
    )
    print(f"speed-up {found['speedup']:.2f} (goal: >= 2.5)")
    print(
        f"the full grid's val_loss at the rate that Halving chose: {found['excess']:+.1%} of its best (goal: <= 2%)"
    )
    print(f"load at the end: {os.getloadavg()[0]:.2f}")
    if options.json:
        rows = [dict(zip(("seconds", "rate", "loss"), x[:3], strict=True)) for x in (full, halved)]
        with open(options.json, "w") as file:
            json.dump({**facts, **found, "full": rows[0], "halving": rows[1]}, file, indent=1)
    return full, halved


if __name__ == "__main__":
    main()
