"""Arrays and facts in one `.npz` file; the facts are a JSON text. Loading a file runs no code."""

import json
import os
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import jax
import numpy as np

from . import files, npz
from .arrays import Expected, Facts, dtype_of, from_raw, raw, raw_dtype, require_arrays

__all__ = ["RESULT", "flatten", "load", "require_arrays", "save", "unflatten"]

RESULT = "lrax.SweepResult/3"

Tree = Any  # a pytree
Description = Any  # the structure of a pytree in JSON's terms


def save(
    path: str | os.PathLike[str],
    arrays: dict[str, np.ndarray],
    facts: Facts,
    format: str = RESULT,
    *,
    compressed: bool = True,
) -> Path:
    """Writes arrays and facts to one file, which is replaced as a whole or not at all.

    The suffix `.npz` is added to a path without a suffix.

    Raises:
      OSError: if it cannot be written. A file that was there is unchanged.
    """
    path = Path(path)
    path = path if path.suffix else path.with_suffix(".npz")
    # NumPy cannot store dtypes that are not its own, such as bfloat16. They are stored as unsigned
    # integers, and their names go into the JSON.
    dtypes = {name: array.dtype.name for name, array in arrays.items()}
    text = json.dumps({"format": format, **facts, "dtypes": dtypes})
    plain = {f"array/{name}": raw(array) for name, array in arrays.items()}

    def write(file: BinaryIO) -> None:
        savez = np.savez_compressed if compressed else np.savez
        savez(file, facts=np.array(text), **plain)  # pyright: ignore[reportArgumentType]

    files.replace(path, write)
    return path


def load(
    path: str | os.PathLike[str], format: str = RESULT, *, expected: Expected | None = None
) -> tuple[dict[str, np.ndarray], Facts]:
    """Reads what `save` wrote.

    Every array is checked before it is read: its declared size against the size of the file, its
    stored dtype against the one that `save` noted, and its shape and dtype against `expected` if
    given.

    Raises:
      FileNotFoundError: if there is no file.
      ValueError: if it is not a whole file of this format, or not what is expected.
    """
    what = format.split("/")[0]
    try:
        with files.open_regular(path) as file, zipfile.ZipFile(file) as archive:
            members = npz.members(archive, os.fstat(file.fileno()).st_size)
            facts = npz.read_facts(archive, members)
            written = facts.pop("format", None)
            if written == format:
                return _arrays(archive, members, facts, expected), facts
    except (FileNotFoundError, MemoryError):
        raise
    except Exception as error:  # NumPy, zipfile and zlib may raise nearly any exception
        raise ValueError(f"`path` must be a whole file of a {what}, got {path}: {error}") from error
    raise ValueError(f"`path` must hold {format}, got {written!r:.100} in {path}")


def flatten(tree: Tree) -> tuple[list[Any], Description]:
    """The leaves of a pytree, and a description of its structure as JSON.

    Dicts, lists and tuples come back as they were. Other nodes, such as named tuples and Equinox
    modules, come back as dicts by field name, because code would have to run to rebuild them.
    """
    leaves: list[Any] = []

    def describe(node: Tree) -> Description:
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


def unflatten(leaves: list[Any], description: Description) -> Tree:
    """The reverse of `flatten`: a pytree from its leaves and its description.

    Raises:
      ValueError: if `flatten` cannot have made the description.
    """
    try:
        return _unflatten(leaves, description)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
        raise ValueError(f"the structure of a pytree is not valid: {error!r:.100}") from error


def _arrays(
    archive: zipfile.ZipFile,
    members: dict[str, zipfile.ZipInfo],
    facts: Facts,
    expected: Expected | None,
) -> dict[str, np.ndarray]:
    dtypes: dict[str, str] = facts.pop("dtypes")
    stored = {name.removeprefix("array/") for name in members if name != "facts"}
    if dtypes.keys() != stored:
        differing = ", ".join(sorted(dtypes.keys() ^ stored))
        raise ValueError(f"its facts list other arrays than it holds: {differing}")
    headers = {name: npz.header(archive, members[f"array/{name}"]) for name in dtypes}
    for name, dtype in dtypes.items():
        if headers[name].dtype != raw_dtype(dtype):
            raise ValueError(f"its {name} holds {headers[name].dtype} in place of {dtype}")
    wanted = expected(facts) if callable(expected) else expected
    if wanted is not None:
        found = {name: headers[name]._replace(dtype=dtype_of(dtypes[name])) for name in dtypes}
        require_arrays(found, wanted)
    return {
        name: from_raw(npz.read(archive, members[f"array/{name}"]), dtype)
        for name, dtype in dtypes.items()
    }


def _unflatten(leaves: list[Any], description: Description) -> Tree:
    if description is None:
        return None
    if type(description) is int:
        return leaves[description]
    ((kind, children),) = description.items()
    if kind == "dict":
        return {key: _unflatten(leaves, child) for key, child in children}
    return {"list": list, "tuple": tuple}[kind](_unflatten(leaves, child) for child in children)


def _key(entry: Any) -> str | int:
    # An entry of a path has its key in one of these attributes, by its type in `jax.tree_util`.
    for name in ("key", "name", "idx"):
        if hasattr(entry, name):
            value = getattr(entry, name)
            return value if isinstance(value, (str, int)) else str(value)
    return str(entry)
