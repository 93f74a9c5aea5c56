"""Reads what a user gives to `diagnose`, a result, a table, a file or arrays, as one `Log`."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ... import _require
from ...schedules.schedule import Schedule
from ...sweeps.result import SweepResult
from . import files, gaps
from .lane import Lane, of_lane
from .log import Columns, Log, Series
from .names import MONITORS, WITHIN, plain, recognised

Source = Any  # a SweepResult, a DataFrame, a dict of arrays, a path, or None
Given = Any  # the name of a column, an array, or for rates also a number or a function of the count


def read(
    source: Source,
    *,
    steps: Given,
    loss: Given,
    val_loss: Given,
    rates: Given,
    monitors: Mapping[str, Given] | None,
    lane: Lane,
    dtype: str | None,
) -> Log:
    """The curves of the run that a source and the other arguments describe."""
    if not (isinstance(lane, str) and lane == "best") and not isinstance(source, SweepResult):
        raise ValueError(f"`lane` must be 'best' where `source` is no SweepResult, got {lane!r}")
    cause = ""
    known_dtype = ""
    given: dict[str, Given] = {"loss": loss, "val_loss": val_loss, "rates": rates}
    given |= _checked_monitors(monitors)
    given = {name: value for name, value in given.items() if value is not None}
    if isinstance(source, SweepResult):
        if steps is not None:
            raise ValueError("`steps` must not be given where `source` is a SweepResult")
        columns, words, cause, known_dtype = of_lane(source, lane)
        notes: list[str] = []
        names = recognised(columns)
        if "rates" not in names and rates is None:
            notes.append(
                "the sweep has not recorded the rate of each update: give it as `rates=`, or sweep"
                " with monitors=[lrax.monitors.learning_rate]"
            )
    else:
        columns, names, notes, words = _of_source(source, steps)
    found: dict[str, Series] = {}
    for name in ("loss", "val_loss", *MONITORS, "rates"):
        if name in given:
            # Rates may be a function of the loss's steps. Without a loss an error follows below.
            if name == "rates" and "loss" not in found:
                continue
            found[name] = _of_argument(name, given[name], columns, found.get("loss"), steps)
            names[name] = given[name] if isinstance(given[name], str) else name
        elif names.get(name) in columns:
            found[name] = columns[names[name]]
    if "loss" not in found:
        raise ValueError(_no_loss(source, columns))
    notes += _notes(columns, names, found)
    # Gaps are removed before repeated steps. A step may have a row with the loss, and then a row
    # with an evaluation and no loss. The last row counts, and it must be the one with the loss.
    loss_curve, restarts = gaps.in_order(gaps.without(found.pop("loss")))
    others = {
        name: gaps.in_order(known)[0]
        for name, series in found.items()
        if (known := gaps.known(series)) is not None
    }
    return Log(
        loss=loss_curve,
        val_loss=others.get("val_loss"),
        rates=others.get("rates"),
        monitors={name: others[name] for name in MONITORS if name in others},
        dtype=_dtype(dtype) or known_dtype,
        source=words,
        cause=cause,
        restarts=restarts,
        notes=tuple(notes),
    )


def _checked_monitors(monitors: Mapping[str, Given] | None) -> dict[str, Given]:
    if monitors is None:
        return {}
    if not isinstance(monitors, Mapping) or not all(name in MONITORS for name in monitors):
        raise TypeError(
            f"`monitors` must be {{name: column or array}} with the names {', '.join(MONITORS)},"
            f" got {monitors!r}"
        )
    for name, value in monitors.items():
        # None is refused here. `read` would take it for an argument that was not given.
        if not isinstance(value, str):
            _array("monitors", value, name)
    return dict(monitors)


def _of_source(source: Source, steps: Given) -> tuple[Columns, dict[str, str], list[str], str]:
    """Reads any source but a `SweepResult`.

    Returns:
      Its columns, the name of the column that holds each quantity, notes, and the source in words.
    """
    notes: list[str] = []
    if source is None:
        return {}, {}, notes, "arrays"
    if isinstance(source, (str, os.PathLike)):
        path = Path(_require.path("source", source))
        words = str(path)
        if "\0" in words:
            raise ValueError(f"`source` must be a path without a null byte, got {words!r}")
        if files.is_events(path):
            columns = files.events(path)
            return columns, recognised(columns), notes, words
        rows, notes = files.table(path)
        cells = {
            name: (np.array([cell is not None for cell in cells]), _floats(cells))
            for name, cells in rows.items()
        }
    else:
        if hasattr(source, "columns") and hasattr(source, "to_dict"):  # a DataFrame of any package
            words = f"a table of {len(source)} rows"
            source = {str(name): source[name] for name in source.columns}
        elif isinstance(source, Mapping):
            words = "a dict of arrays"
        else:
            raise TypeError(
                "`source` must be a SweepResult, a DataFrame, a dict of arrays, a path, or None"
                f" with `loss=`, got {type(source).__name__}"
            )
        cells = {}
        for name, value in source.items():
            array = _column(value)
            if array is None:
                notes.append(f"column without numbers: {name}")
            else:
                # NaN is kept: it may be a gap or a loss that is NaN. `gaps` tells them apart.
                cells[str(name)] = (np.ones(len(array), bool), array)
    names = recognised(cells)
    if isinstance(steps, str):
        if steps not in cells:
            raise ValueError(f"`steps` must be a column of {sorted(cells)}, got {steps!r}")
        names["steps"] = steps
    own = names.get("steps", "")
    if steps is None and plain(own) in WITHIN and np.any(np.diff(cells[own][1]) <= 0):
        notes.append(f"{own!r} does not count updates")
        del names["steps"]
    axis = cells.get(names.get("steps", ""))
    lengths = {len(values) for _, values in cells.values()}
    columns = {}
    for name, (present, values) in cells.items():
        if name == names.get("steps"):
            continue
        if steps is not None and not isinstance(steps, str):
            at = _array("steps", steps)
            if len(at) != len(values) and name == names.get("loss"):
                raise ValueError(
                    f"`steps` must have one number for each of {len(values)} records of {name!r},"
                    f" got {len(at)}"
                )
        else:
            at = np.arange(max(lengths), dtype=np.float64) if axis is None else axis[1]
        # A curve of fewer records, such as the validation loss, is spread evenly over the run.
        if len(at) != len(values):
            at = np.linspace(np.nanmin(at), np.nanmax(at), len(values))
        here = present & np.isfinite(at)
        columns[name] = Series(at[here], values[here])
    if axis is None and steps is None and cells:
        notes.append("no column of steps: records are counted")
    if len(lengths) > 1:
        notes.append(
            f"columns have different lengths: {sorted(lengths)}; the shorter ones are spread evenly"
            " over the run"
        )
    return columns, names, notes, words


def _floats(cells: Sequence[float | None]) -> np.ndarray:
    return np.array([np.nan if cell is None else cell for cell in cells], np.float64)


def _column(value: Any) -> np.ndarray | None:
    """A column as numbers, or None if it has no numbers or more than one axis."""
    try:
        array = np.asarray(value)
        if array.ndim != 1 or array.dtype.kind not in "fiuO" or not len(array):
            # `as_numbers` also takes bfloat16, which has the kind "V" in NumPy. The kind "O" stays:
            # it may be numbers with None among them.
            array = _require.as_numbers(value)
            if array is None or array.ndim != 1 or not len(array):
                return None
        array = array.astype(np.float64)
    except (TypeError, ValueError):
        return None
    return None if np.isnan(array).all() else array


def _of_argument(
    name: str, value: Given, columns: Columns, loss: Series | None, steps: Given
) -> Series:
    """The curve of an argument: the name of a column, an array, or for rates a number or function.

    Args:
      name: The quantity, such as "val_loss".
      value: What the user gave for it.
      columns: The columns of the source.
      loss: The training loss, or None if it is not read yet.
      steps: The argument `steps` of `diagnose`. An array of them belongs to the loss.
    """
    argument = "monitors" if name in MONITORS else name
    if isinstance(value, str):
        if value not in columns:
            allowed = (
                f"a column of {sorted(columns)} or an array"
                if columns
                else "an array: no `source` is given"
            )
            raise ValueError(f"`{argument}` must be {allowed}, got {value!r}")
        return columns[value]
    if name == "rates" and loss is not None:
        if callable(value):  # a Schedule, or any function of the count
            return Series(loss.steps, _of_function(value, loss.steps))
        number = _require.as_numbers(value)
        if number is not None and number.ndim == 0:
            if not 0 <= float(number) < np.inf:
                raise ValueError(f"`rates` must be finite and non-negative, got {value!r}")
            return Series(loss.steps, np.full(len(loss.steps), float(number)))
    array = _array(argument, value, name)
    if steps is not None and not isinstance(steps, str):
        at = _array("steps", steps)
    elif loss is not None and len(loss.steps) == len(array):
        at = loss.steps
    else:
        # A curve of fewer records, such as the validation loss, is spread evenly over the run.
        last = loss.steps[-1] if loss is not None and len(loss.steps) else len(array) - 1
        first = loss.steps[0] if loss is not None and len(loss.steps) else 0
        at = np.linspace(first, last, len(array))
    # `steps` are those of the loss, so a curve of another length is spread over the run too.
    if len(at) != len(array):
        if loss is None:
            raise ValueError(
                f"`steps` must have one number for each of the {len(array)} records of `loss`, got"
                f" {len(at)}"
            )
        at = np.linspace(loss.steps[0], loss.steps[-1], len(array))
    return Series(at, array)


def _of_function(function: Callable[[int], Any], steps: np.ndarray) -> np.ndarray:
    """The values of a function of the count, such as a Schedule."""
    with jax.ensure_compile_time_eval():  # numbers, even if the caller is being traced
        if isinstance(function, Schedule):
            values = np.asarray(function.values(steps.astype(np.int32)), np.float64)
        else:
            values = np.array([np.asarray(function(int(step))) for step in steps], np.float64)
    if values.ndim != 1:
        raise ValueError(f"`rates` must be one schedule, got a stack of shape {values.shape[:-1]}")
    return _array("rates", values)


def _array(argument: str, value: Any, name: str = "") -> np.ndarray:
    """Requires a list of numbers. `name` is the monitor, for the error message."""
    array = _require.as_numbers(value)
    of = f" for {name!r}" if argument == "monitors" else ""
    if array is None or array.ndim != 1 or not len(array):
        raise TypeError(f"`{argument}` must be a list of numbers{of}, got {value!r}")
    array = array.astype(np.float64)
    if argument == "steps" and not np.isfinite(array).all():
        raise ValueError(f"`steps` must be finite, got {value!r}")
    if argument != "steps" and np.isnan(array).all():
        raise ValueError(f"`{argument}` must have a number{of}, got {value!r}")
    if argument == "rates" and not np.all(array[np.isfinite(array)] >= 0):
        raise ValueError(f"`rates` must not be negative, got {value!r}")
    return array


def _dtype(dtype: str | None) -> str:
    if dtype is None:
        return ""
    try:
        # An array is refused: NumPy would take its dtype, with a warning.
        found = jax.numpy.dtype(dtype) if isinstance(dtype, (str, type, np.dtype)) else None
    except (TypeError, ValueError):
        found = None
    if found is None or not jax.numpy.issubdtype(found, jax.numpy.floating):
        raise TypeError(
            f"`dtype` must be the dtype of the parameters, such as 'bfloat16', got {dtype!r}"
        )
    return found.name


def _no_loss(source: Source, columns: Columns) -> str:
    if source is None:
        return "`source` must be given, or the training loss as `loss=`"
    return (
        "`source` must have a column of the training loss, such as 'loss' or 'train/loss'; name it"
        f" by `loss=`: there are {sorted(columns) or 'no columns of numbers'}"
    )


def _notes(columns: Columns, names: dict[str, str], found: dict[str, Series]) -> list[str]:
    """Notes on the column that each quantity was read from, and on the columns not used."""
    read = [
        f"{quantity} from {names[quantity]!r}" if names[quantity] != quantity else quantity
        for quantity in found
        if quantity in names
    ]
    notes = [f"read: {', '.join(read)}"]
    used = {names[quantity] for quantity in found if quantity in names}
    rest = [name for name in columns if name not in used]
    if rest:
        shown = ", ".join(rest[:12]) + (", ..." if len(rest) > 12 else "")
        notes.append(f"not used: {shown}")
    return notes
