r"""Howard's policy iteration for the average reward, unichain and multichain.

A policy's gain g and bias h solve

    (I - P) g = 0,      g + (I - P) h = r,      h = 0 in the first state of each recurrent class,

in one sparse factorisation: with one often visited state of each class made absorbing, x and y are the expected reward and
time until one of them; a class gains (r + P x) / (1 + P y), taken at that state; transient states gain their expectation.

Improvement. In each state an action with P_a g > g, if there is one; else, among those with P_a g = g, one with
r_a + P_a h > g + h. The policy is kept where nothing is better, so no policy returns, and the last one is optimal (Howard 1960;
Puterman 2005, sections 8.6 and 9.2). In floating point "better" means by more than rounding; the proof is made afterwards.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import scipy.sparse
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import splu

from ..mdp.increments import normalised
from ..mdp.model import MDP
from .errors import NotConverged
from .gain_bracket import Estimate
from .graph import Graph
from .watch import Watch

_BETTER = 1e-11
_RARE = 1e-3


@dataclass(frozen=True)
class MultichainPolicyIteration:
    """Exact evaluation of gain and bias, then lexicographic improvement; for every chain structure.

    max_rounds: evaluations before `NotConverged`.
    """

    max_rounds: int = 10_000

    def estimate(self, problem: MDP, eps: float, start: np.ndarray | None, watch: Watch) -> Estimate:
        """A policy (n_states,) that no action improves beyond rounding, bias, and blocks of its proof. Raises NotConverged."""
        return howard(problem, eps, start, watch, self.max_rounds, unichain=False)


@dataclass(frozen=True)
class Evaluation:
    """Long-run behaviour of a policy.

    gain, bias: (n,). recurrent: int (n,), label of each state's recurrent class, -1 where transient.
    weight: (n,), expected visits of each recurrent state in one cycle of its class, zero elsewhere.
    """

    gain: np.ndarray
    bias: np.ndarray
    recurrent: np.ndarray
    weight: np.ndarray


def howard(problem: MDP, eps: float, start: np.ndarray | None, watch: Watch, max_rounds: int, *, unichain: bool) -> Estimate:
    """Policy iteration from start (n_states,) or None; `unichain` compares biases only and wants one gain for all states.

    Raises NotConverged.
    """
    model = normalised(problem)
    rows = scipy.sparse.csr_array((model.probability, model.successor, model.row_ptr), shape=(model.n_pairs, model.n_states))
    image, policy = np.empty(model.n_states), np.empty(model.n_states, dtype=np.int32)
    model.operator.apply(np.zeros(model.n_states) if start is None else start, image, policy)
    everywhere, width, weight = np.zeros(model.n_states, dtype=np.int32), np.inf, None
    seen: set[bytes] = set()
    for _ in range(max_rounds):
        found = evaluate(model, policy, weight)
        weight = found.weight
        rise = model.reward + rows @ found.bias - found.bias[model.pair_state]
        best = np.maximum.reduceat(rise, model.state_ptr[:-1])
        width = float(best.max() - rise[model.state_ptr[:-1] + policy].min())
        watch(found.bias, width)
        if width <= eps:
            return Estimate(policy, found.bias, everywhere, everywhere)
        spread = float(np.ptp(found.gain))
        if unichain and spread > eps:
            raise NotConverged(
                f"a policy's gain depends on the state, by {spread:.3g}; use MultichainPolicyIteration() or no method at all"
            )
        drift = np.zeros(model.n_pairs) if unichain else rows @ found.gain - found.gain[model.pair_state]
        improved = _improve(model, policy, found, drift, rise)
        if np.array_equal(improved, policy):
            blocks, _ = Graph.of(problem).end_components(np.ones(problem.n_pairs, dtype=np.bool_))
            return Estimate(policy, found.bias, blocks, found.recurrent)
        if (key := hashlib.sha256(improved.tobytes()).digest()) in seen:
            raise NotConverged(
                f"biases of {np.abs(found.bias).max():.3g} hide which policy is better; try value iteration", width
            )
        seen.add(key)
        policy = improved
    raise NotConverged(f"policies still improve after {max_rounds} evaluations; raise max_rounds", reached=width)


def _improve(model: MDP, policy: np.ndarray, found: Evaluation, drift: np.ndarray, rise: np.ndarray) -> np.ndarray:
    heads, state, current = model.state_ptr[:-1], model.pair_state, model.state_ptr[:-1] + policy
    gain_unit = _BETTER * (float(np.abs(found.gain).max()) + 2.0**-900)
    bias_unit = _BETTER * (float(np.abs(found.bias).max() + np.abs(model.reward).max()) + 2.0**-900)
    top = np.maximum.reduceat(drift, heads)
    gains = top > drift[current] + gain_unit
    eligible = np.where(drift >= (top - gain_unit)[state], rise, -np.inf)
    highest = np.maximum.reduceat(eligible, heads)
    moves = gains | (highest > rise[current] + bias_unit)
    wanted = np.where(gains[state], drift >= top[state], eligible >= highest[state])
    first = np.minimum.reduceat(np.where(wanted, np.arange(model.n_pairs), model.n_pairs), heads)
    return np.where(moves, first - heads, policy).astype(np.int32)


def evaluate(model: MDP, policy: np.ndarray, weight: np.ndarray | None = None) -> Evaluation:
    """Gain and bias of a policy of a model with normalised rows.

    weight: (n,), which state of each recurrent class to cut it at, the largest; a good guess is an earlier `Evaluation.weight`.
    Raises NotConverged when floating point cannot solve the system.
    """
    matrix, reward = model.operator.policy_system(policy)
    matrix.sum_duplicates()  # scipy's component search never ends on a row that names a successor twice
    matrix.eliminate_zeros()
    recurrent = recurrent_classes(matrix)
    weight = np.ones(len(reward)) if weight is None else weight
    for _ in range(3):
        cuts = _heaviest(recurrent, weight)
        found = _evaluate(matrix, reward, recurrent, cuts)
        if np.all(found.weight[cuts] >= _RARE * found.weight.max(initial=0.0)):
            break
        weight = found.weight
    return found  # pyright: ignore[reportPossiblyUnboundVariable]


def recurrent_classes(matrix: scipy.sparse.csr_array) -> np.ndarray:
    """Label 0, 1, ... of each state's recurrent class in a Markov chain in canonical CSR, int (n,); -1 if transient."""
    count, component = connected_components(matrix, directed=True, connection="strong")
    source = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))  # pyright: ignore[reportOptionalSubscript]
    closed = np.ones(count, dtype=np.bool_)
    closed[component[source[component[source] != component[matrix.indices]]]] = False
    return np.where(closed, np.cumsum(closed) - 1, -1)[component].astype(np.int32)


