"""The place of each lane: lanes `[points, seeds]` are cut into chunks `[groups, members]`."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

# On one device, the number of chunks, unless it is one, is a multiple of this if there are enough
# lanes. Two cores then have equal work.
PARTS = 2


class Chunk(NamedTuple):
    """The lanes of one call of a program."""

    points: np.ndarray  # [groups, members], indices
    seeds: np.ndarray  # [groups, members], indices
    own: np.ndarray  # [groups, members], False where a copy of another lane fills up the chunk

    @property
    def content(self) -> bytes:
        """Bytes that are equal for chunks of the same lanes."""
        return b"".join(np.ascontiguousarray(part).tobytes() for part in self)


class Layout:
    """The chunks of some points with every seed. All chunks have one shape, and so one program.

    With common random numbers, the members of a group are points with the same seed. With
    independent ones, every lane is a group of its own.

    Attributes:
      points: Indices of the points, ascending.
      seeds: The number of seeds.
      shape: Groups and members of a chunk.
      chunks: The chunks.
    """

    def __init__(self, points: np.ndarray, seeds: int, shape: tuple[int, int], rng: str):
        self.points = points
        self.seeds = seeds
        self.shape = shape
        groups, members = shape
        # A row holds the (seed, point) of the lanes of one group.
        if rng == "independent":
            lanes = [(seed, point) for seed in range(seeds) for point in points]
            rows = [[lane] for lane in lanes]
        else:
            # The points are cut into parts of a group's size, for every seed at the same places.
            parts = [points[i : i + members] for i in range(0, len(points), members)]
            rows = [[(seed, point) for point in part] for seed in range(seeds) for part in parts]
        self.chunks = [_chunk(rows[i : i + groups], shape) for i in range(0, len(rows), groups)]

    @property
    def cells(self) -> int:
        """The number of lanes that are trained, including copies."""
        return len(self.chunks) * self.shape[0] * self.shape[1]

    def gather(self, values: Sequence[Any], points: int) -> np.ndarray:
        """Joins arrays `[..., groups, members]` of the chunks into one `[..., points, seeds]`.

        Args:
          values: An array for each chunk.
          points: The number of all points. Those that are not in this layout have NaN, or 0 in an
            array of integers.
        """
        first = np.asarray(values[0])
        # Without missing points every entry is written below.
        missing = len(self.points) < points
        fill = np.nan if first.dtype.kind in "fc" else 0
        shape = (*first.shape[:-2], points, self.seeds)
        whole = np.full(shape, fill, first.dtype) if missing else np.empty(shape, first.dtype)
        for chunk, value in zip(self.chunks, values, strict=True):
            whole[..., chunk.points[chunk.own], chunk.seeds[chunk.own]] = np.asarray(value)[
                ..., chunk.own
            ]
        return whole

    def collect(self, leaves: Sequence[np.ndarray]) -> np.ndarray:
        """Joins arrays `[groups, members, ...]` of the chunks into one `[points, seeds, ...]`.

        The result has only the points of this layout.
        """
        whole = np.empty((len(self.points), self.seeds, *leaves[0].shape[2:]), leaves[0].dtype)
        for chunk, leaf in zip(self.chunks, leaves, strict=True):
            whole[np.searchsorted(self.points, chunk.points[chunk.own]), chunk.seeds[chunk.own]] = (
                leaf[chunk.own]
            )
        return whole

    def distribute(self, whole: np.ndarray, points: np.ndarray) -> list[np.ndarray]:
        """The reverse of `collect`: cuts an array into one for each chunk of this layout.

        Args:
          whole: `[points, seeds, ...]`, with an entry for each of `points`.
          points: Indices of points, ascending. This layout has some or all of them.
        """
        return [whole[np.searchsorted(points, chunk.points), chunk.seeds] for chunk in self.chunks]

    def among(self, other: "Layout") -> list[int] | None:
        """The indices that this layout's chunks have in another layout, or None if one is missing.

        For instance, if every chunk is one lane, the chunks of fewer points are all in the other.
        """
        if self.shape != other.shape:
            return None
        index = {chunk.content: i for i, chunk in enumerate(other.chunks)}
        found = [index.get(chunk.content) for chunk in self.chunks]
        return None if None in found else found  # pyright: ignore[reportReturnType]

    def where(self, point: int, seed: int) -> tuple[int, int, int]:
        """The chunk, group and member of a lane."""
        for i, chunk in enumerate(self.chunks):
            found = np.argwhere(chunk.own & (chunk.points == point) & (chunk.seeds == seed))
            if len(found):
                return i, int(found[0][0]), int(found[0][1])
        raise AssertionError("no such lane")


def shape(points: int, seeds: int, rng: str, *, width: int, devices: int) -> tuple[int, int]:
    """Groups and members of a chunk, chosen so that few places are filled up with copies.

    One of the two is a multiple of the number of devices, because each device trains a part of
    every chunk. They do not depend on the number of threads, so that the same call gives the same
    bits on any number of cores.

    Args:
      points: The number of points.
      seeds: The number of seeds.
      rng: `"common"` or `"independent"` random numbers.
      width: Lanes of a chunk at most, before rounding up to a multiple of `devices`.
      devices: The number of devices.
    """
    up = lambda number: devices * math.ceil(number / devices)
    in_one = width >= points * seeds
    width = max(width, devices)
    # Several devices share the work of each chunk, so any number of chunks keeps them busy.
    parts = 1 if in_one or devices > 1 else PARTS
    if rng == "independent":
        # Every lane is a group. The groups are divided among the devices.
        return up(_share(points * seeds, width, 1, parts)), 1
    if devices == 1 and (in_one or points <= width // 2):
        # All points in each group, and as many groups as there is room for.
        return _share(seeds, width // points, 1, parts), points
    # One group in each chunk, with all points or a part of them. The devices share its members.
    return 1, up(_share(points, width, seeds, parts))


def _share(lanes: int, width: int, times: int, parts: int) -> int:
    """The size of a chunk if each of `times` rows is cut into chunks of about equal size.

    Args:
      lanes: The size of a row: lanes, or seeds with all points each.
      width: The size of a chunk at most.
      times: The number of rows.
      parts: What the number of chunks of all rows should be a multiple of.
    """
    chunks = math.ceil(lanes / width)
    # The next number of chunks to a row that makes such a multiple.
    even = next(n for n in range(chunks, chunks + parts) if times * n % parts == 0)
    return math.ceil(lanes / min(even, lanes))


def _chunk(rows: list[list[tuple[int, int]]], shape: tuple[int, int]) -> Chunk:
    """The chunk of some rows, filled up with copies of the last lane and the last row."""
    groups, members = shape
    own = np.zeros(shape, bool)
    for i, row in enumerate(rows):
        own[i, : len(row)] = True
    filled = [row + row[-1:] * (members - len(row)) for row in rows]
    cells = np.array(filled + filled[-1:] * (groups - len(filled)))
    return Chunk(cells[..., 1], cells[..., 0], own)
