"""Parameters as paths and shapes: all that the multipliers need to know of them."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax

Tree = Any


class Parameters(NamedTuple):
    """The leaves of a tree of parameters, in its order. It keeps no arrays."""

    paths: list[str]
    shapes: list[tuple[int, ...]]
    structure: Any

    @property
    def sizes(self) -> list[int]:
        """How many numbers each leaf has."""
        return [math.prod(shape) for shape in self.shapes]


def parameters(name: str, tree: Tree) -> Parameters:
    """Requires a pytree of anything that has a shape: arrays, or what `jax.eval_shape` returns."""
    flat, structure = jax.tree_util.tree_flatten_with_path(tree)
    if not flat:
        raise ValueError(f"`{name}` must have at least one parameter, got {tree!r:.80}")
    paths = []
    shapes = []
    for path, leaf in flat:
        text = jax.tree_util.keystr(path, simple=True, separator="/")
        shape = getattr(leaf, "shape", () if type(leaf) in (int, float) else None)
        if not isinstance(shape, tuple):
            where = f" at {text!r}" if text else ""
            raise TypeError(
                f"`{name}` must be a pytree of arrays or of shapes, as `jax.eval_shape` returns"
                f" them, got {leaf!r:.80}{where}"
            )
        paths.append(text)
        shapes.append(shape)
    return Parameters(paths, shapes, structure)
