"""Lanes spread over several devices of one process are those of one device.

The checks run in a process of their own that has 8 devices of a CPU.
"""

import os
import re

import pytest

if __name__ == "__main__":  # before JAX starts
    os.environ["XLA_FLAGS"] += " --xla_force_host_platform_device_count=8"

import children
import jax
import numpy as np
import optax
import problems

import lrax
from lrax.sweeps.engine import devices as hardware, segments
from lrax.sweeps.storage.checkpoint import Checkpoint

TASK = problems.regression()
SLOW = {
    "check_convolutions",
    "check_no_collective_of_convolutions",
    "check_digits",
    "check_widths",
    "check_lanes_of_every_number_of_devices",
    "check_the_default_device",
    "check_a_model_with_state",
    "check_compaction",
    "check_which_devices",
    "check_batches_from_the_host",
}
COLLECTIVES = (
    "all-reduce",
    "all-gather",
    "all-to-all",
    "collective-permute",
    "reduce-scatter",
    "collective-broadcast",
)


def swept(task=TASK, rates=(1e-3, 1e-2, 3e-2, 1e-1, 0.3), *, optimizer=optax.adam, **options):
    options = dict(steps=20, seeds=2) | options
    return lrax.sweep(task, optimizer, {"learning_rate": list(rates)}, progress=False, **options)


def assert_close(result, wanted, rtol=1e-5):
    np.testing.assert_allclose(result.losses, wanted.losses, rtol=rtol, atol=1e-3 * rtol)
    np.testing.assert_array_equal(result.status, wanted.status)
    np.testing.assert_array_equal(result.stopped_at, wanted.stopped_at)
    np.testing.assert_array_equal(result.evaluated_at, wanted.evaluated_at)
    for group in ("metrics", "evaluations", "aux"):
        jax.tree.map(
            lambda ours, theirs: np.testing.assert_allclose(
                ours, theirs, rtol=10 * rtol, atol=rtol
            ),
            getattr(result, group),
            getattr(wanted, group),
        )
    best = wanted.scores[wanted.best_lane]
    if np.isfinite(best):  # which of two equal ones leads may hang on the last bit
        np.testing.assert_allclose(result.scores[result.best_lane], best, rtol=10 * rtol, atol=rtol)
    if result.best_lane == wanted.best_lane and wanted.best_params is not None:
        jax.tree.map(
            lambda ours, theirs: np.testing.assert_allclose(
                ours, theirs, rtol=1e3 * rtol, atol=1e2 * rtol
            ),
            result.best_params,
            wanted.best_params,
        )


def assert_equal(result, wanted):
    np.testing.assert_array_equal(result.losses, wanted.losses)
    np.testing.assert_array_equal(result.status, wanted.status)
    for group in ("metrics", "evaluations", "aux", "best_params"):
        jax.tree.map(np.testing.assert_array_equal, getattr(result, group), getattr(wanted, group))


def check_lanes_of_every_number_of_devices(folder):
    assert jax.local_device_count() == 8
    for rng in ("common", "independent"):
        for points, seeds in ((1, 1), (5, 3), (9, 2)):
            rates = lrax.log_grid(1e-3, 0.3, points) if points > 1 else [0.01]
            options = dict(rates=rates, seeds=seeds, rng=rng, eval_every=7, objective="val_loss")
            assert_close(swept(devices=8, **options), swept(devices=1, **options))


def check_some_lanes(folder):
    for rng in ("common", "independent"):
        options = dict(rng=rng, eval_every=7, objective="val_loss")
        one = swept(devices=1, **options)
        for devices in (8, 3):
            assert_close(swept(devices=devices, **options), one)


def check_widths(folder):
    one = swept(devices=1)
    for execution in (2, 9, "steps"):
        for devices in (8, 3, 1):
            result = swept(devices=devices, execution=execution)
            assert_close(result, one)
            assert (f"spread over {devices} devices" in result.info["plan"]) == (devices > 1)


def check_digits(folder):
    task = lrax.tasks.digits()
    for rng, devices in (("common", 8), ("independent", 3)):
        options = dict(
            rates=lrax.log_grid(1e-3, 1e-1, 6),
            seeds=2,
            steps=30,
            eval_every=15,
            objective="val_loss",
        )
        one = swept(task, devices=1, rng=rng, **options)
        assert_close(swept(task, devices=devices, rng=rng, **options), one)


def check_convolutions(folder):
    task = lrax.tasks.digits("cnn", batch_size=16)
    options = dict(rates=lrax.log_grid(1e-3, 3e-2, 5), seeds=2, steps=8, objective="val_loss")
    one = swept(task, devices=1, convolutions="xla", **options)
    for convolutions, devices in (("xla", 8), ("products", 3)):
        assert_close(swept(task, devices=devices, convolutions=convolutions, **options), one)
    options["rng"] = "independent"
    one = swept(task, devices=1, convolutions="xla", **options)
    assert_close(swept(task, devices=8, convolutions="products", **options), one)


