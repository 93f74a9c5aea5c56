"""Multipliers of layers and groups: trees from shapes alone, and the tables that they print."""

import re
import tracemalloc

import equinox
import golden
import jax
import numpy as np
import optax
import pytest
from flax import linen, nnx
from jax import numpy as jnp

import lrax
from lrax import scaling


def network(blocks=4):
    block = lambda: {"attn": {"kernel": np.ones((8, 8)), "bias": np.ones(8)}, "norm": np.ones(8)}
    trunk = {f"block_{i}": block() for i in range(blocks)}
    return {"embed": np.ones((20, 8)), **trunk, "norm": np.ones(8), "head": np.ones((8, 3))}


def layer_of(path):
    if match := re.match(r"block_(\d+)/", path):
        return int(match[1]) + 1
    return 0 if path == "embed" else 5


def paths(tree):
    flat = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in flat}


TIMM = [setting for setting in golden.read("scaling")["settings"] if setting["name"] == "timm"]


@pytest.mark.parametrize("setting", TIMM, ids=lambda setting: str(setting["keywords"]))
def test_layer_multipliers_are_those_of_timm(setting):
    def layer_of(name):
        if match := re.match(r"blocks\.(\d+)", name):
            return int(match[1]) + 1
        return {"embed": 0, "norm": 4, "head": 5}[name.partition(".")[0]]

    params = {name: np.empty(1) for name in setting["factors"]}
    found = scaling.layer_multipliers(params, layer_of=layer_of, **setting["keywords"])
    assert found == setting["factors"]
    assert {type(leaf) for leaf in jax.tree.leaves(found)} == {float}


def test_layer_multipliers_may_be_traced_and_differentiated(x64):
    params = network()
    make = lambda decay, low: scaling.layer_multipliers(params, decay, layer_of, min_scale=low)
    with x64:
        jitted = jax.jit(make)(0.7, 0.3)
        for leaf, expected in zip(
            jax.tree.leaves(jitted), jax.tree.leaves(make(0.7, 0.3)), strict=True
        ):
            assert leaf.dtype == np.float64
            np.testing.assert_allclose(leaf, expected, rtol=1e-14)
        slopes = jax.device_get(jax.jacfwd(make)(0.7, 0.3))
    assert slopes["block_3"]["norm"] == pytest.approx(1)
    assert slopes["block_2"]["norm"] == pytest.approx(2 * 0.7)
    assert slopes["head"] == slopes["embed"] == 0, "the last layer, and one at its lowest scale"


def test_every_layer_moves_by_its_multiplier():
    params = jax.tree.map(jnp.asarray, network())
    multipliers = scaling.layer_multipliers(params, 0.5, layer_of)
    optimizer = optax.chain(lrax.scale_by_multipliers(multipliers), lrax.scale_by_lr(1.0))
    updates, _ = optimizer.update(params, optimizer.init(params), params)
    moved = jax.tree.map(lambda update: -float(update.ravel()[0]), updates)
    assert moved == multipliers


def test_groups_take_the_first_pattern_that_matches():
    params = network(blocks=2)
    found = scaling.groups(params, {"norm$": 0.0, "^block_0/": 0.1, "^(block|embed)": 0.5})
    expected = {
        "embed": 0.5,
        "block_0": {"attn": {"kernel": 0.1, "bias": 0.1}, "norm": 0.0},
        "block_1": {"attn": {"kernel": 0.5, "bias": 0.5}, "norm": 0.0},
        "norm": 0.0,
        "head": 1.0,
    }
    assert found.tree == expected
    assert found.names["block_0"]["norm"] == "norm$"
    assert str(found) == repr(found)
    assert [line.split() for line in str(found).splitlines()] == [
        ["group", "multiplier", "arrays", "parameters", "such", "as"],
        ["^block_0/", "0.1", "2", "72", "block_0/attn/bias"],
        ["norm$", "0", "3", "24", "block_0/norm"],
        ["^(block|embed)", "0.5", "3", "232", "block_1/attn/bias"],
        ["(others)", "1", "1", "24", "head"],
    ]
    lrax.scale_by_multipliers(found.tree).init(params)


