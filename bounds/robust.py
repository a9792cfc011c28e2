r"""What a hostile nature costs: robust problems with balls of total variation rho round each row, in exact rationals.

A row moved by rho sees a function f differently by at most rho span(f), and nature who may move it so takes all of that when
it has the mass. T_rho is the robust operator, v_rho its fixed point, v* = v_0; nature keeps to the row's own successors unless
something else is said.

CONTRACTION     |T_rho u - T_rho v| <= g |u - v| (Iyengar 2005, theorem 3.2).

SIMULATION      two kernels within rho of the nominal one give a policy values v, v' with
                |v - v'| <= 2 g rho span(v') / (1-g), since they are 2 rho apart (see `banach.bounds.models`).

PRICE           v* - v_rho <= g rho span(v*) / (1-g): T_rho v* >= v* - g rho span(v*), a residual.

SENSITIVITY     |v_rho - v_tau| <= g (tau - rho) span(v_rho) / (1-g) for rho < tau: the same for two radii.

NOMINAL_POLICY  the nominal optimal policy p guarantees v_rho^p >= v_rho - g rho span(v*) / (1-g): T_rho^p v* >= v* - g rho
                span(v*) as well, and v_rho <= v*.

SHRINKAGE       nature who may send mass to any state makes values alike:
                span(T_rho^k 0) <= span(r) (1 - q^k) / (1 - q), q = g (1 - rho)_+, for without terminal states
                min v <= sigma(v) <= (1 - rho) p.v + rho min v (Liu and Xu 2024, in finite horizon).

CONTAMINATION   with an absorbing state worth nothing, rewards of at least zero and nature who takes over with probability e,
                v_e is the plain value at discount g (1 - e): she always goes there.

COVERAGE        Weissman's and Clopper and Pearson's sets miss a true row of the problem with probability at most delta; summed
                over all samples.

False: a smaller radius costs in proportion; in s-rectangular sets deterministic policies suffice (there nature must choose
before she sees the action: Wiesemann, Kuhn and Rustem 2013); the nominal policy is good enough.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import sympy
from flint import fmpq, fmpq_mat

from ..mdp.ambiguity.from_data import clopper_pearson, empirical, weissman
from ..mdp.criterion import Discounted
from ..mdp.instances.rows import from_lists
from ..mdp.model import MDP
from . import specimens
from .bound import Bound, Measurement
from .nature import RobustEvidence, contamination, listed, variation
from .number import exact
from .probes import vectors
from .rational import NOTHING, ONE, RationalEvidence, rational, rationals

k = sympy.Symbol("k", integer=True, nonnegative=True)
g, e, rho, tau, delta, apart, span, rewards, w, cost = sympy.symbols(
    "gamma epsilon rho tau delta Delta sigma sigma_r w c", nonnegative=True
)
worth = sympy.Symbol("v_p", real=True)

RADII = (fmpq(1, 16), fmpq(1, 8), fmpq(1, 4), fmpq(1, 2))
"""Radii of nature's balls, in total variation."""

NAMED = ("riverswim", "machine_replacement", "forest", "howard_toymaker", "garnet:states=8,actions=2,successors=3,discount=0.9")
SAMPLES = 6
"""Samples of a row whose every outcome is weighed."""

_FLAT = "a discounted problem; nature within total variation rho of each row, on its support"


def robust_problems(*extreme: str) -> Mapping[str, MDP]:
    """The extremal models of these names, then discounted ones small enough for exact games against nature."""
    two_loops = from_lists([[(1.0, {0: 1.0})], [(0.0, {1: 1.0})]], Discounted(0.875))
    own = {"two loops": two_loops} if "two loops" in extreme else {}
    return own | dict(specimens.exact(*(name for name in extreme if name not in own))) | specimens.named(*NAMED)


def _hostile(evidence: RationalEvidence, radius: fmpq, **how: bool) -> RobustEvidence:
    return RobustEvidence(evidence, variation(evidence, radius, **how))


def _contraction(evidence: Any) -> Iterator[Measurement]:
    evidence = rational(evidence, "the robust contraction")
    optimal = evidence.optimal()
    for radius in RADII[1::2]:
        robust = _hostile(evidence, radius)
        applied = robust.apply(optimal)
        for name, value in vectors(evidence):
            values = {g: evidence.discount, apart: evidence.sup(optimal - value)}
            yield Measurement(evidence.sup(applied - robust.apply(value)), values, {"radius": float(radius), "v": name})


