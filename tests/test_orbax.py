"""A checkpoint that Orbax keeps holds what one in a file does."""

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import children
import jax
import numpy as np
import optax
import problems
import pytest
from jax import numpy as jnp
from test_checkpoint import PROGRAM, assert_equal, swept

import lrax
from lrax.sweeps.engine import segments
from lrax.sweeps.storage import checkpoint, orbax

if __name__ != "__main__":
    pytest.importorskip("orbax.checkpoint", exc_type=ImportError)

ME = int(os.environ.get("CHILD", 0))
FORMAT = "lrax.Test/1"


@pytest.fixture(scope="module")
def whole():
    return swept()


@pytest.fixture
def one_step_segments(monkeypatch):
    monkeypatch.setattr(segments, "SECONDS_PER_SEGMENT", 0.0)


def arrays():
    return {
        "alive": np.array([True, False]),
        "lanes/0": np.array([np.nan, -0.0, np.inf, 1e-45], np.float32),
        "lanes/1": np.arange(6, dtype=np.int64).reshape(2, 3) + 2**60,
        "lanes/2": np.array(7, np.uint32),
        "lanes/3": np.zeros((2, 0, 3), np.float32),
        "records/0": np.asarray(jnp.arange(4, dtype=jnp.bfloat16)),
        "records/1": np.asarray(jnp.arange(4, dtype=jnp.float8_e4m3fn)),
        "records/2": np.zeros((0, 2), jnp.bfloat16),
        "records/3": np.asfortranarray(np.arange(6.0).reshape(2, 3)).T,
    }


def assert_same(found, wanted):
    assert found.keys() == wanted.keys()
    for name, array in wanted.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        assert found[name].tobytes() == array.tobytes()


def test_any_arrays_come_back_as_they_were(tmp_path):
    facts = {"done": 3, "plan": {"reasons": ["a", "ü"]}, "pace": 0.1, "nothing": None}
    for path in (tmp_path / "new" / "a.orbax", tmp_path / "b.orbax"):
        for version in range(3):
            orbax.save(path, arrays(), {**facts, "version": version}, FORMAT)
        found, said = orbax.load(path, FORMAT)
        assert_same(found, arrays())
        assert said == {**facts, "version": 2}
        assert [child.name for child in path.iterdir()] == ["3"]  # the older ones are gone


def test_what_is_expected_is_checked(tmp_path):
    path = tmp_path / "a.orbax"
    orbax.save(path, {"x": np.zeros((2, 3), np.float32)}, {"n": 2}, FORMAT)
    orbax.load(path, FORMAT, expected=lambda facts: {"x": ((facts["n"], 3), np.float32)})
    with pytest.raises(ValueError, match=r"its x must be int32\[2, 3\], got float32\[2, 3\]"):
        orbax.load(path, FORMAT, expected={"x": ((2, 3), np.int32)})


def test_declared_sizes_must_agree(tmp_path):
    path = tmp_path / "a.orbax"
    orbax.save(path, {"x": np.zeros((2, 3), np.float32)}, {}, FORMAT)
    with pytest.raises(ValueError, match=r"its x must be float32\[9\], got float32\[2, 3\]"):
        orbax._require_declared(
            orbax._require.extra("orbax.checkpoint", "orbax"),
            orbax._directory(path) / "1" / "arrays",
            {"x": ["float32", [9], 0]},
        )


def test_a_schedule_passes_the_standard_checkpointer(tmp_path):
    ocp = pytest.importorskip("orbax.checkpoint")
    schedule = lrax.cosine(0.1, 40)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "schedule", schedule)
        checkpointer.wait_until_finished()
        restored = checkpointer.restore(tmp_path / "schedule", schedule)
    counts = np.arange(41)
    np.testing.assert_array_equal(jax.vmap(restored)(counts), jax.vmap(schedule)(counts))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs FIFOs")
def test_a_fifo_inside_is_refused(tmp_path):
    path = tmp_path / "a.orbax"
    orbax.save(path, {"x": np.zeros(2)}, {}, FORMAT)
    os.mkfifo(path / "1" / "facts" / "fifo")
    with pytest.raises(ValueError, match="its fifo is not a regular file"):
        orbax.load(path, FORMAT)


def test_which_paths_are_orbaxs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    of = lambda path: checkpoint.Checkpoint(path, 0, {}).path
    assert of("gs://bucket/sweep") == "gs://bucket/sweep"  # where `Path` would swallow a slash
    assert of("s3://bucket/sweep.npz") == "s3://bucket/sweep.npz"
    assert (
        of("sweep.orbax")
        == of("sweep.orbax/")
        == of(Path("sweep.orbax"))
        == str(tmp_path / "sweep.orbax")
    )
    assert of("sweep") == of(Path("sweep.npz")) == "sweep.npz"
    with pytest.raises(
        ValueError, match=r"`checkpoint` must be a path that Orbax can reach.*got nowhere://a/b"
    ):
        swept(checkpoint="nowhere://a/b", steps=3)


