"""The finding on over-fitting: the validation loss rises where the training loss falls."""

import numpy as np

from . import robust
from .finding import Finding
from .signs import Signs

LEAST = 6  # evaluations
# The least rise of the validation loss above its lowest value: as a part of its fall, as a part of
# the lowest value, and in units of its noise. A rise of a few percent is usual in healthy runs, and
# seldom worth an earlier end.
RISE = 0.1
RISE_OF_LEVEL = 0.08
SURE = 4.0
PAST = 0.75  # of the run; a minimum after it is not judged: it may come from the end of a decay


def findings(signs: Signs) -> list[Finding]:
    """Over-fitting, if there is a validation loss."""
    series = signs.log.val_loss
    if series is None or len(series.values) < LEAST or not signs.count:
        return []
    steps, values = series
    # The median of three evaluations, so that a single low value by chance is not the minimum.
    trend = robust.running_median(values, 3)
    low = int(np.argmin(trend))
    rise = float(trend[-1] - trend[low])
    # If the first value of the trend is the lowest, there is no fall: the highest value is used.
    fall = max(float(values[0] - trend[low]), float(values.max() - trend[low]) if low == 0 else 0.0)
    late = steps[low] > steps[0] + PAST * (steps[-1] - steps[0])
    if (
        late
        or rise < max(RISE * fall, RISE_OF_LEVEL * abs(trend[low]))
        or rise < SURE * robust.noise(values)
    ):
        return []
    # If the training loss rises as well, the cause is the rate, and not over-fitting. If it ends
    # above the lowest validation loss, the data are not fitted at all.
    at = int(np.searchsorted(signs.steps, steps[low]))
    if at >= signs.count - 1:
        return []
    then, now = float(signs.trend[at]), float(signs.trend[-1])
    if now > min(then + signs.blur, float(trend[low])):
        return []
    return [
        Finding(
            name="over_fitting",
            what=(
                f"The validation loss is lowest at step {steps[low]:.0f} and rises from there,"
                " while the training loss falls: this is over-fitting, not the rate."
            ),
            evidence={
                "lowest validation loss": float(trend[low]),
                "last": float(trend[-1]),
                "training loss then": then,
                "now": now,
            },
            at=(int(steps[low]), int(steps[-1])),
            confidence="certain" if rise > 0.5 * fall else "likely",
            advice=(
                "End the run there, or decay the rate to zero by then; more data, regularisation or"
                " a smaller model help, another rate does not."
            ),
            call=f"lrax.warmup_cosine(peak, steps={max(steps[low], 1):.0f}, warmup=...)",
        )
    ]