def programs(task, *, points=8, **options):
    """The compiled programs of a sweep."""
    rates = np.linspace(0.1, 1.0, points)
    return problems.engine(task, rates, seeds=2, **options).programs


def executables(found):
    return {name: part.compiled for name, part in found._asdict().items() if name != "seconds"}


def assert_no_collective(task, *, convolutions="auto", rng="common"):
    found = executables(programs(task, devices=8, rng=rng, convolutions=convolutions))
    assert found.keys() == {"initial", "start", "draw", "train", "evaluate"}
    for name, program in found.items():
        for collective in COLLECTIVES:
            assert collective not in program.as_text(), (name, rng, convolutions, collective)
    # Each device has its own part of the lanes alone, and their buffers are taken over.
    train = found["train"].memory_analysis()
    options = dict(devices=1, points=1, execution=1, rng=rng, convolutions=convolutions)
    one = programs(task, **options).train.compiled.memory_analysis()
    lanes = 2 if rng == "independent" else 1
    assert train.alias_size_in_bytes == lanes * one.alias_size_in_bytes > 0


def check_no_collective(folder):
    for rng in ("common", "independent"):
        assert_no_collective(TASK, rng=rng)


def check_no_collective_of_convolutions(folder):
    task = lrax.tasks.digits("cnn", batch_size=8, channels=(4,))
    assert_no_collective(task, convolutions="products")
    for rng in ("common", "independent"):
        assert_no_collective(task, convolutions="xla", rng=rng)


def check_data_is_no_constant(folder):
    held_out = np.random.default_rng(1).normal(size=(6000, 3)).astype(np.float32)
    closing = problems.regression(
        evaluate=lambda params: {
            "val_loss": problems.squared_error(params, {"x": held_out, "y": held_out[:, 0]})
        }
    )
    on_one = jax.device_put(held_out, jax.devices()[2])  # where its owner put it is nothing to us
    committed = problems.regression(
        evaluate=lambda params: {
            "val_loss": problems.squared_error(params, {"x": on_one, "y": on_one[:, 0]})
        }
    )
    for program in executables(programs(closing, devices=8)).values():
        assert not re.search(r"f32\[6000,3\]\S* constant\(", program.as_text())
    assert_close(swept(committed, devices=8), swept(closing, devices=1))


def check_a_dry_run_counts_the_data_of_every_device(folder):
    data = sum(leaf.nbytes for leaf in jax.tree.leaves(TASK.batch.arrays))
    one, eight = (swept(devices=devices, dry_run=True).bytes for devices in (1, 8))
    assert eight > 8 * data
    assert eight > one


def check_a_lane_of_nan_changes_no_bit_of_the_others(folder):
    for rng in ("common", "independent"):
        sane = swept(devices=8, rng=rng)
        for bad in (np.nan, np.inf, 1e30):
            result = swept(rates=(1e-3, bad, 3e-2, 1e-1, 0.3), devices=8, rng=rng)
            others = [0, 2, 3, 4]
            np.testing.assert_array_equal(result.losses[others], sane.losses[others])
            np.testing.assert_array_equal(
                result.metrics["val_loss"][others], sane.metrics["val_loss"][others]
            )
            np.testing.assert_array_equal(result.status[others], sane.status[others])
            assert (result.status[1] == "diverged").all()


def check_stopping(folder):
    rates = [*lrax.log_grid(1e-3, 0.3, 9), 1e30, np.inf, np.nan]
    for stop in ("diverged", lrax.Halving(), lrax.Median(), None):
        for rng in ("common", "independent"):
            options = dict(
                rates=rates, steps=320, seeds=2, stop=stop, rng=rng, objective="val_loss"
            )
            one = swept(devices=1, **options)
            result = swept(devices=8, **options)
            assert_close(result, one, rtol=1e-4)
            assert (result.stopped_at < 320).any() == (stop is not None)


def check_compaction(folder):
    """Also into chunks so small that some devices train copies alone."""
    rates = [*lrax.log_grid(1e-3, 0.3, 20), *[np.inf] * 17]
    options = dict(rates=rates, steps=320, objective="val_loss", stop=lrax.Halving(eta=4, margin=0))
    wanted = swept(devices=1, **options)
    for devices in (8, 3):
        result = swept(devices=devices, execution="vmap", **options)
        assert "points are left" in " ".join(result.info["reasons"])
        assert_close(result, wanted, rtol=1e-4)


