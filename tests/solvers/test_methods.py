"""One battery of properties that every method for discounted problems passes by standing in METHODS."""

import dataclasses
import inspect
from fractions import Fraction

import banach.solvers
import numpy as np
import pytest
from banach.mdp import MDP, Discounted, strategies
from banach.solvers import (
    Anderson,
    FirstOrder,
    GaussSeidel,
    InexactPolicyIteration,
    LinearProgramming,
    ModifiedPolicyIteration,
    NotConverged,
    PartialPolicyIteration,
    PolicyIteration,
    PrioritizedSweeping,
    RankOne,
    RationalPolicyIteration,
    RobustPolicyIteration,
    SolveError,
    Topological,
    ValueIteration,
    check,
    solve,
)
from banach.solvers.discounted import certified_fixed_point
from banach.solvers.watch import Watch
from hypothesis import given, settings
from hypothesis import strategies as st

from ..witness import optimal_value, policy_value

METHODS = [
    None,
    ValueIteration(),
    GaussSeidel(),
    ModifiedPolicyIteration(),
    InexactPolicyIteration(),
    PolicyIteration(),
    Anderson(),
    RankOne(),
    PrioritizedSweeping(),
    Topological(),
    LinearProgramming(),
    RationalPolicyIteration(),
]
NEEDS_A_TABLE = [InexactPolicyIteration(), PrioritizedSweeping(), Topological(), LinearProgramming(), RationalPolicyIteration()]
OUT_OF_BUDGET = [
    ValueIteration(max_sweeps=2),
    GaussSeidel(max_sweeps=2),
    ModifiedPolicyIteration(max_rounds=1),
    InexactPolicyIteration(max_rounds=1),
    PolicyIteration(max_rounds=1),
    Anderson(max_sweeps=2),
    RankOne(max_sweeps=2),
    PrioritizedSweeping(max_sweeps=1),
    Topological(max_sweeps=1),
]
EPS = 1e-6

every_method = pytest.mark.parametrize("method", METHODS, ids=str)
battery = settings(deadline=None, max_examples=30, derandomize=True)
problems = strategies.discounted_mdps(max_states=5)
either_sense = strategies.discounted_mdps(max_states=5, minimize=st.booleans())


def contains(solution, exact) -> bool:
    lower, upper = solution.certificate.lower.tolist(), solution.certificate.upper.tolist()
    return all(Fraction(low) <= value <= Fraction(high) for low, value, high in zip(lower, exact, upper, strict=True))


def garnet(seed: int, n_states: int = 30, n_actions: int = 3, discount: float = 0.95, scale: float = 1.0, **more) -> MDP:
    rng = np.random.default_rng(seed)
    transition = rng.dirichlet(np.full(n_states, 0.1), size=(n_states, n_actions))
    return MDP.from_dense(transition, scale * rng.normal(size=(n_states, n_actions)), discount=discount, **more)


def test_every_public_contraction_method_is_in_the_battery():
    contract = ["self", "operator", "value", "eps", "watch"]
    public = {getattr(banach.solvers, name) for name in banach.solvers.__all__}
    methods = {cls for cls in public if hasattr(cls, "run") and [*inspect.signature(cls.run).parameters] == contract}
    against_nature = {FirstOrder, PartialPolicyIteration, RobustPolicyIteration}  # in the battery of robust problems
    assert methods - against_nature == {type(method) for method in METHODS if method is not None}


@every_method
@given(problem=either_sense)
@battery
def test_the_bracket_contains_the_exact_rational_value(method, problem):
    assert contains(solve(problem, method, EPS), optimal_value(problem)[0])


@every_method
@given(problem=problems, eps=st.sampled_from([1e-2, 1e-4, 1e-7]))
@battery
def test_the_bracket_is_no_wider_than_eps(method, problem, eps):
    certificate = solve(problem, method, eps).certificate
    assert np.all(certificate.upper - certificate.lower <= eps)


@every_method
@given(problem=either_sense)
@battery
def test_the_returned_policy_is_worth_what_the_bracket_says(method, problem):
    solution = solve(problem, method, EPS)
    assert contains(solution, policy_value(problem, solution.policy))


@every_method
@given(problem=either_sense)
@battery
def test_the_checker_accepts_the_proof(method, problem):
    assert check(problem, solve(problem, method, EPS).certificate)


