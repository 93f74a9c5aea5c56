"""A sweep over the processes of `jax.distributed` is the sweep of one process, in all of them.

The checks run in pairs of processes on this machine, which make the same calls.
"""

import os
import signal
import socket
import sys
import time

import pytest

if __name__ == "__main__":  # before JAX starts
    os.environ["XLA_FLAGS"] += f" --xla_force_host_platform_device_count={os.environ['DEVICES']}"

import contextlib
import io
import math

import children
import jax
import numpy as np
import optax
import problems
from jax import numpy as jnp
from test_devices import assert_close, assert_equal

import lrax
from lrax.sweeps import sweep as sweeping
from lrax.sweeps.engine import engine, hosts, loop, segments
from lrax.sweeps.storage.checkpoint import State

TASK = problems.regression()
RATES = lrax.log_grid(1e-3, 0.3, 5)
ME = int(os.environ.get("CHILD", 0))


def swept(task=TASK, rates=RATES, *, optimizer=optax.adam, progress=False, **options):
    options = dict(steps=20, seeds=2) | options
    return lrax.sweep(task, optimizer, {"learning_rate": list(rates)}, progress=progress, **options)


class Alone(hosts.Hosts):
    """No other process."""

    def __init__(self):
        self.count, self.index, self.is_first = 1, 0, True


@contextlib.contextmanager
def changed(owner, name, value):
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


def alone(*args, **options):
    """The same sweep in this process alone."""
    with changed(sweeping, "Hosts", Alone), changed(hosts, "_calls", 1):
        return swept(*args, **options)


def one_step_segments():
    return changed(segments, "SECONDS_PER_SEGMENT", 0.0)


def check_exchange(folder):
    shared = hosts.Hosts()
    assert (shared.count, shared.index) == (2, ME)
    # Numbers that float32 does not hold.
    said = shared.tell(2**24 + 1 + ME, math.inf, 1e300)
    assert said.tolist() == [[2**24 + 1, math.inf, 1e300], [2**24 + 2, math.inf, 1e300]]
    for size in (1, 3, 1000, 300_000):
        for dtype in ("float32", "float64", "int64", "bool", "bfloat16", "uint8"):
            own = shared.own(5)
            assert own.tolist() == [[0, 1, 2], [3, 4, 4]][ME]
            wanted = np.arange(5 * size).reshape(5, size).astype(jnp.dtype(dtype))
            for axis in (0, 1):
                part = np.moveaxis(wanted[own], 0, axis)
                tree = shared.gather({"a": part, "b": part.astype(np.float64)}, 5, axis)
                assert tree["a"].dtype == wanted.dtype
                np.testing.assert_array_equal(tree["a"], np.moveaxis(wanted, 0, axis))
                np.testing.assert_array_equal(
                    tree["b"], np.moveaxis(wanted, 0, axis).astype(np.float64)
                )
    odd = np.array([np.nan, -0.0, np.inf], np.float32).view(np.uint32)
    found = shared.given({"x": odd.view(np.float32) if ME == 1 else np.zeros(3, np.float32)}, 1)
    np.testing.assert_array_equal(found["x"].view(np.uint32), odd)
    state = State({"a": [1, None]}, {"x": np.arange(3.0), "y": np.zeros((2, 0), jnp.bfloat16)})
    facts, arrays = shared.of_first(
        lambda: state if ME == 0 else pytest.fail("the others load nothing")
    )
    assert facts == state.facts
    jax.tree.map(np.testing.assert_array_equal, arrays, state.arrays)
    assert arrays["y"].dtype == jnp.bfloat16
    assert shared.of_first(lambda: None) is None


