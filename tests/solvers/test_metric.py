"""Bisimulation metrics against linear programs and closed forms, and the inequalities that make them worth having."""

import dataclasses

import numpy as np
import pytest
from banach.mdp import MDP, Discounted, TotalReward, instances, strategies
from banach.solvers import (
    Entropic,
    NotConverged,
    SolveError,
    bisimulation_metric,
    cluster,
    coarsest_bisimulation,
    lax_bisimulation_metric,
    mico,
    policy_chain,
    policy_metric,
    reduced,
    solve,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from .. import witness
from . import bisimulation_witness as slow
from . import metric_witness

SMALL = strategies.discounted_mdps(
    max_states=4, max_actions=2, tiny=0.125, rewards=st.sampled_from([0.0, 1.0, 0.3]), discounts=st.sampled_from([0.5, 0.25])
)
SWEEPS = 12
UNEQUAL = MDP(np.array([0, 1, 3]), np.arange(4), np.zeros(3, int), np.ones(3), np.zeros(3), Discounted(0.5))
SAME = instances.garnet(states=6, actions=2, successors=3, discount=0.5, seed=3)


def with_equal_actions(problem):
    """The problem with every state's actions repeated until all have as many."""
    most = int(np.diff(problem.state_ptr).max(initial=0))
    pairs = [
        first + k % (last - first)
        for first, last in zip(problem.state_ptr[:-1], problem.state_ptr[1:], strict=True)
        if last > first
        for k in range(most)
    ]
    rows = [np.arange(problem.row_ptr[k], problem.row_ptr[k + 1]) for k in pairs]
    entries = np.concatenate([np.zeros(0, dtype=int), *rows])
    return problem.replace(
        state_ptr=np.concatenate(([0], np.cumsum(np.where(problem.terminal, 0, most)))),
        row_ptr=np.concatenate(([0], np.cumsum([len(row) for row in rows], dtype=int))),
        successor=problem.successor[entries], probability=problem.probability[entries], reward=problem.reward[pairs],
    )  # fmt: skip


def contains(found, exact, tail):
    """Whether a bracket can be right: F^k 0 rises to d from below, and d is within c^k / (1 - c) |F 0| <= tail of it."""
    return bool(np.all(found.lower <= exact + tail + 1e-9) and np.all(exact <= found.upper + 1e-9))


@given(SMALL)
@settings(max_examples=12, deadline=None)
def test_ferns_metric_is_the_one_of_linear_programs(problem):
    problem = with_equal_actions(problem)
    exact = metric_witness.metric(problem, "strict", SWEEPS)
    found = bisimulation_metric(problem, eps=1e-8)
    assert contains(found, exact, exact.max() * 2 * problem.discount**SWEEPS)
    assert found.width <= 1e-8


@given(SMALL)
@settings(max_examples=12, deadline=None)
def test_the_lax_metric_is_the_one_of_linear_programs(problem):
    exact = metric_witness.metric(problem, "lax", SWEEPS)
    found = lax_bisimulation_metric(problem, eps=1e-8)
    assert contains(found, exact, exact.max() * 2 * problem.discount**SWEEPS)
    assert np.all(found.lower <= bisimulation_metric(with_equal_actions(problem), eps=1e-8).upper)


@pytest.mark.parametrize("kind", ["strict", "lax"])
def test_entropic_brackets_contain_the_exact_metric(kind):
    metric = bisimulation_metric if kind == "strict" else lax_bisimulation_metric
    exact, blunt = metric(SAME, eps=1e-9), metric(SAME, eps=0.5, transport=Entropic(0.02, 400))
    assert np.all(blunt.lower <= exact.upper)
    assert np.all(exact.lower <= blunt.upper)
    assert blunt.width > exact.width


@given(slow.blown_up(SMALL, copies=2))
@settings(max_examples=20, deadline=None)
def test_distance_zero_is_bisimilarity(problem):
    problem = with_equal_actions(problem)
    metric, classes = bisimulation_metric(problem, eps=1e-9), metric_witness.classes(problem, "position")
    assert metric.upper[classes[:, None] == classes].max() <= 1e-9
    assert np.all(metric.lower[classes[:, None] != classes] > 0)
    merged = coarsest_bisimulation(problem).states
    assert metric.upper[merged[:, None] == merged].max() <= 1e-9


@given(slow.blown_up(SMALL, copies=2, shuffle=True))
@settings(max_examples=20, deadline=None)
def test_lax_distance_is_zero_inside_the_classes_of_matched_actions(problem):
    metric, classes = lax_bisimulation_metric(problem, eps=1e-9), metric_witness.classes(problem, "any")
    assert metric.upper[classes[:, None] == classes].max() <= 1e-9
    assert np.all(metric.lower[classes[:, None] != classes] > 0)
    merged = coarsest_bisimulation(problem, actions="any").states
    assert metric.upper[merged[:, None] == merged].max() <= 1e-9


@given(SMALL)
@settings(max_examples=25, deadline=None)
def test_values_differ_by_no_more_than_the_metrics_say(problem):
    value = np.array(witness.optimal_value(problem)[0], dtype=float)
    gap = np.abs(value[:, None] - value)
    assert np.all(gap <= lax_bisimulation_metric(problem, eps=1e-8).upper + 1e-9)
    policy = np.where(problem.terminal, -1, 0).astype(np.int32)
    own = np.array(witness.policy_value(problem, policy), dtype=float)
    gap = np.abs(own[:, None] - own)
    on_policy, independent = policy_metric(problem, policy, eps=1e-8), mico(problem, policy, eps=1e-8)
    assert np.all(gap <= on_policy.upper + 1e-9)
    assert np.all(on_policy.lower <= independent.upper)


@pytest.mark.parametrize(("first", "second", "discount"), [(0.0, 1.0, 0.5), (-2.0, 3.0, 0.75), (0.1, 0.1, 0.9)])
def test_two_loops_are_as_far_apart_as_their_values(first, second, discount):
    """The bound on values is attained: d = |r - r'| / (1 - g)."""
    model = MDP(np.arange(3), np.arange(3), np.arange(2), np.ones(2), np.array([first, second]), Discounted(discount))
    far = abs(first - second) / (1 - discount)
    for metric in (bisimulation_metric(model, 1e-9), lax_bisimulation_metric(model, 1e-9), mico(model, np.zeros(2, int), 1e-9)):
        assert metric.lower[0, 1] <= far <= metric.upper[0, 1]
        assert metric.width <= 1e-9


def test_a_terminal_state_is_as_far_away_as_a_loop_that_is_worth_the_same():
    loops = MDP(np.arange(3), np.arange(3), np.arange(2), np.ones(2), np.array([1.0, 0.25]), Discounted(0.75))
    ended = MDP(
        np.array([0, 1, 1]), np.arange(2), np.array([0]), np.ones(1), np.array([1.0]), Discounted(0.75),
        terminal=np.array([False, True]), terminal_value=np.array([0.0, 1.0]),
    )  # fmt: skip
    assert bisimulation_metric(ended).value == pytest.approx(bisimulation_metric(loops).value, abs=2e-6)


def test_scales_only_scale():
    plain, scaled = bisimulation_metric(SAME, 1e-9), bisimulation_metric(SAME, 1e-9, reward_scale=0.5)
    assert scaled.value == pytest.approx(plain.value / 2, abs=1e-8)
    slower = bisimulation_metric(SAME, 1e-9, transport_scale=0.75)
    assert np.all(slower.upper >= plain.lower)
    exact = metric_witness.metric(SAME, "strict", 8, c_t=0.75)
    assert contains(slower, exact, exact.max() * 4 * 0.75**8)


def test_mico_solves_its_linear_system():
    weights = np.tile([0.25, 0.75], 6)
    chain = policy_chain(SAME, weights)
    dense = chain.to_sparse()[0].toarray()
    gap = np.abs(chain.reward[:, None] - chain.reward).ravel()
    exact = np.linalg.solve(np.eye(36) - 0.5 * np.kron(dense, dense), gap).reshape(6, 6)
    found = mico(SAME, weights, eps=1e-10)
    assert np.all(found.lower <= exact + 1e-12)
    assert np.all(exact <= found.upper + 1e-12)
    assert np.diag(found.lower).min() > 0
    assert np.all(exact[:, :, None] + exact[None] + 1e-12 >= exact[:, None, :])
    assert np.diag(reduced(exact)) == pytest.approx(np.zeros(6))


def test_a_policys_chain_is_its_mixture():
    weights = np.tile([0.25, 0.75], 6)
    chain, (rows, reward, _) = policy_chain(SAME, weights), SAME.to_sparse()
    assert chain.reward == pytest.approx(0.25 * reward[::2] + 0.75 * reward[1::2])
    assert chain.to_sparse()[0].toarray() == pytest.approx(0.25 * rows.toarray()[::2] + 0.75 * rows.toarray()[1::2])


def test_a_policy_can_tell_bisimilar_states_apart():
    """The on-policy metric is not below Ferns': two copies of one state, and a policy that treats them differently."""
    model = MDP(
        np.array([0, 2, 4]), np.arange(5), np.array([0, 0, 1, 1]), np.ones(4), np.array([0.0, 1.0, 0.0, 1.0]), Discounted(0.5)
    )
    assert bisimulation_metric(model).upper.max() <= 1e-6
    assert policy_metric(model, np.array([0, 1])).lower[0, 1] >= 2 - 1e-6


@given(st.sampled_from([0.05, 0.2, 0.5, 1.0]))
@settings(max_examples=4, deadline=None)
def test_clusters_have_the_diameter_that_was_asked_for(diameter):
    metric = bisimulation_metric(SAME)
    classes = cluster(SAME, metric.upper, diameter).states
    assert metric.upper[classes[:, None] == classes].max() <= diameter


def test_large_problems_are_taken_where_every_row_has_one_successor():
    n = 2_001
    chain = MDP(np.arange(n + 1), np.arange(n + 1), np.maximum(np.arange(n) - 1, 0), np.ones(n), np.zeros(n), Discounted(0.5))
    assert bisimulation_metric(chain).upper.max() == 0
    with pytest.raises(SolveError, match="transports a sweep"):
        bisimulation_metric(instances.garnet(states=n))


@pytest.mark.parametrize(
    ("ask", "error", "message"),
    [
        (lambda: bisimulation_metric(SAME, eps=0.0), SolveError, "positive number"),
        (lambda: bisimulation_metric(SAME, transport_scale=0.3), SolveError, "in \\[discount, 1\\)"),
        (lambda: bisimulation_metric(SAME, reward_scale=-1.0), SolveError, "must be positive"),
        (lambda: bisimulation_metric(SAME.replace(criterion=TotalReward())), SolveError, "discounted problems"),
        (lambda: bisimulation_metric(UNEQUAL), SolveError, "use lax"),
        (lambda: bisimulation_metric(SAME, 1e-6, transport=Entropic(1.0)), NotConverged, "regularise less"),
        (lambda: policy_metric(SAME, np.full(6, 2)), SolveError, "names one of its actions"),
        (lambda: policy_metric(SAME, np.full(12, 0.4)), SolveError, "sum to 0.8"),
        (lambda: mico(SAME, np.full(11, 0.5)), SolveError, "12 weights"),
        (lambda: mico(SAME.replace(reward=1e9 * SAME.reward), np.zeros(6, int), 1e-12), NotConverged, "rounding"),
        (lambda: cluster(SAME, np.zeros((5, 5)), 0.1), SolveError, "distances of shape"),
    ],
)  # fmt: skip
def test_impossible_requests_are_refused(ask, error, message):
    with pytest.raises(error, match=message):
        ask()


def test_minimisation_has_the_same_metric():
    costs = SAME.replace(criterion=dataclasses.replace(SAME.criterion, minimize=True))
    assert bisimulation_metric(costs).value == pytest.approx(bisimulation_metric(SAME).value)
    value = solve(costs).value
    assert np.all(np.abs(value[:, None] - value) <= bisimulation_metric(costs).upper + 1e-6)
