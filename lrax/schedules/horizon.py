"""`Horizon`: the length of a run, and durations in percent, epochs, tokens or samples as steps."""

import dataclasses
import math
import re
from fractions import Fraction
from typing import Any

import numpy as np

from .. import _require

_SUFFIXES = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9, "t": 10**12}
_UNITS = {
    **dict.fromkeys(("", "ba", "batch", "batches", "step", "steps"), "steps"),
    **dict.fromkeys(("ep", "epoch", "epochs"), "epochs"),
    **dict.fromkeys(("sp", "sample", "samples"), "samples"),
    **dict.fromkeys(("tok", "token", "tokens"), "tokens"),
    **dict.fromkeys(("%", "dur"), "parts"),
}
# The units are spelled out, so that the "b" of "5ba" begins the unit "ba" (batches) and is not the
# suffix for a billion.
_FORM = re.compile(
    r"(?P<number>(?:(?:\d+(?:_\d+)*)(?:\.(?:\d+(?:_\d+)*)?)?|\.\d+(?:_\d+)*)(?:e[+-]?\d{1,3})?)"
    rf"(?P<suffix>[kmbt]?)\s*(?P<unit>{'|'.join(_UNITS)})",
    re.IGNORECASE | re.ASCII,
)
_ROUNDING = {
    "nearest": lambda exact: math.floor(exact + Fraction(1, 2)),
    "floor": math.floor,
    "ceil": math.ceil,
}
_MOST = 2**31 - 1
# The longest text that is read. Python refuses a number of more than 4300 digits, with an error
# that does not name the argument.
_CHARACTERS = 64


@dataclasses.dataclass(frozen=True)
class Horizon:
    r"""The length of a training run. Called with a duration, it returns optimizer updates.

    $$\text{steps} = \text{round}\left(\text{epochs} \cdot
    \frac{\text{dataset\_size}}{\text{batch\_size} \cdot \text{accumulate}}\right)$$

    Use it where durations come as `"5ep"`, `"10%"` or `"20Btok"`, to give the builders the plain
    step counts that they take. A duration is a number and a unit:

    | unit | a duration in | needs |
    |---|---|---|
    | none, `steps`, `ba` | optimizer updates | |
    | `%`, `dur` | fractions of `steps`: `"10%"` is `"0.1dur"` | |
    | `ep`, `epochs` | passes over the data | `dataset_size`, `batch_size` |
    | `sp`, `samples` | samples | `batch_size` |
    | `tok`, `tokens` | tokens | `tokens_per_step` |

    The number may have underscores, an exponent, and one of the suffixes K, M, B, T for 10^3, 10^6,
    10^9 and 10^12. Arithmetic is exact in the decimal digits as written; only the result is
    rounded. A duration above 0 is at least one step.

    A step is an optimizer update, as everywhere in lrax. Under `optax.MultiSteps(optimizer,
    every_k_schedule=k)` the schedule inside `optimizer` advances once in `k` batches: give
    `accumulate=k`, and all durations count updates.

    Args:
      steps: Length of the run in updates. Give this, or one of `epochs`, `tokens` and `samples`.
      epochs: Length of the run in passes over the data; a fraction such as `1.5` may be given.
      tokens: Length of the run in tokens, such as `"20B"`.
      samples: Length of the run in samples.
      batch_size: Samples in one batch, over all devices.
      dataset_size: Samples in one epoch.
      tokens_per_step: Tokens of one optimizer update, over all devices and all the batches that it
        accumulates.
      accumulate: Batches in one optimizer update. As in `optax.MultiSteps`, an update may take
        batches of two epochs.
      drop_last: What happens to the last, partial batch of an epoch. `None`: no batch is partial,
        because the epochs follow one another without a break, and a batch may take samples of two
        epochs, as in `lrax.minibatches`. The number of batches in an epoch is the exact fraction
        `dataset_size / batch_size`. `True`: the partial batch is dropped, as by PyTorch's
        `drop_last`, and the fraction is rounded down. `False`: the partial batch counts as a batch,
        and the fraction is rounded up.
      rounding: `"nearest"` (halves up), `"floor"` or `"ceil"`.

    Returns:
      A `Horizon`, with the length in updates as `.steps`.

    Raises:
      ValueError: if no length is given, two lengths disagree, or a duration cannot be read, is
        negative, above 2^31 - 1 steps, or needs an argument that was not given.
      TypeError: if a number has the wrong type.

    Example:
      >>> horizon = lrax.Horizon(epochs=90, dataset_size=1_281_167, batch_size=1024)
      >>> horizon.steps, horizon("5ep"), horizon("10%"), horizon("1e6sp"), horizon(300)
      (112603, 6256, 11260, 977, 300)
      >>> lrax.warmup_cosine(peak=1e-3, steps=horizon.steps, warmup=horizon("5ep"))
      warmup_cosine(peak=0.001, steps=112603, warmup=6256, init=0, end=0)
      >>> lrax.Horizon(tokens="20B", tokens_per_step=2**19)("2e9tok")
      3815
    """

    steps: Any = None  # after `__post_init__` always the length in updates
    epochs: int | float | str | None = None
    batch_size: int | None = None
    dataset_size: int | None = None
    tokens_per_step: int | None = None
    _: dataclasses.KW_ONLY
    tokens: int | float | str | None = None
    samples: int | float | str | None = None
    accumulate: int = 1
    drop_last: bool | None = None
    rounding: str = "nearest"

    def __post_init__(self):
        for name in ("batch_size", "dataset_size", "tokens_per_step", "accumulate"):
            if getattr(self, name) is not None or name == "accumulate":
                number = _require.count(name, getattr(self, name), 1, _require.LONG)
                object.__setattr__(self, name, number)
        if self.drop_last is not None and not isinstance(self.drop_last, bool):
            raise TypeError(f"`drop_last` must be True, False or None, got {self.drop_last!r}")
        _require.choice("rounding", self.rounding, _ROUNDING)
        given = {unit: getattr(self, unit) for unit in ("steps", "epochs", "tokens", "samples")}
        lengths = {}
        for unit, value in given.items():
            if value is not None:
                words = f"{unit}={value!r}"
                exact = _read(unit, value, unit) * self._per(unit, words)
                lengths[words] = self._round(exact, self.rounding, unit, value)
        if not lengths:
            raise ValueError(
                "one of `steps`, `epochs`, `tokens` and `samples` must be given, got none"
            )
        # `dataclasses.replace` passes the computed `steps` again, together with the length that
        # they were computed from. So two lengths are allowed if they agree.
        if len(set(lengths.values())) > 1:
            of = ", ".join(f"{words} of {steps} steps" for words, steps in lengths.items())
            names = " and ".join(f"`{unit}`" for unit, value in given.items() if value is not None)
            raise ValueError(f"{names} must agree, got {of}; leave one out or set it to None")
        object.__setattr__(self, "steps", next(iter(lengths.values())))

    @property
    def steps_per_epoch(self) -> Fraction:
        """Optimizer updates in one epoch, exactly."""
        return self._per("epochs", "steps_per_epoch")

    def __call__(self, duration: int | str, *, rounding: str | None = None) -> int:
        """A duration in optimizer updates.

        Args:
          duration: A number of steps, or a number and a unit as text.
          rounding: `"nearest"` (halves up), `"floor"` or `"ceil"`; by default that of the horizon.

        Returns:
          The steps: 0 for a duration of 0, otherwise at least 1.

        Raises:
          ValueError: if the duration cannot be read, is negative, above 2^31 - 1 steps, or needs an
            argument that the horizon was not given; or if `rounding` is an unknown word.
          TypeError: if `duration` is neither a whole number nor text.
        """
        rounding = self.rounding if rounding is None else rounding
        _require.choice("rounding", rounding, _ROUNDING)
        number, unit = _read_unit("duration", duration)
        exact = number * self._per(unit, repr(duration))
        return self._round(exact, rounding, "duration", duration)

    def _per(self, unit: str, words: str) -> Fraction:
        """Optimizer updates in one unit; `words` is what the message calls the duration."""

        def given(name: str) -> int:
            value = getattr(self, name)
            if value is None:
                raise ValueError(f"`{name}` must be given to count {words} in steps, got none")
            return value

        if unit == "steps":
            return Fraction(1)
        if unit == "parts":
            return Fraction(self.steps)
        if unit == "tokens":
            return Fraction(1, given("tokens_per_step"))
        if unit == "samples":
            return Fraction(1, given("batch_size") * self.accumulate)
        batches = Fraction(given("dataset_size"), given("batch_size"))
        if self.drop_last is not None:
            batches = Fraction(math.floor(batches) if self.drop_last else math.ceil(batches))
            if not batches:
                raise ValueError(
                    "`batch_size` must be at most `dataset_size` where `drop_last` is True,"
                    f" got {self.batch_size} and {self.dataset_size}"
                )
        return batches / self.accumulate

    def _round(self, exact: Fraction, rounding: str, name: str, value: Any) -> int:
        steps = _ROUNDING[rounding](exact)
        if steps > _MOST:
            raise ValueError(
                f"`{name}` must come to at most 2^31 - 1 steps, the most that an int32 counts, got"
                f" {value!r}"
            )
        return max(steps, 1 if exact else 0)


