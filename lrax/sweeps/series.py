"""The curves of a sweep by name: losses, monitors, evaluations, aux, and those of a function."""

from typing import Literal, NamedTuple

import numpy as np

from .record import Record


class Series(NamedTuple):
    """A curve of every lane."""

    name: str
    at: np.ndarray  # [time], the counts of updates; 0, 1, ... for a curve of a `sweep_function`
    values: np.ndarray  # [points, seeds, time]


class WithSeries(Record):
    """A record whose curves are found by name."""

    def series(self, curve: str | None = None) -> Series:
        """A curve of every lane by its name.

        Args:
          curve: `"train_loss"`, or a name among `curves`, `monitors`, `evaluations` or `aux`. By
            default the objective's evaluations, if there were some along the way, or the training
            loss; of a `sweep_function` the curve whose name is most like the objective's.

        Returns:
          `Series(name, at, values)`: values `[points, seeds, time]` at the updates `at` `[time]`.

        Raises:
          ValueError: if there is no such curve.
        """
        names = self._series_names()
        # Only a `sweep_function` can have none.
        if not names:
            raise ValueError("the result has no curves: the function returned scalars only")
        name = self._main_series(names) if curve is None else curve
        if not isinstance(name, str) or name not in names:
            raise ValueError(f"`curve` must be one of {names}, got {name!r}")
        group, every = next((group, every) for group, every in self._groups() if name in group)
        values = group[name]
        at = self.evaluated_at if every is None else every * np.arange(values.shape[-1])
        return Series(name, at, values)

    def _groups(self) -> list[tuple[dict[str, np.ndarray], int | None]]:
        """All curves in the order in which a name is looked up.

        Each group comes with the number of updates from one record to the next, or with None for
        the evaluations, whose times are in `evaluated_at`.
        """
        return [
            ({"train_loss": self.losses} if self.has_losses else {}, self.loss_every),
            (self.curves, 1),
            (self.monitors, self.record_every),
            (self.evaluations, None),
            (self.aux, self.loss_every),
        ]

    def _series_of(self, curve: str | None) -> list[Series]:
        """The curves of a name: one, or all entries of a monitor that returns a dict."""
        if isinstance(curve, str) and curve not in self._series_names():
            # The entries of the monitor "norm" are recorded as "norm/kernel", "norm/bias". They
            # have the same times, so they fit into one table.
            for group in (self.monitors, self.evaluations, self.aux):
                entries = [name for name in group if name.startswith(f"{curve}/")]
                if entries:
                    return list(map(self.series, entries))
        return [self.series(curve)]

    def _clock(self, curve: str) -> Literal["step", "time"]:
        """The name of a curve's horizontal axis, in every table and picture."""
        # What the entries of a function's curve count is not known: it need not be updates.
        return "time" if curve in self.curves else "step"

    def _series_names(self) -> list[str]:
        """The names of all curves, each once, in the order in which they are looked up."""
        return list(dict.fromkeys(name for group, _ in self._groups() for name in group))

    def _main_series(self, names: list[str]) -> str:
        """The default curve: what ranks the points, or else the one that is most like it."""
        if self.objective in self.evaluations and len(self.evaluated_at) > 1:
            return self.objective
        if self.has_losses:
            return "train_loss"
        # The objective `final_return`, for instance, is one number of the curve `return`. The name
        # with the most words in common is taken, or the first name if there are none.
        words = lambda name: set(name.split("_"))
        return max(names, key=lambda name: len(words(name) & words(self.objective)))
