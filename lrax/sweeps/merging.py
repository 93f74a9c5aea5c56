"""Several results as one."""

import dataclasses
from typing import Any

import numpy as np

GROUPS = ("hyperparams", "aux", "metrics", "evaluations")  # what a result has by name, points first


def merged(a: Any, b: Any) -> Any:
    """A `SweepResult` with the points of both, those of `b` that `a` has too left out."""
    for what, of in {
        "hyperparameters": lambda result: sorted(result.hyperparams),
        "seeds": lambda result: result.seeds,
        "steps": lambda result: result.losses.shape[-1],
        "objective": lambda result: f"{result.mode} of {result.objective}",
        "random numbers": lambda result: result.info.get("rng"),
        "metrics": lambda result: sorted(result.metrics),
        "aux": lambda result: sorted(result.aux),
        "evaluations": lambda result: (sorted(result.evaluations), result.evaluated_at.tolist()),
    }.items():
        if of(a) != of(b):
            raise ValueError(f"results to merge must have the same {what}, got {of(a)} and {of(b)}")
    if a.info.get("rng") == "common":
        first = [result.starts for result in (a, b)]
        if not np.allclose(*first, rtol=0.02, atol=1e-6):
            raise ValueError(
                "results to merge must be of the same task, whose first losses with each seed would be the same, got"
                f" {first[0]} and {first[1]}"
            )
    columns = [
        np.stack([result.hyperparams[name] for name in a.hyperparams], axis=1) for result in (a, b)
    ]
    known = np.any(
        np.all(
            np.isclose(columns[1][:, None], columns[0], rtol=1e-6, atol=0, equal_nan=True), axis=2
        ),
        axis=1,
    )
    join = lambda x, y: np.concatenate([x, y[~known]])
    joined: dict[str, Any] = {
        field: join(getattr(a, field), getattr(b, field))
        for field in ("losses", "status", "stopped_at")
    }
    for group in GROUPS:
        joined[group] = {
            name: join(values, getattr(b, group)[name])
            for name, values in getattr(a, group).items()
        }
    seconds = {
        key: round(a.info[key] + b.info.get(key, 0), 3)
        for key in a.info
        if key.endswith("_seconds")
    }
    both = dataclasses.replace(a, **joined, info={**a.info, **seconds})
    if both.best_lane[0] >= len(a.status):
        both = dataclasses.replace(both, best_params=b.best_params)
    return both
