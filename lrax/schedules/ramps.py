"""Ramps from one rate to another: of any shape, and for a learning rate range test."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jax.typing import ArrayLike

from .. import _require
from .builders import builder
from .concrete import library
from .counts import minus, plus
from .schedule import Schedule, Static
from .shapes import INCLUSIVE, as_shape, between


def ramp(
    start: ArrayLike,
    end: ArrayLike,
    steps: ArrayLike,
    *,
    shape: str | Callable[[Any], Any] = "linear",
    inclusive: str = "left",
    begin: ArrayLike = 0,
) -> Schedule:
    r"""A ramp from `start` to `end` over `steps` steps, of any shape, on any grid of points.

    Before the ramp the rate is `start`, after the ramp it is `end`.

    $$\eta(t) = \text{start} \cdot s(p) + \text{end} \cdot (1 - s(p)), \quad
    p = \frac{t - \text{begin} + a}{\text{steps} + b} \in [0, 1]$$

    where the weight $s(p)$ falls from 1 to 0 by `shape`, as under `lrax.wsd`. Frameworks differ
    most in whether the first step of a phase is at `start`, and whether the last one is at `end`.
    Here one argument decides both, in pandas' words ("one" in the table is one step of the ramp):

    | `inclusive` | (a, b) | rate of the first step | of the last step | as in |
    |---|---|---|---|---|
    | `"left"` | (0, 0) | `start` | one short of `end` | Optax, PyTorch, transformers, timm, Keras |
    | `"both"` | (0, -1) | `start` | `end` | MaxText, PyTorch's one-cycle |
    | `"right"` | (1, 0) | one past `start` | `end` | transformers' `cosine_warmup_with_min_lr` |
    | `"neither"` | (1, 1) | one past `start` | one short of `end` | torchtitan, NeMo's warmup |

    Use it for a phase that no other builder has, and join phases with `lrax.join`. As a warmup,
    `inclusive="right"` or `"neither"` does not waste the first update on a rate of 0.

    Args:
      start: Rate at the start, at least 0.
      end: Rate at the end, at least 0.
      steps: Length in optimizer updates, at least 0; with 0 the rate jumps to `end` at `begin`.
      shape: `"linear"`, `"cosine"`, `"1-sqrt"`, `"sqrt"`, `"1-square"`, `"square"`, `"exp2"`,
        `"exp10"`, `"rex"` or `"log"`, as under `lrax.wsd`; `"geometric"`, by which the logarithm
        of the rate changes linearly; `"inverse"`, by which the reciprocal of the rate changes
        linearly; or a function of p, the fraction of the steps that are done, that returns the
        fraction of the way from `start` to `end`. Both are in [0, 1]. The numbers in a
        `jax.tree_util.Partial` become leaves of the schedule.
      inclusive: `"left"`, `"both"`, `"right"` or `"neither"`.
      begin: Number of updates before the ramp, at least 0.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is negative, infinite or NaN, or a word is unknown.

    Example:
      >>> for inclusive in ["left", "both", "right", "neither"]:
      ...     print(lrax.ramp(start=0.0, end=1.0, steps=4, inclusive=inclusive).values(6).round(2))
      [0.   0.25 0.5  0.75 1.   1.  ]
      [0.   0.33 0.67 1.   1.   1.  ]
      [0.25 0.5  0.75 1.   1.   1.  ]
      [0.2 0.4 0.6 0.8 1.  1. ]
    """
    hyperparams = _require.real(start=start, end=end, steps=steps, begin=begin)
    _require.nonnegative(hyperparams, "start", "end", "steps", "begin")
    _require.choice("inclusive", inclusive, INCLUSIVE)
    words = {"shape": as_shape("shape", shape), "inclusive": Static(inclusive)}
    return Schedule(_ramp, {**hyperparams, **words})


@builder(ramp)
def _ramp(count, start, end, steps, shape, inclusive, begin):
    before, longer = INCLUSIVE[inclusive]
    # A ramp of length 0 jumps at `begin` on every grid, so nothing is added to its length.
    some = library(steps).where(steps > 0, 1.0, 0.0)
    before, longer = some * before, some * longer
    since = minus(count, begin)
    # The length of the grid, `steps + longer`, less the steps done, `since + before`.
    left = plus(minus(steps, since), longer - before)
    return between(start, end, plus(since, before), left, steps + longer, shape)


def range_ramp(
    start: ArrayLike, end: ArrayLike, steps: ArrayLike, *, inclusive: str = "left"
) -> Schedule:
    r"""The ramp of a learning rate range test: each rate is the previous one times a constant.

    $$\eta(t) = \text{start}^{1 - p} \, \text{end}^p, \quad
    p = \min\left(\frac{t}{\text{steps} + b}, 1\right)$$

    | `inclusive` | b | rate of the last step | as in |
    |---|---|---|---|
    | `"left"` | 0 | one short of `end` | fastai |
    | `"both"` | -1 | `end` | torch-lr-finder |

    Use it for a range test in a training loop of your own: record the loss of each update, and give
    rates and losses to `lrax.suggest`. `lrax.range_test` does all of it for a `lrax.Task`. The
    rates 1e-7 to 10 in 100 steps suit most optimizers. After the ramp the rate is held at `end`.

    Args:
      start: Rate of the first update, above 0.
      end: Rate at the end, above 0. If it is below `start`, the ramp falls.
      steps: Length in optimizer updates, at least 0; with 0 the rate is `end`.
      inclusive: `"left"` or `"both"`: whether the last step is at `end`.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if `start` or `end` is not finite and positive, `steps` is not finite and
        non-negative, or `inclusive` is another word.

    Example:
      >>> for inclusive in ["left", "both"]:
      ...     print(lrax.range_ramp(1e-3, 10.0, steps=5, inclusive=inclusive).values(5).round(4))
      [0.001  0.0063 0.0398 0.2512 1.5849]
      [1.e-03 1.e-02 1.e-01 1.e+00 1.e+01]

    Reference:
      Smith. Cyclical Learning Rates for Training Neural Networks. 2015, arXiv:1506.01186.
    """
    hyperparams = _require.real(start=start, end=end, steps=steps)
    _require.positive(hyperparams, "start", "end")
    _require.nonnegative(hyperparams, "steps")
    _require.choice("inclusive", inclusive, ("left", "both"))
    return Schedule(_range_ramp, {**hyperparams, "inclusive": Static(inclusive)})


@builder(range_ramp)
def _range_ramp(count, start, end, steps, inclusive):
    return _ramp(count, start, end, steps, "geometric", inclusive, 0.0)
