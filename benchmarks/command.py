"""The command line: which families run, each row in a process of its own, and what is written."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from banach.mdp.storage import atomic_file

from . import machine, report
from .bandwidth import triad
from .families import BY_NAME_ONLY, FAMILIES, Row
from .storage import write_json

_HERE = Path(__file__).parent
_TIMEOUT = {"large": 900.0, "robust_large": 900.0, "intervals": 600.0, "published": 600.0, "robust_updates": 300.0}
_USUAL_TIMEOUT = 180.0


def main(arguments: list[str] | None = None) -> int:
    """Run the families; 0 when every row was measured, 1 when one failed."""
    options = _parser().parse_args(arguments)
    families = options.families or [name for name in FAMILIES if name not in BY_NAME_ONLY]
    options.out.mkdir(parents=True, exist_ok=True)
    said = ["python -m benchmarks", *options.families, f"--repeat {options.repeat}", *(["--quick"] if options.quick else [])]
    description = machine.description()
    failed = False
    for family in families:
        rows = FAMILIES[family][:1] if options.quick else FAMILIES[family]
        run = {
            "family": family,
            "command": " ".join(said),
            "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "machine": description,
            "bandwidth": max(triad(threads) for threads in {1, description["threads"]}),
            "repeat": options.repeat,
            "load": os.getloadavg()[0],
            "rows": [_measure(family, row, options.repeat) for row in rows],
        }
        failed |= any("failure" in row for row in run["rows"])
        write_json(options.out / f"{family}.json", run)
    table = options.out.parent / "RESULTS.md"
    with atomic_file(table) as temporary:
        temporary.write_text(report.markdown([json.loads(path.read_text()) for path in _results(options.out)]))
    print(f"written: {table}", file=sys.stderr)
    return int(failed)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Time to a verified sup-norm error of 1e-6: banach, certificate included, beside quantecon, mdpsolver and "
        "storm. Each row runs in a process of its own, all competitors in turn; results are kept by family as JSON, and the "
        "table RESULTS.md beside their folder is written anew from all that are there.",
    )
    parser.add_argument("families", nargs="*", type=_family, metavar="family", help=", ".join(FAMILIES))
    parser.add_argument("--repeat", type=_positive, default=3, metavar="N", help="repetitions, of which medians are shown (3)")
    parser.add_argument("--quick", action="store_true", help="only the smallest row of each family")
    parser.add_argument("--out", type=Path, default=_HERE / "results", help="folder of the JSON files (benchmarks/results)")
    return parser


def _family(text: str) -> str:
    if text not in FAMILIES:
        raise argparse.ArgumentTypeError(f"there is no family {text!r}; there are {', '.join(FAMILIES)}")
    return text


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a number of repetitions; give 1 or more")
    return number


def _results(folder: Path) -> list[Path]:
    """The result files, in the order of the families."""
    return [path for path in (folder / f"{family}.json" for family in FAMILIES) if path.exists()]


def _measure(family: str, row: Row, repeat: int) -> dict[str, Any]:
    """What the row's process found; with a `failure` where it died or ran out of time."""
    began = time.perf_counter()
    print(f"{family}: {row.spelling} ...", end=" ", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "row.json"
        said, trouble = _run(row, repeat, out, _TIMEOUT.get(family, _USUAL_TIMEOUT))
        found = json.loads(out.read_text()) if out.exists() else {"spelling": row.spelling}
    if trouble is not None:
        found.setdefault("failure", trouble + (f" ({said[-1]})" if said else ""))
    found |= {"kind": row.kind, "mixes": row.mixes, "local": row.local, "total_seconds": time.perf_counter() - began}
    print(f"{found['total_seconds']:.0f} s {found.get('failure', '')}", file=sys.stderr, flush=True)
    return found


def _run(row: Row, repeat: int, out: Path, timeout: float) -> tuple[list[str], str | None]:
    """Lines that the process wrote to stderr, and what went wrong."""
    specification = json.dumps({"kind": row.kind, "spelling": row.spelling, "peers": row.peers, "repeat": repeat})
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.row", specification, str(out)], cwd=_HERE.parent,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        _, said = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return [], f"stopped after {timeout:.0f} s"
    except BaseException:
        process.kill()
        raise
    if process.returncode < 0:
        return said.splitlines(), f"died of {signal.Signals(-process.returncode).name}"
    return said.splitlines(), None if process.returncode == 0 else f"ended with exit code {process.returncode}"
