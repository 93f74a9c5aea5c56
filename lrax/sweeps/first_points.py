"""`FirstPoints`: a stop rule for a batch that is filled up with copies of its last point."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from .stopping import Evidence, Mask, Stopping


@dataclasses.dataclass(frozen=True)
class FirstPoints:
    """A rule that is given only the first points. The copies after them share the last one's fate.

    Attributes:
      rule: The rule.
      count: The number of points that it is given.
    """

    rule: Stopping
    count: int

    def looks(self, steps: int) -> tuple[int, ...]:
        """The updates after which the rule is asked."""
        return self.rule.looks(steps)

    def keep(self, record: Evidence) -> Mask:
        """What the rule keeps of the first points, with the last of them repeated."""
        first = lambda values: {name: array[: self.count] for name, array in values.items()}
        found = self.rule.keep(
            record._replace(
                losses=record.losses[: self.count],
                objective=record.objective[: self.count],
                hyperparams=first(record.hyperparams),
                monitors=first(record.monitors),
                alive=record.alive[: self.count],
                rates=None if record.rates is None else record.rates[: self.count],
            )
        )
        kept = np.asarray(found)
        if kept.shape != (self.count,):
            return kept  # no mask of these points: the sweep refuses it
        return np.concatenate([kept, np.repeat(kept[-1:], len(record.alive) - self.count)])

    @property
    def rates(self) -> Callable[..., Any] | None:
        """The schedule of a point, if the rule looks at future rates."""
        return getattr(self.rule, "rates", None)
