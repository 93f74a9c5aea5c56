"""Findings on the schedule, from the curve of the rate alone."""

import numpy as np

from .finding import Finding
from .log import Log

# The rate jumps between two records if it moves by more than a fifth of the peak, and by more than
# ten times its median move. The second condition is for coarse logs. With 30 records, a triangle
# whose sides take 10 % of the run moves by a third of the peak at a time, but all its
# moves are that large.
JUMP = 0.2
UNUSUAL = 10.0
# A one-cycle schedule reaches its peak after 30 to 45 % of the run (Smith 2018), and a single
# triangle after 50 %.
LONG_WARMUP = 0.55
# The least part of the run at the floor. A schedule that is made for the run's length comes near
# its floor only at the end: a cosine is within 2 % of it for the last 9 % of the run, and a
# polynomial of power 3 is exactly at it for 0 %.
AT_FLOOR = 0.15
# The highest floor that is a fault, as a part of the peak. A floor of 10 % is customary in
# pre-training, and at that rate the run still trains.
FLOOR = 0.02
CYCLE_END = 0.15  # of the peak: cycles and cooldowns end below it, mostly at a tenth of the peak
LEAST = 20  # records of the rate


def findings(log: Log) -> list[Finding]:
    """What is wrong with the schedule."""
    back = _went_back(log)
    if log.rates is None:
        return back
    steps, rates = log.rates
    peak = float(np.max(rates))
    if len(rates) < LEAST or peak <= 0:
        return back
    jumped = _count_fault(steps, rates / peak)
    some = [
        *back,
        jumped or _climbs_back(steps, rates / peak),
        _ended_early(steps, rates / peak),
        None if jumped else _long_warmup(steps, rates / peak),
    ]
    return [finding for finding in some if finding is not None]


def _went_back(log: Log) -> list[Finding]:
    """The recorded steps go back to the beginning: the count of the steps was lost."""
    steps = log.loss.steps
    # A resume from the last checkpoint goes back a little, which is not a fault.
    lost = [(old, new) for old, new in log.restarts if old > steps[0] and new <= steps[0]]
    if not lost:
        return []
    old, new = lost[0]
    return [
        Finding(
            name="count_fault",
            what=f"The recorded steps go back from {old:.0f} to {new:.0f}: the count was lost, or"
            " the file holds several runs.",
            evidence={"from": old, "to": new, "times": len(lost)},
            at=(int(new), int(old)),
            confidence="possible",
            advice=(
                "Restore the count with the parameters, or give one run at a time. Only the last"
                " record of each step was read."
            ),
            call="lrax.get_lr(opt_state) after the resume shows the rate in use",
        )
    ]


def _jumps(rates: np.ndarray) -> np.ndarray:
    """The records after which the rate jumps."""
    moves = np.abs(np.diff(rates))
    usual = np.median(moves)
    return np.flatnonzero((moves > JUMP) & (moves > UNUSUAL * usual))


def _count_fault(steps: np.ndarray, rates: np.ndarray) -> Finding | None:
    """In the middle of its decay the rate jumps up, or begins again like the start of the run.

    Jumps by design are not faults. A restart comes when a cycle is over and the rate is at its
    floor, or at intervals that grow by a constant factor. A step decay jumps down and stays there.
    """
    jumps = _jumps(rates)
    for place, jump in enumerate(jumps):
        before = rates[jump]
        # A cycle is finished if the rate before the jump is at the floor, which `CYCLE_END` bounds.
        # The last record may miss the end of the cycle by one interval, so with steep moves the
        # bound is twice the larger one of the last two moves.
        since = rates[int(np.argmax(rates[: jump + 1])) : jump + 1]
        drop = since[0] - before
        last = np.abs(np.diff(since[-3:])).max(initial=0.0)
        finished = before <= max(CYCLE_END, 2 * last)
        after = rates[jump + 1 :]
        # If the curve after the jump is that of the start of the run, the count was lost. Only the
        # start up to the jump is known: what follows it is the curve to compare.
        since_jump = steps[jump + 1 :] - steps[jump + 1]
        known = since_jump <= steps[jump] - steps[0]
        start = np.interp(since_jump[known], steps - steps[0], rates)
        same = bool(np.max(np.abs(start - after[known])) < 0.05)
        # A jump down is a fault only if the schedule begins anew there, with its warmup. A jump is
        # in the middle of a decay only if the rate has dropped before it.
        up = after[0] > before
        rises_again = same and after.max() > max(before, after[0]) + JUMP
        if finished or (not up and not rises_again) or drop < 0.01:
            continue
        if _by_design(jumps):
            return None
        at = int(steps[jump + 1])
        return Finding(
            name="count_fault",
            what=(
                f"The rate jumps at step {at}, in the middle of its decay"
                + (", and the schedule begins anew there." if same else ".")
            ),
            evidence={
                "rate before, of the peak": float(before),
                "rate after, of the peak": float(after[0]),
                "jumps": len(jumps) - place,
            },
            at=(int(steps[jump]), at),
            confidence="certain" if same else "likely",
            advice=(
                "Restore the optimizer's state with the parameters, so that the schedule goes on"
                " from its count; or shift the schedule by the steps that were made."
            ),
            call=f"lrax.shift(schedule, {at}), or lrax.get_lr(opt_state) after the resume",
        )
    return None


