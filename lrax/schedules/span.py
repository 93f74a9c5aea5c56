"""How many updates of a schedule a picture shows, and which counts a table lists. Display only.

Both follow from the landmarks of a schedule, whose rules are in `landmarks.py`. This file does not
import `Schedule`, whose file imports it. Here a schedule is any object with a `formula` and
`hyperparams`.
"""

import math
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jax.core import Tracer

from .builders import declared
from .landmarks import Known, Landmarks, by_vocabulary

_DEFAULT = 100  # updates shown of a schedule without a time scale of its own
_LONGEST = 2**31 - 1


class _UnknownError(Exception):
    """A hyperparameter has no value here: it is traced, abstract, donated or on another host."""


def span(schedule: Any) -> int | None:
    """How many updates a picture shows: all, and a tenth more if the last rate is then held.

    Args:
      schedule: A `Schedule`.

    Returns:
      A number of steps, at least 2; `None` for a schedule without known values, as under `jax.jit`.
    """
    found = landmarks(schedule)
    if found is None:
        return None
    end = _DEFAULT if found.end is None else found.end * (1.1 if found.settled else 1)
    return int(min(max(math.ceil(end - 1e-6 * end), 2), _LONGEST))


def landmarks(schedule: Any) -> Landmarks | None:
    """Where things happen in a schedule; `None` where its values are not known."""
    try:
        return _landmarks(schedule)
    except _UnknownError:
        return None


def _landmarks(schedule: Any) -> Landmarks:
    hyperparams = schedule.hyperparams
    children = {
        key: [_landmarks(child) for child in _children(value)] for key, value in hyperparams.items()
    }
    numbers = {key: _number(value) for key, value in hyperparams.items() if not children[key]}
    known = Known(
        {key: value for key, value in numbers.items() if value is not None},
        [child for several in children.values() for child in several],
        {
            key: getattr(value, "value", None)
            for key, value in hyperparams.items()
            if not children[key]
        },
        children.get("schedule", []),
    )
    declaration = declared(schedule.formula)
    if declaration is not None and declaration.landmarks is not None:
        return declaration.landmarks(known)
    found = by_vocabulary(known)
    return (
        found
        if known.numbers or known.children
        else found._replace(end=_probed(schedule), settled=True)
    )


def _children(value: Any) -> Iterator[Any]:
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from _children(item)
    elif hasattr(value, "hyperparams") and hasattr(value, "formula"):
        yield value


def _number(value: Any) -> np.ndarray | None:
    """A hyperparameter as an array, whose axes may be lanes or a table; `None` for structure."""
    value = getattr(value, "value", value)  # unwraps a Static
    if value is None or isinstance(value, (str, bool)) or callable(value):
        return None
    if isinstance(value, jax.Array):
        if isinstance(value, Tracer) or value.is_deleted() or not value.is_fully_addressable:
            raise _UnknownError
    elif not isinstance(value, (int, float, np.ndarray, np.generic, list, tuple)):
        if not jax.tree.leaves(value) and not hasattr(value, "shape"):
            return None  # a pytree without leaves is structure
        raise _UnknownError
    try:
        return np.asarray(value, np.float64)
    except (TypeError, ValueError):
        raise _UnknownError from None


def _probed(schedule: Any) -> float | None:
    """The count from which on a user's function is constant; None if there is none.

    Powers of 2 are tried first. Then the interval with the last change is searched.
    """
    try:
        counts = np.r_[0, 2 ** np.arange(24)]
        rates = np.asarray(schedule.values(counts), np.float64)
        changing = np.flatnonzero(np.abs(rates - rates[-1]) > 1e-3 * np.max(np.abs(rates)))
        if rates.ndim > 1 or not len(changing) or changing[-1] >= len(rates) - 2:
            return None
        final, small = rates[-1], 1e-3 * np.max(np.abs(rates))
        while counts[changing[-1] + 1] - counts[changing[-1]] > 1:
            counts = np.unique(
                np.linspace(counts[changing[-1]], counts[changing[-1] + 1], 64).astype(int)
            )
            changing = np.flatnonzero(
                np.abs(np.asarray(schedule.values(counts), np.float64) - final) > small
            )
        return float(counts[changing[-1] + 1])
    except Exception:  # a user's function may take no array, or be under a transformation
        return None
