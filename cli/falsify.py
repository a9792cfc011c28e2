"""`banach falsify`: search for the smallest model that breaks a statement."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..mdp.model import MDP
from . import terminal
from .spelling import SpellingError

if TYPE_CHECKING:
    from ..bounds.falsify import Falsification

HELP = "search for a model that breaks a statement, and shrink it"

EXAMPLES = """\
BOUND is a statement's name or key, as `banach verify` and `banach falsify ?` print them. The search draws small models, climbs
on the tightness and shrinks what it finds; a statement counts as broken only beyond all numerical error. What it did not break
it reports with the tightest model that it met. The same seed finds the same model.

Exit code 1 when the catalogue holds the statement to be true and it is broken.

examples:
  banach falsify half-the-greedy-loss --save counterexample.npz
  banach falsify "greedy loss" --budget 5000 --seed 1
  banach solve counterexample.npz"""


def add_to(commands: argparse._SubParsersAction) -> None:
    """Teach the command its words."""
    parser = commands.add_parser(
        "falsify", help=HELP, description=HELP, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bound", metavar="BOUND", help="a statement's name or key")
    parser.add_argument("--budget", type=int, default=1500, metavar="N", help="models to measure (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the search (default: %(default)s)")
    parser.add_argument("--save", metavar="FILE", help="write the model that was found (.npz or .umb)")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Search, save and print; 1 when a statement of the catalogue is broken. Raises SpellingError, OSError."""
    from ..bounds.falsify import falsify
    from ..bounds.shelves import CATALOGUE, FALSEHOODS, statements

    if arguments.bound == "?":
        raise SpellingError("the statements are " + ", ".join(bound.key for bound in (*CATALOGUE, *FALSEHOODS)))
    chosen, *others = statements(arguments.bound)
    if others:
        keys = ", ".join(bound.key for bound in (chosen, *others))
        raise SpellingError(f"{arguments.bound} is a family; name one of {keys}")
    with terminal.step_progress("searching") as report:
        found = falsify(
            chosen,
            budget=arguments.budget,
            seed=arguments.seed,
            report=lambda models, tightness: report(models, arguments.budget, f"tightest {tightness:.4g}"),
        )
    if arguments.save is not None:
        _save(found, Path(arguments.save))
    if arguments.json:
        terminal.print_json(found.to_dict() | {"saved": arguments.save})
    else:
        print(f"{chosen}\n{found}")
        if arguments.save is not None:
            print(f"saved: {arguments.save}")
    return 1 if found.broken and chosen in CATALOGUE else 0


def _save(found: Falsification, path: Path) -> None:
    if found.instance is None:
        raise SpellingError(f"{path} is not written: no model could be measured; raise --budget")
    if path.suffix != ".umb":
        found.instance.save(path)
    elif isinstance(found.instance, MDP):
        found.instance.to_umb(path)
    else:
        raise SpellingError(f"{path} is not written: a {type(found.instance).__name__} is no Markov model; save it as .npz")
