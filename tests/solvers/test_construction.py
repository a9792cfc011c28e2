"""Tail instances: a bisimulation of prefixes with the published number of classes, and optimal solutions through them."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from banach.mdp import ModelError, quotient
from banach.mdp.combinatorial import Knapsack, Orienteering, TravelingSalesman, VehicleRouting
from banach.mdp.construction import CLOSE, END, STOP, direct_mdp, prefixes, tail_mdp, tail_partition
from banach.solvers import build, check, coarsest_bisimulation, solve, stability
from scipy.optimize import Bounds, LinearConstraint, milp

RANDOM = np.random.default_rng(11)


def plane(n, seed):
    points = np.random.default_rng(seed).random((n, 2))
    return np.linalg.norm(points[:, None] - points, axis=2)


TSP = TravelingSalesman(plane(5, 1))
ATSP = TravelingSalesman(RANDOM.random((5, 5)))
CVRP = VehicleRouting(plane(5, 2), np.array([0, 3, 4, 5, 2.0]), 8.0)
OP = Orienteering(plane(6, 3), np.array([0, 1, 5, 3, 2, 4.0]), 1.6)
KP = Knapsack(np.array([4.0, 5, 3, 9, 7]), np.array([3.0, 8, 2, 9, 6]), 12.0)
PROBLEMS = [
    pytest.param(problem, id=name)
    for name, problem in {"TSP": TSP, "ATSP": ATSP, "CVRP": CVRP, "orienteering": OP, "knapsack": KP}.items()
]


def ends(step):
    return step in (CLOSE, STOP)


def solutions(problem):
    """Every solution, by extending prefixes."""
    waiting = [()]
    while waiting:
        prefix = waiting.pop()
        for step in problem.steps(prefix):
            if ends(step):
                yield (*prefix, step)
            else:
                waiting.append((*prefix, step))


@pytest.mark.parametrize(("cities", "direct", "tails"), [(3, 16, 13), (4, 65, 33), (5, 326, 81)])
def test_an_asymmetric_tour_has_the_published_numbers_of_prefixes_and_classes(cities, direct, tails):
    problem = TravelingSalesman(np.random.default_rng(cities).random((cities + 1, cities + 1)))
    model = direct_mdp(problem)
    assert model.n_states - 1 == direct == sum(math.perm(cities, k) for k in range(cities + 1))
    assert tail_mdp(problem).n_states - 1 == tails == 1 + cities * 2 ** (cities - 1)
    assert coarsest_bisimulation(model, actions="name") == tail_partition(problem, model)


@pytest.mark.parametrize("problem", PROBLEMS)
def test_tails_are_a_bisimulation_of_prefixes(problem):
    model = direct_mdp(problem)
    partition = tail_partition(problem, model)
    assert stability(model, partition)
    coarsest = coarsest_bisimulation(model, actions="name")
    assert len(set(zip(partition.states, coarsest.states, strict=True))) == partition.n_classes >= coarsest.n_classes
    merged, tails = quotient(model, partition).model, tail_mdp(problem)
    assert (merged.n_states, merged.n_pairs) == (tails.n_states, tails.n_pairs)
    assert solve(merged).value[0] == pytest.approx(solve(tails).value[0], abs=2e-6)


def test_tails_of_a_knapsack_are_not_the_coarsest():
    """Items that no longer fit make no difference."""
    model = direct_mdp(KP)
    partition = tail_partition(KP, model)
    assert coarsest_bisimulation(model, actions="name").n_classes < partition.n_classes < model.n_states


@pytest.mark.parametrize("problem", PROBLEMS)
def test_the_best_of_all_solutions_is_built(problem):
    best = max(problem.objective(solution) for solution in solutions(problem))
    built = build(problem)
    assert built.objective == best
    assert 0 <= built.gap <= 1e-6
    assert check(tail_mdp(problem), built.certificate)


@pytest.mark.parametrize("problem", PROBLEMS)
def test_what_the_steps_pay_adds_up_to_the_objective_whatever_the_way(problem):
    for solution in itertools.islice(solutions(problem), 200):
        tail, paid = problem.tail(()), Fraction(0)
        for step in solution:
            pays, tail = problem.continuations(tail)[step]
            paid += Fraction(pays)
        assert tail is None
        assert abs(paid - problem.objective(solution)) <= Fraction(1, 2**45)


@pytest.mark.parametrize("problem", PROBLEMS)
def test_the_rest_of_a_best_solution_is_best_for_its_tail(problem):
    """What makes suffixes of solutions into training instances."""
    solution = build(problem).steps
    best = max(problem.objective(other) for other in solutions(problem))
    for k in range(len(solution)):
        head = solution[:k]
        rest = [problem.objective(other) for other in solutions(problem) if other[:k] == head]
        assert max(rest) == best
        assert problem.tail(head) in {problem.tail(p) for p in prefixes(problem) if p != END}


def test_a_knapsack_is_filled_as_highs_fills_it():
    random = np.random.default_rng(4)
    problem = Knapsack(random.integers(1, 30, 9), random.integers(1, 30, 9), 60)
    fits = LinearConstraint(problem.weight[None], ub=60)
    found = milp(-problem.value, constraints=fits, integrality=np.ones(9), bounds=Bounds(0, 1))
    assert float(build(problem).objective) == pytest.approx(-found.fun)


def test_a_tour_is_as_short_as_highs_finds():
    """Miller, Tucker and Zemlin's program, J. ACM 7, 1960."""
    n, distance = 7, plane(7, 9)
    cost = np.concatenate((distance.ravel(), np.zeros(n)))
    out, into = np.kron(np.eye(n), np.ones(n)), np.kron(np.ones(n), np.eye(n))
    degree = np.hstack((np.vstack((out, into)), np.zeros((2 * n, n))))
    order = [
        np.concatenate((n * np.eye(n * n)[i * n + j], np.eye(n)[i] - np.eye(n)[j]))
        for i, j in itertools.permutations(range(1, n), 2)
    ]
    diagonal = np.eye(n).ravel() == 1
    found = milp(
        cost,
        constraints=[LinearConstraint(degree, 1, 1), LinearConstraint(np.array(order), ub=n - 1)],
        integrality=np.concatenate((np.ones(n * n), np.zeros(n))),
        bounds=Bounds(0, np.concatenate((np.where(diagonal, 0, 1), np.full(n, n)))),
    )
    assert -float(build(TravelingSalesman(distance)).objective) == pytest.approx(found.fun)


