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
      loss: The training loss. A value that is not finite is one that the run really had.
      val_loss: The validation loss.
      rates: The learning rate.
      monitors: `{name: curve}`, the monitors that the findings know: "grad_norm", "update_norm",
        "update_ratio" and "param_norm", as far as they were recorded.
      dtype: The dtype of the parameters, such as "bfloat16", or "" if it is not known.
      source: What was read, in words.
      cause: Why the run was stopped as diverged; empty if it was not, or this is not known.
      restarts: `[(before, after)]`, where the recorded steps went back.
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
        """A monitor, or "rates", at some steps, between its records by the last one before."""
        series = self.rates if name == "rates" else self.monitors.get(name)
        if series is None or not len(series.steps):
            return None
        places = np.searchsorted(series.steps, steps, side="right") - 1
        return series.values[np.maximum(places, 0)]
