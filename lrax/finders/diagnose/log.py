"""`Log`: the curves of one run, as all findings read them."""

import dataclasses
from typing import NamedTuple

import numpy as np


class Series(NamedTuple):
    """A curve."""

    steps: np.ndarray  # [records], ascending
    values: np.ndarray  # [records]


Columns = dict[str, Series]  # by the name that the logger wrote


@dataclasses.dataclass(frozen=True)
class Log:
    """The curves of one run. A curve that was not recorded is None.

    Attributes:
      loss: The training loss. Gaps are removed, so a NaN or an infinity is a loss of the run.
      val_loss: The validation loss.
      rates: The learning rate.
      monitors: `{name: curve}` of the recorded ones among "grad_norm", "update_norm",
        "update_ratio", "param_norm" and "stable_rate", which the findings know.
      dtype: The dtype of the parameters, such as "bfloat16", or "" if it is not known.
      source: What was read, in words.
      cause: Why the run diverged, as a sweep recorded it; "" if it did not, or for other sources.
      restarts: `[(before, after)]`, the two steps at each place where the recorded steps went back.
      notes: What was read, what was not, and why.
    """

    loss: Series
    val_loss: Series | None = None
    rates: Series | None = None
    monitors: dict[str, Series] = dataclasses.field(default_factory=dict)
    dtype: str = ""
    source: str = "arrays"
    cause: str = ""
    restarts: tuple[tuple[float, float], ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def finite(self) -> Series:
        """The training loss up to the first value that is not finite."""
        steps, values = self.loss
        good = np.isfinite(values)
        end = len(values) if good.all() else int(np.argmin(good))
        return Series(steps[:end], values[:end])

    def is_short(self, least: int) -> bool:
        """Whether there are fewer finite records of the loss than this."""
        return len(self.finite.values) < least

    def at(self, name: str, steps: np.ndarray) -> np.ndarray | None:
        """The values of a monitor, or of "rates", at given steps; None if it was not recorded.

        The value at a step is the last record at or before it, or else the first record.
        """
        series = self.rates if name == "rates" else self.monitors.get(name)
        if series is None or not len(series.steps):
            return None
        places = np.searchsorted(series.steps, steps, side="right") - 1
        return series.values[np.maximum(places, 0)]
