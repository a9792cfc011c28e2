"""The named token problems on which the catalogue's statements about objectives are measured."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import numpy as np

from ..mdp.instances_token import digit_chain, softmax_bandit, tiny_enum, tool_turns
from ..mdp.token import TokenProblem


@cache
def token_problems() -> Mapping[str, TokenProblem]:
    """Bandits and short sequences, binary and graded rewards, prompts of unlike difficulty, an environment."""
    return dict(bandits()) | {
        "tiny enum": tiny_enum(),
        "two bits": digit_chain(2, 2),
        "one tool call": tool_turns(horizon=3),
    }


@cache
def bandits() -> Mapping[str, TokenProblem]:
    """Problems of one token."""
    return {
        "four arms": softmax_bandit(4),
        "three arms, two contexts": softmax_bandit(3, 2),
        "one right in four": TokenProblem.bandit(np.eye(4)[:1]),
        "easy, fair, hard": TokenProblem.bandit(
            np.array([[1.0, 1, 1, 0, 1, 1], [1, 0, 1, 0, 1, 0], [0, 0, 0, 0, 0, 1]]), np.array([0.5, 0.25, 0.25])
        ),
        "gains and losses": TokenProblem.bandit(np.array([[-1.0, 0.0, 0.5, 2.0, 2.0]])),
    }
