"""Host streams: order, epochs, errors of the source, and a thread that always ends."""

import collections
import gc
import os
import signal
import subprocess
import sys
import threading
import time

import jax
import numpy as np
import pytest
from jax import numpy as jnp

import lrax
from lrax.training.streams import Stream, is_source


def batches(n):
    return [{"x": np.full((2, 3), i, np.float32), "y": np.int32(i)} for i in range(n)]


def threads():
    return [thread for thread in threading.enumerate() if thread.name == "lrax.Stream"]


@pytest.fixture(autouse=True)
def no_thread_is_left():
    yield
    deadline = time.monotonic() + 5
    while threads() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threads() == []


class Loader:
    """Iterable again and again, in another order each epoch, as a DataLoader that shuffles."""

    def __init__(self, n):
        self.n, self.epochs = n, 0

    def __iter__(self):
        self.epochs += 1
        return iter(np.random.default_rng(self.epochs).permutation(self.n))


def generate():
    yield from batches(3)


def test_batches_are_stacked_in_order():
    with Stream(batches(5)) as stream:
        assert stream.take(2)["x"].shape == (2, 2, 3)
        taken = stream.take(3)
        assert taken["y"].tolist() == [2, 3, 4]
        assert taken["x"].dtype == np.float32
        assert all(type(leaf) is np.ndarray for leaf in jax.tree.leaves(taken))
        assert stream.position == 5


@pytest.mark.parametrize(
    "source", [batches(3), generate, tuple(batches(3))], ids=["list", "generator function", "tuple"]
)
@pytest.mark.parametrize("prefetch", [1, 2, 50])
def test_epochs_start_anew(source, prefetch):
    with Stream(source, prefetch=prefetch) as stream:
        taken = np.concatenate([stream.take(n)["y"] for n in (1, 4, 2, 7)])
    np.testing.assert_array_equal(taken, np.arange(14) % 3)


def test_each_epoch_is_iterated_once():
    loader = Loader(6)
    wanted = np.concatenate([np.random.default_rng(epoch).permutation(6) for epoch in (1, 2, 3)])
    with Stream(loader, prefetch=2) as stream:
        np.testing.assert_array_equal(np.concatenate([stream.take(5), stream.take(13)]), wanted)
    assert loader.epochs <= 4


def test_segments_of_any_length_see_the_same_stream_and_skip_resumes_it():
    with Stream(Loader(7)) as whole, Stream(Loader(7), skip=11) as resumed:
        wanted = whole.take(40)
        assert resumed.position == 11
        np.testing.assert_array_equal(resumed.take(4), wanted[11:15])
        np.testing.assert_array_equal(resumed.take(25), wanted[15:])
        assert resumed.position == 40


def test_peek_leaves_the_batch():
    with Stream(iter(batches(2))) as stream:
        assert stream.peek()["y"] == stream.peek()["y"] == 0
        assert stream.take(2)["y"].tolist() == [0, 1]


def test_pytrees_keep_their_structure():
    Pair = collections.namedtuple("Pair", "x y")
    with Stream([Pair([1.0, jnp.ones(2)], None)]) as stream:
        taken = stream.take(3)
    assert isinstance(taken, Pair)
    assert taken.y is None
    assert [leaf.shape for leaf in taken.x] == [(3,), (3, 2)]


def test_reads_ahead_while_nobody_asks_but_not_without_bound():
    made = []

    def source():
        for i in range(10**6):
            made.append(i)
            yield np.float32(i)

    with Stream(source, prefetch=4) as stream:
        stream.take(10)
        time.sleep(0.3)
        assert (
            20 <= len(made) <= 22
        )  # as many again as were taken; one in hand, one perhaps under way


def test_a_source_may_reuse_its_buffer():
    buffer = np.zeros(3)

    def source():
        for i in range(6):
            buffer[:] = i
            yield buffer

    with Stream(source, prefetch=6) as stream:
        assert stream.take(6)[:, 0].tolist() == [0, 1, 2, 3, 4, 5]


def test_an_iterator_that_ends_says_what_to_do():
    with Stream(iter(batches(3))) as stream:
        assert stream.take(2)["y"].tolist() == [0, 1]
        with pytest.raises(
            ValueError,
            match="`source` ended after 3 batches, and a list_iterator cannot be read again",
        ):
            stream.take(2)
        assert stream.take(1)["y"].tolist() == [2]  # what is there can still be taken
    with (
        Stream(generate()) as stream,
        pytest.raises(ValueError, match="a generator cannot be read again"),
    ):
        stream.take(4)


def test_errors_of_the_source_surface_after_the_batches_before_them():
    def source():
        yield np.ones(2)
        yield np.ones(2)
        raise OSError("no such shard")

    with Stream(source) as stream:
        assert stream.take(2).shape == (2, 2)
        for _ in range(2):
            with pytest.raises(OSError, match="no such shard"):
                stream.take(1)


def test_bad_batches_are_named():
    cases = {
        "must hold at least one batch in every epoch": [],
        "must hold batches of the same shapes.*batch 1; drop a smaller last batch": [
            np.ones(3),
            np.ones(2),
        ],
        "must hold batches of the same shapes.* in batch 1": [np.ones(3), np.ones(3, np.float32)],
        "must hold batches of the same shapes": [{"x": 1.0}, {"y": 1.0}],
    }
    for message, source in cases.items():
        with Stream(source) as stream, pytest.raises(ValueError, match=message):
            stream.take(2)
    with (
        Stream([["a word"]]) as stream,
        pytest.raises(TypeError, match="must hold pytrees of numbers, got dtypes"),
    ):
        stream.take(1)
    with (
        Stream(lambda: 3) as stream,
        pytest.raises(TypeError, match="must return an iterable of batches, got int"),
    ):
        stream.take(1)


