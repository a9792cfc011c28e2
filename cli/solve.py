"""`banach solve`: solve a problem, check the proof, say both."""

from __future__ import annotations

import argparse
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from . import problem, terminal
from .start import at_the_start, whole

if TYPE_CHECKING:
    from ..mdp.model import MDP
    from ..mdp.robust import RobustMDP
    from ..solvers.check import Verdict
    from ..solvers.solution import Solution

HELP = "solve a decision problem and check the proof of the answer"

EXAMPLES = """\
The answer is a bracket: the optimal value, and the value of the returned policy, provably lie between its ends, rounding
included, and it is at most EPS wide. The proof is checked in exact arithmetic before anything is printed.

METHOD is a method's name and its settings, for instance modified-policy-iteration:sweeps=50; an unknown name, as in
`banach solve riverswim --method ?`, lists them all.

examples:
  banach solve riverswim:discount=0.99
  banach solve gym:FrozenLake-v1:map_name=8x8 --discount 0.99 --method policy-iteration
  banach solve forest.npz --average-reward --save-certificate forest.proof.npz
  banach solve coin.umb --target finished --minimize --eps 1e-9
  banach solve riverswim --robust l1:0.1
  banach solve howard_toymaker --robust l1:0.6 --rectangular s
  banach solve frozen_lake --reduce
  banach solve large.npz --checkpoint large.part --json"""

_MANY = 8
"""Initial states that are listed one by one."""


