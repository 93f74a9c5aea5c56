"""PyTorch's CyclicLR and OneCycleLR, and the momentum that they drive; public in `lrax.compat.torch`."""

from collections.abc import Callable
from typing import Any

import numpy as np
from jax import lax, numpy as jnp
from jax.typing import ArrayLike

from .. import _require
from ..schedules.combinators import link
from ..schedules.cycles import cyclic
from ..schedules.schedule import Schedule, Static
from ..schedules.shapes import power, progress
from ._torch_phases import ANNEALS, at_most_one, function_of_count, known, whole


def of_torch(formula: Callable[..., Any]) -> Callable[..., Any]:
    """A formula that is public where its builder is, so that schedules are shown and found under that name."""
    formula.__module__ = "lrax.compat.torch"
    return formula


def CyclicLR(
    *,
    lr: ArrayLike | None = None,  # noqa: ARG001
    base_lr: ArrayLike,
    max_lr: ArrayLike,
    step_size_up: ArrayLike = 2000,
    step_size_down: ArrayLike | None = None,
    mode: str = "triangular",
    gamma: ArrayLike = 1.0,
    scale_fn: Callable[[Any], Any] | None = None,
    scale_mode: str = "cycle",
    cycle_momentum: bool = True,  # noqa: ARG001
    base_momentum: ArrayLike = 0.8,  # noqa: ARG001
    max_momentum: ArrayLike = 0.9,  # noqa: ARG001
) -> Schedule:
    """Triangles: `lrax.cyclic(base_lr, max_lr, step_size_up, step_size_down, mode=mode,
    gamma=gamma)`.

    PyTorch writes `base_lr` over the optimizer's rate, and uses `gamma` in the mode `"exp_range"`
    only. What `lrax.cyclic` has not is computed here: a `scale_fn`, a `base_lr` above `max_lr`, a
    `gamma` above 1.

    Args:
      lr: Not used; the other schedulers take it.
      base_lr: The rate at the start of each cycle, at least 0.
      max_lr: The rate in the middle of each cycle, at least 0.
      step_size_up: Updates from the one to the other, above 0.
      step_size_down: Updates back, above 0; `None` is `step_size_up`.
      mode: `"triangular"`, `"triangular2"`, which halves the amplitude after each cycle, or
        `"exp_range"`, which multiplies it by `gamma` at each update. Not used with a `scale_fn`.
      gamma: That factor, at least 0.
      scale_fn: The amplitude as a function of the number of the cycle, from 1, or of the count.
      scale_mode: `"cycle"` or `"iterations"`: what `scale_fn` is a function of.
      cycle_momentum: Not used; `CyclicMomentum` is the momentum.
      base_momentum: Not used.
      max_momentum: Not used.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a known number is out of its range, or a word is unknown.

    Example:
      >>> lrax.compat.torch.CyclicLR(base_lr=0.01, max_lr=0.1, step_size_up=10, mode="triangular2")
      cyclic(low=0.01, high=0.1, up=10, mode='triangular2', gamma=1)
    """
    hyperparams = _require.real(
        base_lr=base_lr, max_lr=max_lr, step_size_up=step_size_up, gamma=gamma
    )
    _require.nonnegative(hyperparams, "base_lr", "max_lr", "gamma")
    _require.positive(hyperparams, "step_size_up")
    if step_size_down is not None:
        hyperparams |= _require.real(step_size_down=step_size_down)
        _require.positive(hyperparams, "step_size_down")
    if scale_fn is None:
        _require.choice("mode", mode, ("triangular", "triangular2", "exp_range"))
        gamma = gamma if mode == "exp_range" else 1.0
        if _holds(gamma, 1) and _holds(base_lr, max_lr):
            return cyclic(base_lr, max_lr, step_size_up, step_size_down, mode=mode, gamma=gamma)
    else:
        scale_fn = function_of_count("scale_fn", scale_fn)
    _require.choice("scale_mode", scale_mode, ("cycle", "iterations"))
    words = {"mode": Static(mode), "scale_fn": scale_fn, "scale_mode": Static(scale_mode)}
    return Schedule(
        _CyclicLR, {**hyperparams, "step_size_down": hyperparams.get("step_size_down"), **words}
    )


