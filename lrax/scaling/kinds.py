"""Kinds of parameters: which axes grow with the width, seen from two shapes."""

from __future__ import annotations

import math
from collections.abc import Mapping

from .. import _require
from .parameters import Parameters
from .patterns import caught

VECTOR_LIKE = ("input", "output", "vector")  # with one width, or several that grow together
KINDS = ("hidden", *VECTOR_LIKE, "scalar")


def kind_of(
    path: str, small: tuple[int, ...], large: tuple[int, ...], given: str | None, layout: str
) -> tuple[str, float, float]:
    """The kind of a parameter, and by how much its input side and its output side grow.

    Args:
      path: The path of the parameter.
      small: Its shape in the base network.
      large: Its shape in the target network.
      given: The kind, if the caller has given it.
      layout: "in_out" or "out_in".
    """
    if len(small) != len(large) or 0 in (*small, *large):
        raise ValueError(
            "`target` must have the axes of `base`, and none of length 0, got shapes"
            f" {large} and {small} at {path!r}"
        )
    growth = {i: b / a for i, (a, b) in enumerate(zip(small, large, strict=True)) if a != b}
    if not growth:
        return "scalar", 1.0, 1.0
    if given is None and (len(large) == 1 or "bias" in path.split("/")):
        given = "vector"
    if given is None and len(growth) == 1:
        (axis,) = growth
        # A table of embeddings is (entries, width) in every framework, and under "out_in" its shape
        # is that of an output layer.
        is_table = "embed" in path.lower() and "unembed" not in path.lower()
        on_output_side = axis == (len(large) - 1 if layout == "in_out" else 0)
        given = "input" if on_output_side or (is_table and layout == "out_in") else "output"
    if given is not None:
        whole = float(math.prod(growth.values()))
        return (given, whole, 1.0) if given == "output" else (given, 1.0, whole)
    if len(growth) > 2:
        raise ValueError(
            f"`target` must differ from `base` in at most two axes of a parameter, got shapes"
            f" {large} and {small} at {path!r}; merge axes that grow together"
        )
    first, last = growth.values()
    return ("hidden", first, last) if layout == "in_out" else ("hidden", last, first)


def given_kinds(kinds: Mapping[str, str] | None, found: Parameters) -> list[str | None]:
    """The kinds that the caller gave, for each parameter."""
    if kinds is None:
        return [None] * len(found.paths)
    first = caught("kinds", kinds, "target", found.paths)
    for pattern, kind in kinds.items():
        _require.choice(f"kinds[{pattern!r}]", kind, VECTOR_LIKE)
    return [None if pattern is None else kinds[pattern] for pattern in first]