def test_bad_arguments_are_named():
    with pytest.raises(
        TypeError, match="`source` must be an iterable of batches or a function, got int"
    ):
        Stream(3)
    with pytest.raises(
        TypeError,
        match="`source` must be a function without arguments, got one that needs step, key",
    ):
        Stream(lambda step, key: step)
    with pytest.raises(ValueError, match="`prefetch` must be at least 1"):
        Stream([1.0], prefetch=0)
    with pytest.raises(ValueError, match="`skip` must be at least 0"):
        Stream([1.0], skip=-1)
    with Stream([1.0]) as stream, pytest.raises(ValueError, match="`n` must be at least 1"):
        stream.take(0)


def test_closed_streams_take_no_more_and_close_their_generators():
    closed = []

    def source():
        try:
            while True:
                yield np.ones(1)
        finally:
            closed.append(True)

    with Stream(source) as stream:
        stream.take(1)
        assert len(threads()) == 1
    assert threads() == []
    assert closed == [True]
    with pytest.raises(RuntimeError, match="the stream is closed"):
        stream.take(1)
    stream.close()
    never = Stream(source)
    never.close()
    with pytest.raises(RuntimeError, match="the stream is closed"):
        never.take(1)


def test_a_dropped_stream_ends_its_thread():
    stream = Stream(batches(2))
    stream.take(1)
    assert len(threads()) == 1
    del stream
    gc.collect()


def test_close_does_not_wait_for_a_slow_source():
    event = threading.Event()

    def source():
        yield np.ones(1)
        event.wait(20)
        yield np.ones(1)

    stream = Stream(source)
    stream.take(1)
    start = time.monotonic()
    stream.close()
    assert time.monotonic() - start < 5
    event.set()


@pytest.mark.skipif(os.name != "posix", reason="signals as on POSIX")
def test_ctrl_c_ends_the_wait_and_the_thread():
    program = """
import signal, time, numpy as np
from lrax.training.streams import Stream
signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background a shell has it ignored
def source():
    yield np.ones(1)
    print("waiting", flush=True)
    time.sleep(3600)
    yield np.ones(1)
stream = Stream(source)
try:
    stream.take(2)
except KeyboardInterrupt:
    try:
        stream.take(1)
    except RuntimeError as error:
        print(error, flush=True)
"""
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "waiting\n"
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)  # a thread that did not end would hold the process
    assert output == "the stream is closed\n"
    assert process.returncode == 0


def test_what_is_a_source():
    for source in (batches(2), iter(batches(2)), generate, generate(), Loader(2)):
        assert is_source(source)
    for other in (
        lambda step, key: step,
        np.ones(3),
        jnp.ones(3),
        {"x": 1},
        "word",
        lrax.minibatches(np.ones(3), 1),
    ):
        assert not is_source(other)

    def pure(step, key):
        yield step

    assert not is_source(pure)


def test_tensors_whose_array_method_takes_no_copy():
    class Tensor:
        data = np.ones(3, np.float32)

        def __array__(self, dtype=None):
            return self.data

    with Stream([Tensor()]) as stream:
        taken = stream.peek()
    np.testing.assert_array_equal(taken, Tensor.data)
    assert not np.shares_memory(taken, Tensor.data)


def test_a_dataloader_of_pytorch():
    torch = pytest.importorskip("torch", exc_type=ImportError)
    data = torch.utils.data.TensorDataset(torch.arange(12.0).reshape(6, 2), torch.arange(6))
    with Stream(torch.utils.data.DataLoader(data, batch_size=2)) as stream:
        x, y = stream.take(4)
    assert x.shape == (4, 2, 2)
    assert y.tolist() == [[0, 1], [2, 3], [4, 5], [0, 1]]
    with (
        Stream(torch.utils.data.DataLoader(data, batch_size=4)) as stream,
        pytest.raises(ValueError, match="drop_last=True"),
    ):
        stream.take(2)


def test_a_dataset_of_grain():
    grain = pytest.importorskip("grain", exc_type=ImportError)
    data = grain.MapDataset.source(np.arange(6.0)).shuffle(seed=0).batch(2)
    with Stream(data.to_iter_dataset()) as stream:
        taken = stream.take(6)
    assert sorted(taken[:3].ravel()) == sorted(taken[3:].ravel()) == list(range(6))
    with Stream(iter(data.repeat().to_iter_dataset())) as stream:
        assert stream.take(9).shape == (9, 2)


def test_ready_waits_in_short_pieces():
    gate = threading.Event()

    def slow():
        yield {"x": np.zeros(2)}
        gate.wait(10)
        yield {"x": np.ones(2)}

    with Stream(slow) as stream:
        assert stream.ready(1)
        assert not stream.ready(2, timeout=0.05)
        gate.set()
        assert stream.ready(2, timeout=10)
        np.testing.assert_array_equal(stream.take(2)["x"], [[0, 0], [1, 1]])


def test_ready_raises_what_the_source_raised_and_leaves_what_came_before():
    def broken():
        yield {"x": np.zeros(2)}
        raise OSError("the disk is gone")

    with Stream(broken) as stream:
        assert stream.ready(1, timeout=10)
        with pytest.raises(OSError, match="the disk is gone"):
            stream.ready(2, timeout=10)
        assert stream.take(1)["x"].shape == (1, 2)
    with pytest.raises(RuntimeError, match="the stream is closed"):
        stream.ready(1)
