"""A sweep over batches from the host is the sweep over the same batches drawn on the device."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path

import jax
import numpy as np
import optax
import problems
import pytest
from jax import numpy as jnp
from test_checkpoint import assert_equal

import lrax
from lrax.sweeps.engine import engine, feed, segments

RATES = [1e-3, 1e-2, 3e-2, 1e-1, 0.3]
BATCHES = [{"x": problems.X[i : i + 8] + i / 7, "y": problems.Y[i : i + 8]} for i in range(7)]


def adam(learning_rate):
    return optax.adam(learning_rate)


def swept(batch, **options):
    task = problems.regression(batch=batch)
    options = dict(steps=40, seeds=2, eval_every=15, objective="val_loss", progress=False) | options
    return lrax.sweep(task, adam, {"learning_rate": RATES}, **options)


def drawn(batches=BATCHES):
    """The batches, epoch after epoch, as a pure function."""
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *batches)
    return lambda step, key: jax.tree.map(lambda leaf: leaf[step % len(batches)], stacked)


def assert_close(result, wanted):
    np.testing.assert_allclose(result.losses, wanted.losses, rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(result.status, wanted.status)
    for group in ("metrics", "evaluations", "best_params"):
        close = lambda ours, theirs: np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)
        jax.tree.map(close, getattr(result, group), getattr(wanted, group))


def interrupting(done):
    """Ctrl-C, once, after so many updates."""
    left = [done]

    def on_event(kind, facts):
        if left and kind == "segment" and facts["done"] >= left[0]:
            left.clear()
            signal.raise_signal(signal.SIGINT)

    return on_event


def generate():
    yield from BATCHES


class Loader:
    """Iterable again and again, shuffled anew each epoch, like a seeded DataLoader."""

    def __init__(self, seed=0):
        self.random = np.random.default_rng(seed)

    def __iter__(self):
        return iter([BATCHES[i] for i in self.random.permutation(len(BATCHES))])


def threads():
    return [thread for thread in threading.enumerate() if thread.name == "lrax.Stream"]


@pytest.fixture(autouse=True)
def no_thread_is_left():
    yield
    deadline = time.monotonic() + 5
    while threads() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threads() == []


@pytest.fixture
def short_blocks(monkeypatch):
    """Blocks of 8 steps, so that epochs of 7 batches end in the middle of them."""
    monkeypatch.setattr(feed, "BLOCK", 8)


@pytest.fixture(scope="module")
def whole():
    return swept(drawn())


# Batches from the host.


@pytest.mark.parametrize(
    "source",
    [list(BATCHES), generate, tuple(BATCHES), lambda: iter(BATCHES * 6)],
    ids=["list", "generator function", "tuple", "iterator"],
)
def test_a_source_is_the_same_batches_drawn(source, whole):
    source = source() if source not in (generate,) and callable(source) else source
    result = swept(source)
    assert result.losses.shape == (5, 2, 40)
    assert_close(result, whole)
    assert threads() == []


@pytest.mark.parametrize("execution", ["vmap", "loop", 3, "steps"])
def test_blocks_that_end_within_epochs_and_chunks_narrower_than_the_grid(
    execution, short_blocks, whole
):
    assert_close(swept(generate, execution=execution), whole)


def test_lanes_of_other_keys_see_the_same_batches(short_blocks):
    assert_close(swept(BATCHES, execution=2, rng="independent"), swept(drawn(), rng="independent"))


def test_blocks_as_short_as_large_batches_need(monkeypatch, whole):
    size = sum(leaf.nbytes for leaf in BATCHES[0].values())
    for fitting in (0.5, 3):
        monkeypatch.setattr(feed, "STREAMED", fitting * size)
        assert_close(swept(BATCHES), whole)


def test_all_seeds_see_one_order(short_blocks):
    result = swept(Loader(3), seeds=[0, 5, 2])
    order = np.random.default_rng(3)
    epochs = [BATCHES[i] for _ in range(6) for i in order.permutation(7)]
    assert_close(result, swept(drawn(epochs), seeds=[0, 5, 2]))
    alone = swept(Loader(3), seeds=[5])
    np.testing.assert_allclose(result.losses[:, 1:2], alone.losses, rtol=1e-5, atol=1e-7)


def test_points_that_are_stopped_leave_the_others_their_batches(short_blocks):
    rates, options = [np.inf, 1e-2, 1e30, 1e-1], dict(steps=300, seeds=2, progress=False)
    of = lambda batch: lrax.sweep(
        problems.regression(batch=batch), adam, {"learning_rate": rates}, **options
    )
    result, wanted = of(generate), of(drawn())
    assert (result.stopped_at < 300).tolist() == [True, False, True, False]
    assert_close(result, wanted)


def test_dtypes_that_jax_has_not(whole):
    wide = [{"x": b["x"].astype(np.float64), "y": b["y"].astype(np.float64)} for b in BATCHES]
    assert_close(swept(wide), whole)
    loss = lambda params, batch: jnp.mean(
        (params["w"][batch["i"]] - batch["half"].astype(jnp.float32)) ** 2
    )
    batches = [
        {
            "i": np.array([k % 3, 1], np.int64),
            "half": np.array([k, 1], np.float16),
            "yes": np.array(True),
            "n": k,
        }
        for k in range(5)
    ]
    of = lambda batch: lrax.sweep(
        problems.regression(loss=loss, batch=batch), adam, RATES, steps=12, progress=False
    )
    assert_close(of(batches), of(drawn(batches)))


def test_float64_where_jax_has_it(x64):
    with x64:
        wide = [{"x": b["x"].astype(np.float64), "y": b["y"].astype(np.float64)} for b in BATCHES]
        result, wanted = swept(wide), swept(drawn(wide))
        assert result.losses.dtype == np.float64
        np.testing.assert_allclose(result.losses, wanted.losses, rtol=1e-12)


def test_a_second_sweep_compiles_nothing(caplog):
    swept(BATCHES)
    with jax.log_compiles():
        swept(generate, seeds=[7, 8])
    assert not [record.message for record in caplog.records if "Compiling" in record.message]


# Reading ahead.


def test_batches_are_read_while_the_device_works(short_blocks, monkeypatch):
    made, change = [0], threading.Condition()

    def source():
        for i in range(64):
            with change:
                made[0] += 1
                change.notify_all()
            yield BATCHES[i % 7]

    ahead = []
    train = engine.Engine.train

    def train_after_the_next_block_was_read(self, chunk, rows, first, count):
        # Nobody asks for a batch until this returns.
        with change:
            ahead.append(
                change.wait_for(
                    lambda: made[0] >= (first // 8 + 2) * 8, timeout=10 if all(ahead) else 0
                )
            )
        return train(self, chunk, rows, first, count)

    monkeypatch.setattr(engine.Engine, "train", train_after_the_next_block_was_read)
    swept(source, steps=64, execution="vmap")
    assert len(ahead) >= 8
    assert all(ahead)


# What goes wrong.


def broken(at):
    def a_source_that_breaks():
        for i in range(at):
            yield BATCHES[i % 7]
        raise OSError("no such shard")

    return a_source_that_breaks


@pytest.mark.parametrize("at", [0, 1, 20])
def test_errors_of_the_source_come_with_their_own_traceback(at, short_blocks):
    with pytest.raises(OSError, match="no such shard") as caught:
        swept(broken(at))
    text = "".join(traceback.format_exception(caught.value))
    assert "in a_source_that_breaks" in text
    assert threads() == []


def test_what_was_trained_before_an_error_is_saved(tmp_path, short_blocks, monkeypatch, whole):
    monkeypatch.setattr(segments, "SECONDS_PER_SEGMENT", 0.0)
    with pytest.raises(OSError, match="no such shard"):
        swept(broken(20), checkpoint=tmp_path / "sweep", checkpoint_every=0)
    result = swept(generate, checkpoint=tmp_path / "sweep")
    assert result.info["resumed_at"] >= 14
    assert_close(result, whole)


def test_a_source_that_ends_too_early_is_named(short_blocks):
    for make, kind in ((generate, "generator"), (lambda: iter(BATCHES), "list_iterator")):
        with pytest.raises(
            ValueError, match=f"`source` ended after 7 batches, and a {kind} cannot be read again"
        ):
            swept(make())
        assert threads() == []
    with pytest.raises(ValueError, match="`source` must hold at least one batch in every epoch"):
        swept([])
    with pytest.raises(
        ValueError,
        match=r"`source` must hold batches of the same shapes.*drop a smaller last batch",
    ):
        swept([*BATCHES, jax.tree.map(lambda leaf: leaf[:3], BATCHES[0])])
    assert_close(swept(iter(BATCHES), steps=7), swept(drawn(), steps=7))  # as many as there are


def test_the_thread_ends_with_a_sweep_that_cannot_begin():
    caught = []
    for name in ("objective", "convolutions", "execution"):
        with pytest.raises(ValueError, match=name) as error:
            swept(BATCHES, **{name: "other"})
        caught.append(error)
    for changes in (
        dict(loss=lambda params, batch: batch["z"]),
        dict(loss=lambda params, batch: batch["x"]),
    ):
        with pytest.raises((KeyError, TypeError)) as error:
            lrax.sweep(
                problems.regression(batch=BATCHES, **changes), adam, RATES, steps=3, progress=False
            )
        caught.append(error)
    assert (
        threads() == []
    )  # even while the errors, and with them the frames, are kept as in a notebook


def test_ctrl_c_returns_what_is_done_and_ends_the_thread(short_blocks, monkeypatch, whole):
    monkeypatch.setattr(segments, "SECONDS_PER_SEGMENT", 0.0)

    part = swept(generate, on_event=interrupting(11))
    assert threads() == []
    done = part.losses.shape[-1]
    assert 11 <= done < 40
    np.testing.assert_allclose(part.losses, whole.losses[..., :done], rtol=1e-5, atol=1e-7)


HANGING = """
import sys, time
sys.path[:0] = [{tests!r}]
import test_streams_sweep as test
test.feed.BLOCK = 8
ready = test.feed.Stream.ready
def ready_and_tell(self, n, timeout):
    if self.position == 16:
        print("waiting", flush=True)
        test.feed.Stream.ready = ready
    return ready(self, n, timeout)
