"""The seeds of a sweep: their names, the data of their keys, and given parameters for each."""

from collections.abc import Sequence

import jax
import numpy as np
from jax import numpy as jnp
from jax.tree_util import KeyPath
from jax.typing import ArrayLike

from .. import _require
from ..training.run import Params, State, as_start, initial, split
from ..training.task import Task

Seeds = int | Sequence[int] | jax.Array


def as_keys(seeds: _require.Unchecked) -> tuple[list[str], np.ndarray]:
    """The names of the seeds, and the data of their keys, `[seeds, 2]`.

    Args:
      seeds: How many seeds (0, 1, ...), the seeds themselves, or an array of keys.
    """
    if isinstance(seeds, jax.Array) and jnp.issubdtype(seeds.dtype, jax.dtypes.prng_key):
        return _of_keys(seeds)
    # `jax.random.PRNGKey(5)` is the array [0, 5] of uint32. Without this check it would be taken
    # for the two seeds 0 and 5.
    if isinstance(seeds, (jax.Array, np.ndarray)) and seeds.dtype == np.uint32:
        raise TypeError(
            "`seeds` must be a number of seeds, a list of them or an array of new-style keys, got"
            f" raw key data of shape {seeds.shape}: use `jax.random.key` in place of"
            " `jax.random.PRNGKey`, or `jax.random.wrap_key_data`"
        )
    if isinstance(seeds, (int, np.integer)) and not isinstance(seeds, bool):
        seeds = range(_require.count("seeds", seeds, 1))
    if isinstance(seeds, (str, bytes, bool)) or not np.iterable(seeds):
        raise TypeError(
            f"`seeds` must be an int, a list of ints or an array of keys, got {seeds!r}"
        )
    listed = enumerate(list(seeds))
    numbers = [_require.count(f"seeds[{i}]", seed, 0, _require.LONG) for i, seed in listed]
    if not numbers or len(set(numbers)) < len(numbers):
        raise ValueError(f"`seeds` must be at least one seed and all different, got {numbers}")
    return list(map(str, numbers)), np.stack([_bits(number) for number in numbers])


def folded(bits: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The key data of lanes that each have their own random numbers, `[seeds, points, 2]`.

    Args:
      bits: Key data of the seeds, `[seeds, 2]`.
      points: Indices of the points, folded into the keys.
    """
    fold = jax.vmap(jax.vmap(jax.random.fold_in, in_axes=(None, 0)), in_axes=(0, None))
    keys = fold(jax.random.wrap_key_data(jnp.asarray(bits), impl="threefry2x32"), points)
    return np.asarray(jax.random.key_data(keys))


def as_given(task: Task, params: _require.Unchecked, seeds: int) -> tuple[Params, State | None]:
    """The parameters and the state to start from, with leaves `[seeds, ...]`.

    Args:
      task: The task.
      params: Parameters, or (params, state) for a stateful task. Their leaves have the shapes of
        `init`, or an axis of seeds before these.
      seeds: How many seeds.

    Returns:
      The pair (params, state); the state is None if parameters alone are given.
    """
    params_like, state_like = jax.eval_shape(lambda: initial(task, split(jax.random.key(0))))
    params, state = as_start(params, params_like, state_like)

    def spread(path: KeyPath, leaf: ArrayLike, shape: jax.ShapeDtypeStruct) -> np.ndarray:
        array = np.asarray(leaf)
        if array.shape == shape.shape:  # the same for every seed
            array = np.broadcast_to(array, (seeds, *shape.shape))
        elif array.shape != (seeds, *shape.shape):
            # `path` begins with the index in the pair (params, state). A caller who gave such a
            # pair knows the leaf by that index. A caller who gave parameters alone does not.
            name = jax.tree_util.keystr(path if state is not None else path[1:])
            raise ValueError(
                f"`params{name}` must be of shape {shape.shape}, or {(seeds, *shape.shape)} with"
                f" the {seeds} seeds in front, got {array.shape}"
            )
        return array.astype(shape.dtype, copy=False)

    given = params, state
    return jax.tree_util.tree_map_with_path(
        spread, given, (params_like, None if state is None else state_like)
    )


def _of_keys(keys: jax.Array) -> tuple[list[str], np.ndarray]:
    """The same as `as_keys`, for an array of keys."""
    if keys.ndim != 1 or not keys.size:
        raise ValueError(f"`seeds` must be an array of at least one key, got shape {keys.shape}")
    if "threefry" not in str(jax.random.key_impl(keys)):
        # Under `vmap`, keys of the kind "rbg" draw all lanes from the first lane's key.
        raise ValueError(f"`seeds` must be threefry keys, got {jax.random.key_impl(keys)}")
    return [f"key {i}" for i in range(len(keys))], np.asarray(jax.random.key_data(keys))


def _bits(seed: int) -> np.ndarray:
    """The data of `jax.random.key(seed)`."""
    # The data of a small seed is known: [0, seed]. To ask JAX for it would compile a program.
    if seed < 2**31:
        return np.array([0, seed], np.uint32)
    return np.asarray(jax.random.key_data(jax.random.key(seed, impl="threefry2x32")))
