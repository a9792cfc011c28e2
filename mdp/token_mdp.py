"""A token problem as a decision problem whose states are prefixes.

State n < N is node n, and its action a appends token a; so an optimal policy's first N entries are the best tokens. The
environment's prefixes follow, with one action and its probabilities, and last one terminal state where every sequence ends.
A reward is earned where its token is appended; an environment's step earns the expectation over its tokens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .criterion import Criterion
from .errors import ModelError
from .expectation import expected_reward
from .model import MDP

if TYPE_CHECKING:
    from .token import TokenProblem

_MOST_NAMES = 100_000


def to_mdp(problem: TokenProblem, criterion: Criterion) -> MDP:
    """The problem as an `MDP` with the prompts as its initial distribution, shape (n_states,).

    criterion: total reward, a finite horizon of at least the problem's own, or discounted, each token one step.
    Raises ModelError for a finite horizon shorter than the problem's, and where terminal states have no meaning.
    """
    if getattr(criterion, "horizon", problem.horizon) < problem.horizon:
        raise ModelError(
            f"the criterion ends before the sequences, which have up to {problem.horizon} tokens; raise its horizon"
        )
    tree, n_nodes, size = problem.tree, problem.n_nodes, problem.vocabulary_size
    of_policy = problem.edge_index >= 0
    acting = np.flatnonzero(tree.n_children)
    others = np.setdiff1d(acting, problem.node_prefix, assume_unique=True)
    end = len(acting)
    state = np.full(len(tree.n_children), end, dtype=np.int32)
    state[problem.node_prefix] = np.arange(n_nodes)
    state[others] = n_nodes + np.arange(len(others))
    child = state[tree.n_prompts :]
    chance = np.flatnonzero(~of_policy)  # by prefix already: edges are numbered so
    table, reward = np.empty((2, n_nodes * size))
    table[problem.edge_index[of_policy]] = child[of_policy]
    reward[problem.edge_index[of_policy]] = problem.edge_reward[of_policy]
    rows = np.cumsum(np.concatenate([[0], tree.n_children[others]]))
    initial = np.zeros(end + 1)
    initial[state[: tree.n_prompts]] = problem.prompt_probability
    terminal = np.zeros(end + 1, dtype=np.bool_)
    terminal[end] = True
    return MDP(
        state_ptr=np.concatenate(
            [np.arange(n_nodes) * size, n_nodes * size + np.arange(len(others) + 1), [n_nodes * size + len(others)]]
        ),
        row_ptr=np.concatenate([np.arange(n_nodes * size), n_nodes * size + rows]),
        successor=np.concatenate([table.astype(np.int32), child[chance]]),
        probability=np.concatenate([np.ones(n_nodes * size), problem.edge_probability[chance]]),
        reward=np.concatenate([reward, expected_reward(rows, problem.edge_probability[chance], problem.edge_reward[chance])]),
        criterion=criterion,
        terminal=terminal,
        initial=initial,
        state_names=_names(problem, state, end) if end < _MOST_NAMES else None,
    )


def _names(problem: TokenProblem, state: np.ndarray, end: int) -> list[str]:
    tree, names = problem.tree, [""] * (end + 1)
    written = [(prompt,) for prompt in problem.prompts]
    for parent, token in zip(tree.parent.tolist(), tree.token.tolist(), strict=True):
        written.append((*written[parent], token))
    for prefix, words in enumerate(written):
        names[state[prefix]] = f"{words[0]}: {' '.join(map(str, words[1:]))}".rstrip()
    names[end] = "end"
    return names
