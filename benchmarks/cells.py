"""What the cells of the report's tables say."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any


def of(row: dict[str, Any], name: str) -> dict[str, Any] | None:
    """The record of a competitor that was timed."""
    return next((r for r in row.get("competitors", []) if r["name"] == name and r["median_seconds"] is not None), None)


def fastest(row: dict[str, Any], ours: str, verdicts: Sequence[str]) -> dict[str, Any] | None:
    """The fastest of the others with one of these verdicts."""
    peers = [
        r for r in row.get("competitors", [])
        if r["name"].partition(":")[0] != ours and r["verdict"] in verdicts and r["seconds"]
    ]  # fmt: skip
    return min(peers, key=lambda r: r["median_seconds"], default=None)


def lead(peer: dict[str, Any] | None, ours: dict[str, Any] | None, clock: str = "median_seconds") -> float | None:
    """How many times as long as ours the peer takes."""
    return None if peer is None or ours is None else peer[clock] / ours[clock]


def seconds(record: dict[str, Any] | None) -> str:
    """Seconds (processor seconds)."""
    if record is None:
        return ""
    processor = f" ({number(record['median_processor'])})" if record["median_processor"] is not None else ""
    return number(record["median_seconds"]) + processor


def named(record: dict[str, Any] | None) -> str:
    """Name and seconds, or none."""
    return "none" if record is None else f"{record['name']} {seconds(record)}"


def number(amount: float | None) -> str:
    """Three digits."""
    return "" if amount is None else f"{amount:.3g}"


def times(factor: float | None) -> str:
    """Three digits."""
    return number(factor)


def count(amount: int | None) -> str:
    """Thousands apart."""
    return "" if amount is None else f"{amount:,}".replace(",", " ")


def table(head: str, lines: Iterable[list[str]]) -> str:
    """A Markdown table; the columns of `head` are apart by bars."""
    columns = head.split("|")
    body = ["| " + " | ".join(cell.replace("|", "/") for cell in line) + " |" for line in lines]
    return "\n".join(["| " + " | ".join(columns) + " |", "|" + "-|" * len(columns), *body]) + "\n"
