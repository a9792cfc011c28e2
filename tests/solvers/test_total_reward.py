"""Total reward and reachability: the traps that sweeps fall into, exact answers, and independent solvers."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
import scipy.optimize
from banach.mdp import MDP, TotalReward, instances, strategies
from banach.solvers import (
    Certificate,
    CertificateRejected,
    GaussSeidel,
    InfiniteValue,
    ModifiedPolicyIteration,
    NotConverged,
    PolicyIteration,
    SolveError,
    ValueIteration,
    check,
    solve,
)
from banach.solvers.rank_one import RankOne
from hypothesis import assume, given, settings

from .test_against_enumeration import INFINITE, best_totals, contained, few_policies

METHODS = [None, PolicyIteration(), ModifiedPolicyIteration(sweeps=3), GaussSeidel(), ValueIteration()]


def holds(problem, certificate, state, exact):
    assert check(problem, certificate)
    return Fraction(float(certificate.lower[state])) <= exact <= Fraction(float(certificate.upper[state]))


# The chain of Haddad and Monmege


@pytest.mark.parametrize("method", METHODS, ids=str)
@pytest.mark.parametrize(("n", "p"), [(1, 0.3), (2, 0.7), (5, 0.5), (12, 0.9), (20, 0.7), (30, 0.7)])
def test_the_slow_chain_is_reached_with_its_exact_probability(n, p, method):
    problem = instances.make(f"haddad_monmege:n={n},p={p}")
    certificate = solve(problem, method, eps=1e-6).certificate
    left, right = Fraction(p), Fraction(1 - p)
    assert holds(problem, certificate, n, left / (left + right))
    assert certificate.width <= 1e-6


@pytest.mark.parametrize(("n", "eps"), [(1, 1e-9), (2, 1e-9), (3, 1e-9), (5, 1e-9), (12, 1e-6), (20, 2e-3)])
def test_the_slow_chain_takes_its_exact_number_of_steps(n, eps):
    problem = instances.make(f"haddad_monmege:n={n},p=0.5,objective=steps")
    certificate = solve(problem, eps=eps).certificate
    assert holds(problem, certificate, n, Fraction(3) * 2**n / 2 - 2)
    assert certificate.width <= eps


def test_plain_value_iteration_would_stop_at_a_millionth_of_the_answer():
    problem = instances.make("haddad_monmege:n=20,p=0.7")
    operator, value, sweeps = problem.operator, problem.operator.start(), 0
    following, policy = np.empty_like(value), np.empty(problem.n_states, dtype=np.int32)
    while True:
        low, high = operator.apply(value, following, policy)
        value, following, sweeps = following, value, sweeps + 1
        if max(high, -low) < 1e-6:
            break
    assert sweeps == 21
    assert value[20] == pytest.approx(1.3e-6, rel=0.1)
    assert solve(problem, ValueIteration(), eps=1e-6).value[20] == pytest.approx(0.7, abs=1e-6)


def test_what_rounding_does_not_allow_is_said_with_what_was_reached():
    problem = instances.make("haddad_monmege:n=20,p=0.7,objective=steps")
    with pytest.raises(NotConverged, match="wide and rounding allows little less") as caught:
        solve(problem, eps=1e-6)
    assert 1e-6 < caught.value.reached < 1e-2


# End components


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_the_end_component_trap_is_worth_one_half(method):
    problem = instances.make("end_component_trap")
    certificate = solve(problem, method, eps=1e-9).certificate
    assert holds(problem, certificate, 0, Fraction(1, 2))


def test_every_inductive_vector_of_the_trap_is_at_least_one_half():
    problem = instances.make("end_component_trap")
    certificate = solve(problem).certificate
    upper = np.array(certificate.upper)
    upper[0] = np.nextafter(0.5, 0.0)
    with pytest.raises(CertificateRejected, match="state 0, action 1"):
        check(problem, Certificate(certificate.lower, upper, certificate.policy, problem))


def test_the_checker_does_not_believe_that_waiting_in_the_trap_is_worth_anything():
    problem = instances.make("end_component_trap")
    certificate = solve(problem).certificate
    with pytest.raises(CertificateRejected, match="state 0, action 0: lower < T_policy lower, strictly"):
        check(problem, Certificate(certificate.lower, certificate.upper, np.array([0, -1, -1], dtype=np.int32), problem))


def test_drift_that_floating_point_takes_for_an_end_component_is_bracketed():
    problem = instances.make("random_ice:side=30,discount=1")
    certificate = solve(problem, eps=1e-6).certificate
    assert check(problem, certificate)
    assert certificate.width <= 1e-6


# Storm's sound value iteration

TWO_STATES = [
    [(1.0, {1: 3, 2: 1}), (6.0, {0: 1, 1: 1, 2: 2})],
    [(7.0, {0: 2, 2: 2}), (1.0, {1: 3, 2: 1})],
]
"""Rewards and quarters of probabilities. State 2 ends. stormpy 2.0.0's sound value iteration (greatest expected reward,
precision 1e-6) returned 4 as lower and upper bound of both states; the optimum is 62/5 and 66/5."""

TWO_STATES_IN_EIGHTHS = [
    [(1.0, {0: 1, 1: 6, 2: 1}), (6.0, {0: 3, 1: 3, 2: 2})],
    [(7.0, {0: 4, 1: 2, 2: 2}), (1.0, {1: 7, 2: 1})],
]
"""The same in eighths: it returned 8 and 8; the optimum is 76/3 and 236/9."""


def two_states(states):
    rows = [row for actions in states for _, row in actions]
    whole = sum(rows[0].values())
    return MDP(
        state_ptr=np.array([0, 2, 4, 4]),
        row_ptr=np.cumsum([0, *map(len, rows)]),
        successor=np.array([t for row in rows for t in row]),
        probability=np.array([share / whole for row in rows for share in row.values()]),
        reward=np.array([reward for actions in states for reward, _ in actions]),
        criterion=TotalReward(),
        terminal=np.array([False, False, True]),
    )


@pytest.mark.parametrize(
    ("states", "optimum", "storm"),
    [
        (TWO_STATES, (Fraction(62, 5), Fraction(66, 5)), 4),
        (TWO_STATES_IN_EIGHTHS, (Fraction(76, 3), Fraction(236, 9)), 8),
    ],
    ids=["quarters", "eighths"],
)
def test_the_optimum_that_a_sound_bracket_of_storm_missed_is_in_ours(states, optimum, storm):
    problem = two_states(states)
    assert best_totals(problem)[:2] == list(optimum)
    certificate = solve(problem, eps=1e-9).certificate
    assert all(holds(problem, certificate, state, exact) for state, exact in enumerate(optimum))
    assert certificate.lower[0] > storm + 1


@pytest.mark.parametrize("states", [TWO_STATES, TWO_STATES_IN_EIGHTHS], ids=["quarters", "eighths"])
def test_storms_sound_value_iteration_misses_the_optimum_of_two_states(states):
    lower, upper = storm_bounds(two_states(states), "SOUND_VALUE_ITERATION")
    optimum = best_totals(two_states(states))
    assert any(not low <= exact <= high for low, exact, high in zip(lower, optimum, upper, strict=True))


@pytest.mark.parametrize("method", ["OPTIMISTIC_VALUE_ITERATION", "INTERVAL_ITERATION"])
@pytest.mark.parametrize("states", [TWO_STATES, TWO_STATES_IN_EIGHTHS], ids=["quarters", "eighths"])
def test_storms_other_brackets_overlap_ours(states, method):
    lower, upper = storm_bounds(two_states(states), method)
    certificate = solve(two_states(states), eps=1e-9).certificate
    assert (lower <= certificate.upper).all()
    assert (certificate.lower <= upper).all()


def storm_bounds(problem, method):
    """Storm's lower and upper bounds on the greatest expected reward until the terminal states."""
    stormpy = pytest.importorskip("stormpy")
    builder = stormpy.datastructures.SparseMatrixBuilder[float](
        rows=problem.n_pairs + 1, columns=3, entries=problem.n_transitions + 1, has_custom_row_grouping=True, row_groups=3
    )
    row = [*np.repeat(np.arange(problem.n_pairs), np.diff(problem.row_ptr)).tolist(), problem.n_pairs]
    builder.add_next_values(
        row, [*problem.successor.tolist(), 2], [*problem.probability.tolist(), 1.0], problem.state_ptr[:-1].tolist()
    )
    labels = stormpy.models.StateLabeling(3)
    for label, state in (("init", 0), ("goal", 2)):
        labels.add_label(label)
        labels.add_label_to_state(label, state)
    reward = stormpy.models.SparseRewardModel[float](optional_state_action_reward_vector=[*problem.reward.tolist(), 0.0])
    parts = stormpy.models.SparseModelComponents[float](
        transition_matrix=builder.build(), state_labeling=labels, reward_models={"r": reward}
    )
    environment = stormpy.environments.sound()
    settings = environment.solver().min_max()
    settings.precision = stormpy.Rational(1e-6)
    settings.relative_termination_criterion = False
    settings.method = getattr(stormpy.environments.MinMaxMethod, method)
    question = stormpy.parse_property('R{"r"}max=? [ F "goal" ]')
    found = stormpy.model_checking(stormpy.models.SparseMdp[float](parts), question, environment=environment)
    return np.array(found.get_lower_bound_vector()), np.array(found.get_upper_bound_vector())


