"""`lrax.range_test`: the loss while the rate rises."""

from __future__ import annotations

import dataclasses
import functools
import html
import textwrap
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import jax
import numpy as np

from .. import _require
from ..display import canvas, ranges
from ..probes.curves import smooth
from ..rate.multipliers import Multipliers
from ..schedules.ramps import ramp, range_ramp
from ..sweeps.seeds import Seeds
from ..sweeps.sweep import sweep
from ..training.monitors import Monitor
from ..training.optimizer import Optimizer, parameters
from ..training.run import Params, Step
from ..training.task import Task, takes_key
from . import descent
from .peers import Curve
from .ramped import frozen, ramped
from .suggest import METHODS, suggest, valid

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Pairing = Literal["before", "after"]
Which = Literal["train_loss", "validation"]


class Habit(NamedTuple):
    """What a package does with a curve before it looks for a rate.

    Attributes:
      kind: How it smooths, as under `lrax.probes.smooth`.
      beta: Weight of the average.
      skip_start: Function of the number of steps to the number of points skipped at the start.
      skip_end: Points that it skips at the end.
    """

    kind: str
    beta: float
    skip_start: Callable[[int], int]
    skip_end: int


FASTAI = Habit("debiased", 0.98, lambda steps: steps // 10, 5)
LIGHTNING = Habit("debiased", 0.98, lambda _: 10, 1)
HABITS = {
    "lrax": None,
    **dict.fromkeys(("valley", "slide", "minimum", "steep"), FASTAI),
    **dict.fromkeys(("lightning", "lightning_252"), LIGHTNING),
    "torch_lr_finder": Habit("seeded", 0.95, lambda _: 10, 5),
    "ignite": Habit("seeded", 0.95, lambda _: 0, 0),
}


@dataclasses.dataclass(frozen=True)
class Flags:
    """What to know of a range test before its rate is used.

    Each flag but `diverged_at` is true if it is true for more than half of the seeds.

    Attributes:
      diverged_at: The first update at which any seed had diverged, -1 if none has.
      monotone: Whether the loss only falls or only rises, apart from its noise.
      no_descent: Whether the loss does not fall by more than its noise.
      hit_upper_edge: Whether the loss does not rise again before the highest rate: raise `end`.
      hit_lower_edge: Whether the loss rises from the lowest rate on, or the suggested rate is below
        the lowest rate: lower `start`.
    """

    diverged_at: int
    monotone: bool
    no_descent: bool
    hit_upper_edge: bool
    hit_lower_edge: bool


@dataclasses.dataclass(frozen=True, eq=False)
class RangeTest:
    """What `lrax.range_test` returns.

    Attributes:
      rates: `[steps]`, the rate of each update.
      losses: `[seeds, steps]`, the training loss before each update, as measured. A lane that has
        diverged is trained no further, and its later losses are NaN.
      diverged_at: `[seeds]`, the update whose loss showed that the lane has diverged, -1 for none.
      seeds: The names of the seeds.
      validation: `[seeds, steps]`, the validation metric before each update; or None.
      validation_name: The name of the metric; or None.
      kind: `"geometric"` or `"linear"`.
    """

    rates: np.ndarray
    losses: np.ndarray
    diverged_at: np.ndarray
    seeds: list[str]
    validation: np.ndarray | None = None
    validation_name: str | None = None
    kind: str = "geometric"

    def curves(
        self, which: Which = "train_loss", pairing: Pairing = "before"
    ) -> tuple[np.ndarray, np.ndarray]:
        """Rates and losses, paired in one of two ways.

        Args:
          which: `"train_loss"` or `"validation"`.
          pairing: `"before"` pairs each rate with the loss before its update, as all packages do.
            `"after"` pairs it with the loss after its update, on the next batch, which shows the
            effect of the rate.

        Returns:
          Rates `[n]` and losses `[seeds, n]`. With `"after"`, n is one less than the updates.

        Raises:
          ValueError: if an option is unknown, or there is no validation loss.

        Example:
          >>> test = lrax.range_test(lrax.tasks.diabetes(), optax.adam, steps=20)
          >>> rates, losses = test.curves(pairing="after")
          >>> losses.shape
          (1, 19)
        """
        _require.choice("which", which, ("train_loss", "validation"))
        _require.choice("pairing", pairing, ("before", "after"))
        losses = self.losses if which == "train_loss" else self.validation
        if losses is None:
            raise ValueError(
                "`which` must be 'train_loss', got 'validation': the range test was made without"
                " `validation=`"
            )
        if pairing == "after":
            return self.rates[:-1], losses[:, 1:]
        return self.rates, losses

    def suggest(
        self, method: str = "lrax", *, which: Which = "train_loss", pairing: Pairing = "before"
    ) -> float:
        """The rate that the test suggests: the median over the seeds that suggest one.

        A package's method gets each curve as in its package: cut off at the divergence, smoothed in
        the package's way, and without the points that it skips by default. The function
        `lrax.suggest` does none of this.

        Args:
          method: As under `lrax.suggest`.
          which: `"train_loss"` or `"validation"`.
          pairing: `"before"` or `"after"`, as under `curves`.

        Returns:
          The rate; of an even number of rates, the lower one of the two in the middle.

        Raises:
          ValueError: if an option is unknown, there is no validation loss, or the method refuses
            for half of the seeds or more. The message then gives the reason of the first of them.

        Example:
          >>> test = lrax.range_test(lrax.tasks.digits(), optax.adam, seeds=3)
          >>> 1e-3 < test.suggest() < 0.3
          True
        """
        found, reasons = self._suggestions(method, which, pairing)
        if 2 * len(found) <= len(self.losses):
            seeds = f" ({len(reasons)} of {len(self.losses)} seeds)" if len(self.losses) > 1 else ""
            raise ValueError(reasons[0] + seeds)
        return found[(len(found) - 1) // 2]

    @property
    def flags(self) -> Flags:
        """What to know before the rate is used."""
        found = []
        for losses in self.losses:
            curve, _ = valid(np, Curve(self.rates, losses, 0), drops=False)
            found.append(descent.read(np, curve))
        most = lambda name: 2 * sum(bool(getattr(one, name)) for one in found) > len(found)
        lost = self.diverged_at[self.diverged_at >= 0]
        names = ("monotone", "no_descent", "hit_upper_edge", "hit_lower_edge")
        return Flags(int(lost.min()) if len(lost) else -1, *map(most, names))

    def plot(self, method: str = "lrax", *, which: Which = "train_loss") -> Figure:
        """A figure of the losses against the rates, with the suggestion.

        Args:
          method: As under `lrax.suggest`.
          which: `"train_loss"` or `"validation"`.

        Returns:
          A matplotlib Figure. A notebook shows it if it is the value of a cell;
          `figure.savefig(path)` writes it.

        Raises:
          ValueError: if an option is unknown, or there is no validation loss.
          ImportError: if matplotlib is not installed.

        Example:
          >>> test = lrax.range_test(lrax.tasks.diabetes(), optax.adam, steps=20)
          >>> test.plot().savefig("range.png")  # doctest: +SKIP
        """
        rates, losses = self.curves(which)
        found, reasons = self._suggestions(method, which, "before")
        refused = 2 * len(found) <= len(losses)
        known = np.cumsum(~np.isfinite(losses), axis=1) == 0
        average = [
            descent.averaged(np, curve, there)[0]
            for curve, there in zip(losses, known, strict=True)
        ]
        name = "training loss" if which == "train_loss" else f"validation {self.validation_name}"
        return ranges.range_test(
            rates,
            losses,
            np.stack(average),
            diverged_at=self.diverged_at,
            suggested=None if refused else found[(len(found) - 1) // 2],
            note=textwrap.fill(f"no rate: {reasons[0]}", 90) if refused else "",
            name=name,
            log=self.kind == "geometric",
        )

    def __repr__(self) -> str:
        seeds = f"{len(self.seeds)} seed{'s' * (len(self.seeds) > 1)}"
        low, high, steps = self.rates[0], self.rates[-1], len(self.rates)
        head = f"RangeTest(rates {low:.2g} to {high:.2g}, {steps} steps x {seeds})"
        return "\n".join([head, f"  {self._said()}", f"  {self._flagged()}"])

    def _repr_html_(self) -> str:
        """The three lines and the picture, as a notebook shows them."""
        text = f"<pre>{html.escape(repr(self))}</pre>"
        return text + canvas.as_html(self.plot)

    def _suggestions(self, method: str, which: Which, pairing: Pairing) -> tuple[list, list]:
        """The rates of the seeds in ascending order, and the reasons why other seeds have none."""
        _require.choice("method", method, METHODS)
        rates, losses = self.curves(which, pairing)
        found, reasons = [], []
        for curve in losses:
            try:
                found.append(_suggested(method, rates, curve))
            except ValueError as error:
                reasons.append(str(error))
        return sorted(found), reasons

    def _said(self) -> str:
        """The suggestion in words."""
        found, _ = self._suggestions("lrax", "train_loss", "before")
        if 2 * len(found) <= len(self.losses):
            return f"no rate suggested: {self._why()}"
        rate = found[(len(found) - 1) // 2]
        spread = f" ({found[0]:.2g} to {found[-1]:.2g} over seeds)" if len(found) > 1 else ""
        return f"suggested rate {rate:.2g}{spread}, half of the one of the lowest loss"

    def _why(self) -> str:
        """Why there is no suggestion, in few words."""
        finite = int(np.isfinite(self.losses).sum(1).min())
        if finite < descent.FEWEST:
            return f"the loss is finite at only {finite} updates"
        return "the loss only rises" if self.flags.hit_lower_edge else "the loss does not fall"

    def _flagged(self) -> str:
        """The flags in words."""
        flags, words = self.flags, []
        if flags.diverged_at >= 0:
            rate = self.rates[flags.diverged_at]
            words.append(f"diverged at update {flags.diverged_at} (rate {rate:.2g})")
        names = ("monotone", "no_descent", "hit_upper_edge", "hit_lower_edge")
        words += [name.replace("_", " ") for name in names if getattr(flags, name)]
        return ", ".join(words) or "no flags"


def range_test(
    task: Task,
    optimizer: Optimizer,
    *,
    start: float = 1e-7,
    end: float = 10.0,
    steps: int = 100,
    seeds: Seeds = 1,
    kind: str = "geometric",
    inclusive: str = "left",
    params: Params | None = None,
    multipliers: Multipliers | None = None,
    validation: str | None = None,
    progress: bool | None = None,
) -> RangeTest:
    r"""The learning rate range test: one short run in which the rate rises from update to update.

    $$\eta_t = \text{start}^{1 - p} \, \text{end}^p, \quad p = t / \text{steps}, \quad
    \text{losses}_t = L(\theta_t; b_t), \quad \theta_{t + 1} = \theta_t + u(\eta_t)$$

    Use it for a first guess of a rate, for the price of 100 updates. It is often off by a factor of
    two and sometimes by more, because the best rate of a whole run depends on its length and its
    schedule: let a `lrax.sweep` around it decide. Several seeds are trained side by side, and give
    a band in place of one noisy curve; 5 seeds are a good number. The caller's task, parameters and
    random numbers are not changed. Only an iterator of batches on the host is advanced.

    A lane has diverged once its loss is not finite, or once the average of its losses is above four
    times the lowest average and above the first loss. From then on its parameters stay as they are.

    Args:
      task: What is trained, with any kind of batches.
      optimizer: Function of a rate, or of a schedule, that returns an
        `optax.GradientTransformation`, such as `optax.adam` or
        `lambda rate: optax.sgd(rate, momentum=0.9)`.
      start: Rate of the first update, above 0.
      end: Rate at the end, above `start`.
      steps: Updates, at least 1; about 12 per decade of rates are enough.
      seeds: How many seeds (0, 1, ...), the seeds themselves, or an array of keys.
      kind: `"geometric"`, or `"linear"` for a narrow range.
      inclusive: `"left"` if the last rate is one short of `end`, as in fastai; `"both"` if it is
        `end`, as in torch-lr-finder.
      params: Parameters to start from, as in fine-tuning, or (params, state). They may have an axis
        of seeds in front.
      multipliers: Factors on the updates, as under `lrax.scale_by_multipliers`, so that groups keep
        the ratios of their rates.
      validation: The name of a metric that the task's `evaluate` returns. It is measured before
        each update. Lower values must be better.
      progress: Whether to show a progress bar. By default one is shown in a terminal or a notebook.

    Returns:
      A `RangeTest`: `.rates`, `.losses`, `.suggest()`, `.flags` and `.plot()`. It prints its
      conclusion in three lines.

    Raises:
      ValueError: if an argument is out of its range, or an option is unknown.
      TypeError: if an argument is not as described.

    Example:
      >>> test = lrax.range_test(lrax.tasks.digits(), optax.adam, seeds=2)
      >>> test.losses.shape, test.flags.no_descent
      ((2, 100), False)
      >>> rate = test.suggest()

    Reference:
      Smith. Cyclical Learning Rates for Training Neural Networks. 2015, arXiv:1506.01186.
    """
    if not isinstance(task, Task):
        raise TypeError(f"`task` must be a lrax.Task, got {type(task).__name__}")
    parameters(optimizer)  # refuses `optax.adam(1e-3)`, which is not a function
    low, high = _require.number("start", start), _require.number("end", end)
    _require.positive({"start": low, "end": high}, "start", "end")
    if not low < high:
        raise ValueError(f"`end` must be above `start`, {low}, got {high}")
    steps = _require.count("steps", steps, 1)
    _require.choice("kind", kind, ("geometric", "linear"))
    _require.choice("inclusive", inclusive, ("left", "both"))
    measured: dict[str, Monitor] = {"frozen": frozen}
    if validation is not None:
        measured["validation"] = _validation(task, validation)
    make = range_ramp if kind == "geometric" else ramp
    found = sweep(
        # An evaluation after the last update is of no use here.
        dataclasses.replace(task, evaluate=None),
        ramped(optimizer, multipliers),
        {"ramp": [make(low, high, steps, inclusive=inclusive)]},
        steps=steps,
        seeds=seeds,
        params=params,
        monitors=measured,
        # `ramped` detects a divergence itself, and freezes the lane.
        diverged=None,
        stop=None,
        progress=progress,
    )
    stopped = found.monitors["frozen"][0] > 0
    # The loss that shows the divergence is kept. Those after it say nothing of their rates.
    after = np.cumsum(stopped, axis=-1) > 1
    blank = lambda curves: np.where(after, np.nan, np.asarray(curves[0], np.float64))
    seen = None if validation is None else blank(found.monitors["validation"])
    at = np.where(stopped.any(-1), stopped.argmax(-1), -1)
    rates = _rates(low, high, steps, kind, inclusive)[: found.done]  # fewer after a Ctrl-C
    return RangeTest(rates, blank(found.losses), at, list(found.seeds), seen, validation, kind)


def _rates(start: float, end: float, steps: int, kind: str, inclusive: str) -> np.ndarray:
    """The rates of the ramp in double precision."""
    last = steps if inclusive == "left" else steps - 1
    part = np.arange(steps) / last if last else np.ones(steps)
    return start * (end / start) ** part if kind == "geometric" else start + (end - start) * part


def _validation(task: Task, name: str) -> Monitor:
    """A monitor of one of the numbers that the task's `evaluate` returns."""
    if not isinstance(name, str):
        raise TypeError(f"`validation` must be a name or None, got {name!r}")
    if task.evaluate is None:
        raise ValueError(f"`validation` must be None for a task without `evaluate`, got {name!r}")
    # A partial of a function at the top level, so that the next test finds its compiled programs.
    return functools.partial(_measure, task.evaluate, name, task.stateful)


def _measure(
    evaluate: Callable[..., Mapping[str, Any]], name: str, stateful: bool, step: Step
) -> jax.Array:
    arguments = (step.params, step.state) if stateful else (step.params,)
    if takes_key(evaluate, len(arguments), "evaluate"):
        arguments = (*arguments, step.key)
    metrics = evaluate(*arguments)
    _require.choice("validation", name, metrics)
    return metrics[name]


def _suggested(method: str, rates: np.ndarray, losses: np.ndarray) -> float:
    """The rate that lrax suggests, or that a package suggests with its own defaults."""
    habit = HABITS[method]
    if habit is None:
        return suggest(rates, losses, method)  # pyright: ignore[reportReturnType]
    # The packages stop at a divergence, so `skip_end` is counted from there.
    count = int(np.sum(np.cumsum(~np.isfinite(losses)) == 0))
    if count == 0:
        raise ValueError("`losses` must have a finite loss, got none")
    average = smooth(losses[:count], habit.kind, habit.beta)
    skips = {"skip_start": habit.skip_start(len(rates)), "skip_end": habit.skip_end}
    return suggest(rates[:count], average, method, **skips)  # pyright: ignore[reportReturnType]