@every_method
@given(problem=problems)
@battery
def test_minimisation_mirrors_maximisation(method, problem):
    greatest, least = solve(problem, method, EPS).certificate, solve(problem.negated(), method, EPS).certificate
    assert np.array_equal(greatest.lower, -least.upper)
    assert np.array_equal(greatest.upper, -least.lower)
    assert np.array_equal(greatest.policy, least.policy)


@every_method
@given(problem=problems, start=st.lists(st.floats(-1e4, 1e4), min_size=5, max_size=5))
@battery
def test_any_start_leads_to_a_bracket_of_the_exact_value(method, problem, start):
    solution = solve(problem, method, EPS, start=np.array(start[: problem.n_states]))
    assert contains(solution, optimal_value(problem)[0])
    assert solution.certificate.width <= EPS


@given(problem=problems)
@battery
def test_the_brackets_of_all_methods_have_the_exact_value_in_common(problem):
    certificates = [solve(problem, method, EPS).certificate for method in METHODS]
    lower = np.max([certificate.lower for certificate in certificates], axis=0)
    upper = np.min([certificate.upper for certificate in certificates], axis=0)
    exact = optimal_value(problem)[0]
    assert all(Fraction(low) <= value <= Fraction(high) for low, value, high in zip(lower, exact, upper, strict=True))


def one_row(*rows: tuple[float, dict[int, float]], n_states: int, discount: float, **more) -> MDP:
    """A problem whose state s has the one action rows[s]; states beyond are terminal."""
    count = [len(row) for _, row in rows]
    terminal = np.arange(n_states) >= len(rows)
    return MDP(
        state_ptr=np.minimum(np.arange(n_states + 1), len(rows)),
        row_ptr=np.cumsum([0, *count]),
        successor=np.array([j for _, row in rows for j in row], dtype=np.int32),
        probability=np.array([p for _, row in rows for p in row.values()]),
        reward=np.array([reward for reward, _ in rows]),
        criterion=Discounted(discount),
        terminal=terminal,
        **more,
    )


def ties() -> MDP:
    same = np.full((4, 3, 4), 0.25)
    return MDP.from_dense(same, np.repeat([[1.0], [2.0], [1 / 3], [0.1]], 3, axis=1), discount=0.9)


CORNERS = {
    "one state": one_row((1 / 3, {0: 1.0}), n_states=1, discount=0.99),
    "one terminal state": one_row(n_states=1, discount=0.9, terminal_value=np.array([0.1])),
    "discount zero": garnet(3, discount=0.0, n_states=6),
    "the integer discount zero": MDP.from_dense(np.full((2, 2, 2), 0.5), np.eye(2), discount=0, layout="sas"),
    "every action ties": ties(),
    "rows above one": one_row((1.0, {0: 0.5, 1: 0.5 + 4e-10}), (-1 / 3, {0: 1 + 4e-10}), n_states=2, discount=0.99),
    "rows below one": one_row((1.0, {0: 0.5, 1: 0.5 - 4e-10}), (-1 / 3, {0: 1 - 4e-10}), n_states=2, discount=0.99),
    "a chain to a terminal state": one_row(
        (-1.0, {1: 0.9, 0: 0.1}), (-1.0, {2: 0.9, 1: 0.1}), n_states=3, discount=0.999, terminal_value=np.array([0, 0, 1e3])
    ),
    "two closed classes": one_row((1.0, {1: 1.0}), (0.0, {0: 1.0}), (5.0, {2: 1.0}), n_states=3, discount=0.95),
    "large rewards": garnet(4, n_states=6, scale=1e4),
    "small rewards": garnet(5, n_states=6, scale=1e-12),
}


@every_method
@pytest.mark.parametrize("corner", CORNERS)
def test_corner_cases_are_bracketed_and_proved(method, corner):
    problem = CORNERS[corner]
    solution = solve(problem, method, EPS)
    assert contains(solution, optimal_value(problem)[0])
    assert solution.certificate.width <= EPS
    assert check(problem, solution.certificate)


@pytest.mark.parametrize("method", OUT_OF_BUDGET, ids=str)
def test_a_method_whose_budget_ends_says_what_it_reached_and_what_to_do(method):
    with pytest.raises(NotConverged, match=r"wide.*asked for.*(raise|use|ask for)") as caught:
        solve(garnet(1, discount=0.99, terminal=[0]), method, eps=1e-9)
    assert 1e-9 < caught.value.reached < 1e6


