"""Files of results and checkpoints: replaced as a whole, and read with suspicion."""

import io
import json
import os
import random
import stat
import threading
import tracemalloc
import zipfile

import numpy as np
import pytest
from jax import numpy as jnp

from lrax.sweeps.storage import checkpoint, files, store

FORMAT = "lrax.Test/1"
ARRAYS = {
    "alive": np.array([True, False]),
    "lanes/0": np.array([np.nan, -0.0, np.inf, 1e-45], np.float32),
    "lanes/1": np.arange(6, dtype=np.int64).reshape(2, 3) + 2**60,
    "lanes/2": np.array(7, np.uint32),
    "empty": np.zeros((2, 0, 3), np.float32),
    "half": np.asarray(jnp.arange(4, dtype=jnp.bfloat16)),
    "eighth": np.asarray(jnp.arange(4, dtype=jnp.float8_e4m3fn)),
    "columns": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "words": np.array(["done", "ü"]),
    "no words": np.array(["", ""]),
    "no word": np.zeros(0, "U4"),
}


def saved(path, **options):
    return store.save(path, ARRAYS, {"done": 3}, FORMAT, **options)


def npy(array, **header):
    """The bytes of a `.npy` with a header that may lie."""
    file = io.BytesIO()
    said = {"descr": array.dtype.str, "fortran_order": False, "shape": array.shape, **header}
    np.lib.format.write_array_header_1_0(file, said)
    return file.getvalue() + array.tobytes()


def crafted(path, members, *, dtypes, format=FORMAT, compression=zipfile.ZIP_DEFLATED):
    facts = np.array(json.dumps({"format": format, "dtypes": dtypes}))
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("facts.npy", npy(facts))
        for name, content in members.items():
            archive.writestr(f"array/{name}.npy", content)
    return path


@pytest.mark.parametrize("compressed", [True, False])
def test_any_arrays_come_back_as_they_were(tmp_path, compressed):
    path = saved(tmp_path / "a", compressed=compressed)
    assert path == tmp_path / "a.npz"
    kinds = {name: (array.shape, array.dtype) for name, array in ARRAYS.items()}
    found, facts = store.load(path, FORMAT, expected=kinds)
    assert facts == {"done": 3}
    assert found.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        assert found[name].tobytes() == array.tobytes()


def test_what_is_expected_is_checked(tmp_path):
    path = store.save(tmp_path / "a", {"x": np.zeros((2, 3), np.float32)}, {"n": 2}, FORMAT)
    store.load(path, FORMAT, expected=lambda facts: {"x": ((facts["n"], 3), "float32")})
    for expected, message in [
        ({"x": ((2, 4), np.float32)}, r"its x must be float32\[2, 4\], got float32\[2, 3\]"),
        ({"x": ((2, 3), np.int32)}, r"its x must be int32\[2, 3\], got float32\[2, 3\]"),
        ({"x": ((2, 3), np.float32), "y": ((), np.int32)}, "it lacks y"),
        ({}, "it must not hold x"),
    ]:
        with pytest.raises(ValueError, match=f"`path` must be a whole file.*{message}"):
            store.load(path, FORMAT, expected=expected)


CRAFTED = {
    "a shape of more bytes than there are": (npy(np.zeros(4), shape=(1 << 40,)), "float64"),
    "a shape of fewer bytes": (npy(np.zeros(4), shape=(3,)), "float64"),
    "a negative shape": (npy(np.zeros(4), shape=(-4,)), "float64"),
    "another dtype than the facts say": (npy(np.zeros(4)), "float32"),
    "floats for bfloat16": (npy(np.zeros(4, np.float16)), "bfloat16"),
    "a dtype without meaning": (npy(np.zeros(4)), "f4,f4"),
    "objects": (npy(np.zeros(4), descr="|O"), "object"),
    "records": (npy(np.zeros(4), descr=[("a", "<f8")]), "void64"),
    "another byte order": (npy(np.zeros(4), descr=">f8"), "float64"),
    "booleans of 7": (npy(np.full(4, 7, np.uint8), descr="|b1"), "bool"),
    "not an array": (b"hello", "float64"),
    "nothing": (b"", "float64"),
}


