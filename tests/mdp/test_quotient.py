"""Quotients keep every value: of the optimum, of any policy, under any criterion."""

from fractions import Fraction

import numpy as np
import pytest
from banach.mdp import FiniteHorizon, ModelError, Partition, Quotient, instances, quotient, strategies
from banach.solvers import coarsest_bisimulation
from hypothesis import given, settings
from hypothesis import strategies as st

from .. import witness
from ..solvers import bisimulation_witness as slow

BASE = strategies.discounted_mdps(
    max_states=3, max_actions=2, tiny=0.125, rewards=st.sampled_from([0.0, 1.0]), discounts=st.sampled_from([0.5, 0.875])
)
PROBLEMS = slow.blown_up(BASE, shuffle=True)


def exact_quotient(problem, actions):
    """The problem, its quotient, and whether the merged rows are floats without rounding."""
    merged = quotient(problem, coarsest_bisimulation(problem, actions=actions))
    exact = True
    for k in range(merged.model.n_pairs):
        pair = int(np.flatnonzero(merged.quotient_pair == k)[0])
        mass = [Fraction(0)] * merged.model.n_states
        for e in range(problem.row_ptr[pair], problem.row_ptr[pair + 1]):
            mass[merged.partition.states[problem.successor[e]]] += Fraction(float(problem.probability[e]))
        row = [Fraction(0)] * merged.model.n_states
        for e in range(merged.model.row_ptr[k], merged.model.row_ptr[k + 1]):
            row[merged.model.successor[e]] += Fraction(float(merged.model.probability[e]))
        exact &= row == mass
        assert all(abs(a - b) <= Fraction(1, 2**50) for a, b in zip(row, mass, strict=True))
    return merged, exact


@given(PROBLEMS, st.sampled_from(["position", "any"]))
@settings(max_examples=40, deadline=None)
def test_optimal_values_are_kept_exactly_where_masses_are_floats(problem, actions):
    merged, exact = exact_quotient(problem, actions)
    (small, _), (value, _) = witness.optimal_value(merged.model), witness.optimal_value(problem)
    lifted = merged.lift_value(np.array(small, dtype=object))
    assert max(abs(float(a - b)) for a, b in zip(lifted, value, strict=True)) <= 1e-12
    if exact:
        assert lifted.tolist() == value


