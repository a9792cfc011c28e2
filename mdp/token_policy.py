r"""What a tabular policy of a token problem is worth, by enumeration: nothing is sampled.

A policy is a table of logits, one row a node, pi(a | n) = exp(l_{n,a}) / sum_b exp(l_{n,b}). With the occupancy d(n), the
probability that a sequence passes through node n, prompts drawn from rho,

    dJ / dl_{n,a} = d(n) pi(a | n) (Q(n, a) - U(n)),        Q(n, a) the reward still to come, U(n) = sum_a pi(a | n) Q(n, a),
    H = - E log pi(y) = sum_n d(n) H(pi(. | n)),        KL(pi, q) = E log pi(y)/q(y) = sum_n d(n) KL(pi(. | n), q(. | n)),

log pi(y) being of the policy's tokens alone. Success at k attempts is 1 - (1 - p)^k for a prompt whose probability of success
is p, and from c successes among m >= k attempts

    1 - C(m - c, k) / C(m, k)        estimates it without bias.

Sutton, McAllester, Singh and Mansour 2000 (the gradient); Chen et al. 2021, arXiv 2107.03374 (the estimator).

Legend: S sequences, N nodes, V tokens, P prompts. Everywhere `logits` is (N, V), finite; ModelError says what is not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import ModelError
from .token_backup import backup
from .validation import real_array

if TYPE_CHECKING:
    from .token import TokenProblem

_WIDEST = 1e300
"""Logits further apart overflow when they are added along a sequence."""


def log_policy(problem: TokenProblem, logits: np.ndarray) -> np.ndarray:
    """log pi(a | n), shape (N, V), of logits (N, V). Raises ModelError unless they are finite and of this shape."""
    table = real_array("logits", logits)
    shape = (problem.n_nodes, problem.vocabulary_size)
    if table.shape != shape:
        raise ModelError(f"logits has shape {table.shape}; it must be (nodes, tokens) = {shape}")
    with np.errstate(over="ignore", invalid="ignore"):
        shifted = table - table.max(axis=1, keepdims=True)
    far = ~((np.abs(shifted) <= _WIDEST) & (np.abs(table) <= _WIDEST))
    if far.any():
        node, token = np.argwhere(far)[0] if np.isfinite(table).all() else np.argwhere(~np.isfinite(table))[0]
        raise ModelError(
            f"logits of node {node}: token {token} has {table[node, token]}; give finite ones, at most {_WIDEST:g}"
        )
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def sequence_log_probability(problem: TokenProblem, logits: np.ndarray) -> np.ndarray:
    """Sum of log pi over the policy's tokens of each sequence, shape (S,). Raises ModelError."""
    return _along(problem, log_policy(problem, logits))


def sequence_probability(problem: TokenProblem, logits: np.ndarray) -> np.ndarray:
    """P(y | prompt) of each sequence, the environment's tokens included, shape (S,). Raises ModelError."""
    return problem.environment_probability * np.exp(sequence_log_probability(problem, logits))


def expected_reward(problem: TokenProblem, logits: np.ndarray) -> float:
    """J, the expected total reward; logits as in `log_policy`, shape (N, V). Raises ModelError."""
    return float(_weight(problem, logits) @ problem.reward)


def prompt_reward(problem: TokenProblem, logits: np.ndarray) -> np.ndarray:
    """Expected total reward of each prompt, shape (P,). Raises ModelError."""
    return _by_prompt(problem, sequence_probability(problem, logits) * problem.reward)


def expected_reward_gradient(problem: TokenProblem, logits: np.ndarray) -> np.ndarray:
    """dJ / dlogits, shape (N, V). Raises ModelError.

    By advantages, and not by sums of rewards, so that a constant added to all of them changes nothing but rounding.
    """
    policy = np.exp(log_policy(problem, logits))
    value, action_value = _values(problem, policy)
    return occupancy(problem, logits)[:, None] * policy * (action_value - value[:, None])


def occupancy(problem: TokenProblem, logits: np.ndarray) -> np.ndarray:
    """Probability that a sequence passes through each node, prompts drawn too, shape (N,). Raises ModelError."""
    return token_occupancy(problem, logits).sum(axis=1)


def token_occupancy(problem: TokenProblem, logits: np.ndarray) -> np.ndarray:
    """Probability that a sequence passes through each node by each token, shape (N, V). Raises ModelError."""
    return _through(problem, _weight(problem, logits))


def value(problem: TokenProblem, logits: np.ndarray) -> np.ndarray:
    """Expected reward still to come at each node, shape (N,). Raises ModelError."""
    return _values(problem, np.exp(log_policy(problem, logits)))[0]


def action_value(problem: TokenProblem, logits: np.ndarray) -> np.ndarray:
    """Expected reward still to come at each node after each token, its own included, shape (N, V). Raises ModelError."""
    return _values(problem, np.exp(log_policy(problem, logits)))[1]


def advantage(problem: TokenProblem, logits: np.ndarray) -> np.ndarray:
    """Action value less value, shape (N, V). Raises ModelError."""
    worth, of_action = _values(problem, np.exp(log_policy(problem, logits)))
    return of_action - worth[:, None]


def expected_length(problem: TokenProblem, logits: np.ndarray) -> float:
    """Expected number of the policy's tokens; logits (N, V). Raises ModelError."""
    return float(_weight(problem, logits) @ problem.length)


def entropy(problem: TokenProblem, logits: np.ndarray) -> float:
    """Sequence entropy in nats, -E log pi(y); the environment's randomness and the prompts' left out. Raises ModelError.

    logits: (N, V). With turns it is the causally conditioned entropy (Ziebart, Bagnell and Dey 2010).
    """
    logp = log_policy(problem, logits)
    return float(occupancy(problem, logits) @ -(np.exp(logp) * logp).sum(axis=1))