@of_torch
def _CyclicLR(
    count, base_lr, max_lr, step_size_up, step_size_down, mode, gamma, scale_fn, scale_mode
):
    down = step_size_up if step_size_down is None else step_size_down
    count = jnp.maximum(count, 0)
    cycle = lax.stop_gradient(jnp.floor_divide(count, step_size_up + down))
    step = count - cycle * (step_size_up + down)
    climb, _ = progress(step, step_size_up - step, step_size_up)
    _, fall = progress(step - step_size_up, step_size_up + down - step, down)
    amplitude = jnp.where(step < step_size_up, climb, fall)
    if scale_fn is not None:
        amplitude = amplitude * scale_fn(cycle + 1 if scale_mode == "cycle" else count)
    elif mode == "triangular2":
        amplitude = amplitude * 0.5**cycle
    elif mode == "exp_range":
        amplitude = amplitude * power(gamma, count)
    return base_lr + (max_lr - base_lr) * amplitude


def CyclicMomentum(
    *,
    lr: ArrayLike | None = None,  # noqa: ARG001
    base_lr: ArrayLike,  # noqa: ARG001
    max_lr: ArrayLike,  # noqa: ARG001
    step_size_up: ArrayLike = 2000,
    step_size_down: ArrayLike | None = None,
    mode: str = "triangular",
    gamma: ArrayLike = 1.0,
    scale_fn: Callable[[Any], Any] | None = None,
    scale_mode: str = "cycle",
    cycle_momentum: bool = True,  # noqa: ARG001
    base_momentum: ArrayLike = 0.8,
    max_momentum: ArrayLike = 0.9,
) -> Schedule:
    """The momentum of `CyclicLR`, low where the rate is high: an `lrax.link` from triangles between
    0 and 1.

    Args:
      lr: Not used.
      base_lr: Not used.
      max_lr: Not used.
      step_size_up: As of `CyclicLR`.
      step_size_down: As of `CyclicLR`.
      mode: As of `CyclicLR`; the amplitude of the momentum shrinks as that of the rate.
      gamma: As of `CyclicLR`.
      scale_fn: As of `CyclicLR`.
      scale_mode: As of `CyclicLR`.
      cycle_momentum: Not used: PyTorch drives the momentum only where this is true.
      base_momentum: The momentum in the middle of each cycle, at least 0.
      max_momentum: The momentum at the start of each cycle, at least 0.

    Returns:
      A `Schedule` of the momentum, or of Adam's first beta.

    Raises:
      ValueError: if a known number is out of its range, or a word is unknown.

    Example:
      >>> print(lrax.compat.torch.CyclicMomentum(base_lr=0.01, max_lr=0.1, step_size_up=2).values(5).round(2))
      [0.9 0.85 0.8 0.85 0.9 ]
    """
    hyperparams = _require.real(base_momentum=base_momentum, max_momentum=max_momentum)
    _require.nonnegative(hyperparams, "base_momentum", "max_momentum")
    same: dict[str, Any] = dict(
        step_size_up=step_size_up, step_size_down=step_size_down, mode=mode, gamma=gamma
    )
    if scale_fn is None and (mode != "exp_range" or _holds(gamma, 1)):
        return link(
            CyclicLR(base_lr=0.0, max_lr=1.0, **same), at_low=max_momentum, at_high=base_momentum
        )
    same |= dict(scale_fn=scale_fn, scale_mode=scale_mode)
    return CyclicLR(base_lr=max_momentum, max_lr=base_momentum, **same)


def _holds(low, high):
    """Whether `low <= high`, or is not known."""
    return not (known(low) and known(high)) or bool(np.all(np.asarray(low) <= np.asarray(high)))