def check_everything_diverges(folder):
    result = swept(rates=[np.inf, np.nan, 1e30], steps=300, devices=8)
    assert np.all(result.status == "diverged")
    assert result.losses.shape == (3, 2, 300)


def check_resume(folder):
    options = dict(steps=40, eval_every=15, objective="val_loss", devices=8)
    for rng in ("common", "independent"):
        whole = swept(rng=rng, **options)
        # Every segment is one step long.
        segment, segments.SECONDS_PER_SEGMENT = segments.SECONDS_PER_SEGMENT, 0.0
        try:
            path = folder / f"resume-{rng}"
            part = swept(rng=rng, checkpoint=path, budget=0, checkpoint_every=0, **options)
            assert 0 < part.losses.shape[-1] < 40
            part = swept(rng=rng, checkpoint=path, budget=0, checkpoint_every=0, **options)
        finally:
            segments.SECONDS_PER_SEGMENT = segment
        assert_equal(swept(rng=rng, checkpoint=path, **options), whole)
        assert_equal(swept(rng=rng, checkpoint=path, **options), whole)
        # On another number of devices it goes on too, to the same numbers up to their order of
        # additions.
        path = folder / f"moved-{rng}"
        swept(rng=rng, checkpoint=path, budget=0, **options)
        assert_close(swept(rng=rng, checkpoint=path, **{**options, "devices": 3}), whole)


def check_resume_after_points_were_stopped(folder):
    rates = [np.inf, *lrax.log_grid(1e-3, 0.3, 5), 1e30]
    for devices in (1, 8):
        options = dict(rates=rates, steps=320, devices=devices, checkpoint_every=0)
        whole, path = swept(**options), folder / f"stopped-{devices}"

        class Stop(Exception):
            pass

        saved = Checkpoint.save
        seen = []

        def save(self, state, saved=saved, seen=seen, **options):
            saved(self, state, **options)
            seen.append(state.facts["done"])
            if state.facts["done"] >= 200:
                raise Stop

        Checkpoint.save = save
        try:
            with pytest.raises(Stop):
                swept(checkpoint=path, **options)
        finally:
            Checkpoint.save = saved
        assert seen[-1] < 320
        result = swept(checkpoint=path, **options)
        assert_close(result, whole, rtol=1e-4)
        assert (result.stopped_at[[0, -1]] < 320).all()


def check_best_params(folder):
    for rng in ("common", "independent"):
        result = swept(devices=8, rng=rng, objective="val_loss")
        again = problems.evaluate(result.best.params)["val_loss"]
        np.testing.assert_allclose(again, result.metrics["val_loss"][result.best_lane], rtol=1e-5)


def check_which_devices(folder):
    here = jax.devices()
    for bad in (0, 9, -1, True, 1.5, "gpu", [], ["cpu"], [here[0], here[0]], here[0]):
        with pytest.raises((ValueError, TypeError), match="`devices` must be"):
            swept(devices=bad)
    assert hardware.chosen(None) == hardware.chosen("all") == here
    assert hardware.chosen(3) == here[:3]
    assert hardware.chosen([here[5], here[2]]) == [here[5], here[2]]
    one = swept(devices=1)
    assert_close(swept(devices=[here[5], here[2]]), one)
    for program in executables(programs(TASK, devices=[here[5]])).values():
        assert {
            device for s in jax.tree.leaves(program.output_shardings) for device in s.device_set
        } == {here[5]}
    assert_close(swept(devices=[here[5]], execution=2), one)


def check_the_default_device(folder):
    one = swept(devices=1)
    for default in (jax.devices()[3], "cpu"):
        jax.config.update("jax_default_device", default)
        try:
            assert hardware.chosen(None) == [default if default != "cpu" else jax.devices()[0]]
            assert "spread" not in swept().info["plan"]
            assert_close(swept(), one)
            for program in executables(programs(TASK)).values():
                places = {
                    device
                    for s in jax.tree.leaves(program.output_shardings)
                    for device in s.device_set
                }
                assert places == set(hardware.chosen(None))
        finally:
            jax.config.update("jax_default_device", None)
    with jax.default_device(
        jax.devices()[3]
    ):  # a setting of this thread, which those that train do not have
        assert_close(swept(execution=2), one)


def check_the_settings_of_the_caller_hold_on_all_threads(folder):
    x64 = jax.enable_x64(True) if hasattr(jax, "enable_x64") else jax.experimental.enable_x64(True)
    with x64:
        for devices in (1, 8):
            assert swept(devices=devices, execution=2).losses.dtype == np.float64