def test_a_group_may_be_traced():
    def moved(factor):
        tree = scaling.groups({"a": jnp.ones(2), "b": jnp.ones(2)}, {"a": factor})
        assert "traced" in str(tree)
        return lrax.scale_by_multipliers(tree.tree).update(
            {"a": jnp.ones(2), "b": jnp.ones(2)}, ()
        )[0]

    np.testing.assert_allclose(jax.vmap(moved)(jnp.array([0.0, 0.5]))["a"][:, 0], [0, 0.5])


@pytest.mark.parametrize(
    ("multipliers", "words"),
    [
        ({"blok": 0.1}, "'blok' is found nowhere; the paths are 'block_0/attn/bias'.* and 10 more"),
        (
            {"block": 0.1, "block_0": 1.0},
            "'block_0' is found only where an earlier pattern is",
        ),
        ({"(": 0.1}, r"regular expressions as patterns, got '\('"),
        ({"block": -0.1}, r"`multipliers\['block'\]` must be finite and non-negative, got -0.1"),
        ({"block": [0.1, 0.2]}, r"`multipliers\['block'\]` must be a scalar"),
        ({}, "at least one pattern"),
    ],
)
def test_groups_that_are_no_groups_are_named(multipliers, words):
    with pytest.raises(ValueError, match=words):
        scaling.groups(network(), multipliers)


def test_layers_and_trees_that_are_none_are_named():
    params = network()
    with pytest.raises(
        ValueError, match=r"`layer_of\('block_0/attn/bias'\)` must be at least 0, got -1"
    ):
        scaling.layer_multipliers(params, 0.5, lambda path: -1)
    with pytest.raises(TypeError, match="must be an int, got '0'"):
        scaling.layer_multipliers(params, 0.5, lambda path: "0")
    with pytest.raises(
        TypeError, match=r"`params` must be a pytree of arrays or of shapes.* at 'f'"
    ):
        scaling.groups({"f": jax.nn.relu}, {"f": 1.0})
    with pytest.raises(ValueError, match="`multipliers` must have the structure of `params`"):
        scaling.table({"body": 1.0}, params)


def test_a_table_splits_groups_by_multiplier():
    params = network(blocks=2)
    multipliers = scaling.layer_multipliers(params, 0.5, lambda path: int(path == "head"))
    by_part = scaling.table(multipliers, params).splitlines()
    assert len(by_part) == 1 + len(params)
    whole = scaling.table(multipliers, params, group=lambda path: "all").splitlines()
    assert [line.split()[:4] for line in whole[1:]] == [
        ["all", "0.5", "8", "328"],
        ["all", "1", "1", "24"],
    ]
    assert "0.5 to 1" in scaling.table({**multipliers, "head": np.array([0.5, 1, 1])}, params)


def test_a_table_has_the_rates_where_one_is_given():
    params = network(blocks=1)
    multipliers = {**dict.fromkeys(params, 0.5), "head": np.array([0.5, 1, 1])}
    cells = [line.split() for line in scaling.table(multipliers, params, lr=3e-3).splitlines()]
    assert cells[0][:4] == ["group", "multiplier", "rate", "arrays"]
    assert all(row[1:3] == ["0.5", "0.0015"] for row in cells[1:] if row[0] != "head")
    (head,) = (row for row in cells if row[0] == "head")
    assert head[4:7] == ["0.0015", "to", "0.003"]
    assert "rate" not in scaling.table(multipliers, params)

    printed = str(scaling.groups(params, {"^head": 0.0}, lr=jnp.float32(3e-3))).splitlines()
    assert [line.split()[:3] for line in printed[1:]] == [
        ["(others)", "1", "0.003"],
        ["^head", "0", "0"],
    ]
    seen = []
    jax.jit(lambda rate: seen.append(str(scaling.groups(params, {"^head": 0.5}, lr=rate))))(0.1)
    assert seen[0].count("traced") == 2
    for function, first in (
        (scaling.table, (multipliers, params)),
        (scaling.groups, (params, {"^head": 0.5})),
    ):
        with pytest.raises(ValueError, match=r"`lr` must be .*got -1"):
            function(*first, lr=-1.0)


