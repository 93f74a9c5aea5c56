"""Convolutions as slices and matrix products.

`jax.vmap` over lanes makes a grouped convolution, which XLA runs slowly, most of all inside a loop
on a CPU. XLA runs a matrix product with one more batch dimension fast. So the jaxpr is rewritten:
slices and one product replace each `conv_general_dilated`, also in the bodies of loops, branches
and calls. Custom derivative rules stay with their functions.

A *tap* is a position in the window of a convolution, and a *place* is a position in its output. The
*cotangent* is the gradient with respect to the output.
"""

import functools
import itertools
import math
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import lax
from jax.core import eval_jaxpr
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn

from .equations import equations

# A convolution that needs more slices than this is left to XLA, because slices take memory and time
# to compile. On a CPU, 11 by 11 taps take about 5 times as long to compile as XLA's convolution,
# and 12 times its temporary memory; 31 by 31 taps take 10 times as long and 35 times the memory.
MAX_SLICES = 128

Tree = Any
Aval = Any  # a `jax.core.ShapedArray`: shape and type of a traced value
AnyJaxpr = Any  # a Jaxpr or a ClosedJaxpr
Param = Any  # a parameter of an equation
DType = Any  # what `np.dtype` takes
Precision = Any  # as `lax.dot_general` takes it

# Other types, such as float8, are left to XLA.
_DTYPES = {"float16", "bfloat16", "float32", "float64", "complex64", "complex128"}
_DTYPES |= {f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}


