"""Findings on a loss that does not fall: a rate too low, a plateau, decay, precision."""

import jax.numpy as jnp
import numpy as np

from .finding import Finding
from .signs import LEAST, Signs

# How far a fall must be from chance, in standard errors: 4 is once in 30 000.
SURE = 4.0
# The mean loss falls from each third of the run to the next. In a straight line the two falls are
# equal; in a healthy run the second one is small. A loss counts as straight if the second fall is
# above this part of the first.
STRAIGHT = 0.25
# The fall from the start to the mean of the first third, as a part of the fall from there to the
# mean of the last third. In a straight line it is 0.25. A healthy run falls fastest in its first
# third. Among the recorded runs that look straight from third to third, the healthy ones have 0.8
# and more, and the slow ones 0.35 and less.
SLOW = 0.4
# Parameters whose path is shorter than this part of their norm have hardly moved.
UNMOVED = 0.01
FLAT = 0.04  # of the fall: the most that a plateau may still gain, the error included
FLAT_OF_LEVEL = 0.1  # of the loss that is left: a second bound on the same gain
STALL = 0.03  # of the fall: the most that a run with too strong a decay gains in its last 60 %
SHRUNK = 0.75  # of the first norm: the parameters have shrunk if they end below it
HIGHER = "lrax.sweep(task, optimizer, lrax.log_grid(peak, 100 * peak, 9), steps=...)"


def findings(signs: Signs) -> list[Finding]:
    """Findings of a training that is slower or worse than it could be."""
    if signs.count < LEAST or len(signs.loss) < len(signs.log.loss.values):
        return []
    too_small = _too_small(signs)
    if too_small is not None:
        return [too_small]  # updates that are rounded away look like those of a rate too low
    some = [_too_low(signs), _decays(signs) or _plateau(signs)]
    return [finding for finding in some if finding is not None]


def _too_small(signs: Signs) -> Finding | None:
    """The updates are below the spacing of the parameters' dtype, and are rounded away."""
    ratios = signs.log.at("update_ratio", signs.steps)
    if ratios is None or not signs.log.dtype:
        return None
    eps = float(jnp.finfo(signs.log.dtype).eps)
    # At the end of a decay every update is small. So only the part at a high rate counts.
    rates = signs.rates
    high = np.ones(signs.count, bool) if rates is None else rates >= 0.5 * rates.max()
    ratio = float(np.median(ratios[high]))
    # A change below half of the spacing is rounded away. As a part of a weight, this is eps / 4 to
    # eps / 2, depending on the mantissa. The ratio is one of norms, and weights far below the
    # average size still move: at eps / 16, those below an eighth to a quarter of it.
    if not 0 < ratio < eps / 16:
        return None
    places = np.flatnonzero(high)
    return Finding(
        name="updates_too_small",
        what=f"The updates are too small for {signs.log.dtype}: most of them are rounded away.",
        evidence={"update ratio, median": ratio, "eps of the dtype": eps, "needed": eps / 4},
        at=signs.span(int(places[0]), int(places[-1])),
        confidence="certain" if ratio < eps / 64 else "likely",
        advice=(
            "Keep the parameters, or a copy for the optimizer, in float32, and compute in the"
            f" smaller dtype; or raise the rate {eps / 4 / ratio:.0f} times, if it is stable there."
        ),
        call="lrax.sweep(..., monitors=[lrax.monitors.update_ratio]) shows the ratio",
    )


def _distance(signs: Signs) -> np.ndarray:
    """The sum of the rates up to each record; if none is above zero, the number of steps."""
    rates = signs.rates
    # No record follows the last one, so the last gap is repeated.
    gaps = np.diff(signs.steps, append=2 * signs.steps[-1] - signs.steps[-2])
    known = rates is not None and rates.sum() > 0
    return np.cumsum(gaps * (rates if known else 1.0))


