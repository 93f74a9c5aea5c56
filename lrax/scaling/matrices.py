"""Parameters as matrices: which axes are the input side, the output side, and stacked layers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from .. import _require
from .parameters import Parameters
from .patterns import caught

LAYOUTS = ("in_out", "out_in")
Axes = Mapping[str, tuple[int | Sequence[int], int | Sequence[int]]]


class Matrix(NamedTuple):
    """The axes of a parameter. Axes on neither side index the matrices of a stack."""

    shape: tuple[int, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]

    @property
    def fan_in(self) -> int:
        """How many numbers go in; 1 for a vector."""
        return math.prod(self.shape[axis] for axis in self.inputs)

    @property
    def fan_out(self) -> int:
        """How many numbers come out."""
        return math.prod(self.shape[axis] for axis in self.outputs)

    @property
    def stacked(self) -> tuple[int, ...]:
        """The axes that index the matrices of a stack."""
        sides = {*self.inputs, *self.outputs}
        return tuple(axis for axis in range(len(self.shape)) if axis not in sides)


def matrices(found: Parameters, layout: str, axes: Axes | None) -> list[Matrix]:
    """Each parameter as a matrix. A vector or a bias has no input side.

    Args:
      found: The parameters.
      layout: "in_out" for kernels (*window, in, out), "out_in" for (out, in, *window). Neither has
        axes of a stack: give those by `axes`.
      axes: `{pattern: (input axes, output axes)}` for parameters that the layout does not fit.
    """
    _require.choice("layout", layout, LAYOUTS)
    patterns = (
        [None] * len(found.paths) if axes is None else caught("axes", axes, "params", found.paths)
    )
    return [
        _by_layout(path, shape, layout)
        if pattern is None or axes is None
        else _by_axes(pattern, path, shape, axes[pattern])
        for path, shape, pattern in zip(found.paths, found.shapes, patterns, strict=True)
    ]


def _by_layout(path: str, shape: tuple[int, ...], layout: str) -> Matrix:
    every = tuple(range(len(shape)))
    if len(shape) < 2 or "bias" in path.split("/"):
        return Matrix(shape, (), every)
    # The window of a convolution belongs to its input side.
    if layout == "in_out":
        return Matrix(shape, every[:-1], every[-1:])
    return Matrix(shape, every[1:], every[:1])


def _by_axes(pattern: str, path: str, shape: tuple[int, ...], given: object) -> Matrix:
    name = f"axes[{pattern!r}]"
    words = f"`{name}` must be a tuple (input axes, output axes), each an int or a list of ints"
    if not isinstance(given, tuple) or len(given) != 2:
        raise TypeError(f"{words}, got {given!r}")
    sides = []
    for side in given:
        several = side if isinstance(side, (list, tuple)) else [side]
        for axis in several:
            if isinstance(axis, bool) or not isinstance(axis, int):
                raise TypeError(f"{words}, got {given!r}")
            if not -len(shape) <= axis < len(shape):
                raise ValueError(
                    f"`{name}` must be axes of {path!r}, whose shape is {shape}, got {given!r}"
                )
        sides.append(tuple(axis % len(shape) for axis in several))
    inputs, outputs = sides
    if len({*inputs, *outputs}) < len(inputs) + len(outputs):
        raise ValueError(f"`{name}` must not name an axis twice, got {given!r} for shape {shape}")
    return Matrix(shape, inputs, outputs)
