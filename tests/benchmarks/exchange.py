"""Lanes that exchange, beside a schedule that was tuned at equal compute.

`python -m tests.benchmarks.exchange` gives every way the same number of full runs for each seed. The
reference is a cosine whose peak is the best of a grid of as many peaks, by the mean over the seeds.
Population-based training has its best lane at the end, and so has a row of the cosine: a best of
many is a little too good. All losses are on the same held-out examples, which chose, too.
"""

import argparse

import jax
import numpy as np
import optax
from scipy import stats

import lrax

RANGE = 1e-4, 1.0  # of the rates, all of Adam
REFERENCE = "tuned cosine"


def tasks(smoke):
    """`{name: (task, updates)}`."""
    if smoke:
        return {"diabetes": (lrax.tasks.diabetes(), 20)}
    text = lrax.tasks.char_lm(
        width=16, layers=1, heads=2, context=16, batch_size=8, characters=200_000
    )
    return {
        "digits": (lrax.tasks.digits(), 400),
        "diabetes": (lrax.tasks.diabetes(), 400),
        "text": (text, 400),
    }


def ways(task, steps, points, seeds):
    """`{way: losses}`, each the final held-out loss `[seeds]`."""
    grid = {"peak": lrax.log_grid(*RANGE, points)}
    call = dict(steps=steps, seeds=seeds, objective="val_loss", progress=False)

    def cosine(peak):
        return optax.adam(lrax.warmup_cosine(peak, steps, warmup=max(steps // 20, 1)))

    def exchanged(rule, optimizer, start):
        every = max(steps // 10, 1)
        found = lrax.sweep_exchange(task, optimizer, start, every=every, exchange=rule, **call)
        return np.nanmin(found.values, axis=0)

    losses = lrax.sweep(task, cosine, grid, **call).metrics["val_loss"]
    losses = np.where(np.isfinite(losses), losses, np.inf)
    fan = lrax.FanOut(spread=0.5)
    middle = float(np.sqrt(RANGE[0] * RANGE[1]))
    tuned = float(grid["peak"][np.argmin(losses.mean(axis=1))])
    constant = lambda peak: optax.adam(peak)
    population = lrax.PopulationBasedTraining()
    return {
        REFERENCE: losses[np.argmin(losses.mean(axis=1))],
        "cosine, each seed's best": losses.min(axis=0),
        "PBT, constant rates": exchanged(population, constant, grid),
        "PBT, cosine": exchanged(population, cosine, grid),
        "FanOut around 0.01, cosine": exchanged(fan, cosine, {"peak": fan.fan(middle, points)}),
        "FanOut around the tuned peak, cosine": exchanged(
            fan, cosine, {"peak": fan.fan(tuned, points)}
        ),
    }


def main(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--smoke", action="store_true", help="one small task")
    parser.add_argument("--points", type=int, default=16, help="full runs of each way and seed")
    parser.add_argument("--seeds", type=int, default=8)
    options = parser.parse_args(arguments)
    print(f"lrax {lrax.__version__}, jax {jax.__version__}, {jax.devices()[0].device_kind}", end="")
    print(f", {options.points} runs of each way and seed, {options.seeds} seeds\n")
    found = {}
    for name, (task, steps) in tasks(options.smoke).items():
        found[name] = ways(task, steps, options.points, options.seeds)
        print(f"| {name} | loss | change | 95 % of the change |\n|---|---|---|---|")
        reference = found[name][REFERENCE]
        half = stats.t.ppf(0.975, options.seeds - 1) / options.seeds**0.5
        for way, losses in found[name].items():
            change = losses / reference - 1
            mean, wide = change.mean(), half * change.std(ddof=1)
            print(
                f"| {way} | {losses.mean():.4f} | {mean:+.1%} | {mean - wide:+.1%} to"
                f" {mean + wide:+.1%} |"
            )
        print(flush=True)
    return found


if __name__ == "__main__":
    main()
