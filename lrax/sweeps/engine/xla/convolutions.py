"""Convolutions as matrix products: a function whose `conv_general_dilated`s are evaluated as slices
and one product.

Lanes turn a convolution into a grouped one, which XLA runs slowly, inside a loop on a CPU most of
all; a product with one more batch dimension it runs well. The jaxpr is rewritten where it stands:
one equation becomes another, in the bodies of loops, branches and calls too, and custom derivative
rules stay with their functions.
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

MAX_SLICES = (
    128  # a convolution that takes more is left to XLA: a large window over a large picture
)

_DTYPES = {"float16", "bfloat16", "float32", "float64", "complex64", "complex128"}
_DTYPES |= {f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}


def as_products(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that computes the same with slices and matrix products in place of convolutions.

    Use it on what one lane computes, below `jax.vmap`, as `jax.grad(as_products(loss))` or
    `as_products(jax.value_and_grad(loss))`. The latter sees the backward convolutions themselves,
    and those inside custom derivative rules, which the former leaves as they are. A convolution for
    which no product is good is kept, and a function without any keeps its jaxpr.

    Args:
      function: Function of pytrees of arrays that returns one.

    Returns:
      The function. Each call traces `function` once, so it belongs under `jax.jit`. Its results are
      those of `function` but for the order in which products are added, and for infinities, which
      may become NaN.

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
    return (
        equation
        for equation in equations(jaxpr)
        if equation.primitive is lax.conv_general_dilated_p
    )


# What is compiled is kept by the identity of a jaxpr, and those of jitted functions and loop bodies
# outlive a trace. So a rewritten one is kept as long as its original. None stands for the original
# itself.
_rewritten: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()


def _rewrite(jaxpr: Any) -> Any:
    """The jaxpr with products in it, or the same object if nothing is to be done."""
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
    """An equation with products in it; `roles` are those of the variables that gradients of windows are made of."""
    if equation.primitive is lax.conv_general_dilated_p:
        return _as_product(equation, roles.get(equation.invars[0], ""))
    if equation.primitive.name == "shard_map":
        return equation  # what varies over its devices is known only where it is traced
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
    """Whether an equation is a convolution of more taps than places: the gradient of another one's window."""
    if equation.primitive is not lax.conv_general_dilated_p:
        return False
    avals: list[Any] = [equation.invars[1].aval, equation.outvars[0].aval]
    taps, places = (
        math.prod(_spatial(aval.shape, equation.params, i)) for i, aval in enumerate(avals, 1)
    )
    return places < taps


def _as_product(equation: JaxprEqn, role: str) -> JaxprEqn:
    """The call of a jitted function in place of a convolution; the convolution itself if no product is good for it."""
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
    """How a window moves: for each spatial dimension, the parameters of `conv_general_dilated`."""

    taps: tuple[int, ...]  # the size of the window
    places: tuple[int, ...]  # the size of the output
    strides: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    lhs_dilation: tuple[int, ...]
    rhs_dilation: tuple[int, ...]


def _product(
    lhs: jax.Array, rhs: jax.Array, out: tuple[int, ...], params: dict[str, Any], role: str
) -> jax.Array:
    """A convolution: arranges the dimensions, and the groups as one more of them, for one of the ways below."""
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
    # A dimension of a spec is, in this order, n: of examples (of outputs, for the window), c: of
    # features, .: of space.
    axes = [
        tuple(
            axis for name in order for axis in {"n": spec[:1], "c": spec[1:2], ".": spec[2:]}[name]
        )
        for order, spec in zip(orders, specs, strict=True)
    ]
    # In full, for `jax_default_matmul_precision` was looked up when the convolution was traced, and
    # may be another now.
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
    """A slice for each tap along some dimensions, one product, and a sum over the taps along the
    others.

    `out[o, p, n] = sum_(t, c) rhs[o, t, c] lhs[c, strides p + rhs_dilation t, n]`

    Slices multiply what the product reads, sums what it writes: of few features, that is what takes
    the time.
    """
    features, outputs = lhs.shape[0], rhs.shape[0]
    if role == "backward":
        forward = window._replace(strides=window.lhs_dilation, lhs_dilation=window.strides)
        cut = _others(_cut(forward, outputs, features))
    elif not role and math.prod(window.lhs_dilation) > math.prod(window.strides):
        # A dilated input, as in a gradient of a convolution with strides, has zeros, which sums
        # never multiply.
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
    """The same array, by a product with the identity, which XLA does not see through.

    Else it adds the taps up anew for all who read the sum, bias and activation, forward and
    backward, in their order of the elements. A barrier against that is gone before XLA fuses.
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
    """The gradient of a window: one product of slices of what went in and of the cotangent.

    `out[p, n, o] = sum_(t, c) lhs[n, strides p + rhs_dilation t, c] rhs[o, t, c]`

    Where this is a convolution, the cotangent is a large window that comes to few places, the taps
    of the forward one. The slices are those of the forward and the backward convolution, written in
    the same way for XLA to see it.
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
    result = lax.rev(
        result, tuple(map(order.index, _axes(_others(cut))))
    )  # the backward convolution's taps are
    return lax.transpose(
        result, tuple(map(order.index, (*range(1, lhs.ndim - 1), 0, lhs.ndim - 1)))
    )


def _cut(forward: _Window, features: int, outputs: int) -> tuple[bool, ...]:
    """Along which dimensions the input is sliced for the gradient of a window; along the others the
    cotangent is.

    Along all, if the cotangent has many more features than the input; else it is the first
    dimension against the rest, for nine slices make more to read than three of each.
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
    """The window along some dimensions; along the others one that changes nothing, of so many elements."""
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
    """The window of the gradient for an input of these sizes, which is not dilated."""
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
    """A slice for each tap, times a number: a group of one feature in and one out has nothing to
    contract.

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
    """What each tap of the window sees, at all places: slices of the padded input."""
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
    """The dtype to keep sums of many terms in: not one of 16 bits."""
    return (
        np.dtype(np.float32) if np.dtype(dtype).name in ("float16", "bfloat16") else np.dtype(dtype)
    )
