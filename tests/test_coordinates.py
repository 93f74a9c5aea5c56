"""The coordinate check, and the layers that it reads from a loss."""

import jax
import numpy as np
import optax
import pytest
from jax import lax, nn, numpy as jnp

import lrax
from lrax import scaling
from lrax.scaling.coordinates import CoordCheck
from lrax.scaling.products import layer_outputs
from lrax.tasks.networks import MLP, Transformer

X = np.random.default_rng(0).normal(size=(16, 8)).astype(np.float32)
Y = np.random.default_rng(1).integers(4, size=16).astype(np.int32)


def network(width):
    return MLP((8, width, width, 4))


def entropy(logits, labels):
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def task(width, init=None, forward=None):
    """A classifier of random examples; with the factors of muP if they are given."""
    times = lambda params, factors: (
        params if factors is None else jax.tree.map(jnp.multiply, params, factors)
    )
    return lrax.Task(
        init=lambda key: times(network(width).init(key), init),
        loss=lambda params, batch: entropy(
            network(width).apply(times(params, forward), batch["x"]), batch["y"]
        ),
        batch=lambda step, key: {"x": X, "y": Y},
    )


def mup(width, optimizer):
    shapes = lambda width: jax.eval_shape(network(width).init, jax.random.key(0))
    return scaling.mup_multipliers(shapes(32), shapes(width), optimizer=optimizer, init="fan_in")


DIRECTIONS = {"adam": (optax.scale_by_adam, 1e-3), "sgd": (optax.identity, 0.1)}


def scaled(optimizer):
    """The two arguments of a check of muP."""
    direction, rate = DIRECTIONS[optimizer]

    def made(width):
        factors = mup(width, optimizer)
        return task(width, factors.init, factors.forward)

    def chained(width):
        multipliers = lrax.scale_by_multipliers(mup(width, optimizer).lr)
        return optax.chain(direction(), multipliers, lrax.scale_by_lr(rate))

    return made, chained


def test_mup_is_stable_and_adam_without_it_is_not():
    made, chained = scaled("adam")
    check = scaling.coord_check(made, [32, 256], steps=2, optimizer=chained)
    assert check.stable
    assert check.layers == ["dense_0/kernel", "dense_1/kernel", "dense_2/kernel"]
    assert max(map(abs, check.slopes.values())) < 0.1
    # The outputs of the last layer shrink at the start, as muP has it.
    assert check.start_slopes["dense_2/kernel"] == pytest.approx(-0.5, abs=0.15)
    assert check.changes["dense_0/kernel"].shape == (2, 3, 2)
    # Adam moves each entry by the rate, and the entries of hidden activations agree in sign, so the
    # changes grow with the width.
    plain = scaling.coord_check(task, [256, 32], steps=2)
    assert plain.widths == [32, 256]
    assert plain.verdicts == {
        "dense_0/kernel": "width-stable",
        "dense_1/kernel": "grows",
        "dense_2/kernel": "grows",
    }
    assert "dense_1/kernel" in str(plain)
    assert not plain.stable


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", DIRECTIONS)
def test_over_a_wide_range_of_widths(optimizer):
    widths = [64, 128, 256, 512]
    made, chained = scaled(optimizer)
    check = scaling.coord_check(made, widths, optimizer=chained)
    assert check.stable, check
    direction, rate = DIRECTIONS[optimizer]
    alone = optax.chain(direction(), lrax.scale_by_lr(rate))
    plain = scaling.coord_check(task, widths, optimizer=alone)
    # In SGD the last layer's gradients, and so its changes, grow with the width. Those of the first
    # layer fall with it.
    first = {"adam": "width-stable", "sgd": "vanishes"}[optimizer]
    assert plain.verdicts["dense_0/kernel"] == first
    assert plain.verdicts["dense_2/kernel"] == "grows"


@pytest.mark.slow
def test_own_activations_and_a_state():
    def loss(params, state, batch, key):
        del key
        return entropy(network(32).apply(params, batch["x"]), batch["y"]), state + 1

    stateful = lrax.Task(
        lambda key: (network(32).init(key), jnp.zeros(())),
        loss,
        lambda step, key: {"x": X, "y": Y},
        stateful=True,
    )
    read = scaling.coord_check(lambda width: stateful, [1, 2], steps=2, seeds=1)
    own = scaling.coord_check(
        lambda width: stateful,
        [1, 2],
        steps=2,
        seeds=1,
        activations=lambda params, state, batch: {
            "out": network(32).apply(params, batch["x"]) - params["dense_2"]["bias"][None],
            "state": state,
        },
    )
    np.testing.assert_allclose(own.changes["out"], read.changes["dense_2/kernel"], rtol=1e-4)
    np.testing.assert_allclose(own.changes["state"], [[[1, 2]], [[1, 2]]])
    assert own.slopes["state"] == pytest.approx(0, abs=1e-12)