def check_batches_from_the_host(folder):
    batches = [{"x": problems.X[i : i + 8], "y": problems.Y[i : i + 8]} for i in range(0, 40, 8)]
    task = problems.regression(batch=batches)
    for rng in ("common", "independent"):
        assert_close(swept(task, devices=8, rng=rng), swept(task, devices=1, rng=rng))


def check_a_model_with_state(folder):
    def init(key):
        return problems.init(key), {"mean": jax.numpy.zeros(())}

    def loss(params, state, batch, key):
        value = problems.squared_error(params, batch) + 1e-3 * jax.random.normal(key)
        return value, ({"mean": 0.9 * state["mean"] + 0.1 * value}, {"twice": 2 * value})

    task = lrax.Task(
        init, loss, TASK.batch, lambda params, state: {"mean": state["mean"]}, stateful=True
    )
    for rng in ("common", "independent"):
        one = swept(task, devices=1, rng=rng)
        result = swept(task, devices=8, rng=rng)
        assert_close(result, one)
        np.testing.assert_allclose(result.aux["twice"], 2 * result.losses, rtol=1e-6)


def check_another_sweep_recompiles_nothing(folder):
    import logging

    records = []
    handler = logging.Handler()
    handler.emit = lambda record: records.append(record.getMessage())
    logger = logging.getLogger("jax")
    logger.addHandler(handler)
    propagate, logger.propagate = logger.propagate, False
    try:
        adam = lambda rate: optax.adam(rate)
        with jax.log_compiles():
            for rates in ((0.1, 0.01, 0.02), (0.3, 0.03, 0.04)):
                compilations = len([words for words in records if "Compiling" in words])
                lrax.sweep(TASK, adam, list(rates), steps=20, seeds=2, devices=8, progress=False)
        assert compilations > 0
        assert len([words for words in records if "Compiling" in words]) == compilations
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagate


def check_shardings_are_kept(folder):
    """What changes updates leaves parameters and moments where they are."""
    from jax.sharding import Mesh, NamedSharding, PartitionSpec as P

    from lrax import scaling

    mesh = Mesh(np.array(jax.devices()).reshape(4, 2), ("data", "model"))
    parts = {"w": P("data", "model"), "head": P(None, "model"), "gain": P("data")}
    shapes = {"w": (8, 16), "head": (16, 4), "gain": (8,)}
    random = np.random.default_rng(0)
    host = {name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    placed = {
        name: jax.device_put(leaf, NamedSharding(mesh, parts[name])) for name, leaf in host.items()
    }
    base = {"w": np.empty((4, 8)), "head": np.empty((8, 4)), "gain": np.empty(4)}
    multipliers = scaling.mup_multipliers(base, placed).lr
    links = {
        "multipliers": [lrax.scale_by_multipliers(multipliers), lrax.scale_by_lr(0.1)],
        "groups": [
            lrax.scale_by_multipliers(scaling.groups(placed, {"head": 0.5}).tree),
            lrax.scale_by_lr(0.1),
        ],
        "hyperball": [lrax.scale_by_hyperball(0.1)],
        "decay": [scaling.corrected_decay(0.1, 0.1, peak=0.1)],
    }

    @jax.jit
    def run(first):
        trees = {}
        for name, last in links.items():
            optimizer = optax.chain(optax.scale_by_adam(), *last)
            params, state = first, optimizer.init(first)
            for _ in range(2):
                updates, state = optimizer.update(params, state, params)
                params = optax.apply_updates(params, updates)
            trees[name] = params, updates, state[0].mu
        return trees

    for (path, leaf), wanted in zip(
        jax.tree_util.tree_flatten_with_path(run(placed))[0],
        jax.tree.leaves(run(host)),
        strict=True,
    ):
        same = leaf.sharding.is_equivalent_to(placed[path[-1].key].sharding, leaf.ndim)
        assert same, (path, leaf.sharding)
        np.testing.assert_allclose(leaf, wanted, rtol=1e-4, atol=1e-6)
    gradients = jax.tree.map(lambda leaf: jax.numpy.stack([leaf, -leaf, leaf]), placed)
    found = scaling.matching_rate(optax.sgd, optax.adam, placed, gradients, 0.1)
    wanted = scaling.matching_rate(optax.sgd, optax.adam, host, jax.device_get(gradients), 0.1)
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


CHECKS = children.names(globals())


@pytest.fixture(scope="module")
def child():
    child = children.Children(__file__)
    yield child
    child.close()


@pytest.mark.parametrize(
    "check", [pytest.param(c, marks=[pytest.mark.slow] if c in SLOW else []) for c in CHECKS]
)
def test_on_eight_devices(check, child):
    child.run(check, timeout=600)


if __name__ == "__main__":
    jax.config.update("jax_numpy_rank_promotion", "raise")
    children.serve(globals())
