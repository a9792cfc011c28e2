r"""Regressing the log-ratio on advantages, solved: the exploratory optimum of Direct Advantage Policy Optimization.

At a state with reference q, advantages A (E_q A = 0), actions explored with nu > 0 and temperature b, the minimiser of

    H(pi) = 1/2 E_{a ~ nu} (A(a)/b - log pi(a)/q(a))^2        over distributions

has u = log pi+/q with nu (A/b - u) = l pi+, l >= 0 the multiplier of the simplex, hence

    u(a) = A(a)/b - W(l (q(a)/nu(a)) e^{A(a)/b}),        W of Lambert, l from sum_a q e^u = 1,

and the regularised improvement I = E_{pi+}[A - b log pi+/q] = b l sum_a pi+(a)^2 / nu(a) >= 0. For nu = q, l = KL(q | pi+) and
I = b KL(q | pi+) (1 + chi^2(pi+ | q)). At every state of a tree V^{pi+} >= V^q then, regularised and not.

Liu et al. 2024, arXiv 2412.18279; the closed form is proved by the conditions of Karush, Kuhn and Tucker.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from scipy.optimize import brentq
from scipy.special import wrightomega

from ..mdp import token_policy
from ..mdp.errors import ModelError
from ..mdp.token import TokenProblem
from ..mdp.validation import real_array


def exploratory_optimum(
    reference: np.ndarray, advantage: np.ndarray, temperature: float, exploration: np.ndarray
) -> tuple[np.ndarray, float]:
    """pi+, (n,), and the multiplier l, of reference, advantages and exploration, (n,) each.

    Raises ModelError unless reference and exploration are positive and sum to one, the temperature is positive, and advantages
    are finite and have a mean of at least zero under the reference, without which the multiplier is negative and nothing is
    promised.
    """
    q, A, nu = (
        real_array(name, x) for name, x in (("reference", reference), ("advantage", advantage), ("exploration", exploration))
    )
    if not np.isfinite(A).all():
        raise ModelError(f"advantages {A.tolist()} are not all finite; look for what made them")
    for name, law in (("reference", q), ("exploration", nu)):
        if law.shape == A.shape and A.ndim == 1 and (law <= 0).any():
            action = int((law <= 0).argmax())
            raise ModelError(
                f"{name}[{action}] is {law[action]:g}: what is not explored may swallow the improvement, and a reference of "
                "zero has no log-ratio; give every action a positive probability, or leave it out of both"
            )
        if law.shape != A.shape or A.ndim != 1 or abs(law.sum() - 1) > 1e-9:
            raise ModelError(
                f"{name} has shape {law.shape} and sums to {law.sum():g}; give positive probabilities, one an action"
            )
    if not 0 < temperature < float("inf"):
        raise ModelError(f"temperature is {temperature}; give a positive number")
    pull = A / temperature
    if q @ A < -1e-9 * (1 + np.abs(A).max()):
        raise ModelError(f"the advantages have mean {q @ A:g} under the reference; subtract their mean first")
    shape = np.log(q / nu) + pull

    def excess(log_multiplier: float) -> float:
        return float((q * np.exp(pull - wrightomega(log_multiplier + shape).real)).sum() - 1)

    if np.ptp(A) <= 1e-15 * max(1.0, np.abs(A).max()) or (q * np.exp(np.minimum(pull, 700.0))).sum() - 1 <= 1e-14:
        return q.copy(), 0.0
    low, high = -745.0, float(np.abs(shape).max() + 50.0)
    if excess(low) <= 0:
        return q * np.exp(pull) / (q * np.exp(pull)).sum(), 0.0
    log_multiplier = float(brentq(excess, low, high, xtol=1e-14, rtol=8.9e-16, maxiter=500))  # pyright: ignore[reportArgumentType]
    policy = q * np.exp(pull - wrightomega(log_multiplier + shape).real)
    return policy / policy.sum(), float(np.exp(log_multiplier))


def direct_advantage_step(
    problem: TokenProblem,
    logits: np.ndarray,
    temperature: float,
    exploration: Literal["reference", "uniform"] = "reference",
) -> np.ndarray:
    """Logits (N, V) of pi+ at every node, with exact advantages of the policy (N, V) and one token a step.

    Raises ModelError for another exploration, and as `exploratory_optimum`.
    """
    if exploration not in ("reference", "uniform"):
        raise ModelError(f"exploration={exploration!r}; give reference or uniform")
    policy, advantage = np.exp(token_policy.log_policy(problem, logits)), token_policy.advantage(problem, logits)
    found = np.empty_like(policy)
    for node, (q, A) in enumerate(zip(policy, advantage, strict=True)):
        nu = q if exploration == "reference" else np.full(len(q), 1 / len(q))
        found[node] = np.log(np.maximum(exploratory_optimum(q / q.sum(), A - q @ A, temperature, nu / nu.sum())[0], 1e-300))
    return found
