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
    r"""Several schedules, also of different formulas, as one with a lane axis in front.

    $$\eta_l(t) = \text{schedules}_l(t)$$

    Use it to train with all of them side by side. Under `jax.vmap` over its leaves, lane `l` has
    the schedule `schedules[l]`. Called directly, it gives the rates of all lanes. Each lane
    evaluates every distinct formula, so keep the formulas few; the schedules may be many.

    Args:
      schedules: One or more: each a `Schedule`, number or function of the count.

    Returns:
      A `Schedule` with the lanes in front: `schedule(count)` has the shape `[lanes]`,
      `schedule.values(steps)` `[lanes, steps]`.

    Raises:
      ValueError: if there is no schedule.
      TypeError: if an entry is neither a `Schedule` nor a number nor a function.

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
    # Each kind is evaluated in every lane. In the lanes of other kinds it gets the numbers of its
    # own first lane. They are valid, so that a rate that is not chosen is not NaN either.
    stacked = []
    for kind in kinds:
        first = lanes[structures.index(kind)]
        fill = [
            lane if structure == kind else first
            for lane, structure in zip(lanes, structures, strict=True)
        ]
        stacked.append(jax.tree.map(_stack_leaves, *fill))
    # A float, because `jax.grad` refuses a pytree with a leaf of integers.
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
    # By NumPy where possible, so that no device is touched.
    of = jnp if any(isinstance(leaf, jax.Array) for leaf in leaves) else np
    return of.stack(leaves)
