r"""Linear programming.

The optimal value is the least vector that no action improves, for any weights mu > 0 of the states:

    minimise  mu . v        subject to   v_s - g sum_j p_kj v_j >= r_k            for every pair k of s,          (primal)
    maximise  sum_k r_k x_k subject to   sum_{k of s} x_k - g sum_k p_ks x_k = mu_s,  x >= 0                      (dual)

x is the discounted occupancy of the pairs from the start mu; if rows sum to one, sum x = sum mu / (1 - g). The two optima are
equal, mu . v* (d'Epenoux 1963; Puterman 2005, section 6.9). HiGHS solves the primal with rewards scaled to one, to about 1e-7
of them; where that is not enough its vertex is repaired by evaluating its greedy policy, and the bracket decides.

Huangfu and Hall 2018 (HiGHS).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse
from scipy.optimize import linprog

from ..mdp.model import MDP
from ..mdp.operator import Operator
from .bracket import macqueen_porteus
from .errors import NotConverged
from .method import model_of
from .policy_iteration import evaluate
from .watch import Watch


@dataclass(frozen=True)
class LinearProgramming:
    """The primal linear program by HiGHS, repaired by evaluating greedy policies. On a table.

    repairs: evaluations, each by a sparse LU factorisation, after which it gives up with `NotConverged`.
    """

    repairs: int = 10

    def run(self, operator: Operator, value: np.ndarray, eps: float, watch: Watch) -> np.ndarray:
        """A vector (n_states,) whose bracket is at most eps wide. Raises SolveError for an operator without a table."""
        optimum, _ = linear_program(model_of(operator, self), np.ones(operator.n_states))
        following, policy = np.empty_like(value), np.empty(operator.n_states, dtype=np.int32)
        narrowest = np.inf
        for repair in range(self.repairs + 1):
            below, above = macqueen_porteus(*operator.apply(optimum, following, policy), operator.mass)
            narrowest = min(narrowest, above - below)
            watch(optimum, above - below)
            if above - below <= eps:
                return optimum
            if repair < self.repairs:
                optimum = evaluate(operator, policy)
        raise NotConverged(
            f"the repaired linear program leaves a bracket {narrowest:.3g} wide (asked for {eps:.3g}); ask for a wider eps, or "
            "use RationalPolicyIteration() on a small model",
            reached=narrowest,
        )


def linear_program(problem: MDP, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(v, x): optimal value (n_states,) and occupancy (n_pairs,) of a discounted maximisation problem, to some 1e-7.

    weights: (n_states,), mu above, positive. Terminal states' mu has no effect.
    Raises NotConverged with the solver's message when it fails.
    """
    acting, unknown = ~problem.terminal, np.cumsum(~problem.terminal) - 1
    transition = scipy.sparse.csr_array(
        (problem.probability, problem.successor, problem.row_ptr), shape=(problem.n_pairs, problem.n_states)
    )
    own = scipy.sparse.csr_array(
        (np.ones(problem.n_pairs), unknown[problem.pair_state], np.arange(problem.n_pairs + 1)),
        shape=(problem.n_pairs, int(acting.sum())),
    )
    value, occupancy = problem.terminal_value.copy(), np.zeros(problem.n_pairs)
    if not acting.any():
        return value, occupancy
    gain = problem.reward + problem.discount * (transition @ value)
    scale = float(np.abs(gain).max()) or 1.0
    constraints = (problem.discount * transition[:, np.flatnonzero(acting)] - own).tocsr()
    result = linprog(weights[acting], A_ub=constraints, b_ub=-gain / scale, bounds=(None, None), method="highs")
    if result.x is None:
        raise NotConverged(f"HiGHS found no solution: {result.message}; use PolicyIteration()")
    value[acting] = scale * result.x
    occupancy[:] = np.maximum(0.0, -result.ineqlin.marginals)
    return value, occupancy
