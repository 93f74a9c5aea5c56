"""The columns of a file that a logger wrote: CSV, JSON lines, `trainer_state.json`, TensorBoard."""

import csv
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ... import _require
from .log import Columns, Series

Cell = Any  # one cell of a table: a number, a text, or None if nothing was recorded


class Table(NamedTuple):
    """The columns of a table, and notes on it. None is a cell without a number."""

    columns: dict[str, list[float | None]]
    notes: list[str]


def is_events(path: Path) -> bool:
    """Whether a path is read by `events`: a TensorBoard event file, or any folder.

    `events` raises an error if the folder holds no event file.
    """
    return path.is_dir() or "tfevents" in path.name


def table(path: Path) -> Table:
    """The columns of a text file.

    Raises:
      ValueError: if it is not a table of numbers.
      OSError: if it cannot be read.
    """
    # "utf-8-sig" drops a byte order mark. A byte that is not UTF-8 spoils its own cell only.
    text = path.read_bytes().decode("utf-8-sig", errors="replace")
    if "\0" in text:
        raise ValueError(
            f"`source` must be CSV, JSON lines, a trainer_state.json or TensorBoard events, got a"
            f" binary file: {str(path)!r}"
        )
    start = text.lstrip()[:1]
    if not start:
        raise ValueError(f"`source` must be a file with records, got an empty one: {str(path)!r}")
    if start in "{[":
        return _from_json(text, path)
    return _from_csv(text, path)


def of_records(records: Iterable[Mapping[str, Cell]], notes: list[str]) -> Table:
    """Turns rows into columns. A row maps names to cells, and may leave out some names.

    The name of a nested cell joins the names of all levels by a slash.
    """
    flat = [dict(_flattened(record)) for record in records]
    names = list(dict.fromkeys(name for row in flat for name in row))
    columns = {name: [_number(row.get(name)) for row in flat] for name in names}
    return Table({name: cells for name, cells in columns.items() if _has_number(cells)}, notes)


def _flattened(record: Mapping[str, Cell], above: str = "") -> Iterable[tuple[str, Cell]]:
    for name, value in record.items():
        whole = f"{above}{name}"
        if isinstance(value, Mapping):
            yield from _flattened(value, f"{whole}/")
        else:
            yield whole, value


def _from_json(text: str, path: Path) -> Table:
    """JSON lines, a list of records, columns by name, or a `trainer_state.json`."""
    try:
        whole = json.loads(text)
    except json.JSONDecodeError:
        return _from_lines(text, path)
    if isinstance(whole, dict) and isinstance(whole.get("log_history"), list):
        rows = [row for row in whole["log_history"] if isinstance(row, dict)]
        planned = whole.get("max_steps")
        made = whole.get("global_step")
        short = isinstance(planned, int) and isinstance(made, int) and 0 < made < planned
        return of_records(rows, [f"the run made {made} of {planned} steps"] if short else [])
    if isinstance(whole, list):
        return of_records([row for row in whole if isinstance(row, dict)], [])
    lists = {
        name: value
        for name, value in (whole if isinstance(whole, dict) else {}).items()
        if isinstance(value, list)
    }
    if lists:  # such as Keras' `History.history`
        columns = {name: [_number(cell) for cell in value] for name, value in lists.items()}
        return Table({name: cells for name, cells in columns.items() if _has_number(cells)}, [])
    return of_records([whole] if isinstance(whole, dict) else [], [])


def _from_lines(text: str, path: Path) -> Table:
    rows = []
    broken = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                row = json.loads(line)
            except json.JSONDecodeError:
                row = None
            if isinstance(row, dict):
                rows.append(row)
            else:
                broken.append(number)
    if not rows:
        raise ValueError(f"`source` must hold a JSON object on each line, got {str(path)!r}")
    return of_records(rows, [_left_out(broken)] if broken else [])


def _from_csv(text: str, path: Path) -> Table:
    numbered = [(n, line) for n, line in enumerate(text.splitlines(), 1) if line.strip()]
    numbers, lines = zip(*numbered, strict=True)
    # The separator is the most frequent one in the head, because cells with texts may hold others.
    separator = max(",\t;", key=lines[0].count)
    head, *rows = csv.reader(lines, delimiter=separator)
    head = [name.strip() for name in head]
    whole = [row for row in rows if len(row) == len(head)]
    broken = [n for n, row in zip(numbers[1:], rows, strict=False) if len(row) != len(head)]
    columns = {
        name: [_number(row[place]) for row in whole]
        for place, name in enumerate(head)
        # Weights & Biases adds a column of minima and one of maxima to each column of an export.
        if not name.endswith(("__MIN", "__MAX"))
    }
    columns = {name: cells for name, cells in columns.items() if _has_number(cells)}
    if not columns:
        raise ValueError(
            f"`source` must hold a line of names and lines of numbers, got {str(path)!r}"
        )
    texts = [name for name in head if name not in columns and not name.endswith(("__MIN", "__MAX"))]
    notes = [_left_out(broken)] if broken else []
    if texts:
        notes.append(f"columns without a number: {', '.join(texts)}")
    return Table(columns, notes)


def _left_out(lines: list[int]) -> str:
    shown = ", ".join(map(str, lines[:5])) + (", ..." if len(lines) > 5 else "")
    return f"{len(lines)} lines could not be read and were left out: {shown}"


def _number(cell: Cell) -> float | None:
    """A cell as a number; None if it is empty, a bool, or a text that is not a number."""
    if isinstance(cell, bool) or cell is None:
        return None
    if isinstance(cell, (int, float, str)):
        try:
            return float(cell)
        except (ValueError, OverflowError):
            return None
    return None


def _has_number(cells: list[float | None]) -> bool:
    return any(cell is not None for cell in cells)


def events(path: Path) -> Columns:
    """The scalars of TensorBoard event files, by tag, in the order in which they were written.

    Raises:
      ImportError: if tensorboard is not installed.
      ValueError: if there is no event file, or it holds no scalar.
    """
    loader = _require.extra("tensorboard.backend.event_processing.event_file_loader", "tensorboard")
    # A file's name holds the time at which it was begun, so the order of names is that of writing.
    files = sorted(path.glob("*tfevents*")) if path.is_dir() else [path]
    if not files:
        raise ValueError(
            f"`source` must be a file, or a folder with TensorBoard event files, got {str(path)!r}"
        )
    found: dict[str, tuple[list[float], list[float]]] = {}
    for file in files:
        for event in loader.EventFileLoader(str(file)).Load():
            for value in event.summary.value:
                if (number := _scalar(value)) is not None:
                    steps, values = found.setdefault(value.tag, ([], []))
                    steps.append(event.step)
                    values.append(number)
    if not found:
        raise ValueError(f"`source` must hold scalars, got event files without: {str(path)!r}")
    return {
        tag: Series(np.array(steps), np.array(values)) for tag, (steps, values) in found.items()
    }


def _scalar(value: Any) -> float | None:
    """The number in a summary value, or None if there is none.

    PyTorch's writer stores a plain number, others store a tensor.
    """
    if value.HasField("simple_value"):
        return float(value.simple_value)
    if not value.HasField("tensor"):
        return None
    tensors = _require.extra("tensorboard.util.tensor_util", "tensorboard")
    array = tensors.make_ndarray(value.tensor)
    is_number = array.size == 1 and array.dtype.kind in "fiu"
    return float(array.ravel()[0]) if is_number else None