WIDE = 2**15


class Linen(linen.Module):
    @linen.compact
    def __call__(self, x):
        return linen.Dense(2**17, name="body")(x)


def linen_shapes():
    x = jax.ShapeDtypeStruct((1, WIDE), jnp.float32)
    return jax.eval_shape(lambda x: Linen().init(jax.random.key(0), x), x)


def nnx_shapes():
    make = lambda: nnx.Sequential(nnx.Linear(WIDE, 2**17, rngs=nnx.Rngs(0)))
    return nnx.state(nnx.eval_shape(make))


def equinox_shapes():
    make = lambda: {"body": equinox.nn.Linear(WIDE, 2**17, key=jax.random.key(0))}
    return equinox.filter_eval_shape(make)


def haiku_shapes():
    shape = lambda *shape: jax.ShapeDtypeStruct(shape, jnp.float32)
    return {"mlp/~/body": {"w": shape(WIDE, 2**17), "b": shape(2**17)}}


@pytest.mark.parametrize("shapes", [linen_shapes, nnx_shapes, equinox_shapes, haiku_shapes])
def test_shapes_of_every_framework_are_enough(shapes):
    params = shapes()
    is_bias = lambda path: bool(re.search("(^|/)b(ias)?(/|$)", path))
    names = list(paths(params))
    found = scaling.groups(params, {"(^|/)b(ias)?(/|$)": 0.5})
    decayed = scaling.layer_multipliers(params, 0.5, lambda path: int(not is_bias(path)))
    muon = scaling.muon_multipliers(
        params, "spectral", layout="out_in" if shapes is equinox_shapes else "in_out"
    )
    assert sum(map(is_bias, names)) == 1 < len(names)
    for tree, kernel in ((found.tree, 1.0), (decayed, 1.0), (muon, 2.0)):
        assert jax.tree.structure(tree) == jax.tree.structure(params)
        bias = 1.0 if tree is muon else 0.5
        assert jax.tree.leaves(tree) == [bias if is_bias(name) else kernel for name in names]


def test_a_large_model_takes_no_memory():
    """The shapes of a transformer of 1.3 billion parameters, narrow and wide."""

    def init(width):
        normal = lambda *shape: jax.random.normal(jax.random.key(0), shape)
        block = lambda: {
            "qkv": {"kernel": normal(width, 3 * width), "bias": jnp.zeros(3 * width)},
            "out": {"kernel": normal(width, width), "bias": jnp.zeros(width)},
            "up": {"kernel": normal(width, 4 * width), "bias": jnp.zeros(4 * width)},
            "down": {"kernel": normal(4 * width, width), "bias": jnp.zeros(width)},
            "norm": jnp.ones(width),
        }
        return {
            "embed": normal(50_304, width),
            **{f"block_{i}": block() for i in range(24)},
            "head": normal(width, 50_304),
        }

    base, target = (jax.eval_shape(lambda width=width: init(width)) for width in (256, 2048))
    assert sum(leaf.size for leaf in jax.tree.leaves(target)) > 1.3e9
    before = len(jax.live_arrays())
    tracemalloc.start()
    mup = scaling.mup_multipliers(base, target, optimizer="adamw")
    layers = scaling.layer_multipliers(
        target, 0.9, lambda path: int(path[6:].partition("/")[0]) if path[0] == "b" else 0
    )
    groups = scaling.groups(target, {"bias|norm": 0.5})
    muon = scaling.muon_multipliers(target, "match_rms_adamw")
    text = scaling.table(mup.lr, target)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(jax.live_arrays()) == before
    assert peak < 5e6, "bytes"
    for tree in (mup.lr, mup.weight_decay, mup.init, mup.forward, layers, groups.tree, muon):
        assert {type(leaf) for leaf in jax.tree.leaves(tree)} == {float}
    assert mup.lr["block_3"]["up"]["kernel"] == 1 / 8
    assert "block_3" in text
