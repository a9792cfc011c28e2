"""Laws: two arithmetics agree, orders, projections, distances and functionals do what their definitions say."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from banach.mdp import ModelError
from banach.mdp.law import Law, concave_supremum, concavely_below, mixture, stochastically_below
from banach.mdp.law_conditions import discount_counterexample, mixture_counterexample, small_laws
from banach.mdp.law_distance import cramer_squared, wasserstein, wasserstein_sup
from banach.mdp.law_functional import (
    MEAN,
    REACH,
    SHORTFALL,
    TARGET,
    CVaR,
    Distortion,
    Entropic,
    EVaR,
    ExpectedUtility,
    Lexicographic,
    MeanVariance,
    MixedVaR,
    TwoSlopes,
    VaR,
    enclosure,
    exponential,
    homeostasis,
    wang,
)
from banach.mdp.law_projection import categorical, quantile_projection, round_down, round_up
from banach.mdp.tail_risk import mixed_value_at_risk, quantile, tail_integral
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog
from scipy.stats import wasserstein_distance

LEVELS = st.sampled_from([Fraction(1, 100), Fraction(1, 10), Fraction(1, 4), Fraction(1, 2), Fraction(9, 10), Fraction(1)])
HALF = Fraction(1, 2)
FAST = settings(deadline=None, max_examples=60)


@st.composite
def laws(draw, most=5):
    """Exact laws on fractions between -4 and 4."""
    atoms = draw(st.lists(st.integers(-12, 12), min_size=1, max_size=most))
    weights = [draw(st.integers(1, 5)) for _ in atoms]
    return Law.of([Fraction(a, 3) for a in atoms], [Fraction(w, sum(weights)) for w in weights])


def tail_by_program(law, level):
    """min q.x over 0 <= q <= p, sum q = level."""
    law = law.approximate()
    found = linprog(law.atoms, A_eq=np.ones((1, len(law.atoms))), b_eq=[float(level)], bounds=[(0, p) for p in law.weights])
    return found.fun


@FAST
@given(laws(), laws(), st.sampled_from([Fraction(1, 3), Fraction(1, 2), Fraction(3, 4)]), LEVELS)
def test_floats_and_fractions_agree(one, two, share, level):
    mixed = mixture([share, 1 - share], [one.affine(1, Fraction(1, 2)), two])
    floats = mixture([float(share), float(1 - share)], [one.approximate().affine(1, 0.5), two.approximate()])
    for functional in (MEAN, SHORTFALL, TARGET, CVaR(level), MixedVaR(Fraction(1, 5), Fraction(4, 5), 2), MeanVariance(1)):
        assert float(functional(mixed)) == pytest.approx(functional(floats), abs=1e-12)
    assert float(mixed.quantile(level)) == pytest.approx(floats.quantile(float(level)), abs=1e-12)
    assert wasserstein(one, two) == pytest.approx(wasserstein(one.approximate(), two.approximate()), abs=1e-12)


@FAST
@given(laws(), LEVELS)
def test_cvar_is_its_dual_program_and_the_best_rockafellar_uryasev_number(law, level):
    value = CVaR(level)(law)
    assert float(value) == pytest.approx(tail_by_program(law, level) / float(level), abs=1e-9)
    assert value == max(b - law.expect(lambda x, b=b: max(b - x, 0)) / level for b in law.atoms.tolist())


@FAST
@given(laws(), LEVELS)
def test_quantiles_and_tails_are_those_of_rewards_in_training(law, level):
    values, chances, tau = law.atoms.astype(float), law.weights.astype(float), float(level)
    assert float(law.quantile(level)) == quantile(values, chances, tau)
    assert float(law.tail(level)) == pytest.approx(tail_integral(values, chances, tau), abs=1e-12)
    if level > Fraction(1, 5):
        mixed = MixedVaR(Fraction(1, 5), level, HALF)(law)
        assert float(mixed) == pytest.approx(mixed_value_at_risk(values, chances, 0.2, tau, 0.5), abs=1e-12)


@FAST
@given(laws(), laws(), LEVELS, st.sampled_from([0.1, 1.0, 7.0]))
def test_cvar_lies_above_evar_above_its_entropic_bounds_and_is_convex_in_the_law(one, two, level, risk):
    evar = EVaR(float(level))(one)
    assert float(CVaR(level)(one)) >= evar - 1e-9
    assert evar >= Entropic(risk)(one) + math.log(level) / risk - 1e-9
    assert evar >= one.atoms[0] - Fraction(1, 10**9)
    half = mixture([Fraction(1, 2)] * 2, [one, two])
    assert CVaR(level)(half) <= (CVaR(level)(one) + CVaR(level)(two)) / 2


@FAST
@given(laws(), st.sampled_from([1e-3, 0.5, 3.0]))
def test_entropic_risk_is_enclosed_and_close_to_the_mean(law, risk):
    low, high = Entropic(risk).enclose(law)
    assert low <= Entropic(risk)(law) + 1e-12
    assert high >= Entropic(risk)(law) - 1e-12
    assert high - low < 1e-9
    spread = float(law.atoms[-1] - law.atoms[0])
    assert -1e-12 <= float(law.mean) - Entropic(risk)(law) <= risk * spread**2 / 8 + 1e-12


@FAST
@given(laws())
def test_distortions_reduce_to_what_they_generalise(law):
    level = Fraction(1, 4)
    assert Distortion(lambda u: min(u / level, 1))(law) == CVaR(level)(law)
    assert Distortion(lambda u: u)(law) == law.mean
    assert MixedVaR(0, 1, 5)(law) == law.mean
    assert MixedVaR(level, Fraction(1, 2), -1)(law) == law.tail(Fraction(1, 2)) - law.tail(level)
    assert wang(0.5)(law) <= float(law.mean) + 1e-12 <= wang(-0.5)(law) + 2e-12


@FAST
@given(laws(), laws())
def test_distances_are_those_of_definitions_and_of_scipy(one, two):
    a, b = one.approximate(), two.approximate()
    assert float(wasserstein(one, two)) == pytest.approx(
        wasserstein_distance(a.atoms, b.atoms, a.weights, b.weights), abs=1e-12
    )
    grid = sorted({*one.atoms.tolist(), *two.atoms.tolist()})
    area = sum((one.cdf(x) - two.cdf(x)) ** 2 * (y - x) for x, y in itertools.pairwise(grid))
    assert cramer_squared(one, two) == area
    assert wasserstein(one, two) <= wasserstein_sup(one, two)
    assert wasserstein_sup(one, one) == 0 == wasserstein(two, two)


@FAST
@given(laws(), laws(), st.integers(2, 9))
def test_categorical_projection_keeps_the_mean_spreads_and_is_orthogonal(law, other, points):
    grid = [Fraction(-4) + Fraction(8 * i, points - 1) for i in range(points)]
    found, on_grid = categorical(law, grid), categorical(other, grid)
    step = Fraction(8, points - 1)
    assert found.mean == law.mean
    assert 0 <= found.variance - law.variance <= step**2 / 4
    assert concavely_below(found, law)
    assert cramer_squared(law, on_grid) == cramer_squared(law, found) + cramer_squared(found, on_grid)
    assert cramer_squared(law, found) <= step / 4
    assert wasserstein(law, found) <= step / 2
    assert categorical(law.affine(0, 5), grid).atoms[0] >= -4


@FAST
@given(laws(), st.integers(1, 7), st.integers(2, 9))
def test_quantile_projection_and_rounding_keep_their_promises(law, size, points):
    found = quantile_projection(law, size)
    assert wasserstein(law, found) <= (law.atoms[-1] - law.atoms[0]) / (2 * size)
    grid = [Fraction(-4) + Fraction(8 * i, points - 1) for i in range(points)]
    low, high = round_down(law, grid), round_up(law, grid)
    assert stochastically_below(low, law)
    assert stochastically_below(law, high)
    assert wasserstein_sup(low, law) < Fraction(8, points - 1)
    assert wasserstein_sup(high, law) < Fraction(8, points - 1)


@FAST
@given(laws(), laws(), laws(), LEVELS)
def test_the_concave_supremum_is_the_least_upper_bound(one, two, three, level):
    best = concave_supremum([one, two, three])
    assert best.tail(level) == max(law.tail(level) for law in (one, two, three))
    assert all(concavely_below(law, best) for law in (one, two, three))


@FAST
@given(laws(), laws(), LEVELS)
def test_declared_lipschitz_constants_and_monotonicity_hold(one, two, level):
    functionals = [
        MEAN,
        SHORTFALL,
        TARGET,
        TwoSlopes(2, 3),
        CVaR(level),
        MixedVaR(Fraction(1, 5), level, 2) if level > Fraction(1, 5) else MEAN,
    ]
    for functional in functionals:
        gap = abs(functional(one) - functional(two))
        assert gap <= Fraction(functional.lipschitz).limit_denominator(1000) * wasserstein(one, two)
    low = round_down(one, [Fraction(k) for k in range(-4, 5)])
    for functional in (*functionals, REACH, VaR(level), Entropic(1.0), EVaR(float(level)), exponential(1.0)):
        if functional.monotone:
            assert functional(low) <= functional(one) + 1e-9


def test_functionals_that_mix_badly_are_found_out_and_those_that_mix_are_not():
    for functional in (
        CVaR(Fraction(1, 2)),
        VaR(Fraction(1, 2)),
        MeanVariance(Fraction(1, 2)),
        MixedVaR(Fraction(1, 5), Fraction(4, 5), 1),
    ):
        assert not functional.mixtures
        nu, other, mu = mixture_counterexample(functional)
        assert functional(nu) >= functional(other)
        assert functional(mixture([Fraction(1, 2)] * 2, [nu, mu])) < functional(mixture([Fraction(1, 2)] * 2, [other, mu]))
    for functional in (MEAN, SHORTFALL, TARGET, REACH, CVaR(1), Lexicographic((REACH, MEAN))):
        assert functional.mixtures
        assert mixture_counterexample(functional) is None


def test_utilities_without_a_degree_are_found_out_and_those_with_one_are_not():
    half = Fraction(1, 2)
    for function in (lambda x: int(x >= 1), lambda x: min(x, 1)):
        assert discount_counterexample(ExpectedUtility(function), half) is not None
    for functional in (MEAN, SHORTFALL, TARGET, REACH, CVaR(half), Lexicographic((REACH, MEAN))):
        assert functional.degree is not None
        assert discount_counterexample(functional, half) is None


def test_vectors_have_norms():
    assert homeostasis().function((1, -2)) == -3
    assert homeostasis(2).function((1, -2)) == -5


def test_enclosures_contain_the_rational_number():
    law = Law.of([Fraction(1, 3), Fraction(7, 5)], [Fraction(2, 3), Fraction(1, 3)])
    low, high = enclosure(CVaR(Fraction(9, 10)), law)
    assert Fraction(low) < CVaR(Fraction(9, 10))(law) < Fraction(high)
    assert math.nextafter(low, 2) == high


def test_close_floating_point_atoms_are_clustered_from_left_to_right():
    law = Law.of([0.0, 1e-9, 0.9e-8, 1.0], tolerance=5e-9)
    assert law.atoms.tolist() == [0.0, 0.9e-8, 1.0]
    assert law.weights.tolist() == [0.5, 0.25, 0.25]
    assert len(small_laws()) == 15


@pytest.mark.parametrize(
    ("build", "match"),
    [
        (lambda: Law.of([]), "at least one"),
        (lambda: Law.of([1.0], [0.5, 0.5]), "as many of both"),
        (lambda: Law.of([1.0, math.nan]), "must be finite"),
        (lambda: Law.of([1.0, 2.0], [1.5, -0.5]), "weight 1 is -0.5"),
        (lambda: Law.of([1.0, 2.0], [0.5, 0.6]), "sum to 1"),
        (lambda: Law.of([1, 2], [Fraction(1, 3), Fraction(1, 3)]), "sum to 2/3"),
        (lambda: Law.of([1], exact=True, tolerance=0.1), "tolerance"),
        (lambda: Law.point(1.0).quantile(0), r"\(0, 1\]"),
        (lambda: CVaR(0), r"\(0, 1\]"),
        (lambda: EVaR(1.5), r"\(0, 1\]"),
        (lambda: MixedVaR(0.8, 0.2, 1), "low < high"),
        (lambda: MeanVariance(-1), ">= 0"),
        (lambda: Entropic(0), "> 0"),
        (lambda: TwoSlopes(math.inf, 0), "finite"),
        (lambda: Distortion(lambda u: u / 2), "0 and 1"),
        (lambda: Lexicographic((MEAN, CVaR(0.5))), "expected utility"),
        (lambda: homeostasis(3), "norms"),
        (lambda: mixture([0.5], [Law.point(0.0), Law.point(1.0)]), "weights for 2 laws"),
        (lambda: mixture([1.5, -0.5], [Law.point(0.0), Law.point(1.0)]), "negative"),
        (lambda: categorical(Law.point(0.0), [1.0, 1.0]), "not above"),
        (lambda: categorical(Law.point(0.0), [1.0]), "at least two"),
        (lambda: round_down(Law.point(0.0), [1.0, 2.0]), "below the whole grid"),
        (lambda: round_up(Law.point(3.0), [1.0, 2.0]), "above the whole grid"),
        (lambda: quantile_projection(Law.point(3.0), 0), "whole number"),
        (lambda: enclosure(EVaR(0.5), Law.of([0, 1], exact=True)), "rational"),
    ],
)
def test_what_makes_no_law_is_refused(build, match):
    with pytest.raises(ModelError, match=match):
        build()
