"""Constrained problems: held against cvxpy, exact rationals, and enumeration; the proofs reject what is not so."""

import dataclasses
from fractions import Fraction

import cvxpy
import numpy as np
import pytest
from banach.mdp import MDP, ConstrainedMDP, Discounted, ModelError, instances, strategies
from banach.solvers import (
    Certificate,
    CertificateRejected,
    Infeasible,
    NotConverged,
    SolveError,
    ValueIteration,
    check,
    solve,
)
from hypothesis import given, settings
from hypothesis import strategies as st


@st.composite
def constrained_mdps(draw, n_costs=None):
    """A discounted problem, one or two costs, and bounds between the least and the greatest that policies spend, or beyond."""
    model = draw(strategies.discounted_mdps(max_states=5).filter(lambda model: model.n_pairs))
    costs = draw(st.integers(1, 2)) if n_costs is None else n_costs
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    initial = rng.dirichlet(np.ones(model.n_states))
    cost = rng.integers(0, 4, size=(costs, model.n_pairs)).astype(float)
    bounds = [
        least + draw(st.sampled_from([0.5, 0.1, 0.9, 1.5, -0.25])) * (most - least + 0.125)
        for least, most in (spent(model, one, initial) for one in cost)
    ]
    return ConstrainedMDP(model.replace(initial=initial), cost, np.array(bounds))


def spent(model, cost, initial):
    """Least and greatest expected cost."""
    free = model.replace(reward=cost, terminal_value=np.zeros(model.n_states), criterion=Discounted(model.discount))
    least = free.replace(criterion=Discounted(model.discount, minimize=True))
    return float(initial @ solve(least).value), float(initial @ solve(free).value)


def occupancy_program(problem):
    """The optimum by a conic solver, from dense arrays; None where there is no policy."""
    model = problem.problem
    acting = ~model.terminal
    flow = np.zeros((model.n_states, model.n_pairs))
    ahead = np.zeros(model.n_pairs)
    for pair in range(model.n_pairs):
        flow[model.pair_state[pair], pair] += 1
        for entry in range(model.row_ptr[pair], model.row_ptr[pair + 1]):
            p, j = model.probability[entry], model.successor[entry]
            flow[j, pair] -= model.discount * p
            ahead[pair] += model.discount * p * model.terminal_value[j]
    sign = -1 if problem.criterion.minimize else 1
    x = cvxpy.Variable(model.n_pairs, nonneg=True)
    limits = [flow[acting] @ x == problem.initial[acting], problem.costs @ x <= problem.bounds]
    program = cvxpy.Problem(cvxpy.Maximize(sign * ((model.reward + ahead) @ x)), limits)
    program.solve(solver=cvxpy.HIGHS)
    if program.status == cvxpy.INFEASIBLE:
        return None
    return sign * program.value + float(problem.initial[model.terminal] @ model.terminal_value[model.terminal])


def exact_worth(problem, weights, reward, terminal):
    """mu . v of the policy in proportion to the weights, by Gaussian elimination over the rationals."""
    model, n = problem.problem, problem.n_states
    system = [[Fraction(int(i == j)) for j in range(n + 1)] for i in range(n)]
    for s in range(n):
        system[s][n] = Fraction(float(terminal[s])) if model.terminal[s] else Fraction(0)
        pairs = range(model.state_ptr[s], model.state_ptr[s + 1])
        total = sum(Fraction(float(weights[k])) for k in pairs)
        for k in pairs:
            share = Fraction(float(weights[k])) / total
            system[s][n] += share * Fraction(float(reward[k]))
            for entry in range(model.row_ptr[k], model.row_ptr[k + 1]):
                step = Fraction(model.discount) * Fraction(float(model.probability[entry]))
                system[s][model.successor[entry]] -= share * step
    for i in range(n):
        pivot = next(row for row in range(i, n) if system[row][i])
        system[i], system[pivot] = system[pivot], system[i]
        system[i] = [entry / system[i][i] for entry in system[i]]
        for row in range(n):
            if row != i and system[row][i]:
                factor = system[row][i]
                system[row] = [a - factor * b for a, b in zip(system[row], system[i], strict=True)]
    return sum(Fraction(float(mu)) * system[s][n] for s, mu in enumerate(problem.initial))


@settings(max_examples=60, deadline=None)
@given(constrained_mdps())
def test_the_bracket_holds_the_conic_optimum_and_the_policy_keeps_its_bounds(problem):
    scale = 1 + float(np.abs(problem.problem.reward).max(initial=0)) + float(np.abs(problem.problem.terminal_value).max())
    eps = 1e-6 * scale / (1 - problem.problem.discount)
    witness = occupancy_program(problem)
    if witness is None:
        with pytest.raises(Infeasible) as refusal:
            solve(problem, eps=eps)
        assert check(problem, refusal.value.certificate)
        return
    solution = solve(problem, eps=eps)
    proof = solution.certificate
    assert check(problem, proof)
    assert proof.width <= eps
    assert proof.lower - eps <= witness <= proof.upper + eps
    worth = exact_worth(problem, solution.policy, problem.problem.reward, problem.problem.terminal_value)
    assert Fraction(float(proof.lower)) <= worth <= Fraction(float(proof.upper))
    for cost, bound in zip(problem.costs, problem.bounds, strict=True):
        assert exact_worth(problem, solution.policy, cost, np.zeros(problem.n_states)) <= Fraction(float(bound))


@settings(max_examples=30, deadline=None)
@given(constrained_mdps())
def test_a_vertex_randomises_in_at_most_one_state_for_each_cost(problem):
    try:
        policy = solve(problem, eps=1e-3).policy
    except (Infeasible, NotConverged):
        return
    visited = int(np.count_nonzero(~problem.terminal))
    assert np.count_nonzero(policy) <= visited + problem.n_costs


