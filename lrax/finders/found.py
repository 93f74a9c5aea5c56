"""`Found`: the rate that a search found, and how sure it is."""

from __future__ import annotations

import dataclasses
import html
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ..display import canvas, swept
from ..display.swept import Band, Slice, Swept
from ..sweeps.optimum import Optimum, optimum
from ..sweeps.result import SweepResult
from .trials import Trials, completed, is_flat, trials, vertex

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# If the ends of an interval differ by more than this factor, an octave, the interval does not tell
# which rate to take.
WIDE = 2.0
# An interval reaches at least by this factor to both sides of the rate. Three seeds that agree by
# chance would give a narrower one, which contains the best rate too seldom in the benchmark of
# finders.
LEAST = 2 ** (1 / 3)
GOOD = 0.01  # rates are called good if their score is worse than the best by at most this share
SURE = 3  # the fewest seeds for a range of good rates with confidence
# The best rate is taken to move, in either direction, by at most this power of the ratio of two
# horizons. That is twice the exponent of most measurements, because short runs often mislead.
EXPONENT = 0.5


class NoRate(ValueError):
    """No rate of a search was trained to its end."""


@dataclasses.dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Found:
    """The rate that `lrax.find` found, how sure it is, and what that rests on.

    Attributes:
      rate: The rate to use.
      interval: Where the best rate lies: `(low, high)`. It is the 95 % interval by the noise of the
        seeds, or a wider one. At 15 runs it held the best rate in only 82 to 93 % of the searches
        of `python -m tests.benchmarks.finders`, because few rates have all the seeds. If the best
        rate is the lowest that was tried, the low end is 0; if it is the highest, the high end is
        infinity.
      good: The lowest and the highest of the rates around `rate` whose mean objective is within
        1 % of the best one's. This is an estimate: at 15 runs, the worst rate of the range was
        truly 1.6 % worse than the best in the median search, and at most 3 % worse in 62 to 75 % of
        the searches of `python -m tests.benchmarks.finders`.
      surely_good: The range of the rates that are, with 95 % confidence over seeds, at most 1 %
        worse than the best, as in `lrax.SweepResult.optimum`. Of the same searches, 70 % had no
        such range. In 71 to 85 % of the others, all rates of the range were truly within 1 %, and
        in 98 % or more within 3 %. It is None if no rate is surely so good, if there are fewer than
        3 seeds, or if the runs were shorter than `steps` or were ended early.
      at_edge: `"low"` or `"high"` if the best rate is at that end of the rates that were tried,
        else None.
      certain: Whether the interval is within an octave, and nothing else is in doubt.
      why: Why the rate is not certain, and what would help; empty if it is certain.
      runs: What the search cost, in whole runs.
      ended: Whether the search was ended early, by Ctrl-C or the budget. The rate may be certain
        all the same, if only `horizon_exponent` was still to be measured.
      hyperparams: The arguments for the optimizer: `optimizer(**found.hyperparams)`.
      objective: The name of the objective that decided.
      value: The mean of the objective over seeds, at the best of the rates that were trained.
      steps: The updates of the run that the rate is for.
      evidence: The sweep of all rates that were tried, with the seeds that they have in common.
      confirmed: The sweep of the best rates with further seeds, or None.
      shorter: The same search over a shorter horizon, or None if `runs` did not pay for it.
    """

    rate: float
    interval: tuple[float, float]
    good: tuple[float, float]
    surely_good: tuple[float, float] | None
    at_edge: Literal["low", "high"] | None
    certain: bool
    why: str
    runs: float
    ended: bool
    hyperparams: dict[str, Any]
    objective: str
    value: float
    steps: int
    evidence: SweepResult
    confirmed: SweepResult | None
    shorter: Found | None = None

    @property
    def horizon_exponent(self) -> float | None:
        """The measured power of the horizon to which the best rate is proportional, or None.

        It is None if it was not measured, or if the best rate of one of the two horizons is at the
        edge of the rates that were tried.
        """
        if self.shorter is None or self.at_edge is not None or self.shorter.at_edge is not None:
            return None
        return math.log(self.rate / self.shorter.rate) / math.log(self.steps / self.shorter.steps)

    @property
    def horizon_interval(self) -> tuple[float, float] | None:
        """Where `horizon_exponent` lies, by the intervals of both rates; None if it is None."""
        middle = self.horizon_exponent
        if middle is None or self.shorter is None:
            return None
        ratio = math.log(self.steps / self.shorter.steps)
        ends = []
        for ours, theirs in ((0, 1), (1, 0)):
            # The seeds are the same, but the two errors are taken as independent: seeds that move
            # the best rate of a long run need not move that of a short one.
            both = [
                math.log(found.interval[end] / found.rate)
                for found, end in ((self, ours), (self.shorter, theirs))
            ]
            ends.append(math.hypot(*both) / ratio)
        return middle - ends[0], middle + ends[1]

    def __str__(self) -> str:
        low, high = self.interval
        first = f"{self.rate:.3g} is the rate for {self.steps} steps, by {self.objective}"
        first += f" ({self.value:.4g}); the best is between {low:.2g} and {high:.2g}"
        rates, seeds = len(self.evidence.status), len(self.evidence.seeds)
        seeds += 0 if self.confirmed is None else len(self.confirmed.seeds)
        second = f"within 1 % of the best: {self.good[0]:.2g} to {self.good[1]:.2g};"
        second += f" {rates} rates, {seeds} seed{'s' * (seeds > 1)}, the cost of"
        second += f" {self.runs:.1f} whole runs{self._horizon()}"
        third = "the interval is within an octave" if self.certain else f"cannot tell: {self.why}"
        return "\n".join([first, second, third])

    __repr__ = __str__

    def _horizon(self) -> str:
        ends = self.horizon_interval
        if ends is None:
            return ""
        return f"; it moves as steps^{self.horizon_exponent:.2f} ({ends[0]:.2f} to {ends[1]:.2f})"

    def _repr_html_(self) -> str:
        lines = "".join(f"<p>{html.escape(line)}</p>" for line in str(self).splitlines())
        return lines + canvas.as_html(self.plot)

    def plot(self) -> Figure:
        """A figure of the evidence: the objective against the rate.

        Rates that were stopped early are hollow, diverged ones are crosses, and the green line and
        band are the rate and its interval. The figure shows the seeds that all rates were
        trained with; the interval also rests on the further seeds of the best rates.

        Returns:
          A matplotlib Figure.

        Raises:
          ImportError: if matplotlib is not installed.
        """
        return swept.sweep(self._slice(), None)

    def _slice(self) -> Slice:
        shown, (name,) = self.evidence, self.evidence.hyperparams
        return Slice(
            Swept(name, shown.hyperparams[name]),
            shown.values,
            shown.status == "diverged",
            pruned=np.any(shown.status == "pruned", axis=1),
            best=int(shown.ranking[0]),
            objective=self.objective,
            mode=shown.mode,
            band=Band(self.rate, *self.interval),
            note="" if self.certain else f"cannot tell: {self.why}",
        )

    @staticmethod
    def panels(several: Sequence[Found]) -> Figure:
        """A figure with a panel for each of several searches.

        Raises:
          ImportError: if matplotlib is not installed.
        """
        return swept.slices([found._slice() for found in several])


