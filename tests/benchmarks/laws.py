"""How well the laws predict curves that they have not seen: `python -m tests.benchmarks.laws FOLDER`.

FOLDER is `loss_curve_repo` of a clone of github.com/thu-yao-01-luo/MultiPowerLaw (MIT), with 27
curves of language models of 25, 100 and 400 million parameters. Each law is fitted to the authors'
three curves of a size and predicts the six others. Then it is fitted to other pairs and triples,
for the coverage and the width of its interval. The numbers that the authors published for their
law are scored in the same way, and so is a fit to three curves over 24000 steps, one of them with a
decay.
"""

import argparse
import itertools
import warnings
from pathlib import Path

import numpy as np

import lrax
from lrax.theory.fitting import FittedLaw

LAWS = ("annealing", "multi_power", "fsl")
SIZES = ("25", "100", "400")
GIVEN = ("cosine_24000", "constant_24000", "wsdcon_9")
DECAYED = ("cosine_24000", "constant_24000", "wsd_20000_24000")
UNSEEN = ("constant_72000", "cosine_72000", "wsd_20000_24000", "wsdld_20000_24000")
UNSEEN += ("wsdcon_3", "wsdcon_18")
PEAK, LOW, WARMUP = 3e-4, 3e-5, 2160
# The authors' own fit of the multi-power law to the same three curves, from their `config.py`.
NUMBERS = ("L0", "A", "alpha", "B", "C", "beta", "gamma")
PUBLISHED = {
    "25": (3.04045406, 0.52468604, 0.50786857, 363.78751622, 2.06560812, 0.58279013, 0.64142257),
    "100": (2.6514477, 0.60115152, 0.45295811, 437.9464276, 2.13245612, 0.59785199, 0.65523644),
    "400": (2.37474466, 0.65421216, 0.42878731, 523.42464371, 2.02462735, 0.59350493, 0.63472457),
}


def rates_of(name):
    """The rates of a published run, as the authors' program makes them."""
    kind, *numbers = name.split("_")
    steps = 16000 if kind == "wsdcon" else int(numbers[-1])
    t = np.arange(steps)
    cooled = np.clip((t - 20000) / (steps - 20000), 0, 1) if kind in ("wsd", "wsdld") else 0
    after = {
        "constant": lambda: np.full(steps, PEAK),
        "cosine": lambda: (
            LOW + (PEAK - LOW) * (1 + np.cos(np.pi * (t - WARMUP) / (steps - WARMUP))) / 2
        ),
        "wsdcon": lambda: np.where(t < 8000, PEAK, 1e-5 * int(numbers[0])),
        "wsd": lambda: PEAK * (LOW / PEAK) ** cooled,
        "wsdld": lambda: PEAK + (LOW - PEAK) * cooled,
    }[kind]()
    return np.where(t < WARMUP, PEAK * t / (WARMUP - 1), after)


def read(folder, size, name):
    """The rates, the updates after which the loss was measured, and the losses."""
    table = np.genfromtxt(folder / f"csv_{size}" / f"{name}.csv", delimiter=",", skip_header=1)
    rates = rates_of(name)
    table = table[table[:, 0] < len(rates)]
    return rates, table[:, 0].astype(int), table[:, 2]


def fitted(law, curves):
    rates, at, losses = zip(*curves, strict=True)
    return lrax.theory.fit_law(law, rates, losses, steps=at)


def published(size):
    return FittedLaw(
        "multi_power", dict(zip(NUMBERS, PUBLISHED[size], strict=True)), np.nan, (0, np.inf), 24000
    )


def predicted(found, curve):
    rates, at, _ = curve
    return np.asarray(found.predict(rates))[at]


def end(losses):
    return losses[-max(len(losses) // 10, 1) :].mean()


def score(found, curves, names):
    """R2 and the errors at the last loss; means of the last tenth, told and true."""
    scores, errors, ends = [], [], {}
    for name in names:
        losses, told = curves[name][2], predicted(found, curves[name])
        r2 = 1 - np.sum((told - losses) ** 2) / np.sum((losses - losses.mean()) ** 2)
        scores.append(r2)
        errors.append(told[-1] - losses[-1])
        ends[name] = end(told), end(losses)
        print(f"  {name:20} R2 {r2:.4f}   error at the end {errors[-1]:+.4f}")
    print(
        f"  R2 mean {np.mean(scores):.4f}, least {min(scores):.4f};"
        f" size of the error at the end, mean {np.mean(np.abs(errors)):.4f}, most"
        f" {np.max(np.abs(errors)):.4f}"
    )
    return ends


def coverage(law, curves, count, most, generator):
    """Held-out ends inside the interval, all of them, and how wide each interval is.

    The width is in multiples of what holds 95 % of normal errors of the size that the held-out ones
    have.
    """
    subsets = list(itertools.combinations(curves, count))
    chosen = generator.choice(len(subsets), min(most, len(subsets)), replace=False)
    inside, total, widths = 0, 0, []
    for subset in (subsets[i] for i in chosen):
        found = fitted(law, [curves[name] for name in subset])
        others = [curves[name] for name in curves if name not in subset]
        ratios = np.array([end(curve[2]) / end(predicted(found, curve)) for curve in others])
        low, high = found.interval
        inside += np.sum((low <= ratios) & (ratios <= high))
        total += len(ratios)
        widths.append(np.log(high) / (1.96 * np.sqrt(np.mean(np.log(ratios) ** 2))))
    return inside, total, widths


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--laws", nargs="+", choices=LAWS, default=LAWS)
    parser.add_argument(
        "--subsets",
        type=int,
        default=12,
        help="fits of each size for the coverage, which takes most of the time",
    )
    options = parser.parse_args(arguments)
    warnings.filterwarnings("ignore", message="cloud_tpu_init")
    data = {
        size: {name: read(options.folder, size, name) for name in GIVEN + UNSEEN} for size in SIZES
    }
    for law in options.laws:
        right = pairs = 0
        for size, curves in data.items():
            found = fitted(law, [curves[name] for name in GIVEN])
            print(f"\n{law}, {size}M: interval {found.interval[0]:.4f} to {found.interval[1]:.4f}")
            ends = score(found, curves, UNSEEN)
            for a, b in itertools.combinations(UNSEEN, 2):
                right += np.sign(ends[a][0] - ends[b][0]) == np.sign(ends[a][1] - ends[b][1])
                pairs += 1
        print(f"{law}: pairs of unseen schedules in the right order: {right} of {pairs}")
        for size, curves in data.items():
            print(f"\n{law}, {size}M, fitted to {', '.join(DECAYED)}")
            found = fitted(law, [curves[name] for name in DECAYED])
            score(found, curves, [name for name in curves if name not in DECAYED])
        for count in (2, 3):
            generator = np.random.default_rng(count)
            parts = [coverage(law, data[size], count, options.subsets, generator) for size in SIZES]
            inside, total, widths = (sum(part[1:], part[0]) for part in zip(*parts, strict=True))
            least, half, most = np.quantile(widths, [0, 0.5, 1])
            print(
                f"{law}, fitted to {count} curves: interval holds {inside} of {total} other ends;"
                f" {least:.2f} to {most:.2f} times as wide as it should be, median {half:.2f}"
            )
    if "multi_power" in options.laws:
        for size, curves in data.items():
            print(f"\nmulti_power, {size}M, the published numbers: the given curves, the others")
            score(published(size), curves, GIVEN)
            score(published(size), curves, UNSEEN)


if __name__ == "__main__":
    main()