def _simulation(evidence: Any) -> Iterator[Measurement]:
    evidence = rational(evidence, "the robust simulation lemma")
    first = np.where(evidence.terminal, -1, 0).astype(np.int32)
    for radius in RADII:
        worst = _hostile(evidence, radius).policy_value(first)
        best = _hostile(evidence, radius, helps=True).policy_value(first)
        values = {g: evidence.discount, rho: radius, span: evidence.span(worst)}
        yield Measurement(evidence.sup(best - worst), values, {"radius": float(radius)})


def _price(evidence: Any) -> Iterator[Measurement]:
    evidence = rational(evidence, "the price of robustness")
    optimal = evidence.optimal()
    for radius in RADII:
        values = {g: evidence.discount, rho: radius, span: evidence.span(optimal)}
        lost = evidence.sup(optimal - _hostile(evidence, radius).optimal())
        yield Measurement(lost, values, {"radius": float(radius)})


def _sensitivity(evidence: Any) -> Iterator[Measurement]:
    evidence = rational(evidence, "the sensitivity to the radius")
    robust = [(radius, _hostile(evidence, radius).optimal()) for radius in RADII]
    for (smaller, here), (larger, there) in pairwise(robust):
        values = {g: evidence.discount, rho: smaller, tau: larger, span: evidence.span(here)}
        yield Measurement(evidence.sup(here - there), values, {"radius": float(smaller), "larger": float(larger)})


def _lost_by_nominal(evidence: RationalEvidence, radius: fmpq) -> fmpq:
    robust = _hostile(evidence, radius)
    return evidence.sup(robust.optimal() - robust.policy_value(evidence.greedy(evidence.optimal())))


def _nominal_policy(evidence: Any) -> Iterator[Measurement]:
    evidence = rational(evidence, "the nominal policy's loss")
    for radius in RADII:
        values = {g: evidence.discount, rho: radius, span: evidence.span(evidence.optimal())}
        yield Measurement(_lost_by_nominal(evidence, radius), values, {"radius": float(radius)})


def _shrinkage(evidence: Any) -> Iterator[Measurement]:
    evidence = rational(evidence, "the shrinkage of values")
    if evidence.terminal.any():
        return
    for radius in RADII[1::2]:
        robust, value = _hostile(evidence, radius, everywhere=True), evidence.zero()
        for sweeps in range(1, 9):
            value = robust.apply(value)
            values = {g: evidence.discount, rho: radius, k: sweeps, rewards: max(evidence.reward) - min(evidence.reward)}
            yield Measurement(evidence.span(value), values, {"sweeps": sweeps, "radius": float(radius)})


def _contamination(evidence: Any) -> Iterator[Measurement]:
    evidence = rational(evidence, "contamination with an absorbing state")
    if evidence.terminal.any():
        return
    problem = evidence.problem
    extended = evidence.like(
        problem.replace(
            state_ptr=np.append(problem.state_ptr, problem.n_pairs + 1),
            row_ptr=np.append(problem.row_ptr, problem.n_transitions + 1),
            successor=np.append(problem.successor, problem.n_states),
            probability=np.append(problem.probability, 1.0),
            reward=np.append(np.abs(problem.reward), 0.0),
            terminal=None,
            terminal_value=None,
            initial=None,
            labels={},
            state_names=None,
            action_names=None,
        )
    )
    for radius in RADII[1:3]:
        robust = RobustEvidence(extended, contamination(extended, radius)).optimal()
        shorter = (1 - radius) * extended.discount
        plain = RationalEvidence(extended.problem, extended.state_ptr, extended.matrix, extended.reward, shorter).optimal()
        for state in range(problem.n_states):
            yield Measurement(robust[state], {w: plain[state]}, {"radius": float(radius), "state": state})


def _coverage(evidence: Any) -> Iterator[Measurement]:
    evidence = rational(evidence, "the coverage of confidence sets")
    rows = {tuple(p for p in row if p > 0) for row in evidence.matrix.table()}
    for row in sorted((row for row in rows if 2 <= len(row) <= 3), key=str)[:3]:
        for missed in (0.5, 0.1):
            for name, misses in (("Weissman", _beyond_weissman), ("Clopper-Pearson", _beyond_intervals)):
                failure = sum((p for counts, p in _samples(row) if misses(counts, row, missed)), NOTHING)
                yield Measurement(failure, {delta: exact(missed)}, {"set": name, "delta": missed})


