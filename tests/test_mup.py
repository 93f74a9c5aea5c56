"""muP from shapes alone, against the rules of the authors' package."""

import collections
import math

import equinox as eqx
import golden
import jax
import numpy as np
import optax
import pytest
from flax import linen, nnx
from golden import record_scaling
from jax import numpy as jnp

import lrax
from lrax import scaling


def in_out(shape):
    """The same kernel in the layout of Flax: (..., in, out)."""
    return (*shape[2:], *shape[1::-1]) if len(shape) > 1 else shape


def as_tree(shapes):
    return {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in shapes.items()}


RECORDED = [setting for setting in golden.read("scaling")["settings"] if setting["name"] == "mup"]
BASE, TARGET = record_scaling.BASE, record_scaling.TARGET


@pytest.mark.parametrize("layout", ["in_out", "out_in"])
@pytest.mark.parametrize("setting", RECORDED, ids=lambda setting: str(setting["keywords"]))
def test_factors_are_those_of_the_authors_package(setting, layout):
    keywords = setting["keywords"]
    flip = in_out if layout == "in_out" else lambda shape: shape
    base, target = ({name: flip(shape) for name, shape in side.items()} for side in (BASE, TARGET))
    init = "fan_in" if keywords.get("by") == "kaiming_normal_" else "constant"
    options = {"optimizer": keywords.get("optimizer", "adam"), "layout": layout, "init": init}
    found = scaling.mup_multipliers(as_tree(base), as_tree(target), **options)
    factors = getattr(found, keywords["of"])
    # What PyTorch draws is single precision.
    rel = 1e-7 if keywords["of"] == "init" else 1e-15
    for name, factor in setting["factors"].items():
        assert factors[name] == pytest.approx(factor, rel=rel), name
    if keywords["of"] == "forward":  # `MuReadout` alone has a factor
        assert {name for name, factor in factors.items() if factor != 1} == {"readout.weight"}
    free = scaling.mup_multipliers(as_tree(base), as_tree(target), **options, decay="independent")
    assert set(free.weight_decay.values()) == {1.0}
    assert free.lr == found.lr


def test_kinds_are_told_by_shapes():
    base, target = as_tree(BASE), as_tree(TARGET)
    kinds = scaling.mup_multipliers(base, target, layout="out_in").kinds
    assert kinds == {
        "conv_in": "input",
        "conv": "hidden",
        "depthwise": "input",
        "up": "hidden",
        "down": "hidden",
        "bias": "vector",
        "gain": "vector",
        "logit_scale": "scalar",
        "positions": "scalar",
        "readout.weight": "output",
        "readout.bias": "scalar",
    }


@pytest.mark.parametrize("decay", ["mup", "independent", "sqrt_width"])
@pytest.mark.parametrize("optimizer", ["adam", "sgd", "muon"])
def test_the_network_itself_and_the_way_back(optimizer, decay):
    base, target = as_tree(BASE), as_tree(TARGET)
    make = lambda a, b: scaling.mup_multipliers(a, b, optimizer=optimizer, decay=decay)
    same, there, back = make(target, target), make(base, target), make(target, base)
    for field in ("lr", "weight_decay", "init", "forward"):
        assert set(getattr(same, field).values()) == {1.0}
        for name, factor in getattr(there, field).items():
            assert factor * getattr(back, field)[name] == pytest.approx(1, rel=1e-12)


def test_decay_and_muon():
    base, target = as_tree({"w": (8, 8), "up": (8, 8)}), as_tree({"w": (32, 32), "up": (32, 128)})
    make = lambda **kw: scaling.mup_multipliers(base, target, **kw)
    for optimizer in ("adamw", "muon", "sgd"):
        kept = make(optimizer=optimizer)
        assert all(kept.lr[name] * kept.weight_decay[name] == 1 for name in base)
        assert make(optimizer=optimizer, decay="sqrt_width").weight_decay == {"w": 2, "up": 2}
    assert make(optimizer="muon").lr == {"w": 1, "up": 2}, "an orthogonal update keeps its norm"


def test_muon_meets_the_spectral_condition():
    # ||dW||_2 = sqrt(n_out / n_in) times the same number in both networks.
    base, target = as_tree({"w": (8, 12)}), as_tree({"w": (64, 320)})
    factor = scaling.mup_multipliers(base, target, optimizer="muon").lr["w"]
    assert factor == pytest.approx(math.sqrt(320 / 64) / math.sqrt(12 / 8))


