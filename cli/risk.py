"""`banach risk`: the best conditional value at risk of a problem, a policy that reaches it, and the returns that it brings."""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from . import problem, terminal
from .spelling import SpellingError

if TYPE_CHECKING:
    from ..mdp.outcome import OutcomeMDP

HELP = "bracket the best mean of the worst returns (CVaR), over all policies, and prove it"

EXAMPLES = """\
The conditional value at risk at level T is the mean of the worst part T of the returns. No stationary policy need reach the
best one: the policy found looks at the state and at a stock, which begins at C and becomes (stock + reward)/discount at every
step. The interval holds the best of all policies, whatever they remember; the policy provably reaches its lower end. Both are
checked in exact arithmetic before anything is printed. More points of the lattice of stocks make the interval narrower.

Rewards of machine_ten, backlog_inventory and riverswim are earned outcome by outcome; other models know expected rewards of
actions, which are then earned for certain.

examples:
  banach risk machine_ten --cvar 0.1
  banach risk riverswim:discount=0.9 --cvar 0.25 --points 4000
  banach risk forest.npz --horizon 20 --cvar 0.05 --state 3 --json"""

_BARS, _WIDTH = 12, 40
"""Rows and columns of the histogram."""


def add_to(commands: argparse._SubParsersAction) -> None:
    """Teach the command its words."""
    parser = commands.add_parser(
        "risk", help=HELP, description=HELP, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    problem.add_arguments(parser)
    parser.add_argument(
        "--cvar", type=float, required=True, metavar="T", help="level, 0 < T <= 1: the worst part of the returns"
    )
    parser.add_argument("--state", type=int, metavar="S", help="where it begins (default: the model's certain start, or 0)")
    parser.add_argument("--points", type=int, default=1000, metavar="N", help="points of the lattices (default: %(default)d)")
    parser.add_argument("--episodes", type=int, default=10_000, metavar="N", help="sampled returns (default: %(default)d)")
    parser.add_argument("--seed", type=int, default=0, help="of the samples (default: %(default)d)")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Bracket, check and print. Raises SpellingError and other BanachErrors, OSError."""
    from ..mdp.law_functional import CVaR
    from ..solvers.distributional import return_laws
    from ..solvers.distributional_check import check_laws
    from ..solvers.solve import solve
    from ..solvers.stock_check import check_stock
    from ..solvers.stock_lattice import cvar_bracket

    if arguments.episodes < 1:
        raise SpellingError(f"--episodes {arguments.episodes}: give at least one")
    model, by_outcome = _opened(arguments)
    state = _start(model, arguments.state)
    began = time.perf_counter()
    found = cvar_bracket(model, arguments.cvar, state=state, points=arguments.points)
    verdict = check_stock(model, found.stock.certificate)
    neutral = solve(model.expected, eps=1e-6)
    laws = return_laws(model, neutral.policy, arguments.points)
    law_verdict = check_laws(model, laws.certificate)
    rng = np.random.default_rng(arguments.seed)
    span = model.returns_within()
    sampled = found.stock.returns(state, -found.at, arguments.episodes, rng, eps=1e-3 * max(span[1] - span[0], 1e-300))
    counts, edges = np.histogram(sampled, bins=_BARS)
    low, high = laws.interval(CVaR(arguments.cvar), state)
    first = found.stock.action(state, -found.at)
    facts = {
        "model": arguments.model,
        "fingerprint": model.fingerprint,
        "states": model.n_states,
        "rewards": "by outcome" if by_outcome else "expected, earned for certain",
        "state": state,
        "level": arguments.cvar,
        "cvar": {"lower": found.lower, "upper": found.upper},
        "policy": {
            "stock": -found.at,
            "first_action": None if first < 0 else model.problem.action_of(state, first),
            "value_at_risk": found.at,
            "by_stock": _by_stock(found, state),
        },
        "risk_neutral": {"lower": low, "upper": high},
        "sampled": {
            "episodes": arguments.episodes,
            "seed": arguments.seed,
            "mean": float(sampled.mean()),
            "least": float(sampled.min()),
            "edges": edges.tolist(),
            "counts": counts.tolist(),
        },
        "proof": {
            "holds": True,
            "inequalities": verdict.rows + law_verdict.rows,
            "in_fractions": verdict.exact + law_verdict.exact,
        },
        "seconds": time.perf_counter() - began,
    }
    if arguments.json:
        terminal.print_json(facts)
    else:
        terminal.print_facts(_lines(facts))
        _print_histogram(facts["sampled"], found.at)
    return 0


def _opened(arguments: argparse.Namespace) -> tuple[OutcomeMDP, bool]:
    """The problem, and whether its rewards are by outcome. Raises SpellingError for nature's part."""
    from ..mdp.errors import ModelError
    from ..mdp.instances.catalogue import CATALOGUE, parse
    from ..mdp.instances.outcomes import with_outcomes
    from ..mdp.model import MDP
    from ..mdp.outcome import OutcomeMDP

    model = problem.open_problem(arguments)
    if not isinstance(model, MDP):
        raise SpellingError("--robust and --optimistic belong to nature; laws of returns take a model without her")
    name = arguments.model.partition(":")[0].strip()
    if name in CATALOGUE and not model.criterion.minimize:
        try:
            table, gain = with_outcomes(name, **parse(arguments.model)[1])
        except ModelError:
            return OutcomeMDP(model), False
        return OutcomeMDP(table.replace(criterion=model.criterion), gain), True
    return OutcomeMDP(model), False


def _start(model: OutcomeMDP, state: int | None) -> int:
    """Raises SpellingError for a state that there is not."""
    if state is None:
        initial = model.problem.initial
        return 0 if initial is None else int(initial.argmax())
    if not 0 <= state < model.n_states:
        raise SpellingError(f"--state {state} is not one of 0..{model.n_states - 1}")
    return state


def _by_stock(found: Any, state: int) -> list[dict[str, Any]]:
    """The action in the first state for every range of stocks: where it begins and what it is."""
    proof, table = found.stock.certificate, found.stock.model.problem
    if table.terminal[state] or not len(proof.policy):
        return []
    left, right = proof.tails[0]
    chosen = proof.policy[0, state, left + 1 : right + 2]
    grid = proof.lattice.grid[left : right + 1]
    starts = np.flatnonzero(np.diff(chosen, prepend=-1))
    return [{"from": float(grid[i]), "action": table.action_of(state, int(chosen[i]))} for i in starts.tolist()]


def _lines(facts: dict[str, Any]) -> dict[str, str]:
    """The same for people."""
    policy, proof, sampled = facts["policy"], facts["proof"], facts["sampled"]
    percent = f"the worst {100 * facts['level']:g} %"
    switches = policy["by_stock"]
    words = ", ".join(f"{one['action']} from {one['from']:.4g}" for one in switches[:4]) + (" ..." if len(switches) > 4 else "")
    return {
        "model": f"{facts['model']}: {facts['states']} states, rewards {facts['rewards']}",
        f"mean of {percent}": f"{terminal.bracket(**facts['cvar'])}, the best of all policies from state {facts['state']}",
        "risk-neutral policy": f"{terminal.bracket(**facts['risk_neutral'])} by the same measure",
        "policy": f"first action {policy['first_action']}; begins with stock {policy['stock']:.6g}",
        "its actions there": f"by stock: {words}" if words else "none",
        "proof": f"holds: {proof['inequalities']} inequalities checked exactly, {proof['in_fractions']} of them in fractions",
        "returns": f"{sampled['episodes']} samples (seed {sampled['seed']}), mean {sampled['mean']:.4g}, "
        f"least {sampled['least']:.4g}",
    }


def _print_histogram(sampled: dict[str, Any], at: float) -> None:
    most = max(sampled["counts"])
    for low, high, count in zip(sampled["edges"], sampled["edges"][1:], sampled["counts"], strict=False):
        mark = "<" if high <= at else " "
        print(f"{low:>12.4g} {mark} {'#' * round(_WIDTH * count / most)}")
