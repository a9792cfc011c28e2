r"""Preferences between the answers to a prompt as a game, and laws of whole answers as token policies.

The answers to a prompt, in the order in which the problem lists them, are the responses of a `PreferenceGame`; a reference
policy gives them q(y) = prod_t q(y_t | y_{<t}). What solves the game is a law p of answers, and a law is a token policy:

    pi(a | n) = p(n a) / p(n),        p(n) the probability of the answers that begin with the prefix n,

since concatenation is deterministic (Rafailov et al. 2024, arXiv 2404.12358). Where an environment speaks an answer is not the
policy's to choose, and neither holds.

Legend: S sequences, N nodes, V tokens, n answers to the prompt.
"""

from __future__ import annotations

import numpy as np

from .errors import ModelError
from .preference import PreferenceGame, PreferenceOracle
from .token import TokenProblem
from .token_policy import sequence_probability
from .validation import real_array

_SUM = 1e-9
"""By how much a law's sum may miss one."""


def preference_game(
    problem: TokenProblem, prompt: int, reference: np.ndarray, temperature: float, oracle: PreferenceOracle | None = None
) -> PreferenceGame:
    """The game of the n answers to a prompt against a reference policy.

    prompt: its number. reference: logits (N, V). temperature: > 0, the price of a nat.
    oracle: between the n answers in the problem's order, cyclic ones included; None for Bradley and Terry's with the problem's
    rewards. The answers are `np.flatnonzero(problem.prompt == prompt)`.
    Raises ModelError for a prompt that there is not, an environment, an oracle of another size, and as `PreferenceGame`.
    """
    if not 0 <= prompt < problem.n_prompts:
        raise ModelError(f"prompt {prompt} is not there; prompts are 0..{problem.n_prompts - 1}")
    rows = np.flatnonzero(problem.prompt == prompt)
    _require_texts(problem, rows)
    if oracle is None:
        oracle = PreferenceOracle.bradley_terry(problem.reward[rows])
    if oracle.n_responses != len(rows):
        raise ModelError(f"the oracle compares {oracle.n_responses} responses; prompt {prompt} has {len(rows)} answers")
    return PreferenceGame(oracle, sequence_probability(problem, reference)[rows], temperature)


def policy_of_law(problem: TokenProblem, law: np.ndarray) -> np.ndarray:
    """The token policy under which the answers to each prompt have these probabilities, logits (N, V).

    law: (S,), > 0, summing to one over the answers to each prompt.
    Raises ModelError for another shape, for numbers that are no such law, and where an environment speaks.
    """
    _require_texts(problem, np.arange(problem.n_sequences))
    law = real_array("law", law)
    if law.shape != (problem.n_sequences,):
        raise ModelError(f"law has shape {law.shape}; it has one probability a sequence, ({problem.n_sequences},)")
    for row in np.flatnonzero(~((law > 0) & (law <= 1)))[:1]:
        raise ModelError(f"law[{row}] is {law[row]}; finite logits give every answer a chance in (0, 1], mix a little in")
    total = np.bincount(problem.prompt, law, problem.n_prompts)
    for prompt in np.flatnonzero(np.abs(total - 1) > _SUM)[:1]:
        raise ModelError(f"law sums to {float(total[prompt])!r} over the answers to prompt {prompt}; divide them by it")
    size = problem.n_nodes * problem.vocabulary_size
    spread = np.broadcast_to(law[:, None], problem.token.shape)
    passed = np.bincount(problem.policy_index.ravel(), spread.ravel(), size + 1)[:size]
    table = passed.reshape(problem.n_nodes, problem.vocabulary_size)
    return np.log(table / table.sum(axis=1, keepdims=True))


def _require_texts(problem: TokenProblem, rows: np.ndarray) -> None:
    """Raise ModelError unless the policy writes these sequences (n,) alone."""
    spoken = (problem.token[rows] >= 0) & ~problem.mask[rows]
    for row, position in np.argwhere(spoken)[:1]:
        raise ModelError(
            f"sequence {rows[row]}: position {position} is the environment's; a law of answers is a policy's only where it "
            "writes them alone"
        )
