"""The points of a sweep, whose values are numbers or choices among Schedules or other pytrees."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from .. import _require
from ..schedules.builders import declared
from ..schedules.schedule import Schedule
from ..schedules.stacks import stack
from .best import Choice
from .storage.checkpoint import digest

Tree = Any
Item = Any  # an entry of an axis before it is known whether it is a number or a choice


@dataclasses.dataclass(frozen=True)
class Choices:
    """The values of an axis whose values are not numbers.

    Attributes:
      items: The values as the user gave them.
      labels: A short text for each.
      stacked: All of them as one pytree. The first axis of each leaf is that of the choices.
    """

    items: tuple[Choice, ...]
    labels: tuple[str, ...]
    stacked: Tree

    def lanes(self, indices: np.ndarray) -> Tree:
        """The choices with these indices, as one pytree of leaves `[*indices.shape, ...]`."""
        return jax.tree.map(lambda leaf: np.asarray(leaf)[indices], self.stacked)

    def fingerprints(self) -> list[str]:
        """A text that identifies each choice, also on another axis with the same formulas.

        A formula is identified by its index among the formulas of the axis. What the formulas
        compute is in the program's text, which a checkpoint compares too.
        """
        if not isinstance(self.stacked, Schedule):
            lanes = range(len(self.items))
            return [digest(self.lanes(np.array(i))) for i in lanes]
        # In a stack, every lane has numbers for every formula. Only the numbers of its own formula
        # identify the lane. The rest is copied from other lanes.
        kinds = self.stacked.hyperparams["schedules"]
        index = self.stacked.hyperparams["index"]
        own = [(int(kind), jax.tree.leaves(kinds[int(kind)])) for kind in np.asarray(index)]
        return [
            digest(str(kind), [np.asarray(leaf)[i] for leaf in leaves])
            for i, (kind, leaves) in enumerate(own)
        ]


@dataclasses.dataclass(frozen=True)
class Points:
    """The points that a sweep tries.

    Attributes:
      columns: `{name: [points]}`, float64: the values, or the indices of choices. They are
        `[points, seeds]` where `lrax.sweep_exchange` gives the lanes of a point their own values.
      choices: `{name: Choices}` for the columns that hold indices.
    """

    columns: dict[str, np.ndarray]
    choices: dict[str, Choices] = dataclasses.field(default_factory=dict)

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def __getitem__(self, points: np.ndarray) -> "Points":
        """The points with these indices."""
        columns = {name: values[points] for name, values in self.columns.items()}
        return Points(columns, self.choices)

    def lanes(self, points: np.ndarray, seeds: np.ndarray) -> dict[str, Tree]:
        """The hyperparameters of lanes, by the indices of their points and seeds, as NumPy arrays.

        Args:
          points: The index of each lane's point.
          seeds: The index of each lane's seed, of the same shape.
        """
        dtype = _require.float_dtype()
        found: dict[str, Tree] = {}
        for name, values in self.columns.items():
            own = values[points] if values.ndim == 1 else values[points, seeds]
            if name in self.choices:
                found[name] = self.choices[name].lanes(own.astype(int))
            else:
                found[name] = own.astype(dtype)
        return found

    def at(self, point: int) -> dict[str, Any]:
        """One point: numbers as floats, and choices as the user's own objects."""
        found: dict[str, Any] = {}
        for name, values in self.columns.items():
            value = float(values[point])
            found[name] = self.choices[name].items[int(value)] if name in self.choices else value
        return found

    def described(self) -> dict[str, Any]:
        """The points as JSON, `{name: [points]}`, by which a checkpoint recognises its sweep.

        A choice is `[label, fingerprint]`.
        """
        found: dict[str, Any] = {}
        for name, values in self.columns.items():
            found[name] = values.tolist()
            if name in self.choices:
                choice = self.choices[name]
                # Two different choices may have the same label, but not the same numbers.
                pairs = list(zip(choice.labels, choice.fingerprints(), strict=True))
                found[name] = [list(pairs[int(i)]) for i in values]
        return found


