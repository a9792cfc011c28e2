"""`banach audit`: what a loss really does, told of the catalogue's objectives, of other libraries' losses, and of yours."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..mdp.errors import BanachError
from ..mdp.storage import atomic_file
from . import terminal
from .spelling import SpellingError, spelled

if TYPE_CHECKING:
    from ..llm.audit.finding import Audit

HELP = "find out what a loss of policy optimization really does"

EXAMPLES = """\
NAME is an objective of the catalogue, with settings if you like, or a function of yours as module:function (the current folder
is searched too). A loss of groups is called with log-probabilities under policy, sampler and reference and the mask, each
(B, T), rewards and groups, each (B,); with --pairs, a loss of pairs with log-probabilities of chosen and rejected, the
reference's, and lengths, each (B,). It returns the scalar that is minimised. An objective that also reads a critic, calls or
modes is audited where they say nothing, then in one plain case where they speak, and with an example's setting where it has no
default; all three are told.

Most findings are exact: every group of answers of a small problem is enumerated. A peer's loss runs in its own library.

examples:
  banach audit grpo                                the objective of the catalogue
  banach audit my_losses:grpo                      a function of yours
  banach audit --trl cispo                         TRL's, as it ships
  banach audit --trl cispo:epsilon_high=5          with a setting of its configuration
  banach audit --liger luspo --html luspo.html     Liger's, with its curves drawn
  banach audit --pairs dpo --json                  the catalogue's DPO
  banach audit --all --markdown llm/FINDINGS.md    every loss of both libraries"""

LIBRARIES = ("trl", "liger")


class LibraryMissing(BanachError, ImportError):  # noqa: N818 - what is so, said by the message
    """The audit needs a library that is not installed."""


def add_to(commands: argparse._SubParsersAction) -> None:
    """Teach the command its words."""
    parser = commands.add_parser(
        "audit", help=HELP, description=HELP, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    subject = parser.add_mutually_exclusive_group(required=True)
    subject.add_argument("name", metavar="NAME", nargs="?", help="an objective, or module:function; ? lists the objectives")
    subject.add_argument("--trl", metavar="LOSS", help="a loss of TRL; ? lists them")
    subject.add_argument("--liger", metavar="LOSS", help="a chunked loss of Liger; ? lists them")
    subject.add_argument("--all", action="store_true", help="every loss of TRL and Liger; takes some minutes")
    parser.add_argument("--pairs", action="store_true", help="NAME is a loss of preferred and rejected answers")
    parser.add_argument("--group-size", type=int, metavar="G", help="answers a group (default: 3)")
    parser.add_argument("--html", metavar="FILE", help="write one page that needs no other file")
    parser.add_argument("--markdown", metavar="FILE", help="with --all: write the page of findings")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Audit and report; 0 whatever is found. Raises BanachErrors (SpellingError, LibraryMissing), OSError."""
    for path in (arguments.html, arguments.markdown):
        if path is not None and not Path(path).parent.is_dir():
            raise FileNotFoundError(f"{path}: there is no folder {Path(path).parent}")
    if arguments.markdown is not None and not arguments.all:
        raise SpellingError("--markdown is the page of --all; for one loss write --html or --json")
    if arguments.html is not None and arguments.all:
        raise SpellingError("--html is the page of one loss; for all of them write --markdown")
    try:
        return _all(arguments) if arguments.all else _one(arguments)
    except ImportError as fault:
        if isinstance(fault, BanachError):
            raise
        raise LibraryMissing(str(fault)) from fault


def _one(arguments: argparse.Namespace) -> int:
    found = _audit(arguments)
    if arguments.html is not None:
        with atomic_file(arguments.html) as temporary:
            found.to_html(temporary)
    if arguments.json:
        terminal.print_json(found.document())
    else:
        print(found.table(), end="")
        if arguments.html is not None:
            print(f"report: {arguments.html}")
    return 0


def _audit(arguments: argparse.Namespace) -> Audit:
    for library in LIBRARIES:
        if getattr(arguments, library) is not None:
            return _audit_peer(library, getattr(arguments, library), arguments.group_size)
    from ..llm.audit import audit, audit_preference

    if arguments.pairs:
        return audit_preference(_loss(arguments.name, pairs=True), name=arguments.name)
    given = {} if arguments.group_size is None else {"group_size": arguments.group_size}
    loss = _loss(arguments.name, pairs=False)
    return audit(loss, name=_full_name(arguments.name, loss), **given)


def _full_name(text: str, loss: Any) -> str:
    """What was audited, with the settings that the catalogue's example had to say."""
    if callable(loss):
        return text
    from ..llm.catalogue import example_settings

    name, settings = spelled(text)
    more = [f"{key}={value}" for key, value in example_settings(name, **settings).items() if key not in settings]
    return text if not more else f"{text}{',' if settings else ':'}{','.join(more)}"


def _audit_peer(library: str, text: str, group_size: int | None) -> Audit:
    from ..llm.peers.catalogue import PEERS, peer
    from ..llm.peers.survey import examine

    if text == "?":
        names = ", ".join(candidate.name for candidate in PEERS if candidate.library == library)
        raise SpellingError(f"the losses of {library} are {names}")
    name, settings = spelled(text)
    return examine(peer(library, name), group_size, **settings)


def _loss(text: str, pairs: bool) -> Any:
    """The spec of an objective, or a function of the user's. Raises SpellingError, AuditError, SpecError."""
    name, _, rest = text.partition(":")
    if rest and "=" not in rest:
        return _function(text)
    if pairs:
        from ..llm.preference_catalogue import PREFERENCES, preference

        known, make = list(PREFERENCES), preference
    else:
        from ..llm.catalogue import OBJECTIVES, example_objective

        known, make = list(OBJECTIVES), example_objective
    name, settings = spelled(text)
    if name not in known:
        other = "" if name == "?" else f"{name!r} is no objective {'of pairs' if pairs else 'here'}; "
        from ..llm.catalogue import OBJECTIVES
        from ..llm.preference_catalogue import PREFERENCES

        if name in (OBJECTIVES if pairs else PREFERENCES):
            raise SpellingError(
                f"{name} is an objective of {'answers' if pairs else 'pairs'}: ask {'without' if pairs else 'with'} --pairs"
            )
        raise SpellingError(f"{other}the objectives are {', '.join(known)}; a function of yours is module:function")
    try:
        return make(name, **settings)
    except TypeError as fault:
        raise SpellingError(f"{text}: {fault}") from fault


def _function(text: str) -> Any:
    """A function of the user's, from the current folder too. Raises AuditError, SpellingError when its module fails."""
    from ..llm.audit import AuditError, resolve

    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        return resolve(text)
    except AuditError:
        raise
    except Exception as fault:
        raise SpellingError(f"{text}: importing it raised {type(fault).__name__}: {fault}") from fault


def _all(arguments: argparse.Namespace) -> int:
    from ..llm.peers.survey import markdown, survey

    with terminal.step_progress("auditing") as report:
        document = survey(report=report)
    page = markdown(document)
    if arguments.markdown is not None:
        with atomic_file(arguments.markdown) as temporary:
            temporary.write_text(page, encoding="utf-8")
    if arguments.json:
        terminal.print_json(document)
    elif arguments.markdown is not None:
        print(f"{len(document['rows'])} losses audited: {arguments.markdown}")
    else:
        print(page, end="")
    return 0
