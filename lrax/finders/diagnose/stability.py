"""Findings on a loss that blows up: diverging, spiking, a rate too high, a warmup too short."""

import numpy as np

from . import edge, robust
from .finding import Finding
from .log import Log
from .signs import LEAST, Signs

# A loss that has risen again by half of its fall has diverged, even if it never becomes NaN.
LOST = 0.5
# How far above its start the loss must be, in standard deviations of a record. Losses of
# minibatches have heavy tails: healthy runs pass 4 now and then, but none passed 8.
THROWN = 8.0
# The least climb of the trend: in standard errors, so that it is not noise, and as a part of the
# fall, so that it matters. A warm restart lifts the loss by 5 % of the fall.
CLIMB = 8.0
CLIMB_PART = 0.15
# The least height of a spike: in units of the noise around it, in units of the 95 % quantile of all
# deviations, and as a part of the fall. Late in training, a single hard example in a batch is tens
# of standard deviations high, but a small part of the fall. If there are few records while the loss
# falls fast, single records are up to a third of the fall above the trend.
SPIKE = 12.0
SPIKE_OF_TAIL = 3.0
SPIKE_PART = 0.5
EARLY = 0.15  # the first part of the run, in which a longer warmup would have helped
SURGE_PART = 0.1  # of the fall: the least height of a surge
SURGE = 0.03  # of the records: a shorter surge is over before it does harm
LOWER = "lrax.sweep(task, optimizer, lrax.log_grid(peak / 100, peak, 9), steps=...)"


def findings(signs: Signs) -> list[Finding]:
    """Findings of a training that is unstable."""
    ended = _not_finite(signs.log)
    if ended is not None:
        return [ended]
    if signs.count < LEAST:
        return []
    for look in (_risen, _thrown):
        if (found := look(signs)) is not None:
            return [found]
    # The findings below are of a run that recovered and went on, at a cost.
    spikes = _spikes(signs)
    climb = _climb(signs) or _falls_with_the_rate(signs)
    # If a spike lies within a climb or just before it, what the spike did to the parameters is the
    # cause of the climb.
    reach = signs.width * float(np.median(np.diff(signs.steps)))
    if spikes and climb and climb.at[0] - reach <= spikes.at[0] <= climb.at[1]:
        climb = None
    some = [_surge(signs), climb, spikes]
    return [finding for finding in some if finding is not None]


def _not_finite(log: Log) -> Finding | None:
    """The loss is NaN or infinite, or the sweep has stopped the lane as diverged."""
    steps, values = log.loss
    end = len(log.finite.values)
    if end == len(values) and not log.cause:
        return None
    # All losses of a stopped lane may be finite. Then the finding is at the highest one.
    place = end if end < len(values) else int(np.argmax(values))
    at = int(steps[place])
    evidence: dict[str, float | int | str] = {}
    if end < len(values):
        evidence["loss"] = str(values[end])
    if log.cause:
        evidence["cause"] = log.cause
    if end:
        evidence["highest finite loss"] = float(np.max(values[:end]))
    rate = log.at("rates", np.array([at]))
    if rate is not None:
        evidence["rate"] = float(rate[0])
    evidence |= edge.evidence(log, at)
    from_start = end == 0
    return Finding(
        name="diverging",
        what=(
            "The loss is not finite before the first update: no rate can help."
            if from_start
            else f"The loss has diverged at step {at}."
        ),
        evidence=evidence,
        at=(int(steps[max(place - 1, 0)]), at),
        confidence="certain",
        advice=(
            "Check the data, the initial parameters and the loss."
            if from_start
            else "Lower the peak rate by 3 to 10, or warm up for longer, or clip the gradient. In"
            " float16, scale the loss."
        ),
        call="lrax.checks()" if from_start else LOWER,
    )


def _risen(signs: Signs) -> Finding | None:
    """The trend has risen by half of its fall or more, and has not come back by the end."""
    trend = signs.trend
    rise = float(trend[-1] - trend[signs.low])
    if not signs.fell or rise < LOST * signs.fall or rise < CLIMB * signs.blur:
        return None
    return Finding(
        name="diverging",
        what="The training loss fell, then rose, and has not come back.",
        evidence={
            "lowest": float(trend[signs.low]),
            "last": float(trend[-1]),
            "rise, of the fall": rise / signs.fall,
            **_rate_at(signs, signs.low),
        },
        at=signs.span(signs.low, signs.count - 1),
        confidence="certain" if rise > signs.fall else "likely",
        advice="Lower the peak rate by 3 to 10, or begin its decay before the rise.",
        call=LOWER,
    )


