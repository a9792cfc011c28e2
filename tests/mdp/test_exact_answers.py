"""Every exact answer that the catalogue carries is confirmed by a witness of another kind, and proved by the library's solvers.

Witnesses: rational elimination for chains, scipy's linear programs for problems with choice, backward induction for
horizons, and value iteration with span bounds for the larger average-cost tables.
"""

import itertools
from fractions import Fraction

import numpy as np
import pytest
import scipy.optimize
import scipy.sparse as sp
from banach.mdp import MDP, AverageReward, FiniteHorizon, TotalReward, instances
from banach.solvers import check, solve
from hypothesis import example, given, settings
from hypothesis import strategies as st

CATALOGUE = instances.CATALOGUE


def transition_matrix(problem: MDP) -> sp.csr_array:
    """(m, n); rows are normalised where the criterion says that they are weights."""
    matrix = sp.csr_array((problem.probability, problem.successor, problem.row_ptr), shape=(problem.n_pairs, problem.n_states))
    if isinstance(problem.criterion, (TotalReward, AverageReward)):
        matrix = sp.diags_array(1 / matrix.sum(axis=1)) @ matrix
    return sp.csr_array(matrix)


def state_matrix(problem: MDP) -> sp.csr_array:
    """(m, n), one in the column of each pair's state."""
    return sp.csr_array(
        (np.ones(problem.n_pairs), (np.arange(problem.n_pairs), problem.pair_state)), (problem.n_pairs, problem.n_states)
    )


def by_linear_program(problem: MDP) -> float:
    """Optimum at the initial distribution: the least v >= r + g P v, or the least g >= P g, g + h >= r + P h."""
    sign = -1 if problem.criterion.minimize else 1
    matrix, at, reward = transition_matrix(problem), state_matrix(problem), sign * problem.reward
    n, weight = problem.n_states, np.ones(problem.n_states)
    if isinstance(problem.criterion, AverageReward):
        gap, none = matrix - at, sp.csr_array(matrix.shape)
        constraints = sp.vstack([sp.hstack([gap, none]), sp.hstack([-at, gap])])
        limits, cost = np.concatenate([np.zeros(len(reward)), -reward]), np.concatenate([weight, 0 * weight])
        bounds = [(None, None)] * (2 * n)
    else:
        constraints, limits, cost = problem.discount * matrix - at, -reward, weight
        worth = sign * problem.terminal_value
        floor = None if problem.reward.any() else min(worth.min(initial=0), 0)
        bounds = [(worth[s], worth[s]) if problem.terminal[s] else (floor, None) for s in range(n)]
    result = scipy.optimize.linprog(cost, constraints, limits, bounds=bounds, method="highs")
    assert result.success, result.message
    return sign * float(problem.initial @ result.x[:n])


def by_rational_elimination(problem: MDP) -> Fraction:
    """Exact value of a chain that stops, its rows normalised as total reward asks."""
    acting = np.flatnonzero(~problem.terminal).tolist()
    place = {state: i for i, state in enumerate(acting)}
    system = []
    for pair, state in enumerate(acting):
        line = [Fraction(0)] * len(acting) + [Fraction(problem.reward[pair])]
        line[place[state]] += 1
        entries = range(problem.row_ptr[pair], problem.row_ptr[pair + 1])
        total = sum(Fraction(problem.probability[entry]) for entry in entries)
        for entry in entries:
            share, to = Fraction(problem.probability[entry]) / total, int(problem.successor[entry])
            if problem.terminal[to]:
                line[-1] += share * Fraction(problem.terminal_value[to])
            else:
                line[place[to]] -= share
        system.append(line)
    for column in range(len(system)):
        pivot = next(row for row in range(column, len(system)) if system[row][column])
        system[column], system[pivot] = system[pivot], system[column]
        system[column] = [x / system[column][column] for x in system[column]]
        for row, line in enumerate(system):
            if row != column and line[column]:
                system[row] = [x - line[column] * y for x, y in zip(line, system[column], strict=True)]
    value = [Fraction(worth) for worth in problem.terminal_value]
    for state, i in place.items():
        value[state] = system[i][-1]
    return sum((Fraction(p) * v for p, v in zip(problem.initial, value, strict=True)), Fraction(0))


