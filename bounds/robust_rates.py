r"""How fast robust problems are solved, what factors cost, and what data promise, in exact rationals.

NATURE          v_0 the nominal value of a policy, nature's rows chosen at v_k, v_{k+1} the value of that chain: then
                v_p <= v_{k+1} <= T_p v_k, so that |v_k - v_p| <= g^k |v_0 - v_p| with v_p the robust value.

PARTIAL         policies p_k with v_k within eps_k of v_{p_k}, p_{k+1} greedy for v_k, eps_k = eps c^(k-1), c < g. From
                T_{p_{k+1}} v_{p_k} >= T v_{p_k} - 2 g eps_k follows |v* - v_{p_{k+1}}| <= g |v* - v_{p_k}| + 2 g eps_k / (1-g)
                and, summed, the rate of partial policy iteration,

                |v* - v_{p_{k+1}}| <= g^k |v* - v_{p_1}| + 2 g eps (g^k - c^k) / ((1-g) (g-c)).

FACTORS         rows that mix factors, p_k = sum_i phi_ki mu_i: nature within total variation rho of each factor leaves at least
                what she leaves within rho of each row, since a mixture of balls lies in the ball of the mixture.

PROMISE         a policy that is robust for sets made from samples is worth less than it was promised, anywhere, with
                probability at most delta: only if a set misses its row. Summed over all samples.

False: evaluation as rough as at first does no harm to policy iteration.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import sympy
from flint import fmpq, fmpq_mat

from ..mdp.ambiguity.from_data import clopper_pearson, empirical
from .bound import Bound, Measurement
from .nature import Nature, RobustEvidence, boxes, mixed, variation
from .number import exact
from .rational import NOTHING, RationalEvidence, rational, rationals
from .robust import RADII, robust_problems

k = sympy.Symbol("k", integer=True, nonnegative=True)
g, c, eps, start, delta, rho = sympy.symbols("gamma c epsilon e_0 delta rho", nonnegative=True)
worth = sympy.Symbol("v_rho", real=True)

ROUNDS = 4
"""Improvements that are followed."""

SAMPLES = 6
"""Samples of a row whose every outcome is weighed."""


def _nature(evidence: Any) -> Iterator[Measurement]:
    evidence = rational(evidence, "nature's policy iteration")
    first = np.where(evidence.terminal, -1, 0).astype(np.int32)
    for radius in RADII[1::2]:
        robust = RobustEvidence(evidence, variation(evidence, radius))
        end, rounds = robust.policy_value(first), robust.natures_rounds(first)
        before = next(rounds)
        values = {g: evidence.discount, start: evidence.sup(before - end)}
        for sweeps, value in zip(range(1, ROUNDS + 1), rounds, strict=False):
            yield Measurement(evidence.sup(value - end), values | {k: sweeps}, {"rounds": sweeps, "radius": float(radius)})


def _improved(evidence: RationalEvidence, radius: fmpq, rate: fmpq) -> Iterator[tuple[int, fmpq, fmpq, fmpq]]:
    """(k, loss of the (k+1)st policy, loss of the first, first tolerance) with errors whose signs take turns."""
    robust = RobustEvidence(evidence, variation(evidence, radius))
    optimal = robust.optimal()
    at_optimum = robust.action_values(optimal)
    tolerance = (evidence.span(optimal) + 1) / 4
    for signs in ((1, -1), (-1, 1), (1, 1, -1)):
        turns = np.resize(np.array(signs), len(optimal))
        policy = np.where(evidence.terminal, -1, 0).astype(np.int32)
        first = evidence.sup(optimal - robust.policy_value(policy))
        for number in range(1, ROUNDS + 1):
            value = evidence.moved(robust.policy_value(policy), turns, tolerance * rate ** (number - 1))
            policy = evidence.worst_best(robust.action_values(value), at_optimum)
            yield number, evidence.sup(optimal - robust.policy_value(policy)), first, tolerance


def _partial(evidence: Any) -> Iterator[Measurement]:
    evidence = rational(evidence, "partial policy iteration")
    rate = evidence.discount / 2
    for radius in RADII[1::2] if evidence.discount > 0 else ():
        for number, lost, first, tolerance in _improved(evidence, radius, rate):
            values = {g: evidence.discount, c: rate, eps: tolerance, start: first, k: number}
            yield Measurement(lost, values, {"rounds": number, "radius": float(radius)})


def _careless(evidence: Any) -> Iterator[Measurement]:
    evidence = rational(evidence, "policy iteration with rough evaluation")
    for number, lost, first, _ in _improved(evidence, RADII[1], fmpq(1)):
        yield Measurement(lost, {g: evidence.discount, start: first, k: number}, {"rounds": number})


def _factors(evidence: Any) -> Iterator[Measurement]:
    evidence = rational(evidence, "the cost of factors")
    table = evidence.matrix.table()
    pairs = range(len(table))
    shares = {pair: [(pair, fmpq(1, 2)), ((pair + 1) % len(table), fmpq(1, 2))] for pair in pairs}
    rows = [[(a + b) / 2 for a, b in zip(table[pair], table[(pair + 1) % len(table)], strict=True)] for pair in pairs]
    entries = [p for row in rows for p in row]
    matrix = fmpq_mat(len(rows), len(evidence.terminal), entries)
    mixture = RationalEvidence(evidence.problem, evidence.state_ptr, matrix, evidence.reward, evidence.discount)
    for radius in RADII[1::2]:
        factor = mixed(shares, variation(evidence, radius, everywhere=True))
        factors: Any = RobustEvidence(mixture, factor).optimal()
        apart: Any = RobustEvidence(mixture, variation(mixture, radius, everywhere=True)).optimal()
        for state in evidence.acting.tolist():
            yield Measurement(factors[state], {worth: apart[state]}, {"state": state, "radius": float(radius)})


def _promise(evidence: Any) -> Iterator[Measurement]:
    evidence = rational(evidence, "the promise of data")
    table = evidence.matrix.table()
    unknown = [pair for pair, row in enumerate(table) if sum(p > 0 for p in row) == 2][:2]
    if not unknown:
        return
    for missed in (0.5, 0.1):
        broken = NOTHING
        for counts in itertools.product(range(SAMPLES + 1), repeat=len(unknown)):
            chance = math.prod((_chance(table[pair], n) for pair, n in zip(unknown, counts, strict=True)), start=fmpq(1))
            robust = RobustEvidence(evidence, _sets(table, unknown, counts, missed / len(unknown)))
            promised = robust.optimal()
            worth_of = robust.action_values(promised)
            found = evidence.policy_value(evidence.worst_best(worth_of, worth_of))
            if any(v < w for v, w in zip(found, promised, strict=True)):
                broken += chance
        yield Measurement(broken, {delta: exact(missed)}, {"delta": missed})


def _chance(row: list[fmpq], n: int) -> fmpq:
    """Of seeing the first successor n times."""
    p = next(p for p in row if p > 0)
    return math.comb(SAMPLES, n) * p**n * (1 - p) ** (SAMPLES - n)


def _sets(table: list[list[fmpq]], unknown: list[int], counts: tuple[int, ...], missed: float) -> Nature:
    """Nature within Clopper and Pearson's intervals of the unknown rows; the others are known."""
    ends = [(row, row) for row in table]
    for pair, n in zip(unknown, counts, strict=True):
        sample = np.array([n, SAMPLES - n])
        low, high = (rationals(side) for side in clopper_pearson(sample, missed).entries(empirical(sample)))
        places = [j for j, p in enumerate(table[pair]) if p > 0]
        lower, upper = ([NOTHING] * len(table[pair]) for _ in range(2))
        for j, a, b in zip(places, low, high, strict=True):
            lower[j], upper[j] = a, b
        ends[pair] = (lower, upper)
    return boxes(ends)


