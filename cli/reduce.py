"""`banach reduce`: merge states that no experiment tells apart, and prove that nothing is lost and nothing left to merge."""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from . import problem, terminal
from .spelling import SpellingError

if TYPE_CHECKING:
    from ..mdp.model import MDP
    from ..mdp.quotient import Partition, Quotient

HELP = "merge states that no experiment tells apart, and prove it"

EXAMPLES = """\
States of one class have the same rewards, the same labels and the same chances of every class of successors, whatever is done,
so that every value is kept. That is checked in one exact pass over the model; that no two classes could be merged is proved by
a tree of experiments, which tell every two of them apart.

Actions of different states are matched by what they do (any), by their position, or by their name.

examples:
  banach reduce model.umb --discount 0.9
  banach reduce model.umb --discount 0.9 --labels goal,trap --save small.umb
  banach reduce gridworld:side=30 --within 0.01      merge what nearly agrees; solve says what that costs
  banach reduce two_dice.umb --discount 0.9 --apart 3 7"""

_PROVABLE = 300_000
"""Transitions of the quotient up to which a tree of experiments is grown without being asked for."""


def add_to(commands: argparse._SubParsersAction) -> None:
    """Teach the command its words."""
    parser = commands.add_parser(
        "reduce", help=HELP, description=HELP, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    problem.add_arguments(parser)
    parser.add_argument(
        "--actions", choices=("any", "position", "name"), default="any", help="how actions are matched (default: %(default)s)"
    )
    parser.add_argument("--labels", metavar="A,B", help="labels to respect, '' for none (default: all of the model's)")
    parser.add_argument("--rational", action="store_true", help="take probabilities for the fractions that they round")
    parser.add_argument("--within", type=float, default=0.0, metavar="W", help="merge what differs by so much (default: 0)")
    parser.add_argument("--apart", type=int, nargs=2, metavar=("S", "T"), help="say what tells two states apart")
    parser.add_argument("--save", metavar="FILE", help="write the merged model (.npz or .umb)")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Merge, prove, save and print. Raises SpellingError and other BanachErrors, OSError."""
    from ..mdp.model import MDP
    from ..mdp.quotient import quotient
    from ..solvers.bisimulation import coarsest_bisimulation
    from ..solvers.bisimulation_proof import stability

    model = problem.open_problem(arguments)
    if not isinstance(model, MDP):
        raise SpellingError("--robust and --optimistic belong to nature, whose problem has no table to merge; leave them out")
    words: dict[str, Any] = {"actions": arguments.actions, "rational": arguments.rational}
    if arguments.labels is not None:
        words["labels"] = [name for name in arguments.labels.split(",") if name]
    began = time.perf_counter()
    partition = coarsest_bisimulation(model, within=arguments.within, **words)
    seconds = time.perf_counter() - began
    found = stability(model, partition, rational=arguments.rational)
    merged = quotient(model, partition)
    facts = _document(arguments.model, model, merged)
    facts |= {
        "actions": arguments.actions,
        "seconds": seconds,
        "proof": {"exact": bool(found), "reward": found.reward, "probability": found.probability, "rows": found.pairs},
        "coarsest": _coarsest(model, merged, arguments, words),
        "saved": None,
    }
    if arguments.save is not None:
        write = merged.model.to_umb if arguments.save.endswith(".umb") else merged.model.save
        write(arguments.save)
        facts["saved"] = arguments.save
    if arguments.json:
        terminal.print_json(facts | {"classes_of_states": partition.states.tolist()})
    else:
        terminal.print_facts(_lines(facts))
        for line in facts["coarsest"].get("apart", ()):
            print(" ", line)
    return 0


def _coarsest(model: MDP, merged: Quotient, arguments: argparse.Namespace, words: dict[str, Any]) -> dict[str, Any]:
    """Whether it was proved that no two classes can be merged, in how many splits, and what tells two states apart."""
    from ..solvers.bisimulation_tree import check_splitting_tree, distinguish, splitting_tree

    pair = _pair(model, merged.partition, arguments.apart)
    if arguments.within > 0 or (pair is None and merged.model.n_transitions > _PROVABLE):
        return {"proved": False, "splits": None}
    tree = splitting_tree(model, merged.partition, **words)
    facts = {"proved": True, "splits": check_splitting_tree(model, merged.partition, tree, **words)}
    return facts if pair is None else facts | {"apart": distinguish(model, merged.partition, tree, *pair, **words)}


def _pair(model: MDP, partition: Partition, apart: list[int] | None) -> tuple[int, int] | None:
    if apart is None:
        return None
    for state in apart:
        if not 0 <= state < model.n_states:
            raise SpellingError(f"--apart: there is no state {state}; the states are 0 to {model.n_states - 1}")
    first, second = apart
    if partition.states[first] == partition.states[second]:
        raise SpellingError(f"--apart: states {first} and {second} are in one class; nothing tells them apart")
    return first, second


def _document(name: str, model: MDP, merged: Quotient) -> dict[str, Any]:
    """What the command has to say of sizes, as JSON-able facts."""
    small, sizes = merged.model, np.bincount(merged.partition.states)
    largest = int(sizes.argmax())
    return {
        "model": name,
        "fingerprint": model.fingerprint,
        "states": model.n_states,
        "pairs": model.n_pairs,
        "transitions": model.n_transitions,
        "classes": small.n_states,
        "class_pairs": small.n_pairs,
        "class_transitions": small.n_transitions,
        "ratio": model.n_states / small.n_states,
        "largest": {"states": int(sizes[largest]), "first": int(np.argmax(merged.partition.states == largest))},
        "alone": int(np.count_nonzero(sizes == 1)),
    }


def _lines(facts: dict[str, Any]) -> dict[str, str]:
    """The same for people."""
    proof, coarsest = facts["proof"], facts["coarsest"]
    size = f"{facts['states']} states, {facts['pairs']} actions in all, {facts['transitions']} transitions"
    lines = {
        "model": f"{facts['model']}: {size}",
        "classes": f"{facts['classes']}, with {facts['class_pairs']} actions and {facts['class_transitions']} transitions, "
        f"actions matched by {'what they do' if facts['actions'] == 'any' else facts['actions']}; {facts['seconds']:.3g} s",
        "ratio": f"{facts['ratio']:.4g} states a class; the largest, of state {facts['largest']['first']}, has "
        f"{facts['largest']['states']}, and {facts['alone']} have one",
    }
    lines["nothing lost"] = (
        f"holds: {proof['rows']} rows compared in exact arithmetic"
        if proof["exact"]
        else f"up to {proof['reward']:.3g} in rewards and {proof['probability']:.3g} in L1 distance of rows, measured exactly"
    )
    if coarsest["proved"]:
        lines["nothing left"] = f"holds: {coarsest['splits']} splits of the classes, each decided in fractions"
    if facts["saved"]:
        lines["saved"] = facts["saved"]
    return lines
