"""`coord_check`: whether the outputs of a network's layers move equally far at all widths."""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np
import optax
from jax import lax, numpy as jnp

from .. import _require
from ..display import canvas, tables, widths as pictures
from ..sweeps.engine.xla.compiling import HASTY
from ..sweeps.seeds import Seeds, as_keys
from ..training.batches import source
from ..training.optimizer import parameters
from ..training.run import Lane, Run, split
from ..training.task import Task, takes_key
from .products import layer_outputs

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Batch = Any
Optimizer = optax.GradientTransformation
Activations = Callable[..., Mapping[str, Any]]

BAR = 0.1  # a slope of at most this size counts as 0


@dataclasses.dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class CoordCheck:
    """What `coord_check` returns. It prints as a table.

    Attributes:
      widths: The widths, in ascending order.
      layers: Names of the layers, in the order of the network.
      sizes: `{layer: [widths, seeds]}`, the root mean square of the layer's outputs at the start.
      changes: `{layer: [widths, seeds, steps]}`, the root mean square of the difference from the
        start, after 1, 2, ... updates, on the same batch.
    """

    widths: list[int]
    layers: list[str]
    sizes: dict[str, np.ndarray]
    changes: dict[str, np.ndarray]

    @property
    def start_slopes(self) -> dict[str, float]:
        """`{layer: slope}`, the power of the width by which the sizes at the start grow."""
        return {name: _slope(self.widths, self.sizes[name][..., None]) for name in self.layers}

    @property
    def slopes(self) -> dict[str, float]:
        """`{layer: slope}`, the power of the width by which the changes grow, or NaN."""
        return {name: _slope(self.widths, self.changes[name]) for name in self.layers}

    @property
    def verdicts(self) -> dict[str, str]:
        """`{layer: word}`: "width-stable", "grows", "vanishes", or "does not move"."""
        starts = self.start_slopes
        return {name: _verdict(slope, starts[name]) for name, slope in self.slopes.items()}

    @property
    def stable(self) -> bool:
        """Whether all layers are "width-stable"."""
        return set(self.verdicts.values()) == {"width-stable"}

    def __str__(self) -> str:
        ends = [f"at {self.widths[0]}", f"at {self.widths[-1]}"]
        rows = [["layer", "start slope", "change slope", *ends, "verdict"]]
        starts, slopes, verdicts = self.start_slopes, self.slopes, self.verdicts
        for name in self.layers:
            last = self.changes[name][:, :, -1].mean(axis=1)
            numbers = [f"{starts[name]:+.2f}", f"{slopes[name]:+.2f}"]
            numbers += [f"{change:.3g}" for change in (last[0], last[-1])]
            rows.append([name, *numbers, verdicts[name]])
        return tables.aligned(rows)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>" + canvas.as_html(self.plot)

    def plot(self) -> Figure:
        """A figure: the change of each layer against the width, a panel for each number of updates.

        Returns:
          A matplotlib Figure.

        Raises:
          ImportError: if matplotlib is not installed.
        """
        steps = self.changes[self.layers[0]].shape[-1]
        sizes = {name: values.mean(axis=1) for name, values in self.sizes.items()}
        panels = {"at the start": sizes}
        for step in sorted({1, steps}):
            words = f"change after {step} update{'s' * (step > 1)}"
            panels[words] = {
                name: values[..., step - 1].mean(axis=1) for name, values in self.changes.items()
            }
        return pictures.against_width(self.widths, panels, self.verdicts)