_FLAT = "a discounted problem; nature within total variation rho of each row, on its support"
_RATE = {g: "discount", k: "rounds", start: "sup-norm loss of the first policy"}

NATURE = Bound(
    name="nature's policy iteration contracts",
    quantity=r"\|v_k - v_\rho^\pi\|_\infty",
    statement=g**k * start,
    symbols=_RATE | {start: "sup norm of v_0 - v_rho^pi"},
    measure=_nature,
    assumes=_FLAT + "; rows frozen and solved in turn, starting with the nominal ones",
    source="Nilim and El Ghaoui, Oper. Res. 53, 2005, with Howard 1960; derived in the module",
    family="robust",
    axis="rounds",
    problems=robust_problems,
)

PARTIAL = Bound(
    name="rate of partial policy iteration",
    quantity=r"\|v_\rho - v_\rho^{\pi_{k+1}}\|_\infty",
    statement=g**k * start + 2 * g * eps * (g**k - c**k) / ((1 - g) * (g - c)),
    symbols=_RATE | {c: "factor of the tolerances, below gamma", eps: "first tolerance of evaluation"},
    measure=_partial,
    assumes=_FLAT + "; policies evaluated within epsilon c^(k-1), then improved",
    source="Ho, Petrik and Wiesemann, JMLR 22(275), 2021, for its form; constants derived in the module",
    family="robust",
    axis="rounds",
    problems=robust_problems,
)

FACTORS = Bound(
    name="nature can do no more with factors than with rows",
    quantity=r"v_\rho^{\mathrm{factors}}(s)",
    statement=worth,
    symbols={worth: "robust value of nature within rho of each row"},
    measure=_factors,
    assumes="each row the mean of two factors; nature within total variation rho of each factor, to any state",
    source="Ma et al. 2022, arXiv 2209.06620, for the sets; derived in the module",
    sense="at least",
    family="robust",
    problems=robust_problems,
)

PROMISE = Bound(
    name="promises made from data are seldom broken",
    quantity=r"\Pr(\exists s: v^{\hat\pi}(s) < \hat v(s))",
    statement=delta,
    symbols={delta: "probability that a set may miss its row"},
    measure=_promise,
    assumes="at most two rows unknown, of two outcomes each, independently sampled; Clopper and Pearson's intervals at delta "
    "over their number; the policy and its promise robust for these",
    source="Clopper and Pearson 1934; Nilim and El Ghaoui, Oper. Res. 53, 2005, section 5, for the use",
    family="robust",
    problems=robust_problems,
)

CATALOGUE = (NATURE, PARTIAL, FACTORS, PROMISE)

CARELESS = Bound(
    name="rough evaluation does no harm to policy iteration",
    quantity=r"\|v_\rho - v_\rho^{\pi_{k+1}}\|_\infty",
    statement=g**k * start,
    symbols=_RATE,
    measure=_careless,
    assumes=_FLAT + "; policies evaluated within a quarter of the span of the value and one, then improved",
    source="false: the errors of evaluation must shrink faster than the discount does",
    family="false",
    problems=robust_problems,
)

FALSEHOODS = (CARELESS,)
