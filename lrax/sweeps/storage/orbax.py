"""Arrays and facts in a directory that Orbax keeps: on disk, or in a bucket. Loading one runs no
code.

The same two functions as in `store`, for where no file can be replaced in one go: a bucket has no
renaming, and Orbax knows how to commit without. Of the processes of `jax.distributed` the first
alone calls them, with arrays gathered on the host, as for a file: the others need not reach the
place, and none waits inside Orbax for one that has failed.
"""

import errno
import json
import os
import re
import zlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from ... import _require
from . import store

SUFFIX = ".orbax"


def names(path: str | os.PathLike[str]) -> bool:
    """Whether a path is one of a directory of Orbax: a URL, or a path that ends in `.orbax`."""
    text = os.fspath(path)
    return "://" in text or text.rstrip(os.sep).endswith(SUFFIX)


def save(
    path: str | os.PathLike[str], arrays: dict[str, np.ndarray], facts: dict[str, Any], format: str
) -> None:
    """Writes arrays and facts to a directory, whole or not at all, and then drops those that were
    there.

    Raises:
      OSError: if they cannot be written; those that were there are kept.
    """
    ocp = _require.extra("orbax.checkpoint", "orbax")
    raw = {name: store.raw(np.asarray(array)) for name, array in arrays.items()}
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


def load(path: str | os.PathLike[str], format: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Reads what `save` wrote.

    Raises:
      FileNotFoundError: if nothing was ever written whole.
      ValueError: if it is spoiled, or of another format.
    """
    ocp = _require.extra("orbax.checkpoint", "orbax")
    directory, what = _directory(path), format.split("/")[0]
    if not directory.exists():
        raise FileNotFoundError(errno.ENOENT, "there is none yet", str(directory))
    try:
        if not directory.is_dir():
            raise ValueError("it is a file")
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
                raise ValueError("its facts are spoiled")
            if facts["format"] != format:
                raise ValueError(f"it holds {facts['format']!r}, not {format}")
            stored = manager.restore(
                version, args=ocp.args.Composite(arrays=ocp.args.PyTreeRestore())
            ).arrays
        facts = json.loads(text)
        arrays = {}
        for name, (dtype, shape, total) in facts.pop("arrays").items():
            raw = (
                np.asarray(stored[name])
                if name in stored
                else np.empty(shape, store.raw_dtype(dtype))
            )
            if raw.shape != tuple(shape) or _sum(raw) != total:
                raise ValueError(f"its {name} is spoiled")
            arrays[name] = store.from_raw(raw, dtype)
    except FileNotFoundError as error:
        if error.filename == str(directory):
            raise
        raise ValueError(_spoiled(what, directory, error)) from error
    except (
        Exception
    ) as error:  # of a spoiled directory, Orbax and TensorStore raise nearly anything
        raise ValueError(_spoiled(what, directory, error)) from error
    return arrays, facts


def location(path: str | os.PathLike[str]) -> str:
    """Where a directory is, as Orbax wants to be told."""
    text = os.fspath(path)
    return text if "://" in text else os.path.abspath(text)


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
