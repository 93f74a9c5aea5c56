"""Arrays and facts on disk: one `.npz` with a JSON text in it. Loading one runs no code."""

import json
import os
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp

RESULT = "lrax.SweepResult/2"


def save(
    path: str | os.PathLike[str],
    arrays: dict[str, np.ndarray],
    facts: dict[str, Any],
    format: str = RESULT,
    *,
    compressed: bool = True,
) -> Path:
    """Writes arrays and facts to one file, whole or not at all; `.npz` is added to a path without a suffix."""
    path = Path(path)
    path = path if path.suffix else path.with_suffix(".npz")
    # NumPy stores dtypes that are not its own, such as bfloat16, as raw bytes: their names go into
    # the JSON.
    dtypes = {name: array.dtype.name for name, array in arrays.items()}
    text = json.dumps({"format": format, **facts, "dtypes": dtypes})
    plain = {f"array/{name}": raw(array) for name, array in arrays.items()}
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            write = np.savez_compressed if compressed else np.savez
            write(file, facts=np.array(text), **plain)  # pyright: ignore[reportArgumentType]
            file.flush()
            os.fsync(
                file.fileno()
            )  # or a loss of power could leave the new name with nothing behind it
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def load(
    path: str | os.PathLike[str], format: str = RESULT
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Reads what `save` wrote."""
    path = Path(path)
    what = format.split("/")[0]
    try:
        # Opened here, for NumPy leaves a file open that it cannot read.
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            facts = json.loads(str(file["facts"]))
            stored = {
                name.removeprefix("array/"): file[name]
                for name in file.files
                if name.startswith("array/")
            }
        if facts["dtypes"].keys() != stored.keys():
            raise ValueError(f"it lacks {sorted(facts['dtypes'].keys() - stored.keys())}")
    except FileNotFoundError:
        raise
    except Exception as error:  # of a spoiled file, NumPy, zipfile and zlib raise nearly anything
        raise ValueError(f"`path` must be a whole file of a {what}, got {path}: {error}") from error
    if (written := facts.pop("format", None)) != format:
        raise ValueError(f"`path` must hold {format}, got {written!r} in {path}")
    dtypes = facts.pop("dtypes")
    return {name: from_raw(array, dtypes[name]) for name, array in stored.items()}, facts


def flatten(tree: Any) -> tuple[list[Any], Any]:
    """A pytree as its leaves and a description of its structure in JSON's terms.

    Dicts, lists and tuples come back as they were. Of other nodes, such as named tuples and Equinox
    modules, code would be needed; they come back as dicts by field name.
    """
    leaves: list[Any] = []

    def describe(node: Any) -> Any:
        children, structure = jax.tree_util.tree_flatten_with_path(
            node, is_leaf=lambda other: other is not node
        )
        if node is None:
            return None
        if structure.num_leaves == 1 and jax.tree_util.treedef_is_leaf(structure):
            leaves.append(node)
            return len(leaves) - 1
        if type(node) in (list, tuple):
            return {type(node).__name__: [describe(child) for _, child in children]}
        return {"dict": [[_key(path[0]), describe(child)] for path, child in children]}

    return leaves, describe(tree)


def unflatten(leaves: Any, description: Any) -> Any:
    """The pytree of leaves and a description."""
    if description is None or isinstance(description, int):
        return None if description is None else leaves[description]
    ((kind, children),) = description.items()
    if kind == "dict":
        return {key: unflatten(leaves, child) for key, child in children}
    return {"list": list, "tuple": tuple}[kind](unflatten(leaves, child) for child in children)


def _key(entry: Any) -> Any:
    for name in ("key", "name", "idx"):
        if hasattr(entry, name):
            value = getattr(entry, name)
            return value if isinstance(value, (str, int)) else str(value)
    return str(entry)


def raw(array: np.ndarray) -> np.ndarray:
    """An array as one of NumPy's own types."""
    if array.dtype.hasobject:
        raise TypeError(
            f"an array of Python objects cannot be stored without pickle, got {array!r}"
        )
    return array if array.dtype.kind in "biufcU" else array.view(raw_dtype(array.dtype.name))


def raw_dtype(name: str) -> np.dtype:
    """The type of NumPy as which one of that name is stored."""
    dtype = jnp.dtype(name)
    return dtype if dtype.kind in "biufcU" else np.dtype(f"u{dtype.itemsize}")


def from_raw(array: np.ndarray, name: str) -> np.ndarray:
    """What `raw` made of an array of that type."""
    if array.dtype.kind == "U":
        return array
    dtype = jnp.dtype(name)
    return array if array.dtype == dtype else array.view(dtype)