def _thrown(signs: Signs) -> Finding | None:
    """The loss was thrown far above its start, or the parameters grew, and nothing was learned.

    Nothing was learned if the loss does not fall by more than noise, or ends below its start by
    less than a tenth of the height to which it was thrown.
    """
    # The median of three, so that one bad batch does not count.
    narrow = robust.running_median(signs.loss, 3)
    top = int(np.argmax(narrow))
    norms = signs.log.at("param_norm", signs.steps)
    height = float(narrow[top] - signs.start)
    late = float(signs.trend[-1])
    stuck = not signs.fell or signs.start - late < 0.1 * height
    # Parameters that have become three times as large without any progress were thrown as well.
    grown = norms is not None and norms[0] > 0 and norms[-1] > 3 * norms[0]
    # The second bound is for a curve without noise, which may rise by its rounding.
    thrown = height > THROWN * max(signs.noise, 1e-12 * abs(signs.start))
    if not stuck or not (thrown or grown):
        return None
    evidence = {"start": signs.start, "highest": float(narrow[top]), "last": late}
    if norms is not None and norms[0] > 0:
        evidence["growth of the parameters' norm"] = float(norms[-1] / norms[0])
    if thrown:
        what = (
            f"The loss was thrown above its start by step {signs.steps[top]:.0f} and does not end"
            " clearly below it: the parameters went where nothing is learned."
        )
    else:
        what = "The parameters have become several times as large, and the loss has not fallen."
    return Finding(
        name="rate_too_high",
        what=what,
        evidence=evidence | _rate_at(signs, top),
        at=signs.span(0, signs.count - 1),
        confidence="certain" if thrown and grown else "likely",
        advice="Lower the peak rate by 10, and search from there; a warmup helps if it is close.",
        call=LOWER,
    )


def _surge(signs: Signs) -> Finding | None:
    """Early in the run the loss rises above its start for some time, and falls later."""
    early = max(int(EARLY * signs.count), 3)
    narrow = robust.running_median(signs.loss, 3)[:early]
    level = signs.start + max(4 * signs.noise, SURGE_PART * signs.fall)
    above = np.flatnonzero(narrow > level)
    if not signs.fell or len(above) < max(4, SURGE * signs.count):
        return None
    top = int(np.argmax(narrow))
    return Finding(
        name="warmup_too_short",
        what=(
            f"The loss rises above its start early in the run, up to step {signs.steps[top]:.0f},"
            " before it falls."
        ),
        evidence={
            "start": signs.start,
            "highest": float(narrow[top]),
            "records above": len(above),
            **_rate_at(signs, top),
        },
        at=signs.span(int(above[0]), int(above[-1])),
        confidence="likely",
        advice="Warm up for longer, over 5 to 10 % of the run, or lower the peak rate by 2 to 3.",
        call=f"lrax.warmup_cosine(peak, steps, warmup={max(signs.steps[-1] / 10, 1):.0f})",
    )


def _climb(signs: Signs) -> Finding | None:
    """In the middle of the run the trend climbs, and comes down again."""
    trend = signs.trend
    climbs = trend - np.minimum.accumulate(trend)
    top = int(np.argmax(climbs))
    height = float(climbs[top])
    if not signs.fell or height < max(CLIMB * signs.blur, CLIMB_PART * signs.fall):
        return None
    low = int(np.argmin(trend[: top + 1]))
    # If the rate is small during the climb, or decays to a fifth, the cause is another one, such as
    # weight decay or the data.
    if signs.rates is not None and signs.rates[low : top + 1].max() < 0.3 * signs.rates.max():
        return None
    if signs.rates is not None and signs.rates[top] < 0.2 * signs.rates[low]:
        return None
    # If the run begins at a high rate and climbs in its first third, a warmup may be missing.
    cold = signs.rates is not None and signs.rates[0] > 0.5 * signs.rates.max()
    cold = cold and top < signs.count / 3
    return Finding(
        name="rate_too_high",
        what=(
            f"The training loss climbs from step {signs.steps[low]:.0f} to {signs.steps[top]:.0f}"
            " before it falls again: the rate is above what the loss is stable at."
        ),
        evidence={
            "low": float(trend[low]),
            "high": float(trend[top]),
            "climb, of the fall": height / signs.fall,
            **_rate_at(signs, top),
        },
        at=signs.span(low, top),
        confidence="likely",
        advice=(
            "Lower the peak rate by 2 to 5"
            + (", or warm up over 10 to 25 % of the run" if cold else "")
            + ". If the data changed there, look at the data first."
        ),
        call=LOWER,
    )