# The consensus coin of Aspnes and Herlihy, two processes


def consensus_coin(k, criterion, goal=None):
    """Two processes toss coins and move a shared counter until it is far out; Aspnes and Herlihy 1990, PRISM's coin2.

    goal: predicate on the two coins, worth one at the end; None counts steps.
    """
    far = 4 * (k + 1)

    def step(state):
        (first, second), counter = state
        if first[0] == second[0] == 3:
            return 0.0 if goal is None else float(goal(first[1], second[1]))
        moves = {}
        for which, (phase, coin) in enumerate((first, second)):
            if phase == 3:
                continue
            if phase == 0:
                after = [(0.5, (1, side), counter) for side in (0, 1)]
            elif phase == 1:
                after = [(1.0, (2, 0), min(far, max(0, counter + 2 * coin - 1)))]
            elif counter <= 2:
                after = [(1.0, (3, 0), counter)]
            elif counter >= far - 2:
                after = [(1.0, (3, 1), counter)]
            else:
                after = [(1.0, (0, coin), counter)]
            moves[which] = [
                (p, ((mine, second) if which == 0 else (first, mine), number), 1.0 if goal is None else 0.0)
                for p, mine, number in after
            ]
        return moves

    return MDP.from_callable(step, [(((0, 0), (0, 0)), 2 * (k + 1))], criterion=criterion)


