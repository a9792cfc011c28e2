"""The s-rectangular inner problem, held against a linear or conic program, exact rationals and the saddle itself."""

import itertools
import warnings
from fractions import Fraction

import cvxpy as cp
import numpy as np
import pytest
from banach.mdp import ModelError
from banach.mdp.ambiguity import KL, L1, L2, Burg, ChiSquare, SRectangular, TotalVariation, WeightedL1
from hypothesis import given, settings
from hypothesis import strategies as st

battery = settings(deadline=None, max_examples=40)
WEIGHTS = np.array([1.0, 0.5, 2.0, 1.0, 3.0, 0.7])
BALLS = {
    "L1": lambda radius, n, support: L1(radius, support=support),
    "TotalVariation": lambda radius, n, support: TotalVariation(radius, support=support),
    "WeightedL1": lambda radius, n, support: WeightedL1(radius, WEIGHTS[:n], support=support),
    "KL": lambda radius, n, support: KL(radius, support=support),
    "ChiSquare": lambda radius, n, support: ChiSquare(radius, support=support),
    "Burg": lambda radius, n, support: Burg(radius, support=support),
}
every_ball = pytest.mark.parametrize("name", BALLS)


@st.composite
def states(draw, max_actions=4, max_successors=5):
    """Nominal rows with zeros, values with ties, both (A, n), and a support."""
    n, a = draw(st.integers(1, max_successors)), draw(st.integers(1, max_actions))
    counts = draw(st.lists(st.lists(st.integers(0, 6), min_size=n, max_size=n).filter(any), min_size=a, max_size=a))
    nominal = np.array([np.array(row) / sum(row) for row in counts])
    entries = st.one_of(st.integers(-3, 3).map(float), st.floats(-3, 3, width=32))
    value = np.array(draw(st.lists(st.lists(entries, min_size=n, max_size=n), min_size=a, max_size=a)))
    return nominal, value, draw(st.sampled_from(["nominal", "all"]))


def distance(ball, p, row):
    """The convex distance of a cvxpy row from a nominal one."""
    used = np.flatnonzero(row)
    if isinstance(ball, WeightedL1):
        return ball.weights @ cp.abs(p - row)
    if isinstance(ball, KL):
        return cp.sum(cp.kl_div(p[used], row[used]))
    if isinstance(ball, ChiSquare):
        return cp.sum(cp.multiply(1 / row[used], cp.square(p[used] - row[used])))
    if isinstance(ball, Burg):
        return row[used] @ np.log(row[used]) - row[used] @ cp.log(p[used])
    return cp.norm1(p - row) / (2 if isinstance(ball, TotalVariation) else 1)


def conic(ball, nominal, value, decision=None) -> float:
    """min over U_s of the greatest p_a.z_a, or of their mean under a decision."""
    rows = [cp.Variable(len(row), nonneg=True) for row in nominal]
    worth = [p @ z for p, z in zip(rows, value, strict=True)]
    constraints = [cp.sum([distance(ball, p, row) for p, row in zip(rows, nominal, strict=True)]) <= ball.radius]
    for p, row in zip(rows, nominal, strict=True):
        constraints.append(cp.sum(p) == row.sum())
        outside = np.flatnonzero(row == 0)
        if len(outside) and (ball.support == "nominal" or ball.dominated):
            constraints.append(p[outside] == 0)
    level = cp.Variable()
    goal = level if decision is None else sum(d * w for d, w in zip(decision, worth, strict=True))
    if decision is None:
        constraints += [w <= level for w in worth]
    problem = cp.Problem(cp.Minimize(goal), constraints)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        problem.solve(solver="CLARABEL")
    return float(problem.value)


radii = st.one_of(st.sampled_from([0.02, 0.1, 0.5, 1.0]), st.floats(0.02, 2.0))
extreme = st.one_of(st.sampled_from([0.0, 1e-300, 1e-20, 1e-9, 10.0, 1e3, 1e300]), st.floats(0, 3))


@every_ball
@battery
@given(state=states(), radius=radii)
def test_the_value_is_that_of_the_program(name, state, radius):
    nominal, value, support = state
    ball = BALLS[name](radius, nominal.shape[1], support)
    assert SRectangular(ball).worst(nominal, value).value == pytest.approx(conic(ball, nominal, value), abs=1e-5)