def found_by(
    evidence: SweepResult,
    confirmed: SweepResult | None,
    *,
    hyperparams: Callable[[float], dict[str, Any]],
    asked: int,
    runs: float,
    ended: bool,
) -> Found:
    """The answer of a search.

    Args:
      evidence: The sweep of all rates, with some seeds.
      confirmed: A sweep of the best of these rates with the other seeds, or None.
      hyperparams: The optimizer's arguments for a rate.
      asked: Updates of the run that the rate is for. The sweeps may have fewer.
      runs: What the sweeps cost, in runs of that length.
      ended: Whether the search was ended early.

    Raises:
      NoRate: if no rate was trained to its end.
    """
    (name,) = evidence.hyperparams
    known = trials(evidence, name)
    if known.best is None:
        raise NoRate(f"no rate can be named: {evidence.why_no_best}")
    if confirmed is not None:
        known = completed(known, trials(confirmed, name))
    # The parabola is fitted to the logarithms of positive losses: their ratios say more than their
    # differences, which are small where training went well.
    logs = evidence.mode == "min" and bool(np.all(known.scores[known.whole] > 0))
    tried = ~np.isnan(known.means)
    scores = known.scores[tried]
    # A rate that diverged with one seed may have a score without a logarithm for another seed.
    scores = np.where(scores > 0, scores, np.inf) if logs else scores
    found = optimum(known.rates[tried], np.log(scores) if logs else scores)
    best = known.best
    assert best is not None
    flat = is_flat(evidence)
    rate = found.value if found.at_edge is not None else vertex(known, logs)
    low = min(found.interval[0], rate / LEAST)
    high = max(found.interval[1], rate * LEAST)
    # Runs with a shorter horizon make the interval wider.
    shift = (asked / evidence.steps) ** EXPONENT
    interval = low / shift, high * shift
    why = _doubts(found, known, interval, evidence, asked, runs, ended)
    sign = 1.0 if evidence.mode == "min" else -1.0
    # Of the scores themselves: 1 % of a logarithm would be another share.
    surely_good = None
    if known.scores.shape[1] >= SURE and not ended and evidence.steps == asked:
        surely_good = optimum(known.rates[tried], known.scores[tried]).good
    return Found(
        rate=rate,
        interval=interval,
        good=(known.rates[0], known.rates[-1]) if flat else good(known, rate),
        surely_good=surely_good,
        at_edge=found.at_edge,
        certain=not why,
        why=why,
        runs=runs,
        ended=ended,
        hyperparams=hyperparams(rate),
        objective=evidence.objective,
        value=float(sign * known.means[best]),
        steps=asked,
        evidence=evidence,
        confirmed=confirmed,
    )