def check_uneven_points(folder):
    for rng in ("common", "independent"):
        options = dict(rng=rng, eval_every=7, objective="val_loss")
        result = swept(**options)
        assert_close(result, alone(**options))
        assert result.losses.shape == (5, 2, 20)
        assert result.evaluations["val_loss"].shape == (5, 2, 3)
        again = problems.evaluate(result.best.params)["val_loss"]
        np.testing.assert_allclose(again, result.metrics["val_loss"][result.best_lane], rtol=1e-5)
        assert result.info["devices"] == 2 * jax.local_device_count()
        # And both have the same bits.
        first = hosts.Hosts().given((result.losses, result.metrics, result.best_params), 0)
        jax.tree.map(
            np.testing.assert_array_equal,
            first,
            (result.losses, result.metrics, result.best_params),
        )


def check_fewer_points_than_processes(folder):
    assert_close(swept(rates=[0.01]), alone(rates=[0.01]))


def check_aux(folder):
    def loss(params, batch):
        value = problems.squared_error(params, batch)
        return value, {"twice": 2 * value, "b": params["b"]}

    task = problems.regression(loss=loss)
    result = swept(task)
    assert_close(result, alone(task))
    np.testing.assert_allclose(result.aux["twice"], 2 * result.losses, rtol=1e-6)


def check_halving(folder):
    rates = lrax.log_grid(1e-4, 0.3, 11)
    for objective in ("train_loss", "val_loss"):
        for rule in (lrax.Halving(), lrax.Median()):
            options = dict(rates=rates, steps=320, stop=rule, objective=objective)
            result = swept(**options)
            assert_close(result, alone(**options), rtol=1e-4)
            assert (result.stopped_at < 320).any()


def check_one_has_nothing_left(folder):
    """The lanes of the one process, or of the other, are all lost at the first look."""
    good, bad = list(lrax.log_grid(1e-3, 0.3, 3)), [np.inf, 1e30, 1e32]
    for rates in (good + bad, bad + good):
        path = folder / f"left-{rates.index(np.inf)}"
        options = dict(rates=rates, steps=320, eval_every=50, objective="val_loss")
        result = swept(checkpoint=path, checkpoint_every=0, **options)
        assert_close(result, alone(**options), rtol=1e-4)
        assert sorted(set(result.stopped_at.tolist())) == [40, 320]
        assert_equal(swept(checkpoint=path, **options), result)  # what was saved at the end


def check_nothing_is_left_anywhere(folder):
    result = swept(rates=[np.inf, 1e30, np.inf], steps=320, eval_every=50)
    assert (result.status == "diverged").all()
    assert result.losses.shape == (3, 2, 320)


def check_compaction_of_one_alone(folder):
    """Each process moves its own lanes to smaller chunks, whatever the other one does."""
    rates = [*lrax.log_grid(1e-3, 0.1, 8), *lrax.log_grid(1e-3, 0.1, 2), *[np.inf] * 6]
    options = dict(rates=rates, steps=320, execution="vmap", checkpoint_every=0)
    wanted, path = alone(**options), folder / "compacted"
    result = swept(checkpoint=path, **options)
    assert_close(result, wanted, rtol=1e-4)
    assert ("points are left" in " ".join(result.info["reasons"])) == (ME == 1)
    assert_equal(swept(checkpoint=path, **options), result)


def check_other_plans(folder):
    """The first one's holds, whatever the others find."""

    def tuned(engine_, steps):
        plan = engine_.plan.because("timed", width=1 + ME, products=ME == 0)
        return engine.replanned(engine_, plan)

    with changed(sweeping, "tuned", tuned):
        result = swept(execution="tune")
    assert "one lane to a call" in result.info["plan"]
    assert "products" in result.info["plan"]


def check_checkpoint(folder):
    for rng in ("common", "independent"):
        options = dict(eval_every=7, objective="val_loss", rng=rng)
        # The others do not see the first one's files.
        whole, path = swept(**options), folder / f"own-{ME}" / f"sweep-{rng}"
        if ME == 0:
            path.parent.mkdir(exist_ok=True)
        with one_step_segments():
            for _ in range(3):
                part = swept(checkpoint=path, budget=0, checkpoint_every=0, **options)
        assert 2 < part.losses.shape[-1] < 20
        assert "done" not in part.status
        assert path.with_suffix(".npz").exists() == (ME == 0)
        assert_equal(swept(checkpoint=path, **options), whole)
        assert_equal(swept(checkpoint=path, **options), whole)


