"""A row of a benchmark measured in a process of its own, so that rows do not share caches, memory or a crash."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).parents[1]


def measured(module: str, row: list[str], repeat: int, timeout: float) -> dict[str, Any]:
    """What `python -m benchmarks.MODULE --repeat REPEAT --row ROW... OUT` wrote to OUT; with a `failure` where it failed."""
    print(" ".join(row), "...", end=" ", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "row.json"
        words = [sys.executable, "-m", f"benchmarks.{module}", "--repeat", str(repeat), "--row", *row, str(out)]
        try:
            said = subprocess.run(words, cwd=_ROOT, capture_output=True, text=True, timeout=timeout, check=False)
            trouble = None if said.returncode == 0 else f"exit code {said.returncode}: {(said.stderr.splitlines() or [''])[-1]}"
        except subprocess.TimeoutExpired:
            trouble = f"stopped after {timeout:.0f} s"
        found = json.loads(out.read_text()) if out.exists() else {}
    if trouble:
        found["failure"] = trouble
    print(trouble or "done", file=sys.stderr, flush=True)
    return found
