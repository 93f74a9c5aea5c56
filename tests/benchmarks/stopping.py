"""The best rate by `stop=lrax.Halving()` against the full grid: `python -m
tests.benchmarks.stopping`.

Both compile and train anew, on digits with a warmup and a cosine, for so long that stopping is
worth it. What counts is the time to the answer, all of it, and how good the answer is: the full
grid's validation loss, over its seeds, at the rate that was chosen, beside that of the full grid's
own choice.
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
    options = parser.parse_args(arguments)

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