@pytest.mark.parametrize("name", CRAFTED)
def test_a_crafted_array_is_refused(tmp_path, name):
    content, dtype = CRAFTED[name]
    path = crafted(tmp_path / "a.npz", {"x": content}, dtypes={"x": dtype})
    with pytest.raises(ValueError, match=r"`path` must be a whole file of a lrax\.Test, got"):
        store.load(path, FORMAT)


def test_a_small_file_cannot_take_much_memory(tmp_path):
    zeros = np.zeros(30_000_000, np.uint8)
    path = crafted(tmp_path / "a.npz", {"x": npy(zeros)}, dtypes={"x": "uint8"})
    del zeros
    assert path.stat().st_size < 50_000
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"its x must be uint8\[3\], got uint8\[30000000\]"):
            store.load(path, FORMAT, expected={"x": ((3,), np.uint8)})
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


def test_a_damaged_file_is_refused_or_whole(tmp_path):
    draw, refused = random.Random(0), 0
    path = tmp_path / "a.npz"
    for compressed in (True, False):
        good = saved(path, compressed=compressed).read_bytes()
        tracemalloc.start()
        try:
            for _ in range(150):
                spoiled = bytearray(good)
                for _ in range(draw.choice([0, 1, 30])):
                    spoiled[draw.randrange(len(good))] = draw.randrange(256)
                path.write_bytes(spoiled[: draw.choice([len(good), draw.randrange(len(good))])])
                try:
                    found, facts = store.load(path, FORMAT)
                except ValueError as error:
                    refused += str(path) in str(error)
                else:  # bytes that nothing reads, such as a time stamp
                    assert facts == {"done": 3}
                    assert all(found[name].tobytes() == ARRAYS[name].tobytes() for name in ARRAYS)
            assert tracemalloc.get_traced_memory()[1] < 20_000_000
        finally:
            tracemalloc.stop()
    assert refused > 150


def test_an_older_format_is_refused_by_name(tmp_path):
    for old, new in [
        ("lrax.SweepResult/2", store.RESULT),
        ("lrax.Checkpoint/2", checkpoint.FORMAT),
    ]:
        path = crafted(tmp_path / "a.npz", {"x": npy(np.zeros(1))}, dtypes={}, format=old)
        with pytest.raises(ValueError, match=f"`path` must hold {new}, got '{old}' in"):
            store.load(path, new)


@pytest.mark.parametrize("description", [7, -9, True, "x", {}, {"set": []}, {"dict": [1]}, [[]]])
def test_a_crafted_structure_is_refused(description):
    with pytest.raises(ValueError, match="the structure of a pytree is not valid"):
        store.unflatten([1.0], description)


def test_writers_at_one_time_do_not_tear_the_file(tmp_path):
    path, errors = tmp_path / "a.npz", []

    def write(value):
        try:
            for _ in range(10):
                array = np.full(20_000, value)
                store.save(path, {"x": array}, {}, FORMAT, compressed=False)
                found = store.load(path, FORMAT)[0]["x"]
                assert np.all(found == found[0])
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(value,)) for value in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert os.listdir(tmp_path) == ["a.npz"]


def test_only_stale_temporaries_of_the_same_file_are_removed(tmp_path):
    stale, live = (tmp_path / f".a.npz.{digit * 32}.tmp" for digit in "01")
    other, unlike = tmp_path / f".b.npz.{'0' * 32}.tmp", tmp_path / ".a.npz.tmp"
    for file in (stale, live, other, unlike):
        file.write_bytes(b"x")
        if file != live:
            os.utime(file, (1, 1))
    saved(tmp_path / "a.npz")
    assert not stale.exists()
    assert live.exists()
    assert other.exists()
    assert unlike.exists()


