"""A sweep that goes on with more points than its checkpoint has.

The new points are trained by a loop of their own until they have as many updates as the others.
Then their state is joined to that of the others, and all points go on together. If the sweep is
ended before that, the points in the checkpoint have different numbers of updates, which its array
`at` holds. The next call first trains the points with the fewest updates. So updates are made in
ascending order, and batches from the host are read once, in their order.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from jax import numpy as jnp

from .engine.loop import Loop, Place
from .storage.checkpoint import State

Described = dict[str, Any]  # points as JSON, `{name: [points]}`: see `choices.Points.described`
Mask = np.ndarray  # [points], bool
# A loop calls it with the updates done and the losses since the last call.
Report = Callable[[int, np.ndarray], None]

SHOWN = 3  # an error names at most this number of points


def difference(old: Any, new: Described, *, ordered: bool) -> str | None:
    """Why a sweep of the points `old` cannot go on with the points `new`, or None if it can.

    Args:
      old: The points of a checkpoint.
      new: The points of this sweep, which must include all points of `old`.
      ordered: Whether the points of `old` must come first and in their order.
    """
    if not _is_table(old) or sorted(old) != sorted(new):
        names = sorted(old) if _is_table(old) else f"{old!r:.100}"
        return f"points of {names} there, of {sorted(new)} here"
    where = _places(old, new)
    absent = [point for point, place in enumerate(where) if place is None]
    if absent:
        words = [_words(old, point) for point in absent[:SHOWN]] + ["..."] * (len(absent) > SHOWN)
        return f"of the {len(where)} points there, absent here: {'; '.join(words)}"
    if ordered and where != list(range(len(where))):
        return (
            "with `rng='independent'` the random numbers of a point follow from its place, so the"
            f" {len(where)} points there must come first here, in their order, and new points after"
            " them: list them with `lrax.points`"
        )
    return None


def rearranged(state: State, new: Described) -> State:
    """The state of a checkpoint, with its arrays rearranged for the points of this sweep.

    Args:
      state: The state of the checkpoint. Its facts include the configuration of the sweep.
      new: The points of this sweep: the points of the checkpoint, perhaps in another order, and new
        points, which have no updates yet.
    """
    old, known = state.facts["configuration"]["hyperparams"], int(state.facts["points"])
    where = np.array(_places(old, new))
    count = len(next(iter(new.values())))
    at = state.arrays["at"]
    if len(where) != known or at.min() < 0 or at.max() != state.facts["done"]:
        raise ValueError("`checkpoint` must hold a whole sweep, got facts and arrays that differ")
    if count == known and np.array_equal(where, np.arange(count)):
        return state
    # The entries of a new point in these arrays. In all others they are what `_missing` returns.
    blank = {"alive": True, "finite": True, "best_value": np.inf}
    blank["stopped_at"] = state.facts["steps"]
    arrays: dict[str, np.ndarray] = {}
    for name, array in state.arrays.items():
        group = name.partition("/")[0]
        # Only the points in the array `placed` have lanes. These are sorted by their new indices.
        if group == "lanes":
            arrays[name] = array[np.argsort(where[state.arrays["placed"]])]
            continue
        missing = blank.get(name, _missing(name, array.dtype))
        whole = np.full((count, *array.shape[1:]), missing, array.dtype)
        whole[where] = array
        arrays[name] = whole
    return State({**state.facts, "points": count}, _in_any_chunk(arrays))


def fewest_updates(state: State) -> int:
    """The smallest number of updates that a point has."""
    return int(state.arrays["at"].min())


def advance(
    loop: Loop,
    state: State | None,
    halt: Callable[[], bool],
    report: Callable[[Loop], Report],
    checkpoint: Place | None,
) -> Loop:
    """Trains a sweep from its beginning or from a state.

    Points that have fewer updates than the others are trained first.

    Args:
      loop: The sweep before its first update.
      state: The state from which the sweep goes on, or None.
      halt: Whether to stop.
      report: A function that takes a loop and returns the `Report` that this loop calls.
      checkpoint: Where the state is saved, or None.

    Returns:
      The loop at its end. Points that did not catch up are `behind` in it.
    """
    while state is not None and fewest_updates(state) < state.facts["done"]:
        # The points with the fewest updates are trained until they have as many as those with the
        # next higher number.
        levels = np.unique(state.arrays["at"])
        behind, until = state.arrays["at"] == levels[0], int(levels[1])
        times = tuple(state.facts["evaluated_at"])  # the other points were evaluated then
        part = loop.again(until=until, times=times, finally_too=False, rule=None)
        part.restore(_only(state, behind))
        part.advance(halt, report(part), checkpoint and _Joining(checkpoint, state, behind))
        state = _joined(state, part.state(), behind)
        if part.done < until:
            # The sweep was ended before these points had caught up. The loop that makes the result
            # ends at the update that the other points have reached, so it trains nothing. `part`
            # has saved the state already.
            done = int(state.facts["done"])
            loop = loop.again(until=done, times=(), finally_too=False)
            loop.failure, checkpoint = part.failure, None
            break
    if state is not None:
        loop.restore(state)
    loop.advance(halt, report(loop), checkpoint)
    return loop


class _Joining:
    """Saves the state of the points that catch up, joined to the state of the other points."""

    def __init__(self, checkpoint: Place, state: State, points: Mask):
        self.path = checkpoint.path
        self._checkpoint, self._state, self._points = checkpoint, state, points

    @property
    def is_due(self) -> bool:
        """Whether it is time to save again."""
        return self._checkpoint.is_due

    def try_save(self, state: State, *, write: bool = True) -> OSError | None:
        """Saves the whole state, with `state` for the points that catch up."""
        joined = _joined(self._state, state, self._points)
        return self._checkpoint.try_save(joined, write=write)


def _only(state: State, points: Mask) -> State:
    """The part of a state for a loop that trains the points with the fewest updates alone."""
    arrays, kept = dict(state.arrays), points[state.arrays["placed"]]
    for name, array in state.arrays.items():
        if name.startswith("lanes/"):
            arrays[name] = array[kept]
        if name.startswith("records/"):  # those of the other points were reported before
            arrays[name] = np.where(points[:, None, None], array, _missing(name, array.dtype))
    arrays |= {name: state.arrays[name] & points for name in ("alive", "placed")}
    done = int(state.arrays["at"][points].min())
    times = [at for at in state.facts["evaluated_at"] if at <= done]
    facts = {"done": done, "evaluated_at": times, "placed": int(arrays["placed"].sum())}
    return State({**state.facts, **facts}, arrays)


def _joined(state: State, part: State, points: Mask) -> State:
    """A state, with the entries of some points taken from the state of a loop of their own.

    Evaluations that only that loop made are dropped: it makes one when it stops a diverged point.

    Args:
      state: The state of all points.
      part: The state of the loop that trained `points`.
      points: The points whose entries are taken from `part`.
    """
    arrays = {name: array.copy() for name, array in state.arrays.items()}
    is_evaluation = lambda name: name.startswith("evaluations/")
    found = {name: array for name, array in part.arrays.items() if not is_evaluation(name)}
    times = part.facts["evaluated_at"]
    for i, at in enumerate(state.facts["evaluated_at"]):
        for name in state.facts["metrics"] if at in times else ():
            values = part.arrays[f"evaluations/{times.index(at)}/{name}"]
            found[f"evaluations/{i}/{name}"] = values
    # Only placed points have lanes. The lanes from both states are put in the order of the points.
    first, second = state.arrays["placed"] & ~points, part.arrays["placed"] & points
    order = np.argsort(np.concatenate([np.flatnonzero(first), np.flatnonzero(second)]))
    for name, array in arrays.items():
        if name.startswith("lanes/"):
            rows = array[first[state.arrays["placed"]]], found[name][second[part.arrays["placed"]]]
            arrays[name] = np.concatenate(rows)[order]
        elif name.startswith("records/"):
            array[points, :, : found[name].shape[-1]] = found[name][points]
        elif name in found:
            array[points] = found[name][points]
    arrays["placed"] = first | second
    # `state` may come from a sweep of fewer steps than this one. There `stopped_at` is the old
    # number of steps for a point that was not stopped.
    steps = int(part.facts["steps"])
    ended = ~points & (arrays["stopped_at"] == state.facts["steps"])
    arrays["stopped_at"][ended] = steps
    facts = {"placed": int(arrays["placed"].sum()), "steps": steps}
    return State({**state.facts, **facts}, _in_any_chunk(arrays))


def _missing(name: str, dtype: np.dtype) -> np.ndarray:
    """The entry of a point that has no value yet: NaN in a curve of floats, 0 in other arrays."""
    is_curve = name.startswith(("records/", "evaluations/"))
    return np.asarray(np.nan if is_curve and jnp.issubdtype(dtype, jnp.inexact) else 0, dtype)


def _in_any_chunk(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays with chunks of shape 0, which lets a loop place the lanes in any chunk."""
    return {**arrays, "shape": np.zeros_like(arrays["shape"])}


