"""The step sizes of Chebyshev: the best for quadratic losses."""

from __future__ import annotations

import functools

import numpy as np
from jax import numpy as jnp
from jax.typing import ArrayLike

from .. import _require
from ..schedules.builders import builder
from ..schedules.counts import divided
from ..schedules.landmarks import Known, Landmarks
from ..schedules.schedule import Schedule, Static

_MOST_STEPS = 2**24  # all step sizes are kept in a table


def chebyshev(mu: ArrayLike, smoothness: ArrayLike, steps: int) -> Schedule:
    r"""The step sizes that reduce a quadratic loss most in a given number of steps.

    $$\frac{1}{\eta_k} = \frac{L + \mu}{2} - \frac{L - \mu}{2} \cos \frac{(2k - 1) \pi}{2n},
      \quad k = 1, ..., n$$

    for `smoothness` $L$ and `steps` $n$. Use it for gradient descent with the full batch on a
    quadratic loss, such as ridge regression, whose curvatures are between `mu` and `smoothness`.
    After $n$ steps each error is at most $1 / T_n((L + \mu) / (L - \mu))$ of what it was, with the
    Chebyshev polynomial $T_n$; no other step sizes do better. Gradient descent with a constant rate
    needs about the square of that many steps. On a loss that is not quadratic it may diverge.

    In exact arithmetic the order of the steps does not matter. In floating point, parameters
    overflow if the steps descend, and the last steps multiply rounding errors if they ascend. So
    the steps come in a stable, fractal order: large and small ones alternate, on each scale of
    time. After `steps` updates they begin again.

    Args:
      mu: The least curvature, at least 0.
      smoothness: The largest curvature, above 0 and at least `mu`. A value that is too large costs
        steps; one that is too small makes the loss diverge.
      steps: Number of step sizes, an int from 1 to 2^24.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is out of its range.
      TypeError: if `steps` is not an int.

    Example:
      >>> schedule = lrax.theory.chebyshev(mu=1.0, smoothness=10.0, steps=4)
      >>> schedule
      theory.chebyshev(mu=1, smoothness=10, steps=4)
      >>> print(np.asarray(schedule.values(4)).round(3))
      [0.745 0.104 0.265 0.138]

    Reference:
      Agarwal, Goel, Zhang. Acceleration via Fractal Learning Rate Schedules. 2021,
      arXiv:2103.01338.
    """
    hyperparams = _require.real(mu=mu, smoothness=smoothness)
    _require.nonnegative(hyperparams, "mu")
    _require.positive(hyperparams, "smoothness")
    _require.at_most(
        "`mu` must be at most `smoothness`", hyperparams["mu"], hyperparams["smoothness"]
    )
    length = Static(_require.count("steps", steps, 1, _MOST_STEPS))
    return Schedule(_chebyshev, {**hyperparams, "steps": length})


def cycle(known: Known) -> Landmarks:
    """The landmarks of step sizes that begin again: the end of the first cycle."""
    return Landmarks(float(known.words["steps"]), False)


@builder(chebyshev, name="theory.chebyshev", landmarks=cycle)
def _chebyshev(count, mu, smoothness, steps):
    # The curvatures that the steps cancel. Half angles, because a difference of two cosines would
    # not be exact for the smallest curvatures, whose steps are the largest.
    part = jnp.asarray(_parts(steps), _require.float_dtype())[position(count, steps)]
    return 1 / (mu + (smoothness - mu) * part)


def position(count, steps):
    """The index of an update within its cycle."""
    _, index = divided(jnp.maximum(count, 0), steps)
    return index.astype(jnp.int32)


@functools.lru_cache(maxsize=16)
def _parts(steps: int) -> np.ndarray:
    """The roots of the Chebyshev polynomial, moved from [-1, 1] to [0, 1], in the stable order."""
    return np.sin((_order(steps) + 0.5) / steps * (np.pi / 2)) ** 2


def _order(steps: int) -> np.ndarray:
    """The fractal order of `0, ..., steps - 1`: each number is followed by its mirror image."""
    if steps == 1:
        return np.zeros(1, np.int64)
    half = _order((steps + 1) // 2)
    pairs = np.stack([half, steps - 1 - half], axis=1)
    # If `steps` is odd, the middle number is its own mirror image.
    twice = pairs[:, 0] == pairs[:, 1]
    return np.delete(pairs.ravel(), 2 * np.flatnonzero(twice) + 1)