def best_of_pairs(problem: MDP, worth_of_pairs: np.ndarray) -> np.ndarray:
    best = np.minimum if problem.criterion.minimize else np.maximum
    value = problem.terminal_value.copy()
    value[~problem.terminal] = best.reduceat(worth_of_pairs, problem.state_ptr[:-1][~problem.terminal])
    return value


def by_backward_induction(problem: MDP) -> float:
    matrix, value = transition_matrix(problem), problem.terminal_value.copy()
    for _ in range(problem.criterion.horizon):
        value = best_of_pairs(problem, problem.reward + problem.discount * (matrix @ value))
    return float(problem.initial @ value)


def gain_bounds(problem: MDP, width: float) -> tuple[float, float]:
    """min and max of T v - v (Odoni 1969) once they are `width` apart; for aperiodic problems with one gain."""
    matrix, value = transition_matrix(problem), np.zeros(problem.n_states)
    for _ in range(5000):
        after = best_of_pairs(problem, problem.reward + matrix @ value)
        low, high = (after - value).min(), (after - value).max()
        if high - low <= width:
            return low, high
        value = after - after[0]
    raise AssertionError(f"still {high - low} apart")


def witness(problem: MDP) -> float | Fraction:
    if isinstance(problem.criterion, FiniteHorizon):
        return by_backward_induction(problem)
    if isinstance(problem.criterion, TotalReward) and problem.n_pairs == (~problem.terminal).sum() and problem.n_states < 50:
        return by_rational_elimination(problem)
    return by_linear_program(problem)


CASES = [
    *((name, dict(instance.small)) for name, instance in CATALOGUE.items() if instance.answer(**instance.small) is not None),
    *(("gridworld", {"side": side, "slip": 0.0, "discount": 0.9}) for side in (2, 5)),
    ("ssp_grid", {"side": 5, "slip": 0.0}),
    ("frozen_lake", {"discount": 1.0}),
    *(("haddad_monmege", {"n": n, "p": p, "objective": o}) for n in (1, 20) for p in (0.5, 0.7) for o in ("reach", "steps")),
    *(("gambler", {"fortune": i, "goal": 10, "p": p, "stakes": "any"}) for i in (1, 3, 5, 9) for p in (0.25, 0.4, 0.5)),
    *(("gambler", {"fortune": 3, "goal": 8, "p": p, "stakes": "unit"}) for p in (0.25, 0.5, 0.6)),
    *(("rare_exit", {"exponent": e, "objective": o}) for e in (2, 29, 30, 40, 60, 1000) for o in ("steps", "reach")),
    *(("combination_lock", {"length": n, "p": p, "discount": 0.9}) for n in (1, 2, 7) for p in (0.5, 1.0)),
    *(("combination_lock", {"length": 4, "p": 0.9, "bait": bait}) for bait in (-1.0, 0.0, 0.1, 0.3)),
    *(("forest", {"discount": g, "fire": b}) for g in (0.5, 0.9, 0.99) for b in (0.05, 0.1)),
    *(("machine_replacement", {"states": n, "discount": 1.0, "replacement": c}) for n in (2, 8) for c in (0.0, 2.0, 300.0)),
    *(("admission", {"capacity": c, "arrival": 0.4, "holding": h}) for c in (1, 6) for h in (0.0, 0.3, 10.0)),
    *(
        ("consensus_coin", {"k": k, "objective": objective})
        for k in (1, 2)
        for objective in ("steps_max", "steps_min", "heads_min", "disagree_max")
    ),
    *(("herman", {"processes": n}) for n in (3, 5, 7)),
    *(("knuth_yao_die", {"objective": o}) for o in ("flips", "one", "two", "three", "four", "five", "six")),
    *(("zeroconf", {"probes": n, "loss": p}) for n in (1, 4) for p in (0.3, 1e-3)),
    *(("blackwell", {"discount": g}) for g in (0.0, 0.3, 0.5, 0.9)),
    *(("puterman_two_state", {"discount": g}) for g in (0.0, 0.5, 0.95)),
    *(("howard_toymaker", {"discount": g}) for g in (0.0, 0.5, 0.9, 1.0)),
    *(("stay_or_move", {"toll": t, "near": n}) for t in (-5.0, 0.0, 10.0) for n in (1.0, 4.0)),
    *(("multichain_gamble", {"sure": s, "consolation": c}) for s in (1.0, 4.0) for c in (0.0, 9.0)),
    *(("rare_visit", {"p": p, "loss": x}) for p in (1e-2, 1e-6) for x in (1.0, 1e5)),
    *(("wagner_whitin", {"demand": d, "setup": 30.0, "holding": 1.0}) for d in ("5", "0/3/0/4", "10/20/30/5/1", "0")),
]  # fmt: skip


