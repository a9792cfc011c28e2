r"""Ambiguity sets from samples: counts of a row's successors in, a set that holds the true row with probability 1 - delta out.

n = sum of the counts over the m entries that the row may reach, phat = counts / n. With probability at least 1 - delta over the
n samples, whatever the true row p:

    Weissman             |phat - p|_1 <= sqrt((2 / n) log((2^m - 2) / delta))                                    an L1 ball
    types                KL(phat || p) <= log(C(n+m-1, m-1) / delta) / n                                         a Burg ball
    Hoeffding            |phat_i - p_i| <= sqrt(log(2m / delta) / (2n))                                        an LInfinity ball
    empirical Bernstein  |phat_i - p_i| <= sqrt(2 V_i log(4m / delta) / n) + 7 log(4m / delta) / (3 (n-1)),      intervals
                         V_i = n / (n-1) phat_i (1 - phat_i)
    Clopper-Pearson      p_i between the beta quantiles delta / (2m) and 1 - delta / (2m) of its count           intervals

and over the posterior of a Dirichlet prior, given the counts,

    credible             |mean - p|_1 <= the ceil((M+1)(1-delta))-th smallest distance of M fresh draws           an L1 ball.

Without samples every row is possible. For all rows of a problem at once give each delta / (number of pairs). Nature may use
every entry counted, seen or not (support "all").

Weissman et al., HPL-2003-97; the method of types: Csiszar, IEEE Trans. Inf. Theory 44, 1998; Maurer and Pontil, COLT 2009;
Clopper and Pearson, Biometrika 26, 1934; Russel and Petrik, NeurIPS 2019 (credible regions).
"""

from __future__ import annotations

import math

import numpy as np

from ..errors import ModelError
from .burg import Burg
from .interval import Interval, LInfinity
from .total_variation import L1

__all__ = ["clopper_pearson", "credible", "empirical", "empirical_bernstein", "hoeffding", "types", "weissman"]

_OUTWARDS = 1 + 1e-12
"""Factor that covers the rounding of a radius."""


def empirical(counts: np.ndarray) -> np.ndarray:
    """The nominal row (m,) of counts (m,): their shares, uniform without samples. Raises ModelError for what is no count."""
    counts = _counts(counts)
    n = counts.sum()
    return counts / n if n else np.full(len(counts), 1 / len(counts))


def weissman(counts: np.ndarray, delta: float) -> L1:
    """L1 ball round the empirical row that holds the true one with probability 1 - delta.

    counts: (m,), samples of each entry. delta: in (0, 1).
    Raises ModelError for what is no count or no such delta.
    """
    counts, n, m = _sample(counts, delta)
    if m == 1:
        return L1(0.0, support="all")
    subsets = m * math.log(2) + math.log1p(-(2.0 ** (1 - m)))
    radius = math.sqrt(2 / n * (subsets - math.log(delta))) if n else 2.0
    return L1(min(2.0, radius * _OUTWARDS), support="all")


def types(counts: np.ndarray, delta: float) -> Burg:
    """Likelihood ball round the empirical row that holds the true one with probability 1 - delta.

    counts: (m,), samples of each entry. delta: in (0, 1).
    Raises ModelError for what is no count or no such delta.
    """
    counts, n, m = _sample(counts, delta)
    if m == 1:
        return Burg(0.0, support="all")
    number = math.lgamma(n + m) - math.lgamma(m) - math.lgamma(n + 1)
    rounding = 1e-14 * (math.lgamma(n + m + 2) + 1)
    return Burg((number + rounding - math.log(delta)) / n * _OUTWARDS if n else math.inf, support="all")


def hoeffding(counts: np.ndarray, delta: float) -> LInfinity:
    """Maximum-norm ball round the empirical row that holds the true one with probability 1 - delta.

    counts: (m,), samples of each entry. delta: in (0, 1).
    Raises ModelError for what is no count or no such delta.
    """
    counts, n, m = _sample(counts, delta)
    radius = math.sqrt(math.log(2 * m / delta) / (2 * n)) if n else 1.0
    return LInfinity(min(1.0, radius * _OUTWARDS), support="all")