def test_slopes_leave_out_updates_without_a_change():
    sizes = {"a": np.array([[1.0], [1.0]]), "b": np.array([[1.0], [8.0]])}
    moves = np.array([[[0.0, 1.0, 2.0]], [[0.0, 4.0, 8.0]]])
    check = CoordCheck(
        widths=[2, 8], layers=["a", "b"], sizes=sizes, changes={"a": moves, "b": 0 * moves}
    )
    assert check.slopes["a"] == pytest.approx(1.0)
    assert np.isnan(check.slopes["b"])
    assert check.start_slopes["b"] == pytest.approx(1.5)
    assert check.verdicts == {"a": "grows", "b": "does not move"}
    assert len(check.plot().axes) == 3
    assert "does not move" in check._repr_html_()
    falling = CoordCheck(
        widths=[2, 8], layers=["a"], sizes={"a": sizes["a"]}, changes={"a": moves[::-1]}
    )
    assert falling.verdicts == {"a": "vanishes"}


def test_layers_of_an_mlp_are_its_products():
    params = network(4).init(jax.random.key(0))
    found = layer_outputs(lambda params, x: network(4).apply(params, x).sum(), params, X)
    hidden = X @ params["dense_0"]["kernel"]
    np.testing.assert_allclose(found["dense_0/kernel"], hidden, rtol=1e-5)
    second = np.maximum(hidden, 0) @ params["dense_1"]["kernel"]
    np.testing.assert_allclose(found["dense_1/kernel"], second, rtol=1e-4, atol=1e-5)
    assert list(found) == ["dense_0/kernel", "dense_1/kernel", "dense_2/kernel"]


def test_layers_of_a_transformer_have_embeddings_and_attention():
    model = Transformer(vocabulary=5, context=4, width=4, layers=1, heads=2)
    params = jax.eval_shape(model.init, jax.random.key(0))
    loss = lambda params, tokens: entropy(model.apply(params, tokens), tokens)
    found = jax.eval_shape(
        lambda params, tokens: layer_outputs(loss, params, tokens),
        params,
        jax.ShapeDtypeStruct((2, 4), jnp.int32),
    )
    block = {f"block_0/attention/{name}/kernel" for name in ("query", "key", "value", "out")}
    block |= {"block_0/mlp/up/kernel", "block_0/mlp/down/kernel"}
    assert set(found) == block | {"tokens/embedding", "head/kernel", "product", "product (2)"}


W = jnp.array([[1.0, 2.0], [3.0, 4.0]])
x = jnp.array([[1.0, -1.0]])


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda p, x: x @ (p["w"] / 3), {"w": x @ W / 3}),
        (lambda p, x: (x @ p["w"]) / 3, {"w": x @ W / 3}),
        (lambda p, x: (2 * (x @ p["w"]).T).sum(), {"w": 2 * (x @ W).T}),
        (lambda p, x: 1 / (x @ p["w"]), {"w": x @ W}),
        (lambda p, x: nn.relu(x @ p["w"]) @ p["w"], {"w": x @ W, "w (2)": nn.relu(x @ W) @ W}),
        (lambda p, x: x @ (p["u"] @ p["w"]), {"u, w": x @ (W.T @ W)}),
        (lambda p, x: jax.checkpoint(lambda w: x @ w)(p["w"]), {"w": x @ W}),
        (lambda p, x: jax.vmap(lambda row: p["w"].T @ row)(x), {"w": x @ W}),
        (lambda p, x: p["w"][x.astype(int)[0]], {"w": W[jnp.array([1, 1])]}),
        (lambda p, x: (x * p["w"][:1]) @ (x * p["u"][:1]).T, {"product": jnp.array([[7.0]])}),
        (lambda p, x: (x @ x.T) * p["w"], {}),
        (lambda p, x: lax.map(lambda row: row @ p["w"], x), {}),
        (
            lambda p, x: lax.scan(lambda h, w: (h @ w, h.sum()), x, jnp.stack([p["w"], p["w"]])),
            {"w": x @ W, "w (2)": x @ W @ W},
        ),
    ],
    ids=range(13),
)
def test_layers_of_programs(function, expected):
    found = layer_outputs(function, {"u": W.T, "w": W}, x)
    assert list(found) == list(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-6)


def test_bad_tasks_are_refused():
    with pytest.raises(ValueError, match="`widths` must have at least two different widths"):
        scaling.coord_check(task, [32, 32])
    with pytest.raises(TypeError, match=r"`make_task` must return a lrax.Task"):
        scaling.coord_check(lambda width: network(width), [2, 4])
    with pytest.raises(TypeError, match=r"`optimizer` must be an optax.GradientTransformation"):
        scaling.coord_check(task, [2, 4], optimizer=optax.adam)
    plain = lrax.Task(lambda key: jnp.ones(2), lambda p, b: (p * b).sum(), lambda step, key: 1.0)
    with pytest.raises(ValueError, match="`activations` must be given for this task"):
        scaling.coord_check(lambda width: plain, [2, 4])


@pytest.mark.slow
def test_other_layers_and_divergence_are_refused():
    one_more = lambda width: lrax.Task(
        MLP((8,) + (4,) * (width // 2) + (4,)).init,
        lambda params, batch: entropy(
            MLP((8,) + (4,) * (width // 2) + (4,)).apply(params, batch["x"]), batch["y"]
        ),
        lambda step, key: {"x": X, "y": Y},
    )
    with pytest.raises(ValueError, match=r"`make_task` must make the same layers at all widths"):
        scaling.coord_check(one_more, [2, 4], seeds=1)
    with pytest.raises(
        ValueError, match=r"`optimizer` must have a rate at which no width diverges"
    ):
        scaling.coord_check(task, [2, 4], optimizer=optax.sgd(1e30), seeds=1)
