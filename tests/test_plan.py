"""How a sweep is run: every plan gives the same lanes, and what is chosen is said and remembered."""

import jax
import numpy as np
import optax
import problems
import pytest
from hypothesis import given, settings, strategies as st

import lrax
from lrax.sweeps.engine import layout, plan as planning, tuning
from lrax.sweeps.engine.layout import Layout

RATES = lrax.log_grid(1e-3, 1e-1, 5)
TASK = problems.regression()
IMAGES = np.random.default_rng(0).normal(size=(24, 8, 8, 2)).astype(np.float32)


def pictures():
    """A convolution with strides and bias, on random pictures."""
    convolve = lambda x, kernel: jax.lax.conv_general_dilated(
        x, kernel, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )

    def loss(params, batch):
        hidden = jax.nn.relu(
            convolve(batch["x"], params["kernel"]) + params["bias"][None, None, None, :]
        )
        return ((hidden.mean((1, 2)) - batch["y"]) ** 2).mean()

    return lrax.Task(
        init=lambda key: {
            "kernel": 0.3 * jax.random.normal(key, (3, 3, 2, 4)),
            "bias": np.zeros(4, np.float32),
        },
        loss=loss,
        batch=lrax.minibatches({"x": IMAGES, "y": IMAGES[:, :4, 0, 0]}, size=6),
    )


def swept(**options):
    defaults = dict(steps=20, seeds=2)
    return lrax.sweep(TASK, optax.adam, RATES, **{**defaults, **options})


@pytest.fixture(scope="module")
def reference():
    return {rng: swept(rng=rng, execution="vmap") for rng in ("common", "independent")}


@pytest.mark.parametrize("rng", ["common", "independent"])
@pytest.mark.parametrize("execution", ["auto", "loop", "steps", 2, 3, 100])
def test_every_execution_trains_the_same_lanes(execution, rng, reference):
    result = swept(execution=execution, rng=rng)
    np.testing.assert_allclose(result.losses, reference[rng].losses, rtol=1e-5)
    np.testing.assert_allclose(
        result.metrics["val_loss"], reference[rng].metrics["val_loss"], rtol=1e-5
    )
    assert result.status.tolist() == [["done", "done"]] * 5


def test_convolutions_by_products_are_the_same():
    task = pictures()
    results = {
        how: lrax.sweep(task, optax.adam, RATES, steps=8, seeds=2, convolutions=how)
        for how in ("auto", "products", "xla")
    }
    np.testing.assert_allclose(results["products"].losses, results["xla"].losses, rtol=2e-5)
    np.testing.assert_array_equal(results["auto"].losses, results["products"].losses)  # on a CPU
    assert "matrix products" in results["auto"].explain()
    assert "matrix products" not in results["xla"].explain()


def test_a_small_model_is_trained_many_to_a_call_and_a_large_one_alone(monkeypatch):
    devices = jax.local_devices()[:1]
    of = lambda size: planning.plan("auto", devices, lambda: np.zeros(size, np.float32))
    assert (of(1000).width, of(1_000_000).width) == (planning.TOGETHER, 1)
    assert of(1000).threads == planning.cores()
    assert "small" in of(1000).reasons[0]


class Accelerator:
    platform, device_kind = "tpu", "TPU v9"

    def memory_stats(self):
        return {"bytes_limit": 1000.0}


def test_an_accelerator_gets_all_lanes_at_once():
    plan = planning.plan("auto", [Accelerator()], lambda: np.zeros(10))
    assert (plan.width, plan.threads, plan.scanned) == (0, 1, True)
    assert str(plan) == "all lanes to a call, steps in a loop of the program"
    assert not planning.rewrites("auto", on_cpu=False, has_any=True)
    assert planning.rewrites("products", on_cpu=False, has_any=True)


def test_chunks_fit_the_memory_before_anything_is_allocated(monkeypatch, reference):
    fit = lambda lanes, **rest: planning.fitting(
        lanes,
        lanes,
        **{**dict(per_lane=10, state=2, fixed=50, threads=1, devices=[Accelerator()]), **rest},
    )
    assert fit(10) == 10
    assert fit(100) == 70  # (950 - 50 - 200) / 10
    assert fit(100, threads=2) == 35
    with pytest.raises(
        ValueError,
        match=r"500 lanes of .* do not fit into .* of TPU v9: sweep fewer points at a time",
    ):
        fit(500)
    # Room for a call of eight lanes beside the data and the state.
    sizes = {}
    fitting = planning.fitting
    monkeypatch.setattr(
        planning,
        "fitting",
        lambda *args, **kwargs: sizes.update(kwargs) or fitting(*args, **kwargs),
    )
    swept(execution="vmap")
    room = sizes["fixed"] + 10 * sizes["state"] + 8 * sizes["per_lane"]
    monkeypatch.setattr(planning, "memory", lambda devices: room)
    result = swept(execution="vmap")
    assert "are what the memory holds" in result.explain()
    np.testing.assert_allclose(result.losses, reference["common"].losses, rtol=1e-5)
    monkeypatch.setattr(planning, "memory", lambda devices: 100.0)
    with pytest.raises(ValueError, match=r"10 lanes of .* do not fit into"):
        swept(execution="vmap")


