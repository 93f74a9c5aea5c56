"""The parts of an optimizer's state that a probe can read, under any nesting.

A part is known by the name of Optax's NamedTuple. A state that Orbax restored without a target, or
an `nnx.State`, has a mapping with the same fields in its place.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
from jax.tree_util import tree_flatten_with_path

Node = Any
Path = tuple[Any, ...]
Numbers = dict[str, Any]

# The fields of a state of `optax.inject_hyperparams`. A mapping with these is treated as one.
_INJECTED = {"count", "hyperparams", "inner_state"}


class Part(NamedTuple):
    """One known part of a state."""

    name: str  # the name of Optax's class
    node: Node
    path: Path
    numbers: Numbers  # from `optax.inject_hyperparams` around it: b1, b2, eps, ...

    def field(self, name: str) -> Any:
        """The value of a field, in a NamedTuple or in a mapping."""
        return self.node[name] if isinstance(self.node, Mapping) else getattr(self.node, name)


def parts(opt_state: Any, known: Mapping[str, frozenset[str]]) -> list[Part]:
    """The parts of a state whose classes are known.

    Args:
      opt_state: The state.
      known: `{name of a class: its fields}`. If several classes have the same fields, a mapping
        with these fields is treated as the first of them.
    """
    return list(_walk(opt_state, (), {}, known))


def _walk(node: Node, path: Path, numbers: Numbers, known: Mapping[str, Any]) -> Iterator[Part]:
    name = _name(node, known)
    if name is not None:
        yield Part(name, node, path, numbers)
        return
    fields = _fields(node)
    if fields >= _INJECTED:
        kept = node["hyperparams"] if isinstance(node, Mapping) else node.hyperparams
        numbers = {**numbers, **{str(key): _array(value) for key, value in kept.items()}}
    children, _ = tree_flatten_with_path(node, is_leaf=lambda inner: inner is not node)
    for keys, child in children:
        if keys:  # a leaf is its only child, with an empty path
            yield from _walk(child, (*path, *keys), numbers, known)


def _name(node: Node, known: Mapping[str, frozenset[str]]) -> str | None:
    if isinstance(node, Mapping):
        # An empty mapping is never a known part: it may be an `EmptyState` or anything else.
        fields = _fields(node) or None
        return next((name for name, needed in known.items() if fields == needed), None)
    name = type(node).__name__
    return name if name in known and _fields(node) >= known[name] else None


def _fields(node: Node) -> set[Any]:
    return set(node) if isinstance(node, Mapping) else set(getattr(node, "_fields", ()))


def _array(value: Any) -> Any:
    """The array in a value. Flax NNX wraps each array in a pytree of one leaf."""
    leaves = jax.tree.leaves(value)
    return leaves[0] if len(leaves) == 1 else value
