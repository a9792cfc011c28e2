"""Domains whose rewards depend on the outcome: rows and rewards against the sentences that define them."""

import math

import numpy as np
import pytest
from banach.mdp import ModelError, instances

NAMES = ["machine_ten", "backlog_inventory", "riverswim"]


@pytest.mark.parametrize("name", NAMES)
def test_the_catalogues_model_earns_the_expectation_of_the_outcomes(name):
    whole = instances.make(name)
    model, gain = instances.with_outcomes(name)
    assert gain.shape == (model.n_transitions,)
    np.testing.assert_array_equal(model.successor, whole.successor)
    np.testing.assert_array_equal(model.probability, whole.probability)
    for pair in range(model.n_pairs):
        row = slice(model.row_ptr[pair], model.row_ptr[pair + 1])
        assert model.reward[pair] + model.probability[row] @ gain[row] == pytest.approx(whole.reward[pair], abs=1e-9)


def test_the_inventory_is_what_happens_to_a_stock_when_demand_comes():
    m, mean = 3, 2.5
    model, gain = instances.with_outcomes("backlog_inventory", order=m, mean=mean)
    atoms = [math.exp(-mean) * mean**d / math.factorial(d) for d in range(3 * m)]
    atoms.append(1 - sum(atoms))
    pair = 0
    for state in range(model.n_states):
        stock = state - m
        assert model.state_ptr[state] == pair
        for order in range(min(m, 2 * m - stock) + 1):
            row = slice(model.row_ptr[pair], model.row_ptr[pair + 1])
            expected = {}
            for demand, p in enumerate(atoms):
                after = max(stock + order - demand, -m)
                worth = 4.99 * (stock + order - after) - 0.05 * max(after, 0) - 0.15 * max(-after, 0)
                expected[after + m] = expected.get(after + m, (0.0,))[0] + p, worth
            found = dict(zip(model.successor[row].tolist(), zip(model.probability[row], gain[row], strict=True), strict=True))
            assert found.keys() == expected.keys()
            for after, (p, worth) in expected.items():
                assert found[after] == pytest.approx((p, worth), abs=1e-12)
            assert model.reward[pair] == pytest.approx(-2.49 * order - 0.49 * (order > 0))
            pair += 1
    assert pair == model.n_pairs


@pytest.mark.parametrize(("n", "action"), [(10, 0), (10, 3), (40, 4), (0, 1), (50, 2)])
def test_the_population_grows_and_immigrates(n, action):
    """Frequencies of 40 000 simulated steps; each within 7 standard deviations: a false alarm in fewer than 1e-9 runs."""
    model = instances.population()
    rng = np.random.default_rng(5)
    size, growth = 40_000, 2.0 if action == 0 else 0.2 + (n - 25) ** 2 / 625
    drawn = rng.normal(growth, (0.6, 0.6, 0.5, 0.4, 0.3)[action], size=size)
    after = np.rint(n + (drawn - 1) * n * (50 - n) / 50) + np.rint(np.maximum(rng.normal(3, 1.5, size=size), 0))
    share = np.bincount(np.clip(after, 0, 50).astype(int), minlength=51) / size
    pair = model.state_ptr[n] + action
    row = np.zeros(51)
    row[model.successor[model.row_ptr[pair] : model.row_ptr[pair + 1]]] = model.probability[
        model.row_ptr[pair] : model.row_ptr[pair + 1]
    ]
    assert (np.abs(share - row) <= 7 * np.sqrt(row * (1 - row) / size) + 1e-4).all()
    assert model.reward[pair] == pytest.approx(1000 - n**2 - 800 * (0, 1, 1.05, 1.1, 1.15)[action])


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("forest", {}, "'forest' has no rewards by outcome; there are machine_ten"),
        ("machine_ten", {"states": 3}, "machine_ten has no parameter 'states'; it has discount"),
        ("backlog_inventory", {"order": 0}, "order=0 is too small"),
        ("backlog_inventory", {"mean": -1.0}, "mean=-1.0 is out of range"),
    ],
)
def test_what_there_is_not_is_refused(name, parameters, message):
    with pytest.raises(ModelError, match=message):
        instances.with_outcomes(name, **parameters)


def test_a_population_needs_a_capacity():
    with pytest.raises(ModelError, match="capacity=0 is too small"):
        instances.population(capacity=0)
