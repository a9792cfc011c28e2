r"""The KL-regularised optimum of a token problem, by soft backward induction over prefixes.

    maximise   E[ R(y) ] - beta E[ log pi(y) / q(y) ]       over policies pi, q the reference, both of the policy's tokens.

At a node, with the action values Q(n, a) of the optimum itself,

    U(n) = beta log sum_a q(a | n) exp(Q(n, a) / beta),        pi*(a | n) = q(a | n) exp((Q(n, a) - U(n)) / beta),

and where the environment moves U is the mean of Q, not its soft maximum: its probabilities are not the policy's to tilt.
Without environment this is Gibbs' distribution on whole sequences,

    pi*(y | x) = q(y | x) exp(R(y) / beta) / Z(x),        U(x) = beta log Z(x);

with one it is not, for that formula would tilt the environment's tokens too, and by Jensen promise at least as much.

Todorov, PNAS 106, 2009; Korbak, Perez and Buckley 2022, arXiv 2205.11275; Rafailov et al. 2023, arXiv 2305.18290.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..mdp.token import TokenProblem
from ..mdp.token_backup import backup
from ..mdp.token_policy import log_policy
from ..mdp.validation import is_real
from .errors import SolveError


@dataclass(frozen=True, eq=False)
class RegularisedOptimum:
    """The best policy against a reference. N nodes, V tokens, P prompts.

    logits: (N, V), log pi*. value: best regularised reward, the prompts drawn.
    prompt_value: (P,), U at the prompts. node_value: (N,), U at the nodes. action_value: (N, V), Q.
    """

    logits: np.ndarray
    value: float
    prompt_value: np.ndarray
    node_value: np.ndarray
    action_value: np.ndarray


def regularised_optimum(problem: TokenProblem, reference_logits: np.ndarray, beta: float) -> RegularisedOptimum:
    """The policy of greatest expected reward less beta KL to the reference, and its value.

    reference_logits: (N, V), finite. beta: > 0, reward a nat.
    Raises SolveError for another beta, or one so small that the optimum's log-probabilities overflow; ModelError for logits
    that are no policy.
    """
    if not (is_real(beta) and 0 < beta < math.inf):
        raise SolveError(f"beta is {beta!r}; it must be a positive number, the price of a nat of divergence")
    beta, reference = float(beta), log_policy(problem, reference_logits)
    logits = np.empty_like(reference)

    def choose(nodes: slice, action_value: np.ndarray) -> np.ndarray:
        best = action_value.max(axis=1, keepdims=True)
        tilted = reference[nodes] + (action_value - best) / beta
        most = tilted.max(axis=1, keepdims=True)
        total = most + np.log(np.exp(tilted - most).sum(axis=1, keepdims=True))
        logits[nodes] = tilted - total
        return (best + beta * total)[:, 0]

    with np.errstate(over="ignore", invalid="ignore"):
        prompt_value, node_value, action_value = backup(problem, choose)
    if not (np.isfinite(logits).all() and np.isfinite(prompt_value).all()):
        raise SolveError(
            f"beta {beta:g} is so small, or so large, that rewards over beta overflow; solve(problem.mdp()) has no beta"
        )
    return RegularisedOptimum(logits, float(problem.prompt_probability @ prompt_value), prompt_value, node_value, action_value)
