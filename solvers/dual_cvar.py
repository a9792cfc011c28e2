r"""The dual value iteration for CVaR, which is an upper bound and no more.

    V(s, y) = max_a min { E[xi (r + g V(s', y xi))] : 0 <= xi <= 1/y, E xi = 1 },       V = terminal value at the end.

Let Q(s, y) = y V(s, y), with y xi = u: Q(s, y) = max_a min { E[u r + g Q(s', u)] : 0 <= u <= 1, E u = y }. By induction Q(s, .)
is convex and piecewise linear with Q(s, 0) = 0, so it is the lower tail integral T of some law; the inner minimum is then T of
the mixture of the laws moved by r and scaled by g, and the maximum over actions is T of their least upper bound in the
increasing concave order. So the recursion is carried out exactly, in laws.

For one policy it is the CVaR decomposition and exact. With a choice it lets the action depend on the weight y xi that the
minimum picks, which no policy sees: the result is at least the optimal CVaR and may exceed it.

Chow, Tamar, Mannor and Pavone 2015, arXiv 1506.02188 (recursion); Hau, Delage, Ghavamzadeh and Petrik 2023, arXiv 2304.12477
(that it overestimates); carried out in laws here.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from ..mdp.law import Law, concave_supremum, mixture
from ..mdp.law_functional import CVaR
from ..mdp.model import MDP
from ..mdp.outcome import OutcomeMDP, as_outcomes
from .errors import SolveError


def dual_cvar_upper_bound(problem: MDP | OutcomeMDP, level: Any, *, state: int = 0, decisions: int | None = None) -> Fraction:
    """What the dual value iteration returns: at least the optimal CVaR at the level, in (0, 1], exact for one action a state.

    decisions: of a problem discounted for ever, after which nothing is earned.
    Raises ModelError for another level, SolveError without a number of decisions or for a state that there is not.
    """
    tau: Any = CVaR(level)
    model = as_outcomes(problem)
    horizon = model.horizon if decisions is None else decisions
    if horizon is None:
        raise SolveError("the problem is discounted for ever; say how many decisions to plan, decisions=...")
    if not 0 <= state < model.n_states:
        raise SolveError(f"there is no state {state}; states are 0..{model.n_states - 1}")
    g = Fraction(model.discount)
    laws = [Law.point(Fraction(float(worth))) for worth in model.problem.terminal_value]
    for _ in range(horizon):
        laws = [_backed_up(model, s, laws, g) for s in range(model.n_states)]
    return tau(laws[state])


def _backed_up(model: OutcomeMDP, state: int, laws: list[Law], discount: Fraction) -> Law:
    if model.problem.terminal[state]:
        return laws[state]
    choices = []
    for action in model.actions(state):
        rows = model.outcomes(state, action)
        choices.append(mixture([p for p, _, _ in rows], [laws[j].affine(r, discount) for _, r, j in rows]))
    return concave_supremum(choices)
