"""Nature picks one of finitely many models for good: against enumeration in exact rationals; proofs and what spoils them."""

import dataclasses
import itertools
from fractions import Fraction

import numpy as np
import pytest
import scipy.optimize
from banach.mdp import MDP, Discounted, FiniteHorizon
from banach.mdp.instances.rows import from_lists
from banach.mdp.restriction import restricted
from banach.solvers import CertificateRejected, SolveError, exact_value
from banach.solvers.check_static import check_static
from banach.solvers.iwocs import iwocs
from banach.solvers.static_robust import any_policy_bound, solve_static
from hypothesis import given, settings
from hypothesis import strategies as st


@st.composite
def families(draw):
    """A few models of one shape; rewards alike or not, a terminal state or none, and where the run begins."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n, actions, count = draw(st.integers(1, 4)), draw(st.integers(1, 3)), draw(st.integers(1, 4))
    ends, same = draw(st.booleans()), draw(st.booleans())
    reward = rng.integers(-3, 4, (count, n, actions))
    models = []
    for j in range(count):
        rows = rng.multinomial(8, np.full(n, 1 / n), (n, actions)) / 8
        states = [
            [(float(reward[0 if same else j, s, a]), dict(enumerate(rows[s, a].tolist()))) for a in range(actions)]
            for s in range(n)
        ]
        models.append(from_lists([*states[:-1], float(j)] if ends and n > 1 else states, Discounted(0.5)))
    start = draw(st.one_of(st.integers(0, n - 1), st.just("spread")))
    return models, np.full(n, 1 / n) if start == "spread" else start


def policies(model):
    counts = np.diff(model.state_ptr)
    return itertools.product(*[range(c) if c else (-1,) for c in counts])


def worth(models, policy, start):
    """The worst case of a policy, exactly."""
    weights = np.eye(models[0].n_states)[start] if isinstance(start, int) else start
    least = None
    for model in models:
        value, _ = exact_value(restricted(model, np.array(policy, dtype=np.int32)))
        mean = sum(Fraction(float(w)) * v for w, v in zip(weights, value, strict=True))
        least = mean if least is None else min(least, mean)
    return least


@settings(deadline=None, max_examples=40)
@given(family=families())
def test_the_bracket_holds_the_best_worst_case_of_all_policies(family):
    models, start = family
    if not models[0].n_pairs:
        return
    found = solve_static(models, start, eps=1e-7)
    exact = max(worth(models, policy, start) for policy in policies(models[0]))
    assert Fraction(found.lower) <= exact <= Fraction(found.upper)
    assert found.upper - found.lower <= 1e-7
    assert Fraction(found.lower) <= worth(models, found.policy, start) <= exact
    assert check_static(models, found, start) > 0


@settings(deadline=None, max_examples=25)
@given(family=families())
def test_bounds_stand_in_their_order(family):
    """Hull <= deterministic optimum <= any policy's <= least of the models' optima (weak duality)."""
    models, start = family
    if not models[0].n_pairs:
        return
    found, most = solve_static(models, start, eps=1e-7), any_policy_bound(models, start, eps=1e-7)
    assert found.hull <= found.upper + 1e-12
    assert found.lower <= most + 1e-6
    weights = np.eye(models[0].n_states)[start] if isinstance(start, int) else start
    least = min(float(weights @ [float(v) for v in exact_value(model)[0]]) for model in models)
    assert most <= least + 1e-6


@settings(deadline=None, max_examples=15)
@given(family=families(), nodes=st.integers(1, 3))
def test_what_the_nodes_allow_is_still_a_bracket(family, nodes):
    models, start = family
    if not models[0].n_pairs:
        return
    found = solve_static(models, start, eps=1e-7, max_nodes=nodes)
    exact = max(worth(models, policy, start) for policy in policies(models[0]))
    assert Fraction(found.lower) <= exact <= Fraction(found.upper)
    assert check_static(models, found, start) > 0


def guess():
    """One choice, of two; each model pays for one of them: a coin earns half, no certain choice anything."""
    return [from_lists([[(a, {1: 1.0}), (b, {1: 1.0})], 0.0], Discounted(0.5)) for a, b in ((1.0, 0.0), (0.0, 1.0))]


def test_a_coin_is_worth_more_than_any_certain_choice():
    found = solve_static(guess(), 0)
    assert (found.lower, found.upper) == pytest.approx((0.0, 0.0), abs=1e-6)
    assert any_policy_bound(guess(), 0) == pytest.approx(0.5, abs=1e-5)


def test_the_bound_for_any_policy_holds_for_stationary_randomised_ones():
    rng = np.random.default_rng(5)
    models = [MDP.from_dense(rng.dirichlet(np.ones(3), (3, 2)), rng.normal(size=(3, 2)), 0.8, layout="sas") for _ in range(3)]
    bound = any_policy_bound(models, 0, eps=1e-8)
    for _ in range(300):
        share = rng.dirichlet([0.3, 0.3], 3)
        values = []
        for model in models:
            rows = model.probability.reshape(3, 2, 3)
            chain, reward = np.einsum("sa,saj->sj", share, rows), (share * model.reward.reshape(3, 2)).sum(axis=1)
            values.append(np.linalg.solve(np.eye(3) - 0.8 * chain, reward)[0])
        assert min(values) <= bound


def test_mixing_rows_costs_what_committing_does_not():
    """Two certain paths; a nature who may mix takes the worse half of each, one who commits only one of them."""
    shape = [[(0.0, {1: 1.0})], [(1.0, {2: 1.0})], [(0.0, {3: 1.0})], 0.0]
    other = [[(0.0, {2: 1.0})], [(0.0, {2: 1.0})], [(1.0, {3: 1.0})], 0.0]
    models = [from_lists(rows, Discounted(0.5)) for rows in (shape, other)]
    found = solve_static(models, 0)
    assert found.lower == pytest.approx(0.5, abs=1e-6)
    assert found.hull == pytest.approx(0.0, abs=1e-6)


def test_the_search_ends_far_below_the_number_of_policies():
    rng = np.random.default_rng(1)
    n, actions = 10, 3
    base = rng.dirichlet(np.full(n, 0.3), (n, actions))
    models = []
    for _ in range(3):
        rows = 0.8 * base + 0.2 * rng.dirichlet(np.full(n, 0.3), (n, actions))
        models.append(MDP.from_dense(rows, rng.random((n, actions)), 0.8, layout="sas"))
    found = solve_static(models, 0, eps=1e-4)
    assert found.upper - found.lower <= 1e-4
    assert found.nodes < 3000 < actions**n
    assert check_static(models, found, 0) > 0


def test_a_single_model_is_an_ordinary_problem():
    model = guess()[0]
    found = solve_static([model], 0, eps=1e-9)
    assert found.nodes == 1
    assert found.lower == pytest.approx(1.0)


def test_what_the_worst_case_search_finds_is_no_better():
    rng = np.random.default_rng(3)
    reward = rng.random((4, 2))
    models = [MDP.from_dense(rng.dirichlet(np.ones(4), (4, 2)), reward, 0.9, layout="sas") for _ in range(3)]
    assert iwocs(models, 0, eps=1e-7).lower <= solve_static(models, 0, eps=1e-7).upper


def test_what_is_spoilt_is_refused():
    models = []
    for j in range(2):
        rows, reward = np.random.default_rng(j).dirichlet(np.ones(3), (3, 2)), np.arange(6.0).reshape(3, 2) * (1 - 2 * j)
        models.append(MDP.from_dense(rows, reward, 0.9, layout="sas"))
    found = solve_static(models, 0, eps=1e-6)
    assert check_static(models, found, 0)
    other = 1 - found.policy
    for match, change in {
        "not proved to be worth": {"lower": found.upper + 1e-3},
        "leaf .: its policies are not proved": {"upper": found.lower - 1e-3},
        "do not cover": {"leaves": found.leaves[1:]},
        "speaks of model": {"policy": other.astype(np.int32)},
        "1 certificates": {"values": found.values[:1]},
        "there is no model 7": {"leaves": (dataclasses.replace(found.leaves[0], model=7), *found.leaves[1:])},
    }.items():
        with pytest.raises(CertificateRejected, match=match):
            check_static(models, dataclasses.replace(found, **change), 0)
    with pytest.raises(CertificateRejected, match="speaks of model"):
        check_static(models[::-1], found, 0)


def test_models_that_do_not_fit_are_refused():
    model = guess()[0]
    for models, fault in (
        ([], "at least one"),
        ([model.replace(criterion=FiniteHorizon(3))], "at least one discounted"),
        ([model.negated()], "take the negated models"),
        ([model, from_lists([[(1.0, {0: 1.0})], 0.0], Discounted(0.5))], "model 1 has other states, actions or discount"),
        ([from_lists([1.0], Discounted(0.5))], "every state is terminal"),
    ):
        with pytest.raises(SolveError, match=fault):
            solve_static(models, 0)
    for start in (7, None, np.array([0.5, 0.2]), np.ones(3)):
        with pytest.raises(SolveError, match=r"not in 0|a distribution"):
            solve_static([model], start)


def test_the_matrix_game_is_the_bound_of_the_first_action():
    models = guess()
    payoff = np.array([model.reward for model in models])
    game = scipy.optimize.linprog(
        [0, 0, -1], A_ub=np.hstack([-payoff, np.ones((2, 1))]), b_ub=[0, 0], A_eq=[[1, 1, 0]], b_eq=[1]
    )
    assert any_policy_bound(models, 0, eps=1e-9) == pytest.approx(-game.fun, abs=1e-8)