def _by_design(jumps: np.ndarray) -> bool:
    """Whether the jumps are cycles: three or more, whose intervals have a constant ratio."""
    gaps = np.diff(jumps).astype(np.float64)
    if len(gaps) < 2:
        return False
    ratios = gaps[1:] / gaps[:-1]
    # Intervals are known only to within a record. The second term is that error of a ratio.
    return bool(np.ptp(ratios) < 0.2 * np.median(ratios) + 2 / gaps.min())


def _climbs_back(steps: np.ndarray, rates: np.ndarray) -> Finding | None:
    """The rate rises to the end of the run, after it had decayed."""
    # The second rise may end above the first one, so the peak may lie at the end of the run. The
    # lowest rate is therefore looked for after the first rate above half of the peak.
    first_high = int(np.argmax(rates > 0.5))
    if first_high >= len(rates) - 2:
        return None
    low = first_high + int(np.argmin(rates[first_high:]))
    bottom, last = float(rates[low]), float(rates[-1])
    rise = rates[low:]
    top = max(float(rates[first_high : low + 1].max()), 0.5)
    smooth = np.all(np.diff(rise) >= -1e-6) and np.diff(rise).max(initial=0.0) < JUMP
    # A decay to a fifth or less was meant to end the run. A rise by a tenth of the peak is more
    # than rounding, and more than one odd record at the end.
    if bottom > 0.2 * top or last < bottom + 0.1 or not smooth:
        return None
    # A schedule that has risen more than once before is cyclic, and rises by design.
    if _rises(rates[: low + 1]) > 1:
        return None
    return Finding(
        name="schedule_climbs_back",
        what=(
            f"The rate reaches its lowest value at step {steps[low]:.0f} and climbs again to the"
            " end of the run."
        ),
        evidence={"lowest, of the peak": bottom, "last, of the peak": last},
        at=(int(steps[low]), int(steps[-1])),
        confidence="likely",
        advice=(
            "Give the schedule the length of the run. Some schedules, such as PyTorch's"
            " CosineAnnealingLR, rise again after their last step."
        ),
        call=f"lrax.warmup_cosine(peak, steps={steps[-1] + 1:.0f}, warmup=...) holds its end",
    )


def _rises(rates: np.ndarray) -> int:
    """How often the rate goes from below a quarter of its peak to above a half."""
    high = False
    rises = 0
    for rate in rates:
        if not high and rate > 0.5:
            high = True
            rises += 1
        elif high and rate < 0.25:
            high = False
    return rises


def _ended_early(steps: np.ndarray, rates: np.ndarray) -> Finding | None:
    """The rate has decayed to a floor near zero long before the run ends."""
    floor = float(rates[-1])
    away = np.flatnonzero(np.abs(rates - floor) > 1e-6)
    if floor > FLOOR or not len(away):
        return None
    end = int(away[-1]) + 1
    share = float((steps[-1] - steps[end]) / max(steps[-1] - steps[0], 1))
    # A step decay comes to its last value by a jump. The run trains at that value, unless it is
    # zero.
    by_step = rates[end - 1] - floor > 0.05 or len(np.unique(rates[: end + 1].round(4))) < 6
    if share < AT_FLOOR or (by_step and floor > 0):
        return None
    return Finding(
        name="schedule_ended_early",
        what=(
            f"The rate is at its floor from step {steps[end]:.0f} on: the last {share:.0%} of the"
            " run train hardly or not at all."
        ),
        evidence={"floor, of the peak": floor, "share of the run": share},
        at=(int(steps[end]), int(steps[-1])),
        confidence="certain" if floor < 1e-3 else "likely",
        advice="Give the schedule the length of the run, or end the run where the schedule ends.",
        call=f"lrax.warmup_cosine(peak, steps={steps[-1] + 1:.0f}, warmup=...)",
    )


def _long_warmup(steps: np.ndarray, rates: np.ndarray) -> Finding | None:
    """The rate rises for more than half of the run."""
    top = int(np.argmax(rates >= 0.95))
    rise = rates[: top + 1]
    share = float((steps[top] - steps[0]) / max(steps[-1] - steps[0], 1))
    if share < LONG_WARMUP or rise[0] > 0.5 or np.diff(rise).min(initial=0.0) < -1e-3:
        return None
    return Finding(
        name="warmup_too_long",
        what=f"The warmup takes {share:.0%} of the run; the rate is at its peak at step"
        f" {steps[top]:.0f} only.",
        evidence={"share of the run": share, "first rate, of the peak": float(rise[0])},
        at=(int(steps[0]), int(steps[top])),
        confidence="likely",
        advice=(
            "Take 2 to 10 % of the run for the warmup. If the run diverges with less, the peak is"
            " too high."
        ),
        call=f"lrax.warmup_cosine(peak, steps={steps[-1] + 1:.0f}, warmup={steps[-1] / 20:.0f})",
    )