def OneCycleLR(
    *,
    lr: ArrayLike | None = None,  # noqa: ARG001
    max_lr: ArrayLike,
    total_steps: ArrayLike | None = None,
    epochs: ArrayLike | None = None,
    steps_per_epoch: ArrayLike | None = None,
    pct_start: ArrayLike = 0.3,
    anneal_strategy: str = "cos",
    cycle_momentum: bool = True,  # noqa: ARG001
    base_momentum: ArrayLike = 0.85,  # noqa: ARG001
    max_momentum: ArrayLike = 0.95,  # noqa: ARG001
    div_factor: ArrayLike = 25.0,
    final_div_factor: ArrayLike = 1e4,
    three_phase: bool = False,
) -> Schedule:
    r"""One cycle: from `max_lr / div_factor` to `max_lr` and down to `max_lr / (div_factor *
    final_div_factor)`.

    The peak is at the update with the index `pct_start * total_steps - 1`, the end at `total_steps
    - 1`, each one earlier than that of `lrax.one_cycle`; with three phases the rate is back where
    it began at `2 * pct_start * total_steps - 2`. PyTorch allows one update more, and overshoots
    the end in it: it is reproduced here. Of the updates after that, which PyTorch refuses, the rate
    is that of the end.

    Args:
      lr: Not used; the other schedulers take it.
      max_lr: Highest rate, at least 0.
      total_steps: Length of the whole in optimizer updates, a whole number above 0.
      epochs: With `steps_per_epoch`, another way to give `total_steps`.
      steps_per_epoch: Updates in an epoch, a whole number above 0.
      pct_start: Part of the steps on the way up, from 0 to 1.
      anneal_strategy: `"cos"` or `"linear"`.
      cycle_momentum: Not used; `OneCycleMomentum` is the momentum.
      base_momentum: Not used.
      max_momentum: Not used.
      div_factor: `max_lr` in rates at the start, above 0.
      final_div_factor: The rate at the start in rates at the end, above 0.
      three_phase: Whether it falls to where it began as fast as it climbed, and then to its end.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a known number is out of its range, a word is unknown, or there is neither
        `total_steps` nor both `epochs` and `steps_per_epoch`.
      TypeError: if `three_phase` is not a bool.

    Example:
      >>> schedule = lrax.compat.torch.OneCycleLR(max_lr=1.0, total_steps=10, div_factor=10.0)
      >>> print(schedule.values(12).round(3))
      [0.1 0.55 1. 0.95 0.812 0.611 0.389 0.188 0.05 0. 0.05 0. ]
    """
    hyperparams, words = _one_cycle(
        total_steps, epochs, steps_per_epoch, pct_start, anneal_strategy, three_phase
    )
    hyperparams |= _require.real(
        max_lr=max_lr, div_factor=div_factor, final_div_factor=final_div_factor
    )
    _require.nonnegative(hyperparams, "max_lr")
    _require.positive(hyperparams, "div_factor", "final_div_factor")
    return Schedule(_OneCycleLR, {**hyperparams, **words})


@of_torch
def _OneCycleLR(
    count,
    max_lr,
    total_steps,
    pct_start,
    anneal_strategy,
    div_factor,
    final_div_factor,
    three_phase,
):
    init = max_lr / div_factor
    rates = [init, max_lr, *([init] if three_phase else []), init / final_div_factor]
    return _phases(count, rates, total_steps, pct_start, anneal_strategy)


def OneCycleMomentum(
    *,
    lr: ArrayLike | None = None,  # noqa: ARG001
    max_lr: ArrayLike | None = None,  # noqa: ARG001
    total_steps: ArrayLike | None = None,
    epochs: ArrayLike | None = None,
    steps_per_epoch: ArrayLike | None = None,
    pct_start: ArrayLike = 0.3,
    anneal_strategy: str = "cos",
    cycle_momentum: bool = True,  # noqa: ARG001
    base_momentum: ArrayLike = 0.85,
    max_momentum: ArrayLike = 0.95,
    div_factor: ArrayLike = 25.0,  # noqa: ARG001
    final_div_factor: ArrayLike = 1e4,  # noqa: ARG001
    three_phase: bool = False,
) -> Schedule:
    """The momentum of `OneCycleLR`: from `max_momentum` down to `base_momentum` and back, in the
    same phases.

    Args:
      lr: Not used.
      max_lr: Not used.
      total_steps: As of `OneCycleLR`.
      epochs: As of `OneCycleLR`.
      steps_per_epoch: As of `OneCycleLR`.
      pct_start: As of `OneCycleLR`.
      anneal_strategy: As of `OneCycleLR`.
      cycle_momentum: Not used: PyTorch drives the momentum only where this is true.
      base_momentum: The momentum at the highest rate, at least 0.
      max_momentum: The momentum at the start and at the end, at least 0.
      div_factor: Not used.
      final_div_factor: Not used.
      three_phase: As of `OneCycleLR`; in the third phase the momentum is held.

    Returns:
      A `Schedule` of the momentum, or of Adam's first beta.

    Raises:
      ValueError: as `OneCycleLR`.
      TypeError: if `three_phase` is not a bool.

    Example:
      >>> print(lrax.compat.torch.OneCycleMomentum(max_lr=1.0, total_steps=4, pct_start=0.5).values(4).round(2))
      [0.95 0.85 0.9 0.95 ]
    """
    hyperparams, words = _one_cycle(
        total_steps, epochs, steps_per_epoch, pct_start, anneal_strategy, three_phase
    )
    hyperparams |= _require.real(base_momentum=base_momentum, max_momentum=max_momentum)
    _require.nonnegative(hyperparams, "base_momentum", "max_momentum")
    return Schedule(_OneCycleMomentum, {**hyperparams, **words})


