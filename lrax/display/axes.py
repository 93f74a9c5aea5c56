"""Axes of the pictures that lrax draws itself: limits, ticks at round numbers, short texts."""

import dataclasses
import math

import numpy as np

# The most decades on a logarithmic axis. Below these, a decay to zero is only a vertical line.
_DECADES = 5


@dataclasses.dataclass(frozen=True)
class Axis:
    """A linear or logarithmic axis from `low` to `high`, with ticks and their labels."""

    low: float
    high: float
    log: bool
    ticks: tuple[float, ...]
    labels: tuple[str, ...]

    def place(self, values: np.ndarray) -> np.ndarray:
        """The places of values between the ends of the axis, from 0 to 1.

        Values beyond an end are placed at that end. Values that are not finite give NaN.
        """
        values = np.asarray(values, np.float64)
        values = np.where(np.isfinite(values), np.clip(values, self.low, self.high), np.nan)
        low, high = self.low, self.high
        if self.log:
            low, high = math.log10(low), math.log10(high)
            values = np.log10(values)
        return (values - low) / (high - low)


def counts_axis(low: float, high: float, ticks: int) -> Axis:
    """The axis of counts, with at most this number of ticks."""
    high = max(high, low + 1)  # an axis of length 0 cannot show a curve
    # Counts are whole, so the step is a whole 1, 2 or 5 times a power of ten.
    exponent = math.floor(math.log10((high - low) / ticks))
    steps = (
        digit * 10.0**power
        for power in range(max(exponent, 0), exponent + 3)
        for digit in (1, 2, 5)
    )
    step = next(step for step in steps if (high - low) / step <= ticks)
    at = _multiples(low, high, step)
    return Axis(low, high, False, at, counts_text(at))


def rates_axis(values: np.ndarray, ticks: int, *, log: bool = False) -> Axis:
    """The axis of rates for these values, with about this number of ticks.

    It begins at 0 if that takes little room.
    """
    values = np.asarray(values, np.float64)
    values = values[np.isfinite(values)]
    if log:
        return _log_axis(values[values > 0], ticks)
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 1.0)
    # A schedule's ratio of peak and end is seen only if the axis begins at 0.
    if low >= 0 and (low <= high / 2 or high - low <= 1e-6 * high):
        low = 0.0
    elif high - low <= 1e-6 * abs(low):  # a negative constant: the axis ends at 0
        high = 0.0
    if low == high:
        high = 1.0
    step = _step(low, high, ticks)
    at = _multiples(
        math.floor(low / step + 1e-6) * step, math.ceil(high / step - 1e-6) * step, step
    )
    return Axis(at[0], at[-1], False, at, tuple(map(number, at)))


def _step(low: float, high: float, ticks: int) -> float:
    """The distance between ticks that leaves little of the axis empty.

    The ends of the axis are ticks, and there are about `ticks` of them.
    """

    def cost(step: float) -> float:
        spaces = math.ceil(high / step - 1e-6) - math.floor(low / step + 1e-6)
        # Empty room costs most. A number of ticks other than the wanted one costs less.
        return 10 * (spaces * step / (high - low) - 1) + abs(math.log((spaces + 1) / ticks)) * 2

    exponent = math.floor(math.log10(high - low))
    return min(
        (
            digit * 10.0**power
            for power in (exponent - 2, exponent - 1, exponent)
            for digit in (1, 2, 2.5, 5)
        ),
        key=cost,
    )


def _log_axis(values: np.ndarray, ticks: int) -> Axis:
    high = float(values.max()) if values.size else 1.0
    low = max(float(values.min()) if values.size else 0.1, high * 10.0**-_DECADES)
    # A constant needs room above and below it.
    if high / low < 1.01:
        low, high = low / 3, high * 3
    low_exponent, high_exponent = math.log10(low), math.log10(high)
    # On a long axis only powers of ten are ticks; on a short one also 2 and 5 times them.
    if high_exponent - low_exponent > 1.5:
        low_exponent, high_exponent = (
            math.floor(low_exponent + 1e-6),
            math.ceil(high_exponent - 1e-6),
        )
        every = max(math.ceil((high_exponent - low_exponent) / max(ticks - 1, 1)), 1)
        at = tuple(10.0**exponent for exponent in range(high_exponent, low_exponent - 1, -every))[
            ::-1
        ]
        return Axis(10.0**low_exponent, 10.0**high_exponent, True, at, tuple(map(number, at)))
    candidates = [
        digit * 10.0**exponent
        for exponent in range(math.floor(low_exponent) - 1, math.ceil(high_exponent) + 1)
        for digit in (1, 2, 5)
    ]
    low = max(value for value in candidates if value <= low * (1 + 1e-6))
    high = min(value for value in candidates if value >= high * (1 - 1e-6))
    at = tuple(value for value in candidates if low * (1 - 1e-9) <= value <= high * (1 + 1e-9))
    return Axis(low, high, True, at, tuple(map(number, at)))


def _multiples(low: float, high: float, step: float) -> tuple[float, ...]:
    first, last = math.ceil(low / step - 1e-6), math.floor(high / step + 1e-6)
    # Rounded, because 3 * 0.1 prints as 0.30000000000000004.
    return tuple(float(f"{i * step:.12g}") for i in range(first, last + 1))


def number(value: float) -> str:
    """A rate in few characters: `0`, `0.05`, `3e-4`."""
    if value == 0 or 1e-3 * (1 - 1e-6) <= abs(value) < 1e5:
        return f"{value:.6g}"
    # `:g` would pad the exponent to two digits: 3e-04.
    mantissa, _, exponent = f"{value:.5e}".partition("e")
    mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
    return f"{mantissa}e{int(exponent)}" if exponent else mantissa


def counts_text(counts: tuple[float, ...]) -> tuple[str, ...]:
    """Counts in few characters, in one unit: `0`, `5k`, `10k`."""
    largest = max(map(abs, counts), default=0)
    power, suffix = next(
        (power, suffix)
        for power, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1, ""))
        if largest >= 10 * power or power == 1
    )
    return tuple(f"{count / power:g}{suffix}" if count else "0" for count in counts)
