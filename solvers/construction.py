r"""Optimal solutions of combinatorial problems through their tails, with a proof.

The decision problem on tails is acyclic, so that `solve` brackets the optimum and its policy follows; that the policy's
solution is optimal for the problem on prefixes is Drakulic, Michel, Mai, Sors and Andreoli, NeurIPS 2023 (arXiv:2301.03313),
checked by `stability(direct_mdp(problem), tail_partition(problem, direct_mdp(problem)))`.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from ..mdp.construction import Construction, Prefix, tail_mdp
from .certificate import Certificate
from .solve import solve


@dataclass(frozen=True)
class Built:
    """A solution with its proof.

    steps: of the solution. objective: of it, exactly. certificate: of the decision problem on tails, whose first state is the
    whole problem: no solution is better than `certificate.upper[0]`, where routing problems count lengths negatively.
    """

    steps: Prefix
    objective: Fraction
    certificate: Certificate

    @property
    def gap(self) -> float:
        """By how much a better solution could exceed this one, at most."""
        return float(Fraction(float(self.certificate.upper[0])) - self.objective)


def build(problem: Construction, eps: float = 1e-6, max_states: int = 1_000_000) -> Built:
    """The best solution of a combinatorial problem, within a proved gap of eps.

    eps: > 0. max_states: at most so many tails are explored.
    Raises ModelError for more tails than that, SolveError and NotConverged as `solve` does.
    """
    model = tail_mdp(problem, max_states)
    solution = solve(model, eps=eps)
    steps, state = [], 0
    while not model.terminal[state]:
        pair = int(model.state_ptr[state]) + int(solution.policy[state])
        steps.append((model.action_names or ())[pair])
        state = int(model.successor[model.row_ptr[pair]])
    return Built(tuple(steps), problem.objective(tuple(steps)), solution.certificate)
