"""Round trips against every permutation, against the proved optimum on tails, and against the moves that might shorten them."""

import itertools

import numpy as np
import pytest
from banach.mdp import ModelError
from banach.mdp.combinatorial import TravelingSalesman
from banach.solvers import SolveError, build, nearest_neighbour_tour, short_tour, shortest_tour, tour_length


def plane(n, seed):
    points = np.random.default_rng(seed).random((n, 2))
    return np.linalg.norm(points[:, None] - points, axis=2)


def every_tour(n):
    return [np.array((0, *rest)) for rest in itertools.permutations(range(1, n))]


@pytest.mark.parametrize("n", range(1, 8))
def test_the_shortest_of_all_permutations_is_found_whether_or_not_ways_back_are_as_long(n):
    for seed in range(5):
        distance = np.random.default_rng(100 * n + seed).random((n, n))
        length, order = shortest_tour(distance)
        assert length == pytest.approx(min(tour_length(distance, other) for other in every_tour(n)), rel=1e-14)
        assert tour_length(distance, order) == pytest.approx(length, rel=1e-14)
        assert sorted(order) == list(range(n))
        assert order[0] == 0


def test_the_proved_optimum_on_tails_is_the_shortest_tour():
    for seed in range(3):
        distance = np.random.default_rng(seed).random((9, 9))
        assert -float(build(TravelingSalesman(distance)).objective) == pytest.approx(shortest_tour(distance)[0], rel=1e-12)


def test_a_tour_is_as_long_in_every_position_and_twice_as_long_on_a_map_twice_as_large():
    points = np.random.default_rng(3).random((11, 2))

    def far(x):
        return np.linalg.norm(x[:, None] - x, axis=2)

    length = shortest_tour(far(points))[0]
    assert shortest_tour(far(1 - points[:, ::-1]))[0] == pytest.approx(length, rel=1e-14)
    assert shortest_tour(far(2 * points))[0] == pytest.approx(2 * length, rel=1e-14)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 8, 12, 15])
def test_kicks_find_the_shortest_of_small_tours(n):
    for seed in range(8):
        distance = plane(n, seed)
        length, order = short_tour(distance, kicks=300)
        assert length == pytest.approx(shortest_tour(distance)[0], rel=1e-12)
        assert (sorted(order), order[0]) == (list(range(n)), 0)


@pytest.mark.parametrize(("n", "kicks"), [(5, 0), (7, 0), (12, 0), (25, 0), (40, 20)])
def test_no_turned_stretch_and_no_moved_places_shorten_a_short_tour(n, kicks):
    for seed in range(40 if n < 12 else 4):
        distance = plane(n, seed)
        length, order = short_tour(distance, kicks)
        least = length * (1 - 1e-9)
        for i, j in itertools.combinations(range(1, n + 1), 2):
            stretch = order[i:j]
            assert tour_length(distance, np.concatenate((order[:i], stretch[::-1], order[j:]))) >= least
            if j - i <= 3:
                rest = np.concatenate((order[:i], order[j:]))
                for k, moved in itertools.product(range(1, len(rest) + 1), (stretch, stretch[::-1])):
                    assert tour_length(distance, np.concatenate((rest[:k], moved, rest[k:]))) >= least


def test_more_kicks_never_make_a_tour_longer_and_the_same_seed_makes_the_same_tour():
    distance = plane(60, 9)
    found = [short_tour(distance, kicks, seed=4) for kicks in (0, 100, 100)]
    assert found[1][0] <= found[0][0]
    assert (found[1][1] == found[2][1]).all()
    assert found[0][0] <= nearest_neighbour_tour(distance)[0]


def test_the_nearest_neighbour_is_the_next_place():
    distance = np.random.default_rng(1).random((12, 12))
    _, order = nearest_neighbour_tour(distance)
    for k in range(11):
        assert order[k + 1] == min(order[k + 1 :], key=lambda j: distance[order[k], j])


@pytest.mark.parametrize("make", [shortest_tour, short_tour, nearest_neighbour_tour])
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (np.ones((3, 2)), r"shape \(3, 2\)"),
        (np.ones((0, 0)), r"shape \(0, 0\)"),
        (np.array([[0, 1.0], [-1, 0]]), "from 1 to 0 is -1"),
        (np.array([[0, np.nan], [1, 0]]), "from 0 to 1 is nan"),
    ],
)
def test_distances_that_are_none_are_refused(make, wrong, message):
    with pytest.raises(ModelError, match=message):
        make(wrong)


def test_what_a_method_cannot_do_is_refused():
    with pytest.raises(SolveError, match="17 places are too many"):
        shortest_tour(np.ones((17, 17)))
    with pytest.raises(SolveError, match="from 0 to 1 is not that back"):
        short_tour(np.array([[0, 1.0], [2, 0]]))
    with pytest.raises(SolveError, match="kicks=-1"):
        short_tour(np.ones((4, 4)), kicks=-1)