def as_choices(name: str, values: _require.Unchecked) -> Choices | None:
    """The values of an axis as `Choices`, or None if they are numbers.

    Args:
      name: The hyperparameter, for errors.
      values: A `Schedule` with an axis of lanes, a list of Schedules and functions of the count, or
        a list of pytrees of one structure.
    """
    if isinstance(values, Schedule):
        values = _unstacked(name, values)
    if not isinstance(values, (list, tuple)) or not values or all(map(_is_number, values)):
        return None
    items = tuple(values)
    # Strings, bools, None and transformations select code, so each value needs its own program.
    # A transformation would pass for a pytree, because it is a NamedTuple.
    refused = [item for item in items if isinstance(item, (str, bytes, bool)) or item is None]
    refused += [item for item in items if _is_transformation(item)]
    if refused:
        raise TypeError(
            f"`grid[{name!r}]` must hold numbers, Schedules or pytrees of one structure, got"
            f" {refused[0]!r}. What changes the program is swept by"
            f" `lrax.sweep_over({{{name!r}: [...]}}, lambda {name}: (task, optimizer), grid, ...)`."
        )
    # Schedules may differ in their formulas. Numbers among them become constant schedules.
    if any(isinstance(item, Schedule) or callable(item) for item in items):
        return Choices(items, _labels(items), stack(list(items)))
    structures = {jax.tree.structure(item) for item in items}
    shapes = {tuple(np.shape(leaf) for leaf in jax.tree.leaves(item)) for item in items}
    if len(structures) > 1 or len(shapes) > 1:
        raise ValueError(
            f"`grid[{name!r}]` must hold pytrees of one structure and of the same shapes. What"
            f" differs is swept by `lrax.sweep_over({{{name!r}: [...]}}, lambda {name}: (task,"
            " optimizer), grid, ...)`."
        )
    stacked = jax.tree.map(lambda *leaves: np.stack([_number(name, x) for x in leaves]), *items)
    return Choices(items, _labels(items), stacked)


def unique(values: np.ndarray | Sequence[Item]) -> list[Item] | None:
    """The different objects of a list, in their order; None for an array of numbers."""
    if isinstance(values, np.ndarray):
        return None
    found: list[Item] = []
    for value in values:
        # By identity: `==` of two pytrees may compare their arrays entry by entry.
        if not any(value is other for other in found):
            found.append(value)
    return found


def _unstacked(name: str, schedule: Schedule) -> list[Schedule]:
    """A schedule with an axis of lanes, as a list of one schedule for each lane."""
    lanes = np.shape(schedule(0))
    if len(lanes) != 1:
        raise ValueError(
            f"`grid[{name!r}]` must be a Schedule with one axis of lanes, as `lrax.stack` makes it,"
            f" or a list of Schedules, got rates of shape {lanes}"
        )
    declaration = declared(schedule.formula)
    if declaration is not None and declaration.build is stack and declaration.shown is not None:
        # The schedules that were stacked. Cut out of the stack, each would be a stack of one, which
        # has a longer label.
        return list(declaration.shown(schedule.hyperparams)["schedules"])
    return [_lane(schedule, i, lanes[0]) for i in range(lanes[0])]


def _lane(schedule: Schedule, i: int, lanes: int) -> Schedule:
    """One lane of a schedule."""
    # A leaf without the axis of lanes is the same number in every lane.
    has_lane = lambda leaf: np.ndim(leaf) > 0 and np.shape(leaf)[0] == lanes
    return jax.tree.map(lambda leaf: leaf[i] if has_lane(leaf) else leaf, schedule)


def _labels(items: Sequence[Choice]) -> tuple[str, ...]:
    """A short text for each choice: its name, or the whole `repr` of a Schedule if names repeat."""
    names = [_name(item, i) for i, item in enumerate(items)]
    labels = [
        repr(item) if isinstance(item, Schedule) and names.count(name) > 1 else name
        for item, name in zip(items, names, strict=True)
    ]
    # Two lambdas have the same label, for instance. Labels must differ, because merged results
    # match choices by them.
    if len(set(labels)) < len(labels):
        labels = [f"{label} #{i}" for i, label in enumerate(labels)]
    return tuple(labels)


def _name(item: Choice, i: int) -> str:
    """The name of the builder or function, a number, or "choice" and its index."""
    if isinstance(item, Schedule):
        return repr(item).split("(")[0]
    if _is_number(item):
        return f"{float(item):.3g}"
    return getattr(item, "__name__", f"choice {i}") if callable(item) else f"choice {i}"


def _is_number(value: Item) -> bool:
    """Whether it is a real number: Python's, NumPy's, or an array without axes."""
    array = _require.as_numbers(value)
    return array is not None and array.ndim == 0


def _is_transformation(item: Item) -> bool:
    """Whether it is an `optax.GradientTransformation`."""
    return isinstance(item, tuple) and hasattr(item, "init") and hasattr(item, "update")


def _number(name: str, leaf: Item) -> np.ndarray:
    """A leaf of a choice as an array of real numbers."""
    # The keyword becomes the name in the error message.
    return np.asarray(_require.real(**{f"grid[{name!r}]": leaf})[f"grid[{name!r}]"])
