"""Convolutions as matrix products: a function whose `conv_general_dilated`s are evaluated as slices and one product.

Lanes turn a convolution into a grouped one, which XLA runs slowly, inside a loop on a CPU most of all; a product with
one more batch dimension it runs well. The jaxpr is rewritten where it stands: one equation becomes another, in the
bodies of loops, branches and calls too, and custom derivative rules stay with their functions.
"""

import functools
import itertools
import math
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import lax
from jax.core import eval_jaxpr
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn

MAX_SLICES = 128  # a convolution that takes more is left to XLA: a large window over a large picture

_DTYPES = {"float16", "bfloat16", "float32", "float64", "complex64", "complex128"}
_DTYPES |= {f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}


def as_products(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that computes the same with slices and matrix products in place of convolutions.

    Use it on what one lane computes, below `jax.vmap`, as `jax.grad(as_products(loss))` or
    `as_products(jax.value_and_grad(loss))`. The latter sees the backward convolutions themselves, and those inside
    custom derivative rules, which the former leaves as they are. A convolution for which no product is good is kept,
    and a function without any keeps its jaxpr.

    Args:
      function: Function of pytrees of arrays that returns one.

    Returns:
      The function. Each call traces `function` once, so it belongs under `jax.jit`. Its results are those of `function`
      but for the order in which products are added.

    Example:
      >>> from lrax.sweeps.convolutions import as_products, has_convolutions
      >>> blur = lambda image, kernel: jax.lax.conv(image, kernel, (1, 1), "SAME")
      >>> image, kernel = jnp.ones((2, 3, 8, 8)), jnp.ones((4, 3, 3, 3))
      >>> has_convolutions(blur, image, kernel), has_convolutions(as_products(blur), image, kernel)
      (True, False)
    """

    @functools.wraps(function)
    def products(*args: Any, **kwargs: Any) -> Any:
        closed, shapes = jax.make_jaxpr(function, return_shape=True)(*args, **kwargs)
        leaves = eval_jaxpr(_rewrite(closed.jaxpr), closed.consts, *jax.tree.leaves((args, kwargs)))
        return jax.tree.unflatten(jax.tree.structure(shapes), leaves)

    return products


def has_convolutions(function: Callable[..., Any], *args: Any, **kwargs: Any) -> bool:
    """Whether a function, traced for such arguments (arrays or `jax.ShapeDtypeStruct`s), contains a convolution."""
    return next(convolutions(jax.make_jaxpr(function)(*args, **kwargs).jaxpr), None) is not None


def convolutions(jaxpr: Jaxpr) -> Iterator[JaxprEqn]:
    """The convolutions of a jaxpr and of all jaxprs inside it, loop bodies for instance."""
    for equation in jaxpr.eqns:
        if equation.primitive is lax.conv_general_dilated_p:
            yield equation
        for value in equation.params.values():
            for item in value if isinstance(value, (tuple, list)) else (value,):
                if isinstance(item, (Jaxpr, ClosedJaxpr)):
                    yield from convolutions(_open(item))


def _open(jaxpr: Jaxpr | ClosedJaxpr) -> Jaxpr:
    return jaxpr.jaxpr if isinstance(jaxpr, ClosedJaxpr) else jaxpr


# What is compiled is kept by the identity of a jaxpr, and those of jitted functions and loop bodies outlive a trace. So
# a rewritten one is kept as long as its original. None stands for the original itself.
_rewritten: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()


def _rewrite(jaxpr: Any) -> Any:
    """The jaxpr with products in it, or the same object if nothing is to be done."""
    if jaxpr not in _rewritten:
        if isinstance(jaxpr, ClosedJaxpr):
            inner = _rewrite(jaxpr.jaxpr)
            _rewritten[jaxpr] = None if inner is jaxpr.jaxpr else jaxpr.replace(jaxpr=inner)
        else:
            equations = [_rewrite_equation(equation) for equation in jaxpr.eqns]
            _rewritten[jaxpr] = jaxpr.replace(eqns=equations) if _differ(equations, jaxpr.eqns) else None
    found = _rewritten[jaxpr]
    return jaxpr if found is None else found


def _rewrite_equation(equation: JaxprEqn) -> JaxprEqn:
    if equation.primitive is lax.conv_general_dilated_p:
        return _as_product(equation)
    if equation.primitive.name == "shard_map":
        return equation  # what varies over its devices is known only where it is traced
    params = {name: _rewrite_param(value) for name, value in equation.params.items()}
    return equation.replace(params=params) if _differ(params.values(), equation.params.values()) else equation


def _rewrite_param(value: Any) -> Any:
    if isinstance(value, (Jaxpr, ClosedJaxpr)):
        return _rewrite(value)
    if isinstance(value, (tuple, list)):  # the branches of a cond, for instance
        items = [_rewrite_param(item) for item in value]
        if _differ(items, value):
            return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    return value


def _differ(new: Any, old: Any) -> bool:
    return any(a is not b for a, b in zip(new, old, strict=True))


def _as_product(equation: JaxprEqn) -> JaxprEqn:
    """The call of a jitted function in place of a convolution; the convolution itself if no product is good for it."""
    avals: list[Any] = [var.aval for var in (*equation.invars, *equation.outvars)]
    lhs, rhs, out = avals
    params = {**equation.params, "padding": _ints(equation.params["padding"])}
    if not _has_product(lhs, rhs, out, params):
        return equation
    call = _call(lhs, rhs, out.shape, tuple(sorted(params.items())))
    variables = {"invars": equation.invars, "outvars": equation.outvars}
    return call.replace(**variables, source_info=equation.source_info, ctx=equation.ctx)


def _ints(padding: Any) -> tuple[tuple[int, int], ...]:
    return tuple((int(low), int(high)) for low, high in padding)


def _has_product(lhs: Any, rhs: Any, out: Any, params: dict[str, Any]) -> bool:
    sizes = (*lhs.shape, *rhs.shape, *out.shape)
    if not all(isinstance(size, int) and size > 0 for size in sizes):
        return False  # empty, or with symbolic sizes
    if lhs.dtype != rhs.dtype or not {lhs.dtype.name, out.dtype.name} <= _DTYPES or out.weak_type:
        return False
    sharding = params.get("out_sharding")  # not None inside `shard_map`, where it says nothing
    if sharding is not None and any(axis is not None for axis in sharding.spec):
        return False
    window, places = _spatial(rhs.shape, params, 1), _spatial(out.shape, params, 2)
    return min(math.prod(window), math.prod(places)) <= MAX_SLICES


def _spatial(shape: tuple[int, ...], params: dict[str, Any], operand: int) -> tuple[int, ...]:
    return tuple(shape[axis] for axis in params["dimension_numbers"][operand][2:])


@functools.lru_cache(maxsize=1024)
def _call(lhs: Any, rhs: Any, out: tuple[int, ...], params: tuple[tuple[str, Any], ...]) -> JaxprEqn:
    def convolution_as_product(lhs, rhs):
        return _product(lhs, rhs, out, dict(params))

    (equation,) = jax.make_jaxpr(jax.jit(convolution_as_product))(lhs, rhs).jaxpr.eqns
    return equation


class _Window(NamedTuple):
    """How a window moves: for each spatial dimension, the parameters of `conv_general_dilated`."""

    taps: tuple[int, ...]  # the size of the window
    places: tuple[int, ...]  # the size of the output
    strides: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    lhs_dilation: tuple[int, ...]
    rhs_dilation: tuple[int, ...]


def _product(lhs: jax.Array, rhs: jax.Array, out: tuple[int, ...], params: dict[str, Any]) -> jax.Array:
    """A convolution: arranges the dimensions, and the groups as one more of them, for one of the three ways below."""
    specs = params["dimension_numbers"]
    names = ("window_strides", "padding", "lhs_dilation", "rhs_dilation")
    window = _Window(_spatial(rhs.shape, params, 1), _spatial(out, params, 2), *(params[name] for name in names))
    groups = max(params["feature_group_count"], params["batch_group_count"])
    if math.prod(window.places) < math.prod(window.taps):
        way, orders = _slice_by_place, ("c.n", "c.n", ".nc")
    elif math.prod(window.lhs_dilation) > math.prod(window.strides):
        way, orders = _add_by_tap, ("n.c", ".cn", "n.c")
    elif groups > 1 and groups == params["feature_group_count"] == rhs.shape[specs[1][0]] == lhs.shape[specs[0][1]]:
        way, orders = _multiply_by_tap, ("n.c", ".cn", "n.c")
    else:
        way, orders = _slice_by_tap, ("n.c", ".cn", "n.c")
    # A dimension of a spec is, in this order, n: of examples (of outputs, for the window), c: of features, .: of space.
    axes = [
        tuple(axis for name in order for axis in {"n": spec[:1], "c": spec[1:2], ".": spec[2:]}[name])
        for order, spec in zip(orders, specs, strict=True)
    ]
    # In full, for `jax_default_matmul_precision` was looked up when the convolution was traced, and may be another now.
    precision = lax.Precision.DEFAULT if params["precision"] is None else params["precision"]
    function = functools.partial(way, window=window, precision=precision, dtype=params["preferred_element_type"])
    lhs, rhs = lax.transpose(lhs, axes[0]), lax.transpose(rhs, axes[1])
    if groups > 1:
        split = specs[0][1] if params["feature_group_count"] > 1 else specs[0][0]
        at = [axes[0].index(split), axes[1].index(specs[1][0]), axes[2].index(specs[2][1])]
        lhs, rhs = _split(lhs, at[0], groups), _split(rhs, at[1], groups)
        result = _merge(jax.vmap(function, in_axes=(at[0], at[1]), out_axes=at[2])(lhs, rhs), at[2])
    else:
        result = function(lhs, rhs)
    return lax.transpose(result, tuple(map(axes[2].index, range(len(axes[2])))))


def _split(array: jax.Array, axis: int, groups: int) -> jax.Array:
    shape = array.shape
    return lax.reshape(array, (*shape[:axis], groups, shape[axis] // groups, *shape[axis + 1 :]))


def _merge(array: jax.Array, axis: int) -> jax.Array:
    shape = array.shape
    return lax.reshape(array, (*shape[:axis], shape[axis] * shape[axis + 1], *shape[axis + 2 :]))


def _slice_by_tap(lhs: jax.Array, rhs: jax.Array, window: _Window, precision: Any, dtype: Any) -> jax.Array:
    """A slice for each tap, side by side, and one product.

    `out[n, p, o] = sum_(t, c) lhs[n, strides p + rhs_dilation t, c] rhs[t, c, o]`
    """
    patches = lax.concatenate(list(_by_tap(lhs, window)), lhs.ndim - 1)
    rhs = lax.reshape(rhs, (math.prod(rhs.shape[:-1]), rhs.shape[-1]))
    contract = (((patches.ndim - 1,), (0,)), ((), ()))
    return lax.dot_general(patches, rhs, contract, precision=precision, preferred_element_type=dtype)


def _slice_by_place(lhs: jax.Array, rhs: jax.Array, window: _Window, precision: Any, dtype: Any) -> jax.Array:
    """A slice for each place that the window comes to, side by side, and one product.

    `out[p, n, o] = sum_(c, t) lhs[c, strides p + rhs_dilation t, n] rhs[c, t, o]`

    The gradient of a small window is such a convolution, with a large window and few places. Its slices are those of
    the forward one, written in the same way for XLA to see it.
    """
    views = lax.concatenate(list(_by_place(lhs, window)), lhs.ndim - 1)
    axes = tuple(range(lhs.ndim - 1))
    result = lax.dot_general(views, rhs, ((axes, axes), ((), ())), precision=precision, preferred_element_type=dtype)
    return lax.reshape(result, (*window.places, lhs.shape[-1], rhs.shape[-1]))


def _multiply_by_tap(lhs: jax.Array, rhs: jax.Array, window: _Window, precision: Any, dtype: Any) -> jax.Array:
    """A slice for each tap, times a number: a group of one feature in and one out has nothing to contract.

    `out[n, p, 0] = sum_t lhs[n, strides p + rhs_dilation t, 0] rhs[t, 0, 0]`
    """
    del precision
    dtype = lhs.dtype if dtype is None else dtype
    weights = lax.convert_element_type(lax.reshape(rhs, (rhs.size,)), _wide(dtype))
    total = None
    for tap, view in enumerate(_by_tap(lhs, window)):
        weight = lax.broadcast_in_dim(lax.index_in_dim(weights, tap, keepdims=False), view.shape, ())
        term = lax.mul(lax.convert_element_type(view, _wide(dtype)), weight)
        total = term if total is None else lax.add(total, term)
    return lax.convert_element_type(total, dtype)  # pyright: ignore[reportArgumentType]


def _add_by_tap(lhs: jax.Array, rhs: jax.Array, window: _Window, precision: Any, dtype: Any) -> jax.Array:
    """One product, and a sum of what each tap brings to every place.

    For a dilated input, as in the gradient of a convolution with strides: the zeros in it are never multiplied.
    """
    dtype = lhs.dtype if dtype is None else dtype
    contract = (((lhs.ndim - 1,), (rhs.ndim - 2,)), ((), ()))
    parts = lax.dot_general(lhs, rhs, contract, precision=precision, preferred_element_type=_wide(dtype))
    parts = lax.reshape(parts, (*lhs.shape[:-1], math.prod(window.taps), rhs.shape[-1]))
    total = None
    for index, tap in enumerate(_positions(window.taps)):
        config = []
        for i, offset in enumerate(tap):
            low = window.padding[i][0] - offset * window.rhs_dilation[i]
            dilated = (lhs.shape[1 + i] - 1) * window.lhs_dilation[i] + 1
            covered = (window.places[i] - 1) * window.strides[i] + 1
            config.append((low, covered - low - dilated, window.lhs_dilation[i] - 1))
        part = _pad(lax.index_in_dim(parts, index, axis=lhs.ndim - 1, keepdims=False), config)
        part = lax.slice(part, (0,) * part.ndim, part.shape, (1, *window.strides, 1))
        total = part if total is None else lax.add(total, part)
    return lax.convert_element_type(total, dtype)  # pyright: ignore[reportArgumentType]


def _by_tap(lhs: jax.Array, window: _Window) -> Iterator[jax.Array]:
    """What each tap of the window sees, at all places."""
    return _slices(lhs, window, window.taps, window.rhs_dilation, window.places, window.strides)


def _by_place(lhs: jax.Array, window: _Window) -> Iterator[jax.Array]:
    """What the window sees at each place."""
    return _slices(lhs, window, window.places, window.strides, window.taps, window.rhs_dilation)


def _slices(lhs: jax.Array, window: _Window, starts: Any, apart: Any, sizes: Any, strides: Any) -> Iterator[jax.Array]:
    """Slices of the padded input: as many as `starts`, so far `apart`, each of `sizes` elements at `strides`."""
    dilation = zip(window.padding, window.lhs_dilation, strict=True)
    padded = _pad(lhs, [(low, high, dilated - 1) for (low, high), dilated in dilation])
    for position in _positions(starts):
        first = [index * distance for index, distance in zip(position, apart, strict=True)]
        end = [at + (size - 1) * stride + 1 for at, size, stride in zip(first, sizes, strides, strict=True)]
        yield lax.slice(padded, (0, *first, 0), (padded.shape[0], *end, padded.shape[-1]), (1, *strides, 1))


def _positions(sizes: Sequence[int]) -> Iterator[tuple[int, ...]]:
    return itertools.product(*map(range, sizes))


def _pad(array: jax.Array, config: Sequence[tuple[int, int, int]]) -> jax.Array:
    zero = array.dtype.type(0)
    return lax.pad(array, zero, [(0, 0, 0), *config, (0, 0, 0)]) if any(map(any, config)) else array


def _wide(dtype: Any) -> Any:
    """The dtype to keep sums of many terms in: not one of 16 bits."""
    return np.dtype(np.float32) if np.dtype(dtype).name in ("float16", "bfloat16") else np.dtype(dtype)
