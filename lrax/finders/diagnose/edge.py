"""How near a run's rate is to the largest stable one, where that was recorded."""

import numpy as np

from .log import Log

# Training with large batches goes on at the edge of stability: the sharpness stays where the rate
# is about the largest stable one. There the ratio of the two was 0.9 to 1.3 in small networks.
EDGE = (0.9, 1.3)
SHARE = 0.2  # of the records: the least that is worth a note


def evidence(log: Log, at: float) -> dict[str, float | int]:
    """What the largest stable rate says of a step where the loss has risen; {} if it is unknown."""
    if (known := _ratios(log)) is None:
        return {}
    steps, ratios = known
    before = steps <= at
    if not before.any():
        return {}
    steps, ratios = steps[before], ratios[before]
    # The beginning of the last stretch above the stable rate is what counts. Later, while the loss
    # rises, the sharpness changes by orders of magnitude.
    below = np.flatnonzero(ratios <= 1)
    first = below[-1] + 1 if len(below) else 0
    if first == len(ratios):
        return {"rate, of the largest stable one": float(ratios[-1])}
    return {
        "above the largest stable rate since step": int(steps[first]),
        "rate, of the largest stable one then": float(ratios[first]),
    }


def notes(log: Log) -> list[str]:
    """A note on a run at the edge of stability, which is no fault."""
    if (known := _ratios(log)) is None:
        return []
    steps, ratios = known
    there = (ratios >= EDGE[0]) & (ratios <= EDGE[1])
    if np.mean(there) < SHARE:
        return []
    low, high = np.quantile(ratios[there], [0.1, 0.9])
    first, last = steps[there][[0, -1]]
    return [
        f"between steps {first:.0f} and {last:.0f} the rate is at the edge of stability, mostly"
        f" {low:.2f} to {high:.2f} of the largest stable one: usual for large batches, and no fault"
    ]


def _ratios(log: Log) -> tuple[np.ndarray, np.ndarray] | None:
    """The steps of the records, and the rate over the largest stable one; None if unknown."""
    stable = log.monitors.get("stable_rate")
    if stable is None or log.rates is None:
        return None
    rates = log.at("rates", stable.steps)
    good = stable.values > 0  # not NaN, which stands for a loss that is not finite
    if rates is None or not good.any():
        return None
    return stable.steps[good], rates[good] / stable.values[good]
