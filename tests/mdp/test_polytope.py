"""Polytopes of rows: vertices against linear programming and exact arithmetic, and problems whose rows obey inequalities."""

from fractions import Fraction

import cvxpy as cp
import numpy as np
import pytest
from banach.mdp import ModelError, RobustMDP, instances
from banach.mdp.ambiguity import L1, Interval, Polytope
from banach.mdp.ambiguity import polytope as module
from banach.mdp.criterion import Discounted
from banach.mdp.instances.rows import from_lists
from banach.solvers import SolveError, check, solve
from banach.solvers.exact_ambiguity import exact_sigma, rational, sigma
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

small = st.integers(-2, 2)


@st.composite
def programs(draw):
    """Inequalities with many ties, empty sets among them, and values."""
    n, c = draw(st.integers(1, 5)), draw(st.integers(0, 4))
    numbers = st.lists(small, min_size=n, max_size=n)
    matrix = np.array([draw(numbers) for _ in range(c)], dtype=float).reshape(c, n)
    bound = np.array([draw(st.sampled_from([-0.5, 0.0, 0.25, 1.0, np.inf])) for _ in range(c)])
    return Polytope(matrix, bound), np.array(draw(numbers), dtype=float)


@settings(deadline=None, max_examples=100)
@given(program=programs())
def test_the_worst_vertex_is_the_optimum_of_the_linear_program(program):
    chosen, value = program
    n = len(value)
    nominal = np.eye(n)[0]  # its mass is one exactly, which empty sets may turn on
    found = linprog(
        value, A_ub=chosen.matrix[chosen.bound < np.inf], b_ub=chosen.bound[chosen.bound < np.inf],
        A_eq=np.ones((1, n)), b_eq=[nominal.sum()],
    )  # fmt: skip
    if found.status == 2:
        with pytest.raises(ModelError, match="no row of mass"):
            chosen.worst(nominal, value)
        with pytest.raises(SolveError, match="no row obeys"):
            _exact(chosen, nominal, value)
        return
    worst = chosen.worst(nominal, value)
    assert worst.value == pytest.approx(found.fun, abs=1e-8)
    assert chosen.contains(nominal, worst.row)
    exact = _exact(chosen, nominal, value)
    assert Fraction(worst.lower) <= exact <= Fraction(worst.upper)
    assert worst.upper - worst.lower <= 1e-13


def _exact(chosen, nominal, value):
    """The exact optimum, by the checker's simplex method, which is given no vertices."""
    low, high = sigma(chosen, [rational(p) for p in nominal], [rational(v) for v in value], np.empty((0, len(value))))
    assert low == high
    return Fraction(int(low.p), int(low.q))


def test_every_vertex_is_found_once():
    """Two thirds at most on each of four entries: a simplex with its four corners cut, twelve vertices."""
    chosen = Polytope(np.eye(4), np.full(4, 0.5 + 0.125))
    vertices = chosen.entries(np.full(4, 0.25))
    assert len(vertices) == 12
    assert len({tuple(v) for v in vertices.tolist()}) == 12
    assert sorted(vertices[0]) == [0.0, 0.0, 0.375, 0.625]


def test_an_equality_is_two_inequalities_and_one_row_is_a_set():
    nominal, mean = np.array([0.25, 0.5, 0.25]), np.array([[0.0, 1.0, 2.0]])
    chosen = Polytope(np.vstack([mean, -mean]), np.array([1.0, -1.0]))
    np.testing.assert_array_equal(sorted(chosen.entries(nominal).tolist()), [[0, 1, 0], [0.5, 0, 0.5]])
    point = Polytope(-np.eye(3), -nominal)
    np.testing.assert_array_equal(point.entries(nominal), [nominal])


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(2, 6))
def test_a_box_written_as_inequalities_is_the_box(seed, n):
    rng = np.random.default_rng(seed)
    nominal, value = rng.dirichlet(np.ones(n)), rng.normal(size=n)
    lower, upper = np.maximum(nominal - 0.1, 0), nominal + rng.uniform(0.01, 0.2, n)
    box = exact_sigma(Interval(lower, upper), nominal, [Fraction(v) for v in value])
    chosen = Polytope(np.vstack([np.eye(n), -np.eye(n)]), np.concatenate((upper, -lower)))
    found = chosen.worst(nominal, value)
    assert Fraction(found.lower) <= box[0] <= Fraction(found.upper)
    assert _exact(chosen, nominal, value) == box[0]