@every_ball
@battery
@given(state=states(), radius=radii)
def test_the_decision_guarantees_the_value(name, state, radius):
    nominal, value, support = state
    ball = BALLS[name](radius, nominal.shape[1], support)
    found = SRectangular(ball).worst(nominal, value)
    assert found.decision.min() >= 0
    assert found.decision.sum() == pytest.approx(1, abs=1e-12)
    assert SRectangular(ball).evaluate(found.decision, nominal, value)[0] == pytest.approx(found.value, abs=1e-6)


@every_ball
@battery
@given(state=states(), radius=radii, data=st.data())
def test_a_given_decision_is_worth_what_the_program_says(name, state, radius, data):
    nominal, value, support = state
    shares = data.draw(st.lists(st.integers(0, 4), min_size=len(nominal), max_size=len(nominal)).filter(any))
    decision = np.array(shares) / sum(shares)
    ball = BALLS[name](radius, nominal.shape[1], support)
    worth, rows = SRectangular(ball).evaluate(decision, nominal, value)
    assert worth == pytest.approx(conic(ball, nominal, value, decision), abs=1e-5)
    assert worth == pytest.approx(decision @ (rows * value).sum(axis=1), abs=1e-8)


@every_ball
@battery
@given(state=states(), radius=extreme)
def test_the_rows_fit_the_budget_and_no_action_is_worth_more_than_the_value(name, state, radius):
    nominal, value, support = state
    ball = BALLS[name](radius, nominal.shape[1], support)
    found = SRectangular(ball).worst(nominal, value)
    spent = sum(ball.distance(row, p) for row, p in zip(nominal, found.rows, strict=True))
    assert spent <= radius * (1 + 1e-9) + 1e-9
    assert (found.rows * value).sum(axis=1).max() == pytest.approx(found.value, abs=1e-8)


@every_ball
@battery
@given(state=states(), radius=extreme, scale=st.sampled_from([1.0, 1e-100, 1e100]), shift=st.sampled_from([0.0, 1e6]))
def test_the_bracket_is_ordered_and_holds_the_value(name, state, radius, scale, shift):
    nominal, value, support = state
    ball = BALLS[name](radius, nominal.shape[1], support)
    found = SRectangular(ball).worst(nominal, value * scale + shift)
    assert found.lower <= found.value <= found.upper


@every_ball
@battery
@given(state=states(), radius=radii)
def test_the_bracket_is_narrow(name, state, radius):
    nominal, value, support = state
    ball = BALLS[name](radius, nominal.shape[1], support)
    found = SRectangular(ball).worst(nominal, value)
    assert found.upper - found.lower <= 1e-9


def exact_l1(radius: Fraction, nominal, value) -> Fraction:
    """max over d of the exact value of the L1 problem, by its dual: every crossing of knots is tried.

    sum_a xi_a(u) <= kappa is decided at each knot u in Fractions, and the last segment is solved.
    """
    curves = []
    for row, z in zip(nominal, value, strict=True):
        used = sorted(((Fraction(v), Fraction(b)) for b, v in zip(row, z, strict=True) if b > 0), reverse=True)
        least = used[-1][0]
        knots = [(Fraction(0), sum(v * b for v, b in used))]
        for v, b in used:
            if v > least:
                knots.append((knots[-1][0] + 2 * b, knots[-1][1] - b * (v - least)))
        curves.append(knots)

    def spent(u):
        result = Fraction(0)
        for knots in curves:
            if u >= knots[0][1]:
                continue
            for (near, high), (far, low) in itertools.pairwise(knots):
                if low <= u < high:
                    result += near + (high - u) / (high - low) * (far - near)
        return result

    bottom = max(knots[-1][1] for knots in curves)
    levels = sorted({u for knots in curves for _, u in knots if u >= bottom} | {bottom})
    reached = [u for u in levels if spent(u) <= radius]
    if reached[0] == bottom:
        return bottom
    below = levels[levels.index(reached[0]) - 1]
    return reached[0] - (radius - spent(reached[0])) * (reached[0] - below) / (spent(below) - spent(reached[0]))


@battery
@given(state=states(), radius=extreme)
def test_the_bracket_of_an_l1_budget_contains_the_exact_rational_value(state, radius):
    nominal, value, _ = state
    found = SRectangular(L1(radius)).worst(nominal, value)
    assert Fraction(found.lower) <= exact_l1(Fraction(radius), nominal, value) <= Fraction(found.upper)


