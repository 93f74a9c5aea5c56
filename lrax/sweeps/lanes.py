"""`Lanes`: what all lanes of a sweep ended with."""

from typing import Any, NamedTuple

import jax
import numpy as np
from jax import numpy as jnp

from .best import Params, State

Kept = Any  # the state of all lanes, as a checkpoint has it


class Lanes(NamedTuple):
    """What every lane ended with: pytrees of arrays `[points, seeds, ...]`.

    A point that was stopped before the end has NaN, and 0 in arrays of integers.
    """

    params: Params
    state: State  # of the model; None if the task is stateless
    opt_state: State

    def at(self, point: int, seed: int) -> "Lanes":
        """One of the lanes: the same pytrees without the two axes."""
        return jax.tree.map(lambda leaf: leaf[point, seed], self)


def lanes_of(kept: Kept, like: Lanes) -> Lanes:
    """The lanes in the state that a sweep kept, with the structure of one lane."""
    structure = jax.tree.structure(like)
    # The kept state also has the run's signals, as its last leaves. They are not read.
    leaves = [kept.arrays[f"lanes/{i}"] for i in range(structure.num_leaves)]
    # There is a row for each point in `placed`. Some of these points may have been stopped.
    rows = np.flatnonzero(kept.arrays["placed"])
    trained = kept.arrays["alive"][rows]
    points = len(kept.arrays["alive"])

    def everywhere(leaf: np.ndarray) -> np.ndarray:
        unknown = np.nan if jnp.issubdtype(leaf.dtype, jnp.inexact) else 0
        whole = np.full((points, *leaf.shape[1:]), unknown, leaf.dtype)
        whole[rows[trained]] = leaf[trained]
        return whole

    return structure.unflatten(map(everywhere, leaves))