def add_to(commands: argparse._SubParsersAction) -> None:
    """Teach the command its words."""
    parser = commands.add_parser(
        "solve", help=HELP, description=HELP, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    problem.add_arguments(parser)
    parser.add_argument("--method", metavar="METHOD", help="how to solve it (default: a good one, and why)")
    parser.add_argument("--eps", type=float, default=1e-6, help="greatest width of the bracket (default: %(default)g)")
    parser.add_argument(
        "--reduce", metavar="EPS", type=float, nargs="?", const=0.0,
        help="solve a quotient first, and prove its answer for the model: of equal states, or of those within EPS",
    )  # fmt: skip
    parser.add_argument("--save-certificate", metavar="FILE", help="write the proof, for `banach check`")
    parser.add_argument("--checkpoint", metavar="FILE", help="keep progress here; a solve that finds it goes on from there")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Solve, check, save and print. Raises BanachError, OSError."""
    from ..mdp.robust import RobustMDP
    from ..solvers.check import check
    from ..solvers.solve import solve
    from .method import method_named

    method = None if arguments.method is None else method_named(arguments.method)
    model = problem.open_problem(arguments)
    with terminal.bracket_progress(arguments.eps) as report:
        solution = solve(model, method, arguments.eps, report=report, checkpoint=arguments.checkpoint, reduce=arguments.reduce)
    began = time.perf_counter()
    verdict = check(model, solution.certificate)
    facts = _document(arguments.model, model, solution, verdict, time.perf_counter() - began)
    if isinstance(model, RobustMDP):
        chosen = getattr(model.ambiguity, "ball", model.ambiguity)
        spelled = f"{type(chosen[0]).__name__} of each pair" if isinstance(chosen, tuple) else str(chosen)
        facts["nature"] = {"set": spelled, "rectangular": model.rectangularity, "optimistic": model.optimistic}
    if arguments.save_certificate is not None:
        solution.certificate.save(arguments.save_certificate)
        facts["certificate"] = arguments.save_certificate
    if arguments.json:
        terminal.print_json(facts)
    else:
        terminal.print_facts(_lines(facts))
    return 0


def _document(name: str, asked: MDP | RobustMDP, solution: Solution, verdict: Verdict, check_seconds: float) -> dict[str, Any]:
    """What the command has to say, as JSON-able facts."""
    from .method import spelling_of

    model = problem.nominal(asked)
    certificate, trace = solution.certificate, solution.trace
    (lower, upper), start = whole(certificate), at_the_start(model, certificate)
    policy = np.atleast_2d(certificate.policy)[0] if certificate.policy.size else np.full(model.n_states, -1)

    def at(state: int) -> dict[str, Any]:
        return {
            "state": state,
            "name": None if model.state_names is None else model.state_names[state],
            "lower": float(lower[state]),
            "upper": float(upper[state]),
            **_choice(model, state, policy),
        }

    initial = [] if model.initial is None else model.initial.nonzero()[0].tolist()
    return {
        "model": name,
        "fingerprint": asked.fingerprint,
        "states": model.n_states,
        "pairs": model.n_pairs,
        "transitions": model.n_transitions,
        "criterion": {"name": type(model.criterion).__name__, **asdict(model.criterion)},
        "initial": None if start is None else {"lower": start[0], "upper": start[1]},
        "initial_states": [{"probability": float(model.initial[s]), **at(s)} for s in initial[:_MANY]],  # pyright: ignore[reportOptionalSubscript]
        "least": at(int(lower.argmin())),
        "greatest": at(int(upper.argmax())),
        "width": certificate.width,
        "method": spelling_of(trace.method),
        "reason": trace.reason,
        "sweeps": trace.sweeps,
        "seconds": trace.seconds,
        "proof": {"holds": True, "inequalities": verdict.rows, "in_integers": verdict.exact, "seconds": check_seconds},
        "certificate": None,
    }


def _choice(model: MDP, state: int, policy: np.ndarray) -> dict[str, Any]:
    """The first action in a state, or the weights by which it is drawn."""
    if policy.dtype.kind == "i":
        action = int(policy[state])
        return {"action": None if action < 0 else model.action_of(state, action)}
    weights = policy[model.state_ptr[state] : model.state_ptr[state + 1]].tolist()
    names = [str(model.action_of(state, action)) for action in range(len(weights))]
    likely = names[int(np.argmax(weights))] if weights else None
    return {"action": likely, "weights": dict(zip(names, weights, strict=True))}


def _lines(facts: dict[str, Any]) -> dict[str, str]:
    """The same for people."""
    criterion, proof = dict(facts["criterion"]), facts["proof"]
    kind = f"{criterion.pop('name')}({', '.join(f'{key}={value}' for key, value in criterion.items())})"
    size = f"{facts['states']} states, {facts['pairs']} actions in all, {facts['transitions']} transitions"
    lines = {"model": f"{facts['model']}: {size}", "criterion": kind}
    if "nature" in facts:
        nature = facts["nature"]
        budget = ", all actions of a state together" if nature["rectangular"] == "s" else ""
        lines["nature"] = f"{'helps' if nature['optimistic'] else 'hinders'}, {nature['set']}{budget}"
    if facts["initial"] is not None:
        lines["value at the start"] = terminal.bracket(facts["initial"]["lower"], facts["initial"]["upper"])
    rows = facts["initial_states"] if len(facts["initial_states"]) < _MANY else []
    for row in rows:
        lines[f"  in state {_called(row)}"] = _row(row)
    if not rows:
        lines["least value"] = f"{_row(facts['least'])} in state {_called(facts['least'])}"
        lines["greatest value"] = f"{_row(facts['greatest'])} in state {_called(facts['greatest'])}"
    lines["method"] = f"{facts['method']}: {facts['reason']}"
    lines["work"] = f"{facts['sweeps']:.0f} sweeps, {facts['seconds']:.3g} s"
    lines["proof"] = (
        f"holds: brackets at most {facts['width']:.2g} wide; {proof['inequalities']} inequalities checked exactly, "
        f"{proof['in_integers']} of them in integers, {proof['seconds']:.2g} s"
    )
    if facts["certificate"]:
        lines["saved"] = facts["certificate"]
    return lines


def _called(row: dict[str, Any]) -> str:
    return str(row["state"]) if row["name"] is None else f"{row['state']} ({row['name']})"


def _row(row: dict[str, Any]) -> str:
    action = "" if row["action"] is None else f", first action {row['action']}"
    if row.get("weights"):
        drawn = {name: weight for name, weight in row["weights"].items() if weight > 0}
        action = ", first action " + ", ".join(f"{name} ({weight:.3g})" for name, weight in drawn.items())
    return terminal.bracket(row["lower"], row["upper"]) + action
