"""What a sweep found, in words and in files, for a shell. Nothing here prints."""

import textwrap
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ..display.tables import spread
from ..sweeps.result import SweepResult

ROWS = 60  # of a table
WIDTH = 100  # of a line
Extension = Callable[[str, str], str | None]


def report(result: SweepResult, extension: Extension | None = None) -> str:
    """The table, where and how the sweep ran, the best rate, and what to do next.

    Args:
      result: The result.
      extension: Gives the command that goes on beyond the `"low"` or `"high"` edge of a
        hyperparameter, or `None`.
    """
    info, done = result.info, result.losses.shape[-1]
    lines = [_table(result), ""]
    if done < info["steps"]:
        lines.append(f"ended:   after {done} of {info['steps']} steps")
    versions = ", ".join(f"{name} {version}" for name, version in info["versions"].items())
    several = f", {info['devices']} of them" if info.get("devices", 1) > 1 else ""
    lines.append(f"device:  {info['device']}{several}; {versions}")
    lines.append(
        f"time:    {info['compile_seconds']:.1f} s to compile, {info['run_seconds']:.1f} s to run{_speed(result)}"
    )
    if "plan" in info:
        lines.append(_wrapped("plan:    ", "; ".join([info["plan"], *info.get("reasons", [])])))
    return "\n".join([*lines, *_verdict(result, extension or (lambda *_: None))])


def _table(result: SweepResult) -> str:
    header, *rows = result.table().splitlines()
    if len(rows) <= ROWS:
        return "\n".join([header, *rows])
    shown = [rows[point] for point in np.sort(result.ranking[:ROWS])]
    return "\n".join([header, *shown, f"(the best {ROWS} of {len(rows)} points)"])


def _speed(result: SweepResult) -> str:
    begun = result.info.get("resumed_at", 0)
    updates = int(np.maximum(result.stopped_at - begun, 0).sum()) * len(result.seeds)
    seconds = result.info["run_seconds"]
    words = f" ({_short(updates / seconds)} updates a second)" if updates and seconds else ""
    return words + (f", from the checkpoint's step {begun} on" if begun else "")


def _verdict(result: SweepResult, extension: Extension) -> list[str]:
    """The best point, and the commands to run next where it is at an edge."""
    best, (first, *others) = int(result.ranking[0]), result.hyperparams
    if not np.all(np.isfinite(result.scores[best])):
        lines = ["best:    none, for every point diverged with some seed; lower rates may not"]
        return lines + _next(extension(first, "low"))
    name, at = (
        first.replace("_", " "),
        {name: f"{values[best]:.3g}" for name, values in result.hyperparams.items()},
    )
    edges = {
        other: result.optimum(other).at_edge
        for other in (first, *others)
        if _has_optimum(result, other)
    }
    if first in edges and edges[first] is None:
        found = result.optimum(first)
        low, high = found.interval
        words, place = f"{found.rate:.2g}, between {low:.2g} and {high:.2g}", f"at {at[first]}"
    else:
        words, place = at[first], "there"
    words += "".join(f", with {other.replace('_', ' ')} {at[other]}" for other in others)
    objective = (
        f"{'lowest' if result.mode == 'min' else 'highest'} {result.objective.replace('_', ' ')}"
    )
    lines = [
        f"best:    {name} {words}",
        f"         {objective} {spread(result.values[best])} {place}",
    ]
    if first in edges and edges[first] is None and len(result.seeds) <= 2:
        few = {
            1: "one seed: how seeds differ is no part of the interval",
            2: "a third seed narrows the interval much",
        }
        lines.append(f"         ({few[len(result.seeds)]})")
    for other, edge in edges.items():
        if edge:
            end = "lowest" if edge == "low" else "highest"
            lines.append(
                f"         the {end} {other.replace('_', ' ')} of the grid: a {edge}er one may be better"
            )
            lines += _next(extension(other, edge))
    return lines


def _has_optimum(result: SweepResult, name: str) -> bool:
    """Whether values may have an optimum between them, on a logarithmic scale: of two, each is at an edge."""
    values = result.hyperparams[name]
    return bool(np.all((values > 0) & (values < np.inf))) and len(np.unique(values)) > 2


def _next(command: str | None) -> list[str]:
    return [f"next:    {command}"] if command else []


def write(result: SweepResult, name: Path) -> list[str]:
    """Writes the picture, the result and the table of its lanes; what was written, in lines.

    The picture and the table need packages: what is not there is named, and no reason to lose the
    rest.
    """
    place = lambda suffix: name.with_name(
        name.name + suffix
    )  # a dot in a name, as in lr0.1, is no suffix
    result.save(place(".npz"))
    done, missing = [place(".npz")], []
    for suffix, save in (
        (".png", lambda path: result.plot().savefig(path, dpi=120)),
        (".csv", lambda path: result.to_pandas().to_csv(path, index=False)),
    ):
        try:
            save(place(suffix))
        except ImportError as error:
            missing.append(f"         no {place(suffix)}: {error}")
        else:
            done.append(place(suffix))
    return ["files:   " + ", ".join(map(str, sorted(done))), *missing]


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
        if number < 1000:
            return f"{number:.3g}{suffix}"
        number /= 1000
    return f"{number:.3g}G"
