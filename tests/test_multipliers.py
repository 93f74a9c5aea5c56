"""Multipliers of layers and groups: trees from shapes alone, and the tables that they print."""

import re

import jax
import numpy as np
import optax
import pytest
from flax import linen, nnx
from jax import numpy as jnp

import lrax
from lrax import scaling


def timm_layer_scales(names, layer_map, layer_decay, min_scale=0.0):
    """`timm.optim.param_groups_layer_decay` of timm 1.0.31, without torch and weight decay."""
    num_layers = max(layer_map.values()) + 1
    layer_max = num_layers - 1
    layer_scales = list(max(min_scale, layer_decay ** (layer_max - i)) for i in range(num_layers))
    return {name: layer_scales[layer_map.get(name, layer_max)] for name in names}


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


@pytest.mark.parametrize(("decay", "min_scale"), [(0.75, 0.0), (0.65, 0.2), (1.0, 0.0), (0.0, 0.0)])
def test_layer_multipliers_are_those_of_timm(decay, min_scale):
    params = network()
    found = scaling.layer_multipliers(params, decay, layer_of, min_scale=min_scale)
    assert jax.tree.structure(found) == jax.tree.structure(params)
    names = list(paths(params))
    timm = timm_layer_scales(names, {name: layer_of(name) for name in names}, decay, min_scale)
    assert paths(found) == timm
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


class Linen(linen.Module):
    @linen.compact
    def __call__(self, x):
        return linen.Dense(3)(linen.Dense(8)(x))


def linen_shapes():
    wide = jax.ShapeDtypeStruct((1, 2**15), jnp.float32)
    return jax.eval_shape(lambda x: Linen().init(jax.random.key(0), x), wide)


def nnx_shapes():
    return nnx.state(nnx.eval_shape(lambda: nnx.Linear(2**15, 2**17, rngs=nnx.Rngs(0))))


@pytest.mark.parametrize("shapes", [linen_shapes, nnx_shapes])
def test_shapes_are_enough(shapes):
    params = shapes()
    found = scaling.groups(params, {"kernel": 0.5})
    decayed = scaling.layer_multipliers(params, 0.5, lambda path: int("kernel" in path))
    for tree in (found.tree, decayed):
        assert jax.tree.structure(tree) == jax.tree.structure(params)
        assert {type(leaf) for leaf in jax.tree.leaves(tree)} == {float}