def as_products(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function with slices and matrix products in place of convolutions.

    Apply it to the computation of one lane, inside of `jax.vmap`: `jax.grad(as_products(loss))` or
    `as_products(jax.value_and_grad(loss))`. The first form differentiates the products. The second
    one rewrites the convolutions of both passes, also those inside custom derivative rules. A
    convolution stays as it is if it would
    need too many slices, or has an unusual type or sharding. A function without convolutions keeps
    its jaxpr.

    Args:
      function: Function of pytrees of arrays that returns one.

    Returns:
      The function. Each call traces `function` once, so call it under `jax.jit`. Its results differ
      from those of `function` in two ways: sums are rounded in another order, and infinities may
      become NaN.

    Example:
      >>> from lrax.sweeps.engine.xla.convolutions import as_products, has_convolutions
      >>> blur = lambda image, kernel: jax.lax.conv(image, kernel, (1, 1), "SAME")
      >>> image, kernel = jnp.ones((2, 3, 8, 8)), jnp.ones((4, 3, 3, 3))
      >>> has_convolutions(blur, image, kernel), has_convolutions(as_products(blur), image, kernel)
      (True, False)
    """

    @functools.wraps(function)
    def products(*args: Tree, **kwargs: Tree) -> Tree:
        closed, shapes = jax.make_jaxpr(function, return_shape=True)(*args, **kwargs)
        leaves = eval_jaxpr(_rewrite(closed.jaxpr), closed.consts, *jax.tree.leaves((args, kwargs)))
        return jax.tree.unflatten(jax.tree.structure(shapes), leaves)

    return products


def has_convolutions(function: Callable[..., Any], *args: Tree, **kwargs: Tree) -> bool:
    """Whether a function contains a convolution.

    It is traced for these arguments, which are arrays or `jax.ShapeDtypeStruct`s.
    """
    return next(convolutions(jax.make_jaxpr(function)(*args, **kwargs).jaxpr), None) is not None


def convolutions(jaxpr: Jaxpr) -> Iterator[JaxprEqn]:
    """The convolutions of a jaxpr and of all jaxprs inside it, such as loop bodies."""
    return (
        equation
        for equation in equations(jaxpr)
        if equation.primitive is lax.conv_general_dilated_p
    )


# JAX finds compiled programs by the identity of their jaxpr, and the jaxprs of jitted functions and
# of loop bodies live longer than a trace. So a rewritten jaxpr is kept as long as its original, and
# found again. None means that nothing was rewritten.
_rewritten: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()


def _rewrite(jaxpr: AnyJaxpr) -> AnyJaxpr:
    """The jaxpr with products, or the same object if it has no convolution to rewrite."""
    if jaxpr not in _rewritten:
        if isinstance(jaxpr, ClosedJaxpr):
            inner = _rewrite(jaxpr.jaxpr)
            _rewritten[jaxpr] = None if inner is jaxpr.jaxpr else jaxpr.replace(jaxpr=inner)
        else:
            # A kernel gradient slices two arrays: the input, which the forward convolution slices
            # too, and the cotangent, which the gradient with respect to the input slices too. Each
            # must be sliced in the same way both times, so that XLA does it once.
            gradients = [
                equation.invars for equation in jaxpr.eqns if _is_kernel_gradient(equation)
            ]
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
    """The equation with products in place of convolutions.

    Args:
      equation: The equation.
      roles: `{variable: role}`: `"forward"` for the input of a kernel gradient in this jaxpr,
        `"backward"` for its cotangent.
    """
    if equation.primitive is lax.conv_general_dilated_p:
        return _as_product(equation, roles.get(equation.invars[0], ""))
    if equation.primitive.name == "shard_map":
        # Its jaxpr says which values differ between devices. That is not known for new equations.
        return equation
    params = {name: _rewrite_param(value) for name, value in equation.params.items()}
    return (
        equation.replace(params=params)
        if _differ(params.values(), equation.params.values())
        else equation
    )


def _rewrite_param(value: Param) -> Param:
    """A parameter of an equation with the jaxprs in it rewritten."""
    if isinstance(value, (Jaxpr, ClosedJaxpr)):
        return _rewrite(value)
    if isinstance(value, (tuple, list)):  # the branches of a cond, for instance
        items = [_rewrite_param(item) for item in value]
        # A NamedTuple takes its fields one by one.
        if _differ(items, value):
            return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    return value


def _differ(new: Iterable[Param], old: Iterable[Param]) -> bool:
    """Whether any entry is another object."""
    return any(a is not b for a, b in zip(new, old, strict=True))


def _is_kernel_gradient(equation: JaxprEqn) -> bool:
    """Whether an equation looks like the gradient of a convolution with respect to its kernel.

    That is a convolution whose kernel is the cotangent, so its window is larger than its output. A
    forward convolution with a large kernel and a small output passes too, and is right as well.
    """
    if equation.primitive is not lax.conv_general_dilated_p:
        return False
    avals: list[Any] = [equation.invars[1].aval, equation.outvars[0].aval]
    taps, places = (
        math.prod(_spatial(aval.shape, equation.params, i)) for i, aval in enumerate(avals, 1)
    )
    return places < taps


def _as_product(equation: JaxprEqn, role: str) -> JaxprEqn:
    """An equation that replaces a convolution, or the convolution itself if it is left to XLA."""
    avals: list[Any] = [var.aval for var in (*equation.invars, *equation.outvars)]
    lhs, rhs, out = avals
    params = {**equation.params, "padding": _ints(equation.params["padding"])}
    if not _has_product(lhs, rhs, out, params):
        return equation
    call = _call(lhs, rhs, out.shape, tuple(sorted(params.items())), role)
    variables = {"invars": equation.invars, "outvars": equation.outvars}
    return call.replace(**variables, source_info=equation.source_info, ctx=equation.ctx)


def _ints(padding: Sequence[tuple[Param, Param]]) -> tuple[tuple[int, int], ...]:
    """Padding as Python's integers, which can be hashed."""
    return tuple((int(low), int(high)) for low, high in padding)


def _has_product(lhs: Aval, rhs: Aval, out: Aval, params: dict[str, Any]) -> bool:
    """Whether a convolution is to be replaced."""
    sizes = (*lhs.shape, *rhs.shape, *out.shape)
    if not all(isinstance(size, int) and size > 0 for size in sizes):
        return False  # empty, or with symbolic sizes
    # The result of a product has no weak type.
    if lhs.dtype != rhs.dtype or not {lhs.dtype.name, out.dtype.name} <= _DTYPES or out.weak_type:
        return False
    # Inside `shard_map` there is a sharding without axes, which says nothing.
    sharding = params.get("out_sharding")
    if sharding is not None and any(axis is not None for axis in sharding.spec):
        return False
    window = _spatial(rhs.shape, params, 1)
    places = _spatial(out.shape, params, 2)
    # `_by_place` slices for each place, the other ways for each tap.
    return min(math.prod(window), math.prod(places)) <= MAX_SLICES


def _spatial(shape: tuple[int, ...], params: dict[str, Any], operand: int) -> tuple[int, ...]:
    """The spatial sizes of an operand: 0 is the input, 1 the kernel, 2 the output."""
    return tuple(shape[axis] for axis in params["dimension_numbers"][operand][2:])


@functools.lru_cache(maxsize=1024)
def _call(
    lhs: Aval, rhs: Aval, out: tuple[int, ...], params: tuple[tuple[str, Any], ...], role: str
) -> JaxprEqn:
    """The equation that computes a convolution by products. Its variables are placeholders.

    A call of a jitted function is one equation, as a convolution is. It is cached, so that equal
    convolutions call the same function.
    """

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
    """A convolution, computed in one of the three ways below.

    Here the dimensions are put into the order that the chosen function takes, and groups become
    one more dimension, over which that function is mapped.
    """
    specs = params["dimension_numbers"]
    names = ("window_strides", "padding", "lhs_dilation", "rhs_dilation")
    window = _Window(
        _spatial(rhs.shape, params, 1), _spatial(out, params, 2), *(params[name] for name in names)
    )
    groups = max(params["feature_group_count"], params["batch_group_count"])
    # Letters of an order: "n" is the dimension of examples (for the kernel, of output features),
    # "c" that of features (for the kernel, of input features), "." the spatial ones. The orders are
    # those of the input, the kernel and the output.
    if math.prod(window.places) < math.prod(window.taps):
        way = _by_place
        orders = ("n.c", "n.c", ".nc")
    elif (
        groups > 1
        and groups
        == params["feature_group_count"]
        == rhs.shape[specs[1][0]]
        == lhs.shape[specs[0][1]]
    ):
        # Each group has one input and one output feature.
        way = _depthwise
        orders = ("n.c", ".cn", "n.c")
    else:
        way = functools.partial(_by_tap, role=role)
        orders = ("c.n", "n.c", "c.n")
    axes = [
        tuple(
            axis for name in order for axis in {"n": spec[:1], "c": spec[1:2], ".": spec[2:]}[name]
        )
        for order, spec in zip(orders, specs, strict=True)
    ]
    # The setting `jax_default_matmul_precision` was read when the convolution was traced. It may
    # have changed since, so it must not be read again, as `None` would.
    precision = lax.Precision.DEFAULT if params["precision"] is None else params["precision"]
    function = functools.partial(
        way, window=window, precision=precision, dtype=params["preferred_element_type"]
    )
    lhs = lax.transpose(lhs, axes[0])
    rhs = lax.transpose(rhs, axes[1])
    if groups > 1:
        # The features are split into groups, or, with a `batch_group_count`, the examples.
        split = specs[0][1] if params["feature_group_count"] > 1 else specs[0][0]
        at = [axes[0].index(split), axes[1].index(specs[1][0]), axes[2].index(specs[2][1])]
        lhs = _split(lhs, at[0], groups)
        rhs = _split(rhs, at[1], groups)
        result = _merge(jax.vmap(function, in_axes=(at[0], at[1]), out_axes=at[2])(lhs, rhs), at[2])
    else:
        result = function(lhs, rhs)
    # Back to the order of the convolution: the inverse of `axes[2]`.
    return lax.transpose(result, tuple(map(axes[2].index, range(len(axes[2])))))


def _split(array: jax.Array, axis: int, groups: int) -> jax.Array:
    """Splits an axis into two: the groups, and the entries of each group."""
    shape = array.shape
    return lax.reshape(array, (*shape[:axis], groups, shape[axis] // groups, *shape[axis + 1 :]))


def _merge(array: jax.Array, axis: int) -> jax.Array:
    """Merges an axis with the next one."""
    shape = array.shape
    return lax.reshape(array, (*shape[:axis], shape[axis] * shape[axis + 1], *shape[axis + 2 :]))


def _by_tap(
    lhs: jax.Array,
    rhs: jax.Array,
    *,
    window: _Window,
    precision: Precision,
    dtype: DType,
    role: str = "",
) -> jax.Array:
    """A convolution as slices along some dimensions, a product, and a sum along the others.

    `out[o, p, n] = sum_(t, c) rhs[o, t, c] lhs[c, strides p + rhs_dilation t, n]`

    With a slice of the input for each tap, the product reads several times as much data. With a sum
    over taps, it writes several times as much. With few features, most of the time goes into this
    memory traffic, so a mixture of both is best.

    Args:
      lhs: The input, `[features, *sizes, examples]`.
      rhs: The kernel, `[output features, *taps, features]`.
      window: The window.
      precision: The precision of the product.
      dtype: The type of the result; None is that of the input.
      role: `"forward"` or `"backward"` if a kernel gradient uses the same slices, else `""`.
    """
    features = lhs.shape[0]
    outputs = rhs.shape[0]
    # Dimensions with slices are True, those with a sum False.
    if role == "backward":
        # The input here is the cotangent. The kernel gradient slices it along the dimensions along
        # which it does not slice the input of the forward convolution.
        forward = window._replace(strides=window.lhs_dilation, lhs_dilation=window.strides)
        cut = _complement(_cut(forward, outputs, features))
    elif not role and math.prod(window.lhs_dilation) > math.prod(window.strides):
        # A dilated input has zeros between its elements, as in the gradient of a convolution with
        # strides. Slices would hold these zeros; with sums they are added after the product.
        cut = (False,) * len(window.taps)
    else:
        cut = _cut(window, features, outputs)
    # The slices, one after the other along the axis of features, over which the product sums.
    views = lax.concatenate(list(_by_taps(lhs, _window_along(cut, window, lhs.shape[1:-1]))), 0)
    summed = _window_along(_complement(cut), window, views.shape[1:-1])
    order = (*_axes(_complement(cut)), 0, *_axes(cut), rhs.ndim - 1)
    rows = math.prod(summed.taps) * outputs
    rhs = lax.reshape(lax.transpose(rhs, order), (rows, rhs.size // rows))
    dtype = lhs.dtype if dtype is None else dtype
    # The parts of a sum in half precision are added in float32.
    wide = dtype if all(cut) else _wide(dtype)
    contract = (((1,), (0,)), ((), ()))
    parts = lax.dot_general(rhs, views, contract, precision=precision, preferred_element_type=wide)
    parts = lax.reshape(parts, (rows // outputs, outputs, *views.shape[1:]))
    # Each tap's part is moved to where it belongs in the output, by padding and strides, and added.
    total: Any = None
    for index, tap in enumerate(_positions(summed.taps)):
        config = []  # low, high and inner padding; if negative, it crops
        for i, offset in enumerate(tap):
            low = summed.padding[i][0] - offset * summed.rhs_dilation[i]
            dilated = (views.shape[1 + i] - 1) * summed.lhs_dilation[i] + 1
            covered = (summed.places[i] - 1) * summed.strides[i] + 1
            config.append((low, covered - low - dilated, summed.lhs_dilation[i] - 1))
        part = _pad(lax.index_in_dim(parts, index, keepdims=False), config)
        part = lax.slice(part, (0,) * part.ndim, part.shape, (1, *summed.strides, 1))
        total = part if total is None else lax.add(total, part)
    # Without this, XLA would compute the sum of a forward result anew for each use.
    if role == "forward" and not all(cut):
        total = _computed_once(total)
    return lax.convert_element_type(total, dtype)


def _computed_once(array: jax.Array) -> jax.Array:
    """The same array, times the identity matrix: a product that XLA does not simplify.

    Without it, XLA fuses the sum over taps into each operation that uses it (bias and activation,
    forward and backward) and computes it once for each. `lax.optimization_barrier` does not help:
    XLA removes it before fusion.
    """
    rows = lax.reshape(array, (array.shape[0], array.size // array.shape[0]))
    identity = np.eye(len(rows), dtype=rows.dtype)
    same = lax.dot_general(
        identity, rows, (((1,), (0,)), ((), ())), precision=lax.Precision.HIGHEST
    )
    return lax.reshape(same, array.shape)


def _by_place(
    lhs: jax.Array, rhs: jax.Array, *, window: _Window, precision: Precision, dtype: DType
) -> jax.Array:
    """The gradient of a kernel as one product of slices of the input and of the cotangent.

    `out[p, n, o] = sum_(t, c) lhs[n, strides p + rhs_dilation t, c] rhs[o, t, c]`

    It is a convolution whose kernel is the cotangent, a large window. Its output has few places:
    the taps of the forward kernel. The slices are the same equations as in the forward and in the
    backward convolution, so that XLA computes them once.

    Args:
      lhs: The input, `[features, *sizes, examples]` of the forward convolution.
      rhs: The cotangent, `[output features, *places, examples]`.
      window: The window of this convolution.
      precision: The precision of the product.
      dtype: The type of the result.
    """
    # Taps and places change their roles, and with them strides and dilation.
    forward = window._replace(
        taps=window.places,
        places=window.taps,
        strides=window.rhs_dilation,
        rhs_dilation=window.strides,
    )
    cut = _cut(forward, lhs.shape[0], rhs.shape[0])
    backward = _backward(forward, lhs.shape[1:-1])
    views = lax.concatenate(list(_by_taps(lhs, _window_along(cut, forward, lhs.shape[1:-1]))), 0)
    cotangents = lax.concatenate(
        list(_by_taps(rhs, _window_along(_complement(cut), backward, rhs.shape[1:-1]))), 0
    )
    # Matrices: the product sums over places and examples.
    views = lax.reshape(views, (views.shape[0], views.size // views.shape[0]))
    cotangents = lax.reshape(
        cotangents, (cotangents.shape[0], cotangents.size // cotangents.shape[0])
    )
    contract = (((1,), (1,)), ((), ()))
    result = lax.dot_general(
        views, cotangents, contract, precision=precision, preferred_element_type=dtype
    )
    # The axes of (features, *taps, output features), in the order in which the product has them.
    order = [*_axes(cut), 0, *_axes(_complement(cut)), lhs.ndim - 1]
    sizes = (lhs.shape[0], *forward.taps, rhs.shape[0])
    result = lax.reshape(result, tuple(sizes[axis] for axis in order))
    # The taps of the backward convolution are in reverse order.
    result = lax.rev(result, tuple(map(order.index, _axes(_complement(cut)))))
    return lax.transpose(
        result, tuple(map(order.index, (*range(1, lhs.ndim - 1), 0, lhs.ndim - 1)))
    )


def _cut(forward: _Window, features: int, outputs: int) -> tuple[bool, ...]:
    """For each dimension, whether a kernel gradient slices the input; else it slices the cotangent.

    The cotangent is sliced along the first dimension, and the input along the others, if that is
    less data and the first dimension has neither strides nor dilation. Otherwise the input is
    sliced along all dimensions.

    Args:
      forward: The window of the forward convolution.
      features: Features of its input.
      outputs: Features of its output.
    """
    # Two dimensions with more than one tap, and no strides or dilation along the first.
    many = len(forward.taps) > 1 and forward.taps[0] > 1 and math.prod(forward.taps[1:]) > 1
    is_plain = many and forward.strides[0] == forward.lhs_dilation[0] == 1
    # With a window of 3 by 3, three slices of both are less data than nine of the input alone if
    # `3 * (features + outputs) <= 9 * features`.
    mixed = is_plain and outputs <= 2 * features
    return (not mixed, *(True,) * (len(forward.taps) - 1))[: len(forward.taps)]


def _complement(cut: tuple[bool, ...]) -> tuple[bool, ...]:
    """The other dimensions."""
    return tuple(not along for along in cut)


def _axes(cut: tuple[bool, ...]) -> tuple[int, ...]:
    """The axes of the dimensions that are True, after one axis that is not spatial."""
    return tuple(1 + i for i, along in enumerate(cut) if along)


def _window_along(cut: tuple[bool, ...], window: _Window, sizes: Sequence[int]) -> _Window:
    """The window along some dimensions, and one of a single tap, which does nothing, along others.

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
    """The window of the convolution that gives the gradient with respect to the input.

    Args:
      forward: The window of the forward convolution.
      sizes: The spatial sizes of its input, without dilation.
    """
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


def _depthwise(
    lhs: jax.Array, rhs: jax.Array, *, window: _Window, precision: Precision, dtype: DType
) -> jax.Array:
    """A convolution of one input and one output feature: a sum of slices, each times a number.

    `out[n, p, 0] = sum_t lhs[n, strides p + rhs_dilation t, 0] rhs[t, 0, 0]`

    There is nothing to contract, so no matrix product is needed.
    """
    del precision  # of matrix products
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
    """All positions in a box, the last coordinate changing fastest."""
    return itertools.product(*map(range, sizes))


def _pad(array: jax.Array, config: Sequence[tuple[int, int, int]]) -> jax.Array:
    """Pads the spatial dimensions with zeros: low, high and between elements, for each."""
    if not any(map(any, config)):
        return array
    return lax.pad(array, array.dtype.type(0), [(0, 0, 0), *config, (0, 0, 0)])


def _wide(dtype: DType) -> np.dtype:
    """The dtype for sums of many terms: float32 for half precision, else the same."""
    return (
        np.dtype(np.float32) if np.dtype(dtype).name in ("float16", "bfloat16") else np.dtype(dtype)
    )
