"""The tar archive of a UMB file: unpacked within bounds, its arrays decoded after their sizes have been checked.

Every function raises ValueError, KeyError, or what tarfile, zlib and lzma raise; `banach.mdp.umb` turns all of it into
FileFormatError.
"""

from __future__ import annotations

import io
import json
import lzma
import math
import tarfile
import zlib
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import umbi.binary
from umbi.binary import SizedType
from umbi.datatypes import NumericPrimitiveType, ScalarType

from .storage import unpacked_limit

MAX_INDEX_BYTES = 4 * 2**20
MAX_MEMBERS = 100_000
_DEFAULT_BITS = {
    "bool": 1, "int": 64, "uint": 64, "double": 64, "rational": 128, "string": 64,
    "int-interval": 128, "uint-interval": 128, "double-interval": 128, "rational-interval": 256,
}  # fmt: skip
_FLAT: dict[ScalarType, str] = {
    NumericPrimitiveType.DOUBLE: "<f8",
    NumericPrimitiveType.INT: "<i8",
    NumericPrimitiveType.UINT: "<u8",
}


def unpack(path: str | Path) -> Archive:
    """The members of the archive, in memory. Refuses bombs, links, sparse members and archives without their end."""
    packed = Path(path).read_bytes()
    data = _decompressed(packed)
    members: dict[str, memoryview] = {}
    view, place = memoryview(data), -1
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
        while (member := archive.next()) is not None:
            if member.offset <= place or len(members) > MAX_MEMBERS:
                raise ValueError("the archive has too many members, or runs in circles")
            place = member.offset
            if member.isdir():
                continue
            if not member.isreg() or member.issparse():
                raise ValueError(f"member {member.name!r} is not an ordinary file")
            if not 0 <= member.size <= len(data) - member.offset_data:
                raise ValueError(f"member {member.name!r} claims {member.size} bytes; the archive is truncated")
            if member.name in members:
                raise ValueError(f"member {member.name!r} is there twice")
            members[member.name] = view[member.offset_data : member.offset_data + member.size]
        end = archive.offset
    if len(data) < end + tarfile.BLOCKSIZE or any(view[end : end + tarfile.BLOCKSIZE]):
        raise ValueError("the archive has no end mark; it is truncated")
    return Archive(members)


