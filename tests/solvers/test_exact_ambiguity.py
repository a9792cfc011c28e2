"""Exact inner problems: against cvxpy, the definition in Fractions, closed forms, and the kernels' enclosures."""

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from banach.mdp import ambiguity
from banach.mdp.ambiguity import AmbiguitySet
from banach.solvers import SolveError
from banach.solvers.exact_ambiguity import exact_sigma
from hypothesis import given, settings
from hypothesis import strategies as st

from ..mdp.ambiguity_witness import SETS, conic, fractions, free

battery = settings(deadline=None, max_examples=15)
every_set = pytest.mark.parametrize("registered", SETS, ids=lambda registered: registered.name)
POLYHEDRAL = {
    "L1",
    "TotalVariation",
    "WeightedL1",
    "Interval",
    "LInfinity",
    "CVaR",
    "Contamination",
    "Scenarios",
    "Polytope",
    "ModelCVaR",
    "Wasserstein",
}
strengths = st.one_of(st.sampled_from([0.0, 1e-3, 0.1, 0.25, 0.5, 1.0]), st.floats(1e-3, 2.0))
anything = st.sampled_from([0.0, 5e-324, 1e-300, 1e-30, 1e-17, 1e-6, 0.03, 0.5, 1.0, 2.0, 1e6, 1e300])


@st.composite
def rows(draw, max_entries=6):
    """A nominal row with zeros and ties, its values with ties, a seed, a support."""
    counts = draw(st.lists(st.integers(0, 6), min_size=1, max_size=max_entries).filter(any))
    values = st.one_of(st.integers(-3, 3), st.floats(-5, 5, width=32))
    value = draw(st.lists(values, min_size=len(counts), max_size=len(counts)))
    nominal = np.array(counts, dtype=float) / sum(counts)
    return nominal, np.array(value, dtype=float), draw(st.integers(0, 10**6)), draw(st.sampled_from(["nominal", "all"]))


@every_set
@battery
@given(row=rows(max_entries=5), strength=strengths)
def test_exact_sigma_is_what_cvxpy_finds(registered, row, strength):
    nominal, value, side, support = row
    chosen = registered.at(strength, nominal, side, support)
    low, high = exact_sigma(chosen, nominal, fractions(value))
    size = max(1.0, float(np.abs(value).max()))
    assert low <= high
    assert conic(registered, chosen, nominal, value) == pytest.approx(float(low), abs=1e-5 * size)
    assert float(high - low) <= (0 if registered.name in POLYHEDRAL else 1e-25 * size)


@every_set
@battery
@given(row=rows(), strength=anything, scale=st.sampled_from([1.0, 1e-200, 1e12]), shift=st.sampled_from([0.0, 1e9]))
def test_the_kernels_enclosure_contains_exact_sigma(registered, row, strength, scale, shift):
    nominal, value, side, support = row
    chosen, value = registered.at(strength, nominal, side, support), value * scale + shift
    low, high = exact_sigma(chosen, nominal, fractions(value))
    found = chosen.worst(nominal, value)
    assert Fraction(found.lower) <= low <= high <= Fraction(found.upper)


@every_set
@battery
@given(row=rows(max_entries=5), strength=strengths)
def test_exact_sigma_agrees_with_the_definition_worked_out_another_way(registered, row, strength):
    nominal, value, side, support = row
    chosen = registered.at(strength, nominal, side, support)
    low, high = exact_sigma(chosen, nominal, fractions(value))
    below, above = registered.exact(chosen, fractions(nominal), fractions(value))
    assert low <= above
    assert below <= high
    if registered.name in POLYHEDRAL:
        assert low == high == below == above


@every_set
@battery
@given(row=rows(), strength=strengths, scale=st.fractions(1, 9), shift=st.fractions(-9, 9))
def test_exact_sigma_scales_and_moves_by_the_mass(registered, row, strength, scale, shift):
    nominal, value, side, support = row
    chosen, z = registered.at(strength, nominal, side, support), fractions(value)
    low, high = exact_sigma(chosen, nominal, z)
    moved = exact_sigma(chosen, nominal, [scale * v + shift for v in z])
    mass = [sum(fractions(r)) for r in chosen.rows] if not chosen.keeps_mass else [sum(fractions(nominal))]
    if len(set(mass)) == 1:
        assert moved[0] <= scale * high + shift * mass[0]
        assert scale * low + shift * mass[0] <= moved[1]


