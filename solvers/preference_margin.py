r"""Population optima of the smooth losses of margins: RLHF, DPO and its kin, IPO, SimPO. Wins C sum to one.

DPO        b s = r, the Bradley-Terry fit, whatever the oracle: the same policy as RLHF, q e^(r/b) / Z (Rafailov et al. 2023).
CDPO       DPO of C_ij (1-e) + C_ji e, whose graph of wins is symmetric: a minimiser always exists.
RobustDPO  DPO of ((1-e) C_ij - e C_ji) / (1-2e), the wins before the flips. Where one is negative, because an outcome is rarer
           than flips alone would make it, the loss can fall without end: along d = 1_A its slope is the sum of C_ij over i
           outside and j inside A, and a minimiser exists exactly if that is positive for every proper A of a component. (The
           recession function of the loss is the Lovasz extension of this cut, so that sets are enough; each least cut is a
           linear programme.)
IPO        sum_j S_ij (s_i - s_j) = (1 / tau) sum_j S_ij (P_ij - 1/2), S = C + C': a Laplacian system, for every oracle.
SimPO      u = b log p / length minimises sum_ij C_ij softplus(gamma - (u_i - u_j)); then p = exp(length (c + u / b)) with the
           one c that makes it sum to one.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import linprog
from scipy.special import expit

from .bradley_terry import (
    apart,
    bradley_terry,
    likelihood,
    logistic_scores,
    moments,
    separated_value,
    softplus_of_minus,
    unbeaten,
)
from .crossing import crossing
from .errors import NotConverged
from .gibbs import gibbs, log_total
from .margins import WinGraph, gradient, minimise
from .preference_losses import CDPO, DPO, IPO, RLHF, RobustDPO, SimPO
from .preference_result import Existence, PreferenceOptimum

_CUT = 1e-12
"""Cuts, of wins that sum to one, below which a set of responses is taken to lose to nobody."""


def rlhf_optimum(wins: np.ndarray, reference: np.ndarray, loss: RLHF) -> PreferenceOptimum:
    """Fit the reward, then best policy q e^(r/beta) / Z; wins (n, n), reference (n,). The value is that of the reward's fit."""
    fit = bradley_terry(wins)
    if fit.reward is None:
        return _unbounded(wins, fit.graph, fit.value)
    scores = _two(fit.reward, fit.graph)
    return _solved([gibbs(reference, score / loss.beta) for score in scores], fit.value, fit.residual, fit.message)


def logistic_optimum(wins: np.ndarray, reference: np.ndarray, loss: DPO | CDPO) -> PreferenceOptimum:
    """The optimum of DPO and of its smoothed form; wins (n, n), reference (n,)."""
    if isinstance(loss, CDPO):
        wins = (1 - loss.flip) * wins + loss.flip * wins.T
    graph = WinGraph.of(wins)
    if graph.undefeated is not None:
        return _unbounded(wins, graph, separated_value(wins, graph))
    return _logistic(wins, reference, loss.beta, graph)


def robust_optimum(wins: np.ndarray, reference: np.ndarray, loss: RobustDPO) -> PreferenceOptimum:
    """The optimum of robust DPO; wins (n, n) of flipped labels, reference (n,). Raises NotConverged where float64 ends."""
    clean = ((1 - loss.flip) * wins - loss.flip * wins.T) / (1 - 2 * loss.flip)
    clean = np.where(np.abs(clean) <= 1e-15 * (wins + wins.T), 0.0, clean)
    if (clean >= 0).all():
        return logistic_optimum(clean, reference, DPO(loss.beta))
    graph = WinGraph.of(wins + wins.T)
    try:
        return _logistic(clean, reference, loss.beta, graph)  # a stationary point of a convex loss is its own proof
    except NotConverged:
        cut, inside = _least_cut(clean, graph)
        if cut > _CUT:
            raise
    least, verb = (-np.inf, "falls without end") if cut < -_CUT else (np.nan, "has no minimiser")
    rare = np.unravel_index(clean.argmin(), clean.shape)
    said = (
        f"response {rare[0]} beats response {rare[1]} more rarely than flips of rate {loss.flip} alone would make it: "
        f"the unbiased loss {verb}; lower flip, or use CDPO"
    )
    return PreferenceOptimum(Existence.UNBOUNDED, np.empty((0, len(wins))), least, 0.0, said, inside)


def ipo_optimum(wins: np.ndarray, reference: np.ndarray, loss: IPO) -> PreferenceOptimum:
    """The optimum of IPO by its Laplacian system; wins (n, n), reference (n,)."""
    shown, target, graph = wins + wins.T, 1 / (2 * loss.tau), WinGraph.of(wins + wins.T)
    laplacian = np.diag(shown.sum(axis=1)) - shown
    pull = target * (wins - wins.T).sum(axis=1)
    score = np.zeros(len(wins))
    for number in range(int(graph.component.max()) + 1):
        members = np.flatnonzero(graph.component == number)
        rest = members[1:]
        score[rest] = np.linalg.solve(laplacian[np.ix_(rest, rest)], pull[rest])
        score[members] -= score[members].mean()
    value = float((wins * (score[:, None] - score[None, :] - target) ** 2).sum())
    residual = float(np.abs(gradient(score, wins, lambda m: 2 * (m - target))).max())
    return _solved([gibbs(reference, s) for s in _two(score, graph)], value, residual, _said(graph))