def check_growing(folder):
    """New points, which may all be of one process, catch up with those of both."""
    for rng, known in (("common", RATES[1:4]), ("common", RATES[:1]), ("independent", RATES[:3])):
        options = dict(eval_every=7, objective="val_loss", rng=rng, checkpoint_every=0)
        path = folder / f"grown-{rng}-{len(known)}"
        swept(rates=known, checkpoint=path, **{**options, "steps": 16})
        with one_step_segments():
            for _ in range(3):
                part = swept(checkpoint=path, budget=0, **options)
        assert set(part.stopped_at.tolist()) == {3, 16}
        assert_close(swept(checkpoint=path, **options), alone(**options))
        assert_close(swept(checkpoint=path, **options), alone(**options))
        with pytest.raises((ValueError, hosts.HostError), match="absent here"):
            swept(rates=known, checkpoint=path, **options)


def check_growing_with_best_evaluations(folder):
    """The first evaluation is made while only one process has lanes: new ones, which diverge."""
    options = dict(steps=320, objective="val_loss", keep="best_evaluation", checkpoint_every=0)
    path = folder / "best"
    swept(checkpoint=path, **options)
    rates = [*RATES, np.inf]
    result, wanted = swept(rates=rates, checkpoint=path, **options), alone(rates=rates, **options)
    np.testing.assert_allclose(result.losses, wanted.losses, rtol=1e-4)
    np.testing.assert_array_equal(result.stopped_at, [320] * 5 + [40])


def check_resume_after_points_were_stopped(folder):
    rates = [np.inf, *lrax.log_grid(1e-3, 0.3, 5), 1e30, 1e31]
    options, path = dict(rates=rates, steps=320), folder / "stopped"
    whole = swept(**options)

    def advance(self, stop, *args, before=loop.Loop.advance):
        before(self, lambda: self.done >= 200, *args)

    with changed(loop.Loop, "advance", advance):
        part = swept(checkpoint=path, **options)
    assert 200 <= part.losses.shape[-1] < 320
    result = swept(checkpoint=path, **options)
    assert_close(result, whole, rtol=1e-4)


def check_interrupts_of_either(folder):
    """Ctrl-C in one process ends the sweep in both."""
    for who in (0, 1):

        def advance(self, stop, report, checkpoint, before=loop.Loop.advance, who=who):
            reports = []

            def interrupting(done, losses):
                report(done, losses)
                reports.append(done)
                if who == ME and len(reports) == 3:
                    signal.raise_signal(signal.SIGINT)

            before(self, stop, interrupting, checkpoint)

        with one_step_segments(), changed(loop.Loop, "advance", advance):
            part = swept(steps=60)
        assert 3 <= part.losses.shape[-1] <= 5


def check_budget(folder):
    with one_step_segments():
        part = swept(steps=60, budget=0 if ME else 1e9)
    assert part.losses.shape[-1] < 60


def check_only_the_first_shows_and_tells(folder):
    events, said = [], io.StringIO()
    rates = [*RATES, 1e30, np.inf]
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
        swept(
            rates=rates,
            steps=300,
            eval_every=100,
            progress=True,
            on_event=lambda *event: events.append(event),
        )
    if ME == 1:
        assert said.getvalue() == ""
        assert not events
        return
    assert "sweep" in said.getvalue()
    kinds = {}
    for kind, facts in events:
        kinds.setdefault(kind, []).append(facts)
    assert kinds.keys() == {"start", "segment", "evaluate", "stop", "end"}
    # Of all points, whosever they are.
    assert {facts["losses"].shape[0] for facts in kinds["segment"]} == {7}
    assert {facts["metrics"]["val_loss"].shape for facts in kinds["evaluate"]} == {(7, 2)}
    assert sorted(point for facts in kinds["stop"] for point in facts["stopped"]) == [5, 6]
    assert kinds["stop"][-1]["alive"] == 5
    assert kinds["segment"][-1]["lanes"] == 14


