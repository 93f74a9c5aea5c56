"""Convolutions as slices and matrix products.

`jax.vmap` over lanes makes a grouped convolution, which XLA runs slowly, most of all inside a loop
on a CPU. XLA runs a matrix product with one more batch dimension fast. So the jaxpr is rewritten:
each `conv_general_dilated` is replaced by slices and one product, also in the bodies of loops,
branches and calls. Custom derivative rules stay with their functions.
"""

import functools
import itertools
import math
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import lax
from jax.core import eval_jaxpr
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn

from .equations import equations

# A convolution that needs more slices is left to XLA: a large window over a large picture.
MAX_SLICES = 128

_DTYPES = {"float16", "bfloat16", "float32", "float64", "complex64", "complex128"}
_DTYPES |= {f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}


def as_products(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function with slices and matrix products in place of convolutions.

    Apply it to the computation of one lane, inside of `jax.vmap`: `jax.grad(as_products(loss))` or
    `as_products(jax.value_and_grad(loss))`. The second form also rewrites the backward convolutions
    and those inside custom derivative rules. A convolution that has no good product is kept. A
    function without convolutions keeps its jaxpr.

    Args:
      function: Function of pytrees of arrays that returns one.

    Returns:
      The function. Each call traces `function` once, so call it under `jax.jit`. Its results are
      those of `function`, except that sums are rounded in another order and that infinities may
      become NaN.

    Example:
      >>> from lrax.sweeps.engine.xla.convolutions import as_products, has_convolutions
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
    """Whether a function contains a convolution.

    It is traced for the arguments, arrays or `jax.ShapeDtypeStruct`s.
    """
    return next(convolutions(jax.make_jaxpr(function)(*args, **kwargs).jaxpr), None) is not None


def convolutions(jaxpr: Jaxpr) -> Iterator[JaxprEqn]:
    """The convolutions of a jaxpr and of all jaxprs inside it, such as loop bodies."""
    return (
        equation
        for equation in equations(jaxpr)
        if equation.primitive is lax.conv_general_dilated_p
    )


# JAX keeps compiled programs by the identity of their jaxpr, and the jaxprs of jitted functions and
# of loop bodies outlive a trace. So a rewritten jaxpr is kept as long as its original. None means
# that nothing was rewritten.
_rewritten: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()


def _rewrite(jaxpr: Any) -> Any:
    """The jaxpr with products, or the same object if it has no convolution to rewrite."""
    if jaxpr not in _rewritten:
        if isinstance(jaxpr, ClosedJaxpr):
            inner = _rewrite(jaxpr.jaxpr)
            _rewritten[jaxpr] = None if inner is jaxpr.jaxpr else jaxpr.replace(jaxpr=inner)
        else:
            gradients = [equation.invars for equation in jaxpr.eqns if _is_of_window(equation)]
            roles = {cotangent: "backward" for _, cotangent in gradients} | {
                lhs: "forward" for lhs, _ in gradients
            }
            equations = [_rewrite_equation(equation, roles) for equation in jaxpr.eqns]
            _rewritten[jaxpr] = (
                jaxpr.replace(eqns=equations) if _differ(equations, jaxpr.eqns) else None
            )
    found = _rewritten[jaxpr]
    return jaxpr if found is None else found


def _rewrite_equation(equation: JaxprEqn, roles: Mapping[Any, str]) -> JaxprEqn:
    """The equation with products.

    Args:
      equation: The equation.
      roles: `"forward"` for the input and `"backward"` for the cotangent of each convolution whose
        kernel has a gradient in this jaxpr.
    """
    if equation.primitive is lax.conv_general_dilated_p:
        return _as_product(equation, roles.get(equation.invars[0], ""))
    if equation.primitive.name == "shard_map":
        return equation  # which values vary over devices is known only where it is traced
    params = {name: _rewrite_param(value) for name, value in equation.params.items()}
    return (
        equation.replace(params=params)
        if _differ(params.values(), equation.params.values())
        else equation
    )


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


def _is_of_window(equation: JaxprEqn) -> bool:
    """Whether an equation is a convolution with a window larger than its output.

    That is the gradient of another convolution with respect to its kernel.
    """
    if equation.primitive is not lax.conv_general_dilated_p:
        return False
    avals: list[Any] = [equation.invars[1].aval, equation.outvars[0].aval]
    taps, places = (
        math.prod(_spatial(aval.shape, equation.params, i)) for i, aval in enumerate(avals, 1)
    )
    return places < taps


def _as_product(equation: JaxprEqn, role: str) -> JaxprEqn:
    """A call of a jitted function that replaces a convolution.

    It is the convolution itself if no product is good for it.
    """
    avals: list[Any] = [var.aval for var in (*equation.invars, *equation.outvars)]
    lhs, rhs, out = avals
    params = {**equation.params, "padding": _ints(equation.params["padding"])}
    if not _has_product(lhs, rhs, out, params):
        return equation
    call = _call(lhs, rhs, out.shape, tuple(sorted(params.items())), role)
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
def _call(
    lhs: Any, rhs: Any, out: tuple[int, ...], params: tuple[tuple[str, Any], ...], role: str
) -> JaxprEqn:
    def convolution_as_product(lhs, rhs):
        return _product(lhs, rhs, out, dict(params), role)

    (equation,) = jax.make_jaxpr(jax.jit(convolution_as_product))(lhs, rhs).jaxpr.eqns
    return equation


class _Window(NamedTuple):
    """The parameters of `conv_general_dilated` for each spatial dimension."""

    taps: tuple[int, ...]  # the size of the window
    places: tuple[int, ...]  # the size of the output
    strides: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    lhs_dilation: tuple[int, ...]
    rhs_dilation: tuple[int, ...]


def _product(
    lhs: jax.Array, rhs: jax.Array, out: tuple[int, ...], params: dict[str, Any], role: str
) -> jax.Array:
    """A convolution by one of the three ways below.

    It puts the dimensions in the order of that way, with groups as one more dimension.
    """
    specs = params["dimension_numbers"]
    names = ("window_strides", "padding", "lhs_dilation", "rhs_dilation")
    window = _Window(
        _spatial(rhs.shape, params, 1), _spatial(out, params, 2), *(params[name] for name in names)
    )
    groups = max(params["feature_group_count"], params["batch_group_count"])
    if math.prod(window.places) < math.prod(window.taps):
        way, orders = _by_place, ("n.c", "n.c", ".nc")
    elif (
        groups > 1
        and groups
        == params["feature_group_count"]
        == rhs.shape[specs[1][0]]
        == lhs.shape[specs[0][1]]
    ):
        way, orders = _multiplied, ("n.c", ".cn", "n.c")
    else:
        way, orders = functools.partial(_by_tap, role=role), ("c.n", "n.c", "c.n")
    # Letters of an order: "n" is the dimension of examples (for the kernel, of output features),
    # "c" that of input features, "." the spatial dimensions.
    axes = [
        tuple(
            axis for name in order for axis in {"n": spec[:1], "c": spec[1:2], ".": spec[2:]}[name]
        )
        for order, spec in zip(orders, specs, strict=True)
    ]
    # The default precision was resolved when the convolution was traced. The setting
    # `jax_default_matmul_precision` may have changed since, so it must not be read again.
    precision = lax.Precision.DEFAULT if params["precision"] is None else params["precision"]
    function = functools.partial(
        way, window=window, precision=precision, dtype=params["preferred_element_type"]
    )
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


def _by_tap(
    lhs: jax.Array, rhs: jax.Array, *, window: _Window, precision: Any, dtype: Any, role: str = ""
) -> jax.Array:
    """Slices for the taps of some dimensions, one product, and a sum over the other dimensions.

    `out[o, p, n] = sum_(t, c) rhs[o, t, c] lhs[c, strides p + rhs_dilation t, n]`

    Slices multiply the data that the product reads, and sums multiply the data that it writes. With
    few features, this traffic takes most of the time.
    """
    features, outputs = lhs.shape[0], rhs.shape[0]
    if role == "backward":
        forward = window._replace(strides=window.lhs_dilation, lhs_dilation=window.strides)
        cut = _others(_cut(forward, outputs, features))
    elif not role and math.prod(window.lhs_dilation) > math.prod(window.strides):
        # A dilated input has zeros between its elements, as in the gradient of a convolution with
        # strides. With sums, these zeros are never multiplied.
        cut = (False,) * len(window.taps)
    else:
        cut = _cut(window, features, outputs)
    views = lax.concatenate(list(_by_taps(lhs, _along(cut, window, lhs.shape[1:-1]))), 0)
    summed = _along(_others(cut), window, views.shape[1:-1])
    order = (*_axes(_others(cut)), 0, *_axes(cut), rhs.ndim - 1)
    rows = math.prod(summed.taps) * outputs
    rhs = lax.reshape(lax.transpose(rhs, order), (rows, rhs.size // rows))
    dtype = lhs.dtype if dtype is None else dtype
    wide = dtype if all(cut) else _wide(dtype)
    contract = (((1,), (0,)), ((), ()))
    parts = lax.dot_general(rhs, views, contract, precision=precision, preferred_element_type=wide)
    parts = lax.reshape(parts, (rows // outputs, outputs, *views.shape[1:]))
    total = None
    for index, tap in enumerate(_positions(summed.taps)):
        config = []
        for i, offset in enumerate(tap):
            low = summed.padding[i][0] - offset * summed.rhs_dilation[i]
            dilated = (views.shape[1 + i] - 1) * summed.lhs_dilation[i] + 1
            covered = (summed.places[i] - 1) * summed.strides[i] + 1
            config.append((low, covered - low - dilated, summed.lhs_dilation[i] - 1))
        part = _pad(lax.index_in_dim(parts, index, keepdims=False), config)
        part = lax.slice(part, (0,) * part.ndim, part.shape, (1, *summed.strides, 1))
        total = part if total is None else lax.add(total, part)
    if role == "forward" and not all(cut):
        total = _held(total)
    return lax.convert_element_type(total, dtype)  # pyright: ignore[reportArgumentType]


def _held(array: Any) -> jax.Array:
    """The same array, as a product with the identity matrix, which XLA does not simplify.

    Without it, XLA fuses the sum over taps into each of its users (bias and activation, forward and
    backward) and computes it once for each of them. `lax.optimization_barrier` does not help: it is
    removed before XLA fuses.
    """
    rows = lax.reshape(array, (array.shape[0], array.size // array.shape[0]))
    identity = np.eye(len(rows), dtype=rows.dtype)
    same = lax.dot_general(
        identity, rows, (((1,), (0,)), ((), ())), precision=lax.Precision.HIGHEST
    )
    return lax.reshape(same, array.shape)


def _by_place(
    lhs: jax.Array, rhs: jax.Array, *, window: _Window, precision: Any, dtype: Any
) -> jax.Array:
    """The gradient of a kernel: one product of slices of the input and of the cotangent.

    `out[p, n, o] = sum_(t, c) lhs[n, strides p + rhs_dilation t, c] rhs[o, t, c]`

    As a convolution, its kernel is the cotangent, a large window, and its output has few places:
    the taps of the forward kernel. The slices are written exactly as those of the forward and the
    backward convolution, so that XLA computes them once.
    """
    forward = window._replace(
        taps=window.places,
        places=window.taps,
        strides=window.rhs_dilation,
        rhs_dilation=window.strides,
    )
    cut = _cut(forward, lhs.shape[0], rhs.shape[0])
    backward = _backward(forward, lhs.shape[1:-1])
    views = lax.concatenate(list(_by_taps(lhs, _along(cut, forward, lhs.shape[1:-1]))), 0)
    cotangents = lax.concatenate(
        list(_by_taps(rhs, _along(_others(cut), backward, rhs.shape[1:-1]))), 0
    )
    views, cotangents = (
        lax.reshape(x, (x.shape[0], x.size // x.shape[0])) for x in (views, cotangents)
    )
    contract = (((1,), (1,)), ((), ()))
    result = lax.dot_general(
        views, cotangents, contract, precision=precision, preferred_element_type=dtype
    )
    order = [*_axes(cut), 0, *_axes(_others(cut)), lhs.ndim - 1]  # of the dimensions of (n, p, o)
    sizes = (lhs.shape[0], *forward.taps, rhs.shape[0])
    result = lax.reshape(result, tuple(sizes[axis] for axis in order))
    # The taps of the backward convolution are in reverse order.
    result = lax.rev(result, tuple(map(order.index, _axes(_others(cut)))))
    return lax.transpose(
        result, tuple(map(order.index, (*range(1, lhs.ndim - 1), 0, lhs.ndim - 1)))
    )


def _cut(forward: _Window, features: int, outputs: int) -> tuple[bool, ...]:
    """For each dimension, whether the gradient of a kernel slices the input or the cotangent.

    True is the input. It is sliced along all dimensions if the cotangent has many more features.
    Otherwise the cotangent is sliced along the first dimension and the input along the others:
    three slices of each are less to read than nine of one.
    """
    many = len(forward.taps) > 1 and forward.taps[0] > 1 and math.prod(forward.taps[1:]) > 1
    is_plain = many and forward.strides[0] == forward.lhs_dilation[0] == 1
    return (not (is_plain and outputs <= 2 * features), *(True,) * (len(forward.taps) - 1))[
        : len(forward.taps)
    ]


def _others(cut: tuple[bool, ...]) -> tuple[bool, ...]:
    return tuple(not along for along in cut)


def _axes(cut: tuple[bool, ...]) -> tuple[int, ...]:
    return tuple(1 + i for i, along in enumerate(cut) if along)


def _along(cut: tuple[bool, ...], window: _Window, sizes: Sequence[int]) -> _Window:
    """The window along some dimensions, and a window of one tap along the others.

    Args:
      cut: For each dimension, whether the window moves along it.
      window: The window.
      sizes: The number of elements along each dimension.
    """
    if not cut:
        return window
    still = [(1, size, 1, (0, 0), 1, 1) for size in sizes]
    moving = zip(*window, strict=True)
    return _Window(
        *zip(
            *(m if along else s for along, m, s in zip(cut, moving, still, strict=True)),
            strict=True,
        )
    )


def _backward(forward: _Window, sizes: Sequence[int]) -> _Window:
    """The window of the gradient with respect to an input of these sizes without dilation."""
    padding = []
    for i, (low, _) in enumerate(forward.padding):
        reach = (forward.taps[i] - 1) * forward.rhs_dilation[i]
        dilated = (forward.places[i] - 1) * forward.strides[i] + 1
        padding.append((reach - low, sizes[i] + low - dilated))
    return forward._replace(
        places=tuple(sizes),
        strides=forward.lhs_dilation,
        padding=tuple(padding),
        lhs_dilation=forward.strides,
    )


def _multiplied(
    lhs: jax.Array, rhs: jax.Array, *, window: _Window, precision: Any, dtype: Any
) -> jax.Array:
    """Each tap is a slice times a number: groups of one input and one output feature.

    There is nothing to contract, so no matrix product is needed.

    `out[n, p, 0] = sum_t lhs[n, strides p + rhs_dilation t, 0] rhs[t, 0, 0]`
    """
    del precision
    dtype = lhs.dtype if dtype is None else dtype
    weights = lax.convert_element_type(lax.reshape(rhs, (rhs.size,)), _wide(dtype))
    total = None
    for tap, view in enumerate(_by_taps(lhs, window)):
        weight = lax.broadcast_in_dim(
            lax.index_in_dim(weights, tap, keepdims=False), view.shape, ()
        )
        term = lax.mul(lax.convert_element_type(view, _wide(dtype)), weight)
        total = term if total is None else lax.add(total, term)
    return lax.convert_element_type(total, dtype)  # pyright: ignore[reportArgumentType]


def _by_taps(lhs: jax.Array, window: _Window) -> Iterator[jax.Array]:
    """For each tap of the window, the slice of the padded input that it reads."""
    dilation = zip(window.padding, window.lhs_dilation, strict=True)
    padded = _pad(lhs, [(low, high, dilated - 1) for (low, high), dilated in dilation])
    for tap in _positions(window.taps):
        first = [index * distance for index, distance in zip(tap, window.rhs_dilation, strict=True)]
        sizes = zip(first, window.places, window.strides, strict=True)
        end = [at + (size - 1) * stride + 1 for at, size, stride in sizes]
        yield lax.slice(
            padded,
            (0, *first, 0),
            (padded.shape[0], *end, padded.shape[-1]),
            (1, *window.strides, 1),
        )


def _positions(sizes: Sequence[int]) -> Iterator[tuple[int, ...]]:
    return itertools.product(*map(range, sizes))


def _pad(array: jax.Array, config: Sequence[tuple[int, int, int]]) -> jax.Array:
    zero = array.dtype.type(0)
    return lax.pad(array, zero, [(0, 0, 0), *config, (0, 0, 0)]) if any(map(any, config)) else array


def _wide(dtype: Any) -> Any:
    """The dtype for sums of many terms: at least 32 bits."""
    return (
        np.dtype(np.float32) if np.dtype(dtype).name in ("float16", "bfloat16") else np.dtype(dtype)
    )