def simpo_optimum(wins: np.ndarray, reference: np.ndarray, loss: SimPO, lengths: np.ndarray) -> PreferenceOptimum:
    """The optimum of SimPO; wins (n, n), lengths (n,) of the responses. The reference (n,) plays no part."""
    graph = WinGraph.of(wins)
    if graph.undefeated is not None:
        return _unbounded(wins, graph, float("nan"))
    score = minimise(
        wins,
        lambda d: softplus_of_minus(d - loss.gamma),
        lambda d: -expit(loss.gamma - d),
        lambda d: expit(loss.gamma - d) * expit(d - loss.gamma),
    )
    value = float((wins * softplus_of_minus(score[:, None] - score[None, :] - loss.gamma)).sum())
    policies = [_normalised(s / loss.beta, lengths) for s in _two(score, graph)]
    residual = max(
        float(np.abs(gradient(loss.beta * np.log(p) / lengths, wins, lambda d: -expit(loss.gamma - d))).max()) for p in policies
    )
    return _solved(policies, value, residual, _said(graph))


def _logistic(wins: np.ndarray, reference: np.ndarray, beta: float, graph: WinGraph) -> PreferenceOptimum:
    score = logistic_scores(wins)
    policies = [gibbs(reference, s / beta) for s in _two(score, graph)]
    with np.errstate(divide="ignore"):
        logs = [np.log(p) - np.log(reference) for p in policies]
    margins = [beta * s if np.isfinite(s).all() else score for s in logs]
    return _solved(policies, likelihood(wins, score), max(moments(wins, m) for m in margins), _said(graph))


def _normalised(mean: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """exp(length (c + mean)) with the one c that makes it a policy."""
    upper = -float(mean.max())
    lower = float((-np.log(len(mean)) / lengths - mean).min())
    shift = crossing(lambda c: log_total(lengths * (c + mean)), lower, upper) if lower < upper else upper
    logs = lengths * (shift + mean)
    return np.exp(logs - log_total(logs))


def _two(score: np.ndarray, graph: WinGraph) -> list[np.ndarray]:
    """The scores; and where components were never compared, others that fit as well."""
    return [score] if graph.connected else [score, score + (graph.component == 0)]


def _said(graph: WinGraph) -> str:
    return "the compared pairs join all responses" if graph.connected else apart(graph)


def _solved(policies: list[np.ndarray], value: float, residual: float, message: str) -> PreferenceOptimum:
    status = Existence.UNIQUE if len(policies) == 1 else Existence.NOT_UNIQUE
    return PreferenceOptimum(status, np.array(policies), value, residual, message)


def _unbounded(wins: np.ndarray, graph: WinGraph, value: float) -> PreferenceOptimum:
    assert graph.undefeated is not None
    direction = graph.undefeated.astype(np.float64)
    return PreferenceOptimum(Existence.UNBOUNDED, np.empty((0, len(wins))), value, 0.0, unbeaten(wins, graph), direction)


def _least_cut(wins: np.ndarray, graph: WinGraph) -> tuple[float, np.ndarray]:
    """Least sum of wins of outside over a proper set of a component, and the set's indicator (n,); wins may be negative."""
    least, inside = np.inf, np.zeros(len(wins))
    for number in range(int(graph.component.max()) + 1):
        members = np.flatnonzero(graph.component == number)
        for other in range(1, len(members)):
            for held in ((0, other), (other, 0)):
                value, chosen = _cut(wins[np.ix_(members, members)], *held)
                if value < least:
                    least, inside = value, np.zeros(len(wins))
                    inside[members] = chosen
    return least, inside


def _cut(wins: np.ndarray, source: int, sink: int) -> tuple[float, np.ndarray]:
    """The least cut with source inside, sink outside: min sum_{i<j} C_ji (d_i - d_j) + S_ij max(0, d_j - d_i), 0 <= d <= 1."""
    n, shown = len(wins), wins + wins.T
    above = np.argwhere(np.triu(shown, 1) > 0)
    cost = np.zeros(n + len(above))
    for pair, (i, j) in enumerate(above):
        cost[i] += wins[j, i]
        cost[j] -= wins[j, i]
        cost[n + pair] = shown[i, j]
    rows = np.zeros((len(above), n + len(above)))
    rows[np.arange(len(above)), above[:, 1]] = 1.0
    rows[np.arange(len(above)), above[:, 0]] = -1.0
    rows[np.arange(len(above)), n + np.arange(len(above))] = -1.0
    bounds = [(0.0, 1.0)] * n + [(0.0, None)] * len(above)
    bounds[source], bounds[sink] = (1.0, 1.0), (0.0, 0.0)
    found = linprog(cost, A_ub=rows, b_ub=np.zeros(len(above)), bounds=bounds, method="highs-ds")
    chosen = np.round(found.x[:n])
    inside = chosen > 0.5
    return float(wins[np.ix_(~inside, inside)].sum()), chosen