@pytest.mark.parametrize(("name", "parameters"), CASES, ids=str)
def test_the_exact_answer_is_the_optimum_that_a_witness_finds(name, parameters):
    instance = CATALOGUE[name]
    exact, found = instance.answer(**parameters), witness(instance.make(**parameters))
    tolerance = 1e-12 if isinstance(found, Fraction) else 1e-7
    assert abs(float(found) - float(exact)) <= tolerance * max(1, abs(float(exact)))


@pytest.mark.parametrize("steps", [1572862])
def test_the_haddad_monmege_chain_takes_exactly_its_published_steps(steps):
    assert by_rational_elimination(instances.haddad_monmege(n=20, p=0.7, objective="steps")) == steps


@pytest.mark.parametrize(("n", "steps"), [(2, 4), (3, 10), (5, 46)])
def test_the_steps_of_short_haddad_monmege_chains_are_exact(n, steps):
    assert by_rational_elimination(instances.haddad_monmege(n=n, p=0.5, objective="steps")) == steps


PRINTED = [(name, printed) for name, instance in CATALOGUE.items() for printed in instance.published]


@pytest.mark.parametrize(
    ("name", "printed"), [(name, p) for name, p in PRINTED if CATALOGUE[name].answer(**p.parameters) is not None], ids=str
)
def test_published_numbers_agree_with_the_exact_answer_to_the_printed_digits(name, printed):
    exact = CATALOGUE[name].answer(**printed.parameters)
    assert exact == printed.value if printed.tolerance == 0 else abs(float(exact) - float(printed.value)) <= printed.tolerance


@pytest.mark.parametrize("printed", CATALOGUE["setup_inventory"].published, ids=str)
def test_the_optimal_setup_inventory_cost_is_zheng_and_federgruens(printed):
    low, high = gain_bounds(instances.setup_inventory(**printed.parameters), 1e-5)
    exact = CATALOGUE["setup_inventory"].answer(**printed.parameters)
    assert low - 1e-9 <= exact <= high + 1e-9
    assert abs(low - printed.value) <= printed.tolerance + 1e-5


@pytest.mark.parametrize("printed", [p for p in CATALOGUE["lost_sales"].published if p.parameters["lead"] <= 2], ids=str)
def test_the_optimal_lost_sales_cost_is_zipkins(printed):
    low, high = gain_bounds(instances.lost_sales(**printed.parameters), 1e-6)
    assert low - printed.tolerance <= printed.value <= high + printed.tolerance