def test_an_interrupted_sweep_goes_on_to_the_same_bits(
    tmp_path, whole, one_step_segments, monkeypatch
):
    path = tmp_path / "sweep.orbax"
    for _ in range(3):
        part = swept(checkpoint=path, budget=0)
    assert 2 < part.losses.shape[-1] < 40
    assert np.all(part.status == "interrupted")
    np.testing.assert_array_equal(part.losses, whole.losses[..., : part.losses.shape[-1]])
    assert_equal(swept(checkpoint=path, checkpoint_every=9), whole)
    assert_equal(swept(checkpoint=str(path)), whole)  # and again, from what is finished
    assert [file.name for file in tmp_path.iterdir()] == ["sweep.orbax"]
    assert sum(child.name.isdigit() for child in path.iterdir()) == 1


def test_ctrl_c_saves_what_is_done(tmp_path, whole, one_step_segments):
    events, path = [], tmp_path / "sweep.orbax"

    def on_event(kind, facts):
        events.append((kind, facts))
        if kind == "segment" and facts["done"] == 5:
            signal.raise_signal(signal.SIGINT)

    part = swept(checkpoint=path, checkpoint_every=1e9, on_event=on_event)
    assert 5 <= part.losses.shape[-1] < 40
    assert ("checkpoint", {"done": part.losses.shape[-1], "path": str(path)}) in events
    assert_equal(swept(checkpoint=path, checkpoint_every=9), whole)


def test_another_sweep_is_refused_with_the_difference(tmp_path):
    path = tmp_path / "sweep.orbax"
    swept(checkpoint=path, steps=3)
    with pytest.raises(
        ValueError, match=r"`checkpoint` must be of the same sweep(.|\n)*rng: 'common' there, 'ind"
    ):
        swept(checkpoint=path, steps=3, rng="independent")
    assert swept(checkpoint=path, steps=3).losses.shape == (
        3,
        2,
        3,
    )  # nothing of this has touched it


def test_a_model_of_the_user_is_refused_and_kept(tmp_path):
    ocp = pytest.importorskip("orbax.checkpoint")
    path = tmp_path / "model.orbax"
    with ocp.CheckpointManager(path) as manager:
        manager.save(7, args=ocp.args.StandardSave({"w": np.ones(3)}))
    with pytest.raises(
        ValueError, match=r"must be a whole directory of a lrax\.Checkpoint, got .*model\.orbax"
    ):
        swept(checkpoint=path, steps=3)
    with ocp.CheckpointManager(path) as manager:
        assert manager.all_steps() == [7]
    orbax.save(tmp_path / "other.orbax", arrays(), {}, FORMAT)
    with pytest.raises(ValueError, match=r"holds 'lrax\.Test/1', not lrax\.Checkpoint/4"):
        swept(checkpoint=tmp_path / "other.orbax", steps=3)
    (tmp_path / "file.orbax").write_bytes(b"x")
    with pytest.raises(OSError, match=r"`checkpoint` must be a place.*Not a directory"):
        swept(checkpoint=tmp_path / "file.orbax", steps=3)


def test_what_an_interrupted_write_left_is_ignored_and_swept_away(
    tmp_path, whole, one_step_segments
):
    path = tmp_path / "sweep.orbax"
    path.mkdir()
    left = path / "1.orbax-checkpoint-tmp-123" / "arrays.orbax-checkpoint-tmp-124"
    done = 0
    for budget in (0, None):
        left.mkdir(parents=True, exist_ok=True)
        (left / "manifest.ocdbt").write_bytes(b"half")
        result = swept(checkpoint=path, budget=budget, checkpoint_every=9)
        assert result.info["resumed_at"] == done
        assert not left.parent.exists()
        done = result.losses.shape[-1]
    assert_equal(result, whole)


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(
        OSError,
        match=r"`checkpoint` must be a place that can be written: Not a directory: .*sweep\.orbax",
    ):
        swept(checkpoint=tmp_path / "file" / "sweep.orbax", steps=3)


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # of NumPy 2.0, which closes twice
@pytest.mark.skipif(os.name != "posix", reason="a limit on the size of files, as on POSIX")
@pytest.mark.slow
def test_a_write_that_fails_keeps_the_last_good_one(tmp_path, whole, one_step_segments):
    import resource

    for path, done in ((tmp_path / "sweep.orbax", []), (tmp_path / "sweep.npz", [])):
        swept(checkpoint=path, budget=0)
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(
            resource.RLIMIT_FSIZE, (100, hard)
        )  # which the system holds to, as to a disk that is full
        try:
            # Training is worth more than its checkpoint, so the sweep goes on and says so.
            with pytest.warns(RuntimeWarning, match=r"File too large.*before is kept"):
                limited = swept(
                    checkpoint=path,
                    on_event=lambda kind, facts, done=done: done.append((kind, facts)),
                )
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert_equal(limited, whole)
        start = done[0][1]["done"]
        result = swept(checkpoint=path, checkpoint_every=9)
        assert result.info["resumed_at"] == start > 0
        assert_equal(result, whole)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["sweep.npz", "sweep.orbax"]
    assert (
        sum(child.name[0].isdigit() for child in (tmp_path / "sweep.orbax").iterdir()) == 1
    )  # no scraps


