"""Runs in the sandbox's own process: shuts it in, then reads a program from standard input and runs it.

Arguments: seconds of processor time, bytes of memory, bytes of a file, the folder that may be written. The order matters: no
new privileges, then the limits, then files (Landlock, https://docs.kernel.org/userspace-api/landlock.html), then system calls
(seccomp), because each step needs what the next one takes away. It imports the standard library alone.
"""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import struct
import sys
import traceback

UNAVAILABLE = 86
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
READ, WRITE_AND_MAKE = (1 << 2) | (1 << 3), (1 << 1) | (1 << 4) | (1 << 5) | (1 << 7) | (1 << 8) | (1 << 12)
"""Landlock rights: read a file, list a folder; write, remove a folder or a file, make a folder, a file or a symbolic link."""

CALLS = {
    "x86_64": (
        0xC000003E,
        """0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 17 18 19 20 21 24 25 26 28 32 33 35 39 60 63 73 74 75 77 78 79 80 82
        83 84 87 88 89 95 96 97 98 99 102 104 107 108 110 111 131 186 201 202 217 218 228 229 230 231 257 258 262 263 264 266
        267 269 270 271 273 274 292 295 316 318 324 332 334 439""",
    ),
    "aarch64": (
        0xC00000B7,
        """17 23 24 34 35 36 37 38 46 48 49 56 57 61 62 63 64 65 66 67 68 72 73 78 79 80 82 83 93 94 96 98 99 101
        113 114 115 124 132 134 135 139 160 163 165 166 169 172 173 174 175 176 177 178 214 215 216 222 226 227 233 276
        278 283 291 293 439""",
    ),
}
"""Architecture -> its audit code and the numbers of the system calls that a computation with files needs, no others."""

FCNTL, IOCTL = {"x86_64": 72, "aarch64": 25}, {"x86_64": 16, "aarch64": 29}
COMMANDS = ((FCNTL, (0, 1, 2, 3, 4, 1030)), (IOCTL, (0x5401, 0x5413, 0x5450, 0x5451)))
"""Of these calls only some commands: copying and reading flags, asking for a terminal. The rest could signal the parent (owners
of notifications) or make files that cannot be removed."""


def unavailable(what: str) -> None:
    """Say what is missing, and end before anything is run."""
    os.write(2, what.encode())
    os._exit(UNAVAILABLE)


def limit(cpu_seconds: int, memory: int, file_bytes: int) -> None:
    """Hard limits on what the process may use; of processor time one second more, after a signal that says so."""
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds + 1))
    for what, value in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_FSIZE, file_bytes),
        (resource.RLIMIT_NOFILE, 32),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(what, (value, value))


def confine_files(libc: ctypes.CDLL, folder: str) -> None:
    """Read the interpreter's own files and `folder`, write in `folder`, touch nothing else."""
    version = libc.syscall(444, None, ctypes.c_size_t(0), ctypes.c_uint32(1))
    if version < 3:
        unavailable(f"Landlock of version 3 or later is needed, the kernel has {max(version, 0)}")
    every = (1 << (15 if version < 5 else 16)) - 1
    scoped = 3 if version >= 6 else 0
    rules = struct.pack("<QQQ", every, 3 if version >= 4 else 0, scoped)
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    ruleset = libc.syscall(444, rules, ctypes.c_size_t(size), ctypes.c_uint32(0))
    if ruleset < 0:
        unavailable("Landlock refuses a ruleset")
    readable = {sys.base_prefix, sys.prefix, "/usr/lib", "/lib", "/lib64", "/usr/share/zoneinfo"}
    for path, rights in [*((path, READ) for path in sorted(readable)), (folder, READ | WRITE_AND_MAKE | (1 << 14))]:
        if not os.path.isdir(path):
            continue
        handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
        beneath = struct.pack("<Qi", rights, handle)
        if libc.syscall(445, ctypes.c_int(ruleset), ctypes.c_int(1), beneath, ctypes.c_uint32(0)) != 0:
            unavailable(f"Landlock refuses a rule for {path}")
        os.close(handle)
    if libc.syscall(446, ctypes.c_int(ruleset), ctypes.c_uint32(0)) != 0:
        unavailable("Landlock refuses to confine the process")
    os.close(ruleset)


def confine_calls(libc: ctypes.CDLL) -> None:
    """Refuse every system call that is not listed, as if it were not permitted."""
    if platform.machine() not in CALLS:
        unavailable(f"no list of system calls for {platform.machine()}")
    audit, numbers = CALLS[platform.machine()]
    allowed = [int(number) for number in numbers.split()]
    load, equal, give, allow, refuse = 0x20, 0x15, 0x06, 0x7FFF0000, 0x00050001
    lines = [(load, 0, 0, 4), (equal, 1, 0, audit), (give, 0, 0, refuse), (load, 0, 0, 0)]
    for table, commands in COMMANDS:
        lines.append((equal, 0, len(commands) + 3, table[platform.machine()]))
        lines.append((load, 0, 0, 24))  # the low half of the second argument
        lines += [(equal, len(commands) - i, 0, command) for i, command in enumerate(commands)]
        lines += [(give, 0, 0, refuse), (give, 0, 0, allow)]
    lines += [(equal, len(allowed) - i, 0, number) for i, number in enumerate(allowed)]
    lines += [(give, 0, 0, refuse), (give, 0, 0, allow)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("<HBBI", *line) for line in lines))
    program = ctypes.create_string_buffer(struct.pack("<HxxxxxxQ", len(lines), ctypes.addressof(code)))
    if libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.c_ulong(ctypes.addressof(program)), 0, 0) != 0:
        unavailable("the kernel refuses a seccomp filter")


def main() -> None:
    """Shut the process in and run the program."""
    if sys.platform != "linux":
        unavailable("programs are confined on Linux only")
    libc = ctypes.CDLL(None, use_errno=True)
    program = sys.stdin.buffer.read().decode("utf-8", errors="replace")
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        unavailable("the kernel refuses to forbid new privileges")
    cpu_seconds, memory, file_bytes, folder = sys.argv[1:]
    limit(int(cpu_seconds), int(memory), int(file_bytes))
    confine_files(libc, folder)
    confine_calls(libc)
    sys.argv[:] = [""]
    try:
        exec(compile(program, "<program>", "exec"), {"__name__": "__main__"})
    except Exception as fault:
        trace = fault.__traceback__
        traceback.print_exception(fault.with_traceback(trace.tb_next if trace else None))  # without this file's own frame
        sys.exit(1)


if __name__ == "__main__":
    main()
