"""Resident memory of this process, in bytes, from Linux's /proc."""

from __future__ import annotations

import ctypes
from pathlib import Path

_SELF = Path("/proc/self")


def give_back() -> None:
    """Hand freed memory back to the system, where the C library can."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def resident() -> int:
    """What is resident now."""
    return _status("VmRSS")


def reset_peak() -> None:
    """Begin a new peak from what is resident now. Raises OSError where the system does not allow it."""
    (_SELF / "clear_refs").write_text("5")


def peak() -> int:
    """Most that was resident since `reset_peak`."""
    return _status("VmHWM")


def _status(key: str) -> int:
    for line in (_SELF / "status").read_text().splitlines():
        name, _, amount = line.partition(":")
        if name == key:
            return 1024 * int(amount.split()[0])
    raise OSError(f"/proc/self/status has no {key}")
