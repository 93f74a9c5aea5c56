"""Convolutions as products: the same values and gradients, whatever the convolution and wherever it stands."""

import functools
import gc
import weakref

import jax
import numpy as np
import pytest
from hypothesis import assume, given, settings, strategies as st
from jax import experimental, lax, nn, numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr
from jax.sharding import AxisType, PartitionSpec

import lrax
from lrax.sweeps.engine.xla import convolutions
from lrax.sweeps.engine.xla.convolutions import as_products, has_convolutions

NHWC = ("NHWC", "HWIO", "NHWC")


def case(lhs, rhs, strides=None, padding="SAME", **settings):
    return (
        lhs,
        rhs,
        {"window_strides": strides or (1,) * (len(lhs) - 2), "padding": padding, **settings},
    )


CASES = {
    "3x3 NHWC": case((2, 5, 6, 3), (3, 3, 3, 4), dimension_numbers=NHWC),
    "3x3 NCHW": case((2, 3, 5, 6), (4, 3, 3, 3)),
    "odd layout": case((5, 2, 3, 6), (3, 4, 2, 3), dimension_numbers=("HNCW", "IOHW", "CWNH")),
    "1x1": case((2, 5, 6, 3), (1, 1, 3, 4), dimension_numbers=NHWC),
    "1x1 strided": case((2, 5, 6, 3), (1, 1, 3, 4), (2, 2), "VALID", dimension_numbers=NHWC),
    "even window": case((2, 3, 5, 6), (4, 3, 2, 4)),
    "valid": case((2, 3, 5, 6), (4, 3, 3, 2), padding="VALID"),
    "explicit padding": case((2, 3, 5, 6), (4, 3, 3, 3), padding=[(0, 3), (2, 1)]),
    "negative padding": case((2, 3, 7, 8), (4, 3, 3, 3), padding=[(-1, 1), (2, -2)]),
    "window larger than input": case((2, 3, 3, 2), (4, 3, 5, 4)),
    "window as large as input": case((2, 3, 4, 5), (4, 3, 4, 5), padding="VALID"),
    "stride 2": case((2, 8, 8, 3), (3, 3, 3, 4), (2, 2), dimension_numbers=NHWC),
    "stride that leaves a rest": case((2, 3, 9, 8), (4, 3, 2, 3), (3, 2), "VALID"),
    "stride larger than window": case((2, 3, 9, 8), (4, 3, 2, 1), (3, 4), "VALID"),
    "dilated window": case((2, 3, 7, 8), (4, 3, 3, 2), rhs_dilation=(2, 3)),
    "dilated input": case(
        (2, 3, 4, 5), (4, 3, 3, 3), padding=[(1, 2), (2, 1)], lhs_dilation=(2, 3)
    ),
    "dilated input, cut": case(
        (2, 3, 6, 5), (4, 3, 3, 3), padding=[(-2, 2), (1, -3)], lhs_dilation=(2, 3)
    ),
    "dilated and strided": case(
        (2, 3, 6, 5), (4, 3, 3, 3), (2, 3), [(2, 2), (1, 1)], lhs_dilation=(3, 2)
    ),
    "everything": case(
        (2, 4, 7, 8),
        (6, 2, 3, 2),
        (2, 1),
        [(3, -1), (0, 2)],
        lhs_dilation=(1, 2),
        rhs_dilation=(2, 1),
        feature_group_count=2,
    ),
    "groups": case((2, 5, 6, 6), (3, 3, 2, 9), dimension_numbers=NHWC, feature_group_count=3),
    "depthwise": case((2, 5, 6, 3), (3, 3, 1, 3), dimension_numbers=NHWC, feature_group_count=3),
    "depthwise, multiplier 2": case((2, 3, 5, 6), (6, 1, 3, 3), (2, 1), feature_group_count=3),
    "batch groups": case((6, 2, 5, 6), (9, 2, 3, 3), batch_group_count=3),
    "batch groups NHWC": case(
        (6, 5, 6, 2), (3, 3, 2, 9), (1, 2), dimension_numbers=NHWC, batch_group_count=3
    ),
    "batch groups, few places": case(
        (6, 2, 5, 6), (9, 2, 4, 5), padding="VALID", batch_group_count=3
    ),
    "one feature": case((2, 1, 5, 6), (1, 1, 3, 3)),
    "1D": case((2, 3, 9), (4, 3, 3), (2,)),
    "1D NWC": case(
        (2, 9, 3), (3, 3, 4), dimension_numbers=("NWC", "WIO", "NWC"), rhs_dilation=(2,)
    ),
    "3D": case((2, 3, 4, 3, 4), (2, 3, 2, 2, 3), (1, 2, 1)),
    "no space at all": case((3, 2), (4, 2), padding=[]),
}


