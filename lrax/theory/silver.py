"""The silver step sizes: the best known for convex losses without momentum."""

from __future__ import annotations

import numpy as np
from jax import lax, numpy as jnp
from jax.typing import ArrayLike

from .. import _require
from ..schedules.builders import builder
from ..schedules.schedule import Schedule, Static
from .chebyshev import cycle, position

_RATIO = 1 + np.sqrt(2)  # the silver ratio
_SIZES = 1 + _RATIO ** (np.arange(32) - 1.0)  # by the number of times that 2 divides k


def silver(smoothness: ArrayLike, steps: int) -> Schedule:
    r"""The silver step sizes, which make gradient descent faster without momentum.

    $$\eta_k = \frac{1 + \rho^{\nu(k) - 1}}{L}, \quad \rho = 1 + \sqrt{2}, \quad k = 1, ..., n$$

    for `smoothness` $L$ and `steps` $n$, where $2^{\nu(k)}$ is the largest power of 2 that divides
    $k$: $\sqrt 2, 2, \sqrt 2, 2 + \sqrt 2, \sqrt 2, 2, ...$ over $L$. Use it for gradient descent
    with the full batch on a smooth convex loss, such as logistic regression. After $n$ steps the
    loss is above its minimum by at most a multiple of $L D^2 / n^{1.27}$, for the distance $D$ from
    the minimum; with a constant rate of $1 / L$ it is $L D^2 / (4n + 2)$. The guarantee is for $n$
    one below a power of 2. The loss may rise in between, because many steps are above the limit
    $2 / L$ of a constant rate. After `steps` updates the steps begin again.

    Args:
      smoothness: Lipschitz constant of the gradient, above 0: the largest curvature.
      steps: Number of step sizes, an int of at least 1; best is 2^m - 1.

    Returns:
      A `Schedule`.

    Raises:
      ValueError: if a concrete number is out of its range.
      TypeError: if `steps` is not an int.

    Example:
      >>> schedule = lrax.theory.silver(smoothness=1.0, steps=7)
      >>> print(np.asarray(schedule.values(7)).round(3))
      [1.414 2.    1.414 3.414 1.414 2.    1.414]

    Reference:
      Altschuler, Parrilo. Acceleration by Stepsize Hedging II: Silver Stepsize Schedule for Smooth
      Convex Optimization. 2023, arXiv:2309.16530.
    """
    hyperparams = _require.real(smoothness=smoothness)
    _require.positive(hyperparams, "smoothness")
    length = Static(_require.count("steps", steps, 1))
    return Schedule(_silver, {**hyperparams, "steps": length})


@builder(silver, name="theory.silver", landmarks=cycle)
def _silver(count, smoothness, steps):
    k = position(count, steps) + 1
    # 2 divides k as often as there are bits below the lowest bit that is set.
    times = lax.population_count((k & -k) - 1)
    return jnp.asarray(_SIZES, _require.float_dtype())[times] / smoothness
