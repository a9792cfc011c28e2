r"""Backward induction over prefixes, whatever a node does with its action values.

    Q(h, a) = r(h, a) + U(h a),      U(h) = M[Q(h, .)] at a node,      U(h) = sum_a p(a | h) Q(h, a) in the environment's hands,

and U = 0 where a sequence has ended. The mean under a policy gives its value, the maximum the best value, beta log-sum-exp
the regularised one (Bellman 1957; Todorov, PNAS 106, 2009).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from .token import TokenProblem


@dataclass(frozen=True, eq=False)
class Level:
    """What happens at one position. k nodes with V tokens each; f prefixes of the environment with g tokens together.

    nodes: the nodes, as a slice. node_prefix: (k,). node_edge: (k, V), the edge of each token.
    environment_prefix: (f,). environment_edge: (g,), by prefix. environment_first: (f,), each prefix's first entry of those.
    """

    nodes: slice
    node_prefix: np.ndarray
    node_edge: np.ndarray
    environment_prefix: np.ndarray
    environment_edge: np.ndarray
    environment_first: np.ndarray


def levels(problem: TokenProblem) -> tuple[Level, ...]:
    """The positions of a problem, the first one first; arrays as in `Level`."""
    tree, found, nodes = problem.tree, [], 0
    for begin, end in zip(tree.level[:-1].tolist(), tree.level[1:].tolist(), strict=True):
        of_policy = problem.edge_index[begin:end] >= 0
        chosen, chance = begin + np.flatnonzero(of_policy), begin + np.flatnonzero(~of_policy)
        node_edge = chosen.reshape(-1, problem.vocabulary_size)
        prefixes, first = np.unique(tree.parent[chance], return_index=True)
        found.append(
            Level(slice(nodes, nodes + len(node_edge)), tree.parent[node_edge[:, 0]], node_edge, prefixes, chance, first)
        )
        nodes += len(node_edge)
    return tuple(found)


def backup(
    problem: TokenProblem, choose: Callable[[slice, np.ndarray], np.ndarray]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """U at the prompts, shape (P,), U at the nodes, (N,), and Q at the nodes, (N, V).

    choose(nodes, action_value): M of some nodes, given as a slice, from their action values (k, V); returns (k,).
    """
    tree, reward, probability = problem.tree, problem.edge_reward, problem.edge_probability
    value = np.zeros(tree.n_prompts + tree.n_edges)
    action_value = np.empty((problem.n_nodes, problem.vocabulary_size))
    for level in reversed(problem.levels):
        action_value[level.nodes] = reward[level.node_edge] + value[tree.n_prompts + level.node_edge]
        value[level.node_prefix] = choose(level.nodes, action_value[level.nodes])
        if len(level.environment_edge):
            edge = level.environment_edge
            worth = probability[edge] * (reward[edge] + value[tree.n_prompts + edge])
            value[level.environment_prefix] = np.add.reduceat(worth, level.environment_first)
    return value[: tree.n_prompts], value[problem.node_prefix], action_value