def _heaviest(recurrent: np.ndarray, weight: np.ndarray) -> np.ndarray:
    order = np.lexsort((-weight, recurrent))
    order = order[recurrent[order] >= 0]
    return order[np.unique(recurrent[order], return_index=True)[1]]


def _evaluate(matrix: scipy.sparse.csr_array, reward: np.ndarray, recurrent: np.ndarray, cuts: np.ndarray) -> Evaluation:
    n_states = len(reward)
    open_rows = np.ones(n_states)
    open_rows[cuts] = 0.0
    cut_matrix = scipy.sparse.csr_array(scipy.sparse.diags_array(open_rows) @ matrix)
    system = scipy.sparse.csc_array(scipy.sparse.eye_array(n_states, format="csr") - cut_matrix)
    try:
        factors = splu(system)
    except RuntimeError as fault:
        raise NotConverged(f"a policy's linear system is singular in floating point ({fault})") from None

    def solve(right: np.ndarray) -> np.ndarray:
        solution = factors.solve(right)
        return solution + factors.solve(right - solution + cut_matrix @ solution)

    until, time = solve(open_rows * reward), solve(open_rows)
    rate = (reward[cuts] + matrix[cuts] @ until) / (1.0 + matrix[cuts] @ time)

    def extend(rate: np.ndarray) -> np.ndarray:
        """The vector that is `rate` on the classes and harmonic elsewhere."""
        edge = np.zeros(n_states)
        edge[cuts] = rate
        inside = recurrent >= 0
        return np.where(inside, rate[recurrent], solve(edge))

    gain = extend(rate)
    bias = solve(open_rows * (reward - gain))
    first = np.unique(recurrent, return_index=True)[1][-len(cuts) :]
    bias -= extend(bias[first])
    visits = factors.solve(np.asarray(matrix[cuts].sum(axis=0)).ravel() * open_rows, trans="T")
    visits[cuts] = 1.0
    if not (np.isfinite(gain).all() and np.isfinite(bias).all()):
        raise NotConverged("a policy's linear system is too ill-conditioned for floating point: an expected time overflows")
    return Evaluation(gain, bias, recurrent, np.where(recurrent >= 0, visits, 0.0))
