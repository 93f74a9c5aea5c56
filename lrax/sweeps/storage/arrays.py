"""How the dtypes of stored arrays are written, and checks of arrays that are read."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from jax import numpy as jnp

Facts = dict[str, Any]  # the JSON object of a file
Kind = tuple[tuple[int, ...], Any]  # a shape, and a dtype in any form that `jnp.dtype` takes
# The arrays that a file must hold, or a function of its facts that returns them.
Expected = Mapping[str, Kind] | Callable[[Facts], Mapping[str, Kind] | None]

_STORED = "biufcU"  # kinds of dtypes that are stored without conversion


def raw(array: np.ndarray) -> np.ndarray:
    """The array as it is stored: unsigned integers where NumPy cannot store its dtype."""
    if array.dtype.hasobject:
        raise TypeError(
            f"an array of Python objects cannot be stored without pickle, got {array!r}"
        )
    if array.dtype.kind in _STORED:
        # Always in the byte order of this machine: the reader in `npz.py` accepts no other.
        return array.astype(array.dtype.newbyteorder("="), copy=False)
    return array.view(raw_dtype(array.dtype.name))


def dtype_of(name: str) -> np.dtype:
    """The dtype with this name, if arrays of it can be stored.

    Raises:
      ValueError: if they cannot.
      TypeError: if no dtype has this name.
    """
    # NumPy's name of a dtype of text is "str" and its bits: 32 for each character.
    dtype = np.dtype(f"U{int(name[3:]) // 32}") if name.startswith("str") else jnp.dtype(name)
    # `jnp.dtype` also takes texts such as "O" and "f4,f4", which no array has as `dtype.name`.
    if dtype.name != name or dtype.kind in "OMmS":
        raise ValueError(f"it has the dtype {name!r:.100}, and such arrays cannot be stored")
    return dtype


def raw_dtype(name: str) -> np.dtype:
    """The dtype in which `raw` stores an array whose dtype has this name."""
    dtype = dtype_of(name)
    return dtype if dtype.kind in _STORED else np.dtype(f"u{dtype.itemsize}")


def from_raw(array: np.ndarray, name: str) -> np.ndarray:
    """The reverse of `raw`: the array in the dtype with this name.

    Raises:
      ValueError: if the array's dtype is not `raw_dtype(name)`. Bytes of a wrong dtype are never
        reinterpreted.
    """
    if array.dtype != raw_dtype(name):
        raise ValueError(f"it holds {array.dtype.name} in place of {name}")
    return array if array.dtype.kind == "U" else array.view(dtype_of(name))


def require_arrays(arrays: Mapping[str, Any], expected: Mapping[str, Kind]) -> None:
    """Requires arrays with the expected names, shapes and dtypes.

    Args:
      arrays: Arrays, or other objects with the attributes `shape` and `dtype`.
      expected: The shape and dtype of each.

    Raises:
      ValueError: if an array is absent, unexpected, or has another shape or dtype.
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
