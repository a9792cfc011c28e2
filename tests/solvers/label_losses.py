"""Preference losses one label at a time, as papers print them: no margins summed, no closed forms. For witnesses."""

import numpy as np
from banach.solvers.preference_losses import CDPO, DPO, IPO, ORPO, Hinge, RobustDPO, SimPO, SLiC
from scipy.optimize import minimize


def log_sigmoid(x):
    return -np.logaddexp(0.0, -x)


def of_label(loss, logp, reference, lengths, w, l):  # noqa: E741 - the winner and the loser
    """The loss of a label that prefers w to l."""
    ratio = logp - np.log(reference)
    m = ratio[w] - ratio[l]
    match loss:
        case DPO(beta):
            return -log_sigmoid(beta * m)
        case CDPO(beta, flip):
            return -(1 - flip) * log_sigmoid(beta * m) - flip * log_sigmoid(-beta * m)
        case RobustDPO(beta, flip):
            return (-(1 - flip) * log_sigmoid(beta * m) + flip * log_sigmoid(-beta * m)) / (1 - 2 * flip)
        case IPO(tau):
            return (m - 1 / (2 * tau)) ** 2
        case Hinge(beta):
            return max(0.0, 1 - beta * m)
        case SLiC(margin, weight):
            return max(0.0, margin - logp[w] + logp[l]) - weight * reference @ logp
        case SimPO(beta, gamma):
            return -log_sigmoid(beta * logp[w] / lengths[w] - beta * logp[l] / lengths[l] - gamma)
        case ORPO(weight):
            odds = logp - np.log1p(-np.exp(logp))
            return -logp[w] - weight * log_sigmoid(odds[w] - odds[l])
    raise TypeError(loss)


def population_value(loss, oracle, weights, reference, policy, lengths=None):
    """Expected loss of a label: the ordered pair by weight, its label by the oracle."""
    n, total = len(policy), 0.0
    logp = np.log(policy)
    for i in range(n):
        for j in range(n):
            if i != j and weights[i, j] > 0:
                p = oracle.matrix[i, j]
                total += weights[i, j] * p * of_label(loss, logp, reference, lengths, i, j) if p > 0 else 0.0
                total += weights[i, j] * (1 - p) * of_label(loss, logp, reference, lengths, j, i) if p < 1 else 0.0
    return total / (weights.sum() - np.trace(weights))


def softmax(logits):
    weights = np.exp(logits - logits.max())
    return weights / weights.sum()


def minimised(loss, oracle, weights, reference, lengths=None, method="BFGS"):
    """(policy, value) that a general-purpose minimiser finds over logits, from the reference."""

    def value(logits):
        policy = softmax(np.clip(np.append(logits, 0.0), -40, 40))
        return population_value(loss, oracle, weights, reference, policy, lengths)

    start = np.log(reference[:-1] / reference[-1])
    options = {"maxiter": 4000} | ({"xatol": 1e-9, "fatol": 1e-13} if method == "Nelder-Mead" else {"gtol": 1e-9})
    found = minimize(value, start, method=method, options=options)
    return softmax(np.append(found.x, 0.0)), found.fun