def test_with_nothing_to_do_there_is_one_step():
    assert build(TravelingSalesman(np.zeros((1, 1)))).steps == (CLOSE,)
    assert build(Knapsack(np.array([5.0]), np.array([1.0]), 4.0)).steps == (STOP,)
    assert build(Orienteering(plane(4, 1), np.ones(4), 0.0)).objective == 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TravelingSalesman(np.zeros((2, 3))), "must be (n, n)"),
        (lambda: TravelingSalesman(np.array([[0, np.nan], [1, 0]])), "from 0 to 1 is nan"),
        (lambda: VehicleRouting(np.zeros((2, 2)), np.array([0.0, 9.0]), 8.0), "demand 1 is 9.0"),
        (lambda: Orienteering(np.zeros((2, 2)), np.array([0.0, -1.0]), 1.0), "prize 1 is -1.0"),
        (lambda: Orienteering(np.zeros((2, 2)), np.zeros(2), -1.0), "budget 0 is -1.0"),
        (lambda: Knapsack(np.array([0.0]), np.array([1.0]), 1.0), "weight 0 is 0.0"),
        (lambda: Knapsack(np.array([1.0]), np.array([1.0, 2.0]), 1.0), "value has shape"),
        (lambda: direct_mdp(TSP, max_states=10), "10"),
        (lambda: tail_partition(KP, direct_mdp(TSP)), "give direct_mdp"),
    ],
)  # fmt: skip
def test_impossible_instances_are_refused(make, message):
    with pytest.raises(ModelError) as fault:
        make()
    assert message in str(fault.value)