@every_method
def test_a_discount_next_to_one_is_proved_or_refused_with_the_reached_width(method):
    problem = garnet(2, n_states=8, discount=1 - 1e-6, scale=1e-3)
    if hasattr(method, "max_sweeps"):
        method = dataclasses.replace(method, max_sweeps=2000)
    try:
        certificate = solve(problem, method, eps=1e-9).certificate
        width, proved = certificate.width, bool(check(problem, certificate))
    except NotConverged as fault:
        width, proved = fault.reached, False
    assert proved == (width <= 1e-9)
    assert width < 1e6


@every_method
def test_rewards_whose_values_may_exceed_the_largest_float_are_refused(method):
    with pytest.raises(SolveError, match=r"rewards of .* scale them down"):
        solve(garnet(2, n_states=8, discount=0.99, scale=1e300), method)


class WithoutTable:
    """The operator protocol of another operator, and nothing else."""

    def __init__(self, operator):
        self._operator = operator
        for name in (
            "n_states",
            "mass",
            "modulus",
            "terminal",
            "start",
            "apply",
            "apply_policy",
            "sweep",
            "sweep_policy",
            "blank_policy",
        ):
            setattr(self, name, getattr(operator, name))
        self.enclose, self.policy_system = operator.enclose, operator.policy_system


@pytest.mark.parametrize("method", [m for m in METHODS if m is not None and m not in NEEDS_A_TABLE], ids=str)
def test_most_methods_need_no_more_than_the_operator_protocol(method):
    problem = garnet(7, n_states=6)
    operator = WithoutTable(problem.operator)
    lower, upper, _ = certified_fixed_point(operator, method, EPS, operator.start(), Watch())
    assert all(
        Fraction(low) <= v <= Fraction(high) for low, v, high in zip(lower, optimal_value(problem)[0], upper, strict=True)
    )


@pytest.mark.parametrize("method", NEEDS_A_TABLE, ids=str)
def test_methods_that_read_rows_refuse_other_operators(method):
    operator = WithoutTable(garnet(7, n_states=6).operator)
    with pytest.raises(SolveError, match=rf"{type(method).__name__}.*use "):
        method.run(operator, operator.start(), EPS, Watch())


@every_method
def test_methods_are_frozen_settings_and_leave_the_start_alone(method):
    if method is None:
        return
    problem = garnet(8, n_states=6)
    start = np.ones(6)
    method.run(problem.operator, start, EPS, Watch())
    assert np.array_equal(start, np.ones(6))
    with pytest.raises(dataclasses.FrozenInstanceError):
        method.run = None


@pytest.mark.parametrize("method", [Anderson(), RankOne()], ids=str)
def test_acceleration_pays_on_slow_mixing_blocks_and_costs_little_elsewhere(method):
    rng = np.random.default_rng(0)
    transition = rng.dirichlet(np.full(20, 0.3), size=(20, 2))
    transition[:10, :, 10:] *= 0.01
    transition[10:, :, :10] *= 0.01
    transition /= transition.sum(axis=2, keepdims=True)
    slow = MDP.from_dense(transition, rng.normal(size=(20, 2)) + (np.arange(20) < 10)[:, None], discount=0.99)
    assert solve(slow, method).trace.sweeps < 0.2 * solve(slow, ValueIteration()).trace.sweeps
    fast = garnet(9)
    assert solve(fast, method).trace.sweeps < 2.1 * solve(fast, ValueIteration()).trace.sweeps


def test_topological_solving_of_an_acyclic_problem_takes_one_pass():
    n_states = 50
    rng = np.random.default_rng(1)
    transition = np.tril(rng.random((n_states, 2, n_states)).transpose(1, 0, 2), -1).transpose(1, 0, 2)
    transition[1:] /= transition[1:].sum(axis=2, keepdims=True)
    problem = MDP.from_dense(transition, rng.normal(size=(n_states, 2)), discount=0.999, layout="sas", terminal=[0])
    order = rng.permutation(n_states)
    shuffled = MDP.from_dense(
        transition[order][:, :, order],
        rng.normal(size=(n_states, 2)),
        discount=0.999,
        layout="sas",
        terminal=[int(np.argmin(order))],
    )
    for model in (problem, shuffled):
        assert solve(model, Topological(), eps=1e-6).trace.sweeps == 2