def _falls_with_the_rate(signs: Signs) -> Finding | None:
    """The loss stood still while the rate was high, and fell when the rate decayed."""
    rates = signs.rates
    if rates is None or rates.max() <= 0 or rates[-1] > 0.2 * rates.max():
        return None
    high = np.flatnonzero(rates >= 0.7 * rates.max())
    first, last = int(high[0]), int(high[-1])
    # Long enough at the peak to see that the loss stands, and long enough after it.
    if last - first < 2 * signs.width or signs.count - last < signs.width // 2:
        return None
    trend = signs.trend
    middle = (first + last) // 2
    # At the peak: the level in the second half of the time, its standard error, and the fall from
    # the first half to the second.
    half = last - middle
    level = float(np.median(signs.loss[middle:last]))
    noise = max(robust.noise(signs.loss[middle:last]), signs.noise)
    error = float(noise * np.sqrt(np.pi / 2 / half)) + signs.blur
    before = float(np.median(signs.loss[first:middle])) - level
    drop = level - float(trend[-1])
    if not signs.fell or drop < max(4 * error, CLIMB_PART * signs.fall):
        return None
    # A loss that still fell at the peak did not stand still there. Without a change of pace it
    # would fall from the second half to the end by this much.
    half_way = (signs.steps[last] - signs.steps[first]) / 2
    later = (signs.steps[-1] - signs.steps[middle]) / half_way
    if drop < max(2.0, later) * max(before, 0.0):
        return None
    return Finding(
        name="rate_too_high",
        what=(
            "The loss stands at a high level while the rate is at its peak, and falls only when the"
            " rate decays: most of the run was noise."
        ),
        evidence={
            "at the peak": level,
            "at the end": float(trend[-1]),
            "drop, of the fall": drop / signs.fall,
            **_rate_at(signs, last),
        },
        at=signs.span(middle, last),
        confidence="likely",
        advice="Lower the peak rate by 3, or begin the decay earlier.",
        call=LOWER,
    )


def _spikes(signs: Signs) -> Finding | None:
    """Short spikes: records far above the trend, after the start of the run."""
    rest = signs.loss - signs.trend
    around = robust.NORMAL * robust.running_median(np.abs(rest), 2 * signs.width + 1)
    # Heavy tails are not spikes. The 95 % quantile of the deviations shows how heavy the tails are.
    tail = float(np.quantile(np.abs(rest[signs.width :]), 0.95))
    height = np.maximum(SPIKE * around, max(SPIKE_OF_TAIL * tail, SPIKE_PART * signs.fall))
    spikes = np.flatnonzero(rest > height)
    # In the first window the loss falls so fast that it is above the trend without a spike.
    spikes = spikes[spikes >= signs.width]
    if not signs.fell or not len(spikes):
        return None
    # Records up to half a window apart belong to one spike.
    groups = np.split(spikes, np.flatnonzero(np.diff(spikes) > signs.width // 2) + 1)
    # A rise for more than half a window lifts the trend itself, and is for `_climb` to find.
    highest = int(spikes[np.argmax(rest[spikes])])
    several = len(groups) >= 3
    return Finding(
        name="spiking",
        what=f"The loss spikes {len(groups)} time{'s' if len(groups) > 1 else ''}, and recovers.",
        evidence={
            "spikes": len(groups),
            "highest": float(signs.loss[highest]),
            "trend there": float(signs.trend[highest]),
            "step": int(signs.steps[highest]),
            "longest, in records": max(len(group) for group in groups),
            **_rate_at(signs, highest),
        },
        at=signs.span(int(spikes[0]), int(spikes[-1])),
        confidence="likely",
        advice=(
            "Look at the batches of these steps. "
            + (
                "If they are sound, lower the rate by 2 or clip the gradient."
                if several
                else "Clip the gradient, so that one bad batch cannot throw the parameters."
            )
        ),
        call="optax.clip_by_global_norm, with a limit from lrax.monitors.grad_norm",
    )


def _rate_at(signs: Signs, record: int) -> dict[str, float]:
    """The rate at a record and whether it was stable, as far as they are known."""
    if signs.rates is None:
        return {}
    at = float(signs.steps[record])
    return {"rate": float(signs.rates[record]), **edge.evidence(signs.log, at)}
