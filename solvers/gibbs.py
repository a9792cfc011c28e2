r"""Gibbs policies and the divergence that they minimise.

    argmax_p  <p, r> - t KL(p | q)  =  q e^(r/t) / Z,      the maximum being  t log Z,  Z = sum_y q_y e^(r_y/t)

(the variational formula of Donsker and Varadhan 1975; Gibbs).
"""

from __future__ import annotations

import numpy as np


def gibbs(reference: np.ndarray, score: np.ndarray) -> np.ndarray:
    """q e^s / Z, (n,), for a reference (n,) >= 0 and scores (n,)."""
    with np.errstate(divide="ignore"):
        exponent = np.log(reference) + score
    weights = np.exp(exponent - exponent.max())
    return weights / weights.sum()


def log_total(exponent: np.ndarray) -> float:
    """log sum e^x of exponents (n,)."""
    largest = float(exponent.max())
    return largest + float(np.log(np.exp(exponent - largest).sum()))


def divergence(policy: np.ndarray, reference: np.ndarray) -> float:
    """KL(p | q) in nats of two distributions (n,); infinite where p > 0 = q."""
    inside = policy > 0
    if (reference[inside] == 0).any():
        return float("inf")
    ratio = policy[inside] / reference[inside]
    return max(0.0, float(policy[inside] @ np.log(ratio)))
