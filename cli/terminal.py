"""What the commands print: tables and lines for people, one JSON document for programs, progress on stderr."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal, localcontext
from typing import Any


def print_json(document: dict[str, Any]) -> None:
    """Print one JSON document on stdout; numbers that JSON cannot hold (infinities) become null."""
    print(json.dumps(_finite(document), indent=2, ensure_ascii=False, allow_nan=False))


def print_facts(facts: dict[str, str]) -> None:
    """Print names and what is known about them, in two columns."""
    width = max(map(len, facts))
    for name, fact in facts.items():
        print(f"{name:<{width}}  {fact}")


def bracket(lower: float, upper: float) -> str:
    """The interval [lower, upper] in as many digits as its width deserves, rounded outwards."""
    if not upper > lower:
        return repr(lower)
    digit = Decimal(1).scaleb(min(math.floor(math.log10(upper - lower)) - 1, 0))
    with localcontext(prec=400):
        low = Decimal(lower).quantize(digit, ROUND_FLOOR)
        high = Decimal(upper).quantize(digit, ROUND_CEILING)
    return f"[{low:f}, {high:f}]"


@contextmanager
def bracket_progress(eps: float) -> Iterator[Callable[[float, float], None] | None]:
    """A `report(sweeps, width)` that draws how far the bracket has come on the way to `eps`; None off a terminal.

    The bar is logarithmic: methods contract geometrically, so equal steps take equal time.
    """
    if not sys.stderr.isatty():
        yield None
        return
    with _bar("{task.fields[note]}") as progress:
        task = progress.add_task("solving", total=1.0, note="")
        first: list[float] = []

        def report(sweeps: float, width: float) -> None:
            if not (math.isfinite(width) and width > 0):
                return
            first.append(width) if not first else None
            way = math.log(max(first[0] / eps, 1.0)) or 1.0
            done = min(max(math.log(first[0] / width) / way, 0.0), 1.0)
            progress.update(task, completed=done, note=f"{sweeps:.0f} sweeps, bracket {width:.2g}")

        yield report


@contextmanager
def step_progress(what: str) -> Iterator[Callable[[int, int, str], None]]:
    """A `report(done, of, note)` that draws a bar on stderr, and does nothing off a terminal."""
    if not sys.stderr.isatty():
        yield lambda _done, _of, _note: None
        return
    with _bar("{task.completed:.0f}/{task.total:.0f} {task.fields[note]}") as progress:
        task = progress.add_task(what, total=None, note="")
        yield lambda done, of, note: progress.update(task, completed=done, total=of, note=note)


def _bar(text: str) -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn(text), TimeElapsedColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True)


def _finite(item: Any) -> Any:
    if isinstance(item, dict):
        return {str(name): _finite(value) for name, value in item.items()}
    if isinstance(item, list | tuple):
        return [_finite(value) for value in item]
    if isinstance(item, float):
        return item if math.isfinite(item) else None
    return item
