r"""Population optima of the losses that look at one response at a time: KTO and SPPO's step.

KTO. A label makes its winner desirable and its loser undesirable. With the reference point z held fixed, KTO maximises
sum_y b_y h(p_y), h(p) = s(beta (log p/q - z)), b_y = lD * (share of wins) - lU * (share of losses): h = p^beta / (p^beta + c)
is increasing and concave for beta < 1, with infinite slope at 0. So responses with b_y <= 0 get probability zero, the rest
solve b_y h'(p_y) = constant, and z = KL(p | q) closes the loop. Whether z is unique is not known: the answer is a fixed point.

SPPO. Over policies (sum_y q_y e^s = 1) the minimiser of sum_y q_y (s_y - t_y)^2, t = eta (P(y > q) - 1/2), is s = t - W(k e^t),
W Lambert's function, with the one k >= 0 that normalises. Since log Z = log sum q e^t lies in [0, eta^2/8] (Hoeffding), k is
small, and the multiplicative step q e^t / Z of the analysis is the minimiser only where log Z = 0 (Wu et al. 2024,
arXiv 2405.00675).
"""

from __future__ import annotations

import numpy as np
from scipy.special import expit, lambertw

from ..mdp.preference import PreferenceOracle
from .crossing import crossing
from .errors import SolveError
from .gibbs import divergence, gibbs, log_total
from .preference_losses import KTO, SPPO
from .preference_result import Existence, PreferenceOptimum


def kto_optimum(wins: np.ndarray, reference: np.ndarray, loss: KTO) -> PreferenceOptimum:
    """The fixed point of KTO; wins (n, n) that sum to one, reference (n,).

    Raises SolveError where no response is desirable on balance: then every response is pushed down, whatever the policy.
    """
    balance = loss.desirable * wins.sum(axis=1) - loss.undesirable * wins.sum(axis=0)
    inside = balance > 0
    if not inside.any():
        raise SolveError(
            "no response is, weighted, more often desirable than undesirable: KTO pushes every one of them down and settles on "
            "none; raise desirable or lower undesirable"
        )

    def excess(point: float) -> float:
        return divergence(_at_point(balance, reference, inside, point, loss.beta), reference) - point

    highest = float(-np.log(reference[inside].min()))
    point = crossing(excess, 0.0, highest + 1.0) if excess(0.0) > 0 else 0.0
    policy = _at_point(balance, reference, inside, point, loss.beta)
    point = divergence(policy, reference)
    with np.errstate(divide="ignore"):
        worth = expit(loss.beta * (np.log(policy) - np.log(reference) - point))
    pull = balance * loss.beta * worth * (1 - worth)
    residual = float(np.abs(pull - policy * pull.sum()).max())
    value = loss.desirable + loss.undesirable
    value -= float(loss.desirable * wins.sum(axis=1) @ worth + loss.undesirable * wins.sum(axis=0) @ (1 - worth))
    if inside.all():
        return PreferenceOptimum(
            Existence.STATIONARY, policy[None], value, residual, f"fixed point with KL to the reference {point:.6g}"
        )
    gone = ", ".join(map(str, np.flatnonzero(~inside)))
    said = f"weighted, responses {gone} are no more often desirable than undesirable: their probability is driven to zero"
    return PreferenceOptimum(Existence.BOUNDARY, policy[None], value, residual, said)


def _at_point(balance: np.ndarray, reference: np.ndarray, inside: np.ndarray, point: float, beta: float) -> np.ndarray:
    """The policy (n,) that is best with the reference point held fixed, zero outside."""
    logs, gains = np.log(reference[inside]), np.log(balance[inside])

    def logarithms(price: float) -> np.ndarray:
        """log p with b h'(p) = e^price, by bisection: the left-hand side decreases in log p."""
        low, high = np.full(len(logs), -1e4), np.full(len(logs), 1e4)
        for _ in range(70):
            middle = (low + high) / 2
            t = beta * (middle - logs - point)
            above = gains + np.log(beta) - np.logaddexp(0, -t) - np.logaddexp(0, t) - middle > price
            low, high = np.where(above, middle, low), np.where(above, high, middle)
        return (low + high) / 2

    price = crossing(lambda price: log_total(logarithms(price)), -800.0, 800.0)
    policy = np.zeros(len(reference))
    policy[inside] = gibbs(np.ones(len(logs)), logarithms(price))
    return policy


def sppo_optimum(oracle: PreferenceOracle, reference: np.ndarray, loss: SPPO) -> PreferenceOptimum:
    """The minimiser of SPPO's regression over policies; reference (n,) is the policy of the step before."""
    target = loss.eta * (oracle.win_rate(reference) - 0.5)
    with np.errstate(divide="ignore"):
        total = np.log(reference)

    def excess(log_price: float) -> float:
        return log_total(total + _shrunk(target, np.exp(log_price)))

    normaliser = log_total(total + target)
    score = target
    if normaliser > 0:
        # at k the sum is about Z - k, and W(x) <= x gives a sum >= 1 at k = e^-700 and < 1 at k = e^(span)
        score = _shrunk(target, np.exp(crossing(excess, -700.0, loss.eta + 5.0)))
    policy = gibbs(reference, score)
    moved = np.log(policy) - total
    weight = reference * (moved - target)
    residual = float(np.abs(weight - policy * weight.sum()).max())
    value = float(reference @ (moved - target) ** 2)
    said = f"the normaliser of the multiplicative step is log Z = {normaliser:.3g} above eta/2"
    return PreferenceOptimum(Existence.UNIQUE, policy[None], value, residual, said)


def _shrunk(target: np.ndarray, price: float) -> np.ndarray:
    """t - W(k e^t)."""
    return target - np.real(lambertw(price * np.exp(target)))