def good(known: Trials, rate: float) -> tuple[float, float]:
    """The least and the highest good rate around the best one; `rate` counts as good.

    A rate is good if its mean score is within 1 % of the best one's. Between two rates that were
    trained, the score is interpolated linearly in the logarithm of the rate.
    """
    best = known.best
    assert best is not None
    places = np.flatnonzero(~np.isnan(known.means))
    x, means = known.x[places], known.means[places]
    at = int(np.flatnonzero(places == best)[0])
    limit = means[at] + GOOD * abs(means[at])
    ends = []
    for side in (-1, 1):
        i = at
        while 0 <= i + side < len(x) and means[i + side] <= limit:
            i += side
        end = x[i]
        if 0 <= i + side < len(x) and np.isfinite(means[i + side]):
            part = (limit - means[i]) / (means[i + side] - means[i])
            end = x[i] + part * (x[i + side] - x[i])
        ends.append(float(np.exp(end)))
    return min(ends[0], rate), max(ends[1], rate)


def _doubts(
    found: Optimum,
    known: Trials,
    interval: tuple[float, float],
    evidence: SweepResult,
    asked: int,
    runs: float,
    ended: bool,
) -> str:
    """Why the rate is not certain, and the call that would tell; empty if it is certain."""
    # Twice the seeds and twice the cost make an interval narrower by about a third.
    seeds = max(2 * known.scores.shape[1], 3)
    # The command line turns names in backquotes into its options.
    again = f"`lrax.find` with `seeds` {seeds} and `runs` {2 * math.ceil(runs)}"
    if ended:
        # In a later stage the first runs have had all their updates, and count.
        part = ""
        if evidence.done < evidence.steps:
            part = f"; its first runs had {evidence.done} of {evidence.steps} updates"
        return f"the search was ended early{part}. The same call with more time would tell"
    if evidence.steps < asked:
        return (
            f"the runs were {evidence.steps} steps long, not {asked}, so the answer is a range;"
            " `runs=15` would find the rate; or find the rate of a smaller model, batch or"
            " horizon, and give it to `lrax.scaling.transfer`"
        )
    if is_flat(evidence):
        return (
            f"all rates are within 1 % of each other after {evidence.steps} steps: the rate makes"
            " no difference, or nothing was learned; more `steps` or another `objective` would tell"
        )
    if found.at_edge is not None:
        lowest, highest = known.rates[0], known.rates[-1]
        if found.at_edge == "low":
            word, bounds = "lowest", f"({lowest / 100:.2g}, {highest:.2g})"
        else:
            word, bounds = "highest", f"({lowest:.2g}, {100 * highest:.2g})"
        return (
            f"the best rate is the {word} that was tried; give `bounds` of {bounds} to look further"
        )
    if known.disagree:
        return f"the seeds have their best rates in different basins; {again} would tell"
    if known.scores.shape[1] == 1:
        return f"one seed does not tell how seeds differ; {again} would"
    low, high = interval
    if high > WIDE * low:
        octaves = np.log2(high / low)
        return f"the interval is {octaves:.1f} octaves wide; {again} would make it narrower"
    return ""
