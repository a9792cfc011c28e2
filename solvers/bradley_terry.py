r"""Bradley-Terry maximum likelihood: the reward behind preferences, where one exists.

r maximises sum_ij C_ij log s(r_i - r_j), C_ij the wins of i over j, s(x) = 1/(1 + e^-x): exactly if for every response

    sum_j (C_ij + C_ji) s(r_i - r_j)  =  sum_j C_ij,

expected wins are observed wins. It exists exactly if within each component of compared responses everyone can be reached
from everyone along wins, and is unique up to one constant exactly if there is one component (Zermelo 1929; Ford, Amer. Math.
Monthly 64, 1957; Hunter, Ann. Statist. 32, 2004).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from .errors import SolveError
from .margins import WinGraph, minimise
from .preference_result import Existence


@dataclass(frozen=True, eq=False)
class RewardFit:
    """A maximum-likelihood reward of n responses.

    status: UNIQUE up to a constant; NOT_UNIQUE where components of responses were never compared with each other; UNBOUNDED
    where the likelihood has no maximum. reward: (n,), of mean zero in each component, or None where UNBOUNDED.
    residual: largest |expected - observed wins| of a response, all wins summing to one. value: negative log-likelihood of a
    label, or its infimum. message: why, in a sentence. undefeated: (n,) bool, where UNBOUNDED: responses that never lose to
    the others and beat some, whose reward runs to infinity; else None.
    """

    status: Existence
    reward: np.ndarray | None
    residual: float
    value: float
    message: str
    graph: WinGraph
    undefeated: np.ndarray | None = None


def bradley_terry(wins: np.ndarray) -> RewardFit:
    """Fit a reward to wins (n, n) >= 0, wins_ij the number, or weight, of labels that prefer i to j; any scale.

    Raises SolveError for wins that are no square table of numbers >= 0 or all zero, NotConverged where float64 ends.
    """
    wins = np.array(wins, dtype=np.float64)
    if wins.ndim != 2 or wins.shape[0] != wins.shape[1] or not np.isfinite(wins).all() or (wins < 0).any():
        raise SolveError(f"wins of shape {wins.shape} must be a square table of finite numbers >= 0")
    np.fill_diagonal(wins, 0.0)
    if not wins.any():
        raise SolveError("nobody was compared with anybody; there is no likelihood to maximise")
    wins /= wins.sum()
    graph = WinGraph.of(wins)
    if graph.undefeated is not None:
        return RewardFit(
            Existence.UNBOUNDED, None, 0.0, separated_value(wins, graph), unbeaten(wins, graph), graph, graph.undefeated
        )
    reward = logistic_scores(wins)
    status = Existence.UNIQUE if graph.connected else Existence.NOT_UNIQUE
    said = "every response is reached from every other along wins" if graph.connected else apart(graph)
    return RewardFit(status, reward, moments(wins, reward), likelihood(wins, reward), said, graph)


def logistic_scores(wins: np.ndarray) -> np.ndarray:
    """The scores (n,) of least `likelihood`, of mean zero in each component; wins (n, n) sum to one.

    They must exist (`WinGraph`). Raises NotConverged where float64 ends.
    """
    return minimise(wins, softplus_of_minus, lambda d: -expit(-d), lambda d: expit(d) * expit(-d))


def moments(wins: np.ndarray, reward: np.ndarray) -> float:
    """Largest |expected - observed wins| of a response; wins (n, n) with zero diagonal, reward (n,)."""
    shown = wins + wins.T
    expected = (shown * expit(reward[:, None] - reward[None, :])).sum(axis=1)
    return float(np.abs(expected - wins.sum(axis=1)).max())


def likelihood(wins: np.ndarray, reward: np.ndarray) -> float:
    """Negative log-likelihood, sum_ij wins_ij log(1 + exp(r_j - r_i)); wins (n, n), reward (n,)."""
    return float((wins * softplus_of_minus(reward[:, None] - reward[None, :])).sum())


def softplus_of_minus(margin: np.ndarray) -> np.ndarray:
    """log(1 + e^-m), of any shape."""
    return np.logaddexp(0.0, -margin)


def separated_value(wins: np.ndarray, graph: WinGraph) -> float:
    """The infimum where the maximum is not reached: blocks drift apart, wins between them cost nothing in the limit.

    wins: (n, n).
    """
    inside = np.where(graph.block[:, None] == graph.block[None, :], wins, 0.0)
    if not inside.any():
        return 0.0
    return likelihood(inside, logistic_scores(inside / inside.sum()))


def unbeaten(wins: np.ndarray, graph: WinGraph) -> str:
    """The pair that makes the likelihood unbounded, in a sentence; wins (n, n)."""
    inside = graph.undefeated
    assert inside is not None
    winner, loser = next((i, j) for i, j in np.argwhere(wins > 0) if inside[i] and not inside[j])
    return (
        f"response {winner} beats response {loser} and no chain of wins leads back: their margin wants to be infinite; "
        "show the pair until both have won, smooth the labels (CDPO) or use IPO"
    )


def apart(graph: WinGraph) -> str:
    """Two responses that no chain of comparisons joins, in a sentence."""
    other = int(np.flatnonzero(graph.component != graph.component[0])[0])
    return f"responses 0 and {other} are joined by no chain of compared pairs: nothing says how far apart they are"
