"""Muon's conventions against three packages, and the spectral condition."""

import golden
import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

import lrax
from lrax import scaling

RECORDED = [setting for setting in golden.read("scaling")["settings"] if setting["name"] == "muon"]
CONVENTIONS = ("orthogonal", "original", "match_rms_adamw", "consistent_rms", "spectral")


def named(setting):
    return " ".join(map(str, list(setting["keywords"].values())[:-1]))


@pytest.mark.parametrize("setting", RECORDED, ids=named)
def test_multipliers_are_those_of_the_packages(setting):
    keywords = setting["keywords"]
    convention = {"rms_to_rms": "spectral"}.get(keywords["convention"], keywords["convention"])
    layout = "in_out" if keywords["package"] == "optax" else "out_in"
    options = {"layout": layout, "rms": keywords.get("rms")}
    params = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in keywords["shapes"]]
    found = scaling.muon_multipliers(params, convention, **options)
    np.testing.assert_allclose(found, setting["factors"], rtol=1e-6)
    rates = [
        scaling.muon_rate(0.5, leaf.shape, from_=convention, to="orthogonal", **options)
        for leaf in params
    ]
    np.testing.assert_allclose(rates, 0.5 * np.array(setting["factors"]), rtol=1e-6)


def test_layouts_are_transposes_and_kernels_are_flattened():
    for convention in CONVENTIONS[:3]:
        make = lambda shape, layout, convention=convention: scaling.muon_multipliers(
            np.empty(shape), convention, layout=layout
        )
        for kernel, flat in (((3, 5, 4, 16), (60, 16)), ((16, 4, 3, 5), (16, 60))):
            layout = "in_out" if kernel[0] == 3 else "out_in"
            assert make(kernel, layout) == make(flat, layout)
        assert make((8, 32), "in_out") == make((32, 8), "out_in")


def test_sides_may_be_told():
    params = {"query": np.empty((8, 4, 16)), "stack": np.empty((5, 8, 32)), "bias": np.empty(8)}
    sides = optax.contrib.MuonDimensionNumbers(reduction_axis=1, output_axis=-1)
    axes = {"query": (0, (1, 2)), "stack": sides}
    found = scaling.muon_multipliers(params, "spectral", axes=axes)
    assert found == {"query": 8**0.5, "stack": 2.0, "bias": 1.0}


def test_one_convention_runs_in_an_optimizer_of_another():
    params = {"up": jnp.linspace(-1, 1, 48).reshape(4, 12), "down": jnp.eye(12, 4)}
    wanted = scaling.muon_multipliers(params, "spectral", relative_to="original")
    optimizer = optax.chain(optax.contrib.muon(0.1), lrax.scale_by_multipliers(wanted))

    @jax.jit
    def norms(params):
        updates, _ = optimizer.update(params, optimizer.init(params), params)
        return [jnp.linalg.norm(updates[name], ord=2) for name in ("up", "down")]

    # 0.1 times sqrt(out / in), but for what the iterations of Newton and Schulz leave.
    np.testing.assert_allclose(norms(params), [0.1 * 3**0.5, 0.1 / 3**0.5], rtol=0.35)


def test_rates_convert_back_and_forth_and_may_be_traced():
    shape, options = (12, 48), {"rms": 0.3}
    rates = jnp.array([0.1, 0.2])
    for convention in CONVENTIONS:
        there = dict(from_="consistent_rms", to=convention, **options)
        back = dict(from_=convention, to="consistent_rms", **options)
        rate = scaling.muon_rate(0.1, shape, **there)
        assert isinstance(rate, float)
        assert scaling.muon_rate(rate, shape, **back) == pytest.approx(0.1, rel=1e-14)
        lanes = jax.vmap(lambda lr, there=there: scaling.muon_rate(lr, shape, **there))(rates)
        np.testing.assert_allclose(lanes, [rate, 2 * rate], rtol=1e-6)


