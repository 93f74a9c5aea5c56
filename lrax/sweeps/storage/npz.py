"""Reads an `.npz` file from a source that need not be trusted.

No pickle is loaded. No array is allocated that a file of this size cannot hold.
"""

import json
import math
import zipfile
from typing import IO, NamedTuple

import numpy as np

from .arrays import Facts

_PIECE = 1 << 20  # bytes that are read at once
_FACTS = 1 << 28  # bytes of the JSON text at most; NumPy stores four bytes for a character
_DEFLATE = 1032  # one byte of deflated data expands to at most this many bytes


class Header(NamedTuple):
    """The shape and dtype that the first bytes of a `.npy` declare."""

    shape: tuple[int, ...]
    dtype: np.dtype
    fortran: bool  # whether the array is in column-major order


def members(archive: zipfile.ZipFile, size: int) -> dict[str, zipfile.ZipInfo]:
    """The members by name, if the sizes that they declare fit into a file of `size` bytes."""
    found: dict[str, zipfile.ZipInfo] = {}
    for info in archive.infolist():
        name = info.filename.removesuffix(".npy")
        if name in found or name == info.filename:
            raise ValueError(f"it has an unexpected member {info.filename!r:.100}")
        if name != "facts" and not name.startswith("array/"):
            raise ValueError(f"it has an unexpected member {info.filename!r:.100}")
        stored = info.compress_type == zipfile.ZIP_STORED
        if not stored and info.compress_type != zipfile.ZIP_DEFLATED:
            raise ValueError(f"its member {name!r:.100} has an unexpected compression")
        # The margin of 64 bytes is for what deflate itself adds at the end.
        if info.file_size > (info.compress_size if stored else info.compress_size * _DEFLATE + 64):
            raise ValueError(f"its member {name!r:.100} declares more bytes than the file has")
        found[name] = info
    # Members may overlap in a crafted file. Then a small file would take much memory.
    if sum(info.compress_size for info in found.values()) > size:
        raise ValueError("its members declare more bytes than the file has")
    return found


def read_facts(archive: zipfile.ZipFile, found: dict[str, zipfile.ZipInfo]) -> Facts:
    """The JSON object of the file."""
    if "facts" not in found:
        raise ValueError("it has no facts")
    if found["facts"].file_size > _FACTS:
        raise ValueError(f"its facts declare {found['facts'].file_size} bytes")
    facts = json.loads(str(read(archive, found["facts"])))
    if not isinstance(facts, dict):
        raise ValueError("its facts are not a JSON object")
    return facts


def header(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Header:
    """The shape and dtype of a member, if they account for exactly the bytes of the member."""
    with archive.open(info) as stream:
        return _header(stream, info)


def read(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    """The array of a member."""
    with archive.open(info) as stream:
        shape, dtype, fortran = _header(stream, info)
        count = math.prod(shape) * dtype.itemsize
        raw = np.empty(count, np.uint8)
        for start in range(0, count, _PIECE):
            stop = min(start + _PIECE, count)
            piece = stream.read(stop - start)
            raw[start:stop] = np.frombuffer(piece, np.uint8)
        # Reading past the last byte also makes zipfile compare the checksum.
        if stream.read(1):
            raise ValueError(f"its member {info.filename!r:.100} is too long")
    if dtype.kind == "b" and count and raw.max() > 1:
        raise ValueError(f"its member {info.filename!r:.100} holds booleans that are not 0 or 1")
    if dtype.itemsize == 0:  # empty texts, which `view` cannot make
        return np.zeros(shape, dtype)
    return raw.view(dtype).reshape(shape, order="F" if fortran else "C")


def _header(stream: IO[bytes], info: zipfile.ZipInfo) -> Header:
    # Later versions of the format allow headers of gigabytes. `store` writes only this version.
    if np.lib.format.read_magic(stream) != (1, 0):
        raise ValueError(f"its member {info.filename!r:.100} has an unexpected version")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream, max_header_size=10_000)
    if dtype.kind not in "biufcU" or not dtype.isnative or dtype.subdtype is not None:
        raise ValueError(f"its member {info.filename!r:.100} has the dtype {dtype}")
    if any(type(length) is not int or length < 0 for length in shape) or len(shape) > 32:
        raise ValueError(f"its member {info.filename!r:.100} has the shape {shape}")
    if math.prod(shape) * dtype.itemsize != info.file_size - stream.tell():
        raise ValueError(f"its member {info.filename!r:.100} is not of the size that it declares")
    return Header(tuple(shape), dtype, bool(fortran))
