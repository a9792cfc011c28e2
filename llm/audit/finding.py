"""What an audit says: findings, each a plain sentence and the number behind it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

GRADES = ("good", "note", "bad", "moot")
"""What a finding may be: as it should be, a fact to know, a fault, or a question that has no meaning for this loss."""


@dataclass(frozen=True)
class Finding:
    """One thing found out.

    key: short name to look it up by. title: what was asked. verdict: the answer, a sentence. value: the number behind it, and
    quantity what that number is; None where the answer is no number. grade: one of `GRADES`.
    details: further numbers, ready for JSON.
    """

    key: str
    title: str
    verdict: str
    grade: str = "note"
    value: float | None = None
    quantity: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Audit:
    """The findings of one audit.

    subject: name of what was audited. kind: "loss" or "preference loss". setting: problem, group size, seed and the like.
    findings: in the order they are read. calls: how often the loss ran. seconds: how long all of it took.
    """

    subject: str
    kind: str
    setting: Mapping[str, Any]
    findings: tuple[Finding, ...]
    calls: int
    seconds: float

    def __getitem__(self, key: str) -> Finding:
        """The finding of that key. Raises KeyError with the keys there are."""
        for finding in self.findings:
            if finding.key == key:
                return finding
        raise KeyError(f"no finding {key!r}; there are {', '.join(finding.key for finding in self.findings)}")

    def __contains__(self, key: object) -> bool:
        return any(finding.key == key for finding in self.findings)

    @property
    def faults(self) -> tuple[Finding, ...]:
        """The findings of grade "bad"."""
        return tuple(finding for finding in self.findings if finding.grade == "bad")

    def table(self, width: int = 118) -> str:
        """The findings as a table of plain text, `width` characters wide."""
        from io import StringIO

        from rich.box import SIMPLE_HEAD
        from rich.console import Console
        from rich.table import Table

        marks = {"good": "ok", "note": "-", "bad": "FAULT", "moot": "n/a"}
        shown = Table(box=SIMPLE_HEAD, title=f"audit of {self.subject}", title_justify="left", pad_edge=False)
        shown.add_column("")
        shown.add_column("asked", overflow="fold", max_width=24)
        shown.add_column("found", overflow="fold", ratio=1)
        shown.add_column("number", justify="right")
        for finding in self.findings:
            shown.add_row(marks[finding.grade], finding.title, finding.verdict, number(finding.value))
        text = StringIO()
        console = Console(file=text, width=width, no_color=True, highlight=False, markup=False)
        console.print(shown)
        console.print(f"{self.calls} evaluations of the loss, {self.seconds:.1f} s")
        return "\n".join(line.rstrip() for line in text.getvalue().splitlines()) + "\n"

    def document(self) -> dict[str, Any]:
        """Everything as plain dictionaries and lists of JSON; numbers that are not finite become null."""
        return _plain(
            {
                "subject": self.subject,
                "kind": self.kind,
                "setting": dict(self.setting),
                "findings": [vars(finding) for finding in self.findings],
                "calls": self.calls,
                "seconds": self.seconds,
            }
        )

    def to_json(self, indent: int | None = 2) -> str:
        """The `document` as JSON text."""
        return json.dumps(self.document(), indent=indent, allow_nan=False)

    def to_html(self, path: str | Path) -> Path:
        """Write one page that needs no other file, with the curves drawn; returns where it lies."""
        from .page import page

        target = Path(path)
        target.write_text(page(self), encoding="utf-8")
        return target


def number(value: float | None) -> str:
    """A number as tables show it."""
    if value is None:
        return ""
    if not math.isfinite(value):
        return str(value)
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        return f"{value:.4g}"
    return f"{value:.1e}"


def _plain(thing: Any) -> Any:
    if isinstance(thing, Mapping):
        return {str(key): _plain(value) for key, value in thing.items()}
    if hasattr(thing, "tolist"):
        return _plain(thing.tolist())
    if isinstance(thing, (list, tuple)):
        return [_plain(value) for value in thing]
    if isinstance(thing, float):
        return thing if math.isfinite(thing) else None
    return thing if isinstance(thing, (str, int, bool)) or thing is None else str(thing)
