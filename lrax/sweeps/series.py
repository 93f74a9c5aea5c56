"""The curves of a record by their names: losses, monitors, evaluations, aux and a user's own."""

from typing import Literal, NamedTuple

import numpy as np

from .record import Record


class Series(NamedTuple):
    """A curve of every lane."""

    name: str
    at: np.ndarray  # [time], after how many updates; or 0, 1, ... for curves of one's own function
    values: np.ndarray  # [points, seeds, time]


class WithSeries(Record):
    """A record whose curves are found by name."""

    def series(self, curve: str | None = None) -> Series:
        """A curve of every lane by its name.

        Args:
          curve: `"train_loss"`, or a name among `curves`, `monitors`, `evaluations` or `aux`. By
            default the training loss; of a `sweep_function` the objective's curve, or the first.

        Returns:
          `Series(name, at, values)`: values `[points, seeds, time]` at the updates `at` `[time]`.

        Raises:
          ValueError: if there is no such curve.
        """
        names = self._series_names()
        if not names:
            raise ValueError("the result has no curves: the function returned scalars only")
        name = self._main_series(names) if curve is None else curve
        if not isinstance(name, str) or name not in names:
            raise ValueError(f"`curve` must be one of {names}, got {name!r}")
        if name == "train_loss" and self.has_losses:
            return Series(name, self.loss_every * np.arange(self.losses.shape[-1]), self.losses)
        if name in self.curves:
            return Series(name, np.arange(self.curves[name].shape[-1]), self.curves[name])
        if name in self.monitors:
            values = self.monitors[name]
            return Series(name, self.record_every * np.arange(values.shape[-1]), values)
        if name in self.evaluations:
            return Series(name, self.evaluated_at, self.evaluations[name])
        return Series(name, self.loss_every * np.arange(self.aux[name].shape[-1]), self.aux[name])

    def _series_of(self, curve: str | None) -> list[Series]:
        """A curve as a list of one; all entries of a monitor that returned a dict, by its name."""
        if isinstance(curve, str) and curve not in self._series_names():
            # Within a group all curves have the same times, so the entries fit into one table.
            for group in (self.monitors, self.evaluations, self.aux):
                entries = [name for name in group if name.startswith(f"{curve}/")]
                if entries:
                    return list(map(self.series, entries))
        return [self.series(curve)]

    def _clock(self, curve: str) -> Literal["step", "time"]:
        """The name of a curve's axis of times, in every table and picture."""
        # The entries of a function's own curve need not be updates, so they are no steps.
        return "time" if curve in self.curves else "step"

    def _series_names(self) -> list[str]:
        groups = (self.curves, self.monitors, self.evaluations, self.aux)
        first = ["train_loss"] if self.has_losses else []
        return list(dict.fromkeys([*first, *(name for group in groups for name in group)]))

    def _main_series(self, names: list[str]) -> str:
        """The curve that says most of the objective."""
        if self.has_losses:
            return "train_loss"
        # `final_return` is one number of the curve `return`.
        words = lambda name: set(name.split("_"))
        return max(names, key=lambda name: len(words(name) & words(self.objective)))
