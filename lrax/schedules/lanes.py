"""Schedules whose leaves have axes of lanes in front.

A formula is written for one schedule. A leaf with more axes than its declared rank holds one entry
per lane, and the formula is mapped over those leaves. This file does not import `Schedule`, because
`schedule.py` imports this file.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp
from jax.tree_util import Partial, keystr

from .. import _require
from .builders import Declaration, declared, name_of

_UNKNOWN = -1  # rank of a number that no declaration describes


def mapped_over(schedule: Any, count: jax.Array) -> jax.Array | None:
    """The rates of every lane, of shape `[*lanes, *counts]`; `None` for a schedule without lanes.

    Args:
      schedule: A `Schedule` whose leaves are arrays.
      count: Counts of any shape, the same for all lanes.

    Returns:
      The rates, or `None`.

    Raises:
      ValueError: if the lane axes of two leaves do not broadcast against each other.
    """
    leaves, structure = jax.tree.flatten(schedule)
    # Almost every schedule has scalar leaves only. It pays for no more than this line.
    if not any(np.ndim(leaf) for leaf in leaves):
        return None
    ranks = jax.tree.leaves(_ranks(schedule))
    lanes = _lanes(schedule, leaves, ranks)
    if lanes is None:
        return None
    mapped = {
        i: _spread(leaf, lanes, rank)
        for i, (leaf, rank) in enumerate(zip(leaves, ranks, strict=True))
        if _has_lanes(leaf, rank, lanes)
    }

    def rates(rows: dict[int, Any]) -> jax.Array:
        # Leaves without lanes are not mapped. They stay concrete if they were, so that arithmetic
        # among them is done once and on the host.
        return structure.unflatten([rows.get(i, leaf) for i, leaf in enumerate(leaves)])(count)

    return jax.vmap(rates)(mapped).reshape(*lanes, *count.shape)


def _ranks(schedule: Any) -> Any:
    """The schedule with each leaf replaced by its rank."""
    declaration = declared(schedule.formula)
    hyperparams = {
        name: _ranks_of(value, _rank(declaration, name, schedule.hyperparams))
        for name, value in schedule.hyperparams.items()
    }
    return type(schedule)(schedule.formula, hyperparams)


def _ranks_of(value: Any, rank: int) -> Any:
    if _is_schedule(value):
        return _ranks(value)
    # A user's function may hold numbers of any rank.
    own = _UNKNOWN if isinstance(value, Partial) else rank
    of_leaf: Callable[[Any], Any] = lambda leaf: _ranks(leaf) if _is_schedule(leaf) else own
    return jax.tree.map(of_leaf, value, is_leaf=_is_schedule)


def _rank(declaration: Declaration | None, name: str, hyperparams: dict[str, Any]) -> int:
    if declaration is None:
        return _UNKNOWN
    rank = declaration.ranks.get(name, 0)
    if isinstance(rank, int):
        return rank
    # `rank` names another argument. The value is a scalar, or a list as long as that argument; it
    # is a list if it has at least as many axes as the argument.
    same = np.ndim(hyperparams[name]) >= np.ndim(hyperparams[rank])
    return int(same)


def _lanes(schedule: Any, leaves: list[Any], ranks: list[int]) -> tuple[int, ...] | None:
    """The shape of the lanes; `None` where no leaf has any."""
    shapes = [
        np.shape(leaf)[: np.ndim(leaf) - rank]
        for leaf, rank in zip(leaves, ranks, strict=True)
        if rank != _UNKNOWN and np.ndim(leaf) > rank
    ]
    if not shapes:
        return None
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError as error:
        found = {
            f"{argument} {np.shape(leaf)}"
            for argument, leaf, rank in zip(_arguments(schedule), leaves, ranks, strict=True)
            if rank != _UNKNOWN and np.ndim(leaf) > rank
        }
        words = " and ".join(sorted(found))
        raise ValueError(f"arrays of lanes must be of the same length, got {words}") from error


def _arguments(schedule: Any, of: str = "") -> list[str]:
    """For each leaf, the argument that holds it; for inner schedules, also their builder."""
    is_inner = lambda node: node is not schedule and _is_schedule(node)
    found = []
    for path, leaf in jax.tree_util.tree_flatten_with_path(schedule, is_leaf=is_inner)[0]:
        if is_inner(leaf):
            found += _arguments(leaf, f" of `{name_of(leaf.formula)}`")
        else:
            # The first key is the attribute `hyperparams`, the second the name of the argument.
            found.append(f"`{path[1].key}{keystr(path[2:])}`{of}")
    return found


def _has_lanes(leaf: Any, rank: int, lanes: tuple[int, ...]) -> bool:
    # Without a rank, only leading axes of exactly the lanes' shape are taken for lanes.
    if rank == _UNKNOWN:
        return np.shape(leaf)[: len(lanes)] == lanes
    return np.ndim(leaf) > rank


def _spread(leaf: Any, lanes: tuple[int, ...], rank: int) -> Any:
    """A leaf with all lanes on one axis in front."""
    shape = np.shape(leaf)
    own = shape[len(lanes) :] if rank == _UNKNOWN else shape[len(shape) - rank :]
    # A concrete leaf is a NumPy float64, which JAX does not have without x64.
    array = jnp.asarray(leaf, _require.float_dtype())
    return jnp.broadcast_to(array, (*lanes, *own)).reshape(-1, *own)


def _is_schedule(value: Any) -> bool:
    return hasattr(value, "formula") and hasattr(value, "hyperparams")
