"""What stored arrays must be: how a dtype is stored, and checks against what is expected."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from jax import numpy as jnp

Facts = dict[str, Any]  # the JSON object of a file
Kind = tuple[tuple[int, ...], Any]  # a shape and whatever `jnp.dtype` takes
# What a file must hold, or a function of its facts that says it.
Expected = Mapping[str, Kind] | Callable[[Facts], Mapping[str, Kind] | None]

_STORED = "biufcU"  # the kinds of dtypes that NumPy stores as they are


def raw(array: np.ndarray) -> np.ndarray:
    """An array as one of the dtypes that NumPy can store."""
    if array.dtype.hasobject:
        raise TypeError(
            f"an array of Python objects cannot be stored without pickle, got {array!r}"
        )
    if array.dtype.kind in _STORED:
        # Files hold the byte order of this machine alone.
        return array.astype(array.dtype.newbyteorder("="), copy=False)
    return array.view(raw_dtype(array.dtype.name))


def dtype_of(name: str) -> np.dtype:
    """The dtype of this name, if arrays of it can be stored."""
    dtype = np.dtype(f"U{int(name[3:]) // 32}") if name.startswith("str") else jnp.dtype(name)
    # `jnp.dtype` also takes "O", "f4,f4" and other texts that no array's `dtype.name` is.
    if (dtype.name != name and dtype.itemsize) or dtype.kind in "OMmS":
        raise ValueError(f"it has the dtype {name!r:.100}")
    return dtype


def raw_dtype(name: str) -> np.dtype:
    """The dtype as which an array of the dtype of this name is stored."""
    dtype = dtype_of(name)
    return dtype if dtype.kind in _STORED else np.dtype(f"u{dtype.itemsize}")


def from_raw(array: np.ndarray, name: str) -> np.ndarray:
    """The array of the dtype of this name that `raw` stored.

    Raises:
      ValueError: if it is not stored as that dtype is; its bytes are never reinterpreted.
    """
    if array.dtype != raw_dtype(name):
        raise ValueError(f"it holds {array.dtype.name} in place of {name}")
    return array if array.dtype.kind == "U" else array.view(dtype_of(name))


def require_arrays(arrays: Mapping[str, Any], expected: Mapping[str, Kind]) -> None:
    """Checks names, shapes and dtypes; takes arrays, or anything with `shape` and `dtype`.

    Raises:
      ValueError: at the first array that is absent, unexpected, or of another shape or dtype.
    """
    if absent := sorted(expected.keys() - arrays.keys()):
        raise ValueError(f"it lacks {', '.join(absent)}")
    if unexpected := sorted(arrays.keys() - expected.keys()):
        raise ValueError(f"it must not hold {', '.join(unexpected)}")
    for name, (shape, dtype) in expected.items():
        found, wanted = arrays[name], np.dtype(jnp.dtype(dtype))
        if tuple(found.shape) != tuple(shape) or found.dtype != wanted:
            raise ValueError(
                f"its {name} must be {wanted.name}{list(shape)}, "
                f"got {np.dtype(found.dtype).name}{list(found.shape)}"
            )