def _thirds(signs: Signs, distance: np.ndarray) -> tuple[np.ndarray, float]:
    """The means of the loss over thirds of a distance, and their largest standard error."""
    # The factor puts a record on the border of two thirds into the first of them, so that equal
    # steps give equal thirds.
    third = np.minimum((3 * (distance / distance[-1]) * (1 - 1e-9)).astype(int), 2)
    parts = [signs.loss[third == i] for i in range(3)]
    least = min(map(len, parts))
    if least < LEAST // 6:
        return np.full(3, np.nan), np.inf
    # Spikes move the mean of the sorted middle half less than they move the mean of all.
    means = [np.mean(np.sort(part)[len(part) // 4 : -(len(part) // 4)]) for part in parts]
    return np.array(means), float(1.2 * signs.noise / np.sqrt(least))


def _too_low(signs: Signs) -> Finding | None:
    """The loss falls in a straight line to the end, or neither it nor the parameters move."""
    means, error = _thirds(signs, _distance(signs))
    # The fall must be straight over time too. A decay of the rate lets the loss fall at the end of
    # the run, where the distance is short.
    in_time = _thirds(signs, np.arange(1.0, signs.count + 1))[0]
    if not np.isfinite(error):
        return None
    early, late = means[0] - means[1], means[1] - means[2]
    total = float(early + late)
    evidence: dict[str, float | int | str] = {
        "loss in the first third": float(means[0]),
        "in the second": float(means[1]),
        "in the last": float(means[2]),
    }
    ratios = signs.log.at("update_ratio", signs.steps)
    if ratios is not None:
        evidence["update ratio, median"] = float(np.median(ratios))
    start = max(signs.start, float(np.median(signs.loss[:3])))  # one record is noisy
    slow = start - means[0] - error < SLOW * total
    straight = late > STRAIGHT * max(early, 0.0) and late > 2 * error
    straight &= in_time[1] - in_time[2] > STRAIGHT * max(in_time[0] - in_time[1], 0.0)
    if slow and straight and total > SURE * error:
        evidence["straightness"] = float(late / early) if early > 0 else np.inf
        return Finding(
            name="rate_too_low",
            what=(
                "The loss still falls in a straight line at the end: the run has not passed its"
                " first, fast phase."
            ),
            evidence=evidence,
            at=signs.span(0, signs.count - 1),
            confidence="likely",
            advice="Raise the peak rate by 10, or train for longer.",
            call=HIGHER,
        )
    if ratios is None or abs(total) > 2 * error or signs.fell:
        return None
    # A loss that stays within its noise is common in fine-tuning. It is a fault if the parameters
    # have not moved either.
    gaps = np.diff(signs.steps, append=2 * signs.steps[-1] - signs.steps[-2])
    path = float(np.sum(gaps * ratios))
    if path > UNMOVED:
        return None
    return Finding(
        name="rate_too_low",
        what="The loss does not fall beyond its noise, and the parameters have hardly moved.",
        evidence=evidence | {"path of the parameters, of their norm": path},
        at=signs.span(0, signs.count - 1),
        confidence="likely",
        advice="Raise the peak rate by 10 to 100; if nothing changes, look at the gradients.",
        call=HIGHER,
    )


def _late(signs: Signs) -> tuple[int, float, float]:
    """The first record of the last 60 % of the run, the fall of the loss there, and its error."""
    first = int(0.4 * signs.count)
    middle = (first + signs.count) // 2
    before, after = signs.loss[first:middle], signs.loss[middle:]
    gain = float(np.median(before) - np.median(after))
    # The standard error of the difference of two medians, as under `Signs.blur`.
    error = float(signs.noise * np.sqrt(np.pi / 2 * (1 / len(before) + 1 / len(after))))
    return first, gain, error


def _plateau(signs: Signs) -> Finding | None:
    """The loss stands still for the last 60 % of the run, at a high rate."""
    rates = signs.rates
    first, gain, error = _late(signs)
    if not signs.fell or rates is None or signs.count < 2 * LEAST:
        return None
    if rates[first:].min() < 0.5 * rates.max():
        return None
    # The validation loss has less noise, and may show that the run still learns.
    series = signs.log.val_loss
    late = np.array([]) if series is None else series.values[series.steps >= signs.steps[first]]
    if len(late) >= 3 and np.median(late[:3]) - np.median(late[-3:]) > FLAT * signs.fall:
        return None
    # The gain must be small even if its error is added, and must not exceed the error. Without a
    # validation loss to confirm it, twice the error is added. A loss near zero may still halve
    # within a percent of its fall, so the gain is also compared to the loss that is left.
    most = gain + (1 if len(late) >= 3 else 2) * error
    left = abs(float(np.median(signs.loss[first:])))
    if most > min(FLAT * signs.fall, FLAT_OF_LEVEL * left) or gain > error:
        return None
    return Finding(
        name="plateau",
        what=(
            f"The loss has stood still since step {signs.steps[first]:.0f}, at an undiminished"
            " rate."
        ),
        evidence={
            "fall of the whole run": signs.fall,
            "gain in the last 60 %": gain,
            "error of the gain": error,
            "rate": float(rates[-1]),
        },
        at=signs.span(first, signs.count - 1),
        confidence="likely",
        advice=(
            "Decay the rate: at a constant rate the noise of the updates keeps the loss up. If it"
            " does not fall then, the run has converged and may end here."
        ),
        call="lrax.controllers.plateau(), or lrax.cooldown(schedule, at, steps)",
    )


def _decays(signs: Signs) -> Finding | None:
    """The parameters shrink, and the loss stands still although the gradient does not vanish."""
    norms = signs.log.at("param_norm", signs.steps)
    grads = signs.log.at("grad_norm", signs.steps)
    if norms is None or norms[0] <= 0 or not signs.fell:
        return None
    first, gain, error = _late(signs)
    if norms[-1] > SHRUNK * norms[0] or gain > max(STALL * signs.fall, error):
        return None
    evidence = {
        "norm of the parameters, start": float(norms[0]),
        "end": float(norms[-1]),
        "gain in the last 60 %": gain,
    }
    if grads is not None:
        # At a minimum of the loss the gradient is noise. If weight decay balances the gradient,
        # the gradient is as large as before.
        before = float(np.median(grads[first // 2 : first]))
        after = float(np.median(grads[-signs.width :]))
        if after < 0.7 * before:
            return None
        evidence["gradient's norm, at 40 %"] = before
        evidence["at the end"] = after
    return Finding(
        name="decay_too_strong",
        what=(
            f"The parameters have shrunk to {norms[-1] / norms[0]:.0%} and the loss stands: weight"
            " decay outweighs the gradient."
        ),
        evidence=evidence,
        at=signs.span(first, signs.count - 1),
        confidence="likely" if grads is not None else "possible",
        advice=(
            "Lower the weight decay by 3 to 10. What counts is the rate times the decay: its"
            " inverse, the updates that the parameters remember, should be a large part of the run."
        ),
        call="lrax.sweep over {'learning_rate': ..., 'weight_decay': ...}",
    )
