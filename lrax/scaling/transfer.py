"""`transfer`: the hyperparameters of a large run from those of a small one, by published rules."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike

from .. import _require
from ..schedules.concrete import library
from . import published, report
from .numbers import Number, numbers, plain
from .published import PUBLISHED, Row, Rules
from .report import Hyperparams
from .setting import AXES, Setting
from .table import text

# What callers may name, and the name in the table. A sweep's grid calls the rate `learning_rate`.
NAMES = {"lr": "lr", "learning_rate": "lr", "weight_decay": "weight_decay", "eps": "eps"}
NAMES |= {"b1": "b1", "b2": "b2", "momentum": "momentum", "warmup": "warmup"}
ORDER = (*dict.fromkeys(NAMES.values()), "init", "forward", "residual")

OPTIMIZERS = tuple(dict.fromkeys(name for rules in PUBLISHED.values() for name in rules.rows))

Multipliers = dict[str, dict[str, float]]


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Transfer:
    """What `transfer` returns. It prints as `explain()`.

    Attributes:
      hyperparams: The hyperparameters for the target, by the names that the caller used.
      multipliers: `{name: {kind: factor}}`: factors on top of `hyperparams` for kinds of
        parameters, and on the initial standard deviation ("init"), the forward pass ("forward") and
        the output of residual blocks ("residual").
      warnings: Sentences: what the rules do not cover, and what the caller has to do.
    """

    hyperparams: Hyperparams
    multipliers: Multipliers
    warnings: list[str]
    _table: str

    def explain(self) -> str:
        """Each hyperparameter with its factor and rule; the source, its range, and warnings."""
        return "\n".join([self._table, *(f"warning: {warning}" for warning in self.warnings)])

    __str__ = __repr__ = explain


def transfer(
    hyperparams: Mapping[str, ArrayLike],
    *,
    from_: Setting,
    to: Setting,
    optimizer: str = "adamw",
    rules: str = "completed",
) -> Transfer:
    r"""The hyperparameters of one run for another width, depth, batch and length.

    $$x' = x \cdot m_N^a \, m_L^b \, m_B^c \, m_D^d$$

    with the ratios of width, depth, batch and tokens from `from_` to `to`, and exponents that
    depend on the rules, the optimizer and the hyperparameter. For `b1` and `b2` the product
    multiplies 1 - x, or is the exponent of x where a half-life is kept.

    | rules | optimizer | width | depth | batch | tokens | lr for batch and tokens |
    |---|---|---|---|---|---|---|
    | "completed" | adam, adamw | yes | yes | yes | yes | (batch / tokens)^0.5 |
    | "completep" | adam, adamw | yes | yes | | | |
    | "mup" | adam, adamw, sgd, muon | yes | | | | |
    | "hyperp" | muon on a hyperball | yes | yes | yes | yes | batch^0.5 tokens^-0.32 |
    | "completed_adamh" | adam on a hyperball | yes | yes | yes | yes | batch^0.5 tokens^-0.3 |
    | "sde" | adam, adamw | | | yes | | batch^0.5 |
    | "sdew" | adamw | | | yes | | 1 |
    | "half_life" | adam, adamw | | | yes | | not stated |
    | "power_lines" | adamw | | | yes | yes | 1, and the decay by batch tokens^-0.48 |
    | "linear" | sgd | | | yes | | batch |

    For "completed_adamh" the last column is the rate of hidden matrices. The
    rate of all other parameters, as in `hyperparams`, moves by batch^0.5 tokens^-0.5.

    Use it to tune a small run and to train a big one, and print the result before training.
    `hyperparams` are for all parameters. Where the rules for width or depth differ by kind of
    parameter, `multipliers` have further factors: "hidden" for matrices in the residual blocks,
    "vector" for biases and normalisation in the blocks, "qk_norm", "input" for embeddings, "output"
    for the matrix of the output layer, "final" for the last normalisation and the output's bias. A
    kind that is not named has the factor 1. For width, `lrax.scaling.mup_multipliers` gives the
    factors of "mup" as trees.

    Where the rules stop being valid, `.warnings` and the text of `explain()` say so. Rules are
    starting points: they disagree with each other most about the tokens (`lrax.scaling.horizon`).
    After a transfer, try the rate, half of it and twice it if that can be paid for. Rules are
    powers, so two transfers in a row equal one, and other rules may then change other fields.

    Args:
      hyperparams: The known ones, by name: "lr" or "learning_rate", "weight_decay" as the rate
        multiplies it, "eps", "b1", "b2", "momentum" and "warmup" in updates. They may be traced.
      from_: The setting in which they are good.
      to: The setting that is planned.
      optimizer: "adam", "adamw", "sgd" or "muon".
      rules: A name of the table.

    Returns:
      A `Transfer` with `.hyperparams`, `.multipliers`, `.warnings` and `.explain()`. A number of
      updates is not rounded.

    Raises:
      ValueError: if the source of the rules does not cover the optimizer, an option is unknown, or
        a concrete number is out of its range.
      TypeError: if an argument is not as described.

    Example:
      >>> result = lrax.scaling.transfer(
      ...     {"lr": 3e-4, "b2": 0.95, "weight_decay": 0.1},
      ...     from_=lrax.scaling.Setting(width=256, batch=64, tokens=2e8),
      ...     to=lrax.scaling.Setting(width=1024, batch=256, tokens=3.2e9),
      ...     rules="completed",
      ... )
      >>> result.hyperparams
      {'lr': 0.00015, 'b2': 0.9875, 'weight_decay': 0.05}
      >>> result.multipliers["lr"]
      {'hidden': 0.25, 'output': 0.25}

    Reference:
      `explain()` names the source of the rules: arXiv 2512.22382, 2505.01618, 2203.03466,
      2603.28743, 2205.10287, 2411.15958, 2507.07101, 2505.13738, 1706.02677, and the public code of
      marin and ArchScale.
    """
    given = _required(hyperparams)
    for name, setting in (("from_", from_), ("to", to)):
        if not isinstance(setting, Setting):
            raise TypeError(f"`{name}` must be an `lrax.scaling.Setting`, got {setting!r}")
    _require.choice("optimizer", optimizer, OPTIMIZERS)
    _require.choice("rules", rules, PUBLISHED)
    chosen = PUBLISHED[rules]
    if optimizer not in chosen.rows:
        covered = ", ".join(map(repr, chosen.rows))
        raise ValueError(
            f"`optimizer` must be one of {covered} for the rules {rules!r}, got {optimizer!r}"
        )
    growth, warnings = _growth(from_, to, rules, chosen)
    rows = tuple(sorted(chosen.rows[optimizer], key=lambda row: ORDER.index(row.name)))
    factors = {(row.name, row.kind): _factor(row, growth) for row in rows}
    forms = {row.name: row.form for row in rows}
    keys = {NAMES[key]: key for key in given}

    found: Hyperparams = {}
    for key, value in given.items():
        factor = factors.get((NAMES[key], published.ALL), 1.0)
        form = forms.get(NAMES[key], published.TIMES)
        moved, lost = _moved(key, value, factor, form)
        warnings += lost
        found[key] = plain(moved)
    multipliers: Multipliers = {}
    for (name, kind), factor in factors.items():
        if kind != published.ALL:
            multipliers.setdefault(keys.get(name, name), {})[kind] = factor

    if any(ratio != 1 for ratio in growth.values()):
        warnings += report.warnings(rules, rows, factors, keys)
        warnings += [chosen.needs] if chosen.needs else []
    changes = [report.change(axis, from_, to) for axis in AXES if growth[axis] != 1]
    lines = [
        f"{rules} for {optimizer}: {', '.join(changes) or 'the same setting'}",
        report.table(given, found, rows, factors, keys),
        f"source: {chosen.source}",
        f"valid: {chosen.valid}",
        f"tested range: {report.tested(chosen)}",
    ]
    return Transfer(found, multipliers, warnings, "\n".join(lines))


def _required(hyperparams: Mapping[str, ArrayLike]) -> Hyperparams:
    if not isinstance(hyperparams, Mapping):
        raise TypeError(f"`hyperparams` must be a dict, got {hyperparams!r}")
    if not hyperparams:
        raise ValueError("`hyperparams` must have at least one number, got none")
    given: Hyperparams = {}
    for key, value in hyperparams.items():
        if key not in NAMES:
            known = ", ".join(map(repr, NAMES))
            raise ValueError(f"`hyperparams` must have names among {known}, got {key!r}")
        name = f"hyperparams[{key!r}]"
        values = numbers(**{name: value})
        check = _require.below_one if key in ("b1", "b2", "momentum") else _require.nonnegative
        check(values, name)
        given[key] = values[name]
    if {"lr", "learning_rate"} <= set(given):
        raise ValueError("`hyperparams` must have one of 'lr' and 'learning_rate', got both")
    return given


def _growth(
    from_: Setting, to: Setting, rules: str, chosen: Rules
) -> tuple[dict[str, float], list[str]]:
    """The ratio of each field, and warnings of what the rules do not cover."""
    growth: dict[str, float] = dict.fromkeys(AXES, 1.0)
    warnings: list[str] = []
    for axis in AXES:
        before, after = getattr(from_, axis), getattr(to, axis)
        if (before is None) != (after is None):
            missing = "`from_`" if before is None else "`to`"
            warnings.append(f"`{axis}` is missing in {missing}, so it is taken as unchanged.")
        if before is None or after is None:
            continue
        ratio = growth[axis] = float(after) / float(before)
        change = max(ratio, 1 / ratio)
        if ratio != 1 and axis not in chosen.axes:
            warnings.append(
                f"`{axis}` changes by a factor of {ratio:.4g}, and the rules {rules!r} say"
                " nothing about it."
            )
        elif change > chosen.tested.get(axis, math.inf):
            warnings.append(
                f"`{axis}` changes by a factor of {ratio:.4g}; the source tested at most"
                f" {chosen.tested[axis]:.4g}."
            )
    return growth, warnings


def _factor(row: Row, growth: dict[str, float]) -> float:
    return math.prod(growth[axis] ** getattr(row, axis) for axis in AXES)


def _moved(key: str, value: Number, factor: float, form: str) -> tuple[Number, list[str]]:
    if factor == 1:
        return value, []  # 1 - (1 - x) is not x for every x
    if form == published.HALF_LIFE:
        return value**factor, []
    if form == published.TIMES:
        return value * factor, []
    moved = 1 - factor * (1 - value)
    # A coefficient of 0 or less averages nothing. Where it should be exactly 0, rounding leaves a
    # small rest.
    kept = library(moved).where(moved > 1e-6, moved, 0.0)
    if isinstance(moved, Tracer) or np.all(np.asarray(moved) > 1e-6):
        return kept, []
    lost = f"`{key}` would be {text(moved)}, and is 0: no average is left, so the rules fail."
    return kept, [lost]
