"""A warning for schedules that have no steps, and so never train anything."""

import sys
import warnings
from typing import Any

import numpy as np

from .concrete import known


def warn_if_empty(steps: Any, end: Any) -> None:
    """Warns the caller of a builder if the schedule has no steps and ends at 0."""
    if not known(steps, end) or not np.any((np.asarray(steps) == 0) & (np.asarray(end) == 0)):
        return
    # Only a direct call by the user is a likely mistake: in a translated or composed schedule a
    # phase may have no steps. Frame 0 is this function, 1 the builder, 2 the builder's caller.
    caller = sys._getframe(2).f_globals.get("__name__", "")
    if caller.partition(".")[0] != "lrax":
        message = "`steps` is 0, so the rate is 0 at every update"
        warnings.warn(message, UserWarning, stacklevel=3)
