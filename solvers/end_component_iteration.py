r"""The average reward of any model: value iteration inside end components, optimal stopping between them.

A process stays for ever in an end component, almost surely. So solve each maximal end component by itself, where the best gain
does not depend on the state and relative value iteration converges; and then decide where to stay,

    g(component) = max( its own gain,  max over pairs that leave it of P g ),

an optimal stopping problem on the quotient, in which every policy is proper. The policy plays the component's own policy where
it stays, and otherwise walks to the state whose pair leaves best, which it reaches with probability one.

Ashok, Chatterjee, Daca, Kretinsky, Meggendorfer, CAV 2017, arXiv:1705.02326.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numba
import numpy as np

from ..mdp.increments import normalised
from ..mdp.model import MDP
from .gain_bracket import Estimate
from .graph import Graph
from .relative_value_iteration import RelativeValueIteration
from .stopping import Quotient, leaving
from .watch import Watch


@dataclass(frozen=True)
class EndComponentIteration:
    """Relative value iteration in all maximal end components at once, then optimal stopping.

    inner: the iteration inside the components.
    """

    inner: RelativeValueIteration = field(default_factory=RelativeValueIteration)

    def estimate(self, problem: MDP, eps: float, start: np.ndarray | None, watch: Watch) -> Estimate:
        """A policy (n_states,), its bias, and the blocks of its proof. Raises NotConverged."""
        graph = Graph.of(problem)
        blocks, inside = graph.end_components(np.ones(problem.n_pairs, dtype=np.bool_))
        n_blocks = int(blocks.max()) + 1
        part, states, pairs = restricted(problem, blocks >= 0, inside)
        first = None if start is None else start[states]
        policy_part, bias_part = self.inner.in_blocks(part, blocks[states], n_blocks, eps, first, watch)
        policy, bias = np.zeros(problem.n_states, dtype=np.int32), np.zeros(problem.n_states)
        policy[states] = pairs[part.state_ptr[:-1] + policy_part] - problem.state_ptr[states]
        bias[states] = bias_part
        kept = self._move(problem, graph, blocks, inside, policy, bias)
        return Estimate(policy, bias, blocks, kept)

    def _move(
        self, problem: MDP, graph: Graph, blocks: np.ndarray, inside: np.ndarray, policy: np.ndarray, bias: np.ndarray
    ) -> np.ndarray:
        """Overwrite `policy` where another component is worth more; returns the blocks that the policy keeps to, (n,)."""
        n_blocks = int(blocks.max()) + 1
        node, alone = blocks.astype(np.int64), np.flatnonzero(blocks < 0)
        node[alone] = n_blocks + np.arange(len(alone))
        away = np.flatnonzero(leaving(problem, np.arange(problem.n_pairs), blocks))
        if not len(away):
            return blocks
        quotient = Quotient.of(problem, away, node, n_blocks + len(alone))
        stop = np.full(quotient.n_nodes, -np.inf)
        stop[:n_blocks] = _gains(problem, blocks, policy, bias, n_blocks)
        _, choice = quotient.best(np.zeros(len(away)), stop)
        exits = quotient.pairs[choice[choice >= 0]]
        moves = (choice >= 0)[node]
        doors = np.zeros(problem.n_states, dtype=np.bool_)
        doors[problem.pair_state[exits]] = True
        policy[moves] += problem.state_ptr[:-1][moves]
        _walk(doors, inside & moves[problem.pair_state], problem.pair_state, graph.pred_ptr, graph.pred_pair, policy)
        policy[moves] -= problem.state_ptr[:-1][moves]
        policy[problem.pair_state[exits]] = exits - problem.state_ptr[problem.pair_state[exits]]
        return np.where(moves, -1, blocks).astype(np.int32)


def _gains(problem: MDP, blocks: np.ndarray, policy: np.ndarray, bias: np.ndarray, n_blocks: int) -> np.ndarray:
    """About what each block's own policy gains, (n_blocks,): the middle of its bracket under that policy."""
    matrix, reward = normalised(problem).operator.policy_system(policy)
    rise, low, high = reward + matrix @ bias - bias, np.full(n_blocks, np.inf), np.full(n_blocks, -np.inf)
    held = blocks >= 0
    np.minimum.at(low, blocks[held], rise[held])
    np.maximum.at(high, blocks[held], rise[held])
    return low / 2 + high / 2


def restricted(problem: MDP, keep: np.ndarray, pairs: np.ndarray) -> tuple[MDP, np.ndarray, np.ndarray]:
    """The model of some states and pairs that lead nowhere else, with the states and pairs that are left, in order.

    keep: bool (n,), each with a pair that is kept. pairs: bool (m,), none with a possible successor outside `keep`.
    """
    states, kept = np.flatnonzero(keep), np.flatnonzero(pairs)
    number = np.zeros(problem.n_states, dtype=np.int32)
    number[states] = np.arange(len(states), dtype=np.int32)
    entry = np.repeat(pairs, np.diff(problem.row_ptr)) & (problem.probability > 0)
    lengths = np.add.reduceat(entry, problem.row_ptr[:-1])[kept]
    counts = np.bincount(problem.pair_state[kept], minlength=problem.n_states)[states]
    part = MDP(
        state_ptr=np.concatenate(([0], np.cumsum(counts))).astype(np.int32),
        row_ptr=np.concatenate(([0], np.cumsum(lengths))).astype(np.int32),
        successor=number[problem.successor[entry]],
        probability=problem.probability[entry],
        reward=problem.reward[kept],
        criterion=problem.criterion,
    )
    return part, states, kept


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _walk(doors, allowed, pair_state, pred_ptr, pred_pair, pair_of):
    """pair_of[s] = the first allowed pair found, breadth first from the doors, that may bring s nearer to one."""
    reached, queue, tail = doors.copy(), np.empty(len(doors), np.int32), 0
    for state in range(len(doors)):
        if doors[state]:
            queue[tail] = state
            tail += 1
    head = 0
    while head < tail:
        target = queue[head]
        head += 1
        for k in range(pred_ptr[target], pred_ptr[target + 1]):
            pair = pred_pair[k]
            state = pair_state[pair]
            if allowed[pair] and not reached[state]:
                reached[state] = True
                pair_of[state] = pair
                queue[tail] = state
                tail += 1
