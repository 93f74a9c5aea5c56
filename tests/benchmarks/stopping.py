"""The best rate by `stop=lrax.Halving()` against the full grid: `python -m
tests.benchmarks.stopping`.

Both compile and train anew, on digits with a warmup and a cosine, for so long that stopping is
worth it. What counts is the time to the answer, all of it, and how good the answer is: the full
grid's validation loss, over its seeds, at the rate that was chosen, beside that of the full grid's
own choice.

With `--rules`, the rules are compared over the tasks of the benchmark of finders instead: the share
of the full grid's updates that each rule makes, and whether it keeps the full grid's best point.
"""

import argparse
import json
import os
import time
from typing import NamedTuple

import jax
import numpy as np
import optax

import lrax

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
RANGES |= {"Lion": (1e-6, 0.1), "Muon": (1e-4, 3.0)}


def by_rules(names, points, seeds):
    """A line for each task: what each rule costs, and how much worse is the best that it keeps."""
    rows = {}
    for name, case in finders.cases().items():
        optimizer = name.split(", ")[1]
        if optimizer not in RANGES or "pole" in name or not any(part in name for part in names):
            continue
        rates = lambda rate, case=case: (
            lrax.constant(rate) if case.shape is None else case.shape(rate, case.steps)
        )
        rules = {
            "full": None,
            "Halving()": lrax.Halving(),
            "Halving(2, 1/8)": lrax.Halving(eta=2, first=1 / 8),
            "Halving(1.5)": lrax.Halving(eta=1.5),
            "Forecast": lrax.Forecast(rates),
        }
        scores = None
        for rule, stop in rules.items():
            result = lrax.sweep(
                case.task,
                lambda rate, case=case, rates=rates: case.optimizer(rates(rate)),
                {"rate": lrax.log_grid(*RANGES[optimizer], points)},
                steps=case.steps,
                seeds=seeds,
                objective=case.objective,
                eval_every=case.steps // 42,
                params=case.params,
                progress=False,
                stop=stop,
            )
            if scores is None:
                scores = np.mean(result.metrics[case.objective], axis=1)
                scores = np.where(np.isfinite(scores), scores, np.inf)
                continue
            left = scores[result.stopped_at == case.steps].min()
            cost = float(np.mean(result.stopped_at) / case.steps)
            rows.setdefault(rule, []).append((cost, left / scores.min() - 1))
            print(f"{name:28}{rule:17} work {cost:.2f}   {rows[rule][-1][1]:+.1%}", flush=True)
    for rule, found in rows.items():
        cost, excess = np.array(found).T
        print(
            f"{rule:17} work {cost.mean():.2f}, at most {cost.max():.2f}; keeps the best of"
            f" {np.sum(excess == 0)} of {len(excess)}, within 1% {np.sum(excess <= 0.01)}"
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
    options = parser.parse_args(arguments)
    if options.rules is not None:
        return by_rules(options.rules or [""], points=24, seeds=options.seeds)

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