@pytest.mark.parametrize(
    ("matrix", "bound", "fault"),
    [
        ([[1.0, 0.0]], [1.0, 2.0], "one bound each"),
        ([1.0, 0.0], [1.0], "one inequality a row"),
        ([[1.0, 0.0], [np.inf, 1.0]], [1.0, 1.0], "inequality 1"),
        ([[1.0, 0.0]], [np.nan], "inequality 0"),
        ([[1.0, 0.0]], [-np.inf], "inequality 0"),
    ],
)
def test_what_is_no_system_of_inequalities_is_refused(matrix, bound, fault):
    with pytest.raises(ModelError, match=fault):
        Polytope(np.array(matrix), np.array(bound))


def test_too_many_vertices_are_refused(monkeypatch):
    monkeypatch.setattr(module, "MAX_VERTICES", 11)
    with pytest.raises(ModelError, match="more than 11 vertices; use Interval"):
        Polytope(np.eye(4), np.full(4, 0.625)).entries(np.full(4, 0.25))


def drifting(optimistic=False):
    """RiverSwim where the mean of the next state is known to 0.3, and no probability more than halved."""
    model = instances.riverswim()
    sets = []
    for k in range(model.n_pairs):
        row = slice(*model.row_ptr[k : k + 2].tolist())
        place = model.successor[row].astype(float)
        nominal = model.probability[row]
        sets.append(Polytope(np.vstack([place, -place, -np.eye(len(place))]),
                             np.concatenate(([place @ nominal + 0.3, 0.3 - place @ nominal], -0.5 * nominal))))  # fmt: skip
    return RobustMDP(model, sets, optimistic=optimistic)


@pytest.mark.parametrize("optimistic", [False, True])
def test_a_problem_with_polytopes_is_solved_proved_and_agrees_with_value_iteration_by_cvxpy(optimistic):
    problem = drifting(optimistic)
    model = problem.problem
    answer = solve(problem, eps=1e-7)
    verdict = check(problem, answer.certificate)
    assert verdict
    assert verdict.rows == problem.n_pairs + problem.n_states
    worth = []
    for k in range(model.n_pairs):
        row, chosen = slice(*model.row_ptr[k : k + 2].tolist()), problem.set_of(k)
        z = model.discount * answer.value[model.successor[row]]
        p = cp.Variable(len(z), nonneg=True)
        goal = cp.Maximize(p @ z) if optimistic else cp.Minimize(p @ z)
        program = cp.Problem(goal, [cp.sum(p) == 1, chosen.matrix @ p <= chosen.bound])
        program.solve(solver="HIGHS")
        worth.append(model.reward[k] + program.value)
    best = np.maximum.reduceat(worth, model.state_ptr[:-1])
    np.testing.assert_allclose(answer.value, best, atol=1e-8 * np.abs(answer.value).max())


def test_one_polytope_for_all_pairs_runs_over_all_states():
    model = from_lists([[(1.0, {0: 1.0})], [(0.0, {1: 1.0})], [(-1.0, {0: 0.5, 2: 0.5})]], Discounted(0.5))
    never_third = Polytope(np.array([[0.0, 0.0, 1.0]]), np.array([0.0]))
    answer = solve(RobustMDP(model, never_third), eps=1e-9)
    np.testing.assert_allclose(answer.value, [1.0, 0.0, -1.0], atol=1e-8)


def test_an_empty_set_names_its_state_and_action():
    model = instances.forest()
    with pytest.raises(ModelError, match=r"state .*, action .*: no row of mass 1 obeys the 1 inequalities"):
        RobustMDP(model, Polytope(np.ones((1, 3)), np.array([0.5])))


def test_polytopes_and_balls_do_not_mix():
    model = instances.forest()
    with pytest.raises(ModelError, match="more than one family"):
        RobustMDP(model, [Polytope(np.ones((1, 2)), np.array([2.0]))] * (model.n_pairs - 1) + [L1(0.1)])


def test_a_row_with_more_inequalities_than_a_word_has_bits():
    """Forty entries, each at least half of what it was: a simplex with forty corners, whatever the width of its bit sets."""
    nominal = np.full(40, 1 / 40)
    vertices = Polytope(-np.eye(40), -0.5 * nominal).entries(nominal)
    np.testing.assert_allclose(np.sort(vertices.max(axis=1)), np.full(40, 0.5 + 0.5 / 40))
