r"""The tree of prefixes under a list of sequences.

A prefix is a prompt followed by some tokens. Prefixes 0..P-1 are the bare prompts; edge e appends one token to its parent and
leads to prefix P + e. Edges are numbered level by level, and inside a level in the order of the sequences, which are sorted by
prompt and then by tokens; so the children of a prefix, and the sequences through it, are neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .errors import ModelError


@dataclass(frozen=True, eq=False)
class PrefixTree:
    """S sequences, T tokens the longest, P prompts, E edges; made by `grow`.

    n_prompts: P.
    edge: int32 (S, T), the edge by which each token was appended, -1 for padding.
    parent: int32 (E,), prefix in [0, P + E) to which the token was appended. token: int32 (E,), the token.
    level: int64 (T + 1,), the edges of position t are level[t] .. level[t + 1] - 1.
    """

    n_prompts: int
    edge: np.ndarray
    parent: np.ndarray
    token: np.ndarray
    level: np.ndarray

    @property
    def n_edges(self) -> int:
        """Number of edges, E."""
        return len(self.parent)

    @cached_property
    def n_children(self) -> np.ndarray:
        """Children of each prefix, int64 (P + E,); zero where a sequence ends."""
        return np.bincount(self.parent, minlength=self.n_prompts + self.n_edges)

    @cached_property
    def first(self) -> tuple[np.ndarray, np.ndarray]:
        """The first sequence through each edge and the position of the edge's token in it, int64 (E,) each."""
        edges, where = np.unique(self.edge, return_index=True)
        sequence, position = np.divmod(where[edges >= 0], self.edge.shape[1])
        return sequence, position


def grow(prompt: np.ndarray, token: np.ndarray, vocabulary_size: int, n_prompts: int) -> PrefixTree:
    """The tree of sequences: prompt (S,) in [0, n_prompts), token (S, T) in [0, vocabulary_size), -1 after the end.

    Raises ModelError, naming the sequence, when they are not sorted, not distinct, or one goes on where another has ended.
    """
    n_sequences, horizon = token.shape
    edge = np.full((n_sequences, horizon), -1, dtype=np.int32)
    here, level = prompt.astype(np.int64), [0]
    parents, tokens = [], []
    if (np.diff(here) < 0).any():
        row = int(np.flatnonzero(np.diff(here) < 0)[0]) + 1
        raise ModelError(f"sequence {row} of prompt {prompt[row]} comes after one of prompt {prompt[row - 1]}; sort by prompt")
    for t in range(horizon):
        rows = np.flatnonzero(token[:, t] >= 0)
        key = here[rows] * vocabulary_size + token[rows, t]
        steps = np.diff(key)
        if (steps < 0).any():
            row = int(rows[np.flatnonzero(steps < 0)[0] + 1])
            raise ModelError(f"sequence {row} is out of order at position {t}; sort sequences by prompt, then by tokens")
        fresh = np.concatenate([np.ones(min(len(key), 1), dtype=np.bool_), steps > 0])
        number = level[-1] + np.cumsum(fresh) - 1
        edge[rows, t] = number
        here[rows] = n_prompts + number
        parents.append(key[fresh] // vocabulary_size)
        tokens.append(key[fresh] % vocabulary_size)
        level.append(level[-1] + int(fresh.sum()))
    tree = PrefixTree(
        n_prompts,
        edge,
        np.concatenate(parents).astype(np.int32),
        np.concatenate(tokens).astype(np.int32),
        np.array(level),
    )
    again = np.flatnonzero(np.bincount(here, minlength=n_prompts + tree.n_edges)[here] > 1)
    if len(again):
        raise ModelError(f"sequence {again[1]} repeats sequence {again[0]}; every sequence stands once")
    longer = np.flatnonzero(tree.n_children[here])
    if len(longer):
        raise ModelError(f"sequence {longer[0]} is the beginning of another one; a sequence that has ended does not go on")
    for array in (tree.edge, tree.parent, tree.token, tree.level):
        array.setflags(write=False)
    return tree
