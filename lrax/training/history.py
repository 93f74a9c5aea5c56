"""`history`: what monitors recorded in an optimizer's state, as arrays, a table or a picture."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
import optax
from jax.core import Tracer
from jax.tree_util import GetAttrKey

from .. import _require
from ..display import canvas, records as pictures
from ..display.tables import as_html
from ..probes.states import Part, Path, parts
from ..rate.nodes import labels
from .recorded import PREFIX, RecordedState

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

Tree = Any

PANELS = 12  # the most panels that are drawn if no name is given

# `{class of a state: its fields}`
_KNOWN = {
    "RecordedState": frozenset(RecordedState._fields),
    "SnapshotState": frozenset({"measurement"}),
    "MonitorState": frozenset({"measurements", "measure_states"}),
}


@dataclasses.dataclass(frozen=True, repr=False)
class History:
    """What `lrax.history` reads from an optimizer's state.

    Attributes:
      at: `[records]`, the updates that were recorded, 0-based and ascending.
      monitors: `{name: [*lanes, records]}`, the values of `lrax.recorded`; NaN where a lane has no
        record of an update that another lane has. A state that was not vmapped has no such axes.
      snapshots: `{name: array}`, what `optax.snapshot` and `optax.monitor` keep: the value of the
        last update.
    """

    at: np.ndarray
    monitors: dict[str, np.ndarray]
    snapshots: dict[str, Tree]

    def to_pandas(self) -> pandas.DataFrame:
        """A pandas DataFrame of the monitors, with a row for each record of each lane.

        Its columns are `step` and the names of the monitors. If there are lanes, `lane` comes
        first, or `lane_0`, `lane_1`, ... for several axes. `lrax.diagnose` takes such a table.

        Returns:
          The DataFrame.

        Raises:
          ImportError: if pandas is not installed.
        """
        pandas = _require.extra("pandas", "sweep")
        shape = self._lanes
        axes = ["lane"] if len(shape) == 1 else [f"lane_{axis}" for axis in range(len(shape))]
        lanes = np.indices(shape).reshape(len(shape), math.prod(shape))
        columns = {
            name: np.repeat(index, len(self.at)) for name, index in zip(axes, lanes, strict=True)
        }
        columns["step"] = np.tile(self.at, lanes.shape[1])
        columns |= {name: values.ravel() for name, values in self.monitors.items()}
        return pandas.DataFrame(columns)

    def plot(self, name: str | None = None) -> Figure:
        """A figure of the monitors over the updates, a panel for each.

        Args:
          name: A monitor; one that returned a dict has a panel for each entry. By default all
            monitors are drawn, in at most 12 panels.

        Returns:
          A matplotlib Figure. A notebook shows it if it is the value of a cell;
          `figure.savefig(path)` writes it.

        Raises:
          ValueError: if there is no monitor of this name, or none at all.
          ImportError: if matplotlib is not installed.
        """
        names = list(self.monitors)[:PANELS]
        if name is not None:
            is_text = isinstance(name, str)
            known = list(self.monitors)
            entries = [full for full in known if is_text and full.startswith(f"{name}/")]
            names = [name] if is_text and name in known else entries
            if not names:
                raise ValueError(f"`name` must be one of {known}, got {name!r}")
        if not names:
            raise ValueError("the history has no monitors to plot: wrap with `lrax.recorded`")
        shape = math.prod(self._lanes), len(self.at)
        curves = {name: self.monitors[name].reshape(shape) for name in names}
        return pictures.records(self.at, curves)

    @property
    def _lanes(self) -> tuple[int, ...]:
        """The axes of lanes."""
        return next((values.shape[:-1] for values in self.monitors.values()), ())

    def __repr__(self) -> str:
        told = []
        if self.monitors:
            lanes = f"{' x '.join(map(str, self._lanes))} lanes, " if self._lanes else ""
            span = f" at the updates {self.at[0]} to {self.at[-1]}" if len(self.at) else ""
            told.append(f"{lanes}{len(self.at)} records{span}: {', '.join(self.monitors)}")
        if self.snapshots:
            told.append(f"snapshots of {', '.join(self.snapshots)}")
        return f"History({'; '.join(told) or 'empty'})"

    def _repr_html_(self) -> str:
        """A table and the picture as HTML. A notebook calls this to show the history."""
        rows = [["", "last", "of all records"]]
        for name, values in self.monitors.items():
            rows.append([name, _range(values[..., -1:]), _range(values)])
        for name, value in self.snapshots.items():
            leaves = jax.tree.leaves(value)
            rows.append([name, _range(np.concatenate(list(map(np.ravel, leaves)))), ""])
        return as_html(rows) + (canvas.as_html(self.plot) if self.monitors else "")


def history(opt_state: optax.OptState) -> History:
    """What `lrax.recorded`, `optax.snapshot` and `optax.monitor` keep in an optimizer's state.

    Use it after a training loop of your own, or now and then within it: a call waits for the
    updates made so far, and copies the records to the host.

    The records are found under any nesting of `chain`, `partition`, `masked`, `MultiSteps`,
    `inject_hyperparams`, `apply_if_finite` and the like, in a `TrainState` of Flax, in the state of
    an `nnx.Optimizer` (`optimizer.opt_state` or `nnx.state(optimizer)`), and in the nested dicts
    and lists that Orbax restores without a target. In such dicts, and in an `nnx.State`, a
    `snapshot` looks the same as parameters called "measurement", so it is not read.

    Args:
      opt_state: An optimizer state, or a pytree with one in it. A vmapped state gives values with
        the axes of its lanes.

    Returns:
      A `History`: `.at` has the updates, `.monitors["grad_norm"]` the values of a monitor,
      `.snapshots["name"]` what Optax keeps of the last update. `.to_pandas()` is a table, and
      `.plot("grad_norm")` a picture. If several parts of the state, such as the groups of
      `optax.partition`, keep the same name, the label of the part comes before it:
      "body/grad_norm". Labels are those of `lrax.get_lr`.

    Raises:
      ValueError: if the state holds no records and no snapshots.
      TypeError: if the state holds tracers or shapes in place of values.

    Example:
      >>> optimizer = lrax.recorded(optax.sgd(0.1), [lrax.monitors.update_norm], length=2)
      >>> params = {"w": jnp.array([3.0, 4.0])}
      >>> state = optimizer.init(params)
      >>> for _ in range(5):
      ...     updates, state = optimizer.update(params, state, params)
      >>> history = lrax.history(state)
      >>> print(history.at, history.monitors["update_norm"])
      [3 4] [0.5 0.5]
    """
    found = list(_found(opt_state, ()))
    if not found:
        raise ValueError(
            "`opt_state` must hold records, got a state without any. Wrap the optimizer:"
            " `lrax.recorded(optax.adam(1e-3), [lrax.monitors.grad_norm])`."
        )
    ours = [part for part in found if part.name == "RecordedState"]
    rings = [_ring(part) for part in ours]
    at = np.unique(np.concatenate([ring_at[ring_at >= 0] for ring_at, _ in rings] or [[]]))
    monitors = [
        {name: _spread(at, ring_at, ring) for name, ring in records.items()}
        for ring_at, records in rings
    ]
    others = [part for part in found if part.name != "RecordedState"]
    return History(
        at.astype(np.int64),
        _by_name(ours, monitors),
        _by_name(others, list(map(_kept, others))),
    )


def _found(state: Tree, path: Path) -> Iterator[Part]:
    """The parts of a state that keep records, also those inside of others."""
    for part in parts(state, _KNOWN):
        if part.name == "SnapshotState" and isinstance(part.node, Mapping):
            continue  # it may be the moments of parameters called "measurement"
        part = part._replace(path=(*path, *part.path))
        yield part
        if part.name == "RecordedState":
            inside = (*part.path, GetAttrKey("inner_state"))
            yield from _found(part.field("inner_state"), inside)


def _ring(part: Part) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The updates and values of a `RecordedState` in the order of its slots, `[*lanes, length]`."""
    records = part.field("records")
    if not isinstance(records, Mapping):  # there are no parameters
        return np.zeros(0), {}
    rings = {str(name).removeprefix(PREFIX): _host(ring) for name, ring in records.items()}
    return _host(part.field("at")), rings