@given(PROBLEMS, st.sampled_from(["position", "any"]), st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_every_policy_of_the_quotient_is_worth_the_same_when_lifted(problem, actions, random):
    merged, exact = exact_quotient(problem, actions)
    counts = np.diff(merged.model.state_ptr).tolist()
    policy = np.array([random.randrange(count) if count else -1 for count in counts], dtype=np.int32)
    lifted = merged.lift_policy(policy)
    assert lifted.dtype == np.int32
    assert np.array_equal(lifted < 0, problem.terminal)
    below = merged.lift_value(np.array(witness.policy_value(merged.model, policy), dtype=object))
    value = witness.policy_value(problem, lifted)
    assert max(abs(float(a - b)) for a, b in zip(below, value, strict=True)) <= 1e-12
    if exact:
        assert below.tolist() == value


@given(PROBLEMS)
@settings(max_examples=20, deadline=None)
def test_values_of_each_stage_are_kept(problem):
    staged = problem.replace(criterion=FiniteHorizon(3, 0.5))
    merged = quotient(staged, coarsest_bisimulation(staged, actions="any"))
    small = np.array(witness.finite_horizon_value(merged.model), dtype=float)
    assert merged.lift_value(small) == pytest.approx(np.array(witness.finite_horizon_value(staged), dtype=float), abs=1e-12)
    policies = np.zeros((3, merged.model.n_states), dtype=np.int32) - merged.model.terminal
    assert merged.lift_policy(policies).shape == (3, problem.n_states)


@given(PROBLEMS, st.randoms(use_true_random=False))
@settings(max_examples=30, deadline=None)
def test_weights_do_not_matter_for_a_bisimulation(problem, random):
    partition = coarsest_bisimulation(problem, actions="any")
    weights = np.array([random.uniform(0.1, 1) for _ in range(problem.n_states)])
    one, mean = quotient(problem, partition).model, quotient(problem, partition, weights).model
    assert np.array_equal(one.state_ptr, mean.state_ptr)
    assert mean.reward == pytest.approx(one.reward, abs=1e-12)
    dense = [small.to_sparse()[0].toarray() for small in (one, mean)]
    assert dense[1] == pytest.approx(dense[0], abs=1e-12)


@given(PROBLEMS, st.randoms(use_true_random=False))
@settings(max_examples=20, deadline=None)
def test_randomised_policies_are_lifted_to_the_same_weights(problem, random):
    merged = quotient(problem, coarsest_bisimulation(problem, actions="any"))
    weights = np.array([random.uniform(0.1, 1) for _ in range(merged.model.n_pairs)])
    lifted = merged.lift_policy(weights)
    assert lifted.shape == (problem.n_pairs,)
    for state in range(problem.n_states):
        own = range(*problem.state_ptr[state : state + 2])
        c = merged.partition.states[state]
        there = range(*merged.model.state_ptr[c : c + 2])
        assert sorted(x for x in lifted[list(own)] if x) == sorted(weights[list(there)])


def test_weighted_means_follow_their_formula():
    """Two states with rewards 0 and 1 and different rows, weighted 1 to 3."""
    model = instances.garnet(states=6, actions=2, successors=3, seed=4)
    merged = quotient(model, Partition.by_position(model, np.array([0, 0, 1, 2, 3, 4])), np.array([1.0, 3.0, 1, 1, 1, 1]))
    matrix, reward, _ = model.to_sparse()
    rows = matrix.toarray() @ np.eye(5)[[0, 0, 1, 2, 3, 4]]
    assert merged.model.reward[:2] == pytest.approx(reward[:2] / 4 + 3 * reward[2:4] / 4)
    assert merged.model.to_sparse()[0].toarray()[:2] == pytest.approx(rows[:2] / 4 + 3 * rows[2:4] / 4)
    assert merged.model.initial == pytest.approx([1, 0, 0, 0, 0])


def test_names_labels_and_the_initial_distribution_go_along():
    model = slow.symmetric_grid(3)
    model = model.replace(
        labels={"middle": model.terminal, "left": np.arange(9) % 3 == 0}, state_names=[f"s{i}" for i in range(9)],
        initial=np.full(9, 1 / 9), action_names=["up", "right", "down", "left"] * 8,
    )  # fmt: skip
    merged = quotient(model, coarsest_bisimulation(model, actions="any", labels=()))
    assert isinstance(merged, Quotient)
    assert list(merged.model.labels) == ["middle"]
    assert merged.model.state_names == ("s0", "s1", "s4")
    assert merged.model.initial == pytest.approx([4 / 9, 4 / 9, 1 / 9])
    assert merged.model.action_names is not None


@pytest.mark.parametrize(
    ("partition", "weights", "message"),
    [
        (lambda m: Partition.by_position(m, np.zeros(9, dtype=int)), None, "does not offer the same"),
        (lambda m: Partition(np.array([0, 0, *range(2, 9)]), np.arange(32)), None, "state 1 .*state 0"),
        (lambda m: Partition.by_position(m, np.zeros(8, dtype=int)), None, "9 whole numbers"),
        (lambda m: Partition.by_position(m, np.zeros(9)), None, "whole numbers"),
        (lambda m: Partition.by_position(m, np.arange(9)), np.zeros(9), "positive"),
    ],
    ids=["terminal with others", "unmatched actions", "too short", "not whole", "weights"],
)
def test_what_does_not_fit_is_refused(partition, weights, message):
    model = slow.symmetric_grid(3)
    with pytest.raises(ModelError, match=message):
        quotient(model, partition(model), weights)