class Linen(linen.Module):
    width: int

    @linen.compact
    def __call__(self, tokens):
        x = linen.Embed(50, self.width, name="embed")(tokens)
        x = linen.MultiHeadDotProductAttention(num_heads=self.width // 4, name="attention")(x)
        x = linen.Dense(2 * self.width, name="hidden")(linen.LayerNorm(name="norm")(x))
        return linen.Dense(10, name="head")(x)


def linen_shapes(width):
    tokens = jax.ShapeDtypeStruct((1, 6), jnp.int32)
    key = jax.random.key(0)
    return jax.eval_shape(lambda x: Linen(width).init(key, x), tokens)["params"]


class Nnx(nnx.Module):
    def __init__(self, width):
        rngs = nnx.Rngs(0)
        self.embed = nnx.Embed(50, width, rngs=rngs)
        self.hidden = nnx.Linear(width, 2 * width, rngs=rngs)
        self.head = nnx.Linear(2 * width, 10, rngs=rngs)


def nnx_shapes(width):
    return nnx.state(nnx.eval_shape(lambda: Nnx(width)))


def equinox_shapes(width):
    key = jax.random.key(0)
    make = lambda: {
        "embed": eqx.nn.Embedding(50, width, key=key),
        "hidden": eqx.nn.Linear(width, 2 * width, key=key),
        "head": eqx.nn.Linear(2 * width, 10, key=key),
    }
    return eqx.filter_eval_shape(make)


def haiku_shapes(width):
    return {
        "embed": {"embeddings": np.empty((50, width))},
        "mlp/~/hidden": {"w": np.empty((width, 2 * width)), "b": np.empty(2 * width)},
        "mlp/~/head": {"w": np.empty((2 * width, 10)), "b": np.empty(10)},
    }


@pytest.mark.parametrize("shapes", [linen_shapes, nnx_shapes, equinox_shapes, haiku_shapes])
def test_parameters_of_every_framework(shapes):
    target = shapes(32)
    layout = "out_in" if shapes is equinox_shapes else "in_out"
    found = scaling.mup_multipliers(shapes(8), target, layout=layout)
    assert jax.tree.structure(found.lr) == jax.tree.structure(target)
    matrices = {"embed": "input", "hidden": "hidden", "head": "output", "attention": "hidden"}
    for path, kind in jax.tree_util.tree_flatten_with_path(found.kinds)[0]:
        parts = jax.tree_util.keystr(path, simple=True, separator="/").split("/")
        part = next(part for part in (*matrices, "norm") if part in parts)
        vector = "scalar" if part == "head" else "vector"
        is_vector = part == "norm" or {"bias", "b"} & set(parts)
        assert kind == (vector if is_vector else matrices[part]), parts
    rates = sorted(set(jax.tree.leaves(found.lr)))
    assert rates == [0.25, 1.0]
    assert sorted(set(jax.tree.leaves(found.forward))) == [0.25, 1.0]


def test_a_large_model_needs_shapes_only():
    def shapes(width):
        matrix = lambda *shape: jax.ShapeDtypeStruct(shape, jnp.bfloat16)
        block = lambda: {"qkv": matrix(width, 3, width), "up": matrix(width, 4 * width)}
        return {f"block_{i}": block() for i in range(100)} | {"head": matrix(width, 50_000)}

    found = scaling.mup_multipliers(shapes(256), shapes(2048))
    assert str(found).splitlines()[1].split()[-3:] == ["200", "2,936,012,800", "block_0/qkv"]


@pytest.mark.parametrize("layout", ["in_out", "out_in"])
def test_a_kind_may_be_told(layout):
    table, output = (50, 8), (8, 50) if layout == "in_out" else (50, 8)
    base = as_tree({"embed": table, "wte": table, "unembed": output, "heads": (8, 4, 2)})
    wide = lambda shape: tuple(32 if size == 8 else size for size in shape)
    target = as_tree({name: wide(leaf.shape) for name, leaf in base.items()})
    kinds = {"^wte": "input", "heads": "vector"}
    found = scaling.mup_multipliers(base, target, layout=layout, optimizer="sgd", kinds=kinds)
    expected = {"embed": "input", "wte": "input", "unembed": "output", "heads": "vector"}
    assert found.kinds == expected
    assert set(found.lr.values()) == {4.0}
    assert found.forward == {**dict.fromkeys(base, 1.0), "unembed": 0.25}


def test_the_table_has_a_line_for_each_kind_and_factor():
    found = scaling.mup_multipliers(as_tree(BASE), as_tree(TARGET), layout="out_in")
    assert str(found) == repr(found)
    head, *lines = [line.split() for line in str(found).splitlines()]
    assert head[:6] == ["kind", "lr", "weight_decay", "init", "forward", "arrays"]
    kinds = ["hidden", "hidden", "input", "output", "vector", "scalar"]
    assert [line[0] for line in lines] == kinds
    assert lines[0] == ["hidden", "0.25", "4", "0.5", "1", "2", "30,720", "conv"]
    sizes = sum(math.prod(shape) for shape in TARGET.values())
    assert sum(int(line[6].replace(",", "")) for line in lines) == sizes


@pytest.mark.parametrize(
    ("base", "target", "more", "words"),
    [
        ({"w": (2, 2)}, {"v": (4, 4)}, {}, "got v in `target` alone and w in `base` alone"),
        ({"w": (2, 2)}, {"w": (4, 4, 1)}, {}, r"must have the axes of `base`.* at 'w'"),
        ({"w": (0, 2)}, {"w": (4, 4)}, {}, "none of length 0"),
        ({"w": (2, 2, 2)}, {"w": (4, 4, 4)}, {}, "at most two axes"),
        ({"w": (2, 2)}, {"w": (4, 4)}, {"kinds": {"v": "input"}}, "`kinds` must have patterns"),
        (
            {"w": (2, 2)},
            {"w": (4, 4)},
            {"kinds": {"w": "hidden"}},
            r"`kinds\['w'\]` must be one of",
        ),
    ],
)
def test_trees_that_do_not_belong_together_are_named(base, target, more, words):
    with pytest.raises(ValueError, match=words):
        scaling.mup_multipliers(as_tree(base), as_tree(target), **more)


def moved(width, optimizer, base, steps=5):
    """The mean size of the change of the outputs of a network of three layers in a few updates."""
    keys = jax.random.split(jax.random.key(0), 3)
    shapes = lambda width: {"in": (16, width), "mid": (width, width), "out": (width, 4)}
    params = {
        name: jax.random.normal(key, shape) / math.sqrt(shape[0])
        for key, (name, shape) in zip(keys, shapes(width).items(), strict=True)
    }
    mup = scaling.mup_multipliers(as_tree(shapes(base)), params, optimizer=optimizer, init="fan_in")
    # A readout of zeros, as is usual: what it starts with would shrink with the width.
    params = jax.tree.map(jnp.multiply, params, mup.init) | {"out": jnp.zeros((width, 4))}
    x, y = jax.random.normal(jax.random.key(1), (2, 32, 16))
    labels = y[:, :4]

    def outputs(params):
        params = jax.tree.map(jnp.multiply, params, mup.forward)
        return jnp.tanh(jnp.tanh(x @ params["in"]) @ params["mid"]) @ params["out"]

    direction = {"adam": optax.scale_by_adam(), "sgd": optax.identity()}[optimizer]
    rate = {"adam": 0.02, "sgd": 0.2}[optimizer]
    optimizer = optax.chain(direction, lrax.scale_by_multipliers(mup.lr), lrax.scale_by_lr(rate))

    @jax.jit
    def run(params):
        state = optimizer.init(params)
        first = outputs(params)
        for _ in range(steps):
            grads = jax.grad(lambda params: jnp.mean((outputs(params) - labels) ** 2))(params)
            updates, state = optimizer.update(grads, state, params)
            params = optax.apply_updates(params, updates)
        return jnp.sqrt(jnp.mean((outputs(params) - first) ** 2))

    return float(run(params))


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_a_few_updates_move_the_outputs_alike_at_every_width(optimizer):
    widths = [64, 256, 1024]
    slope = lambda sizes: np.polyfit(np.log(widths), np.log(sizes), 1)[0]
    with_mup = slope([moved(width, optimizer, base=64) for width in widths])
    without = slope([moved(width, optimizer, base=width) for width in widths])
    assert abs(with_mup) < 0.1 < without


def test_parameters_in_another_order_are_refused():
    narrow = collections.OrderedDict(a=np.ones((4, 8)), b=np.ones((8, 4)))
    wide = collections.OrderedDict(b=np.ones((16, 4)), a=np.ones((4, 16)))
    with pytest.raises(ValueError, match="`target` must have its parameters in the same order"):
        lrax.scaling.mup_multipliers(narrow, wide)