@settings(max_examples=30, deadline=None)
@given(constrained_mdps(n_costs=1))
def test_loose_bounds_change_nothing(problem):
    loose = ConstrainedMDP(problem.problem, problem.costs, np.array([1e9]))
    value = float(problem.initial @ solve(problem.problem).value)
    assert float(solve(loose, eps=1e-5).value) == pytest.approx(value, abs=1e-4)


def two_arms(bound):
    """One state, two actions, reward 1 and cost 1 or nothing at all, discount 1/2: worth min(2, bound)."""
    model = MDP.from_dense(np.ones((2, 1, 1)), np.array([[1.0, 0.0]]), 0.5, initial=np.ones(1), layout="ass")
    return ConstrainedMDP(model, np.array([1.0, 0.0]), np.array([bound]))


def test_a_bound_halfway_is_met_by_tossing_a_fair_coin():
    solution = solve(two_arms(1.0), eps=1e-9)
    assert float(solution.value) == pytest.approx(1, abs=1e-9)
    assert solution.policy / solution.policy.sum() == pytest.approx([0.5, 0.5])
    assert solution.certificate.witness["multipliers"] == pytest.approx([1.0])


def test_impossible_bounds_are_refuted_by_a_proof_that_checks():
    problem = two_arms(-0.5)
    with pytest.raises(Infeasible, match="no policy keeps the bounds") as refusal:
        solve(problem)
    assert check(problem, refusal.value.certificate)
    with pytest.raises(CertificateRejected, match="model"):
        check(two_arms(0.5), refusal.value.certificate)


def test_a_refutation_of_a_feasible_problem_is_rejected():
    with pytest.raises(Infeasible) as refusal:
        solve(two_arms(-0.5))
    forged = dataclasses.replace(refusal.value.certificate, model=two_arms(0.5))
    with pytest.raises(CertificateRejected, match="no contradiction"):
        check(two_arms(0.5), forged)


def test_a_minimisation_problem_is_proved_and_refuted_too():
    problem = two_arms(1.0)
    cheapest = ConstrainedMDP(
        problem.problem.replace(reward=np.array([1.0, 3.0]), criterion=Discounted(0.5, minimize=True)),
        problem.costs,
        problem.bounds,
    )
    solution = solve(cheapest)
    assert float(solution.value) == pytest.approx(4.0, abs=1e-6)
    assert check(cheapest, solution.certificate)
    impossible = ConstrainedMDP(cheapest.problem, cheapest.costs, np.array([-1.0]))
    with pytest.raises(Infeasible) as refusal:
        solve(impossible)
    assert check(impossible, refusal.value.certificate)


def corrupted(proof):
    """The proof with one thing changed at a time, and what the checker says of it."""
    witness = dict(proof.witness)

    def changed(name, change):
        return dataclasses.replace(proof, witness=witness | {name: change(witness[name].copy())})

    yield dataclasses.replace(proof, lower=proof.lower + 1e-3), "lower is"
    yield dataclasses.replace(proof, upper=proof.upper - 1e-3), "upper is"
    yield changed("multipliers", lambda x: -1 - x), "must not be negative"
    yield changed("multipliers", lambda x: x / 2), "does not hold"
    yield changed("lower_value", lambda v: v + 1), "does not hold"
    yield changed("upper_lagrangian", lambda v: v - 1), "does not hold"
    yield changed("costs", lambda c: c - 1), "does not hold"
    yield changed("costs", lambda c: c + 1), "its bound is"
    yield changed("costs", lambda c: c[:, :-1]), "shape"
    yield dataclasses.replace(proof, policy=-proof.policy), "negative"
    yield dataclasses.replace(proof, policy=0 * proof.policy), "no action"
    yield dataclasses.replace(proof, witness={}), "needs"


def test_a_changed_proof_is_rejected():
    problem = two_arms(1.0)
    proof = solve(problem).certificate
    for forged, words in corrupted(proof):
        with pytest.raises(CertificateRejected, match=words):
            check(problem, forged)


def test_a_proof_is_saved_and_loaded(tmp_path):
    problem = two_arms(1.0)
    solve(problem).certificate.save(tmp_path / "proof.npz")
    assert check(problem, Certificate.load(tmp_path / "proof.npz"))


def test_a_hundred_and_fifty_states_with_two_costs():
    model = instances.make("garnet:states=150,actions=4,successors=5,discount=0.95,seed=3")
    rng = np.random.default_rng(0)
    model = model.replace(initial=np.full(model.n_states, 1 / model.n_states))
    costs = rng.uniform(size=(2, model.n_pairs))
    problem = ConstrainedMDP(model, costs, np.array([7.0, 8.0]))
    solution = solve(problem, eps=1e-7)
    assert check(problem, solution.certificate)
    assert solution.certificate.witness["multipliers"].max() > 0


def test_what_makes_no_sense_is_refused():
    problem = two_arms(1.0)
    with pytest.raises(SolveError, match="OccupancyProgram"):
        solve(problem, ValueIteration())
    with pytest.raises(SolveError, match="without a start"):
        solve(problem, start=np.zeros(1))
    with pytest.raises(ModelError, match="must be finite"):
        ConstrainedMDP(problem.problem, np.array([np.nan, 0.0]), np.array([1.0]))
    with pytest.raises(ModelError, match="shape"):
        ConstrainedMDP(problem.problem, np.array([1.0, 0.0]), np.array([1.0, 2.0]))
    with pytest.raises(ModelError, match="initial"):
        ConstrainedMDP(problem.problem.replace(initial=None), np.array([1.0, 0.0]), np.array([1.0]))