def _read(name: str, value: Any, unit: str) -> Fraction:
    """A length in a fixed unit. Text may repeat the unit, and may name no other."""
    number, found = _read_unit(name, value, unit)
    if found != unit:
        raise ValueError(
            f"`{name}` must be a number of {unit}, got {value!r}"
            + ("" if found == "parts" else f"; give `{found}`")
        )
    return number


def _read_unit(name: str, value: Any, default: str = "steps") -> tuple[Fraction, str]:
    """A duration as an exact number and its unit."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float, np.integer, np.floating)):
        raise TypeError(f"`{name}` must be a number or text such as '10%' or '5ep', got {value!r}")
    match = None
    if isinstance(value, str) and len(value) <= _CHARACTERS:
        match = _FORM.fullmatch(value.strip())
    if match:
        number = Fraction(match["number"].replace("_", "")) * _SUFFIXES[match["suffix"].lower()]
        unit = match["unit"].lower()
        return number / 100 if unit == "%" else number, _UNITS[unit] if unit else default
    if not isinstance(value, str) and 0 <= value < math.inf:
        if default == "steps" and value != int(value):
            raise ValueError(
                f"`{name}` must be a whole number of steps, got {value}; a part of the run is"
                f" '{value}dur'"
            )
        # The decimal text is read, so that 0.1 is exactly 1/10.
        return Fraction(str(value)), default
    example = (
        "300, '10%', '0.1dur', '5ep', '2e9tok', '20Btok' or '1e6sp'"
        if name == "duration"
        else "10, 1.5 or '2e9'"
    )
    raise ValueError(f"`{name}` must be at least 0 and such as {example}, got {value!r}")
