"""The command to run next, if the best value is at an edge of the grid."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ..sweeps.grid import beyond
from .values import Axis


def extended(
    words: Sequence[str], axes: Mapping[str, Axis], rate: str, name: str, edge: str
) -> str | None:
    """The command that tries values beyond an edge of the grid.

    Its grid also has the last two values at this edge, so that an optimum near the edge has values
    on both sides.

    Args:
      words: The words of the command that was run.
      axes: The grid of that command.
      rate: The hyperparameter whose values `--lr` gives.
      name: The hyperparameter to extend.
      edge: `"low"` or `"high"`.

    Returns:
      The command; `None` if these values cannot be extended.
    """
    values, spacing = np.unique(axes[name].values), axes[name].spacing
    if len(values) < 2 or values[0] <= 0:
        return None
    # Apart from the rate, extend only values at equal ratios. Others may have a natural limit: a
    # momentum must be below 1.
    if name != rate and spacing != "log":
        return None
    inner = values[:2] if edge == "low" else values[-2:]
    more = max(len(values) // 2, 2)
    if spacing == "list":
        text = ",".join(f"{value:.4g}" for value in np.union1d(inner, beyond(values, edge, more)))
    else:
        ratio = values[1] / values[0]
        step = (values[1] - values[0]) * more
        if spacing == "linear":
            end = inner[0] - step if edge == "low" else inner[1] + step
        else:
            end = inner[0] / ratio**more if edge == "low" else inner[1] * ratio**more
        if not 0 < end < np.inf:
            return None
        low, high = min(end, inner[0]), max(end, inner[1])
        text = f"{low:.4g}:{high:.4g}:{more + 2}" + (":linear" if spacing == "linear" else "")
    key = f"--grid {name}"
    # The values of the rate were given by `--lr` or by `--grid`. `--lr` takes the place of both.
    if name == rate:
        return again(words, {"--lr": text, key: None})
    return again(words, {key: f"{name}={text}"})


def again(words: Sequence[str], changes: Mapping[str, str | None]) -> str:
    """The command with some options changed or removed.

    The files that it writes get new names. Under the old names, the checkpoint would be refused
    because it is of another grid, and pictures would be overwritten.

    Args:
      words: The words of the command that was run.
      changes: The new value of each option, or `None` to remove the option. `"--grid NAME"` stands
        for the `--grid` option of one hyperparameter.

    Returns:
      The command, quoted for a shell.
    """
    kept = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        option, equals, value = word.partition("=")
        has_value = equals or (rest and not rest[0].startswith("--"))
        if not option.startswith("--") or not has_value:
            kept.append(word)
            continue
        value = value if equals else rest.pop(0)
        if option in changes or f"{option} {value.partition('=')[0]}" in changes:
            continue
        kept += [option, _next(value) if option in ("--checkpoint", "--out") else value]
    for option, value in changes.items():
        kept += [option.partition(" ")[0], value] if value is not None else []
    return shlex.join(["python", "-m", "lrax", *kept])


def _next(name: str) -> str:
    """The name of the next file: `a-2.npz` after `a.npz`, and `a-3.npz` after that."""
    path = Path(name)
    stem, dash, number = path.stem.rpartition("-")
    stem, number = (stem, int(number)) if dash and number.isdecimal() else (path.stem, 1)
    return str(path.with_name(f"{stem}-{number + 1}{path.suffix}"))