def test_the_russell_norvig_world_has_the_printed_utilities():
    problem = instances.russell_norvig()
    printed = [0.812, 0.868, 0.918, 1.0, 0.762, 0.660, -1.0, 0.705, 0.655, 0.611, 0.388]
    values = [by_linear_program(problem.replace(initial=np.eye(11)[state])) for state in range(11)]
    np.testing.assert_allclose(values, printed, atol=5e-4)


def test_howards_taxi_gains_thirteen_and_a_third():
    problem = instances.howard_taxi()
    gains = []
    for policy in itertools.product(range(3), range(2), range(3)):
        pairs = problem.state_ptr[:-1] + policy
        chain = transition_matrix(problem).toarray()[pairs]
        law = np.linalg.solve(np.vstack([(chain.T - np.eye(3))[:-1], np.ones(3)]), [0, 0, 1])
        gains.append(law @ problem.reward[pairs])
    assert max(gains) == pytest.approx(1588 / 119, rel=1e-12)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(0, 12), min_size=1, max_size=5), st.integers(0, 40), st.integers(0, 4))
@example([0, 0], 3, 1)
def test_the_lot_sizing_recursion_is_the_best_of_all_order_patterns(demand, setup, holding):
    plans = []
    for order in itertools.product([False, True], repeat=len(demand)):
        starts = [t for t, chosen in enumerate(order) if chosen]
        if any(need and not any(s <= t for s in starts) for t, need in enumerate(demand)):
            continue
        kept = sum(holding * need * (t - max(s for s in starts if s <= t)) for t, need in enumerate(demand) if need)
        plans.append(setup * len(starts) + kept)
    parameters = {"demand": demand, "setup": float(setup), "holding": float(holding)}
    assert CATALOGUE["wagner_whitin"].answer(**parameters) == min(plans)
    assert witness(instances.wagner_whitin(**parameters)) == pytest.approx(min(plans), abs=1e-9)


OUT_OF_REACH = [("rare_exit", {"exponent": 1000, "objective": "reach"})]
"""What floating-point brackets cannot hold: a probability decided by weights of 1e-301."""


@pytest.mark.parametrize(("name", "parameters"), [case for case in CASES if case not in OUT_OF_REACH], ids=str)
def test_solve_proves_a_bracket_around_the_exact_answer(name, parameters):
    problem, exact = CATALOGUE[name].make(**parameters), float(CATALOGUE[name].answer(**parameters))
    eps = 1e-7 * max(1, abs(exact))
    solution = solve(problem, eps=eps)
    assert check(problem, solution.certificate)
    first_stage = 0 if isinstance(problem.criterion, FiniteHorizon) else slice(None)
    low, high = (problem.initial @ bound[first_stage] for bound in (solution.certificate.lower, solution.certificate.upper))
    rounding = 1e-12 * max(1, abs(exact))  # the model's floats against the rationals they stand for
    assert low - rounding <= exact <= high + rounding
    assert high - low <= eps + rounding


def is_large(name: str, parameters: dict) -> bool:
    return (name == "lost_sales" and parameters["lead"] > 2) or (name == "consensus_coin" and parameters["processes"] > 2)


@pytest.mark.parametrize(
    ("name", "printed"),
    [pytest.param(n, p, marks=pytest.mark.slow if is_large(n, p.parameters) else ()) for n, p in PRINTED],
    ids=str,
)
def test_solve_proves_a_bracket_around_the_published_number(name, printed):
    problem, value = CATALOGUE[name].make(**printed.parameters), float(printed.value)
    eps = 1e-6 * max(1, abs(value))
    certificate = solve(problem, eps=eps).certificate
    assert check(problem, certificate)
    first_stage = 0 if isinstance(problem.criterion, FiniteHorizon) else slice(None)
    low, high = (problem.initial @ bound[first_stage] for bound in (certificate.lower, certificate.upper))
    assert low - printed.tolerance - 1e-12 <= value <= high + printed.tolerance + 1e-12
    assert high - low <= eps * (1 + 1e-9)
