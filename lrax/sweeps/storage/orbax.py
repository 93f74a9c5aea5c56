"""Arrays and facts in a directory that Orbax writes, on disk or in a bucket. Loading runs no code.

The functions do the same as those of `store`. They are for places where a file cannot be replaced
in one step: a bucket cannot rename, and Orbax can commit without renaming.

With several processes of `jax.distributed`, only the first one calls these functions, with arrays
gathered on the host, as with a file. So the other processes need no access to the place, and no
process waits inside Orbax for one that has failed.
"""

import errno
import json
import os
import re
import stat
import zlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from ... import _require
from . import arrays as kinds_of, files
from .arrays import Expected, Facts, raw_dtype

SUFFIX = ".orbax"


def is_path(path: str | os.PathLike[str]) -> bool:
    """Whether a path names a directory of Orbax: a URL, or a path that ends in `.orbax`."""
    text = os.fspath(path)
    return "://" in text or text.rstrip(os.sep).endswith(SUFFIX)


def save(
    path: str | os.PathLike[str], arrays: dict[str, np.ndarray], facts: Facts, format: str
) -> None:
    """Writes arrays and facts as a new version, whole or not at all, and then drops the old one.

    Raises:
      OSError: if they cannot be written. The old version is kept.
    """
    ocp = _require.extra("orbax.checkpoint", "orbax")
    raw = {name: kinds_of.raw(np.asarray(array)) for name, array in arrays.items()}
    # With checksums, because Orbax's own formats do not detect every flipped bit.
    kinds = {
        name: [array.dtype.name, array.shape, _sum(raw[name])] for name, array in arrays.items()
    }
    text = json.dumps({**facts, "arrays": kinds})
    item = ocp.args.Composite(
        arrays=ocp.args.PyTreeSave(
            {name: array for name, array in raw.items() if array.size}
        ),  # Orbax cannot store empty arrays
        facts=ocp.args.JsonSave({"format": format, "text": text, "sum": zlib.crc32(text.encode())}),
    )
    directory = _directory(path)

    def write() -> None:
        directory.mkdir(parents=True, exist_ok=True)
        with _manager(directory, cleaning=True) as manager:
            # Orbax's step is here the number of the version and not the updates of the sweep: a
            # state may be saved twice after the same update.
            manager.save((manager.latest_step() or 0) + 1, args=item, force=True)

    _writing(write)


def probe(path: str | os.PathLike[str]) -> None:
    """Checks that `save` can write here, or for a bucket only that the bucket can be reached.

    Raises:
      OSError: if it cannot.
    """
    directory = _directory(path)
    if "://" in os.fspath(path):
        _writing(directory.exists)
        return
    # The first save makes the directory and its parents, so the nearest one that exists is probed.
    place = os.path.realpath(location(path))
    while not os.path.lexists(place):
        place = os.path.dirname(place)
    if not stat.S_ISDIR(os.stat(place).st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), place)
    files.probe(os.path.join(place, "probe"))


