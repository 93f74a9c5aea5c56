"""Arrays and facts in a directory that Orbax keeps, on disk or in a bucket. Loading runs no code.

The functions are those of `store`, for places where no file can be replaced in one step: a bucket
has no renaming, and Orbax knows how to commit without it. With several processes of
`jax.distributed` only the first calls them, with arrays gathered on the host, as it does with a
file: the others need not reach the place, and none waits inside Orbax for one that has failed.
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


def names(path: str | os.PathLike[str]) -> bool:
    """Whether a path is one of a directory of Orbax: a URL, or a path that ends in `.orbax`."""
    text = os.fspath(path)
    return "://" in text or text.rstrip(os.sep).endswith(SUFFIX)


def save(
    path: str | os.PathLike[str], arrays: dict[str, np.ndarray], facts: Facts, format: str
) -> None:
    """Writes arrays and facts to a directory as a whole or not at all, then drops the older ones.

    Raises:
      OSError: if they cannot be written. The older ones are kept.
    """
    ocp = _require.extra("orbax.checkpoint", "orbax")
    raw = {name: kinds_of.raw(np.asarray(array)) for name, array in arrays.items()}
    # Orbax's own formats let some flipped bits pass.
    kinds = {
        name: [array.dtype.name, array.shape, _sum(raw[name])] for name, array in arrays.items()
    }
    text = json.dumps({**facts, "arrays": kinds})
    item = ocp.args.Composite(
        arrays=ocp.args.PyTreeSave(
            {name: array for name, array in raw.items() if array.size}
        ),  # it takes no others
        facts=ocp.args.JsonSave({"format": format, "text": text, "sum": zlib.crc32(text.encode())}),
    )
    directory = _directory(path)

    def write() -> None:
        directory.mkdir(parents=True, exist_ok=True)
        with _manager(directory, cleaning=True) as manager:
            # Versions, not steps of the sweep, of which one may be saved twice.
            manager.save((manager.latest_step() or 0) + 1, args=item, force=True)

    _writing(write)


def probe(path: str | os.PathLike[str]) -> None:
    """Checks that `save` can write here; of a bucket, only that it can be reached.

    Raises:
      OSError: if it cannot.
    """
    directory = _directory(path)
    if "://" in os.fspath(path):
        _writing(directory.exists)
        return
    # The directory itself and its parents are made by the first save.
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
      FileNotFoundError: if nothing was ever written whole.
      ValueError: if it is damaged, of another format, or not what is expected.
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
                # One that was interrupted has a temporary name, but in a bucket.
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
            # Zarr makes an array of any size out of a few bytes: check what it declares first.
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
            raw = np.asarray(stored[name]) if name in stored else np.empty(shape, raw_dtype(dtype))
            if raw.shape != tuple(shape) or _sum(raw) != total:
                raise ValueError(f"its {name} is damaged")
            arrays[name] = kinds_of.from_raw(raw, dtype)
    except FileNotFoundError as error:
        if error.filename == str(directory):
            raise
        raise ValueError(_spoiled(what, directory, error)) from error
    except MemoryError:
        raise
    # Of a damaged directory, Orbax and TensorStore raise nearly anything.
    except Exception as error:
        raise ValueError(_spoiled(what, directory, error)) from error
    return arrays, facts


def location(path: str | os.PathLike[str]) -> str:
    """Where a directory is, as Orbax wants to be told."""
    text = os.fspath(path)
    return text if "://" in text else os.path.abspath(text)


def _require_plain(directory: str) -> None:
    """Refuses what would make a reader wait, such as a FIFO, anywhere in a local directory."""
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
    """The directory's manager in this process, to which the others are of no concern."""
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
    except (ValueError, RuntimeError) as error:  # in which TensorStore wraps what the system says
        raise OSError(errno.EIO, str(error)) from error


def _sum(array: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)


def _spoiled(what: str, directory: Any, error: Exception) -> str:
    words = re.sub(r"\s+", " ", str(error))
    return f"`path` must be a whole directory of a {what}, got {directory}: {words}"
