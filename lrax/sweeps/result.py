"""`SweepResult`: what a sweep found."""

import dataclasses
import os
from typing import Any, NamedTuple

import jax
import numpy as np

from .. import _require, plots
from . import store
from .optimum import Optimum, optimum

# A lane has diverged, finite or not, when its loss once rose above four times its first, where the range tests of
# fastai and Lightning stop, and ended above four fifths of it: a lane that recovers from a spike has not.
BLOWN_UP = 4.0
RECOVERED = 0.8


class Best(NamedTuple):
    """The best point of a sweep."""

    hyperparams: dict[str, float]
    params: Any  # at the end of its best seed's run, as the task's `init` returns them


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class SweepResult:
    """What a sweep found: curves, metrics and a status for every lane; made by `lrax.sweep`.

    Arrays are NumPy's. `points` counts the points of the grid in the order of the product, its first name outermost.

    Attributes:
      hyperparams: `{name: [points]}`, the points.
      seeds: Names of the seeds, `[seeds]`.
      losses: `[points, seeds, steps]`, the training loss before each update.
      aux: `{name: [points, seeds, steps]}`, the scalars of the loss's `aux`.
      metrics: `{name: [points, seeds]}`, what `evaluate` gave at the end.
      evaluations: `{name: [points, seeds, evaluations]}`, what it gave along the way, when `eval_every` was set.
      evaluated_at: `[evaluations]`, after how many updates.
      status: `[points, seeds]`: `"done"`; `"diverged"` for a lane whose loss or parameters ceased to be finite, or
        whose loss rose above four times its first and did not come back; `"interrupted"`.
      objective: Name of what ranks the points, `"train_loss"` or one of `metrics`.
      mode: Whether the objective is to be `"min"` or `"max"`.
      info: Device, versions, steps, and the seconds that compiling and running took.
      best_params: The parameters at the end of the best lane, or `None` if every point diverged.
    """

    hyperparams: dict[str, np.ndarray]
    seeds: list[str]
    losses: np.ndarray
    aux: dict[str, np.ndarray]
    metrics: dict[str, np.ndarray]
    evaluations: dict[str, np.ndarray]
    evaluated_at: np.ndarray
    status: np.ndarray
    objective: str
    mode: str
    info: dict[str, Any]
    best_params: Any

    @property
    def final_losses(self) -> np.ndarray:
        """Training loss over the last tenth of the steps, `[points, seeds]`."""
        return final_losses(self.losses)

    @property
    def values(self) -> np.ndarray:
        """The objective of every lane, `[points, seeds]`."""
        return self.final_losses if self.objective == "train_loss" else self.metrics[self.objective]

    @property
    def scores(self) -> np.ndarray:
        """What ranks the lanes, lower being better, with infinity for diverged ones; `[points, seeds]`."""
        return scores(self.values, self.status, self.mode)

    @property
    def ranking(self) -> np.ndarray:
        """Indices of the points from best to worst by their score over seeds; diverged points come last, `[points]`."""
        # Among the diverged, those with fewer diverged seeds come first.
        return np.lexsort((np.sum(self.status == "diverged", axis=1), np.mean(self.scores, axis=1)))

    @property
    def best_lane(self) -> tuple[int, int]:
        """Point and seed of the run whose parameters are kept: the best point's best seed."""
        point = int(self.ranking[0])
        return point, int(np.argmin(self.scores[point]))

    @property
    def best(self) -> Best:
        """Hyperparameters of the best point over all seeds, and the final parameters of its best seed.

        Raises:
          ValueError: if every point diverged with some seed.
        """
        point = self.ranking[0]
        if not np.all(np.isfinite(self.scores[point])):
            raise ValueError("every point diverged with some seed, so there is no best one; try lower rates")
        return Best({name: float(values[point]) for name, values in self.hyperparams.items()}, self.best_params)

    def optimum(self, name: str | None = None) -> Optimum:
        """The best value of one hyperparameter between the grid's points, with an interval.

        The mean score over seeds is fitted by a parabola in the logarithm of the value, around the best point and with
        the other hyperparameters at their best.

        Args:
          name: The hyperparameter; by default the first of the grid.

        Returns:
          `Optimum(rate, interval, at_edge)`. The interval covers 95 % of resampled seeds and never claims more than
          half the grid's spacing. `at_edge` is `"low"` or `"high"` when the best point is the grid's first or last:
          extend the grid that way; else `None`.

        Raises:
          ValueError: if `name` is unknown, a value is not positive, or every point diverged.
        """
        name = next(iter(self.hyperparams)) if name is None else name
        _require.choice("name", name, self.hyperparams)
        best = self.ranking[0]
        others = [values == values[best] for other, values in self.hyperparams.items() if other != name]
        line = np.all([np.ones(len(self.status), bool), *others], axis=0)
        return optimum(self.hyperparams[name][line], self.scores[line])

    def table(self) -> str:
        """A text table of the points: hyperparameters, training loss, metrics and status.

        Losses and metrics are means over seeds, with half their range behind the ±; `*` marks the best point.
        """
        columns = {"train loss": self.final_losses, **self.metrics}
        header = ["", *self.hyperparams, "train loss", *self.metrics, "status"]
        best = int(self.ranking[0])
        rows = []
        for point in range(len(self.status)):
            row = ["*" if point == best and np.all(np.isfinite(self.scores[point])) else ""]
            row += [f"{values[point]:.3g}" for values in self.hyperparams.values()]
            row += [_spread(values[point]) for values in columns.values()]
            rows.append([*row, _summary(self.status[point])])
        widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
        lines = [
            "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in [header, *rows]
        ]
        return "\n".join(line.rstrip() for line in lines)

    def to_pandas(self) -> Any:
        """A pandas DataFrame with one row for every lane: hyperparameters, seed, loss, metrics, status.

        Raises:
          ImportError: if pandas is not installed.
        """
        pandas = _require.extra("pandas", "sweep")
        points, seeds = self.status.shape
        columns: dict[str, Any] = {name: np.repeat(values, seeds) for name, values in self.hyperparams.items()}
        columns["seed"] = np.tile(self.seeds, points)
        columns["train_loss"] = self.final_losses.ravel()
        columns |= {name: values.ravel() for name, values in self.metrics.items()}
        columns["status"] = self.status.ravel()
        return pandas.DataFrame(columns)

    def plot(self, name: str | None = None) -> Any:
        """A matplotlib Figure: the objective against one hyperparameter, and the training curves.

        The spread over seeds is shaded, the optimum and its interval are marked, and so are diverged lanes.

        Args:
          name: The hyperparameter of the horizontal axis; by default the first of the grid.

        Raises:
          ImportError: if matplotlib is not installed.
        """
        name = next(iter(self.hyperparams)) if name is None else name
        _require.choice("name", name, self.hyperparams)
        found = None
        if np.any(np.all(np.isfinite(self.scores), axis=1)) and np.all(self.hyperparams[name] > 0):
            found = self.optimum(name)
        return plots.sweep(
            self.hyperparams[name],
            self.values,
            self.losses,
            self.status == "diverged",
            name=name,
            objective=self.objective,
            optimum=found and (found.rate, *found.interval),
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the result to one `.npz` file of arrays and a JSON text, whole or not at all.

        `SweepResult.load` reads it, and so does `numpy.load` without lrax.

        Args:
          path: Where; `.npz` is added if it has no suffix.

        Raises:
          OSError: if it cannot be written there; a file that was there before is kept.
        """
        leaves, structure = store.flatten(self.best_params)
        arrays = {"losses": self.losses, "status": self.status, "evaluated_at": self.evaluated_at}
        for group in ("hyperparams", "aux", "metrics", "evaluations"):
            arrays |= {f"{group}/{name}": values for name, values in getattr(self, group).items()}
        arrays |= {f"best_params/{i}": np.asarray(leaf) for i, leaf in enumerate(leaves)}
        facts = {name: getattr(self, name) for name in ("seeds", "objective", "mode", "info")}
        order = {group: list(getattr(self, group)) for group in ("hyperparams", "aux", "metrics", "evaluations")}
        store.save(path, arrays, {**facts, "order": order, "best_params": structure})

    @classmethod
    def load(cls, path: str | os.PathLike[str], like: Any = None) -> "SweepResult":
        """Reads a result that `save` wrote. Loading can run no code: the file holds arrays and JSON.

        Args:
          path: The file.
          like: A pytree with the structure of the best parameters, such as `task.init(key)`. Needed only where they are
            more than dicts, lists and tuples; without it other nodes come back as dicts by field name.

        Returns:
          The `SweepResult`.

        Raises:
          ValueError: if the file is not one that `save` wrote, or not whole, or `like` has another structure.
          FileNotFoundError: if there is no such file.
        """
        arrays, facts = store.load(path)
        groups = {
            group: {name: arrays[f"{group}/{name}"] for name in names} for group, names in facts.pop("order").items()
        }
        structure = facts.pop("best_params")
        leaves = [arrays[name] for name in sorted((n for n in arrays if n.startswith("best_params/")), key=_index)]
        params = store.unflatten(leaves, structure)
        if like is not None:
            wanted = jax.tree.structure(like)
            if wanted.num_leaves != len(leaves):
                raise ValueError(f"`like` must have the {len(leaves)} leaves of the file, got {wanted.num_leaves}")
            params = jax.tree.unflatten(wanted, leaves)
        plain = {name: arrays[name] for name in ("losses", "status", "evaluated_at")}
        return cls(**groups, **plain, **facts, best_params=params)

    def __repr__(self) -> str:
        points, seeds, steps = self.losses.shape
        counts = {word: int(np.sum(self.status == word)) for word in ("diverged", "interrupted")}
        words = "".join(f", {count} {word}" for word, count in counts.items() if count)
        first = self.ranking[0]
        best = ", ".join(f"{name}={values[first]:.3g}" for name, values in self.hyperparams.items())
        return f"SweepResult({points} points x {seeds} seeds x {steps} steps{words}; best {best})"


def final_losses(losses: np.ndarray) -> np.ndarray:
    """Mean loss over the last tenth of the steps."""
    return losses[..., -max(losses.shape[-1] // 10, 1) :].mean(axis=-1)


def statuses(losses: np.ndarray, finite: np.ndarray, *, whole: bool) -> np.ndarray:
    """The status of every lane, from its losses and whether its last parameters are finite."""
    # Means of twenty stretches, for a single batch's loss may well be four times another's.
    stretches = np.array_split(losses, min(20, losses.shape[-1]), axis=-1)
    with np.errstate(invalid="ignore", over="ignore"):
        means = np.stack([stretch.mean(axis=-1, dtype=np.float64) for stretch in stretches], axis=-1)
        first = losses[..., :1].astype(np.float64)
        ratios = 1 + (means - first) / np.maximum(np.abs(first), 1e-30)
        lost = (ratios.max(axis=-1) > BLOWN_UP) & (ratios[..., -1] > RECOVERED)
    diverged = ~np.all(np.isfinite(losses), axis=-1) | ~finite | lost
    return np.where(diverged, "diverged", "done" if whole else "interrupted")


def scores(values: np.ndarray, status: np.ndarray, mode: str) -> np.ndarray:
    """The objective with the sign that makes lower better, infinite where a lane diverged or has no number."""
    values = values if mode == "min" else -values
    return np.where((status == "diverged") | np.isnan(values), np.inf, values)


def _spread(values: np.ndarray) -> str:
    known = values[np.isfinite(values)]
    if not known.size:
        return "-"
    return f"{known.mean():.4g}" + (f" ±{np.ptp(known) / 2:.2g}" if len(values) > 1 else "")


def _summary(status: np.ndarray) -> str:
    words, counts = np.unique(status, return_counts=True)
    if len(words) == 1:
        return str(words[0])
    return ", ".join(f"{count} {word}" for word, count in zip(words, counts, strict=True))


def _index(name: str) -> int:
    return int(name.rsplit("/", 1)[1])
