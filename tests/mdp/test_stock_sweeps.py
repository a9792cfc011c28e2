"""A sweep over state and stock is the Bellman operator rounded to its side; a sweep of a policy is that of its actions."""

import math
from fractions import Fraction

import numpy as np
import pytest
from banach.mdp import instances
from banach.mdp.stock_sweeps import Stocks, stock_sweep

PLACES = 9
SLOPES = [(1.0, 1.0), (0.0, 1.0), (1.0, 0.0), (0.5, 2.0)]


def drawn(seed):
    """A model with a terminal state and a value function of increasing rows."""
    rng = np.random.default_rng(seed)
    problem = instances.garnet(states=5, actions=3, successors=2, discount=0.75, seed=seed)
    terminal = np.zeros(5, dtype=bool)
    terminal[4] = True
    worth = np.where(terminal, rng.normal(), 0.0)
    earned = np.round(rng.normal(size=problem.n_transitions), 2)
    value = np.cumsum(rng.random((5, PLACES + 2)), axis=1) - 4.0
    return problem, terminal, worth, earned, value


def sweep(parts, on, improve=True, policy=None):
    problem, terminal, worth, earned, value = parts
    out = value.copy()
    policy = np.full(value.shape, -1, dtype=np.int32) if policy is None else policy.copy()
    size = tuple(float(np.abs(array).max()) for array in (value, earned, worth))
    rows = (problem.state_ptr, problem.row_ptr, problem.successor, problem.probability)
    changes = stock_sweep(0, len(value), improve, on, size, *rows, earned, terminal, worth, value, out, policy)
    return out, policy, changes


def stocks(up, positive, negative, ends=False):
    return Stocks(up, positive, negative, 0.75, -4.0, 0.5, 1.0, 7.0, ends)


def witness(parts, on, s, action, column):
    """The backup of one action at one column, in Fractions."""
    problem, terminal, worth, earned, value = parts
    g, h, p, q = (Fraction(x) for x in (on.discount, on.spacing, on.positive, on.negative))
    lo, hi = sorted((p, q))
    z = [(Fraction(on.first) + k) * h for k in range(PLACES)]
    total = mass = Fraction(0)
    for e in range(*problem.row_ptr[problem.state_ptr[s] + action :][:2]):
        weight, r, j = Fraction(problem.probability[e]), Fraction(earned[e]), problem.successor[e]
        mass += weight
        row = [Fraction(x) for x in value[j].tolist()]
        over = on.ends or bool(terminal[j])
        if column in (0, PLACES + 1):
            slope = p if column else q
            total += weight * (slope * r + g * (slope * Fraction(worth[j]) if over else row[column]))
            continue
        c = (z[column - 1] + r) / g
        if over:
            after = c + Fraction(worth[j])
            found = (p if after >= 0 else q) * after
        elif c <= z[int(on.left)]:
            found = q * c + row[0]
        elif c >= z[int(on.right)]:
            found = p * c + row[-1]
        else:
            k = math.floor(c / h - Fraction(on.first))
            one, two, below = row[k + 1], row[k + 2], c - z[k]
            ends = (one + hi * below, two - lo * (h - below)) if on.up else (one + lo * below, two - hi * (h - below))
            found = min(ends) if on.up else max(ends)
        total += weight * g * found
    return total / mass


@pytest.mark.parametrize("slopes", SLOPES)
@pytest.mark.parametrize("up", [False, True])
@pytest.mark.parametrize("ends", [False, True])
def test_a_sweep_is_the_exact_backup_rounded_to_its_side(slopes, up, ends):
    for seed in range(3):
        parts, on = drawn(seed), stocks(up, *slopes, ends)
        out, policy, (most, least) = sweep(parts, on)
        assert (most, least) == ((out - parts[-1])[:4].max(), (out - parts[-1])[:4].min())
        assert np.array_equal(out[4], parts[-1][4])
        assert (policy[4] == -1).all()
        for s, column in np.ndindex(4, PLACES + 2):
            exact = [witness(parts, on, s, action, column) for action in range(3)]
            found = Fraction(out[s, column])
            assert found >= max(exact) if up else found <= max(exact)
            assert abs(found - max(exact)) < 1e-12
            assert max(exact) - exact[policy[s, column]] < 1e-12


@pytest.mark.parametrize("slopes", SLOPES)
@pytest.mark.parametrize("up", [False, True])
def test_a_sweep_of_the_best_actions_is_the_sweep_of_all(slopes, up):
    for seed in range(5):
        parts, on = drawn(seed), stocks(up, *slopes)
        out, policy, changes = sweep(parts, on)
        again, kept, same = sweep(parts, on, improve=False, policy=policy)
        assert np.array_equal(again, out)
        assert np.array_equal(kept, policy)
        assert same == changes


@pytest.mark.parametrize("up", [False, True])
def test_a_sweep_of_any_policy_takes_its_action_stock_by_stock(up):
    parts, on = drawn(7), stocks(up, 0.5, 2.0)
    rng = np.random.default_rng(8)
    mixed = rng.integers(0, 3, (5, PLACES + 2)).astype(np.int32)
    out, kept, _ = sweep(parts, on, improve=False, policy=mixed)
    single = [sweep(parts, on, improve=False, policy=np.full_like(mixed, a))[0] for a in range(3)]
    assert np.array_equal(kept, mixed)
    for s, column in np.ndindex(4, PLACES + 2):
        assert out[s, column] == single[mixed[s, column]][s, column]
        assert abs(Fraction(out[s, column]) - witness(parts, on, s, mixed[s, column], column)) < 1e-12
