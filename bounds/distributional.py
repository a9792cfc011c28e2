r"""What is promised of laws of returns: contraction, projection, functionals, truncation, and rounding onto lattices.

T the distributional Bellman operator of a policy, eta the law of its return, distances the largest over states; z a grid of
spacing s that holds all returns, D their range.

CONTRACTION     W_inf(T nu, T mu) <= g W_inf(nu, mu), l_2^2(T nu, T mu) <= g l_2^2(nu, mu): moving and scaling does it, mixing
                no harm.
CATEGORICAL     l_2^2(Pi nu, nu) <= s/4 and W_1(Pi nu, nu) <= s/2 cell by cell; Pi T is a sqrt(g)-contraction in l_2, Pi being
                an orthogonal projection of distribution functions, so by Pythagoras its fixed point has l_2^2 <= s/(4(1-g)),
                and W_1 <= s/2 + g W_1; its mean is exactly the value, and each projection adds at most s^2/4 of variance.
QUANTILE        W_1(Pi nu, nu) <= D/(2m): after k sweeps from a point, W_1 <= D (1/(2m(1-g)) + g^k).
FUNCTIONALS     |CVaR nu - CVaR mu| <= W_1/tau, |E f(X) - E f(Y)| <= Lip(f) W_1; the mean exceeds entropic risk by at most
                b D^2/8 (Hoeffding's lemma).
TRUNCATION      W_1(T^n delta_0, T^{n+2} delta_0) <= g^n (1 + g) R.
LATTICES        lower and upper laws of `banach.solvers.return_laws` are at most 2 h/(1-g) apart, and brackets of the shortfall
                over stocks g h/(2(1-g)), h the spacing, plus what their iterations leave: a thousandth, a five-hundredth.

False: the quantile projection does not expand W_1. (It does not expand W_inf.)

Bellemare, Dabney and Munos 2017, arXiv 1707.06887; Rowland et al. 2018, arXiv 1802.08163; Dabney et al. 2018, arXiv 1710.10044;
Bellemare, Dabney and Rowland 2023. Constants derived here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fractions import Fraction
from functools import partial
from itertools import combinations, pairwise
from typing import Any

import sympy
from flint import arb, fmpq

from ..mdp.law import Law
from ..mdp.law_distance import cramer_squared, wasserstein, wasserstein_sup
from ..mdp.law_functional import SHORTFALL, TARGET, CVaR
from ..mdp.law_projection import categorical, quantile_projection
from ..mdp.model import MDP
from ..solvers.stock_check import check_stock
from ..solvers.stock_lattice import stock_bracket
from . import specimens
from .bound import Bound, Measurement
from .number import ball
from .return_laws import ReturnEvidence

g, s, x, tau, D, b, R, h = sympy.symbols("gamma s x tau D b R h", nonnegative=True)
m, k, n = sympy.symbols("m k n", integer=True, positive=True)

_ASSUMES = "a policy of a discounted problem with a discount above zero; a grid that holds all returns"
POINTS = (3, 5, 9)
"""Sizes of the grids."""


def _problems(*extreme: str) -> Mapping[str, MDP]:
    return specimens.exact(*extreme)


def _returns(evidence: Any) -> ReturnEvidence | None:
    return ReturnEvidence(evidence) if evidence.discount > 0 else None


def _starts(returns: ReturnEvidence) -> list[list[Law]]:
    low, high = returns.ends()
    coin = Law.of([low, high], [Fraction(1, 2)] * 2)
    return [returns.constant(law) for law in (Law.point(Fraction(0)), coin, Law.point(high))]


def _contraction(evidence: Any, metric: Any) -> Iterator[Measurement]:
    returns = _returns(evidence)
    if returns is None:
        return
    for (i, one), (j, two) in combinations(enumerate(_starts(returns)), 2):
        before = max((metric(a, c) for a, c in zip(one, two, strict=True)), default=0)
        after = max(metric(a, c) for a, c in zip(returns.apply(one), returns.apply(two), strict=True))
        yield Measurement(after, {g: returns.discount, x: before}, {"laws": f"{i}, {j}"})


def _categorical_step(evidence: Any, metric: Any) -> Iterator[Measurement]:
    returns = _returns(evidence)
    if returns is None:
        return
    laws = returns.apply(_starts(returns)[1])
    for points in POINTS:
        grid = returns.grid(points)
        moved = max(metric(law, categorical(law, grid)) for law in laws)
        yield Measurement(moved, {s: grid[1] - grid[0]}, {"points": points})


def _quantile_step(evidence: Any) -> Iterator[Measurement]:
    returns = _returns(evidence)
    if returns is None:
        return
    low, high = returns.ends()
    laws = returns.apply(_starts(returns)[1])
    for size in (1, 2, 3, 8):
        moved = max(wasserstein(law, quantile_projection(law, size)) for law in laws)
        yield Measurement(moved, {D: high - low, m: size}, {"atoms": size})


def _categorical_fixed(evidence: Any, square: bool) -> Iterator[Measurement]:
    returns = _returns(evidence)
    if returns is None:
        return
    for points in POINTS[:2]:
        grid = returns.grid(points)
        apart = returns.distance(returns.categorical_fixed_point(points), square)
        yield Measurement(apart, {g: returns.discount, s: grid[1] - grid[0]}, {"points": points})


def _categorical_mean(evidence: Any) -> Iterator[Measurement]:
    returns = _returns(evidence)
    if returns is None:
        return
    laws = returns.categorical_fixed_point(POINTS[0])
    for state, value in enumerate(returns.value()):
        yield Measurement(laws[state].mean, {y: value}, {"state": state})


def _variance_excess(evidence: Any) -> Iterator[Measurement]:
    returns = _returns(evidence)
    if returns is None:
        return
    exact = returns.variance()
    for points in POINTS[:2]:
        grid, laws = returns.grid(points), returns.categorical_fixed_point(points)
        excess = max((_rational(laws[i].variance) - exact[i] for i in returns.acting), default=fmpq(0))
        yield Measurement(excess, {g: returns.discount, s: grid[1] - grid[0]}, {"points": points})


def _quantile_fixed(evidence: Any) -> Iterator[Measurement]:
    returns = _returns(evidence)
    if returns is None:
        return
    low, high = returns.ends()
    for size in (2, 5):
        laws = returns.constant(Law.point(low))
        for _ in range(4):
            laws = returns.apply(laws, lambda law, size=size: quantile_projection(law, size))
        values = {g: returns.discount, D: high - low, m: size, k: 4}
        yield Measurement(returns.distance(laws, square=False), values, {"atoms": size})


def _functional(evidence: Any, functional: Any, weight: Mapping[sympy.Symbol, Any]) -> Iterator[Measurement]:
    returns = _returns(evidence)
    if returns is None:
        return
    for (i, one), (j, two) in combinations(enumerate(_starts(returns)), 2):
        for state, (a, c) in enumerate(zip(returns.apply(one), returns.apply(two), strict=True)):
            gap = abs(functional(a) - functional(c))
            yield Measurement(gap, {x: wasserstein(a, c), **weight}, {"laws": f"{i}, {j}", "state": state})


def _cvar(evidence: Any) -> Iterator[Measurement]:
    for level in (Fraction(1, 10), Fraction(1, 2)):
        yield from _functional(evidence, CVaR(level), {tau: level})


def _entropic(evidence: Any) -> Iterator[Measurement]:
    returns = _returns(evidence)
    if returns is None:
        return
    low, high = returns.ends()
    risk = Fraction(1) / (high - low)
    for state, law in enumerate(returns.apply(_starts(returns)[1])):
        total = arb(0)
        for atom, p in zip(law.atoms.tolist(), law.weights.tolist(), strict=True):
            total += ball(p) * (-ball(risk * (atom - law.mean))).exp()
        yield Measurement(total.log() / ball(risk), {b: risk, D: law.atoms[-1] - law.atoms[0]}, {"state": state})


def _truncation(evidence: Any) -> Iterator[Measurement]:
    returns = _returns(evidence)
    if returns is None:
        return
    rewards = [abs(r) for rows in returns.rows.values() for _, r, _ in rows]
    if returns.problem.terminal_value.any() or not rewards:
        return
    laws = [returns.constant(Law.point(Fraction(0)))]
    for _ in range(4):
        laws.append(returns.apply(laws[-1]))
    for done in (1, 2):
        apart = max(wasserstein(a, c) for a, c in zip(laws[done], laws[done + 2], strict=True))
        yield Measurement(apart, {g: returns.discount, n: done, R: max(rewards)}, {"decisions": done})


def _law_width(evidence: Any) -> Iterator[Measurement]:
    returns = _returns(evidence)
    if returns is None:
        return
    proof = returns.bracket.certificate
    gap = max(wasserstein(returns.bracket.lower(i), returns.bracket.upper(i)) for i in range(returns.n_states))
    yield Measurement(gap, {g: returns.discount, h: Fraction(proof.lattice.spacing)}, {"atoms": proof.lattice.points})


def _stock_width(evidence: Any) -> Iterator[Measurement]:
    returns = _returns(evidence)
    if returns is None:
        return
    for points in (50, 100):
        proof = stock_bracket(returns.model, SHORTFALL, points).certificate
        width = check_stock(returns.model, proof).width
        values = {g: returns.discount, h: Fraction(proof.lattice.spacing)}
        yield Measurement(Fraction(width), values, {"stocks": proof.lattice.points})


def _quantile_expands(evidence: Any) -> Iterator[Measurement]:
    returns = _returns(evidence)
    if returns is None:
        return
    laws = [law for _, law in returns.pairs()]
    for (one, two), size in ((pair, size) for pair in pairwise(laws) for size in (1, 2)):
        after = wasserstein(quantile_projection(one, size), quantile_projection(two, size))
        yield Measurement(after, {x: wasserstein(one, two)}, {"atoms": size})


y = sympy.Symbol("v", real=True)


def _rational(number: Any) -> fmpq:
    return fmpq(number.numerator, number.denominator)


def _bound(name: str, quantity: str, statement: Any, symbols: dict[Any, str], measure: Any, source: str, **more: Any) -> Bound:
    words = {"assumes": _ASSUMES, "family": "distributional", "problems": partial(_problems, "loop", "shuffle"), **more}
    return Bound(name, quantity, statement, symbols, measure, source=source, **words)


_G, _S = {g: "discount"}, {s: "spacing of the grid"}
_BOOK = "Bellemare, Dabney and Rowland, Distributional Reinforcement Learning, 2023"

SUP_CONTRACTION = _bound(
    "laws contract in the largest quantile distance", r"\bar W_\infty(T\nu, T\mu)", g * x,
    _G | {x: "largest W_inf of nu and mu"}, partial(_contraction, metric=wasserstein_sup),
    "Bellemare, Dabney and Munos 2017, arXiv 1707.06887, lemma 3",
)  # fmt: skip
CRAMER_CONTRACTION = _bound(
    "laws contract in Cramer's distance", r"\bar\ell_2^2(T\nu, T\mu)", g * x, _G | {x: "largest l_2^2 of nu and mu"},
    partial(_contraction, metric=cramer_squared), "Rowland et al. 2018, arXiv 1802.08163, proposition 2",
)  # fmt: skip
CATEGORICAL_CRAMER = _bound(
    "one categorical projection in Cramer's distance", r"\ell_2^2(\Pi\nu, \nu)", s / 4, _S,
    partial(_categorical_step, metric=cramer_squared), _BOOK + "; constant derived here",
)  # fmt: skip
CATEGORICAL_WASSERSTEIN = _bound(
    "one categorical projection in W1", r"W_1(\Pi\nu, \nu)", s / 2, _S,
    partial(_categorical_step, metric=wasserstein), _BOOK + "; constant derived here",
)  # fmt: skip
QUANTILE_STEP = _bound(
    "one quantile projection in W1", r"W_1(\Pi\nu, \nu)", D / (2 * m), {D: "range of all returns", m: "atoms"}, _quantile_step,
    "Dabney et al. 2018, arXiv 1710.10044; constant derived here",
)  # fmt: skip
FIXED_CRAMER = _bound(
    "the categorical fixed point in Cramer's distance", r"\bar\ell_2^2(\eta_C, \eta)", s / (4 * (1 - g)), _G | _S,
    partial(_categorical_fixed, square=True), "Rowland et al. 2018, arXiv 1802.08163, proposition 3, with derived constant",
)  # fmt: skip
FIXED_WASSERSTEIN = _bound(
    "the categorical fixed point in W1", r"\bar W_1(\eta_C, \eta)", s / (2 * (1 - g)), _G | _S,
    partial(_categorical_fixed, square=False), _BOOK + "; constant derived here",
)  # fmt: skip
CATEGORICAL_MEAN = _bound(
    "the categorical fixed point has the right mean", r"E\,\eta_C(s)", y, {y: "value of the policy"}, _categorical_mean,
    "Rowland et al. 2018, arXiv 1802.08163; Lyle, Bellemare and Castro 2019", sense="equal to",
)  # fmt: skip
VARIANCE_EXCESS = _bound(
    "the categorical fixed point's variance", r"\mathrm{Var}\,\eta_C - \mathrm{Var}\,\eta", s**2 / (4 * (1 - g**2)), _G | _S,
    _variance_excess, _BOOK + "; constant derived here",
)  # fmt: skip
QUANTILE_FIXED = _bound(
    "quantile iterates in W1", r"\bar W_1(\eta_k, \eta)", D * (1 / (2 * m * (1 - g)) + g**k),
    _G | {D: "range of all returns", m: "atoms", k: "sweeps"}, _quantile_fixed,
    "Dabney et al. 2018, arXiv 1710.10044, in sharp form; derived here",
)  # fmt: skip
CVAR_ERROR = _bound(
    "CVaR and W1", r"|\mathrm{CVaR}_\tau(\nu) - \mathrm{CVaR}_\tau(\mu)|", x / tau, {x: "W_1 of the laws", tau: "level"}, _cvar,
    "Rockafellar and Uryasev 2000; Pichler 2013",
)  # fmt: skip
UTILITY_ERROR = _bound(
    "utilities of slope one and W1", r"|E|X| - E|Y||", x, {x: "W_1 of the laws"},
    partial(_functional, functional=TARGET, weight={}), "Kantorovich and Rubinstein 1958",
)  # fmt: skip
ENTROPIC_GAP = _bound(
    "entropic risk below the mean", r"E X + \frac{1}{b} \log E e^{-bX}", b * D**2 / 8, {b: "risk", D: "range of the law"},
    _entropic,
    "Hoeffding 1963, lemma",
)  # fmt: skip
TRUNCATION = _bound(
    "laws after some decisions", r"\bar W_1(T^n \delta_0, T^{n+2} \delta_0)", g**n * (1 + g) * R,
    _G | {n: "decisions", R: "largest |reward|"}, _truncation, "Avila Pires et al. 2025, arXiv 2501.13028; derived here",
    assumes="a discounted problem whose terminal states are worth nothing",
)  # fmt: skip
LAW_WIDTH = _bound(
    "lower and upper laws close with the lattice", r"\bar W_1(\eta_{-}, \eta_{+})",
    sympy.Rational(201, 100) * h / (1 - g),
    _G | {h: "spacing of the lattice"}, _law_width, "Mueller and Stoyan 2002 for the order; derived here",
)  # fmt: skip
STOCK_WIDTH = _bound(
    "brackets over stocks close with the lattice", r"\|w_{+} - w_{-}\|_\infty",
    h * (g / (2 * (1 - g)) + sympy.Rational(1, 200)), _G | {h: "spacing of the stocks"}, _stock_width,
    "Baeuerle and Ott 2011 for the problem; derived here",
    assumes="a discounted problem with a discount above zero, f(x) = min(x, 0)",
)  # fmt: skip

CATALOGUE = (
    SUP_CONTRACTION, CRAMER_CONTRACTION, CATEGORICAL_CRAMER, CATEGORICAL_WASSERSTEIN, QUANTILE_STEP, FIXED_CRAMER,
    FIXED_WASSERSTEIN, CATEGORICAL_MEAN, VARIANCE_EXCESS, QUANTILE_FIXED, CVAR_ERROR, UTILITY_ERROR, ENTROPIC_GAP, TRUNCATION,
    LAW_WIDTH, STOCK_WIDTH,
)  # fmt: skip

QUANTILE_EXPANDS = _bound(
    "the quantile projection does not expand W1", r"W_1(\Pi\nu, \Pi\mu)", x, {x: "W_1 of the laws"}, _quantile_expands,
    "false: folklore of quantile dynamic programming, see Rowland et al. 2018", family="false",
)  # fmt: skip

FALSEHOODS = (QUANTILE_EXPANDS,)
