r"""The quotient of a model by sets of states, and optimal stopping on it.

Give every state a node; states of one set share theirs. A pair leaves when it may move to another node. On the nodes, with the
leaving pairs only,

    x(i) = max( stop(i),  max_k c_k + sum_j p_kj x(node j) )                                  (no stop: stop(i) = -inf).

When the sets are the maximal end components, nothing but stopping can go on for ever, so every policy is proper, the solution
is unique and policy iteration finds it. With c = 0 it carries gains from the sets to all states; with c = 1 and stopping only
where nothing leaves it is the longest expected number of leaving steps, w, which satisfies P w <= w - 1 on every leaving
pair: the vector that pays for rounding.

Bertsekas and Tsitsiklis, Math. Oper. Res. 16, 1991; de Alfaro, Formal Verification of Probabilistic Systems, 1997, chapter 3.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
import scipy.sparse
from scipy.sparse.linalg import splu

from ..mdp.model import MDP
from .errors import NotConverged

_ROUNDS = 200
_WORTH_CHANGING = 1e-14


@dataclass(frozen=True, eq=False)
class Quotient:
    """Leaving pairs between nodes.

    n_nodes: number of nodes, N. pairs: (L,), the model's leaving pairs, sorted by node. matrix: CSR (L, N), their rows.
    node: (groups,), the nodes that have leaving pairs. heads: (groups,), where each node's pairs begin.
    """

    n_nodes: int
    pairs: np.ndarray
    matrix: scipy.sparse.csr_array
    node: np.ndarray
    heads: np.ndarray

    @classmethod
    def of(cls, model: MDP, pairs: np.ndarray, node: np.ndarray, n_nodes: int) -> Quotient:
        """The quotient by node (n,), int, with the leaving `pairs`, at least one."""
        owner = node[model.pair_state[pairs]]
        order = np.argsort(owner, kind="stable")
        pairs, owner = pairs[order], owner[order]
        length = (model.row_ptr[pairs + 1] - model.row_ptr[pairs]).astype(np.int64)
        indptr = np.concatenate(([0], np.cumsum(length)))
        entries = np.arange(indptr[-1]) + np.repeat(model.row_ptr[pairs] - indptr[:-1], length)
        weight = model.probability[entries]
        weight = weight / np.repeat(np.add.reduceat(weight, indptr[:-1]), length)
        matrix = scipy.sparse.csr_array((weight, node[model.successor[entries]], indptr), shape=(len(pairs), n_nodes))
        matrix.sum_duplicates()
        matrix.eliminate_zeros()
        nodes, heads = np.unique(owner, return_index=True)
        return cls(n_nodes, pairs, matrix, nodes, heads)

    def longest(self) -> np.ndarray:
        """Largest expected number of leaving steps from each node, (N,); zero where nothing leaves."""
        stop = np.zeros(self.n_nodes)
        stop[self.node] = -np.inf
        return self.best(np.ones(len(self.pairs)), stop)[0]

    def best(self, reward: np.ndarray, stop: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Value (N,) of stopping or moving on, and the choice (N,): an index into `pairs`, or -1 to stop.

        reward: (L,). stop: (N,), -inf where there is no stopping; finite where nothing leaves.
        Raises NotConverged when a policy never stops.
        """
        choice = np.full(self.n_nodes, -1)
        must = stop[self.node] == -np.inf
        choice[self.node[must]] = self.heads[must]
        sizes = np.diff(np.append(self.heads, len(self.pairs)))
        value = self._evaluate(reward, stop, choice)
        for _ in range(_ROUNDS):
            worth = reward + self.matrix @ value
            best = np.maximum.reduceat(worth, self.heads)
            better = best > value[self.node] + _WORTH_CHANGING * (np.abs(best) + np.abs(value[self.node]))
            if not better.any():
                break
            first = np.where(worth == np.repeat(best, sizes), np.arange(len(worth)), len(worth))
            choice[self.node[better]] = np.minimum.reduceat(first, self.heads)[better]
            following = self._evaluate(reward, stop, choice)
            if np.all(following <= value):
                break
            value = following
        return value, choice

    def _evaluate(self, reward: np.ndarray, stop: np.ndarray, choice: np.ndarray) -> np.ndarray:
        moving = np.flatnonzero(choice >= 0)
        value = np.where(choice >= 0, 0.0, stop)
        if not len(moving):
            return value
        rows = self.matrix[choice[moving]]
        constant = reward[choice[moving]] + rows @ value
        inner = rows[:, moving]
        try:
            factors = splu(scipy.sparse.csc_array(scipy.sparse.eye_array(len(moving), format="csr") - inner))
        except RuntimeError as fault:
            raise NotConverged(f"some states are left too rarely for floating point ({fault})") from None
        solution = factors.solve(constant)
        solution += factors.solve(constant - solution + inner @ solution)
        if not np.isfinite(solution).all():
            raise NotConverged("some states are left too rarely for floating point: an expected time overflows")
        value[moving] = solution
        return value


def leaving(model: MDP, pairs: np.ndarray, block: np.ndarray) -> np.ndarray:
    """bool (len(pairs),): the pairs with a possible successor outside their state's block; block (n,), -1 outside all."""
    out = np.empty(len(pairs), dtype=np.bool_)
    _leaving(pairs, model.pair_state, model.row_ptr, model.successor, model.probability, block, out)
    return out


@numba.njit(cache=True, nogil=True)
def _leaving(pairs, pair_state, row_ptr, successor, probability, block, out):
    for position in range(len(pairs)):
        pair = pairs[position]
        home = block[pair_state[pair]]
        out[position] = home < 0
        for entry in range(row_ptr[pair], row_ptr[pair + 1]):
            if probability[entry] > 0.0 and block[successor[entry]] != home:
                out[position] = True
                break