class Archive:
    """Members by name, as bytes and as arrays."""

    def __init__(self, members: dict[str, memoryview]) -> None:
        self.members = members

    def index(self) -> dict[str, Any]:
        """index.json as values, every type's size spelled out, as umbi needs it, and without valuations, which are not read."""
        data = self._member("index.json")
        if len(data) > MAX_INDEX_BYTES:
            raise ValueError(f"index.json has {len(data)} bytes; at most {MAX_INDEX_BYTES} are read")
        index = json.loads(bytes(data))
        if not isinstance(index, dict):
            raise ValueError("index.json is no JSON object")
        index.pop("valuations", None)
        _spell_sizes(index)
        return index

    def integers(self, name: str, dtype: str, count: int) -> np.ndarray:
        """`count` unsigned integers below 2^31, int64 (count,). The member may be absent only when there are none."""
        if count == 0 and name not in self.members:
            return np.zeros(0, dtype=np.int64)
        numbers = np.frombuffer(self._sized(name, count * np.dtype(dtype).itemsize), dtype=f"<{dtype}")
        if (large := np.flatnonzero(numbers > np.iinfo(np.int32).max)).size:
            raise ValueError(f"{name}[{large[0]}] is {numbers[large[0]]}, more than one model may have")
        return numbers.astype(np.int64)

    def pointers(self, name: str, count: int, total: int) -> np.ndarray:
        """Where each of `count` groups begins among `total` members, int64 (count + 1,); one each when absent."""
        if name not in self.members:
            if count != total:
                raise ValueError(f"{name} is missing, but {count} and {total} are not one to one")
            return np.arange(total + 1)
        found = self.integers(name, "u8", count + 1)
        if found[0] != 0 or found[-1] != total or (found[1:] < found[:-1]).any():
            raise ValueError(f"{name} does not rise from 0 to {total}")
        return found

    def bits(self, name: str, count: int) -> np.ndarray:
        """`count` booleans, bool (count,); all False when absent."""
        if name not in self.members:
            return np.zeros(count, dtype=np.bool_)
        data = np.frombuffer(self._sized(name, (count + 63) // 64 * 8), dtype=np.uint8)
        return np.unpackbits(data, count=count, bitorder="little").astype(np.bool_)

    def reals(self, name: str, kind: SizedType | None, count: int, absent: float | None = None) -> np.ndarray:
        """`count` numbers, float64 (count,), rationals to nearest; all `absent` where the member may be missing and is."""
        if absent is not None and name not in self.members:
            return np.full(count, absent)
        if kind is None or kind.type not in (*_FLAT, NumericPrimitiveType.RATIONAL) or kind.size_bits % 64:
            raise ValueError(f"{name} holds {kind}, which is no number of a whole count of words")
        data = self._sized(name, count * kind.size_bytes)
        if kind.type == NumericPrimitiveType.RATIONAL:
            return _rationals(data, kind)
        if kind.size_bits != 64:
            raise ValueError(f"{name} holds numbers of {kind.size_bits} bits; only 64 are read")
        return np.frombuffer(data, dtype=_FLAT[kind.type]).astype(np.float64)

    def intervals(self, name: str, kind: SizedType, count: int) -> tuple[np.ndarray, np.ndarray]:
        """`count` intervals, lower and upper ends, float64 (count,) each; ends that are rationals are rounded outwards."""
        base: Any = getattr(kind.type, "base_type", None)
        data = self._sized(name, count * kind.size_bytes)
        if base in _FLAT and kind.size_bits == 128:
            ends = np.frombuffer(data, dtype=_FLAT[base]).astype(np.float64).reshape(count, 2)
            return ends[:, 0].copy(), ends[:, 1].copy()
        if base != NumericPrimitiveType.RATIONAL or kind.size_bits % 128:
            raise ValueError(f"{name} holds {kind}, which is no interval of numbers of a whole count of words")
        found = umbi.binary.bytes_to_vector(bytes(data), kind)
        return _rounded([one.left for one in found], -1), _rounded([one.right for one in found], 1)  # pyright: ignore[reportAttributeAccessIssue]

    def action_names(self, n_actions: int, n_choices: int) -> list[str] | None:
        """The name of each choice's action; its number where actions have none; None where there is nothing to tell."""
        if n_actions == 0:
            return None
        values, strings = "actions/choices/values.bin", "actions/choices/strings.bin"
        used = self.integers(values, "u4", n_choices) if values in self.members else np.zeros(n_choices, dtype=np.int64)
        if (beyond := np.flatnonzero(used >= n_actions)).size:
            raise ValueError(f"choice {beyond[0]} has action {used[beyond[0]]}, but there are {n_actions}")
        if strings not in self.members:
            return [str(action) for action in used.tolist()]
        text = bytes(self.members[strings])
        offsets = self.pointers("actions/choices/string-mapping.bin", n_actions, len(text)).tolist()
        words = [text[a:b].decode() for a, b in pairwise(offsets)]
        return [words[action] for action in used.tolist()] if any(words) else None

    def _member(self, name: str) -> memoryview:
        if name not in self.members:
            raise ValueError(f"{name} is missing")
        return self.members[name]

    def _sized(self, name: str, size: int) -> memoryview:
        data = self._member(name)
        if len(data) != size:
            raise ValueError(f"{name} has {len(data)} bytes; the index asks for {size}")
        return data


def _decompressed(packed: bytes) -> bytes:
    """Contents of a plain, gzip or xz file, at most `unpacked_limit` bytes."""
    limit = unpacked_limit(len(packed))
    if packed.startswith(b"\x1f\x8b"):
        inflate = zlib.decompressobj(wbits=31)
        data = inflate.decompress(packed, limit + 1)
    elif packed.startswith(b"\xfd7zXZ\x00"):
        inflate = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=max(limit, 2**27))
        data = inflate.decompress(packed, limit + 1)
    else:
        return packed
    if len(data) > limit:
        raise ValueError(f"its {len(packed)} bytes unpack to more than {limit}; a model does not")
    if not inflate.eof or any(inflate.unused_data):
        raise ValueError("the compressed file is truncated, or has something after its end")
    return data


def _rationals(data: memoryview, kind: SizedType) -> np.ndarray:
    if kind.size_bits == 128:
        pairs = np.frombuffer(data, dtype=[("top", "<i8"), ("bottom", "<u8")])
        if not (pairs["bottom"] > 0).all():
            raise ValueError("a rational has denominator 0")
        if (np.abs(pairs["top"].astype(np.float64)) < 2**53).all() and (pairs["bottom"] < 2**53).all():
            return pairs["top"].astype(np.float64) / pairs["bottom"].astype(np.float64)
    return np.array([float(number) for number in umbi.binary.bytes_to_vector(bytes(data), kind)], dtype=np.float64)  # pyright: ignore[reportArgumentType]


def _rounded(numbers: list[Any], side: int) -> np.ndarray:
    """The nearest floats that are not below (side 1) or not above (side -1) the rationals."""
    near = [float(number) for number in numbers]
    past = [(Fraction(x) - number) * side < 0 for x, number in zip(near, numbers, strict=True)]
    return np.array([math.nextafter(x, side * math.inf) if off else x for x, off in zip(near, past, strict=True)])


def _spell_sizes(node: Any) -> None:
    for child in node.values() if isinstance(node, dict) else node:
        if isinstance(child, (dict, list)):
            _spell_sizes(child)
    kind = node.get("type") if isinstance(node, dict) else None
    if isinstance(kind, str) and kind in _DEFAULT_BITS:
        node.setdefault("size", _DEFAULT_BITS[kind])
