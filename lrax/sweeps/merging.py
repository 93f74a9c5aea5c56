"""Merges several results into one."""

from typing import Any

import numpy as np

from .record import replaced

# The fields that hold `{name: array}`. The first axis of each array is that of the points.
GROUPS = ("hyperparams", "aux", "monitors", "metrics", "curves", "evaluations")

# The relative difference up to which two first losses of a seed count as equal. Programs for other
# array shapes round differently. In a low precision such as bfloat16 the difference is visible.
ALIKE = 0.02

Result = Any  # a `SweepResult`, which this file must not import


def merged(a: Result, b: Result) -> Result:
    """A `SweepResult` with the points of `a`, and those of `b` that `a` does not have."""
    _require_alike(a, b)
    columns = [
        np.stack([result.hyperparams[name] for name in a.hyperparams], axis=1)
        for result in (a, _with_choices_of(a, b))
    ]
    # The same point may have been given as 1e-3 in one sweep and computed as 0.0009999999 in the
    # other. NaN is a possible value too, and equals itself here.
    close = np.isclose(columns[1][:, None], columns[0], rtol=1e-6, atol=0, equal_nan=True)
    known = np.any(np.all(close, axis=2), axis=1)
    # The points of `b` that `a` already has are dropped.
    join = lambda x, y: np.concatenate([x, y[~known]])
    joined: dict[str, Any] = {
        field: join(getattr(a, field), getattr(b, field))
        for field in ("status", "stopped_at", "causes")
    }
    if a.has_losses:
        joined["losses"] = join(a.losses, b.losses)
    for group in GROUPS[1:]:
        joined[group] = {
            name: join(values, getattr(b, group)[name])
            for name, values in getattr(a, group).items()
        }
    # From `columns`, in which the choices of `b` have their new numbers.
    joined["hyperparams"] = {
        name: join(columns[0][:, i], columns[1][:, i]) for i, name in enumerate(a.hyperparams)
    }
    labels, choices = _joined_choices(a, b)
    seconds = {
        key: round(a.info[key] + b.info.get(key, 0), 3)
        for key in a.info
        if key.endswith("_seconds")
    }
    info = {**a.info, **seconds}
    # `kept` holds the lanes of one sweep, and `resume=` needs those of all points. The merged
    # result has points of two sweeps, so its `kept` is None.
    both = replaced(a, **joined, labels=labels, choices=choices, info=info, kept=None)
    # The parameters are those of the best lane of both results. If that is a lane of `b`, its
    # parameters take the place of those of `a`.
    if both.best_lane[0] >= len(a.status):
        best = ("best_params", "best_state", "best_opt_state")
        both = replaced(both, **{field: getattr(b, field) for field in best})
    return both


def _require_alike(a: Result, b: Result) -> None:
    """Raises if two results differ in what they must have in common."""
    # Each entry is a name for the error message, and a function that reads the value to compare.
    for what, read in {
        "hyperparameters": lambda result: sorted(result.hyperparams),
        "axes of choices": lambda result: sorted(result.labels),
        "seeds": lambda result: result.seeds,
        "steps": lambda result: result.done,
        "losses": lambda result: result.losses.shape[-1] if result.has_losses else None,
        "objective": lambda result: f"{result.mode} of {result.objective}, {result.select}",
        "random numbers": lambda result: result.info.get("rng"),
        "metrics": lambda result: sorted(result.metrics),
        "aux": lambda result: sorted(result.aux),
        "monitors": lambda result: (sorted(result.monitors), result.record_every),
        "curves": lambda result: {
            name: values.shape[-1] for name, values in sorted(result.curves.items())
        },
        "evaluations": lambda result: (sorted(result.evaluations), result.evaluated_at.tolist()),
    }.items():
        if read(a) != read(b):
            raise ValueError(
                f"results to merge must have the same {what}, got {read(a)} and {read(b)}"
            )
    both = (a, b)
    # If the loss depends on a swept hyperparameter, such as label smoothing, points start with
    # different losses. Then the first losses do not show whether two tasks are the same.
    if a.has_losses and a.info.get("rng") == "common" and all(map(_start_alike, both)):
        first = [result.starts for result in both]
        if not np.allclose(*first, rtol=ALIKE, atol=1e-6):
            raise ValueError(
                "results to merge must be of the same task: with common random numbers the first"
                f" losses of each seed are then the same, got {first[0]} and {first[1]}"
            )


def _start_alike(result: Result) -> bool:
    """Whether all points of a seed start with nearly the same training loss."""
    first = result.losses[..., 0]
    alike = np.isclose(first, result.starts, rtol=ALIKE, atol=1e-6)
    return bool(np.all(alike | ~np.isfinite(first)))


def _joined_choices(a: Result, b: Result) -> tuple[dict[str, list[str]], dict[str, list[Any]]]:
    """Labels and choices of both results: first those of `a`, then the ones that only `b` has."""
    # Each result numbers its own choices, so the numbers of two results cannot be compared. The
    # labels can.
    labels = {name: list(own) for name, own in a.labels.items()}
    choices = {name: list(own) for name, own in a.choices.items()}
    for name, others in b.labels.items():
        for i, label in enumerate(others):
            if label not in labels[name]:
                labels[name].append(label)
                if name in choices and name in b.choices:
                    choices[name].append(b.choices[name][i])
    # A result from a file may have labels without objects. Then the joined list of objects is
    # shorter than that of labels, and an index would find the wrong object. Such a list is dropped.
    whole = {name: own for name, own in choices.items() if len(own) == len(labels[name])}
    return labels, whole


def _with_choices_of(a: Result, b: Result) -> Result:
    """`b` with new numbers for its choices: their positions in the joined list of labels."""
    labels, _ = _joined_choices(a, b)
    hyperparams = dict(b.hyperparams)
    for name, own in b.labels.items():
        # A column of hyperparameters is float64, whether it holds numbers or indices of choices.
        numbers = np.array([labels[name].index(label) for label in own], np.float64)
        hyperparams[name] = numbers[b.hyperparams[name].astype(int)]
    return replaced(b, hyperparams=hyperparams)