def test_links_and_modes_are_kept(tmp_path):
    target, link = tmp_path / "target.npz", tmp_path / "link.npz"
    link.symlink_to(target)
    old = os.umask(0o027)
    try:
        saved(link)
        assert stat.S_IMODE(target.stat().st_mode) == 0o640
    finally:
        os.umask(old)
    target.chmod(0o604)
    saved(link)
    assert link.is_symlink()
    assert stat.S_IMODE(target.stat().st_mode) == 0o604
    store.load(link, FORMAT)


def places(folder):
    os.mkfifo(folder / "fifo")
    (folder / "file").write_bytes(b"x")
    (folder / "folder.npz").mkdir()
    return {
        "absent": folder / "no" / "such" / "dir.npz",
        "a directory": folder / "folder.npz",
        "below a file": folder / "file" / "a.npz",
        "a FIFO": folder / "fifo",
        "a device": "/dev/zero",
    }


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs FIFOs")
def test_places_that_cannot_hold_a_file_are_named_at_once(tmp_path):
    for name, place in places(tmp_path).items():
        state = checkpoint.Checkpoint(place, 0, {})
        if name in ("a FIFO", "a device"):  # a name without a suffix gets one
            state.path = str(place)
        with pytest.raises(OSError, match="`checkpoint` must be a place that can be written"):
            state.probe()
        with pytest.raises(OSError, match=r"No such|irectory|regular file"):
            files.replace(place, lambda file: None)
        with pytest.raises((ValueError, FileNotFoundError)):
            store.load(place, FORMAT)
    with pytest.raises(OSError, match="`checkpoint` must be a place that can be written"):
        checkpoint.Checkpoint(tmp_path / "file" / "a.orbax", 0, {}).probe()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write all")
def test_a_folder_without_permission_is_named(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError, match="`checkpoint` must be a place that can be written"):
        checkpoint.Checkpoint(tmp_path / "a.npz", 0, {}).probe()
    tmp_path.chmod(0o700)


def test_a_probe_changes_nothing(tmp_path):
    path = saved(tmp_path / "a.npz")
    good = path.read_bytes()
    for name in ("a.npz", "b.npz", "new/c.orbax"):
        checkpoint.Checkpoint(tmp_path / name, 0, {}).probe()
    assert os.listdir(tmp_path) == ["a.npz"]
    assert path.read_bytes() == good


def test_a_save_that_fails_warns_once(tmp_path):
    state = checkpoint.State({"done": 1}, {})
    saver = checkpoint.Checkpoint(tmp_path / "absent" / "a.npz", 0, {})
    with pytest.warns(RuntimeWarning, match="could not be written: No such file.*goes on"):
        assert isinstance(saver.try_save(state), FileNotFoundError)
    assert isinstance(saver.try_save(state), FileNotFoundError)
    (tmp_path / "absent").mkdir()
    assert saver.try_save(state) is None
    assert saver.load().facts["done"] == 1


def test_another_sweep_is_named_before_its_arrays(tmp_path):
    path = tmp_path / "a.npz"
    state = checkpoint.State({}, {"x": np.zeros(2)})
    checkpoint.Checkpoint(path, 0, {"steps": 3}).save(state)
    with pytest.raises(ValueError, match=r"of the same sweep(.|\n)*steps: 3 there, 4 here"):
        checkpoint.Checkpoint(path, 0, {"steps": 4}).load({"x": ((3,), np.float64)})


def test_a_digest_is_the_same_for_the_same_values():
    values = {"x": np.arange(3.0), "y": np.float32(2)}, "text at 0x7f01"
    assert checkpoint.digest(*values) == checkpoint.digest({**values[0]}, "text at 0x9a")
    assert checkpoint.digest(*values) == "f4c484077431a83c"
    assert checkpoint.digest(np.zeros(2)) != checkpoint.digest(np.zeros((1, 2)))
