"""Draws curves from plain arrays as text for a terminal, in braille dots."""

import itertools
import textwrap
from collections.abc import Sequence

import numpy as np

from .axes import Axis, counts_axis, rates_axis

# The bit of each dot in a braille character, by row and column of the dot.
_DOTS = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]])
_KEYS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
# Indices, among a terminal's 256 colors, of some that are legible on light and dark backgrounds.
_COLORS = (33, 208, 35, 170, 141, 37, 178, 203)


def chart(
    counts: np.ndarray,
    curves: Sequence[np.ndarray],
    labels: Sequence[str],
    *,
    width: int = 80,
    height: int = 16,
    log: bool = False,
    color: bool = False,
    ascii: bool = False,
) -> str:
    """Curves over the same counts in one chart, with axes and a legend.

    Args:
      counts: Ascending counts, `[n]`.
      curves: The rates of each curve at these counts, `[n]`.
      labels: A text for each curve, shown below the chart.
      width: Characters in a line, at least 20.
      height: Lines of the chart itself, at least 4.
      log: Whether the axis of the rates is logarithmic.
      color: Whether to tell curves apart by colors, written as ANSI escapes; otherwise by letters
        on the curves.
      ascii: Whether to draw with ASCII characters only, for terminals and files without Unicode.

    Returns:
      The text, without a line break at the end.
    """
    counts = np.asarray(counts, np.float64)
    curves = [np.asarray(curve, np.float64) for curve in curves]
    y = rates_axis(np.concatenate([*curves, []]), max(height // 3, 2), log=log)
    # The labels of the rates stand left of the axis, and the chart takes the rest of the width.
    margin = max(map(len, y.labels)) + 1
    columns, rows = max(width, 20) - margin - 1, max(height, 4)
    x = counts_axis(float(counts[0]), float(counts[-1]), max(columns // 10, 2))
    cells = [_dots(x.place(counts), y.place(curve), columns, rows) for curve in curves]
    several = len(curves) > 1
    grid = _merged(cells, color=color, letters=several and not color, ascii=ascii)
    corner, across, up, tick, left = "+-|++" if ascii else "└─│┬┤"
    at = {
        round((1 - place) * (rows - 1)): label
        for place, label in zip(y.place(np.array(y.ticks)), y.labels, strict=True)
    }
    lines = [
        f"{at.get(row, ''):>{margin}}{left if row in at else up}{grid[row]}".rstrip()
        for row in range(rows)
    ]
    lines += [
        " " * margin + corner + _ruler(x, columns, across, tick),
        " " * (margin + 1) + _tick_labels(x, columns),
    ]
    return "\n".join([*lines, *_legend(labels, width, color=color, several=several, ascii=ascii)])


def keys(n: int) -> list[str]:
    """The letters that stand for this number of curves."""
    return [_KEYS[i % len(_KEYS)] for i in range(n)]


def _dots(x: np.ndarray, y: np.ndarray, columns: int, rows: int) -> np.ndarray:
    """Which dots a curve covers, `[4 * rows, 2 * columns]`, from places between 0 and 1."""
    dots = np.zeros((4 * rows, 2 * columns), bool)
    across, down = x * (2 * columns - 1), (1 - y) * (4 * rows - 1)
    for i in range(len(x)):
        before = max(i - 1, 0)
        if np.isfinite(down[i]):
            before = before if np.isfinite(down[before]) else i
            # Enough dots between two counts for a line without gaps, however steep.
            n = int(max(abs(across[i] - across[before]), abs(down[i] - down[before]))) + 2
            dots[
                np.linspace(down[before], down[i], n).round().astype(int),
                np.linspace(across[before], across[i], n).round().astype(int),
            ] = True
    return dots


def _merged(cells: list[np.ndarray], *, color: bool, letters: bool, ascii: bool) -> list[str]:
    """Lines of characters. A cell that several curves share has the color of the first of them."""
    codes = []  # for each curve, the bits of the braille character of every cell
    for dots in cells:
        rows, columns = dots.shape[0] // 4, dots.shape[1] // 2
        codes.append(np.einsum("rick,ik->rc", dots.reshape(rows, 4, columns, 2), _DOTS))
    rows, columns = codes[0].shape
    text = [[" "] * columns for _ in range(rows)]
    first = np.full((rows, columns), -1)  # for each cell, the curve that gives it its color
    for row in range(rows):
        for column in range(columns):
            here = [i for i, code in enumerate(codes) if code[row, column]]
            if here:
                dots = int(np.bitwise_or.reduce([codes[i][row, column] for i in here]))
                character = chr(0x2800 + dots)
                if ascii:
                    character = _KEYS[here[0] % len(_KEYS)] if letters else "*"
                text[row][column] = character
                first[row, column] = here[0]
    if letters and not ascii:
        _place_letters(text, codes)
    if color:
        return [_colored_runs(line, of) for line, of in zip(text, first, strict=True)]
    return ["".join(line) for line in text]


def _colored_runs(line: list[str], of: np.ndarray) -> str:
    runs = itertools.groupby(zip(line, of.tolist(), strict=True), key=lambda pair: pair[1])
    parts = ((i, "".join(character for character, _ in run)) for i, run in runs)
    return "".join(text if i < 0 else _colored(text, i) for i, text in parts)


def _place_letters(text: list[list[str]], codes: list[np.ndarray]) -> None:
    """Puts each curve's letter on it several times, at places apart from the other curves."""
    columns = len(text[0])
    middles = np.full((len(codes), columns), np.nan)
    for i, code in enumerate(codes):
        for column in range(columns):
            rows = np.flatnonzero(code[:, column])
            if rows.size:
                middles[i, column] = rows[len(rows) // 2]
    # About five letters along each curve: enough to follow it where curves cross.
    every = max(columns // 5, 8)
    for begin in range(0, columns, every):
        taken: set[int] = set()  # columns with a letter, and their neighbours
        for i in range(len(codes)):
            others = np.delete(middles, i, axis=0)
            free = [
                c
                for c in range(begin, min(begin + every, columns))
                if c not in taken and np.isfinite(middles[i, c])
            ]
            if free:
                apart = [
                    np.nanmin(np.abs(others[:, c] - middles[i, c]), initial=99.0) for c in free
                ]
                centered = [-abs(c - begin - every * (i + 1) / (len(codes) + 1)) for c in free]
                # A distance of two rows is enough; among such columns, the most central is taken.
                column = free[
                    max(range(len(free)), key=lambda k: (min(apart[k], 2.0), centered[k]))
                ]
                text[int(middles[i, column])][column] = _KEYS[i % len(_KEYS)]
                taken |= {column - 1, column, column + 1}


def _ruler(x: Axis, columns: int, across: str, tick: str) -> str:
    line = [across] * columns
    for place in x.place(np.array(x.ticks)):
        line[round(place * (columns - 1))] = tick
    return "".join(line)


def _tick_labels(x: Axis, columns: int) -> str:
    line = ""
    for place, label in zip(x.place(np.array(x.ticks)), x.labels, strict=True):
        # Centered under its tick, but within the line, and never over the label before.
        begin = min(max(round(place * (columns - 1)) - len(label) // 2, 0), columns - len(label))
        if begin >= len(line) + bool(line):
            line = line.ljust(begin) + label
    return line


def _legend(
    labels: Sequence[str], width: int, *, color: bool, several: bool, ascii: bool
) -> list[str]:
    lines = []
    for i, label in enumerate(labels):
        key = _KEYS[i % len(_KEYS)] if several else ("*" if ascii else "⠒⠒")
        if color:
            key = "━━"
        wrapped = textwrap.wrap(label, max(width - len(key) - 5, 10), break_long_words=True) or [""]
        lines.append(f"  {_colored(key, i) if color else key} {wrapped[0]}")
        lines += [" " * (len(key) + 5) + line for line in wrapped[1:]]
    return lines


def _colored(text: str, i: int) -> str:
    return f"\x1b[38;5;{_COLORS[i % len(_COLORS)]}m{text}\x1b[0m"