def test_a_long_run_gets_the_plan_that_was_fastest_and_remembers_it(monkeypatch):
    optimizer = lambda rate: optax.adam(rate)  # unknown to other tests
    trials = []

    def trial(engine):
        trials.append(engine.plan.width)
        return {4: 1.0}.get(engine.plan.width, 2.0)

    monkeypatch.setattr(tuning, "trial", trial)
    short = lrax.sweep(TASK, optimizer, RATES, steps=16, seeds=2)
    assert trials == []
    monkeypatch.setattr(tuning, "SECONDS", 0.0)
    monkeypatch.setattr(tuning, "WORTH", 0.0)
    timed = lrax.sweep(TASK, optimizer, RATES, steps=16, seeds=2)
    assert {1, 4, planning.TOGETHER} <= set(trials)
    assert timed.info["plan"].startswith("3 lanes to a call")  # of at most 4, for as many in each
    assert "4 to a call 16 s" in timed.explain()
    np.testing.assert_allclose(timed.losses, short.losses, rtol=1e-5)
    count = len(trials)
    again = lrax.sweep(TASK, optimizer, 2 * RATES, steps=16, seeds=2)
    assert len(trials) == count
    assert again.info["plan"] == timed.info["plan"]


def test_what_is_timed_is_the_real_step():
    from lrax.sweeps.engine.engine import Engine

    bits = np.array([[0, 0], [0, 1]], np.uint32)
    engine = Engine(TASK, optax.adam, {"learning_rate": RATES}, bits, steps=20, rng="common")
    engine.compile()
    assert 0 < tuning.trial(engine) < 60
    assert engine.flops() > 0


def test_a_plan_that_is_asked_for_is_checked():
    for execution, message in [
        ("fast", "`execution` must be one of"),
        (0, "`execution` must be at least 1"),
    ]:
        with pytest.raises(ValueError, match=message):
            swept(execution=execution)
    with pytest.raises(ValueError, match="`execution` must be one of"):
        swept(execution=True)
    with pytest.raises(ValueError, match="`convolutions` must be one of 'auto', 'products', 'xla'"):
        swept(convolutions="im2col")
    with pytest.raises(ValueError, match="`devices` must be at most the 1 of this process, got 2"):
        swept(devices=2)
    with pytest.raises(
        ValueError, match=r"`devices` must be 'all', a number, or different devices of this process"
    ):
        swept(devices=["gpu"])


shapes = st.tuples(*[st.integers(1, 20)] * 3, st.integers(1, 4), st.sampled_from([1, 2, 8]))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(shapes, st.sampled_from(["common", "independent"]), st.data())
def test_every_lane_has_one_place(sizes, rng, data):
    points, seeds, width, threads, devices = sizes
    shape = layout.shape(points, seeds, rng, width=width, threads=threads, devices=devices)
    assert shape[0] * shape[1] <= max(width, devices) + devices - 1
    assert (shape[0] if shape[1] == 1 else shape[1]) % devices == 0
    alive = np.array(sorted(data.draw(st.sets(st.integers(0, points - 1), min_size=1))))
    lanes = Layout(alive, seeds, shape, rng)
    places = [
        lane
        for chunk in lanes.chunks
        for lane in zip(chunk.points[chunk.own], chunk.seeds[chunk.own], strict=True)
    ]
    assert sorted(places) == [(point, seed) for point in alive for seed in range(seeds)]
    if rng == "common":
        assert all(np.all(chunk.seeds == chunk.seeds[:, :1]) for chunk in lanes.chunks)
    values = np.arange(points * seeds, dtype=np.float32).reshape(points, seeds)
    parts = [values[chunk.points, chunk.seeds] for chunk in lanes.chunks]
    gathered = lanes.gather(parts, points)
    np.testing.assert_array_equal(gathered[alive], values[alive])
    assert np.isnan(np.delete(gathered, alive, axis=0)).all()
    np.testing.assert_array_equal(lanes.collect(parts), values[alive])
    for part, again in zip(parts, lanes.distribute(lanes.collect(parts), alive), strict=True):
        np.testing.assert_array_equal(part, again)
    chunk, group, member = lanes.where(int(alive[-1]), seeds - 1)
    assert parts[chunk][group, member] == values[alive[-1], seeds - 1]
