"""The constants of a loss on which step sizes with a guarantee depend."""

from __future__ import annotations

import jax
import numpy as np
from jax import numpy as jnp
from jax.core import Tracer
from jax.flatten_util import ravel_pytree
from jax.typing import ArrayLike

from .. import _require
from ..probes.losses import Loss, Params, real_tree, scalar, widened
from ..probes.sharpness import sharpness

SMALL = 256  # up to this many parameters, the whole Hessian is computed


def smoothness(
    loss: Loss,
    params: Params,
    *,
    radius: ArrayLike = 0.0,
    samples: int = 8,
    key: jax.Array | None = None,
    steps: int = 20,
) -> jax.Array:
    r"""The largest curvature of a loss in a region, as an estimate of its smoothness.

    $$L = \max_{\theta} \lambda_{\max}(\nabla^2 \ell(\theta))$$

    over `params` and random points at the distance `radius`. Use it for 1 / L, the constant rate of
    gradient descent with a guarantee, for `theory.silver` and for `theory.chebyshev`. The loss must
    be that of all examples. For least squares every point has the same curvature, and for logistic
    regression zero parameters have the largest one, so the default `radius` of 0 is enough. For
    other losses take the distance that training will move the parameters. Then the result is an
    estimate from below, because between the points the curvature may be larger.

    With up to 256 parameters the Hessian is computed as a whole, and the eigenvalue is exact. With
    more it is that of `lrax.probes.sharpness`, which may be too low but is never too high.

    Args:
      loss: Function of the parameters that returns a scalar, or `(scalar, aux)`, with two
        derivatives.
      params: The center of the region, any pytree of floating-point arrays.
      radius: Distance of the other points, at least 0.
      samples: Number of the other points, at least 1; there are none if `radius` is 0.
      key: A random key of JAX, by default `jax.random.key(0)`.
      steps: Steps of Lanczos' method at each point, at least 1, with more than 256 parameters.

    Returns:
      A scalar. NaN if a Hessian is not finite.

    Raises:
      ValueError: if a number is out of its range, or `params` has no arrays.
      TypeError: if an argument is not as described.

    Example:
      >>> loss = lambda params: jnp.sum(jnp.array([1.0, 2.0, 5.0]) * params**2) / 2
      >>> print(lrax.theory.smoothness(loss, jnp.zeros(3)))
      5.0

    Reference:
      Nesterov. Lectures on Convex Optimization. 2018, section 1.2.
    """
    return _extreme(loss, params, radius, samples, key, steps, sign=1.0)


def strong_convexity(
    loss: Loss,
    params: Params,
    *,
    radius: ArrayLike = 0.0,
    samples: int = 8,
    key: jax.Array | None = None,
    steps: int = 20,
) -> jax.Array:
    r"""The least curvature of a loss in a region, as an estimate of its strong convexity.

    $$\mu = \min_{\theta} \lambda_{\min}(\nabla^2 \ell(\theta))$$

    over `params` and random points at the distance `radius`. Use it beside `smoothness`:
    2 / (L + mu) is the best constant rate of gradient descent on a strongly convex loss, and
    `theory.chebyshev` needs both. For ridge regression and for logistic regression with a penalty
    of `c / 2` times the squared norm, mu is at least `c`, which is safer than an estimate. A
    negative result says that the loss is not convex there.

    With up to 256 parameters the eigenvalue is exact. With more, Lanczos' method may find one that
    is too high, and seldom comes close if many eigenvalues lie near the least: take more `steps`.

    Args:
      loss: Function of the parameters that returns a scalar, or `(scalar, aux)`, with two
        derivatives.
      params: The center of the region, any pytree of floating-point arrays.
      radius: Distance of the other points, at least 0.
      samples: Number of the other points, at least 1; there are none if `radius` is 0.
      key: A random key of JAX, by default `jax.random.key(0)`.
      steps: Steps of Lanczos' method at each point, at least 1, with more than 256 parameters.

    Returns:
      A scalar. NaN if a Hessian is not finite.

    Raises:
      ValueError: if a number is out of its range, or `params` has no arrays.
      TypeError: if an argument is not as described.

    Example:
      >>> loss = lambda params: jnp.sum(jnp.array([1.0, 2.0, 5.0]) * params**2) / 2
      >>> print(lrax.theory.strong_convexity(loss, jnp.zeros(3)))
      1.0

    Reference:
      Nesterov. Lectures on Convex Optimization. 2018, section 2.1.
    """
    return -_extreme(loss, params, radius, samples, key, steps, sign=-1.0)


def _extreme(loss, params, radius, samples, key, steps, sign):
    """The largest eigenvalue of the Hessian times `sign`, over all points."""
    value = scalar(loss)
    params = real_tree("params", params)
    given = _require.real(radius=radius)
    if np.ndim(given["radius"]):
        raise ValueError(f"`radius` must be one number, got {radius}")
    _require.nonnegative(given, "radius")
    samples = _require.count("samples", samples, 1)
    steps = _require.count("steps", steps, 1)
    key = jax.random.key(0) if key is None else _require.key("key", key)
    center, unravel = ravel_pytree(widened(params))
    points_key, lanczos_key = jax.random.split(key)
    points = center[None]
    if isinstance(radius, Tracer) or np.any(given["radius"]):
        directions = jax.random.normal(points_key, (samples, len(center)), center.dtype)
        directions /= jnp.linalg.norm(directions, axis=1, keepdims=True)
        others = points + jnp.asarray(given["radius"], center.dtype) * directions
        points = jnp.concatenate([points, others])
    like = jax.tree.map(lambda leaf: leaf.dtype, params)

    def at(flat):
        tree = jax.tree.map(lambda leaf, dtype: leaf.astype(dtype), unravel(flat), like)
        return sign * value(tree)

    def largest(point):
        if len(center) > SMALL:
            return sharpness(at, point, key=lanczos_key, steps=steps)
        hessian = jax.hessian(at)(point)
        finite = jnp.all(jnp.isfinite(hessian))
        return jnp.where(finite, jnp.linalg.eigvalsh(jnp.where(finite, hessian, 0))[-1], jnp.nan)

    return jnp.max(jax.lax.map(largest, points))
