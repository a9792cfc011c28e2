"""The windy walk against a dense table that is written out cell by cell."""

import itertools

import numpy as np
import pytest
from banach.mdp import ModelError, instances
from banach.mdp.dense import spread


def table(alpha):
    """Transition probabilities (30, 4, 30) and rewards (30, 4), row by row from the sentences that define them."""
    walls = {(row, column) for row in (1, 3) for column in (2, 3, 4)}
    corridor = {0: 1, 2: 3, 4: 6}
    moves = {"W": (0, -1), "E": (0, 1), "N": (-1, 0), "S": (1, 0)}

    def go(cell, move):
        there = (cell[0] + moves[move][0], cell[1] + moves[move][1])
        return there if 0 <= there[0] < 6 and 0 <= there[1] < 6 and there not in walls else cell

    cells = [(r, c) for r in range(6) for c in range(6) if (r, c) not in walls]
    number, goal = {cell: i for i, cell in enumerate(cells)}, (0, 5)
    transition, reward = np.zeros((30, 4, 30)), np.full((30, 4), -1.0)
    for cell, (a, move) in itertools.product(cells, enumerate(moves)):
        wind = alpha ** corridor[cell[0]] if cell[0] in corridor and 1 <= cell[1] <= 4 else 0.0
        row = transition[number[cell], a]
        if cell == goal:
            row[number[goal]], reward[number[goal], a] = 1.0, 0.0
        elif move == "W":
            row[number[go(cell, move)]] = 1.0
        elif move == "E":
            row[number[go(cell, move)]] += 1 - wind
            row[number[go(cell, "W")]] += wind
        else:
            row[number[go(cell, move)]] += 1 - wind
            row[number[cell if cell[0] in (0, 2) else go(cell, "W")]] += wind
    return transition, reward


@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.5, 1.0])
def test_the_walk_is_the_table(alpha):
    walk = spread(instances.windy_walk(alpha))
    transition, reward = table(alpha)
    np.testing.assert_allclose(walk.probability.reshape(30, 4, 30), transition, atol=1e-15)
    np.testing.assert_array_equal(walk.reward.reshape(30, 4), reward)
    assert np.flatnonzero(walk.labels["goal"]).tolist() == [5]


def test_winds_out_of_range_are_refused():
    for wrong in ({"alpha": 1.5}, {"alpha": -0.1}, {"discount": 1.0}):
        with pytest.raises(ModelError, match="out of range"):
            instances.windy_walk(**wrong)