def _spread(at: np.ndarray, ring_at: np.ndarray, ring: np.ndarray) -> np.ndarray:
    """The values of a ring at these updates, `[*lanes, records]`; NaN where it has none."""
    *shape, length = ring_at.shape
    slots = ring_at.reshape(-1, length)
    lane, slot = np.nonzero(slots >= 0)
    values = np.full((len(slots), len(at)), np.nan, ring.dtype)
    values[lane, np.searchsorted(at, slots[lane, slot])] = ring.reshape(slots.shape)[lane, slot]
    return values.reshape(*shape, len(at))


def _kept(part: Part) -> dict[str, Tree]:
    """What `optax.snapshot` or `optax.monitor` keeps, by name."""
    field = "measurement" if part.name == "SnapshotState" else "measurements"
    return {str(name): _hosted(value) for name, value in part.field(field).items()}


def _by_name(found: list[Part], kept: list[dict[str, Tree]]) -> dict[str, Tree]:
    """All entries in one dict. Names that several parts keep come after the labels of the parts."""
    times = Counter(name for entries in kept for name in entries)
    return {
        name if times[name] == 1 else f"{label}/{name}": value
        for label, entries in zip(labels([part.path for part in found]), kept, strict=True)
        for name, value in entries.items()
    }


def _hosted(value: Any) -> Tree:
    plain = isinstance(value, (Mapping, tuple, list))
    return jax.tree.map(_host, value) if plain else _host(value)


def _host(value: Any) -> np.ndarray:
    # Flax NNX wraps each array in a pytree of one leaf.
    (leaf,) = jax.tree.leaves(value)
    if isinstance(leaf, (Tracer, jax.ShapeDtypeStruct)):
        raise TypeError(
            f"`opt_state` must hold values, got {leaf}: read the history outside of `jax.jit`"
        )
    return np.asarray(leaf)


def _range(values: np.ndarray) -> str:
    """The lowest and the highest finite value as text; a dash if none is finite."""
    known = values[np.isfinite(values)]
    if not known.size:
        return "-"
    low, high = f"{known.min():.4g}", f"{known.max():.4g}"
    return low if low == high else f"{low} to {high}"