def arrays(lhs, rhs, dtype=np.float32, seed=0):
    rng = np.random.default_rng(seed)
    return tuple(jnp.asarray(rng.normal(size=shape), dtype) for shape in (lhs, rhs))


def close(new, old, rtol):
    """Equal up to reassociation: relative to the largest element, for sums cancel."""
    assert jax.tree.structure(new) == jax.tree.structure(old)
    for a, b in zip(jax.tree.leaves(new), jax.tree.leaves(old), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        a, b = np.asarray(a), np.asarray(b)
        if a.dtype.kind == "V" or a.dtype.itemsize == 2:
            a, b = a.astype(np.float32), b.astype(np.float32)
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * np.max(np.abs(b), initial=0))


def and_gradients(conv):
    """`conv`'s value and its gradients with a cotangent that tells every output apart."""

    def function(lhs, rhs):
        out, pull = jax.vjp(conv, lhs, rhs)
        weights = jnp.cos(jnp.arange(out.size, dtype=out.dtype)).reshape(out.shape)
        return out, pull(weights)

    return function


def together(functions):
    """The functions in one program, which takes less time to compile than a program for each."""
    return jax.jit(lambda *args: [function(*args) for function in functions])


def ways(conv):
    """The three places for `as_products`: on the function, on its gradient, and around a vmap."""
    inside, outside = and_gradients(as_products(conv)), as_products(and_gradients(conv))
    return {
        "inside": lambda axes: jax.vmap(inside, axes) if axes else inside,
        "outside": lambda axes: jax.vmap(outside, axes) if axes else outside,
        "above": lambda axes: as_products(
            jax.vmap(and_gradients(conv), axes) if axes else and_gradients(conv)
        ),
    }


@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients(name, x64):
    lhs, rhs, kwargs = CASES[name]
    conv = lambda lhs, rhs: lax.conv_general_dilated(lhs, rhs, **kwargs)
    with x64:
        args = arrays(lhs, rhs, np.float64)
        expected = jax.jit(and_gradients(conv))(*args)
        # Without lanes, outside is above.
        function = together([ways(conv)[way](None) for way in ("inside", "outside")])
        assert not has_convolutions(function, *args)
        for found in function(*args):
            close(found, expected, 1e-12)


AXES = {"kernels": (None, 0), "inputs": (0, None), "both": (0, 0), "inner axes": (1, 2)}
# Of lanes these say nearly all. The others have lanes of both arguments only, and are slow together.
TELLING = ("3x3 NHWC", "everything", "depthwise", "batch groups", "1D NWC", "no space at all")


LANES = [
    pytest.param(
        name, AXES[axes], marks=() if name in TELLING else pytest.mark.slow, id=f"{name}-{axes}"
    )
    for name in CASES
    for axes in (AXES if name in TELLING else ("inner axes",))
]


@pytest.mark.parametrize(("name", "axes"), LANES)
def test_lanes(name, axes):
    lhs, rhs, kwargs = CASES[name]
    conv = lambda lhs, rhs: lax.conv_general_dilated(lhs, rhs, **kwargs)
    shapes = [
        shape if axis is None else (*shape[:axis], 3, *shape[axis:])
        for shape, axis in zip((lhs, rhs), axes, strict=True)
    ]
    args = arrays(*shapes)
    # One lane after the other: of convolutions without space, jax 0.7 maps the gradient wrongly.
    lane = lambda i: [
        arg if axis is None else jnp.take(arg, i, axis)
        for arg, axis in zip(args, axes, strict=True)
    ]
    one = jax.jit(and_gradients(conv))
    alone = [one(*lane(i)) for i in range(3)]
    expected = jax.tree.map(lambda *leaves: np.stack(leaves), *alone)
    function = together(
        [make(axes) for way, make in ways(conv).items() if way != "above" or len(lhs) > 2]
    )
    assert not has_convolutions(function, *args)
    for found in function(*args):
        close(found, expected, 1e-5)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64", "complex64", "int8", "int32"])
