"""Arrays in a .npz file with a header: written whole or not at all, read without unpickling.

The file is a zip of `.npy` members and one `header.npy` holding UTF-8 JSON with at least {"kind", "format"}. Sizes declared
inside the file are believed only after they have been compared with the bytes that are there.
"""

from __future__ import annotations

import json
import os
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy

from .errors import FileFormatError

FORMAT = 1
MAX_HEADER_BYTES = 64 * 2**20
MAX_MEMBERS = 100_000
MAX_MEMBER_RATIO = 1100  # deflate cannot do better than 1032 to 1
MAX_TOTAL_RATIO = 200  # arrays of a model or a certificate taken together; a file of zeros alone does better
FREE_BYTES = 256 * 2**20  # what a file may unpack to whatever its own size


def write_arrays(path: str | Path, kind: str, header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    """Write `arrays`, of any shape, and the JSON-able `header` to path: to a temporary name beside it, then renamed.

    Raises OSError, and then leaves what was at the path as it was.
    """
    text = json.dumps({"kind": kind, "format": FORMAT, **header}).encode()
    members = {"header": np.frombuffer(text, dtype=np.uint8), **arrays}
    with (
        atomic_file(path) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
    ):
        for name, array in members.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                npy.write_array(member, np.asarray(array, order="C"), allow_pickle=False)


def read_arrays(path: str | Path, kind: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Header and arrays, of the shapes they had, of a file that `write_arrays` wrote with this kind.

    Raises FileFormatError naming path and fault.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            _check_sizes(archive, os.path.getsize(path))
            arrays = {info.filename.removesuffix(".npy"): _read_member(archive, info) for info in archive.infolist()}
    except FileNotFoundError:
        raise FileFormatError(f"{path}: no such file") from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, MemoryError, NotImplementedError, RuntimeError) as fault:
        raise FileFormatError(f"{path}: not a readable {kind} file ({fault or type(fault).__name__}); write it again") from None
    except Exception as fault:  # zlib.error has no common base with the others
        raise FileFormatError(f"{path}: damaged {kind} file ({fault})") from None
    try:
        header = json.loads(arrays.pop("header").tobytes())
        found, version = header["kind"], header["format"]
    except (KeyError, ValueError, TypeError, RecursionError) as fault:
        raise FileFormatError(f"{path}: no header ({fault}); this is not a banach file") from None
    if found != kind:
        raise FileFormatError(f"{path}: holds a {found}, not a {kind}")
    if version != FORMAT:
        raise FileFormatError(f"{path}: format {version}; this version reads format {FORMAT}")
    return header, arrays


def unpacked_limit(size: int) -> int:
    """Most bytes that a compressed file of `size` bytes may unpack to, before it is taken for a bomb."""
    return max(FREE_BYTES, MAX_TOTAL_RATIO * size)


def _check_sizes(archive: zipfile.ZipFile, size: int) -> None:
    members = archive.infolist()
    if len(members) > MAX_MEMBERS or len({info.filename for info in members}) != len(members):
        raise ValueError(f"{len(members)} members, too many or of the same name")
    for info in members:
        if not info.filename.endswith(".npy"):
            raise ValueError(f"member {info.filename!r} is not an array")
        if info.compress_size > size or info.file_size > MAX_MEMBER_RATIO * max(info.compress_size, 1):
            raise ValueError(f"member {info.filename} claims {info.file_size} bytes from {info.compress_size} of {size}")
    if (total := sum(info.file_size for info in members)) > unpacked_limit(size):
        raise ValueError(f"it claims to unpack from {size} bytes to {total}")


def _read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    with archive.open(info) as member:
        version = npy.read_magic(member)
        if version not in {(1, 0), (2, 0)}:
            raise ValueError(f"member {info.filename} has npy version {version}")
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, fortran, dtype = read(member)
        if dtype.hasobject or dtype.kind not in "biuf":
            raise ValueError(f"member {info.filename} holds {dtype}; only numbers are read")
        size = dtype.itemsize
        for length in shape:
            size *= length
        if not 0 <= size <= info.file_size or (info.filename == "header.npy" and size > MAX_HEADER_BYTES):
            raise ValueError(f"member {info.filename} claims shape {shape}, more than its {info.file_size} bytes")
        data = member.read(size)
        if len(data) != size or member.read(1):
            raise ValueError(f"member {info.filename} is truncated or too long")
    if dtype.kind == "b" and np.frombuffer(data, dtype=np.uint8).max(initial=0) > 1:
        raise ValueError(f"member {info.filename} holds bytes that are neither false nor true")
    return np.frombuffer(data, dtype=dtype).reshape(shape, order="F" if fortran else "C").copy()


class atomic_file:  # noqa: N801
    """Context manager: a temporary path beside `path`, renamed onto it when the block ends well, else removed."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def __enter__(self) -> Path:
        handle, name = tempfile.mkstemp(dir=self.path.parent or ".", prefix=f".{self.path.name}.", suffix=".part")
        os.close(handle)
        self.temporary = Path(name)
        return self.temporary

    def __exit__(self, kind: Any, *_: Any) -> None:
        if kind is not None:
            self.temporary.unlink(missing_ok=True)
            return
        try:
            with open(self.temporary, "rb+") as handle:
                os.fsync(handle.fileno())
            umask = os.umask(0)
            os.umask(umask)
            os.chmod(self.temporary, 0o666 & ~umask)
            os.replace(self.temporary, self.path)
        except BaseException:
            self.temporary.unlink(missing_ok=True)
            raise