@every_set
@given(row=rows())
@settings(deadline=None, max_examples=8)
def test_a_larger_set_is_no_better_exactly(registered, row):
    nominal, value, side, support = row
    z, reach = fractions(value), (0.0, 1e-9, 0.1, 0.3, 0.30000000000000004, 0.9)
    at = [exact_sigma(registered.at(s, nominal, side, support), nominal, z) for s in reach]
    if registered.name not in (
        "Interval",
        "CVaR",
        "Scenarios",
        "Polytope",
        "ModelCVaR",
    ):  # their numbers are computed from the strength, and rounded
        assert all(there[0] <= here[1] for here, there in pairwise(at))
        assert at[0] == (sum(p * v for p, v in zip(fractions(nominal), z, strict=True)),) * 2


@every_set
@pytest.mark.parametrize("value", [[1.0, 1.0, 1.0], [-0.3, -0.3, -0.3]])
def test_equal_values_need_no_rounding(registered, value):
    nominal = np.array([0.1, 0.2, 0.7])
    chosen = registered.at(0.25, nominal, 0, "all")
    low, high = exact_sigma(chosen, nominal, fractions(value))
    if chosen.keeps_mass:
        assert low == high == Fraction(value[0]) * sum(fractions(nominal))


@pytest.mark.parametrize(
    "chosen",
    [ambiguity.L1(np.inf), ambiguity.KL(np.inf), ambiguity.Burg(np.inf), ambiguity.L2(np.inf), ambiguity.ChiSquare(np.inf)],
    ids=lambda chosen: type(chosen).__name__,
)
def test_an_infinite_radius_reaches_the_least_value_of_the_support(chosen):
    nominal = np.array([0.5, 0.5, 0.0])
    assert exact_sigma(chosen, nominal, fractions([2.0, 1.0, 0.0])) == (1, 1)


def test_known_values():
    half, value = np.array([0.5, 0.5]), fractions([0.0, 1.0])
    assert exact_sigma(ambiguity.TotalVariation(0.25), half, value) == (Fraction(1, 4),) * 2
    assert exact_sigma(ambiguity.CVaR(0.75), half, value) == (Fraction(1, 3),) * 2
    for chosen, known in (
        (ambiguity.L2(0.25), 0.5 - 0.25 / np.sqrt(2)),
        (ambiguity.ChiSquare(0.25), 0.25),
        (ambiguity.CressieRead(0.125, order=2.0), 0.25),
        (ambiguity.Burg(0.5 * np.log(1 / (4 * 0.25 * 0.75))), 0.25),
        (ambiguity.KL(0.25 * np.log(0.5) + 0.75 * np.log(1.5)), 0.25),
    ):
        low, high = exact_sigma(chosen, half, value)
        assert float(low) == pytest.approx(known, abs=1e-15)
        assert high - low < Fraction(1, 10**25)


def test_more_bits_are_narrower():
    nominal, value = np.array([0.3, 0.3, 0.4]), fractions([0.0, 0.7, 1.0])
    widths = [high - low for low, high in (exact_sigma(ambiguity.KL(0.1), nominal, value, bits) for bits in (16, 64, 256))]
    assert all(wide > narrow for wide, narrow in pairwise(widths))


def test_kept_out_entries_do_not_count():
    nominal = np.array([0.5, 0.0, 0.5])
    for registered in SETS:
        chosen = registered.at(0.25, nominal, 0, "nominal")
        if len(free(chosen, nominal)) == 2:
            far, near = (exact_sigma(chosen, nominal, fractions([0.0, middle, 1.0])) for middle in (-100.0, 0.5))
            assert far == near


def test_a_set_without_an_exact_solver_is_refused():
    class Mine(AmbiguitySet):
        family = 99

    with pytest.raises(SolveError, match="Mine has no exact solver"):
        exact_sigma(Mine(), np.array([1.0]), [Fraction(1)])
