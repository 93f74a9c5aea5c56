"""Groups of parameters by a function of their paths."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

Tree = Any
Group = Callable[[str], str]


def grouped(tree: Tree, group: Group | None) -> dict[str, list[Any]]:
    """The leaves of a tree, by the names of their groups.

    The function gets the path of a leaf, such as `"block_0/mlp/kernel"`. Without a function, all
    leaves form one group, whose name is empty.
    """
    if group is None:
        return {"": jax.tree.leaves(tree)}
    if not callable(group):
        raise TypeError(f"`group` must be a function of a parameter's path, got {group!r}")
    groups: dict[str, list[Any]] = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        text = jax.tree_util.keystr(path, simple=True, separator="/")
        name = group(text)
        if not isinstance(name, str):
            raise TypeError(f"`group` must return a string for {text!r}, got {name!r}")
        groups.setdefault(name, []).append(leaf)
    return groups


def ungrouped(values: dict[str, Any], group: Group | None) -> Any:
    """The values by group, or the only value if there was no function."""
    return values[""] if group is None else values