@pytest.mark.parametrize(
    "name",
    [
        "3x3 NHWC",
        pytest.param("stride 2", marks=pytest.mark.slow),
        "dilated input",
        pytest.param("depthwise", marks=pytest.mark.slow),
        "groups",
        pytest.param("window larger than input", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("wide", [False, True], ids=["", "preferred"])
def test_dtypes(name, dtype, wide, x64):
    lhs, rhs, kwargs = CASES[name]
    wider = {
        "bfloat16": "float32",
        "float16": "float32",
        "int8": "int32",
        "complex64": "complex128",
    }
    preferred = wider.get(dtype) if wide else None
    conv = lambda lhs, rhs: lax.conv_general_dilated(
        lhs, rhs, **kwargs, preferred_element_type=preferred
    )
    with x64:
        args = [jnp.asarray(2 * array, dtype) for array in arrays(lhs, rhs)]
        if dtype == "complex64":
            args = [args[0] * (1 + 2j), args[1] * (2 - 1j)]
        products = as_products(conv)
        assert not has_convolutions(products, *args)
        # In 16 bits the order of summation costs nothing when sums are kept in 32.
        rtol = {"bfloat16": 2**-8, "float16": 2**-10, "float64": 1e-12}.get(dtype, 1e-6)
        rtol = 1e-6 if preferred == "float32" else rtol
        try:
            expected = jax.jit(conv)(*args)
        except jax.errors.JaxRuntimeError:  # an integer convolution that the backend lacks
            expected = conv(*(arg.astype(float) for arg in args)).astype(preferred or dtype)
        close(jax.jit(products)(*args), expected, rtol)
        if dtype in ("bfloat16", "float16") and not wide:
            close(
                jax.jit(as_products(and_gradients(conv)))(*args),
                jax.jit(and_gradients(conv))(*args),
                rtol,
            )


def equations(jaxpr):
    for equation in jaxpr.eqns:
        yield equation
        inner = list(equation.params.values())
        for value in jax.tree.leaves(inner, is_leaf=lambda x: isinstance(x, (Jaxpr, ClosedJaxpr))):
            if isinstance(value, (Jaxpr, ClosedJaxpr)):
                yield from equations(getattr(value, "jaxpr", value))


def test_precision_and_preferred_element_type_are_kept():
    lhs, rhs, kwargs = CASES["3x3 NHWC"]
    conv = functools.partial(
        lax.conv_general_dilated, **kwargs, precision="highest", preferred_element_type="float32"
    )
    args = arrays(lhs, rhs, jnp.bfloat16)
    (dot,) = (
        e
        for e in equations(jax.make_jaxpr(as_products(conv))(*args).jaxpr)
        if e.primitive is lax.dot_general_p
    )
    assert dot.params["precision"] == (lax.Precision.HIGHEST,) * 2
    assert dot.params["preferred_element_type"] == np.float32

    plain = functools.partial(lax.conv_general_dilated, **kwargs)
    for setting, expected in ((None, lax.Precision.DEFAULT), ("highest", lax.Precision.HIGHEST)):
        with jax.default_matmul_precision(setting):
            jaxpr = jax.make_jaxpr(as_products(plain))(*arrays(lhs, rhs)).jaxpr
        (dot,) = (e for e in equations(jaxpr) if e.primitive is lax.dot_general_p)
        assert dot.params["precision"] == (expected,) * 2


@st.composite
def convolution(draw):
    dims = draw(st.integers(1, 3))
    each = lambda strategy: tuple(draw(strategy) for _ in range(dims))
    size, taps = each(st.integers(1, 6)), each(st.integers(1, 4))
    strides, lhs_dilation, rhs_dilation = (each(st.integers(1, 3)) for _ in range(3))
    padding = each(st.tuples(st.integers(-2, 3), st.integers(-2, 3)))
    features, batches = draw(st.sampled_from([(1, 1), (1, 1), (2, 1), (3, 1), (1, 2), (1, 3)]))
    n, i, o = (draw(st.integers(1, 3)) for _ in range(3))
    for (low, high), length, tap, dilation, apart in zip(
        padding, size, taps, lhs_dilation, rhs_dilation, strict=True
    ):
        dilated = (length - 1) * dilation + 1
        assume(low + dilated > 0 and high + dilated > 0)
        assume(low + dilated + high >= (tap - 1) * apart + 1)
    lhs, rhs = (n * batches, i * features, *size), (o * features * batches, i, *taps)
    orders = [draw(st.permutations(range(dims + 2))) for _ in range(3)]
    place = lambda shape, spec: tuple(shape[spec.index(axis)] for axis in range(dims + 2))
    numbers = lax.ConvDimensionNumbers(*map(tuple, orders))
    kwargs = {
        "window_strides": strides,
        "padding": padding,
        "lhs_dilation": lhs_dilation,
        "rhs_dilation": rhs_dilation,
        "dimension_numbers": numbers,
        "feature_group_count": features,
        "batch_group_count": batches,
    }
    return place(lhs, orders[0]), place(rhs, orders[1]), kwargs


@settings(max_examples=12, deadline=None)
@given(convolution(), st.sampled_from(["inside", "outside", "above"]), st.booleans())
def test_any_convolution(drawn, way, lanes):
    lhs, rhs, kwargs = drawn
    conv = lambda lhs, rhs: lax.conv_general_dilated(lhs, rhs, **kwargs)
    axes = (None, 0) if lanes else None
    # In float32 XLA takes Eigen for some on a CPU, and with negative padding what lay in memory
    # comes out now and then.
    with jax.enable_x64(True) if hasattr(jax, "enable_x64") else experimental.enable_x64(True):
        args = arrays(lhs, (2, *rhs) if lanes else rhs, np.float64)
        plain = jax.vmap(and_gradients(conv), axes) if lanes else and_gradients(conv)
        function = ways(conv)[way](axes)
        assert not has_convolutions(function, *args)
        close(jax.jit(function)(*args), jax.jit(plain)(*args), 1e-10)


# Where a convolution may stand.

CONV = functools.partial(
    lax.conv_general_dilated, window_strides=(1, 1), padding="SAME", dimension_numbers=NHWC
)


def custom_jvp(x, kernel):
    @jax.custom_jvp
    def square(y, kernel):
        return CONV(y, kernel) * jnp.abs(y)

    # A rule of its own, unlike the derivative.
    square.defjvp(lambda primals, tangents: (square(*primals), 3 * tangents[0] + tangents[1].sum()))
    return square(x, kernel)


def custom_vjp(x, kernel):
    @jax.custom_vjp
    def function(y, kernel):
        return CONV(y, kernel)

    function.defvjp(
        lambda y, kernel: (CONV(y, kernel), (y, kernel)),
        lambda kept, g: (CONV(g, kept[1]), 2 * kept[1]),
    )
    return function(x, kernel)


def linear_solve(x, kernel):
    operator = lambda y: y + 0.01 * CONV(y, kernel)
    solve = lambda operator, b: b - operator(b)
    return lax.custom_linear_solve(operator, x, solve, transpose_solve=solve)


PLACES = {
    "jit": lambda x, kernel: jax.jit(CONV)(x, kernel),
    "scan": lambda x, kernel: lax.scan(
        lambda c, _: (jnp.tanh(CONV(c, kernel)), c.sum()), x, None, length=3
    ),
    "scan of jit": lambda x, kernel: lax.scan(
        lambda c, k: (jax.jit(CONV)(c, k), None), x, jnp.stack([kernel] * 2)
    ),
    "fori_loop": lambda x, kernel: lax.fori_loop(0, 3, lambda i, c: jnp.tanh(CONV(c, kernel)), x),
    "cond": lambda x, kernel: lax.cond(x.sum() > 0, lambda: CONV(x, kernel), lambda: x),
    "switch": lambda x, kernel: lax.switch(2, [lambda: x, lambda: 2 * x, lambda: CONV(x, kernel)]),
    "checkpoint": lambda x, kernel: jax.checkpoint(lambda x: jnp.sin(CONV(jnp.sin(x), kernel)))(x),
    "map": lambda x, kernel: lax.map(lambda x: CONV(x[None], kernel)[0], x),
    "vmap": lambda x, kernel: jax.vmap(lambda x: CONV(x[None], kernel)[0])(x),
    "custom_jvp": custom_jvp,
    "custom_vjp": custom_vjp,
    "custom_linear_solve": linear_solve,
    "while": lambda x, kernel: lax.stop_gradient(
        lax.while_loop(
            lambda c: jnp.abs(CONV(c, kernel)).sum() > 1,
            lambda c: 0.5 * jnp.tanh(CONV(c, kernel)),
            x,
        )
    ),
    "gradient": lambda x, kernel: jax.grad(lambda x: jnp.sum(CONV(x, kernel) ** 2))(x),
    "named axis": lambda x, kernel: jax.vmap(
        lambda x: lax.psum(CONV(x[None], kernel), "i"), axis_name="i"
    )(x),
}


@pytest.mark.parametrize(
    "lanes", [pytest.param(False, marks=pytest.mark.slow, id=""), pytest.param(True, id="lanes")]
)
@pytest.mark.parametrize("name", PLACES)
def test_places(name, lanes):
    place = PLACES[name]
    loss = lambda x, kernel: sum(
        jnp.sum(jnp.sin(leaf)) for leaf in jax.tree.leaves(place(x, kernel))
    )
    args = arrays((2, 4, 5, 3), (2, 3, 3, 3, 3) if lanes else (3, 3, 3, 3))
    args = (args[0], 0.3 * args[1])
    gradients = lambda f: jax.value_and_grad(f, argnums=(0, 1))
    lift = lambda f: jax.vmap(f, (None, 0)) if lanes else f
    expected = jax.jit(lift(gradients(loss)))(*args)
    inner, middle, outer = (
        gradients(as_products(loss)),
        as_products(gradients(loss)),
        as_products(lift(gradients(loss))),
    )
    functions = [lift(inner), lift(middle), outer]
    for function, found in zip(functions, together(functions)(*args), strict=True):
        close(found, expected, 1e-5)
        # `as_products(loss)` leaves the rule of a custom derivative as it is.
        assert name in ("custom_jvp", "custom_vjp") or not has_convolutions(function, *args)
    assert not has_convolutions(as_products(lift(gradients(loss))), *args)


@pytest.mark.parametrize(
    "activation", [nn.relu, nn.gelu, nn.silu, nn.relu6, nn.logsumexp], ids=lambda f: f.__name__
)
def test_activations_keep_their_gradients(activation):
    """`jax.nn.relu` has a gradient of 0 at 0 by its own rule."""

    def loss(params, batch):
        x = batch["inputs"]
        for layer in params["layers"]:
            x = activation(CONV(x, layer["kernel"]) + layer["bias"][None, None, None, :])
            x = x if x.ndim == 4 else jnp.full((*batch["inputs"].shape[:3], 3), 1.0) * x
        return jnp.mean((x.mean((1, 2)) - batch["targets"]) ** 2), {"out": x, "text": None}

    x, kernel = arrays((2, 4, 5, 3), (3, 3, 3, 3))
    layer = {"kernel": kernel, "bias": jnp.zeros(3)}
    params, batch = (
        {"layers": [layer, layer]},
        {"inputs": x.at[0].set(0), "targets": jnp.zeros((2, 3))},
    )
    expected = jax.jit(jax.value_and_grad(loss, has_aux=True))(params, batch)
    gradients = functools.partial(jax.value_and_grad, has_aux=True)
    functions = [gradients(as_products(loss)), as_products(gradients(loss))]
    for found in together(functions)(params, batch):
        close(found, expected, 1e-5)


def test_higher_and_forward_derivatives():
    x, kernel = arrays((2, 4, 5, 3), (3, 3, 3, 3))
    loss = lambda kernel: jnp.sum(jnp.tanh(CONV(x, kernel)) ** 2)
    along = lambda f: jax.jvp(jax.grad(f), (kernel,), (jnp.cos(kernel),))
    products = jax.jit(lambda: along(as_products(loss)))
    assert not has_convolutions(products)
    close(products(), along(loss), 1e-5)


# What is left to XLA.

FALLBACKS = {
    "empty batch": (case((0, 3, 5, 6), (4, 3, 3, 3)), np.float32),
    "nothing to see": (case((2, 3, 2, 6), (4, 3, 3, 3), padding="VALID"), np.float32),
    "no features": (case((2, 0, 5, 6), (4, 0, 3, 3)), np.float32),
    "12x12 over 32x32": (case((1, 1, 32, 32), (1, 1, 12, 12)), np.float32),
    "float8": (case((2, 3, 5, 6), (4, 3, 3, 3)), jnp.float8_e4m3fn),
}


@pytest.mark.parametrize("name", FALLBACKS)
def test_what_no_product_is_good_for_stays_a_convolution(name):
    (lhs, rhs, kwargs), dtype = FALLBACKS[name]
    args = arrays(lhs, rhs, dtype)
    conv = lambda lhs, rhs: lax.conv_general_dilated(lhs, rhs, **kwargs)
    assert str(jax.make_jaxpr(as_products(conv))(*args)) == str(jax.make_jaxpr(conv)(*args))
    if dtype == np.float32:
        close(as_products(conv)(*args), conv(*args), 0)


def test_weakly_typed_convolutions_stay():
    conv = lambda x, kernel: CONV(jnp.full((1, 4, 4, 1), x), jnp.full((3, 3, 1, 1), kernel))
    assert has_convolutions(as_products(conv), 1.0, 2.0)
    assert jax.make_jaxpr(as_products(conv))(1.0, 2.0).out_avals[0].weak_type


def test_some_of_several():
    """One convolution falls back, the other does not."""
    function = lambda x, large, small: (
        lax.conv(x, large, (1, 1), "SAME") + lax.conv(x, small, (1, 1), "SAME")
    )
    x, large = arrays((1, 1, 32, 32), (1, 1, 12, 12))
    small = large[:, :, :3, :3]
    found = convolutions.convolutions(jax.make_jaxpr(as_products(function))(x, large, small).jaxpr)
    assert [equation.invars[1].aval.shape for equation in found] == [(1, 1, 12, 12)]
    close(as_products(function)(x, large, small), function(x, large, small), 1e-5)


# A function like the others.


def test_functions_without_convolutions_keep_their_jaxpr():
    task = lrax.tasks.diabetes()
    params = task.init(jax.random.key(0))
    batch = task.batch.at(0, jax.random.key(1))
    for function in (task.loss, jax.value_and_grad(task.loss)):
        assert not has_convolutions(function, params, batch)
        assert str(jax.make_jaxpr(as_products(function))(params, batch)) == str(
            jax.make_jaxpr(function)(params, batch)
        )


def test_jaxprs_without_convolutions_are_the_same_objects():
    function = lambda x: lax.scan(lambda c, _: (jnp.sin(c), None), x, None, length=2)[0]
    jaxpr = jax.make_jaxpr(function)(1.0).jaxpr
    assert convolutions._rewrite(jaxpr) is jaxpr


def test_structure_keywords_consts_and_keys():
    captured = np.arange(9.0, dtype=np.float32).reshape(3, 3, 1, 1)

    def loss(params, batch, key, *, scale=1.0):
        noise = jax.random.normal(key, batch.shape)
        return {
            "loss": (scale * CONV(batch + noise, params["kernel"] * captured)).sum(),
            "none": None,
        }, [params]

    batch, kernel = arrays((2, 4, 4, 1), (3, 3, 1, 1))
    arguments = {"kernel": kernel}, batch, jax.random.key(0)
    close(as_products(loss)(*arguments, scale=2.0), loss(*arguments, scale=2.0), 1e-5)
    assert as_products(loss).__wrapped__ is loss
    shapes = jax.eval_shape(lambda: arguments)
    assert has_convolutions(loss, *shapes)
    assert not has_convolutions(as_products(loss), *shapes)


def test_it_is_traced_once():
    traces = []

    def loss(kernel, x):
        traces.append(None)
        return CONV(x, kernel).sum()

    x, kernel = arrays((2, 4, 4, 3), (3, 3, 3, 3))
    step = jax.jit(jax.vmap(jax.value_and_grad(as_products(loss)), (0, None)))
    for _ in range(3):
        step(jnp.stack([kernel, 2 * kernel]), x)
    assert len(traces) == 1


def test_closed_over_tracers():
    x, kernel = arrays((2, 4, 4, 3), (2, 3, 3, 3, 3))

    def function(kernel):
        return jax.grad(lambda scale: as_products(lambda x: (scale * CONV(x, kernel)).sum())(x))(
            2.0
        )

    expected = jax.vmap(lambda kernel: CONV(x, kernel).sum())(kernel)
    close(jax.jit(jax.vmap(function))(kernel), expected, 1e-5)


def test_inner_jaxprs_are_rewritten_once_and_let_go():
    inner = jax.jit(lambda x, kernel: CONV(x, kernel))
    args = arrays((2, 4, 4, 3), (3, 3, 3, 3))
    jaxprs = [jax.make_jaxpr(as_products(lambda *args: inner(*args)))(*args) for _ in range(2)]
    first, second = (next(e.params["jaxpr"] for e in jaxpr.jaxpr.eqns) for jaxpr in jaxprs)
    assert (
        first is second
    )  # eagerly too: jitted functions are compiled by the identity of their jaxpr

    jaxpr = jax.make_jaxpr(lambda x, kernel: lax.fori_loop(0, 2, lambda i, x: CONV(x, kernel), x))(
        *args
    ).jaxpr
    assert convolutions._rewrite(jaxpr) is not jaxpr
    reference = weakref.ref(jaxpr)
    del jaxpr
    gc.collect()
    assert reference() is None


def test_inside_shard_map():
    mesh = jax.make_mesh((1,), ("lane",), axis_types=(AxisType.Auto,))
    x, kernels = arrays((2, 4, 4, 3), (2, 3, 3, 3, 3))
    loss = lambda kernel, x: lax.scan(
        lambda c, _: (c + CONV(x, kernel).sum(), None), kernel.sum(), None, length=2
    )[0]
    expected = jax.vmap(jax.grad(loss), (0, None))(kernels, x)
    lanes, shared = PartitionSpec("lane"), PartitionSpec()
    for gradient in (jax.grad(as_products(loss)), as_products(jax.grad(loss))):
        sharded = jax.shard_map(
            jax.vmap(gradient, (0, None)), mesh=mesh, in_specs=(lanes, shared), out_specs=lanes
        )
        assert not has_convolutions(sharded, kernels, x)
        close(jax.jit(sharded)(kernels, x), expected, 1e-5)


def test_around_shard_map_nothing_changes():
    mesh = jax.make_mesh((1,), ("lane",), axis_types=(AxisType.Auto,))
    x, kernel = arrays((2, 4, 4, 3), (3, 3, 3, 3))
    lane = PartitionSpec("lane")
    sharded = jax.shard_map(CONV, mesh=mesh, in_specs=(lane, PartitionSpec()), out_specs=lane)
    assert has_convolutions(as_products(sharded), x, kernel)
    close(jax.jit(as_products(sharded))(x, kernel), CONV(x, kernel), 0)


@pytest.mark.slow
def test_the_digits_learn_the_same():
    task = lrax.tasks.digits("cnn", batch_size=32)
    params, batches = (
        task.init(jax.random.key(0)),
        [task.batch.at(i, jax.random.key(1)) for i in range(3)],
    )

    def losses(gradient):
        @jax.jit
        @functools.partial(jax.vmap, in_axes=(0, None, None))
        def step(rate, params, batch):
            loss, grads = gradient(params, batch)
            return loss, jax.tree.map(lambda p, g: p - rate * g, params, grads)

        return [step(jnp.array([0.0, 0.01, 0.1]), params, batch) for batch in batches]

    plain = losses(jax.value_and_grad(task.loss))
    close(losses(jax.value_and_grad(as_products(task.loss))), plain, 1e-5)
    close(losses(as_products(jax.value_and_grad(task.loss))), plain, 1e-5)
