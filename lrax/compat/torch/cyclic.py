"""PyTorch's CyclicLR and its momentum.

They follow torch/optim/lr_scheduler.py of PyTorch 2.13.0.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from jax import lax, numpy as jnp
from jax.typing import ArrayLike

from ... import _require
from ...schedules.builders import builder
from ...schedules.combinators import link
from ...schedules.counts import real
from ...schedules.cycles import cyclic
from ...schedules.schedule import Schedule, Static
from ...schedules.shapes import power, progress
from ..arguments import Number, is_concrete, nonnegative, positive
from .functions import function_of_count


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
    """Triangles between `base_lr` and `max_lr`.

    It is `lrax.cyclic(base_lr, max_lr, step_size_up, step_size_down, mode=mode, gamma=gamma)`.

    PyTorch replaces the optimizer's rate by `base_lr`, and uses `gamma` in the mode `"exp_range"`
    only. `lrax.cyclic` has no `scale_fn`, no `base_lr` above `max_lr` and no `gamma` above 1. With
    one of them, this schedule has a formula of its own.

    Args:
      lr: Not used. It is accepted because the other schedulers have it.
      base_lr: The rate at the start of each cycle, at least 0.
      max_lr: The rate in the middle of each cycle, at least 0.
      step_size_up: Updates from `base_lr` to `max_lr`, above 0.
      step_size_down: Updates from `max_lr` to `base_lr`, above 0; `None` is `step_size_up`.
      mode: `"triangular"`, `"triangular2"`, which halves the amplitude after each cycle, or
        `"exp_range"`, which multiplies it by `gamma` at each update. Not used with a `scale_fn`.
      gamma: The factor of `"exp_range"`, at least 0.
      scale_fn: The amplitude as a function of the number of the cycle, from 1, or of the count.
      scale_mode: `"cycle"` or `"iterations"`: what `scale_fn` is a function of.
      cycle_momentum: Not used; `CyclicMomentum` is the momentum.
      base_momentum: Not used.
      max_momentum: Not used.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is out of its range, or an option is unknown.

    Example:
      >>> lrax.compat.torch.CyclicLR(base_lr=0.01, max_lr=0.1, step_size_up=10, mode="triangular2")
      cyclic(low=0.01, high=0.1, up=10, mode='triangular2', gamma=1)
    """
    given = nonnegative(base_lr=base_lr, max_lr=max_lr, gamma=gamma)
    given |= positive(step_size_up=step_size_up)
    low, high, factor, up = given.values()
    down = None
    if step_size_down is not None:
        down = positive(step_size_down=step_size_down)["step_size_down"]
    _require.choice("scale_mode", scale_mode, ("cycle", "iterations"))
    _require.choice("mode", mode, ("triangular", "triangular2", "exp_range"))
    if scale_fn is not None:
        scale_fn = function_of_count("scale_fn", scale_fn)
    elif mode != "exp_range":
        factor = np.float64(1)  # PyTorch uses `gamma` in this mode only
    if scale_fn is None and _may_be_at_most(factor, 1) and _may_be_at_most(low, high):
        return cyclic(low, high, up, down, mode=mode, gamma=factor)
    leaves = _require.real(**{**given, "gamma": factor})
    leaves["step_size_down"] = None if down is None else _require.real(down=down)["down"]
    words = {"mode": Static(mode), "scale_fn": scale_fn, "scale_mode": Static(scale_mode)}
    return Schedule(_CyclicLR, {**leaves, **words})


@builder(CyclicLR, name="compat.torch.CyclicLR")
def _CyclicLR(
    count, base_lr, max_lr, step_size_up, step_size_down, mode, gamma, scale_fn, scale_mode
):
    count = real(count)
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
    """The momentum of `CyclicLR`, low where the rate is high.

    It is `lrax.link` of triangles between 0 and 1.

    Args:
      lr: Not used.
      base_lr: Not used.
      max_lr: Not used.
      step_size_up: As in `CyclicLR`.
      step_size_down: As in `CyclicLR`.
      mode: As in `CyclicLR`; the amplitude of the momentum shrinks as that of the rate does.
      gamma: As in `CyclicLR`.
      scale_fn: As in `CyclicLR`.
      scale_mode: As in `CyclicLR`.
      cycle_momentum: Not used. PyTorch changes the momentum only if it is true.
      base_momentum: The momentum in the middle of each cycle, at least 0.
      max_momentum: The momentum at the start of each cycle, at least 0.

    Returns:
      A `Schedule` of the momentum, or of Adam's first beta.

    Raises:
      ValueError: if a concrete number is out of its range, or an option is unknown.

    Example:
      >>> schedule = lrax.compat.torch.CyclicMomentum(base_lr=0.01, max_lr=0.1, step_size_up=2)
      >>> print(schedule.values(5).round(2))
      [0.9 0.85 0.8 0.85 0.9 ]
    """
    momenta = nonnegative(base_momentum=base_momentum, max_momentum=max_momentum)
    low, high = momenta.values()
    _require.choice("mode", mode, ("triangular", "triangular2", "exp_range"))
    factor = nonnegative(gamma=gamma)["gamma"]
    same: dict[str, Any] = {
        "step_size_up": step_size_up,
        "step_size_down": step_size_down,
        "mode": mode,
        "gamma": gamma,
        "scale_fn": scale_fn,
        "scale_mode": scale_mode,
    }
    if scale_fn is None and (mode != "exp_range" or _may_be_at_most(factor, 1)):
        return link(CyclicLR(base_lr=0.0, max_lr=1.0, **same), at_low=high, at_high=low)
    return CyclicLR(base_lr=high, max_lr=low, **same)


def _may_be_at_most(low: Number, high: Number) -> bool:
    """Whether `low <= high` is true, or is not known before the program runs."""
    return not (is_concrete(low) and is_concrete(high)) or bool(low <= high)
