"""A result as a file: its arrays, and its facts in JSON."""

import contextlib
import os
from typing import Any

import jax
import numpy as np

from ..schedules.schedule import Schedule
from .best import Choice, Params, State
from .merging import GROUPS
from .storage import store

# Fields that are stored in the JSON without conversion.
PLAIN = (
    *("seeds", "steps", "loss_every", "record_every"),
    *("objective", "mode", "select", "labels", "info"),
)
ARRAYS = ("status", "stopped_at", "causes", "evaluated_at")
TREES = ("best_params", "best_state", "best_opt_state")

Result = Any  # a `SweepResult`, which this file must not import


def save(result: Result, path: str | os.PathLike[str]) -> None:
    """Writes a result to a file; see `SweepResult.save`."""
    # `kept` is not stored: its lanes have the structure of the optimizer's state, which is made of
    # the optimizer's own classes. A file without code cannot restore these.
    arrays = {name: getattr(result, name) for name in ARRAYS}
    if result.has_losses:
        arrays["losses"] = result.losses
    for group in GROUPS:
        arrays |= {f"{group}/{name}": values for name, values in getattr(result, group).items()}
    facts: dict[str, Any] = {name: getattr(result, name) for name in PLAIN}
    # The order of the names in each dict is stored too, because an archive does not keep it.
    facts["order"] = {group: list(getattr(result, group)) for group in GROUPS}
    for name in TREES:
        leaves, structure = store.flatten(getattr(result, name))
        arrays |= {f"{name}/{i}": np.asarray(leaf) for i, leaf in enumerate(leaves)}
        facts[name] = structure
    facts["choices"] = {
        name: [_described(choice) for choice in options] for name, options in result.choices.items()
    }
    store.save(path, arrays, facts)


def load(
    path: str | os.PathLike[str], like: Params | tuple[Params, State] = None
) -> dict[str, Any]:
    """The fields of a `SweepResult` that `save` wrote.

    Args:
      path: The file.
      like: Parameters, or (params, state). The best lane's arrays get the structure of these. By
        default they come back in dicts, lists and tuples.

    Raises:
      ValueError: if it is not a whole file of a result, or `like` has another number of leaves.
    """
    arrays, facts = store.load(path)
    # A file may come from anywhere. Its arrays and JSON may be readable without being a result, so
    # any of these errors means that a part is missing or has another form.
    try:
        fields = _fields(arrays, facts)
        _require_shapes(fields)
    except (KeyError, ValueError, TypeError, IndexError, AttributeError) as error:
        what = store.RESULT.partition("/")[0]
        raise ValueError(f"`path` must be a whole file of a {what}, got {path}: {error}") from error
    if like is not None:
        leaves = {name: _leaves(arrays, name) for name in ("best_params", "best_state")}
        fields |= _alike(leaves, like, stateful=fields["best_state"] is not None)
    return fields


def _fields(arrays: dict[str, np.ndarray], facts: dict[str, Any]) -> dict[str, Any]:
    """The fields of a result from the arrays and facts of a file."""
    fields: dict[str, Any] = {name: facts[name] for name in PLAIN}
    fields |= {name: arrays[name] for name in ARRAYS}
    fields["losses"] = arrays.get("losses")  # a result of `sweep_function` has none
    for group in GROUPS:
        names = facts["order"][group]
        fields[group] = {name: arrays[f"{group}/{name}"] for name in names}
    for name in TREES:
        fields[name] = store.unflatten(_leaves(arrays, name), facts[name])
    fields["choices"] = _restored(facts["choices"])
    return fields


def _require_shapes(fields: dict[str, Any]) -> None:
    """Requires that the shapes and dtypes of the arrays fit each other."""
    points, seeds = fields["status"].shape
    lanes = {"status": fields["status"], "causes": fields["causes"]}
    for name, values in lanes.items():
        if values.shape != (points, seeds) or values.dtype.kind != "U":
            raise ValueError(f"its {name} is {values.dtype} of shape {values.shape}")
    if fields["stopped_at"].shape != (points,) or len(fields["seeds"]) != seeds:
        raise ValueError("its points and seeds are of different numbers")
    for group in GROUPS:
        for name, values in fields[group].items():
            # Booleans and numbers. NumPy gives bfloat16, which is not its own type, another kind.
            if values.dtype.kind not in "biuf" and values.dtype.name != "bfloat16":
                raise ValueError(f"its {group}/{name} holds {values.dtype}")
            axes = {"hyperparams": (points,)}.get(group, (points, seeds))
            if values.shape[: len(axes)] != axes:
                raise ValueError(f"its {group}/{name} has the shape {values.shape}")
    losses = fields["losses"]
    if losses is not None and (losses.ndim != 3 or losses.shape[:2] != (points, seeds)):
        raise ValueError(f"its losses have the shape {losses.shape}")
    for name, labels in fields["labels"].items():
        indices = fields["hyperparams"][name]
        if not np.all((indices >= 0) & (indices < len(labels))):
            raise ValueError(f"its {name} names choices that are not there")


def _leaves(arrays: dict[str, np.ndarray], name: str) -> list[np.ndarray]:
    """The leaves of a pytree, in their order."""
    stored = [key for key in arrays if key.startswith(f"{name}/")]
    # Sorted by number, because as strings "10" comes before "2".
    return [arrays[key] for key in sorted(stored, key=_index)]


def _alike(
    leaves: dict[str, list[np.ndarray]], like: Params | tuple[Params, State], *, stateful: bool
) -> dict[str, Any]:
    """The best parameters in the structure of `like`, and the best state if `like` has one."""
    # A tuple of two may be (params, state), or parameters that happen to be a tuple of two. It is
    # read as (params, state) if each part has as many leaves as the file has for it.
    trees = {"best_params": like}
    if stateful and isinstance(like, tuple) and len(like) == 2:
        pair = dict(zip(leaves, like, strict=True))
        if all(len(jax.tree.leaves(pair[name])) == len(leaves[name]) for name in leaves):
            trees = pair
    wanted = {name: jax.tree.structure(tree) for name, tree in trees.items()}
    params, state = map(len, leaves.values())
    if wanted["best_params"].num_leaves != params:
        pair = f", or be (params, state) of {params} and {state} leaves" if stateful else ""
        raise ValueError(
            f"`like` must have the {params} leaves of the file's parameters{pair},"
            f" got {wanted['best_params'].num_leaves} leaves"
        )
    return {name: jax.tree.unflatten(tree, leaves[name]) for name, tree in wanted.items()}


def _described(choice: Choice) -> Any:
    """A choice as JSON, or `None` if it cannot be stored. The file then has only its label."""
    # Only schedules can be written as JSON. Code is never stored.
    if not isinstance(choice, Schedule):
        return None
    try:
        described = choice.to_dict()
        # Read once as a test: this raises an error if the description cannot be read again. Such a
        # description would be useless in a file.
        Schedule.from_dict(described)
    except (TypeError, ValueError):  # a schedule with a user's own function inside
        return None
    return described


def _restored(described: dict[str, list[Any]]) -> dict[str, list[Choice]]:
    """The axes of choices whose entries were all stored and can all be read."""
    choices: dict[str, list[Choice]] = {}
    for name, entries in described.items():
        # Entries are looked up by index, so an axis with a missing entry (None) is dropped. An axis
        # is also dropped if a schedule cannot be built, for instance one that another version of
        # lrax stored. The numbers and the labels of the result are read all the same.
        with contextlib.suppress(TypeError, ValueError):
            choices[name] = [Schedule.from_dict(entry) for entry in entries]
    return choices


def _index(name: str) -> int:
    return int(name.rsplit("/", 1)[1])