@of_torch
def _OneCycleMomentum(
    count, base_momentum, max_momentum, total_steps, pct_start, anneal_strategy, three_phase
):
    values = [max_momentum, base_momentum, max_momentum, *([max_momentum] if three_phase else [])]
    return _phases(count, values, total_steps, pct_start, anneal_strategy)


def _one_cycle(total_steps, epochs, steps_per_epoch, pct_start, anneal_strategy, three_phase):
    if total_steps is None:
        if epochs is None or steps_per_epoch is None:
            raise ValueError(
                "`total_steps` must be given, or both `epochs` and `steps_per_epoch`, got neither"
            )
        hyperparams = _require.real(epochs=epochs, steps_per_epoch=steps_per_epoch)
        _require.at_least(hyperparams, 1, "epochs", "steps_per_epoch")
        whole(hyperparams, "epochs", "steps_per_epoch")
        total_steps = hyperparams["epochs"] * hyperparams["steps_per_epoch"]
    hyperparams = _require.real(total_steps=total_steps, pct_start=pct_start)
    _require.at_least(hyperparams, 1, "total_steps")
    whole(hyperparams, "total_steps")
    _require.nonnegative(hyperparams, "pct_start")
    at_most_one(hyperparams, "pct_start")
    _require.choice("anneal_strategy", anneal_strategy, ANNEALS)
    words = {
        "anneal_strategy": anneal_strategy,
        "three_phase": _require.flag("three_phase", three_phase),
    }
    return hyperparams, {name: Static(word) for name, word in words.items()}


def _phases(count, values, total_steps, pct_start, anneal_strategy):
    # A phase is left only after its end, and the first one that holds is taken, so the end of the
    # second of three may lie behind that of the whole. The last one is not clipped: that is the
    # overshoot. One without length is a jump.
    last = total_steps - 1
    top = pct_start * total_steps - 1
    ends = [top, 2 * top, last] if len(values) == 4 else [top, last]
    # What follows the update `total_steps`, if the phase of that update is not the last one, is
    # what that one leads to.
    count = jnp.maximum(count, 0)
    over = count > total_steps
    count = jnp.minimum(count, total_steps)
    begin, close, start, end = ends[-2], ends[-1], values[-2], values[-1]
    for i in reversed(range(len(ends) - 1)):
        here = count <= ends[i]
        begin, close = (
            jnp.where(here, ends[i - 1] if i else 0, begin),
            jnp.where(here, ends[i], close),
        )
        start, end = jnp.where(here, values[i], start), jnp.where(here, values[i + 1], end)
    some = abs(close - begin) > 1e-6 * total_steps  # which is as exact as the ends are
    length = jnp.where(some, close - begin, 1)
    p = jnp.where(some, (count - begin) / length, 1)
    q = jnp.where(some, (close - count) / length, 0)
    if anneal_strategy == "cos":
        p, q = jnp.sin(np.pi / 2 * p) ** 2, jnp.sin(np.pi / 2 * q) ** 2
    return jnp.where(over, values[-1], start * q + end * p)
