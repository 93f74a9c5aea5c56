"""`sweep_over`: sweeps over choices that change the program, such as a width or a batch size."""

# Annotations stay as they are written, so that `help` shows the names of the aliases.
from __future__ import annotations

import dataclasses
import itertools
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import _require
from ..display.tables import aligned
from ..training.optimizer import Optimizer
from ..training.task import Task
from . import statistics
from .best import Best
from .direction import Mode
from .grid import Grid
from .optimum import Optimum
from .record import Select
from .result import SweepResult
from .statistics import Paired
from .sweep import sweep

if TYPE_CHECKING:
    import pandas

FORMAT = "lrax.StructuralResult/1"  # in `choices.json`; the number changes with the layout

Option = Any  # another argument of `lrax.sweep`
Structural = Any  # a value of the structure: a number, a word, a function or another object


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class BestChoice(Best):
    """The best point of all choices.

    Attributes:
      choice: `{name: value}` of the structure; the other attributes are those of `Best`.
    """

    choice: dict[str, Structural] = dataclasses.field(default_factory=dict)

    def __repr__(self) -> str:
        return f"BestChoice({_words(self.choice)}; {super().__repr__()})"


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class StructuralResult:
    """What a sweep over structural choices found: a `SweepResult` for each choice.

    Made by `lrax.sweep_over`.

    Attributes:
      choices: `{name: value}` for each choice that was swept, in the order of the product.
      results: The `SweepResult` of each.
    """

    choices: list[dict[str, Structural]]
    results: list[SweepResult]

    def __iter__(self) -> Iterator[tuple[dict[str, Structural], SweepResult]]:
        return iter(zip(self.choices, self.results, strict=True))

    def __len__(self) -> int:
        return len(self.results)

    @property
    def ranking(self) -> list[tuple[int, int]]:
        """`(choice, point)` of every row of the table, from the best mean score to the worst.

        Points with a diverged lane come last.
        """
        # Scores of all results are comparable: one objective, one direction.
        keys = []
        for i, result in enumerate(self.results):
            # The mean of a point with a diverged lane is infinite. Among those points, the ones
            # with fewer diverged lanes come first.
            diverged = np.sum(result.status == "diverged", axis=1)
            means = np.mean(result.scores, axis=1)
            keys += zip(means, diverged, [i] * len(means), range(len(means)), strict=True)
        return [(i, point) for *_, i, point in sorted(keys)]

    @property
    def best(self) -> BestChoice:
        """The best choice with its best hyperparameters, by the mean over seeds.

        Its parameters are the final ones of the best seed.

        Raises:
          ValueError: if no point of any choice has a finite objective with every seed; it says why.
        """
        if reason := self.why_no_best:
            raise ValueError(f"there is no best point: {reason}")
        choice, _ = self.ranking[0]
        own = self.results[choice].best
        # `dataclasses.asdict` would copy the parameters, and turn nodes into dicts.
        return BestChoice(**vars(own), choice=dict(self.choices[choice]))

    @property
    def why_no_best(self) -> str:
        """Why no point of any choice can be called the best; empty if one can."""
        # One choice with a best point is enough.
        reasons = [result.why_no_best for result in self.results]
        return reasons[0] if all(reasons) else ""

    def rank_by(
        self, objective: str, *, mode: Mode | None = None, select: Select | None = None
    ) -> StructuralResult:
        """The same results, all ranked by something else: `SweepResult.rank_by`.

        Args:
          objective: `"train_loss"`, or a name among the metrics.
          mode: `"min"` or `"max"`; None reads it from the objective's name.
          select: Which evaluation ranks; None leaves it as it is.

        Returns:
          A `StructuralResult`; this one is not changed.

        Raises:
          ValueError: as `SweepResult.rank_by`.
        """
        results = [own.rank_by(objective, mode=mode, select=select) for own in self.results]
        return StructuralResult(self.choices, results)

    def where(self, **choice: Structural) -> StructuralResult:
        """The choices with these values, as in `result.where(width=64)`.

        Args:
          choice: Values of structural names.

        Raises:
          ValueError: if a name is unknown, or no choice has these values.
        """
        # First each value is checked alone, so that the error can name the argument.
        for name, value in choice.items():
            _require.choice("name", name, self.choices[0])
            known = [own[name] for own in self.choices]
            if not any(_same(value, other) for other in known):
                raise ValueError(f"`{name}` must be one of the swept {known}, got {value!r}")
        rows = [
            i
            for i, own in enumerate(self.choices)
            if all(_same(value, own[name]) for name, value in choice.items())
        ]
        if not rows:
            raise ValueError(f"`choice` must be one of the swept choices, got {_words(choice)}")
        return StructuralResult([self.choices[i] for i in rows], [self.results[i] for i in rows])

    def optima(self, name: str | None = None) -> list[tuple[dict[str, Structural], Optimum | None]]:
        """The best value of one hyperparameter for each choice, with its interval.

        Use it to see how the best rate moves as a model grows, or how it follows the batch size.

        Args:
          name: The hyperparameter; by default the first numeric one of each grid.

        Returns:
          `(choice, optimum)` for each choice; `None` in place of the optimum where there is no best
          point.
        """
        return [
            (dict(choice), None if result.why_no_best else result.optimum(name))
            for choice, result in self
        ]

    def paired(
        self, reference: tuple[int, int] | None = None, *, confidence: float = 0.95
    ) -> list[tuple[dict[str, Structural], Paired]]:
        """Compares all points of all choices with one point, seed by seed: `SweepResult.paired`.

        Use it to see whether a choice, such as an optimizer, is better than another beyond the
        noise of the seeds. A seed gives all choices the same key. What the choices share by this
        key, such as the order of the batches if the batch size is the same, cancels in the
        differences.

        Args:
          reference: `(choice, point)`, the indices of the point to compare to, as in `ranking`; by
            default the best one.
          confidence: Coverage of the intervals, in (0, 1).

        Returns:
          `(choice, paired)` for each choice, with a `Paired` over its points. `paired.reference` is
          the `(choice, point)` of the reference.

        Raises:
          ValueError: if the choices have different seeds or fewer than two, the reference was not
            trained to the end, or there is no best point.
          TypeError: if `reference` is not a pair of ints.

        Example:
          >>> task = lrax.tasks.diabetes()
          >>> result = lrax.sweep_over(
          ...     {"steps": [10, 50]},
          ...     lambda steps: (task, optax.adam),
          ...     lrax.log_grid(1e-4, 1e-1, 4),
          ...     steps=lambda steps: steps,
          ...     seeds=3,
          ... )
          >>> [(choice["steps"], bool(pairs.mean.min() > 0)) for choice, pairs in result.paired()]
          [(10, True), (50, False)]
        """
        at = self._point(reference)
        seeds = self.results[0].seeds
        for choice, result in self:
            if result.seeds != seeds:
                raise ValueError(
                    f"all choices must have the same seeds to be paired, got {seeds} for"
                    f" {_words(self.choices[0])} and {result.seeds} for {_words(choice)}"
                )
        status = np.concatenate([result.status for result in self.results])
        # Within one sweep, lanes that were interrupted at the same update can be compared. Those of
        # other choices were trained further.
        scores = np.concatenate([result.scores for result in self.results])
        scores = np.where(status == "interrupted", np.inf, scores)
        starts = np.cumsum([0, *(len(result.status) for result in self.results)])
        found = statistics.paired(scores, int(starts[at[0]]) + at[1], confidence, status)
        # Each field of `found` has the rows of all choices, and is split into those of each choice.
        parts = zip(*(np.split(field, starts[1:-1]) for field in found[1:]), strict=True)
        return [
            (dict(own), Paired(at, *fields))
            for own, fields in zip(self.choices, parts, strict=True)
        ]

    def _point(self, reference: _require.Unchecked) -> tuple[int, int]:
        """The indices of the choice and the point of a reference: given, or the best one."""
        if reference is None:
            if reason := self.why_no_best:
                raise ValueError(f"there is no best point: {reason}")
            return self.ranking[0]
        if not isinstance(reference, tuple) or len(reference) != 2:
            raise TypeError(f"`reference` must be (choice, point), got {reference!r}")
        choice = _require.count("reference[0]", reference[0], 0, len(self) - 1)
        points = len(self.results[choice].status)
        return choice, _require.count("reference[1]", reference[1], 0, points - 1)

    def table(self) -> str:
        """A text table of all points: `SweepResult.table` with columns of the choice in front.

        Losses and metrics are means over seeds, with half their range behind the ±; `*` marks the
        best point.
        """
        structure = list(self.choices[0])
        tables = [result.rows() for result in self.results]
        # Choices may have grids and metrics of their own. The columns are the union of all, and a
        # dict keeps them in order: hyperparameters first. The first and the last entry of a head,
        # the mark and the status, are skipped here and added below.
        names = dict.fromkeys(name for result in self.results for name in result.hyperparams)
        names |= dict.fromkeys(name for head, *_ in tables for name in head[1:-1])
        rows = [["", *structure, *names, "status"]]
        best = None if self.why_no_best else self.ranking[0]
        for i, (choice, (head, *body)) in enumerate(zip(self.choices, tables, strict=True)):
            for point, cells in enumerate(body):
                mark = "*" if (i, point) == best else ""
                known = dict(zip(head, cells, strict=True))
                values = [known.get(name, "") for name in names]
                own = [_label(choice[name]) for name in structure]
                rows.append([mark, *own, *values, known["status"]])
        return aligned(rows)

    def to_pandas(self, curve: str | None = None) -> pandas.DataFrame:
        """The DataFrames of all results as one, with columns of the choice in front.

        Args:
          curve: As in `SweepResult.to_pandas`.

        Returns:
          The DataFrame.

        Raises:
          ImportError: if pandas is not installed.
          ValueError: if a result has no such curve.
        """
        pandas = _require.extra("pandas", "sweep")
        frames = []
        for choice, result in self:
            frame = result.to_pandas(curve)
            for i, (name, value) in enumerate(choice.items()):
                frame.insert(i, name, [_plain(value)] * len(frame))
            frames.append(frame)
        return pandas.concat(frames, ignore_index=True)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the results to a folder: an `.npz` file for each choice, and the choices as JSON.

        Functions and other objects among the choices are stored by name.

        Args:
          path: The folder; made if it is not there.

        Raises:
          OSError: if it cannot be written there.
        """
        folder = Path(_require.path("path", path))
        folder.mkdir(parents=True, exist_ok=True)
        for i, result in enumerate(self.results):
            result.save(folder / f"{i:04d}.npz")
        choices = [
            {name: _plain(value) for name, value in choice.items()} for choice in self.choices
        ]
        # Written last and in one move: a folder that has this file has all the others.
        temporary = folder / f".choices.{os.getpid()}"
        temporary.write_text(json.dumps({"format": FORMAT, "choices": choices}))
        temporary.replace(folder / "choices.json")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> StructuralResult:
        """Reads a folder that `save` wrote. Loading runs no code: the files hold arrays and JSON.

        Args:
          path: The folder.

        Raises:
          ValueError: if it is not a whole folder that `save` wrote.
          FileNotFoundError: if there is no such folder.
        """
        text = (Path(_require.path("path", path)) / "choices.json").read_text()
        # A file of another program may be JSON of any shape, or not JSON at all.
        try:
            facts = json.loads(text)
            choices = facts["choices"] if facts["format"] == FORMAT else None
        except (KeyError, TypeError, json.JSONDecodeError) as error:
            raise ValueError(
                f"`path` must be a folder written by StructuralResult.save, got {path}: {error}"
            ) from error
        if choices is None:
            raise ValueError(f"`path` must hold {FORMAT}, got {facts['format']!r} in {path}")
        return cls(
            choices, [SweepResult.load(Path(path) / f"{i:04d}.npz") for i in range(len(choices))]
        )

    def __repr__(self) -> str:
        points = sum(len(result.status) for result in self.results)
        size = f"{len(self)} choices, {points} points"
        if reason := self.why_no_best:
            return f"StructuralResult({size}; no best: {reason})"
        choice, point = self.ranking[0]
        own = self.results[choice]
        values = [f"{name}={own.shown(name, point)}" for name in own.hyperparams]
        best = ", ".join([_words(self.choices[choice]), *values])
        return f"StructuralResult({size}; best {best})"


def sweep_over(
    structure: Mapping[str, Sequence[Structural]],
    build: Callable[..., tuple[Task, Optimizer]],
    grid: Grid | Callable[..., Grid],
    *,
    steps: int | Callable[..., int],
    **options: Option,
) -> StructuralResult:
    """Runs one sweep for each structural choice, such as a width, a batch size or an optimizer.

    A structural choice changes shapes or code, and so the compiled program. For numbers and
    schedules, `lrax.sweep` alone is faster: it needs one program for all of them. The sweeps run
    one after the other, each with all points and seeds at once. All choices are built before the
    first one is trained. After Ctrl-C the result has the choices that are done.

    Args:
      structure: `{name: values}`; their product is tried. Values are numbers, words or functions.
      build: `build(**choice) -> (task, optimizer)`, the arguments of `lrax.sweep` for one choice.
        Choices for which it returns the same functions share a compiled program.
      grid: As in `lrax.sweep`, or a function `grid(**choice)` that returns one, for optimizers with
        other hyperparameters or widths with other rates.
      steps: Optimizer updates of each lane, or a function `steps(**choice)` that returns their
        number; use a function to give all batch sizes the same number of examples.
      options: Further arguments of `lrax.sweep`, the same for all.

    Returns:
      A `StructuralResult`: `.best`, `.table()`, `.optima()`, `.to_pandas()` over all choices, and
      `.results`.

    Raises:
      ValueError: if `structure` is empty, if one of its names is a hyperparameter's too, or where
        `lrax.sweep` raises one.
      TypeError: if an argument is not as described, or where `lrax.sweep` raises one.

    Example:
      >>> result = lrax.sweep_over(
      ...     {"width": [8, 32], "optimizer": [optax.sgd, optax.adam]},
      ...     lambda width, optimizer: (lrax.tasks.digits(widths=(width,)), optimizer),
      ...     {"learning_rate": lrax.log_grid(1e-3, 1.0, 4)},
      ...     steps=30,
      ...     objective="val_loss",
      ... )
      >>> result
      StructuralResult(4 choices, 16 points; best width=32, optimizer=adam, learning_rate=0.1)
    """
    choices = product(structure)
    if not callable(build):
        raise TypeError(
            f"`build` must be a function from a choice to (task, optimizer), got {build!r}"
        )
    # All choices are built and checked before any is trained: an error in the last one would
    # otherwise come after hours of training.
    planned = []
    for choice in choices:
        built = build(**choice)
        if not (
            isinstance(built, tuple)
            and len(built) == 2
            and isinstance(built[0], Task)
            and callable(built[1])
        ):
            raise TypeError(
                f"`build` must return (task, optimizer), got {built!r} for {_words(choice)}"
            )
        own = grid(**choice) if callable(grid) else grid
        if isinstance(own, Mapping) and (twice := [name for name in own if name in choice]):
            raise ValueError(
                f"`structure` and `grid` must have different names, got {twice} in both"
            )
        count = _require.count("steps", steps(**choice) if callable(steps) else steps, 1)
        planned.append((*built, own, count))
    results: list[SweepResult] = []
    for choice, (task, optimizer, own, count) in zip(choices, planned, strict=True):
        try:
            results.append(sweep(task, optimizer, own, steps=count, **options))
        except KeyboardInterrupt:
            # Ctrl-C came between two sweeps, or twice within one. The finished sweeps are kept.
            if not results:
                raise
            break
        except Exception as error:
            # `lrax.sweep` does not know which choice it trains.
            done = f"after {len(results)} of {len(choices)} choices"
            error.add_note(f"in the sweep over {_words(choice)}, {done}")
            raise
        # Ctrl-C within a sweep ends that sweep without an error. The next one must not begin.
        if np.any(results[-1].status == "interrupted"):
            break
    return StructuralResult(choices[: len(results)], results)


def product(structure: _require.Unchecked) -> list[dict[str, Structural]]:
    """The choices of a structure: the product of its values, the first name changing slowest."""
    if not isinstance(structure, Mapping):
        raise TypeError(f"`structure` must be {{name: values}}, got {type(structure).__name__}")
    if not structure:
        raise ValueError("`structure` must name at least one choice, got {}")
    values = {}
    for name, options in structure.items():
        if isinstance(options, (str, bytes)) or not np.iterable(options):
            raise TypeError(f"`structure[{name!r}]` must be a list of values, got {options!r}")
        values[name] = [
            # NumPy's scalars print with their type, and JSON does not take them.
            value.item() if isinstance(value, np.generic) else value
            for value in options
        ]
        if not values[name]:
            raise ValueError(f"`structure[{name!r}]` must hold at least one value, got none")
    return [
        dict(zip(values, choice, strict=True)) for choice in itertools.product(*values.values())
    ]


def _same(value: Structural, known: Structural) -> bool:
    """Whether two values are the same number or word, or the same object."""
    # Only these are compared by `==`: for an array it gives an array, which is neither true nor
    # false.
    plain = (str, bool, int, float, np.generic)
    return value is known or (isinstance(value, plain) and bool(value == known))


def _plain(value: Structural) -> bool | int | float | str | None:
    """The value itself if JSON can hold it, else its label."""
    return value if value is None or isinstance(value, (bool, int, float, str)) else _label(value)


def _label(value: Structural) -> str:
    """A value in short: three digits, the name of a function, or its text."""
    if isinstance(value, float):
        return f"{value:.3g}"
    return str(getattr(value, "__name__", value))


def _words(choice: Mapping[str, Structural]) -> str:
    return ", ".join(f"{name}={_label(value)}" for name, value in choice.items())