def empirical_bernstein(counts: np.ndarray, delta: float) -> Interval:
    """Intervals round the empirical row, narrow for rare entries, that hold the true one with probability 1 - delta.

    counts: (m,), samples of each entry; fewer than two say nothing. delta: in (0, 1).
    Raises ModelError for what is no count or no such delta.
    """
    counts, n, m = _sample(counts, delta)
    if n < 2:
        return Interval(np.zeros(m), np.ones(m))
    share, log = counts / n, math.log(4 * m / delta)
    variance = n / (n - 1) * share * (1 - share)
    reach = (np.sqrt(2 * variance * log / n) + 7 * log / (3 * (n - 1))) * _OUTWARDS
    return Interval(np.maximum(share - reach, 0.0), np.minimum(share + reach, 1.0))


def clopper_pearson(counts: np.ndarray, delta: float) -> Interval:
    """Exact binomial intervals of each entry that hold the true row with probability 1 - delta.

    counts: (m,), samples of each entry. delta: in (0, 1).
    Raises ModelError for what is no count or no such delta.
    """
    from scipy.special import betaincinv

    counts, n, m = _sample(counts, delta)
    tail = delta / (2 * m)
    low = np.where(counts > 0, betaincinv(np.maximum(counts, 1), n - counts + 1, tail), 0.0)
    high = np.where(counts < n, betaincinv(counts + 1, np.maximum(n - counts, 1), 1 - tail), 1.0)
    share = empirical(counts)
    return Interval(np.minimum(low / _OUTWARDS, share), np.maximum(np.minimum(high * _OUTWARDS, 1.0), share))


def credible(
    counts: np.ndarray, delta: float, generator: np.random.Generator, prior: float = 1.0, draws: int = 1000
) -> tuple[np.ndarray, L1]:
    """The posterior mean (m,) and an L1 ball round it of posterior probability at least 1 - delta, the draws averaged over.

    counts: (m,), samples of each entry. delta: in (0, 1). prior: > 0, Dirichlet weight of each entry. draws: M >= 1; where
    (M + 1) delta < 1 the ball is everything.
    Raises ModelError for what is no count, no such delta, prior or number of draws.
    """
    counts, _, m = _sample(counts, delta)
    if not prior > 0 or not np.isfinite(prior):
        raise ModelError(f"prior {prior!r} is not a number > 0; one is the uniform prior")
    if isinstance(draws, bool) or int(draws) != draws or draws < 1:
        raise ModelError(f"draws {draws!r} is not a whole number >= 1; take some hundreds")
    weights = counts + prior
    mean = weights / weights.sum()
    distances = np.sort(np.abs(generator.dirichlet(weights, size=int(draws)) - mean).sum(axis=1))
    place = math.ceil((draws + 1) * (1 - delta))
    radius = distances[place - 1] * _OUTWARDS if place <= draws and m > 1 else 2.0
    return mean, L1(min(2.0, float(radius)), support="all")


def _sample(counts: np.ndarray, delta: float) -> tuple[np.ndarray, int, int]:
    if isinstance(delta, bool) or not np.isscalar(delta) or not 0 < delta < 1:  # pyright: ignore[reportOperatorIssue]
        raise ModelError(f"delta {delta!r} is outside (0, 1); give the probability that the set may miss the true row")
    counts = _counts(counts)
    return counts, int(counts.sum()), len(counts)


def _counts(counts: np.ndarray) -> np.ndarray:
    array = np.asarray(counts)
    if array.ndim != 1 or len(array) == 0 or array.dtype.kind not in "iuf":
        raise ModelError(f"counts have shape {array.shape}, {array.dtype}; give one count for each entry the row may reach")
    wrong = np.flatnonzero(~((array >= 0) & np.isfinite(array) & (np.floor(array) == array)))
    if len(wrong):
        raise ModelError(f"counts: entry {wrong[0]} is {array[wrong[0]]}; counts are whole numbers >= 0")
    return array.astype(np.float64)
