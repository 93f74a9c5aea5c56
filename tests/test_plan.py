"""How a sweep is run: every plan gives the same lanes, and what is chosen is said and remembered."""

import concurrent.futures
import dataclasses
import threading
import time

import jax
import numpy as np
import optax
import problems
import pytest
from hypothesis import given, settings, strategies as st

import lrax
from lrax.sweeps.engine import devices as hardware, layout, plan as planning, tuning
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
@pytest.mark.slow
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


FACTS = planning.Facts("cpu", devices=1, cores=2, lanes=48, params=4000, has_convolutions=False)


def test_a_small_model_is_trained_many_to_a_call_and_a_large_one_alone():
    small = planning.plan("auto", "auto", FACTS)
    large = planning.plan("auto", "auto", dataclasses.replace(FACTS, params=4_000_000))
    assert (small.width, large.width) == (planning.TOGETHER, 1)
    assert small.threads == 2
    assert "small" in small.reasons[0]
    # Another number of cores changes no chunk, and so no bit.
    many = planning.plan("auto", "auto", dataclasses.replace(FACTS, cores=64))
    assert many.width == small.width
    # A second core would have nothing to do if eight lanes were one call.
    few = planning.plan("auto", "auto", dataclasses.replace(FACTS, lanes=8))
    assert few.width == 4
    assert layout.shape(8, 1, "common", width=few.width, devices=1) == (1, 4)


def test_an_accelerator_gets_all_lanes_at_once():
    facts = dataclasses.replace(FACTS, platform="gpu", has_convolutions=True)
    plan = planning.plan("auto", "auto", facts)
    assert (plan.width, plan.threads, plan.scanned, plan.products) == (0, 1, True, False)
    assert str(plan) == "all lanes to a call, updates in a loop of the program"
    assert planning.plan("auto", "products", facts).products
    on_cpu = dataclasses.replace(facts, platform="cpu")
    assert planning.plan("auto", "auto", on_cpu).products
    assert not planning.plan("auto", "xla", on_cpu).products


def test_a_tpu_gets_the_lanes_whose_parameters_stay_small_beside_its_own_memory():
    tiny, mlp, transformer = (
        planning.plan("auto", "auto", dataclasses.replace(FACTS, platform="tpu", params=params))
        for params in (100, 13_700, 800_000)
    )
    assert tiny.width > 40_000
    assert 256 <= mlp.width < 512
    assert transformer.width == 256
    four = dataclasses.replace(FACTS, platform="tpu", params=800_000, devices=4)
    assert planning.plan("auto", "auto", four).width == 4 * 256
    # A call may train several seeds of all points, so that few points fill it, too.
    assert layout.shape(128, 8, "common", width=mlp.width, devices=1) == (2, 128)
    assert layout.shape(8, 128, "common", width=mlp.width, devices=1) == (32, 8)


def test_chunks_fit_the_memory_before_anything_is_allocated(monkeypatch, reference):
    fit = lambda lanes, **rest: planning.fitting(
        lanes,
        lanes,
        **{
            **dict(per_lane=10, state=2, fixed=50, threads=1, free=950.0, device="TPU v9"),
            **rest,
        },
    )
    assert fit(10) == 10
    assert fit(100) == 70  # (950 - 50 - 200) / 10
    assert fit(100, threads=2) == 35
    assert fit(1000, free=None) == 1000
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
    monkeypatch.setattr(hardware, "memory", lambda devices: room)
    result = swept(execution="vmap")
    assert "the memory holds" in result.explain()
    np.testing.assert_allclose(result.losses, reference["common"].losses, rtol=1e-5)
    monkeypatch.setattr(hardware, "memory", lambda devices: 100.0)
    with pytest.raises(ValueError, match=r"10 lanes of .* do not fit into"):
        swept(execution="vmap")


def test_only_tune_asks_the_clock_which_plan_is_fastest(monkeypatch):
    trials = []

    def trial(engine):
        trials.append(engine.plan.width)
        return {4: 1.0}.get(engine.plan.width, 2.0)

    monkeypatch.setattr(tuning, "trial", trial)
    by_rule = swept(steps=16)
    assert trials == []
    timed = swept(steps=16, execution="tune")
    assert {1, 4, 5} <= set(trials)  # 10 lanes in two calls are the plan that it starts from
    assert timed.info["plan"].startswith("3 lanes to a call")  # 5 points in chunks of at most 4
    assert "4 lanes to a call 16 s" in timed.explain()
    np.testing.assert_allclose(timed.losses, by_rule.losses, rtol=1e-5)


def test_a_dry_run_says_what_a_sweep_will_take():
    estimate = swept(steps=1000, dry_run=True)
    assert estimate.lanes == 10
    assert 0 < estimate.seconds < 600
    assert 0 < estimate.bytes < estimate.available
    assert estimate.plan == swept(steps=1000).info["plan"]
    assert "10 lanes: about" in str(estimate)


def test_what_is_timed_is_the_real_step():
    engine = problems.engine(TASK, RATES, seeds=2, steps=20)
    assert 0 < tuning.trial(engine) < 60
    assert engine.programs.train.flops > 0


def test_timing_without_batches_from_the_host_says_so(monkeypatch):
    engine = problems.engine(TASK, RATES, seeds=2, steps=20)
    monkeypatch.setattr(engine.feed, "is_ready", lambda first, timeout: False)
    with pytest.raises(TimeoutError, match="no batch came from the host in 60 seconds"):
        tuning.trial(engine)


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


def test_chunks_of_the_same_seeds_share_their_batches():
    made = problems.engine(problems.regression(), [0.1, 0.2, 0.3, 0.4], seeds=2, execution="loop")
    lanes = made.arrange(np.arange(4))
    assert len(lanes.chunks) == 8
    calls, together = [], threading.Barrier(8)

    def draw(data, keys, block):
        calls.append(int(block))
        time.sleep(0.05)  # the other threads ask meanwhile
        return {"row": np.full(3, len(calls))}

    def ask(i):
        together.wait()
        return made.feed.rows(draw, lanes, i, None, 0)["row"]

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        rows = list(pool.map(ask, range(8)))
    assert calls == [0, 0]  # once for each seed
    by_seed = {}
    for chunk, row in zip(lanes.chunks, rows, strict=True):
        assert by_seed.setdefault(int(chunk.seeds[0, 0]), row) is row


def test_rows_that_cannot_be_drawn_are_an_error_in_every_chunk():
    made = problems.engine(problems.regression(), [0.1, 0.2], execution="loop")
    lanes = made.arrange(np.arange(2))

    def draw(data, keys, block):
        raise RuntimeError("no rows")

    for i in range(2):
        with pytest.raises(RuntimeError, match="no rows"):
            made.feed.rows(draw, lanes, i, None, 0)


shapes = st.tuples(*[st.integers(1, 20)] * 3, st.sampled_from([1, 2, 8]))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(shapes, st.sampled_from(["common", "independent"]), st.data())
def test_every_lane_has_one_place(sizes, rng, data):
    points, seeds, width, devices = sizes
    shape = layout.shape(points, seeds, rng, width=width, devices=devices)
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