def _places(old: Described, new: Described) -> list[int | None]:
    """The index in `new` of each point of `old`, or None. Equal points get different indices."""
    free: dict[str, list[int]] = {}
    names = sorted(new)
    for point, key in enumerate(_keys(new, names)):
        free.setdefault(key, []).append(point)
    return [free[key].pop(0) if free.get(key) else None for key in _keys(old, names)]


def _keys(points: Described, names: list[str]) -> list[str]:
    """A text for each point. Texts are compared because a NaN is unequal to itself.

    An entry of an axis of choices is `[label, fingerprint]`. Only the fingerprint is compared.
    """
    rows = zip(*(points[name] for name in names), strict=True)
    return [repr([v[-1] if isinstance(v, list) else v for v in row]) for row in rows]


def _words(points: Described, point: int) -> str:
    # A choice, `[label, fingerprint]`, is shown by its label.
    values = {name: column[point] for name, column in points.items()}
    shown = {name: v[0] if isinstance(v, list) else repr(v) for name, v in values.items()}
    return ", ".join(f"{name}={value}" for name, value in shown.items())


def _is_table(value: Any) -> bool:
    """Whether a JSON value has the form of `Points.described`. A file may come from anywhere."""
    if not isinstance(value, dict) or not value:
        return False
    columns = list(value.values())
    if not all(isinstance(column, list) and column for column in columns):
        return False
    entries = [entry for column in columns for entry in column]
    is_entry = lambda e: isinstance(e, float) or (isinstance(e, list) and len(e) == 2)
    return len({len(column) for column in columns}) == 1 and all(map(is_entry, entries))