def test_without_orbax_it_says_what_to_install(tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "orbax"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Absent(), *sys.meta_path])
    with pytest.raises(
        ImportError,
        match=r'this needs orbax.*, which is not installed: pip install "lrax\[orbax\] @',
    ):
        swept(checkpoint=tmp_path / "sweep.orbax", steps=3)
    assert swept(checkpoint=tmp_path / "sweep", steps=3).losses.shape == (3, 2, 3)


class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "orbax":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


@pytest.mark.slow
def test_killed_at_random_moments_it_loses_nothing_that_was_saved(tmp_path):
    path, out = tmp_path / "sweep.orbax", tmp_path / "result.npz"
    program = PROGRAM.format(tests=str(Path(__file__).parent), path=str(path), out=str(out))
    draw, before = random.Random(0), 0
    versions = lambda: (
        [child.name for child in path.iterdir() if child.name.isdigit()] if path.exists() else []
    )
    for _ in range(2):
        known = versions()
        process = subprocess.Popen([sys.executable, "-c", program])
        while process.poll() is None and versions() in ([], known):
            time.sleep(0.01)
        time.sleep(draw.random() * 0.3)
        process.kill()
        process.wait()
        done = orbax.load(path, checkpoint.FORMAT)[1][
            "done"
        ]  # a whole one, and one that never goes back
        assert done > before or out.exists()
        before = done
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
    assert_equal(lrax.SweepResult.load(out), swept(steps=400))


def check_a_spoiled_directory(tmp_path):
    good, path = tmp_path / "good.orbax", tmp_path / "spoiled.orbax"
    orbax.save(good, arrays(), {"done": 3}, FORMAT)
    draw, refused, passed, cases = random.Random(0), 0, 0, 0
    flip = lambda data, at: data[:at] + bytes([data[at] ^ 1 << draw.randrange(8)]) + data[at + 1 :]
    ways = {
        "flipped": lambda file, data: file.write_bytes(flip(data, draw.randrange(len(data)))),
        "truncated": lambda file, data: file.write_bytes(data[: draw.randrange(len(data))]),
        "emptied": lambda file, data: file.write_bytes(b""),
        "absent": lambda file, data: file.unlink(),
    }
    for name in [file.relative_to(good) for file in good.rglob("*") if file.is_file()]:
        for spoil in [*ways.values(), ways["flipped"], ways["truncated"]]:
            shutil.rmtree(path, ignore_errors=True)
            shutil.copytree(good, path)
            data, cases = (path / name).read_bytes(), cases + 1
            if data:
                spoil(path / name, data)
            try:
                found, facts = orbax.load(path, FORMAT)
            except ValueError as error:
                refused += f"must be a whole directory of a lrax.Test, got {path}" in str(error)
            else:  # what nothing reads, such as a time stamp
                passed += 1
                assert facts == {"done": 3}
                assert_same(found, arrays())
    assert refused + passed == cases
    assert refused > cases / 4
    for folder in ("1/arrays", "1/facts", "1/arrays/d"):
        shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(good, path)
        shutil.rmtree(path / folder)
        with pytest.raises(ValueError, match="must be a whole directory"):
            orbax.load(path, FORMAT)


def check_two_processes(folder):
    """The first one alone reads and writes, and neither waits for the other inside Orbax."""
    segments.SECONDS_PER_SEGMENT = 0.0
    options = dict(steps=12, seeds=2, eval_every=5, progress=False)
    sweep = lambda **more: lrax.sweep(
        problems.regression(), optax.adam, [1e-3, 1e-2, 0.1], **options, **more
    )
    whole, path = sweep(), folder / f"own-{ME}" / "sweep.orbax"
    for _ in range(2):
        part = sweep(checkpoint=path, budget=0, checkpoint_every=0)
    assert 1 < part.losses.shape[-1] < 12
    assert path.exists() == (ME == 0)
    for _ in range(2):
        assert_equal(sweep(checkpoint=path, checkpoint_every=0), whole)
    if ME == 0:
        (next(path.glob("[0-9]*")) / "facts" / "metadata").write_bytes(b"{}")
    with pytest.raises((ValueError, RuntimeError), match="must be a whole directory"):
        sweep(checkpoint=path)


@pytest.mark.slow
def test_two_processes():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    checked("check_two_processes", 2, PORT=str(port))


@pytest.mark.slow
def test_a_spoiled_directory_is_named_and_never_half_read():
    # Not here, for what goes on in TensorStore when an error ends Orbax's event loop finds it
    # closed, in any test.
    checked("check_a_spoiled_directory", 1)


def checked(check, count, **environment):
    processes = children.Children(__file__, count, **environment)
    try:
        processes.run(check, timeout=300)
    finally:
        processes.close()


if __name__ == "__main__":
    if "PORT" in os.environ:
        jax.distributed.initialize(
            f"127.0.0.1:{os.environ['PORT']}", 2, ME, initialization_timeout=300
        )
    children.serve(globals())
    os._exit(0)