def _samples(row: tuple[fmpq, ...]) -> Iterator[tuple[np.ndarray, fmpq]]:
    """Every vector of counts, and its probability."""
    for counts in np.ndindex(*(SAMPLES + 1,) * len(row)):
        if sum(counts) == SAMPLES:
            ways = math.factorial(SAMPLES) // math.prod(math.factorial(c) for c in counts)
            yield np.array(counts), math.prod((p**c for p, c in zip(row, counts, strict=True)), start=fmpq(ways))


def _beyond_weissman(counts: np.ndarray, row: tuple[fmpq, ...], missed: float) -> bool:
    shares = [fmpq(int(c), SAMPLES) for c in counts]
    distance = sum((abs(a - b) for a, b in zip(shares, row, strict=True)), NOTHING)
    return bool(distance > exact(weissman(counts, missed).radius))


def _beyond_intervals(counts: np.ndarray, row: tuple[fmpq, ...], missed: float) -> bool:
    low, high = clopper_pearson(counts, missed).entries(empirical(counts))
    return any(p < a or p > b for p, a, b in zip(row, rationals(low), rationals(high), strict=True))


def _half_radius(evidence: Any) -> Iterator[Measurement]:
    evidence = rational(evidence, "half the radius")
    optimal = evidence.optimal()
    price = {radius: evidence.sup(optimal - _hostile(evidence, radius).optimal()) for radius in RADII}
    for half, radius in pairwise(RADII):
        yield Measurement(price[half], {cost: price[radius]}, {"radius": float(radius)})