test.feed.Stream.ready = ready_and_tell
def source():
    yield from test.BATCHES + test.BATCHES + test.BATCHES[:6]
    time.sleep(3600)
result = test.swept(source)
print("returned", result.losses.shape[-1], flush=True)
"""


@pytest.mark.skipif(os.name != "posix", reason="signals as on POSIX")
@pytest.mark.slow
def test_ctrl_c_ends_the_wait_for_a_source_that_hangs():
    program = HANGING.format(tests=str(Path(__file__).parent))
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    watchdog = threading.Timer(120, process.kill)
    watchdog.start()
    try:
        assert process.stdout.readline() == "waiting\n"
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate()  # a thread that did not end would hold the process
    finally:
        watchdog.cancel()
        process.kill()
    assert output == "returned 16\n"
    assert process.returncode == 0


def test_one_run_takes_no_source():
    for source, kind in (
        (BATCHES, "list"),
        (generate, "function"),
        (iter(BATCHES), "list_iterator"),
    ):
        with pytest.raises(
            TypeError, match=rf"`task` must have batches .*got a {kind}: .*`lrax\.sweep`"
        ):
            lrax.train(problems.regression(batch=source), adam, steps=3)


# Going on after an interruption.


@pytest.mark.parametrize(
    "make", [lambda: BATCHES, lambda: generate, Loader], ids=["list", "function", "loader"]
)
@pytest.mark.parametrize("suffix", [".npz", ".orbax"])
def test_a_resumed_sweep_sees_the_same_batches(make, suffix, tmp_path, short_blocks, monkeypatch):
    if suffix == ".orbax":
        pytest.importorskip("orbax.checkpoint", exc_type=ImportError)
    wanted, path = swept(make()), tmp_path / f"sweep{suffix}"
    with monkeypatch.context() as patch:
        patch.setattr(segments, "SECONDS_PER_SEGMENT", 0.0)
        for end in (
            3,
            7,
            8,
            9,
            21,
        ):  # within a block, at its end and about it, and some blocks and epochs on
            part = swept(make(), checkpoint=path, on_event=interrupting(end))
            assert end <= part.losses.shape[-1] < 40
    assert_equal(swept(make(), checkpoint=path), wanted)


def test_passing_over_used_batches_lets_the_caller_look_at_the_clock(short_blocks):
    def source():
        while True:
            time.sleep(0.005)
            yield BATCHES[0]

    waiting = problems.engine(problems.regression(batch=source), RATES, steps=200).feed
    with contextlib.closing(waiting):
        assert not waiting.is_ready(192, timeout=0.05)  # 192 batches take most of a second
        while not waiting.is_ready(192, timeout=0.05):
            pass


def test_a_fresh_iterator_goes_on_and_a_used_one_is_refused(tmp_path, short_blocks, monkeypatch):
    def once():
        return (BATCHES[i % 7] for i in range(40))

    wanted, path = swept(once()), tmp_path / "sweep"
    used, spent = once(), iter([BATCHES[i % 7] for i in range(60)])
    with monkeypatch.context() as patch:
        patch.setattr(segments, "SECONDS_PER_SEGMENT", 0.0)
        part = swept(used, checkpoint=path, on_event=interrupting(1))
        while part.losses.shape[-1] < 18:
            part = swept(once(), checkpoint=path, budget=0)
    with pytest.raises(
        ValueError,
        match="none are left in it, and a generator cannot be read again: give a new one",
    ):
        swept(used, checkpoint=path)
    next(spent)
    with pytest.raises(
        ValueError, match=r"must be of the same sweep(.|\n)*first batch: '\w+' there, '\w+' here"
    ):
        swept(spent, checkpoint=path)
    with pytest.raises(ValueError, match="`source` ended after 9 batches"):
        swept(iter((BATCHES * 2)[:9]), checkpoint=path)
    with pytest.raises(ValueError, match="first batch: "):
        swept(Loader(1), checkpoint=path)  # which was not seeded as before
    assert_equal(swept(once(), checkpoint=path), wanted)


# Sources of other libraries.


def test_a_dataloader_of_pytorch(tmp_path, whole, monkeypatch):
    torch = pytest.importorskip("torch", exc_type=ImportError)

    class Data(torch.utils.data.Dataset):
        def __len__(self):
            return 40

        def __getitem__(self, i):
            return {"x": torch.from_numpy(problems.X[i]), "y": torch.tensor(problems.Y[i])}

    def loader(seed=0, **options):
        seeded = torch.Generator().manual_seed(seed)
        return torch.utils.data.DataLoader(
            Data(), batch_size=8, shuffle=True, generator=seeded, **options
        )

    same = loader()
    epochs = [jax.tree.map(np.asarray, batch) for _ in range(8) for batch in same]
    wanted = swept(drawn(epochs))
    assert_close(swept(loader()), wanted)
    monkeypatch.setattr(segments, "SECONDS_PER_SEGMENT", 0.0)
    monkeypatch.setattr(feed, "BLOCK", 8)
    first = swept(loader())
    for _ in range(4):
        part = swept(loader(), checkpoint=tmp_path / "sweep", budget=0)
    assert part.losses.shape[-1] < 40
    with pytest.raises(ValueError, match="first batch: "):
        swept(loader(1), checkpoint=tmp_path / "sweep")
    assert_equal(swept(loader(), checkpoint=tmp_path / "sweep"), first)


def test_a_dataset_of_grain(whole):
    grain = pytest.importorskip("grain", exc_type=ImportError)
    rows = [{"x": problems.X[i], "y": problems.Y[i]} for i in range(40)]
    data = grain.MapDataset.source(rows).shuffle(seed=0).batch(8)
    wanted = swept(drawn([data[i] for i in range(5)]))
    assert_close(swept(data.to_iter_dataset()), wanted)
    assert_close(
        swept(iter(data.repeat().to_iter_dataset())), swept([data.repeat()[i] for i in range(40)])
    )