@every_ball
def test_mixing_actions_beats_every_single_one(name):
    nominal, value = np.full((2, 2), 0.5), np.array([[1.0, 0.0], [0.0, 1.0]])
    ball = SRectangular(BALLS[name](0.2, 2, "nominal"))
    found = ball.worst(nominal, value)
    np.testing.assert_allclose(found.decision, [0.5, 0.5], atol=1e-9)
    single = max(ball.evaluate(np.eye(2)[a], nominal, value)[0] for a in range(2))
    assert found.value > single + 0.01


@every_ball
@battery
@given(state=states(max_actions=1), radius=radii)
def test_one_action_is_the_problem_of_its_row(name, state, radius):
    nominal, value, support = state
    ball = BALLS[name](radius, nominal.shape[1], support)
    assert SRectangular(ball).worst(nominal, value).value == pytest.approx(ball.worst(nominal[0], value[0]).value, abs=1e-9)


def padded(*rows):
    """(nominal, value) of actions given as [(probability, value), ...], with impossible outcomes to make them equally long."""
    longest = max(map(len, rows))
    full = [[*row, *[(0.0, row[0][1])] * (longest - len(row))] for row in rows]
    return np.array([[p for p, _ in row] for row in full]), np.array([[z for _, z in row] for row in full])


ULP = 2.0**-52
CORNERS = {
    "least outcomes that are equal but for rounding": (KL(1.0), padded(
        [(2 / 7, 3.9), (1 / 7, 4.8), (3 / 7, 3.9 + 4 * ULP), (1 / 7, 3.9 - 4 * ULP)],
        [(0.375, 0.0), (0.125, 2.7), (0.5, 0.9)],
    )),
    "the same for chi-square": (ChiSquare(0.4), padded(
        [(0.25, 1.0), (0.25, 1.0 - 2 * ULP), (0.125, 1.5), (0.375, 1.0 + 2 * ULP)], [(0.5, 1.0), (0.5, -1.0)]
    )),
    "tiny probabilities far from zero": (L1(1.0), padded(
        [(0.125, 4.5), (2.0**-40, 4.5), (0.875 - 2.0**-30 - 2.0**-40, 4.5), (2.0**-30, 4.0)], [(0.5, 3.0), (0.5, 2.0)]
    )),
    "a sure action as good as a nominal one": (Burg(0.1), padded([(1 / 3, 3.0), (2 / 3, 0.0)], [(1.0, 1.0)])),
    "least outcomes off the support of two actions": (Burg(1e-8, support="all"), (
        np.array([[0, 1, 1, 2, 0, 2, 0, 1], [0, 3, 2, 2, 3, 3, 0, 1]]) / np.array([[7], [14]]),
        np.array([0.0, 0.4, 0.37, 0.94, 0.2, 0.97, 0.5, 0.73]) - np.array([[0.17], [0.05]]),
    )),
    "weights, and all mass on three outcomes": (WeightedL1(1e-3, np.array([1.0, 0.5, 2.0, 2.0]), support="all"), padded(
        [(1 / 3, 0.2), (1 / 3, -0.8), (1 / 3, 1.2), (0.0, 0.2)]
    )),
}  # fmt: skip


@pytest.mark.parametrize("corner", CORNERS)
def test_the_bracket_of_a_corner_case_is_narrow(corner):
    ball, (nominal, value) = CORNERS[corner]
    found = SRectangular(ball).worst(nominal, value)
    assert found.upper - found.lower <= 1e-9
    assert SRectangular(ball).evaluate(found.decision, nominal, value)[0] == pytest.approx(found.value, abs=1e-9)


def test_a_set_without_a_solver_is_refused():
    with pytest.raises(ModelError, match="no s-rectangular solver"):
        SRectangular(L2(0.1))


@pytest.mark.parametrize("decision", [[0.5, 0.4], [1.5, -0.5], [1.0]])
def test_a_decision_that_is_no_distribution_is_refused(decision):
    with pytest.raises(ModelError, match="no distribution over 2 actions"):
        SRectangular(L1(0.1)).evaluate(np.array(decision), np.full((2, 2), 0.5), np.ones((2, 2)))


def test_rows_and_values_of_different_shapes_are_refused():
    with pytest.raises(ModelError, match="one row an action"):
        SRectangular(L1(0.1)).worst(np.full((2, 2), 0.5), np.ones((2, 3)))
