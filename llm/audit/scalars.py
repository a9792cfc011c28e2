r"""Scalars a loss may be found to ascend, each as the score weight of its gradient.

Every candidate field is E_{y ~ pi} sum_t omega_t(y) grad log pi(y_t | prefix); a scalar is its omega. With p the prompt's
expected reward, |y| the number of policy tokens, l and r the log-probabilities under pi and under the reference:

    J = E R                            R                 2 arcsin sqrt(p)      R / sqrt(p (1-p))
    log p                              R / p             1 - (1-p)^k           k (1-p)^{k-1} R
    entropy                            -log pi(y)        E |y|, E 1/|y|        |y|, 1/|y|
    E[(R - b)/|y|], b = p held fixed   (R - p) / |y|     (no gradient of any scalar once b moves with the policy)
    KL(pi || ref)                      sum_t (l - r)     KL(ref || pi)         -prod_t ref/pi
    the same token by token, with the visited prefixes held fixed:  l_t - r_t  and  1 - ref_t/pi_t

The last two are what the "k2" and "k3" penalties differentiate to (Schulman, "Approximating KL divergence", 2020; the
gradients: Tang and Munos 2025, arXiv 2506.09477). The arcsine of GRPO's standard deviation: Mroueh 2025, arXiv 2503.06639.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ...mdp.token import TokenProblem
from .enumeration import Setting, field_of, sequence_probability, token_logp
from .subject import Array

J = "J, the expected reward"
FROZEN = "E[(R - b)/|y|], b the prompt's mean reward held fixed"
ARCSINE = "the mean over prompts of 2 arcsin sqrt(p), p the success rate"
NO_GRADIENTS = (FROZEN,)
"""Candidates that are directions but no scalar's gradient, since something in them is held fixed."""


@dataclass(frozen=True)
class Match:
    """How far a field is a multiple of a candidate's: field = scale * candidate + rest, residual = |rest| / |field|."""

    name: str
    scale: float
    residual: float
    cosine: float


def is_binary(problem: TokenProblem) -> bool:
    """Whether every reward is 0 or 1."""
    return bool(np.isin(problem.reward, (0.0, 1.0)).all())


def prompt_mean(problem: TokenProblem, logits: Array, value: Array) -> Array:
    """E[value | prompt] of each sequence's prompt, shape (S,); value (S,)."""
    weighted = sequence_probability(problem, logits) * value
    return np.bincount(problem.prompt, weights=weighted, minlength=problem.n_prompts)[problem.prompt]


def reward_fields(problem: TokenProblem, logits: Array, group_size: int) -> dict[str, Array]:
    """The candidate fields (N, V) without a reference, by name."""
    reward = problem.reward
    length = problem.mask.sum(axis=1)
    mean = prompt_mean(problem, logits, reward)
    omega = {
        J: reward,
        FROZEN: (reward - mean) / length,
        "E[R/|y|], reward per token": reward / length,
        "E[1/|y|], short answers": 1 / length,
        "E|y|, long answers": length,
        "the entropy of the policy": -token_logp(problem, logits).sum(axis=1),
    }
    if is_binary(problem):
        omega[ARCSINE] = reward / np.sqrt(np.clip(mean * (1 - mean), 1e-300, None))
        omega["the mean over prompts of log p, p the success rate"] = reward / np.clip(mean, 1e-300, None)
        for k in sorted({2, group_size, 8} - {1}):
            omega[f"pass@{k}"] = k * (1 - mean) ** (k - 1) * reward
    return {name: _field(problem, logits, weight) for name, weight in omega.items()}


def divergence_fields(problem: TokenProblem, logits: Array, ref: Array, group_size: int) -> dict[str, Array]:
    """The fields (N, V) that penalties of a reference's logits (N, V) may DESCEND, by name, up to a positive factor."""
    policy_logp, ref_logp = token_logp(problem, logits), token_logp(problem, ref)
    ratio = policy_logp - ref_logp
    length = problem.mask.sum(axis=1, keepdims=True)
    own = {
        "KL(pi || ref)": np.broadcast_to(ratio.sum(axis=1, keepdims=True), ratio.shape),
        "KL(ref || pi)": np.broadcast_to(-np.exp(-ratio.sum(axis=1, keepdims=True)), ratio.shape),
        "KL(pi || ref) token by token": ratio,
        "KL(ref || pi) token by token": 1 - np.exp(-ratio),
    }
    shared = _shared_length(problem, logits, group_size)[:, None]
    omega = dict(own)
    omega |= {f"{name}, over the answer's length": weight / length for name, weight in own.items()}
    omega |= {f"{name}, over the group's tokens": weight / shared for name, weight in own.items()}
    omega["-E[1/|y|], which is no divergence but a push to long answers"] = np.broadcast_to(1 / length, ratio.shape)
    omega["a push on length by the group's tokens, no divergence"] = np.broadcast_to(1 / shared, ratio.shape)
    return {name: _field(problem, logits, weight) for name, weight in omega.items()}


def _shared_length(problem: TokenProblem, logits: Array, group_size: int) -> Array:
    """1 / E[1 / tokens of the group | this sequence in it], shape (S,)."""
    probability = sequence_probability(problem, logits)
    length = problem.mask.sum(axis=1)
    shared = np.empty(len(length))
    for prompt in range(problem.n_prompts):
        own = problem.prompt == prompt
        law = np.ones(1)
        for _ in range(group_size - 1):
            law = np.convolve(law, np.bincount(length[own], weights=probability[own]))
        total = length[own][:, None] + np.arange(len(law))
        shared[own] = 1 / (law / total).sum(axis=1)
    return shared


def _field(problem: TokenProblem, logits: Array, weight: Array) -> Array:
    weight = np.asarray(weight, dtype=float)
    full = np.broadcast_to(weight[:, None] if weight.ndim == 1 else weight, problem.mask.shape)
    return field_of(problem, Setting(logits), full)


def compare(name: str, field: Sequence[Array], candidate: Sequence[Array]) -> Match:
    """One scale for all the policies at which both fields, lists of arrays of shape (N, V), were taken."""
    g = np.concatenate([array.ravel() for array in field])
    f = np.concatenate([array.ravel() for array in candidate])
    size, other = float(np.linalg.norm(g)), float(np.linalg.norm(f))
    if size == 0 or other == 0:
        return Match(name, 0.0, float("nan"), float("nan"))
    scale = float(g @ f) / other**2
    rest = float(np.linalg.norm(g - scale * f))
    return Match(name, scale, rest / size, float(g @ f) / (size * other))


def best_match(field: Sequence[Array], candidates: Sequence[Mapping[str, Array]], positive: bool = False) -> list[Match]:
    """Candidates from the nearest to the farthest; with `positive`, those with a negative scale come after all others."""
    found = [compare(name, field, [fields[name] for fields in candidates]) for name in candidates[0]]
    found = [match for match in found if np.isfinite(match.residual)]
    return sorted(found, key=lambda match: (positive and match.scale < 0, match.residual))
