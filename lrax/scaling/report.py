"""The report of a transfer: its table, and warnings of what it leaves to the caller."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..display import tables
from . import published
from .numbers import Number
from .published import Row, Rules
from .setting import AXES, Setting
from .table import text

Hyperparams = dict[str, Number]
Factors = Mapping[tuple[str, str], float]  # by name and kind
Keys = Mapping[str, str]  # the caller's name for each name of the rules


def table(
    given: Hyperparams, found: Hyperparams, rows: Sequence[Row], factors: Factors, keys: Keys
) -> str:
    """A line for each row of the rules, and for each hyperparameter they say nothing of."""
    lines = [["hyperparameter", "parameters", "from", "to", "factor", "rule"]]
    for row in rows:
        key = keys.get(row.name, row.name)
        is_known = row.kind == published.ALL and key in given
        before = text(given[key]) if is_known else ""
        after = text(found[key]) if is_known else ""
        factor = f"{factors[row.name, row.kind]:.4g}"
        lines.append([key, row.kind or "all", before, after, factor, _rule(row)])
    lines += [
        [key, "all", text(given[key]), text(found[key]), "1", "not stated"]
        for key in _not_stated(rows, keys)
    ]
    return tables.aligned(lines)


def warnings(rules: str, rows: Sequence[Row], factors: Factors, keys: Keys) -> list[str]:
    """What the rules do not do for the caller, as sentences."""
    found = [
        f"`{key}` is unchanged, because the rules {rules!r} say nothing of it."
        for key in _not_stated(rows, keys)
    ]
    differing: dict[str, None] = {}  # in the order of the table
    for row in rows:
        factor = factors[row.name, row.kind]
        if factor == 1:
            continue
        if row.kind != published.ALL:
            differing[f"`{keys.get(row.name, row.name)}`"] = None
        elif row.name not in keys:
            found.append(
                f"`{row.name}` was not given, and the rules change it: {_rule(row)}, which is"
                f" {factor:.4g}."
            )
    if differing:
        found.append(f"Use `multipliers` too, for kinds of parameters: {', '.join(differing)}.")
    return found


def change(axis: str, from_: Setting, to: Setting) -> str:
    """By how much a field changes."""
    before, after = float(getattr(from_, axis)), float(getattr(to, axis))
    return f"{axis} {before:g} -> {after:g} (x {after / before:.4g})"


def tested(rules: Rules) -> str:
    """How far a source shows that its rules hold, for each field that they cover."""
    return ", ".join(
        f"{axis} up to x {rules.tested[axis]:g}" if axis in rules.tested else f"{axis} not known"
        for axis in rules.axes
    )


def _not_stated(rows: Sequence[Row], keys: Keys) -> list[str]:
    stated = {row.name for row in rows}
    return [key for name, key in keys.items() if name not in stated]


def _rule(row: Row) -> str:
    """The exponents of a row in words."""
    powers = {axis: getattr(row, axis) for axis in AXES if getattr(row, axis)}
    if not powers:
        return "kept"
    product = " ".join(
        axis if power == 1 else f"{axis}^{power:g}" for axis, power in powers.items()
    )
    return {
        published.TIMES: product,
        published.GAP: f"1 - {row.name} by {product}",
        published.HALF_LIFE: f"to the power {product}, the same half-life",
    }[row.form]
