"""Symmetries are verified in exact arithmetic, and their orbits merged."""

import networkx
import numpy as np
import pytest
from banach.mdp import quotient
from banach.solvers import SolveError, Symmetry, check_symmetry, coarsest_bisimulation, orbits, solve, stability
from hypothesis import given, settings
from hypothesis import strategies as st

from . import bisimulation_witness as slow


def square(side, model):
    """A quarter turn and a mirror, which generate the eight symmetries of the square; actions are up, right, down, left."""
    y, x = np.divmod(np.arange(side * side), side)
    turned = x * side + (side - 1 - y)  # row y becomes column side - 1 - y
    mirrored = y * side + (side - 1 - x)
    return [Symmetry.of(model, turned, [1, 2, 3, 0]), Symmetry.of(model, mirrored, [0, 3, 2, 1])]


@pytest.mark.parametrize("side", [3, 7])
def test_the_orbits_of_the_square_are_a_bisimulation_and_here_the_coarsest(side):
    model = slow.symmetric_grid(side)
    partition = orbits(model, square(side, model))
    assert stability(model, partition)
    assert partition == coarsest_bisimulation(model, actions="any")
    graph = networkx.Graph()
    graph.add_edges_from((s, int(t)) for g in square(side, model) for s, t in enumerate(g.states))
    assert partition.n_classes == networkx.number_connected_components(graph)


def test_one_mirror_merges_pairs_of_states_and_keeps_values():
    model = slow.symmetric_grid(5)
    partition = orbits(model, square(5, model)[1:])
    assert partition.n_classes == 15
    merged = quotient(model, partition)
    assert merged.lift_value(solve(merged.model).value) == pytest.approx(solve(model).value, abs=2e-6)


def test_without_symmetries_every_state_is_its_own_class():
    assert orbits(slow.symmetric_grid(3), []).n_classes == 9


@given(st.permutations(range(9)), st.permutations(range(4)))
@settings(max_examples=60, deadline=None)
def test_a_permutation_passes_exactly_if_every_row_is_mapped_to_its_images_row(states, actions):
    model = slow.symmetric_grid(3)
    rows = {(s, a): row(model, s, a) for s in range(9) for a in range(model.state_ptr[s + 1] - model.state_ptr[s])}
    holds = states[4] == 4 and all(
        rows[states[s], actions[a]] == {states[j]: p for j, p in there.items()} for (s, a), there in rows.items()
    )
    try:
        check_symmetry(model, Symmetry.of(model, states, actions))
    except SolveError:
        assert not holds
    else:
        assert holds


def row(model, state, action):
    pair = model.state_ptr[state] + action
    found: dict[int, float] = {}
    for e in range(model.row_ptr[pair], model.row_ptr[pair + 1]):
        found[int(model.successor[e])] = found.get(int(model.successor[e]), 0.0) + model.probability[e]
    return found


def test_the_last_bit_of_a_probability_breaks_a_symmetry():
    model = slow.symmetric_grid(3)
    probability = model.probability.copy()
    probability[7] = np.nextafter(probability[7], 1)
    broken = model.replace(probability=probability)
    with pytest.raises(SolveError, match=r"state \d, action \d: its image reaches state \d with probability"):
        orbits(broken, square(3, model))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda m: Symmetry.of(m, np.zeros(9, dtype=int)), "permutation of 0..8"),
        (lambda m: Symmetry.of(m, np.arange(9), [0, 1, 2]), "permutation of 0..3"),
        (lambda m: Symmetry.of(m, np.roll(np.arange(9), 1)), "no action"),
        (lambda m: Symmetry(np.roll(np.arange(9), 1), np.arange(m.n_pairs)), "another state"),
        (lambda m: Symmetry(np.arange(9), np.roll(np.arange(m.n_pairs), 1)), "another state"),
    ],
)
def test_what_is_no_permutation_of_states_and_actions_is_refused(make, message):
    model = slow.symmetric_grid(3)
    with pytest.raises(SolveError, match=message):
        check_symmetry(model, make(model))


def test_rewards_and_ends_must_be_alike():
    model = slow.symmetric_grid(3)
    mirror = square(3, model)[1]
    reward = model.reward.copy()
    reward[0] = 5.0
    with pytest.raises(SolveError, match=r"state 0, action 0: reward 5.0, but its image has -1.0"):
        check_symmetry(model.replace(reward=reward), mirror)
    moved = Symmetry(np.array([4, 1, 2, 3, 0, 5, 6, 7, 8]), np.arange(model.n_pairs))
    with pytest.raises(SolveError):
        check_symmetry(model, moved)
