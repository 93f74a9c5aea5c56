"""Replaces a file as a whole, so that no crash and no second writer leaves half a file."""

import contextlib
import errno
import os
import re
import stat
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

# A writer changes its temporary file all the time. If a temporary file was not changed for this
# long, its writer was killed.
STALE_SECONDS = 3600.0


def replace(path: str | os.PathLike[str], write: Callable[[BinaryIO], None]) -> None:
    """Writes a file under a temporary name and then renames it to the path.

    If the path is a symbolic link, it stays a link, and the file that it points to is replaced. The
    new file gets the mode of the old one.

    Raises:
      OSError: if it cannot be written. A file that was there is unchanged.
    """
    target, mode = _target(path)
    with _temporary(target) as (temporary, descriptor):
        with open(descriptor, "wb") as file:
            if mode is not None:
                os.chmod(temporary, mode)
            write(file)
            file.flush()
            # Without `fsync`, a loss of power after the rename can leave an empty file.
            os.fsync(file.fileno())
        _remove_stale(target, os.stat(temporary).st_mtime)
        os.replace(temporary, target)
    _sync_directory(target.parent)


def probe(path: str | os.PathLike[str]) -> None:
    """Checks that `replace` can write a file here. A file that is there is not changed.

    Raises:
      OSError: if it cannot.
    """
    target, _ = _target(path)
    with _temporary(target) as (_, descriptor):
        os.close(descriptor)


def open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    """Opens a regular file for reading. Other kinds are refused: opening a FIFO would wait.

    Raises:
      OSError: if it cannot be read, or is not a regular file.
    """
    _require_regular(os.stat(path), path)
    # Another process can put a FIFO here after the check. O_NONBLOCK opens a FIFO without waiting,
    # and the second check, of the open file, refuses it.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    file = os.fdopen(os.open(path, flags), "rb")
    try:
        _require_regular(os.fstat(file.fileno()), path)
    except OSError:
        file.close()
        raise
    return file


def _target(path: str | os.PathLike[str]) -> tuple[Path, int | None]:
    """The file behind any symbolic links, and its mode if it exists."""
    target = Path(os.path.realpath(path))
    try:
        found = os.stat(target)
    except FileNotFoundError:
        return target, None
    _require_regular(found, path)
    # `os.replace` would replace a read-only file too. But it was made read-only to be kept.
    if not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), os.fspath(path))
    return target, stat.S_IMODE(found.st_mode)


def _require_regular(found: os.stat_result, path: str | os.PathLike[str]) -> None:
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "Not a regular file", os.fspath(path))


@contextlib.contextmanager
def _temporary(target: Path) -> Iterator[tuple[Path, int]]:
    """A new file beside the target. At the end it is removed, unless it was renamed."""
    # The name is random, because a process number is not unique: it repeats across containers, and
    # threads share it.
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}.tmp")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    # The system removes the bits of the umask from this mode.
    descriptor = os.open(temporary, flags, 0o666)
    try:
        yield temporary, descriptor
    finally:
        temporary.unlink(missing_ok=True)


def _remove_stale(target: Path, now: float) -> None:
    """Removes the temporary files that killed writers of this target left.

    Args:
      target: The file that they wrote.
      now: The time by the clock of the file system, which may differ from that of this machine.
    """
    pattern = re.compile(re.escape(f".{target.name}.") + r"[0-9a-f]{32}\.tmp")
    with contextlib.suppress(OSError):  # the save succeeds without it
        for entry in os.scandir(target.parent):
            if pattern.fullmatch(entry.name):
                with contextlib.suppress(OSError):
                    if now - entry.stat(follow_symlinks=False).st_mtime > STALE_SECONDS:
                        os.unlink(entry.path)


def _sync_directory(directory: Path) -> None:
    """Makes the new name survive a loss of power, where the system can."""
    with contextlib.suppress(OSError):  # Windows and some network file systems refuse it
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