def mean_token_entropy(problem: TokenProblem, logits: np.ndarray) -> float:
    """Entropy in nats of the policy at a token drawn from all tokens of a large batch: entropy over expected length.

    logits: (N, V). Raises ModelError.
    """
    return entropy(problem, logits) / expected_length(problem, logits)


def divergence(problem: TokenProblem, logits: np.ndarray, other: np.ndarray) -> float:
    """KL(pi, other) of the sequences, E_pi log pi(y) / other(y), in nats, never negative; both (N, V). Raises ModelError."""
    return float(occupancy(problem, logits) @ token_divergence(problem, logits, other))


def token_divergence(problem: TokenProblem, logits: np.ndarray, other: np.ndarray) -> np.ndarray:
    """KL(pi(. | n), other(. | n)) of each node, in nats, shape (N,). Raises ModelError.

    Summed as p (d + exp(-d) - 1), d = log p/q, whose terms are never negative.
    """
    ours, theirs = log_policy(problem, logits), log_policy(problem, other)
    p, gap = np.exp(ours), ours - theirs
    near = np.abs(gap) < 1
    small = np.where(near, gap, 0.0)
    return np.where(near, p * (small + np.expm1(-small)), p * gap + (np.exp(theirs) - p)).sum(axis=1)


def total_variation(problem: TokenProblem, logits: np.ndarray, other: np.ndarray) -> float:
    """Half the summed difference of the sequences' probabilities, prompts drawn, in [0, 1]; both (N, V). Raises ModelError."""
    return float(np.abs(_weight(problem, logits) - _weight(problem, other)).sum() / 2)


def chi_square(problem: TokenProblem, logits: np.ndarray, other: np.ndarray) -> float:
    """Variance of the sequence ratio pi(y) / other(y) under other, infinite where it overflows; both (N, V).

    Raises ModelError.
    """
    theirs = sequence_log_probability(problem, other)
    gap = sequence_log_probability(problem, logits) - theirs
    below = np.minimum(gap, 1.0)
    above = np.maximum(gap, 1.0)
    with np.errstate(over="ignore"):  # the product in logarithms, for a ratio may overflow that is never drawn
        term = np.where(
            gap <= 1, np.exp(theirs) * np.expm1(below) ** 2, np.exp(theirs + 2 * (above + np.log1p(-np.exp(-above))))
        )
    chance = problem.prompt_probability[problem.prompt] * problem.environment_probability
    return float((chance[chance > 0] * term[chance > 0]).sum())


def success_probability(problem: TokenProblem, logits: np.ndarray, threshold: float = 1.0) -> np.ndarray:
    """Probability that the total reward is at least `threshold`, of each prompt, in [0, 1], shape (P,). Raises ModelError."""
    right = sequence_probability(problem, logits) * (problem.reward >= threshold)
    return np.minimum(_by_prompt(problem, right), 1.0)


def pass_at_k(problem: TokenProblem, logits: np.ndarray, k: int, threshold: float = 1.0) -> float:
    """Probability that one of k independent attempts at a prompt succeeds, prompts drawn; logits (N, V), k >= 1.

    Raises ModelError.
    """
    _require_attempts(k, k)
    chance = success_probability(problem, logits, threshold)
    with np.errstate(divide="ignore"):
        return float(problem.prompt_probability @ -np.expm1(k * np.log1p(-chance)))


def pass_at_k_estimate(attempts: int, successes: Any, k: int) -> np.ndarray:
    """1 - C(m - c, k) / C(m, k) for m attempts and c successes, any number of them, of the shape of `successes`.

    1 <= k <= attempts, successes in 0..attempts. Raises ModelError for anything else.
    """
    _require_attempts(k, attempts)
    count = real_array("successes", successes)
    if ((count < 0) | (count > attempts) | (count != np.floor(count))).any():
        raise ModelError(f"successes must be whole numbers in 0..{attempts}; they are {successes!r}")
    failures = (attempts - count)[..., None]
    drawn = np.arange(k)
    return 1.0 - np.prod(np.maximum(failures - drawn, 0.0) / (attempts - drawn), axis=-1)


def _require_attempts(k: int, attempts: int) -> None:
    for name, number in (("k", k), ("attempts", attempts)):
        if isinstance(number, bool) or not isinstance(number, int | np.integer) or number < 1:
            raise ModelError(f"{name} is {number!r}; give an integer >= 1")
    if k > attempts:
        raise ModelError(f"k is {k} and there are {attempts} attempts; draw at least k")


def _along(problem: TokenProblem, table: np.ndarray) -> np.ndarray:
    return np.append(table, 0.0)[problem.policy_index].sum(axis=1)


def _through(problem: TokenProblem, weight: np.ndarray) -> np.ndarray:
    """Of each node and token the summed weight (S,) of the sequences that pass there, (N, V)."""
    size = problem.n_nodes * problem.vocabulary_size
    spread = np.broadcast_to(weight[:, None], problem.token.shape)
    passed = np.bincount(problem.policy_index.ravel(), spread.ravel(), size + 1)
    return passed[:size].reshape(problem.n_nodes, problem.vocabulary_size)


def _weight(problem: TokenProblem, logits: np.ndarray) -> np.ndarray:
    return problem.prompt_probability[problem.prompt] * sequence_probability(problem, logits)


def _by_prompt(problem: TokenProblem, number: np.ndarray) -> np.ndarray:
    return np.bincount(problem.prompt, number, problem.n_prompts)


def _values(problem: TokenProblem, policy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    _, at_node, at_token = backup(problem, lambda nodes, worth: (policy[nodes] * worth).sum(axis=1))
    return at_node, at_token
