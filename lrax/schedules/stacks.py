"""Schedules of different formulas on one axis of lanes."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp
from jax.core import Tracer

from .. import _require
from .builders import builder
from .schedule import Schedule, several


def stack(schedules: Sequence[Any]) -> Schedule:
    r"""Several schedules, of different formulas too, as one with an axis of lanes in front.

    $$\eta_l(t) = \text{schedules}_l(t)$$

    Use it to train with all of them side by side: under `jax.vmap` over its leaves, each lane has
    the schedule of its own place. Called as it is, it gives the rates of all lanes. Each lane
    evaluates every formula that is there, so stack a handful of formulas, of as many schedules as
    you like.

    Args:
      schedules: One or more: each a `Schedule`, number or function of the count.

    Returns:
      A `Schedule` with the lanes in front: `schedule(count)` has the shape `[lanes]`,
      `schedule.values(steps)` `[lanes, steps]`.

    Raises:
      ValueError: if there is none.
      TypeError: if one is none of the three.

    Example:
      >>> line = lrax.linear(init=1.0, end=0.0, steps=4)
      >>> stacked = lrax.stack([line, lrax.cosine(peak=1.0, steps=4), 0.5])
      >>> print(stacked.values(5).round(2))
      [[1.   0.75 0.5  0.25 0.  ]
       [1.   0.85 0.5  0.15 0.  ]
       [0.5  0.5  0.5  0.5  0.5 ]]
      >>> each = jax.vmap(lambda schedule, count: schedule(count), in_axes=(0, None))
      >>> print(each(stacked, 1).round(2))
      [0.75 0.85 0.5 ]
    """
    lanes = several("stack", tuple(_require.listed("schedules", schedules)))
    structures = [_structure(lane) for lane in lanes]
    kinds = list(dict.fromkeys(structures))
    # Where a lane is of another kind, the numbers of a kind's first lane fill its place: they are
    # valid, so that what is not chosen has no NaN either.
    stacked = []
    for kind in kinds:
        first = lanes[structures.index(kind)]
        fill = [
            lane if structure == kind else first
            for lane, structure in zip(lanes, structures, strict=True)
        ]
        stacked.append(jax.tree.map(_stack_leaves, *fill))
    index = np.array([kinds.index(structure) for structure in structures], _require.float_dtype())
    return Schedule(_stack, {"schedules": tuple(stacked), "index": index})


def _lanes(hyperparams: dict[str, Any]) -> dict[str, Any]:
    """The arguments of `stack` that give these hyperparameters."""
    index, schedules = hyperparams["index"], hyperparams["schedules"]
    if isinstance(index, Tracer) or np.ndim(index) != 1:
        return hyperparams  # under a transformation, or one lane
    lanes = enumerate(np.asarray(index, int))
    return {
        "schedules": [jax.tree.map(lambda leaf, i=i: leaf[i], schedules[kind]) for i, kind in lanes]
    }


@builder(stack, shown=_lanes)
def _stack(count, schedules, index):
    rate = schedules[0](count)
    for i, schedule in enumerate(schedules[1:], 1):
        rate = jnp.where(index == i, schedule(count), rate)
    return rate


def _structure(schedule):
    """What lanes of one kind share: the formula and the shapes of its leaves."""
    leaves, structure = jax.tree.flatten(schedule)
    return structure, tuple(np.shape(leaf) for leaf in leaves)


def _stack_leaves(*leaves):
    # NumPy's, where it may be: no device is touched.
    of = jnp if any(isinstance(leaf, jax.Array) for leaf in leaves) else np
    return of.stack(leaves)
