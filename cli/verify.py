"""`banach verify`: theorems held against measurements, published answers against certificates, falsehoods against a search.

The document that is printed with --json, and from which the report is drawn:

    holds, seconds, versions
    statements    [{key, name, family, latex, source, assumes, symbols: [{latex, meaning}]}]
    rows          [{fields of banach.bounds.verify.Row, proof_checked}], one for each statement and model
    curves        [{fields of banach.bounds.verify.Curve}]
    falsified     [{what banach.bounds.falsify found of a statement that is false}]
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.metadata
import platform
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..mdp.storage import atomic_file
from . import terminal

if TYPE_CHECKING:
    from ..bounds.bound import Bound

HELP = "hold theorems, published answers and known falsehoods against real models"

EXAMPLES = """\
Each theorem of the catalogue is measured on its models and compared with its promise; tightness is measured over promised, 1
where the bound is attained. The proof column says how the comparison was decided: in exact rationals, by certified brackets,
or within rounding. Family `exact` solves models whose values are published or known in closed form, and checks the
certificates; family `false` holds statements that are false, which the search must break.

Exit code 1 when a statement that should hold does not, or a false one is not broken.

examples:
  banach verify
  banach verify exact
  banach verify contraction --html report.html
  banach verify greedy-loss --json"""

SENSES = {"at most": "≤", "at least": "≥", "equal to": "="}


def add_to(commands: argparse._SubParsersAction) -> None:
    """Teach the command its words."""
    parser = commands.add_parser(
        "verify", help=HELP, description=HELP, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("family", metavar="FAMILY", nargs="?", help="a family or one statement (default: everything)")
    parser.add_argument("--html", metavar="FILE", help="write a report that needs no other file")
    parser.add_argument("--long", action="store_true", help="also published answers on models of up to a million states")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Verify and report; 0 when all is as it should be, else 1. Raises BanachError, OSError."""
    if arguments.html is not None:
        _require_folder(Path(arguments.html))
    document = _verify(arguments.family, arguments.long)
    if arguments.html is not None:
        from .report import page

        with atomic_file(arguments.html) as temporary:
            temporary.write_text(page(document), encoding="utf-8")
    if arguments.json:
        terminal.print_json(document)
    else:
        _print(document)
        if arguments.html is not None:
            print(f"report: {arguments.html}")
    return 0 if document["holds"] else 1


def _require_folder(path: Path) -> None:
    """Refuse a report that could not be written before the work is done, not after."""
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path}: there is no folder {path.parent}")


def _verify(family: str | None, long: bool) -> dict[str, Any]:
    from ..bounds import shelves
    from ..bounds.falsify import falsify
    from ..bounds.verify import verify
    from . import published

    began = time.perf_counter()
    chosen = () if family == published.FAMILY else shelves.statements(family)
    true = [bound for bound in chosen if bound not in shelves.FALSEHOODS]
    false = list(shelves.FALSEHOODS) if family is None else [bound for bound in chosen if bound in shelves.FALSEHOODS]
    answers = published.answers(long) if family in (None, published.FAMILY) else []
    total = sum(len(bound.problems()) for bound in true) + len(answers) + len(false)
    rows: list[Any] = []
    with terminal.step_progress("verifying") as report:

        def done(row: Any) -> None:
            rows.append(row)
            report(len(rows), total, f"{row.bound}, {row.instance}")

        curves = verify(true, report=done).curves
        for row in published.rows(answers):
            done(row)
        falsified = []
        for number, bound in enumerate(false):
            report(len(rows) + number, total, f"breaking: {bound.name}")
            falsified.append(falsify(bound).to_dict())
    return {
        "holds": all(row.holds for row in rows) and all(item["broken"] for item in falsified),
        "seconds": time.perf_counter() - began,
        "versions": _versions(),
        "statements": [_statement(bound) for bound in (*true, *false)] + ([published.STATEMENT] if answers else []),
        "rows": [dataclasses.asdict(row) | {"proof_checked": row.proof_checked} for row in rows],
        "curves": [dataclasses.asdict(curve) for curve in curves],
        "falsified": falsified,
    }


def _statement(bound: Bound) -> dict[str, Any]:
    import sympy

    return {
        "key": bound.key,
        "name": bound.name,
        "family": bound.family,
        "latex": bound.latex(),
        "source": bound.source,
        "assumes": bound.assumes,
        "symbols": [{"latex": sympy.latex(symbol), "meaning": meaning} for symbol, meaning in bound.symbols.items()],
    }


def _versions() -> dict[str, str]:
    names = ("banach", "numpy", "scipy", "numba", "sympy", "python-flint")
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in names}


def _print(document: dict[str, Any]) -> None:
    """One table, a line for each statement and model; what the search broke; the count."""
    if document["rows"]:
        _print_table(document["rows"])
    for item in document["falsified"]:
        verdict = "broken, as it should be" if item["broken"] else "NOT BROKEN, although it is false"
        print(f"{item['bound']}: {verdict}, after {item['models']} models")
        if item["instance"] is not None:
            found = f"measured {item['measured']:.6g}, promised {item['promised']:.6g} ({item['proof']}) on"
            print("  " + "\n    ".join([found, *item["instance"].splitlines()]) + "\n")
    print(summary(document))


def summary(document: Mapping[str, Any]) -> str:
    """What was found, in a sentence."""
    rows, falsified = document["rows"], document["falsified"]
    published = [row for row in rows if row["family"] == "exact"]
    broken = [row for row in rows if not row["holds"]]
    parts = []
    if len(rows) > len(published):
        statements = len({row["key"] for row in rows if row["family"] != "exact"})
        parts.append(f"{statements} statements, measured {len(rows) - len(published)} times on models")
    if published:
        parts.append(f"{len(published)} published answers, each with its certificate checked")
    if falsified:
        parts.append(f"{sum(item['broken'] for item in falsified)} of {len(falsified)} false statements broken")
    verdict = "everything holds" if document["holds"] else f"{len(broken)} of {len(rows)} do NOT hold"
    return f"{'; '.join(parts)}: {verdict}. {document['seconds']:.0f} s"


def _print_table(rows: list[dict[str, Any]]) -> None:
    """A heading for each statement and source, and under it a line for each model."""
    from rich.console import Console

    width = max(8, *(len(row["instance"]) for row in rows))
    console = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
    console.print(f"  {'instance':<{width}} {'measured':>12}    {'promised':>12} {'tightness':>10}  proof checked", style="dim")
    told = None
    for row in rows:
        if told != (told := f"{row['bound']}  ({row['source']})"):
            console.print(told, style="bold")
        numbers = f"{row['measured']:>12.6g}  {SENSES[row['sense']]} {row['promised']:>12.6g} {row['tightness']:>10.4g}"
        proof = row["proof"] if row["holds"] else f"DOES NOT HOLD, {row['proof']}"
        console.print(f"  {row['instance']:<{width}} {numbers}  {proof}", style=None if row["holds"] else "bold red")
