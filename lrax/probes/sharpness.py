"""`sharpness`: the largest eigenvalue of the Hessian, by products with vectors."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
from jax import lax, numpy as jnp
from jax.core import Tracer

from .. import _require
from .losses import Loss, Params, Tree, dot, real_tree, rounded, same_shapes, scalar, widened

Outputs = Any
Product = Callable[[Tree], Tree]  # a symmetric matrix times a vector


def sharpness(
    loss: Loss,
    params: Params,
    *,
    preconditioner: Tree | None = None,
    key: jax.Array,
    steps: int = 20,
    model: Callable[[Params], Outputs] | None = None,
    low_memory: bool = False,
) -> jax.Array:
    r"""The largest eigenvalue of the Hessian of a loss, or of the preconditioned Hessian.

    $$\lambda_{\max}(P^{-1/2} H P^{-1/2}), \qquad H = \nabla^2 L(\theta), \qquad P = I
      \text{ by default}$$

    Gradient descent with a rate above 2 / sharpness is unstable; `max_stable_rate` has the limits
    of other optimizers. For Adam and other adaptive optimizers the preconditioned sharpness counts:
    pass `preconditioner=lrax.probes.preconditioner(opt_state)`. The limit is not a recommended
    rate. If the sharpness falls during training, the limit does not even bound a search: after the
    first update of Adam, whose second moments are then those of one gradient, the limit was less
    than half of the best rate on two small tasks (`python -m tests.benchmarks.curvature`).

    The method is Lanczos with full reorthogonalisation. It computes one gradient, and then in each
    step one product of the Hessian with a vector, which costs as much as 2 to 3 gradients. The
    default of 20 steps is exact to 1 % or better if the largest eigenvalue is well separated from
    the others, as it is in training. Power iteration would find the eigenvalue of largest
    magnitude, which may be negative. With few steps the estimate may be too low, but never too
    high.

    It misleads in these cases. The sharpness of one batch is larger than that of all data: use a
    large batch. A loss that draws random numbers must use the same key in every call. The Hessian
    does not see the kinks of networks with ReLU; `critical_rate` does. A negative sharpness means
    that no direction has a positive curvature. Parameters in bfloat16 give two digits.

    Args:
      loss: Function of the parameters that returns a scalar, or `(scalar, aux)`. It must have two
        derivatives, one of them in forward mode, which a `jax.custom_vjp` does not have.
      params: The parameters, any pytree of floating-point arrays.
      preconditioner: A tree P of positive numbers, of the structure and shapes of `params`, or None
        for 1.
      key: A random key of JAX, from which the start vector is drawn.
      steps: Steps of the method, at least 1. 20 is a good default, 40 if you need more digits.
      model: Function of the parameters that returns outputs, any pytree of floating-point arrays;
        or None. With a model, `loss` must be a function of these outputs, and H is replaced by the
        Gauss-Newton matrix J^T (d2 loss / d outputs2) J. For a loss that is convex in the outputs,
        that matrix has no negative eigenvalues.
      low_memory: Whether to keep only 3 vectors of the size of the parameters, instead of `steps`
        vectors. There is no reorthogonalisation then, which the largest eigenvalue does not need.

    Returns:
      A scalar: NaN if the Hessian is not finite, 0 if all arrays of `params` are empty. It cannot
      be differentiated in reverse mode.

    Raises:
      ValueError: if `params` or the outputs of `model` have no arrays, `preconditioner` does not
        have the structure and shapes of `params`, a concrete number in it is not positive, or
        `steps` is below 1.
      TypeError: if an argument is not as described, or `loss` does not return a real scalar or
        (scalar, aux).

    Example:
      >>> loss = lambda params: jnp.sum(jnp.array([1.0, 2.0, 5.0]) * params**2) / 2
      >>> print(lrax.probes.sharpness(loss, jnp.zeros(3), key=jax.random.key(0)))
      5.0

      As a monitor, with `record_every=` because it costs about 50 gradients:

      >>> task = lrax.tasks.diabetes()
      >>> sharp = lambda step: lrax.probes.sharpness(
      ...     lambda params: task.loss(params, step.batch), step.params, key=step.key
      ... )
      >>> train = lrax.train(task, optax.sgd, steps=4, monitors={"sharp": sharp}, record_every=2)
      >>> train(0.01, jax.random.key(0)).monitors["sharp"].shape
      (2,)

    Reference:
      Cohen et al., "Gradient descent on neural networks typically occurs at the edge of stability",
      arXiv 2103.00065; "Adaptive gradient methods at the edge of stability", arXiv 2207.14484.
    """
    steps = _require.count("steps", steps, 1)
    _require.flag("low_memory", low_memory)
    _require.key("key", key)
    params = real_tree("params", params)
    start = _normal(key, widened(params))
    product = _hessian(loss, params) if model is None else _gauss_newton(loss, model, params)
    if preconditioner is not None:
        product = _preconditioned(product, _positive(preconditioner, params))
    size = sum(leaf.size for leaf in jax.tree.leaves(params))
    if not size:  # there is no direction to have a curvature
        return jnp.zeros_like(dot(start, start))
    # More steps than parameters would find nothing new.
    return _largest(product, start, min(steps, size), keep=not low_memory)


def directional_sharpness(loss: Loss, params: Params) -> jax.Array:
    r"""The curvature of a loss along its gradient.

    $$g^\top H g / g^\top g$$

    Use it where `sharpness` is too expensive: it costs about 3 gradients. It is at most the
    sharpness, and in training with a large rate it comes close to the sharpness in the end. On a
    quadratic loss, 1 / `directional_sharpness` is the rate of the best single step along this
    gradient, and twice that rate is the `critical_rate`. The best single step is greedy: a good
    rate for a whole run is often smaller.

    It misleads as `sharpness` does: it is the curvature for one batch, and does not see kinks.

    Args:
      loss: Function of the parameters that returns a scalar, or `(scalar, aux)`.
      params: The parameters, any pytree of floating-point arrays.

    Returns:
      A scalar: 0 if the gradient is zero.

    Raises:
      ValueError: if `params` has no arrays.
      TypeError: if an argument is not as described, or `loss` does not return a real scalar or
        (scalar, aux).

    Example:
      >>> loss = lambda params: jnp.sum(jnp.array([1.0, 3.0]) * params**2) / 2
      >>> print(lrax.probes.directional_sharpness(loss, jnp.array([1.0, 0.0])))
      1.0

    Reference:
      Pan and Li, "Toward understanding why Adam converges faster than SGD for transformers", arXiv
      2306.00204.
    """
    params = real_tree("params", params)
    gradient, product = _gradient(loss, params)
    # The gradient is divided by its largest entry first. Otherwise the square of a small one would
    # be rounded to 0.
    leaves = jax.tree.leaves(gradient)
    largest = jnp.max(jnp.stack([jnp.max(jnp.abs(leaf), initial=0) for leaf in leaves]))
    divisor = jnp.where(largest == 0, 1, largest)
    scaled = jax.tree.map(lambda leaf: leaf / divisor.astype(leaf.dtype), gradient)
    square = jnp.where(largest == 0, 1, dot(scaled, scaled))
    return dot(scaled, product(scaled)) / square


def _gradient(loss: Loss, params: Params) -> tuple[Tree, Product]:
    """The gradient, and the function that multiplies the Hessian by a vector."""
    value = scalar(loss)
    # The product takes and returns vectors in float32 or better. The loss expects parameters in
    # their own dtypes, so they are rounded back before it is called.
    return jax.linearize(jax.grad(lambda wide: value(rounded(wide, params))), widened(params))


def _hessian(loss: Loss, params: Params) -> Product:
    return _gradient(loss, params)[1]


def _gauss_newton(loss: Loss, model: Any, params: Params) -> Product:
    if not callable(model):
        raise TypeError(f"`model` must be a function of the parameters or None, got {model!r}")
    value = scalar(loss)
    outputs, forward = jax.linearize(lambda wide: model(rounded(wide, params)), widened(params))
    backward = jax.linear_transpose(forward, widened(params))
    _, curvature = jax.linearize(jax.grad(value), real_tree("model", outputs))
    return lambda vector: backward(curvature(forward(vector)))[0]


def _preconditioned(product: Product, preconditioner: Tree) -> Product:
    root = jax.tree.map(lax.rsqrt, widened(preconditioner))
    scaled = lambda vector: jax.tree.map(jnp.multiply, root, vector)
    return lambda vector: scaled(product(scaled(vector)))


def _positive(preconditioner: Any, params: Params) -> Tree:
    tree = same_shapes("preconditioner", preconditioner, params)
    for leaf in jax.tree.leaves(tree):
        if isinstance(leaf, Tracer):
            continue
        # Compared on the device, because the tree is as large as the parameters. The context keeps
        # the comparison concrete if the caller traces a function that closes over the tree.
        with jax.ensure_compile_time_eval():
            positive = bool(jnp.all(leaf > 0))
        if not positive:
            raise ValueError(
                "`preconditioner` must be positive, got numbers that are zero, negative or NaN"
            )
    return tree


def _largest(product: Product, start: Tree, steps: int, keep: bool) -> jax.Array:
    """The largest eigenvalue of a symmetric matrix in the Krylov space of a vector.

    The Lanczos method finds the entries of a tridiagonal matrix, whose eigenvalues approach those
    of the matrix.
    """
    dtype = dot(start, start).dtype
    tiny = 100 * jnp.finfo(dtype).eps  # a relative size below which a remainder is only rounding

    def step(carry: Any, index: jax.Array) -> Any:
        basis, vector, last, off_diagonal, scale = carry
        if keep:
            basis = jax.tree.map(lambda rows, row: rows.at[index].set(row), basis, vector)
        image = product(vector)
        diagonal = dot(image, vector)
        image = _minus(image, diagonal, vector)
        image = _minus(image, off_diagonal, last)
        if keep:
            image = _orthogonal(_orthogonal(image, basis), basis)  # twice, against rounding
        norm = _norm(image)
        scale = jnp.maximum(scale, jnp.maximum(jnp.abs(diagonal), norm))
        # If only rounding is left, the space is exhausted. Then all further vectors are zero.
        off_diagonal = jnp.where(norm <= tiny * scale, 0.0, norm)
        is_exhausted = off_diagonal == 0
        factor = jnp.where(is_exhausted, 0.0, 1 / jnp.where(is_exhausted, 1.0, off_diagonal))
        carry = (basis, _times(factor, image), vector, off_diagonal, scale)
        alive = dot(vector, vector) > 0
        return carry, (diagonal, off_diagonal, alive)

    unit = _times(1 / _norm(start), start)
    zero = jax.tree.map(jnp.zeros_like, start)
    rows = lambda leaf: jnp.zeros((steps, *leaf.shape), leaf.dtype)
    basis = jax.tree.map(rows, start) if keep else None
    nothing = jnp.zeros([], dtype)
    carry = (basis, unit, zero, nothing, nothing)
    diagonal, off_diagonal, alive = lax.scan(step, carry, jnp.arange(steps))[1]
    # After the space is exhausted, the diagonal is 0, which is too large if all eigenvalues are
    # negative. It is replaced by the first diagonal, the quadratic form at a unit vector, which is
    # at most the largest eigenvalue.
    diagonal = jnp.where(alive, diagonal, diagonal[0])
    finite = jnp.all(jnp.isfinite(diagonal)) & jnp.all(jnp.isfinite(off_diagonal))
    # Not `eigvalsh`: it calls LAPACK, and sweeps hung when two calls ran at once (jaxlib 0.10.2).
    largest = jax.scipy.linalg.eigh_tridiagonal(
        jnp.where(finite, diagonal, 0.0),
        jnp.where(finite, off_diagonal[:-1], 0.0),  # the last entry would need one more step
        eigvals_only=True,
        select="i",
        select_range=(steps - 1, steps - 1),
    )[0]
    return jnp.where(finite, largest, jnp.nan)


def _normal(key: jax.Array, like: Tree) -> Tree:
    leaves, structure = jax.tree.flatten(like)
    keys = jax.random.split(key, len(leaves))
    pairs = zip(keys, leaves, strict=True)
    return structure.unflatten([jax.random.normal(k, leaf.shape, leaf.dtype) for k, leaf in pairs])


def _times(factor: jax.Array, tree: Tree) -> Tree:
    return jax.tree.map(lambda leaf: factor.astype(leaf.dtype) * leaf, tree)


def _minus(tree: Tree, factor: jax.Array, direction: Tree) -> Tree:
    return jax.tree.map(lambda a, b: a - factor.astype(a.dtype) * b, tree, direction)


def _norm(tree: Tree) -> jax.Array:
    return jnp.sqrt(dot(tree, tree))


def _orthogonal(vector: Tree, basis: Tree) -> Tree:
    """The vector without its components along the rows of the basis. Rows of zeros do nothing."""
    # By default a TPU rounds the factors of products to bfloat16, and a GPU may round to TF32.
    product = functools.partial(jnp.tensordot, precision=lax.Precision.HIGHEST)
    products = jax.tree.map(lambda rows, leaf: product(rows, leaf, leaf.ndim), basis, vector)
    along = jnp.asarray(sum(jax.tree.leaves(products)))
    return jax.tree.map(
        lambda leaf, rows: leaf - product(along.astype(leaf.dtype), rows, 1), vector, basis
    )
