"""What a sweep found, in words for a shell. Nothing here prints."""

import textwrap
from collections.abc import Callable

import numpy as np

from ..display.tables import spread
from ..sweeps.optimum import Optimum
from ..sweeps.result import SweepResult

ROWS = 60  # the most rows of a table
WIDTH = 100  # the characters of a line at which long texts are wrapped
INDENT = " " * 9  # as wide as a label such as "device:  "
Extension = Callable[[str, str], str | None]


def report(result: SweepResult, extension: Extension | None = None) -> str:
    """The table, where and how the sweep ran, the best point, the optimum, and what to do next.

    Args:
      result: The result.
      extension: Function `(hyperparameter, edge)`, where `edge` is `"low"` or `"high"`. It returns
        the command that tries values beyond this edge, or `None` if there is none.

    Returns:
      The text. The best point in it is `result.best`, the row with a star.
    """
    info = result.info
    lines = [_table(result), ""]
    if result.done < result.steps:
        lines.append(f"ended:   after {result.done} of {result.steps} steps")
    versions = ", ".join(f"{name} {version}" for name, version in info["versions"].items())
    several = f", {info['devices']} of them" if info.get("devices", 1) > 1 else ""
    lines.append(f"device:  {info['device']}{several}; {versions}")
    lines.append(
        f"time:    {info['compile_seconds']:.1f} s to compile, {info['run_seconds']:.1f} s to run"
        f"{_speed(result)}"
    )
    if "plan" in info:
        lines.append(_wrapped("plan:    ", "; ".join([info["plan"], *info.get("reasons", [])])))
    extension = extension or (lambda *_: None)
    if result.why_no_best:
        return "\n".join([*lines, *_nothing(result, extension)])
    return "\n".join([*lines, *_best(result), *_optimum(result), *_edges(result, extension)])


def _table(result: SweepResult) -> str:
    header, *rows = result.table().splitlines()
    if len(rows) <= ROWS:
        return "\n".join([header, *rows])
    # The best points, in the order of the grid.
    shown = [rows[point] for point in np.sort(result.ranking[:ROWS])]
    return "\n".join([header, *shown, f"(the best {ROWS} of {len(rows)} points)"])


def _speed(result: SweepResult) -> str:
    begun = result.info.get("resumed_at", 0)
    updates = int(np.maximum(result.stopped_at - begun, 0).sum()) * len(result.seeds)
    seconds = result.info["run_seconds"]
    words = f" ({_short(updates / seconds)} updates a second)" if updates and seconds else ""
    return words + (f", from the checkpoint's step {begun} on" if begun else "")


def _nothing(result: SweepResult, extension: Extension) -> list[str]:
    """Why there is no best point, and the command that may find one."""
    lines = [_wrapped("best:    ", f"none: {result.why_no_best}")]
    # Lower rates help only if the training began with finite losses and then diverged.
    lost = np.any(result.status == "diverged", axis=1).all()
    began = result.has_losses and np.isfinite(result.losses[..., 0]).any()
    if lost and began:
        lines += _next(extension(next(iter(result.hyperparams)), "low"))
    return lines


def _best(result: SweepResult) -> list[str]:
    """The best point of the grid, and its objective."""
    point = int(result.ranking[0])
    first, *others = (
        f"{name.replace('_', ' ')} {result.shown(name, point)}" for name in result.hyperparams
    )
    words = first + (f", with {', '.join(others)}" if others else "")
    direction = "lowest" if result.mode == "min" else "highest"
    objective = result.objective.replace("_", " ")
    value = spread(result.values[point])
    which = {
        "last": "",
        "best": " (the best evaluation of each run)",
        "tail": " (the mean of the last tenth of each run's evaluations)",
    }
    of = which[result.select] if result.objective != "train_loss" else ""
    return [f"best:    {words}", f"{INDENT}{direction} {objective}: {value}{of}"]


def _optimum(result: SweepResult) -> list[str]:
    """The optimum of the first hyperparameter, with a note that it is interpolated."""
    name = next(iter(result.hyperparams))
    if not _has_optimum(result, name):
        return []
    found = result.optimum(name)
    if found.at_edge is not None:
        return []
    low, high = found.interval
    lines = [
        f"optimum: {name.replace('_', ' ')} {found.value:.2g}, between {low:.2g} and {high:.2g};"
        " interpolated between the points of the grid"
    ]
    return lines + ([f"{INDENT}({found.hint})"] if found.hint else [])


def _edges(result: SweepResult, extension: Extension) -> list[str]:
    """What to run next for each hyperparameter whose best value is at an edge of the grid."""
    lines = []
    for name in result.hyperparams:
        found: Optimum | None = result.optimum(name) if _has_optimum(result, name) else None
        if found is None or found.at_edge is None:
            continue
        word = "lowest" if found.at_edge == "low" else "highest"
        lines.append(
            f"{INDENT}the {word} {name.replace('_', ' ')} of the grid: a {found.at_edge}er one may"
            " be better"
        )
        lines += _next(extension(name, found.at_edge))
    return lines


def _has_optimum(result: SweepResult, name: str) -> bool:
    """Whether an optimum can be interpolated between the values, on a logarithmic scale.

    All values must be positive and finite, and at least three must differ: if there are only two,
    the best one is always at an edge.
    """
    values = result.hyperparams[name]
    numeric = name not in result.labels
    return numeric and bool(np.all((values > 0) & (values < np.inf))) and len(np.unique(values)) > 2


def _next(command: str | None) -> list[str]:
    return [f"next:    {command}"] if command else []


def _wrapped(label: str, text: str) -> str:
    return textwrap.fill(
        text,
        WIDTH,
        initial_indent=label,
        subsequent_indent=" " * len(label),
        break_on_hyphens=False,
    )


def _short(number: float) -> str:
    """A number to three digits with a suffix for thousands."""
    for suffix in ("", "k", "M"):
        if number < 999.5:  # a number above it would be rounded to 1e+03
            return f"{number:.3g}{suffix}"
        number /= 1000
    return f"{number:.3g}G"
