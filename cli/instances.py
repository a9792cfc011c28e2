"""`banach instances`: the named problems, their parameters, sources and exact answers."""

from __future__ import annotations

import argparse
import inspect
from typing import TYPE_CHECKING, Any

from . import terminal
from .spelling import SpellingError

if TYPE_CHECKING:
    from ..mdp.instances.instance import Instance

HELP = "list the named problems, or tell everything about one"

EXAMPLES = """\
A named problem is spelled with its parameters, those left out have their defaults, and stands wherever a command wants a
MODEL: garnet:states=1000,discount=0.99

examples:
  banach instances
  banach instances consensus_coin
  banach instances consensus_coin:processes=4 --save coin.npz"""


def add_to(commands: argparse._SubParsersAction) -> None:
    """Teach the command its words."""
    parser = commands.add_parser(
        "instances", help=HELP, description=HELP, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", metavar="NAME", nargs="?", help="one of them, with parameters or without")
    parser.add_argument("--save", metavar="FILE", help="write the model of NAME to a file (.npz or .umb)")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """List all, or tell about one and save it. Raises SpellingError, ModelError, OSError."""
    from ..mdp.instances.catalogue import CATALOGUE, make, parse

    if arguments.name is None:
        if arguments.save is not None:
            raise SpellingError("--save needs the NAME of one instance")
        _print_all(CATALOGUE, arguments.json)
        return 0
    instance, given = parse(arguments.name)
    facts = _document(instance, given)
    if arguments.save is not None:
        model = make(arguments.name)
        write = model.to_umb if arguments.save.endswith(".umb") else model.save
        write(arguments.save)
        facts["saved"] = arguments.save
    if arguments.json:
        terminal.print_json(facts)
    else:
        _print_one(facts)
    return 0


def _document(instance: Instance, given: dict[str, Any]) -> dict[str, Any]:
    exact = instance.answer(**given)
    return {
        "name": instance.name,
        "title": instance.title,
        "description": inspect.getdoc(instance.make),
        "source": instance.source,
        "parameters": {**instance.defaults, **given},
        "exact": None if exact is None else str(exact),
        "published": [
            {"parameters": dict(p.parameters), "value": str(p.value), "tolerance": p.tolerance, "source": p.source}
            for p in instance.published
        ],
    }


def _print_all(catalogue: dict[str, Instance], as_json: bool) -> None:
    if as_json:
        terminal.print_json({"instances": [_document(instance, {}) for instance in catalogue.values()]})
        return
    terminal.print_facts({name: instance.title for name, instance in catalogue.items()})


def _print_one(facts: dict[str, Any]) -> None:
    spelling = ",".join(f"{name}={value}" for name, value in facts["parameters"].items())
    print(f"{facts['name']}:{spelling}\n\n{facts['description']}\n")
    lines = {"source": facts["source"], "exact value": facts["exact"] or "not known in closed form for these parameters"}
    if "saved" in facts:
        lines["saved"] = facts["saved"]
    terminal.print_facts(lines)
    for row in facts["published"]:
        parameters = ",".join(f"{name}={value}" for name, value in row["parameters"].items()) or "defaults"
        print(f"  published: {row['value']} for {parameters} ({row['source']})")