def test_the_spectral_condition_is_the_norm_of_each_layer():
    random = np.random.default_rng(0)
    make = lambda *shape: random.normal(size=shape).astype(np.float32)
    params = {
        "w": make(6, 24),
        "conv": make(3, 2, 4, 8),
        "layers": make(2, 8, 4),
        "embed": make(10, 4),
        "bias": make(2, 3),
        "gain": make(5),
        "temperature": make(),
    }
    updates = jax.tree.map(lambda leaf: 0.1 * leaf, params)
    axes = {"layers": (1, 2), "embed": ((), 1)}
    check = jax.jit(lambda *trees: scaling.spectral_condition(*trees, axes=axes))
    found = check(params, updates)
    largest = lambda matrix: np.linalg.svd(matrix.astype(float), compute_uv=False)[..., 0].max()
    rms = lambda leaf: np.sqrt(np.mean(leaf.astype(float) ** 2))
    wanted = {
        "w": largest(params["w"]) / 2,
        "conv": largest(params["conv"].reshape(24, 8)) * 3**0.5,
        "layers": largest(params["layers"]) * 2**0.5,
        "embed": max(map(rms, params["embed"])),
        "bias": rms(params["bias"]),
        "gain": rms(params["gain"]),
        "temperature": abs(float(params["temperature"])),
    }
    for name, expected in wanted.items():
        np.testing.assert_allclose(found.weights[name], expected, rtol=2e-5, err_msg=name)
        np.testing.assert_allclose(found.updates[name], 0.1 * expected, rtol=2e-5, err_msg=name)
    lines = str(found).splitlines()
    assert lines[0].split() == ["weights", "updates", "parameter"]
    assert [line.split()[-1] for line in lines[1:]] == sorted(params)


def test_mup_meets_the_spectral_condition_where_plain_adam_does_not():
    make = lambda width: {
        "up": jax.ShapeDtypeStruct((width, 2 * width), jnp.float32),
        "down": jax.ShapeDtypeStruct((2 * width, width), jnp.float32),
    }

    def ratios(width, with_mup):
        # Gradients of low rank, as those of a small batch are.
        sides = jax.tree.map(
            lambda leaf: np.outer(np.ones(leaf.shape[0]), np.ones(leaf.shape[1])), make(width)
        )
        mup = scaling.mup_multipliers(make(16), make(width))
        updates = jax.tree.map(np.multiply, sides, mup.lr) if with_mup else sides
        return jax.tree.leaves(scaling.spectral_condition(sides, updates).updates)

    np.testing.assert_allclose(ratios(16, True), ratios(64, True), rtol=1e-5)
    np.testing.assert_allclose(np.array(ratios(64, False)) / ratios(16, False), 4, rtol=1e-5)


@pytest.mark.parametrize(
    ("changed", "error", "words"),
    [
        ({"convention": "consistent_rms"}, ValueError, "`rms` must be given for 'consistent_rms'"),
        ({"rms": 0.2}, ValueError, "`rms` must be given for 'consistent_rms', and for it alone"),
        ({"convention": "kimi"}, ValueError, "`convention` must be one of"),
        ({"axes": {"w": (0, 2)}}, ValueError, r"`axes\['w'\]` must be axes of 'w', whose shape"),
        ({"axes": {"w": (0, 0)}}, ValueError, r"`axes\['w'\]` must not name an axis twice"),
        ({"axes": {"w": 1}}, TypeError, r"`axes\['w'\]` must be a tuple"),
        ({"axes": {"v": (0, 1)}}, ValueError, "`axes` must have patterns that catch a parameter"),
        ({"params": {"w": np.empty((0, 2))}}, ValueError, "`params` must have no axis of length 0"),
    ],
)
def test_what_is_no_matrix_is_named(changed, error, words):
    arguments = {"params": {"w": np.ones((4, 2))}, "convention": "original"} | changed
    with pytest.raises(error, match=words):
        scaling.muon_multipliers(**arguments)