def check_errors_of_one_are_raised_in_both(folder):
    for who in (0, 1):

        def fail(self, *args, who=who, before=engine.Engine.train):
            if who == ME:
                raise ArithmeticError("its own")
            return before(self, *args)

        error = ArithmeticError if who == ME else hosts.HostError
        words = "^its own" if who == ME else f"process {who} failed: ArithmeticError: its own"
        with changed(engine.Engine, "train", fail), pytest.raises(error, match=words):
            swept()
    # And nothing is out of step.
    assert_close(swept(), alone())


def check_an_unwritable_checkpoint_is_an_error_in_both(folder):
    error = OSError if ME == 0 else hosts.HostError
    with pytest.raises(error, match="`checkpoint` must be a place that can be written"):
        swept(checkpoint=folder / "absent" / "sweep")
    if ME == 0:
        (folder / "spoiled.npz").write_bytes(b"x")
    with pytest.raises((ValueError, hosts.HostError), match="must be a whole file"):
        swept(checkpoint=folder / "spoiled")
    assert_close(swept(), alone())


def check_other_calls_are_refused(folder):
    with pytest.raises(
        ValueError, match="all processes must make the same call, got 2 different ones"
    ):
        swept(rates=RATES * (1 + ME))
    with pytest.raises(ValueError, match="all processes must make the same call"):
        swept(steps=20 + ME)
    with pytest.raises((ValueError, hosts.HostError), match="`steps` must be"):
        swept(steps=20 if ME else 0)
    assert_close(swept(), alone())


def check_one_is_slow(folder):
    """To compile, and at every step: the other one waits for it."""
    if ME == 1:
        time.sleep(3)

    def slow(self, *args, before=engine.Engine.train):
        time.sleep(0.01 * ME)
        return before(self, *args)

    with changed(engine.Engine, "train", slow):
        assert_close(swept(steps=60), alone(steps=60))


CHECKS = children.names(globals())
EVERYDAY = {"check_uneven_points", "check_halving", "check_checkpoint"}
WITH_TWO_DEVICES = [
    "check_uneven_points",
    "check_halving",
    "check_one_has_nothing_left",
    "check_checkpoint",
]


def pair(devices, late=0):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    found = children.Children(__file__, 2, DEVICES=str(devices), PORT=str(port), LATE=str(late))
    yield found
    found.close()


@pytest.fixture(scope="module")
def processes():
    yield from pair(1)


@pytest.fixture(scope="module")
def processes_of_two_devices():
    yield from pair(2)


@pytest.mark.parametrize(
    "check", [pytest.param(c, marks=[] if c in EVERYDAY else pytest.mark.slow) for c in CHECKS]
)
def test_two_processes(check, processes):
    processes.run(check, timeout=300)


@pytest.mark.slow
@pytest.mark.parametrize("check", WITH_TWO_DEVICES)
def test_two_processes_of_two_devices(check, processes_of_two_devices):
    processes_of_two_devices.run(check, timeout=300)


@pytest.mark.slow
def test_one_begins_later_than_gloo_waits():
    for processes in pair(1, late=33):
        processes.run("check_fewer_points_than_processes", timeout=300)


if __name__ == "__main__":
    jax.config.update("jax_numpy_rank_promotion", "raise")
    jax.distributed.initialize(f"127.0.0.1:{os.environ['PORT']}", 2, ME, initialization_timeout=300)
    jax.devices()
    time.sleep(ME * float(os.environ["LATE"]))
    hosts.together(lambda: None)()
    children.serve(globals())
    sys.stdout.flush()
    os._exit(0)  # not by way of the runtime's shutdown, which would wait for the other