COIN = [
    ("least probability that both coins are 1", TotalReward(minimize=True), lambda a, b: a == b == 1,
     lambda k: Fraction((2 * k - 1) * 4**k + 1, 4 * k * 4**k)),
    ("greatest probability of disagreement", TotalReward(), lambda a, b: a != b,
     lambda k: Fraction(4**k - k - 1, 4 * k * (4**k - 1))),
    ("most steps", TotalReward(), None, lambda k: Fraction(3 * (2 * k + 1) ** 2)),
    ("fewest steps", TotalReward(minimize=True), None, lambda k: Fraction(12 * k * k)),
]  # fmt: skip


@pytest.mark.parametrize(("criterion", "goal", "exact"), [case[1:] for case in COIN], ids=[case[0] for case in COIN])
@pytest.mark.parametrize("k", [2, 3, 5])
def test_the_consensus_coin_has_its_closed_forms(k, criterion, goal, exact):
    problem = consensus_coin(k, criterion, goal)
    certificate = solve(problem, eps=1e-6).certificate
    assert holds(problem, certificate, 0, exact(k))
    assert certificate.width <= 1e-6


# Against enumeration, linear programming, corruption


@given(strategies.total_reward_mdps(kind="improper", max_states=4, max_actions=3))
@settings(deadline=None, max_examples=150)
def test_costs_that_improper_policies_pay_for_ever_are_avoided_exactly(problem):
    assume(few_policies(problem))
    exact = best_totals(problem)
    solution = solve(problem, eps=1e-6)
    assert contained(solution.certificate, exact)
    assert check(problem, solution.certificate)


@given(strategies.total_reward_mdps(kind="any", max_states=4, max_actions=3))
@settings(deadline=None, max_examples=300)
def test_infinity_is_raised_exactly_when_enumeration_finds_it(problem):
    assume(few_policies(problem))
    exact = best_totals(problem)
    assume(exact is not None)
    if max(map(abs, exact)) < INFINITE:
        assert contained(solve(problem, eps=1e-5).certificate, exact)
    else:
        with pytest.raises(InfiniteValue, match="state"):
            solve(problem, eps=1e-5)


@pytest.mark.parametrize("method", METHODS, ids=str)
@given(problem=strategies.total_reward_mdps(kind="improper", max_states=5))
@settings(deadline=None, max_examples=40)
def test_every_method_is_proved_and_overlaps_the_default(method, problem):
    certificate, default = solve(problem, method, eps=1e-6).certificate, solve(problem, eps=1e-6).certificate
    assert check(problem, certificate)
    assert (certificate.lower <= default.upper).all()
    assert (default.lower <= certificate.upper).all()


def linear_program(problem):
    """Least v >= T v of a maximisation problem in which every policy stops, by HiGHS."""
    transition, reward, _ = problem.to_sparse()
    here = np.zeros((problem.n_pairs, problem.n_states))
    here[np.arange(problem.n_pairs), problem.pair_state] = 1.0
    fixed = [(w, w) if t else (None, None) for t, w in zip(problem.terminal, problem.terminal_value, strict=True)]
    found = scipy.optimize.linprog(
        np.ones(problem.n_states), A_ub=transition.toarray() - here, b_ub=-reward, bounds=fixed, method="highs"
    )
    assert found.status == 0
    return found.x