def _deterministic(evidence: Any) -> Iterator[Measurement]:
    """Nature may exchange the rows of a state's first and last action, at once and unseen; half and half does not mind."""
    evidence = rational(evidence, "deterministic policies")
    first = np.where(evidence.terminal, -1, 0).astype(np.int32)
    last = (np.diff(evidence.state_ptr) - 1).astype(np.int32)
    last[evidence.terminal] = -1
    pairs = np.stack([evidence.pairs_of(first), evidence.pairs_of(last)], axis=1)
    if not len(pairs):
        return
    table = evidence.matrix.table()
    two = [table[pair] for pair in pairs.ravel().tolist()]
    pointers = np.concatenate(([0], 2 * np.cumsum(~evidence.terminal)))
    matrix = fmpq_mat(len(two), len(evidence.terminal), [p for row in two for p in row])
    small = RationalEvidence(evidence.problem, pointers, matrix, evidence.reward[pairs.ravel()], evidence.discount)
    rows = [[two[2 * (pair // 2)], two[2 * (pair // 2) + 1]] for pair in range(len(two))]
    best: Any = RobustEvidence(small, listed(rows)).optimal()
    mixed = evidence.mixture(first, last, ONE / 2).optimal()
    for state in evidence.acting.tolist():
        yield Measurement(mixed[state], {worth: best[state]}, {"state": state})


def _nominal_suffices(evidence: Any) -> Iterator[Measurement]:
    evidence = rational(evidence, "the nominal policy")
    for radius in RADII:
        yield Measurement(_lost_by_nominal(evidence, radius), {}, {"radius": float(radius)})


_SYMBOLS = {g: "discount", rho: "radius in total variation", span: "span of v*"}

CONTRACTION = Bound(
    name="the robust operator contracts",
    quantity=r"\|T_\rho u - T_\rho v\|_\infty",
    statement=g * apart,
    symbols={g: "discount", apart: "sup norm of u - v"},
    measure=_contraction,
    assumes=_FLAT,
    source="Iyengar, Math. Oper. Res. 30, 2005, theorem 3.2",
    family="robust",
    problems=partial(robust_problems, "loop"),
)

SIMULATION = Bound(
    name="robust simulation lemma",
    quantity=r"\|v_P - v_{P'}\|_\infty",
    statement=2 * g * rho * span / (1 - g),
    symbols=_SYMBOLS | {span: "span of the smaller value"},
    measure=_simulation,
    assumes="one policy, two kernels within total variation rho of the nominal one",
    source="Kearns and Singh, Machine Learning 49, 2002, in sharp form",
    family="robust",
    axis="radius",
    problems=partial(robust_problems, "shuffle"),
)

PRICE = Bound(
    name="price of robustness",
    quantity=r"\|v^* - v_\rho\|_\infty",
    statement=g * rho * span / (1 - g),
    symbols=_SYMBOLS,
    measure=_price,
    assumes=_FLAT,
    source="Nilim and El Ghaoui, Oper. Res. 53, 2005, with the residual bound; derived in the module",
    family="robust",
    axis="radius",
    problems=partial(robust_problems, "shuffle"),
)

SENSITIVITY = Bound(
    name="sensitivity of the robust value to the radius",
    quantity=r"\|v_\rho - v_\tau\|_\infty",
    statement=g * (tau - rho) * span / (1 - g),
    symbols=_SYMBOLS | {tau: "larger radius", span: "span of the value at the smaller radius"},
    measure=_sensitivity,
    assumes=_FLAT,
    source="Iyengar, Math. Oper. Res. 30, 2005, with the residual bound; derived in the module",
    family="robust",
    axis="radius",
    problems=partial(robust_problems, "shuffle"),
)

NOMINAL_POLICY = Bound(
    name="robust loss of the nominal policy",
    quantity=r"\|v_\rho - v_\rho^{\pi^*}\|_\infty",
    statement=g * rho * span / (1 - g),
    symbols=_SYMBOLS,
    measure=_nominal_policy,
    assumes=_FLAT + "; pi* optimal without nature",
    source="Nilim and El Ghaoui, Oper. Res. 53, 2005, with the residual bound; derived in the module",
    family="robust",
    axis="radius",
    problems=robust_problems,
)

SHRINKAGE = Bound(
    name="robust values shrink together",
    quantity=r"\operatorname{sp}(T_\rho^k 0)",
    statement=rewards * (1 - (g * (1 - rho)) ** k) / (1 - g * (1 - rho)),
    symbols={g: "discount", rho: "radius in total variation", k: "sweeps", rewards: "largest reward less the smallest"},
    measure=_shrinkage,
    assumes="a discounted problem without terminal states; nature within total variation rho < 1 of each row, to any state",
    source="Liu and Xu, Distributionally robust offline linear MDPs, 2024, for finite horizons",
    family="robust",
    axis="sweeps",
    problems=partial(robust_problems, "two loops"),
)

CONTAMINATION = Bound(
    name="contamination with an absorbing state is a shorter discount",
    quantity=r"v_\varepsilon(s)",
    statement=w,
    symbols={w: "plain value at discount gamma (1 - epsilon)"},
    measure=_contamination,
    assumes="rewards of at least zero, an absorbing state without reward, nature who takes over with probability epsilon",
    source="Wang and Zou, NeurIPS 2021, arXiv 2109.14523, for the set; derived in the module",
    sense="equal to",
    family="robust",
    problems=robust_problems,
)

COVERAGE = Bound(
    name="confidence sets hold the true row",
    quantity=r"\Pr(p \notin U)",
    statement=delta,
    symbols={delta: "probability that the set may miss"},
    measure=_coverage,
    assumes="independent samples of a row",
    source="Weissman et al. 2003; Clopper and Pearson 1934",
    family="robust",
    problems=robust_problems,
)

CATALOGUE = (CONTRACTION, SIMULATION, PRICE, SENSITIVITY, NOMINAL_POLICY, SHRINKAGE, CONTAMINATION, COVERAGE)

HALF_RADIUS = Bound(
    name="half the radius costs half as much",
    quantity=r"\|v^* - v_{\rho/2}\|_\infty",
    statement=cost / 2,
    symbols={cost: "price of robustness at radius rho"},
    measure=_half_radius,
    assumes=_FLAT,
    source="false: the first mass that nature moves is the dearest",
    family="false",
    problems=robust_problems,
)

DETERMINISTIC = Bound(
    name="deterministic policies suffice under s-rectangularity",
    quantity=r"v_\pi(s)",
    statement=worth,
    symbols={worth: "what the best deterministic policy guarantees"},
    measure=_deterministic,
    assumes="two actions a state whose rows nature may exchange before she sees the action; pi takes each with probability 1/2",
    source="false: Wiesemann, Kuhn and Rustem, Math. Oper. Res. 38, 2013",
    family="false",
    problems=robust_problems,
)

NOMINAL_SUFFICES = Bound(
    name="the nominal policy is robustly optimal",
    quantity=r"\|v_\rho - v_\rho^{\pi^*}\|_\infty",
    statement=sympy.Integer(0),
    symbols={},
    measure=_nominal_suffices,
    assumes=_FLAT + "; pi* optimal without nature",
    source="false: what is best on average may lean on a rare good outcome",
    family="false",
    problems=robust_problems,
)

FALSEHOODS = (HALF_RADIUS, DETERMINISTIC, NOMINAL_SUFFICES)