def load(
    path: str | os.PathLike[str], format: str, *, expected: Expected | None = None
) -> tuple[dict[str, np.ndarray], Facts]:
    """Reads what `save` wrote.

    Raises:
      FileNotFoundError: if no version was ever written completely.
      ValueError: if the directory is damaged, of another format, or does not hold what is expected.
    """
    ocp = _require.extra("orbax.checkpoint", "orbax")
    directory, what = _directory(path), format.split("/")[0]
    if not directory.exists():
        raise FileNotFoundError(errno.ENOENT, "there is none yet", str(directory))
    try:
        if not directory.is_dir():
            raise ValueError("it is not a directory")
        if "://" not in str(directory):
            _require_plain(str(directory))
        with _manager(directory) as manager:
            version = manager.latest_step()
            if version is None:
                # On a disk, an interrupted save leaves only a temporary name. So a version with its
                # final name that Orbax does not count is damaged. A bucket has no temporary names.
                if "://" not in str(directory) and any(
                    child.name.isdigit() for child in directory.iterdir()
                ):
                    raise ValueError("it is incomplete")
                raise FileNotFoundError(errno.ENOENT, "there is none yet", str(directory))
            facts = manager.restore(
                version, args=ocp.args.Composite(facts=ocp.args.JsonRestore())
            ).facts
            text = facts["text"]
            if zlib.crc32(text.encode()) != facts["sum"]:
                raise ValueError("its facts are damaged")
            if facts["format"] != format:
                raise ValueError(f"it holds {facts['format']!r}, not {format}")
            facts = json.loads(text)
            kinds = facts.pop("arrays")
            # A few bytes of Zarr can declare an array of any size. So the declared shapes are
            # checked before anything is read.
            _require_declared(ocp, directory / str(version) / "arrays", kinds)
            wanted = expected(facts) if callable(expected) else expected
            if wanted is not None:
                kinds_of.require_arrays(
                    {
                        name: jax.ShapeDtypeStruct(shape, kinds_of.dtype_of(dtype))
                        for name, (dtype, shape, _) in kinds.items()
                    },
                    wanted,
                )
            stored = manager.restore(
                version, args=ocp.args.Composite(arrays=ocp.args.PyTreeRestore())
            ).arrays
        arrays = {}
        for name, (dtype, shape, total) in kinds.items():
            # Empty arrays are not stored: see `save`.
            raw = np.asarray(stored[name]) if name in stored else np.empty(shape, raw_dtype(dtype))
            if raw.shape != tuple(shape) or _sum(raw) != total:
                raise ValueError(f"its {name} is damaged")
            arrays[name] = kinds_of.from_raw(raw, dtype)
    except FileNotFoundError as error:
        # An error that names the directory was raised above: nothing was saved. Any other one means
        # that a part is missing.
        if error.filename == str(directory):
            raise
        raise ValueError(_spoiled(what, directory, error)) from error
    except MemoryError:
        raise
    # Orbax and TensorStore may raise nearly any exception for a damaged directory.
    except Exception as error:
        raise ValueError(_spoiled(what, directory, error)) from error
    return arrays, facts


def location(path: str | os.PathLike[str]) -> str:
    """The path of a directory in the form that Orbax takes: a URL, or an absolute path."""
    text = os.fspath(path)
    return text if "://" in text else os.path.abspath(text)


def _require_plain(directory: str) -> None:
    """Requires that a local directory holds regular files alone: reading a FIFO would wait."""
    for folder, _, names_there in os.walk(directory):
        for name in names_there:
            if not stat.S_ISREG(os.stat(os.path.join(folder, name)).st_mode):
                raise ValueError(f"its {name} is not a regular file")


def _require_declared(ocp: Any, directory: Any, kinds: dict[str, Any]) -> None:
    """Refuses arrays whose Zarr metadata disagree with the facts, without reading them."""
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
        found = checkpointer.metadata(directory)
    found = getattr(found, "item_metadata", found)
    found = dict(getattr(found, "tree", found))
    wanted = {
        name: (tuple(shape), raw_dtype(dtype))
        for name, (dtype, shape, _) in kinds.items()
        if 0 not in shape
    }
    kinds_of.require_arrays(found, wanted)


def _directory(path: str | os.PathLike[str]) -> Any:
    epath = _require.extra("etils.epath", "orbax")
    try:
        return epath.Path(location(path))
    except KeyError as error:
        raise ValueError(
            f"`checkpoint` must be a path that Orbax can reach, such as gs://..., got {path}"
        ) from error


def _manager(directory: Any, *, cleaning: bool = False) -> Any:
    """Orbax's manager of a directory, which runs in this process and does not wait for others."""
    ocp = _require.extra("orbax.checkpoint", "orbax")
    here = jax.process_index()
    processes = ocp.options.MultiprocessingOptions(
        primary_host=here, active_processes={here}, barrier_sync_key_prefix=f"lrax{here}"
    )
    options = ocp.CheckpointManagerOptions(
        max_to_keep=1,
        create=False,
        cleanup_tmp_directories=cleaning,
        enable_async_checkpointing=False,
        multiprocessing_options=processes,
    )
    return ocp.CheckpointManager(directory, options=options)


def _writing(write: Callable[[], None]) -> None:
    try:
        write()
    except OSError as error:
        if error.strerror is None:
            raise OSError(errno.EIO, str(error)) from error
        raise
    except (ValueError, RuntimeError) as error:  # TensorStore raises these for errors of the system
        raise OSError(errno.EIO, str(error)) from error


def _sum(array: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)


def _spoiled(what: str, directory: Any, error: Exception) -> str:
    words = re.sub(r"\s+", " ", str(error))
    return f"`path` must be a whole directory of a {what}, got {directory}: {words}"