@pytest.mark.parametrize("seed", range(6))
def test_the_bracket_contains_the_optimum_of_the_linear_program(seed):
    rng = np.random.default_rng(seed)
    n_states, n_actions = 40, 3
    transition = rng.dirichlet(np.full(n_states, 0.1), size=(n_states, n_actions))
    transition = 0.98 * transition
    transition[:, :, 0] += 0.02
    reward = rng.normal(size=(n_states, n_actions))
    problem = MDP.from_dense(transition, reward, criterion=TotalReward(), terminal={0: 1.0, 1: -2.0})
    certificate, optimum = solve(problem, eps=1e-8).certificate, linear_program(problem)
    assert (certificate.lower - 1e-6 <= optimum).all()
    assert (optimum <= certificate.upper + 1e-6).all()


@pytest.mark.parametrize("side", ["lower", "upper"])
@pytest.mark.parametrize("spelling", ["ssp_grid:side=8", "gambler:goal=20,fortune=5", "frozen_lake", "haddad_monmege:n=8"])
def test_a_bound_that_is_moved_past_the_optimum_is_rejected(spelling, side):
    problem = instances.make(spelling)
    certificate = solve(problem, eps=1e-9).certificate
    bounds = {"lower": np.array(certificate.lower), "upper": np.array(certificate.upper)}
    state = int(np.flatnonzero(~problem.terminal)[np.abs(bounds["lower"][~problem.terminal]).argmax()])
    bounds[side][state] += 1e-4 if side == "lower" else -1e-4
    with pytest.raises(CertificateRejected, match=r"state \d+"):
        check(problem, Certificate(**bounds, policy=certificate.policy, model=problem))


def test_rows_that_do_not_sum_to_one_are_weights():
    problem = MDP(
        state_ptr=np.array([0, 1, 1, 1]),
        row_ptr=np.array([0, 3]),
        successor=np.array([0, 1, 2]),
        probability=np.array([1.0, 2.0**-40, 3 * 2.0**-40]),
        reward=np.array([0.0]),
        criterion=TotalReward(),
        terminal=np.array([False, True, True]),
        terminal_value=np.array([0.0, 1.0, 0.0]),
    )
    certificate = solve(problem, eps=1e-6).certificate
    assert holds(problem, certificate, 0, Fraction(1, 4))


def test_a_problem_that_is_over_before_it_begins_is_worth_its_terminal_values():
    empty = np.array([], dtype=np.float64)
    problem = MDP(
        np.array([0, 0, 0]), np.array([0]), empty.astype(np.int32), empty, empty, TotalReward(),
        terminal=np.array([True, True]), terminal_value=np.array([3.0, -1.0]),
    )  # fmt: skip
    certificate = solve(problem).certificate
    assert check(problem, certificate)
    assert certificate.lower.tolist() == certificate.upper.tolist() == [3.0, -1.0]


# Requests


def test_a_method_for_contractions_is_refused_with_those_that_fit():
    with pytest.raises(SolveError, match="does not solve total-reward problems; use PolicyIteration"):
        solve(instances.make("end_component_trap"), RankOne())


@pytest.mark.parametrize("method", [ValueIteration(max_sweeps=2), GaussSeidel(max_sweeps=1)], ids=str)
def test_too_few_sweeps_are_reported(method):
    with pytest.raises(NotConverged, match=r"still change values by .* after [12]"):
        solve(instances.make("ssp_grid:side=30"), method)


def test_a_start_near_the_answer_saves_sweeps():
    problem = instances.make("ssp_grid:side=60")
    cold = solve(problem, GaussSeidel())
    warm = solve(problem, GaussSeidel(), start=cold.value)
    assert warm.trace.sweeps < cold.trace.sweeps / 2


def test_the_trace_names_the_method_and_why():
    small, large = solve(instances.make("ssp_grid:side=5")), solve(instances.make("ssp_grid:side=50"))
    assert small.trace.method == PolicyIteration()
    assert isinstance(large.trace.method, ModifiedPolicyIteration)
    assert small.trace.reason != large.trace.reason


def test_an_interrupted_solve_goes_on_from_its_checkpoint(tmp_path):
    problem, path = instances.make("ssp_grid:side=40"), tmp_path / "checkpoint.npz"
    with pytest.raises(NotConverged):
        solve(problem, GaussSeidel(max_sweeps=20), checkpoint=path)
    assert check(problem, solve(problem, GaussSeidel(), checkpoint=path).certificate)


@pytest.mark.slow
def test_a_million_states_take_seconds_and_memory_in_proportion():
    seconds = []
    for side in (250, 500, 1000):
        problem = instances.make(f"ssp_grid:side={side},walls=0.1")
        solution = solve(problem)
        assert check(problem, solution.certificate)
        seconds.append(solution.trace.seconds)
    assert all(after < 16 * before for before, after in itertools.pairwise(seconds))