def coord_check(
    make_task: Callable[[int], Task],
    widths: Sequence[int],
    *,
    steps: int = 5,
    optimizer: Optimizer | Callable[[int], Optimizer] | None = None,
    activations: Activations | None = None,
    seeds: Seeds = 3,
) -> CoordCheck:
    r"""The coordinate check: how the outputs of each layer move in training, against the width.

    $$\text{change}_t = \mathrm{rms}(h_t - h_0), \qquad
      \text{change}_t \propto \text{width}^{\text{slope}}$$

    with $h_t$ the outputs of a layer for the first batch after $t$ updates. In a parametrisation
    whose rates transfer, all slopes are about 0. A layer "grows" if the slope of its change or of
    its size at the start is above 0.1. It "vanishes" if the slope of its change is below -0.1.
    Outputs at the start may shrink with the width, as those of the last layer do in muP.

    Use it before you tune a narrow network for a wide one. It finds a forgotten multiplier in
    seconds. Take widths that span a factor of 8 or more. Very narrow networks follow the rules
    less well, so measure wider ones if a slope is near 0.1.

    By default layers are read from the program of the loss. A layer is a product of a parameter
    with an activation, and its name is the path of the parameter. Products of two activations, as
    in attention, are "product", "product (2)" and so on. A constant factor after a product is
    part of it. Products inside of a loop or a branch are not seen, except for a `lax.scan` over the
    parameters of several layers. Give `activations` for such networks.

    Args:
      make_task: Function from a width to the `lrax.Task` of that width. Its batches are drawn by
        `lrax.minibatches` or a function of (step, key). Initialisation and forward multipliers that
        depend on the width belong in the task.
      widths: At least two widths.
      steps: Updates to train, at least 1.
      optimizer: An Optax transformation, or a function from the width to one, where the rates of
        layers depend on it. By default `optax.adam(1e-3)`.
      activations: `activations(params, batch) -> {name: array}` in place of the layers that are
        read from the loss, with the same names at all widths. For a stateful task it takes
        `(params, state, batch)`.
      seeds: Number of seeds, or their names. Slopes are those of the mean logarithm over seeds.

    Returns:
      A `CoordCheck` of `slopes`, `verdicts`, `stable` and the measurements. Print it.

    Raises:
      ValueError: if there are fewer than two widths, a network diverges, its layers differ between
        widths, or no layer is found.
      TypeError: if an argument is not as described.

    Example:
      >>> make = lambda width: lrax.tasks.digits(widths=(width, width))
      >>> check = lrax.scaling.coord_check(make, [32, 256], steps=2, seeds=1)
      >>> check.verdicts["dense_1/kernel"]  # Adam without muP
      'grows'

    Reference:
      Yang et al., "Tensor programs V", arXiv 2203.03466, appendix D.1; the package `mup` 1.0.0 has
      `mup.coord_check`, which shows the mean absolute outputs.
    """
    if not callable(make_task):
        raise TypeError(f"`make_task` must be a function of the width, got {make_task!r}")
    given = _require.listed("widths", widths)
    known = sorted({_require.count(f"widths[{i}]", width, 1) for i, width in enumerate(given)})
    if len(known) < 2:
        raise ValueError(f"`widths` must have at least two different widths, got {given}")
    steps = _require.count("steps", steps, 1)
    if activations is not None and not callable(activations):
        raise TypeError(f"`activations` must be a function or None, got {activations!r}")
    # The keys of `lrax.sweep`: the seed s is `jax.random.key(s)`, whatever the default key is.
    keys = jax.random.wrap_key_data(jnp.asarray(as_keys(seeds)[1]), impl="threefry2x32")
    measured = []
    for width in known:
        task = make_task(width)
        if not isinstance(task, Task) or source(task.batch).streamed:
            raise TypeError(
                "`make_task` must return a lrax.Task whose batches are drawn by a pure function,"
                f" got {task!r:.200}"
            )
        run = Run(task, optax.with_extra_args_support(_at(optimizer, width)))
        measured.append(_measured(run, steps, keys, activations))
    layers = measured[0].layers
    for width, found in zip(known, measured, strict=True):
        if found.layers != layers:
            raise ValueError(
                f"`make_task` must make the same layers at all widths, got {layers} at {known[0]}"
                f" and {found.layers} at {width}"
            )
        lost = [name for name in layers if not np.all(np.isfinite(found.changes[name]))]
        if lost:
            raise ValueError(
                f"`optimizer` must have a rate at which no width diverges, got outputs that are not"
                f" finite at {width}, in {lost[0]!r}"
            )
    over_widths = lambda field: {
        name: np.stack([getattr(found, field)[name] for found in measured]) for name in layers
    }
    return CoordCheck(
        widths=known, layers=layers, sizes=over_widths("sizes"), changes=over_widths("changes")
    )


