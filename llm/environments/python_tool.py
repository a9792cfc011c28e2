"""Programs that a policy wrote, run where they can do no harm, and their output as the environment's turn.

A program runs in a process of its own with an empty environment and a fresh temporary folder, which is removed afterwards. What
it may do is decided in that process before the program is read (`sandbox_child`): limits of processor time, memory, size and
number of files; no file outside the folder but the interpreter's own to read (Landlock); no system call but those of a
single-threaded computation, so no socket, no process, no signal (seccomp). The parent stops it when its time is over or its
folder too large. Where the kernel lacks a part of this nothing is run.

Not hidden: whether a path exists, and the time.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ...mdp.errors import BanachError
from ..policy.tokenizer import Tokenizer

CHILD = Path(__file__).with_name("sandbox_child.py")
UNAVAILABLE = 86
"""The child's exit code when the kernel cannot shut it in."""


class SandboxUnavailable(BanachError, RuntimeError):  # noqa: N818 - what is so, said by the message
    """This system cannot confine a program, so none is run; the message says what is missing."""


@dataclass(frozen=True)
class ToolResult:
    """What became of a program. output: of both streams, cut at the limit. seconds: of the wall clock.

    verdict: ok; error (the program raised, its traceback is in the output); time, memory, output or files, the limit that
    ended it; killed otherwise.
    """

    output: str
    verdict: Literal["ok", "error", "time", "memory", "output", "files", "killed"]
    seconds: float


@dataclass(frozen=True)
class PythonTool:
    """Runs Python programs, with the standard library. Limits: seconds of processor and of wall clock, bytes of memory, bytes
    of one file and of all files together, characters of output.
    """

    cpu_seconds: int = 2
    wall_seconds: float = 5.0
    memory: int = 256 * 2**20
    file_bytes: int = 2**20
    folder_bytes: int = 8 * 2**20
    output_characters: int = 2000

    def run(self, program: str) -> ToolResult:
        """What becomes of the program. Raises SandboxUnavailable."""
        start = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="banach-tool-") as folder:
            work, out = Path(folder) / "work", Path(folder) / "output"
            work.mkdir()
            limits = [str(x) for x in (self.cpu_seconds, self.memory, self.file_bytes, work)]
            with out.open("wb") as written:
                child = subprocess.Popen(
                    [sys.executable, "-I", "-S", "-B", str(CHILD), *limits],
                    stdin=subprocess.PIPE,
                    stdout=written,
                    stderr=subprocess.STDOUT,
                    cwd=work,
                    env={},
                    start_new_session=True,
                )
            try:
                stopped = self._watch(child, program, work, start)
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)
                child.wait()
            flooded = out.stat().st_size >= self.file_bytes
            text = out.read_bytes()[: 4 * self.output_characters].decode("utf-8", errors="replace")
        if child.returncode == UNAVAILABLE:
            raise SandboxUnavailable(f"no program is run without confinement: {text.strip()}")
        verdict = stopped or ("output" if flooded else _verdict(child.returncode, text))
        return ToolResult(text[: self.output_characters], verdict, time.monotonic() - start)

    def _watch(self, child: subprocess.Popen[bytes], program: str, work: Path, start: float) -> Literal["time", "files"] | None:
        """The limit that the parent saw exceeded, or None when the child ended by itself."""
        assert child.stdin is not None
        with contextlib.suppress(BrokenPipeError), child.stdin:
            child.stdin.write(program.encode("utf-8", errors="replace"))
        while True:
            try:
                child.wait(timeout=0.02)
            except subprocess.TimeoutExpired:
                if time.monotonic() - start > self.wall_seconds:
                    return "time"
                if _size(work) > self.folder_bytes:
                    return "files"
            else:
                return None


def _verdict(code: int, text: str) -> Literal["ok", "error", "time", "memory", "killed"]:
    if code == 0:
        return "ok"
    if code < 0:
        return "time" if code == -signal.SIGXCPU else "killed"
    return "memory" if text.rstrip().endswith("MemoryError") else "error"


def _size(folder: Path) -> int:
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(place, name)).st_size + 4096
    return total


BLOCK = re.compile(r"<python>(.*?)</python>", re.DOTALL)


@dataclass(frozen=True)
class PythonTurns:
    """The environment of a sampled answer: a turn that ends with a program between <python> and </python> gets its output.

    tokenizer: of the policy. calls: programs an answer may run. It is a `Respond` of `llm.rollout`.
    """

    tokenizer: Tokenizer
    tool: PythonTool = PythonTool()
    calls: int = 3

    def __call__(self, number: int, tokens: list[int]) -> list[int] | None:
        """The tokens that follow the answer so far, or None where its last turn holds no program, or too many were run."""
        programs = list(BLOCK.finditer(self.tokenizer.decode(tokens)))
        if not programs or len(programs) > self.calls or self.tokenizer.decode(tokens)[programs[-1].end() :].strip():
            return None
        result = self.tool.run(programs[-1].group(1))
        said = result.output.strip() if result.verdict in ("ok", "error") else f"stopped: {result.verdict}"
        return self.tokenizer.encode(f"<output>{said}</output>\n")
