r"""Finite-vocabulary autoregressive problems, small enough to list every sequence.

A prompt x is drawn with probability rho(x). Tokens from 0..V-1 are appended until the end-of-sequence token, or until T tokens
stand there, whoever wrote them. After a prefix h either the policy moves, h is a *node* and the token has probability
pi(a | h); or the environment (a tool, a user) does, with given probabilities. Nothing but the policy's tokens counts for a
policy gradient: the mask. With R(y) the sum of the rewards along sequence y and e(y) the product of the environment's
probabilities,

    P(y | x) = e(y) prod_{t: mask} pi(y_t | y_{<t}),          J(pi) = sum_x rho(x) sum_y P(y | x) R(y).

A contextual bandit is horizon one. A tabular policy is one vector of logits a node, `banach.mdp.token_policy`.

Legend: S sequences, T the longest, N nodes, V tokens, P prompts.

Sutton and Barto, Reinforcement Learning, 2018, section 13; for language models Ranzato et al. 2016, arXiv 1511.06732.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from .criterion import Criterion, TotalReward
from .model import MDP
from .token_backup import Level, levels
from .token_tree import PrefixTree, grow
from .token_validation import adopt, check_sequences, check_tree

__all__ = ["TokenProblem"]


@dataclass(frozen=True, eq=False)
class TokenProblem:
    """Every sequence of an autoregressive problem, sorted by prompt and then by tokens, in read-only arrays.

    vocabulary_size: V >= 1.
    prompt_probability: float64 (P,), rho, sums to one within 1e-9.
    prompt: int32 (S,), prompt of each sequence.
    token: int32 (S, T), tokens in [0, V), then -1 to the end of the row.
    mask: bool (S, T), the tokens that the policy chose.
    token_probability: float64 (S, T), in (0, 1]: of the environment's tokens; one elsewhere.
    step_reward: float64 (S, T), earned when the token is appended, the outcome of the whole sequence with the last token;
        finite, zero on padding.
    prompts: what each prompt is called in messages, P objects. Default: 0..P-1.
    eos: the end-of-sequence token, or None.

    Raises ModelError, naming the sequence and the number, unless the sequences are all there, each once: after a node all V
    tokens, after another prefix those of an environment's distribution; and each has a token of the policy.
    """

    vocabulary_size: int
    prompt_probability: np.ndarray
    prompt: np.ndarray
    token: np.ndarray
    mask: np.ndarray
    token_probability: np.ndarray
    step_reward: np.ndarray
    prompts: Sequence[Any] = ()
    eos: int | None = None

    def __post_init__(self) -> None:
        for name, dtype, dimensions in (
            ("prompt_probability", np.float64, 1),
            ("prompt", np.int32, 1),
            ("token", np.int32, 2),
            ("mask", np.bool_, 2),
            ("token_probability", np.float64, 2),
            ("step_reward", np.float64, 2),
        ):
            object.__setattr__(self, name, adopt(name, getattr(self, name), dtype, dimensions))
        names = tuple(self.prompts) or range(len(self.prompt_probability))
        object.__setattr__(self, "prompts", tuple(names))
        check_sequences(self)
        check_tree(self)

    @property
    def n_sequences(self) -> int:
        """Number of sequences, S."""
        return len(self.prompt)

    @property
    def n_prompts(self) -> int:
        """Number of prompts, P."""
        return len(self.prompt_probability)

    @property
    def horizon(self) -> int:
        """Tokens of the longest sequence, the environment's included, T."""
        return self.token.shape[1]

    @property
    def n_nodes(self) -> int:
        """Number of prefixes where the policy moves, N."""
        return len(self.node_prompt)

    @cached_property
    def tree(self) -> PrefixTree:
        """The prefixes and what leads from one to the next."""
        return grow(self.prompt, self.token, self.vocabulary_size, self.n_prompts)

    @cached_property
    def edge_index(self) -> np.ndarray:
        """Of each edge of the tree: node * V + token where the policy moves, -1 where the environment does; int64 (E,)."""
        return _frozen(np.where(self._edge_of(self.mask), self._node_of_edge * self.vocabulary_size + self.tree.token, -1))

    @cached_property
    def edge_probability(self) -> np.ndarray:
        """The environment's probability of each edge of the tree, one for the policy's, float64 (E,)."""
        return _frozen(self._edge_of(self.token_probability))

    @cached_property
    def edge_reward(self) -> np.ndarray:
        """Reward of each edge of the tree, float64 (E,)."""
        return _frozen(self._edge_of(self.step_reward))

    @cached_property
    def node(self) -> np.ndarray:
        """The node at which each token was chosen, int32 (S, T); -1 for the environment's tokens and padding.

        Nodes are numbered by depth, then by prompt and tokens: where the policy moves first, node p is prompt p.
        """
        return _frozen(np.where(self.mask, self._node_of_edge[self.tree.edge], -1).astype(np.int32))

    @cached_property
    def node_prefix(self) -> np.ndarray:
        """The prefix of the tree at which each node stands, int64 (N,)."""
        return _frozen(np.unique(self.tree.parent[self._edge_of(self.mask)]).astype(np.int64))

    @cached_property
    def node_prompt(self) -> np.ndarray:
        """Prompt of each node, int32 (N,)."""
        first = np.searchsorted(self.tree.parent, self.node_prefix)
        return _frozen(self.prompt[self.tree.first[0][first]])

    @cached_property
    def policy_index(self) -> np.ndarray:
        """node * V + token of the policy's tokens, N * V elsewhere, int64 (S, T): where a table with one more entry is read."""
        flat = self.node.astype(np.int64) * self.vocabulary_size + self.token
        return _frozen(np.where(self.mask, flat, self.n_nodes * self.vocabulary_size))

    @cached_property
    def environment_probability(self) -> np.ndarray:
        """Product of the environment's probabilities along each sequence, float64 (S,); one without turns."""
        return _frozen(self.token_probability.prod(axis=1))

    @cached_property
    def reward(self) -> np.ndarray:
        """Total reward of each sequence, float64 (S,)."""
        return _frozen(self.step_reward.sum(axis=1))

    @cached_property
    def length(self) -> np.ndarray:
        """Tokens of the policy in each sequence, int64 (S,), at least one."""
        return _frozen(self.mask.sum(axis=1))

    @cached_property
    def turn(self) -> np.ndarray:
        """Which run of the policy's tokens each one belongs to, counted from 0, int32 (S, T); -1 elsewhere."""
        before = np.pad(self.mask, ((0, 0), (1, 0)))[:, :-1]
        return _frozen(np.where(self.mask, np.cumsum(self.mask & ~before, axis=1) - 1, -1).astype(np.int32))

    @cached_property
    def levels(self) -> tuple[Level, ...]:
        """What happens at each position, for backward induction; see `banach.mdp.token_backup`."""
        return levels(self)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of every number that an expectation depends on, as hexadecimal."""
        digest = hashlib.sha256(f"token problem, {self.vocabulary_size} tokens".encode())
        for name in ("prompt_probability", "prompt", "token", "mask", "token_probability", "step_reward"):
            array = getattr(self, name)
            digest.update(f"{name}:{array.dtype}:{array.shape}".encode())
            digest.update(array.data)
        return digest.hexdigest()

    def replace(self, **changes: Any) -> TokenProblem:
        """The problem with some fields changed, as `dataclasses.replace`."""
        return dataclasses.replace(self, **changes)

    def text(self, sequence: int) -> tuple[Any, tuple[int, ...]]:
        """The prompt and the tokens of a sequence, without padding."""
        row = self.token[sequence]
        return self.prompts[self.prompt[sequence]], tuple(row[row >= 0].tolist())

    def mdp(self, criterion: Criterion = TotalReward()) -> MDP:  # noqa: B008 - frozen
        """The problem as an `MDP` of prefixes; see `banach.mdp.token_mdp.to_mdp`."""
        from .token_mdp import to_mdp

        return to_mdp(self, criterion)

    def save(self, path: str | Path) -> None:
        """Write the problem to one .npz file, whole or not at all. Raises OSError."""
        from .token_npz import save

        save(self, path)

    @classmethod
    def load(cls, path: str | Path) -> TokenProblem:
        """Read what `save` wrote; see `banach.mdp.token_npz.load`. Raises FileFormatError, ModelError."""
        from .token_npz import load

        return load(path)

    @classmethod
    def build(
        cls,
        vocabulary_size: int,
        horizon: int,
        prompts: int | Sequence[Any],
        reward: Callable[[Any, tuple[int, ...]], float] | None = None,
        *,
        eos: int | None = None,
        environment: Callable[[Any, tuple[int, ...]], Any] | None = None,
        step_reward: Callable[[Any, tuple[int, ...]], float] | None = None,
        prompt_probability: Any = None,
        max_sequences: int = 1_000_000,
    ) -> TokenProblem:
        """From Python functions of a prompt and its tokens; see `banach.mdp.token_build.build`."""
        from .token_build import build

        return build(
            vocabulary_size, horizon, prompts, reward, eos=eos, environment=environment, step_reward=step_reward,
            prompt_probability=prompt_probability, max_sequences=max_sequences,
        )  # fmt: skip

    @classmethod
    def bandit(cls, reward: Any, prompt_probability: Any = None) -> TokenProblem:
        """From the rewards (V,) of a bandit or (P, V) of a contextual one; see `banach.mdp.token_build.bandit`."""
        from .token_build import bandit

        return bandit(reward, prompt_probability)

    @cached_property
    def _node_of_edge(self) -> np.ndarray:
        return np.searchsorted(self.node_prefix, self.tree.parent)

    def _edge_of(self, of_tokens: np.ndarray) -> np.ndarray:
        """What stands in an array (S, T) at each edge of the tree, (E,)."""
        return of_tokens[self.tree.first]


def _frozen(array: np.ndarray) -> np.ndarray:
    array.setflags(write=False)
    return array