class _Measured(NamedTuple):
    """The layers of one width."""

    layers: list[str]
    sizes: dict[str, np.ndarray]  # [seeds]
    changes: dict[str, np.ndarray]  # [seeds, steps]


def _measured(run: Run, steps: int, keys: jax.Array, activations: Activations | None) -> _Measured:
    layers: list[str] = []
    task = run.task

    def loss_alone(*arguments: Any) -> jax.Array:
        loss = task.loss(*arguments)
        return loss[0] if isinstance(loss, tuple) else loss

    def outputs(lane: Lane, batch: Batch, key: jax.Array) -> dict[str, jax.Array]:
        before = (lane.params, lane.state) if task.stateful else (lane.params,)
        if activations is not None:
            found = activations(*before, batch)
            if not isinstance(found, Mapping):
                raise TypeError(f"`activations` must return {{name: array}}, got {found!r:.200}")
            found = {name: jnp.asarray(value) for name, value in found.items()}
        else:
            after = (batch, key) if takes_key(task.loss, len(before) + 1, "loss") else (batch,)
            found = layer_outputs(loss_alone, *before, *after)
        if not found:
            raise ValueError(
                "`activations` must be given for this task: its loss has no product of a parameter"
                " with an activation outside of loops and branches"
            )
        layers[:] = found  # in program order: the names of a compiled program's outputs are sorted
        return found

    def measure(key: jax.Array) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
        own = split(key)
        lane = run.init(own)
        rows = run.source.ahead(0, steps, own.data)
        batch = run.source.batch(0, jax.tree.map(lambda row: row[0], rows), own.data)
        # The same random numbers at all times, so that dropout does not count as a change.
        fixed = jax.random.fold_in(own.loss, 0)
        start = outputs(lane, batch, fixed)

        def update(lane: Lane, xs: Any) -> tuple[Lane, dict[str, jax.Array]]:
            index, row = xs
            lane, _ = run.step(lane, index, row, own)
            now = outputs(lane, batch, fixed)
            return lane, {name: _rms(now[name] - start[name]) for name in now}

        _, changes = lax.scan(update, lane, (jnp.arange(steps), rows))
        return {name: _rms(value) for name, value in start.items()}, changes

    # A few updates take less time than optimised code takes to compile. Only XLA for CPUs has
    # these options.
    options = HASTY if jax.default_backend() == "cpu" else {}
    sizes, changes = jax.device_get(jax.jit(jax.vmap(measure), compiler_options=options)(keys))
    as_numbers = lambda found: {name: found[name].astype(np.float64) for name in layers}
    return _Measured(list(layers), as_numbers(sizes), as_numbers(changes))


def _at(optimizer: Optimizer | Callable[[int], Optimizer] | None, width: int) -> Optimizer:
    """The optimizer of a width."""
    if optimizer is None:
        return optax.adam(1e-3)
    is_optimizer = lambda value: all(
        callable(getattr(value, name, None)) for name in ("init", "update")
    )
    found: Any = optimizer
    if callable(optimizer) and "learning_rate" not in parameters(optimizer):
        found = optimizer(width)
    if not is_optimizer(found):
        raise TypeError(
            "`optimizer` must be an optax.GradientTransformation, such as `optax.adam(1e-3)`, or a"
            f" function from the width to one, got {found!r:.200}"
        )
    return found


def _rms(values: jax.Array) -> jax.Array:
    return jnp.sqrt(jnp.mean(jnp.square(values.astype(_require.float_dtype()))))


def _slope(widths: list[int], values: np.ndarray) -> float:
    """The power of the width by which positive values `[widths, seeds, steps]` grow.

    Updates after which some network has not moved are left out: if the last layer starts with
    zeros, the other layers have no gradient in the first update.
    """
    moved = np.all(values > 0, axis=(0, 1))
    if not np.any(moved):
        return float("nan")
    logs = np.log(values[..., moved]).mean(axis=(1, 2))
    x = np.log(widths) - np.mean(np.log(widths))
    return float(x @ logs / (x @ x))


def _verdict(slope: float, start_slope: float) -> str:
    if np.isnan(slope):
        return "does not move"
    if max(slope, start_slope) > BAR:
        return "grows"
    return "vanishes" if slope < -BAR else "width-stable"
