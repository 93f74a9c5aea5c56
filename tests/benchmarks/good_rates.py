"""How often the rates that a search calls good are truly within 1 % of the best.

Draws of a known noisy curve stand for the trials of a search: the first seed has all rates, a quarter
of a decade apart, and the other seeds have the best three. Nothing is trained. From the same draws the
range of `Found.good` is compared with that of `Found.surely_good`, which has a confidence, and with the
same from the best three rates alone, without what the first seed tells of the others.

    python -m tests.benchmarks.good_rates
"""

import numpy as np

from lrax.finders.found import GOOD, good
from lrax.finders.trials import STEP, Trials, completed
from lrax.sweeps.optimum import optimum

DRAWS = 500
NOISES = (0.003, 0.01)  # the standard deviation of a score, beside what a seed adds to all rates
WIDE = 0.4  # in decades: at this distance below its minimum the curve is higher by 4 %


def curve(x, best):
    """The true score, 1 at its minimum, four times as steep above it as below."""
    away = x - best
    return 1 + 0.04 * np.where(away < 0, 1, 4) * (away / WIDE) ** 2


def drawn(rng, seeds, noise):
    """The trials of a search, and the log10 of the truly best rate."""
    x = np.arange(-8, 9) * STEP / np.log(10)
    best = rng.uniform(-0.125, 0.125)
    scores = curve(x, best)[:, None] + noise * rng.normal(size=(len(x), seeds))
    scores = scores + 0.02 * rng.normal(size=seeds)  # common random numbers
    known = Trials(10**x, scores[:, :1])
    if seeds == 1:
        return known, known, best
    at = known.best
    assert at is not None
    near = np.arange(max(at - 1, 0), min(at + 2, len(x)))
    few = Trials(known.rates[near], scores[near, 1:])
    return completed(known, few), Trials(known.rates[near], scores[near]), best


def ends(known, few, kind):
    if kind == "Found.good":
        return good(known, float(known.rates[known.best]))
    some = known if kind == "surely_good" else few
    return optimum(some.rates, some.scores).good


def main():
    print("seeds  noise  range            named  all are good  octaves, median")
    for seeds in (1, 2, 3, 8):
        for noise in NOISES:
            for kind in ("Found.good", "surely_good", "of three rates"):
                rng = np.random.default_rng(0)
                right, widths = [], []
                for _ in range(DRAWS):
                    known, few, best = drawn(rng, seeds, noise)
                    found = ends(known, few, kind)
                    if found is not None:
                        truth = curve(np.log10(found), best)
                        right.append(np.all(truth <= 1 + GOOD))
                        widths.append(np.log2(found[1] / found[0]))
                told = f"{np.mean(right):12.0%}  {np.median(widths):15.2f}" if right else ""
                print(f"{seeds:5}  {noise:.3f}  {kind:15}  {len(right) / DRAWS:5.0%}  {told}")


if __name__ == "__main__":
    main()
