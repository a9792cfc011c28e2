"""`banach catalogue`: published systems, what they optimize, what they reduce to, their numbers and ours."""

from __future__ import annotations

import argparse
import textwrap
from typing import TYPE_CHECKING

from ..mdp.errors import BanachError
from . import terminal
from .audit import LibraryMissing
from .spelling import SpellingError

if TYPE_CHECKING:
    from ..llm.systems.system import System

HELP = "list published systems of policy optimization, or tell everything about one"

EXAMPLES = """\
An entry says who published what; what the objective optimizes, found out here; to which other objective it reduces at which
setting, each statement executed by the tests; what of the published claims does not hold as it stands; which numbers were
published, and which we measured with which command.

examples:
  banach catalogue
  banach catalogue capo
  banach catalogue --json"""


def add_to(commands: argparse._SubParsersAction) -> None:
    """Teach the command its words."""
    parser = commands.add_parser(
        "catalogue", help=HELP, description=HELP, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", metavar="NAME", nargs="?", help="one system")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """List all or tell about one. Raises SpellingError for a name that there is not, LibraryMissing without torch."""
    try:
        from ..llm.systems.system import SYSTEMS
    except ImportError as fault:
        if isinstance(fault, BanachError):
            raise
        raise LibraryMissing(str(fault)) from fault
    if arguments.name is None:
        chosen = list(SYSTEMS.values())
    elif arguments.name in SYSTEMS:
        chosen = [SYSTEMS[arguments.name]]
    else:
        raise SpellingError(f"no system is called {arguments.name!r}; there are {', '.join(SYSTEMS)}")
    if arguments.json:
        terminal.print_json({"systems": [entry.document() for entry in chosen]})
    elif arguments.name is None:
        terminal.print_facts({name: f"{entry.authors} {entry.year}: {entry.summary}" for name, entry in SYSTEMS.items()})
    else:
        print(_page(chosen[0]))
    return 0


def _page(entry: System) -> str:
    results = entry.results()
    lists = {
        "reduces to": [str(reduction) for reduction in entry.reductions],
        "findings": list(entry.findings),
        "published": list(entry.published),
        "bounds": [f"banach verify {name!r}" for name in entry.bounds],
    }
    lines = [
        f"{entry.name}: {entry.title}",
        f"{entry.authors} {entry.year}, arXiv {entry.arxiv}",
        "",
        _wrapped(entry.summary),
        "",
        _wrapped(f"optimizes: {entry.optimizes}"),
        _wrapped(f"made of: {', '.join(entry.parts)}"),
    ]
    for head, items in lists.items():
        if items:
            lines += ["", head, *(_wrapped(item, "  - ", "    ") for item in items)]
    if results is not None:
        lines += ["", "measured", _wrapped(entry.measured, "  ", "  "), "", f"  {results.title}, {results.seeds} seeds"]
        lines += [f"  {line}" for line in results.table().splitlines()]
        lines += [f"  * differs from {results.baseline} seed by seed, 95 %", f"  {results.command}"]
    return "\n".join(lines)


def _wrapped(text: str, first: str = "", rest: str = "") -> str:
    return textwrap.fill(text, 110, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False)
