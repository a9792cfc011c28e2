"""Robust linear problems: against rectangular problems, linear programs and published bounds; every bracket proved."""

import dataclasses
from fractions import Fraction

import cvxpy as cp
import numpy as np
import pytest
from banach.mdp import AverageReward, Discounted, FiniteHorizon, LinearRobustMDP, ModelError, RobustMDP, instances, strategies
from banach.mdp.ambiguity import KL, L1, L2, ChiSquare, Contamination, Interval, Polytope, Scenarios, TotalVariation, WeightedL1
from banach.solvers import (
    Anderson,
    CertificateRejected,
    GaussSeidel,
    ModifiedPolicyIteration,
    PartialPolicyIteration,
    RobustPolicyIteration,
    ValueIteration,
    check,
    solve,
)
from banach.solvers.check_linear_robust import factors_at
from hypothesis import given, settings
from hypothesis import strategies as st

BALLS = st.sampled_from([
    L1(0.3), TotalVariation(0.25, support="all"), KL(0.1), L2(0.2, support="all"), ChiSquare(0.3), Contamination(0.2),
])  # fmt: skip


@st.composite
def linear(draw, ball=BALLS, criterion=None):
    """n states, three of them terminal at most, d factors that may be more than the states."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n, d = draw(st.integers(1, 5)), draw(st.integers(1, 8))
    counts = rng.integers(0, 4, n)
    counts[0] = max(counts[0], 1)
    m = int(counts.sum())
    factors = rng.dirichlet(np.full(n, 0.5), d)
    features = rng.dirichlet(np.full(d, 0.5), m)
    worth = np.where(counts == 0, rng.integers(-2, 3, n), 0.0)
    chosen = criterion or Discounted(draw(st.sampled_from([0.0, 0.5, 0.9])), minimize=draw(st.booleans()))
    return LinearRobustMDP(
        np.concatenate(([0], np.cumsum(counts))),
        features / features.sum(axis=1, keepdims=True),
        factors / factors.sum(axis=1, keepdims=True),
        rng.integers(-2, 3, m).astype(float),
        chosen,
        draw(ball),
        terminal_value=worth,
        optimistic=draw(st.booleans()),
    )


def of_table(model, ambiguity, **how):
    """The rows of a problem as its factors."""
    rows = np.zeros((model.n_pairs, model.n_states))
    np.add.at(rows, (np.repeat(np.arange(model.n_pairs), np.diff(model.row_ptr)), model.successor), model.probability)
    return LinearRobustMDP(model.state_ptr, np.eye(model.n_pairs), rows, model.reward, model.criterion, ambiguity,
                           terminal_value=model.terminal_value, initial=model.initial, **how)  # fmt: skip


def width(problem):
    return 1e-6 * (1 + np.abs(problem.reward).max() + np.abs(problem.terminal_value).max())


@settings(deadline=None, max_examples=25)
@given(model=strategies.discounted_mdps(max_states=4), ambiguity=BALLS, optimistic=st.booleans())
def test_factors_that_are_the_rows_give_the_rectangular_problem(model, ambiguity, optimistic):
    if not model.n_pairs:
        return
    eps = 1e-7 * (1 + np.abs(model.reward).max() + np.abs(model.terminal_value).max()) / (1 - model.discount)
    rows = solve(RobustMDP(model, ambiguity, optimistic=optimistic), eps=eps)
    problem = of_table(model, ambiguity, optimistic=optimistic)
    factors = solve(problem, eps=eps)
    assert check(problem, factors.certificate)
    np.testing.assert_allclose(factors.value, rows.value, atol=eps)


@settings(deadline=None, max_examples=40)
@given(problem=linear())
def test_what_is_solved_is_proved_by_every_method(problem):
    by_hand = (ValueIteration(), GaussSeidel(), ModifiedPolicyIteration(4), Anderson())
    answers = [
        solve(problem, method, eps=width(problem))
        for method in (None, RobustPolicyIteration(), PartialPolicyIteration(), *by_hand)
    ]
    for answer in answers:
        assert check(problem, answer.certificate)
        np.testing.assert_allclose(answer.value, answers[0].value, atol=width(problem))


@settings(deadline=None, max_examples=20)
@given(problem=linear(criterion=FiniteHorizon(3)))
def test_a_finite_horizon_is_proved_stage_by_stage(problem):
    answer = solve(problem, eps=width(problem))
    assert check(problem, answer.certificate)
    value = problem.terminal_value
    for stage in reversed(range(3)):
        low, high = factors_at(problem, value)
        worth = problem.reward + problem.features @ [float(int(a.p) / int(a.q)) for a in low]
        value = np.array([
            worth[slice(*problem.state_ptr[s : s + 2])].max() if not problem.terminal[s] else problem.terminal_value[s]
            for s in range(problem.n_states)
        ])  # fmt: skip
        assert low[0] <= high[0]
        np.testing.assert_allclose(answer.value[stage], value, atol=width(problem))


@settings(deadline=None, max_examples=20)
@given(problem=linear(ball=st.just(TotalVariation(0.3, support="all"))))
def test_the_backup_is_one_linear_program_over_all_factors(problem):
    problem = problem.negated() if problem.criterion.minimize else problem
    if problem.optimistic:
        problem = dataclasses.replace(problem, optimistic=False)
    value = np.random.default_rng(problem.n_pairs).normal(size=problem.n_states)
    out, policy = np.empty_like(value), problem.operator.blank_policy()
    problem.operator.apply(value, out, policy)
    worth = []
    for phi, reward in zip(problem.features, problem.reward, strict=True):
        mu = cp.Variable(problem.factors.shape, nonneg=True)
        balls = [cp.norm1(mu[i] - problem.factors[i]) <= 0.6 for i in range(problem.n_factors)]
        program = cp.Problem(cp.Minimize(phi @ mu @ value), [cp.sum(mu, axis=1) == 1, *balls])
        program.solve(solver="HIGHS")
        worth.append(reward + problem.problem.discount * program.value)
    for s in np.flatnonzero(~problem.terminal):
        assert out[s] == pytest.approx(max(worth[problem.state_ptr[s] : problem.state_ptr[s + 1]]), abs=1e-7)


@settings(deadline=None, max_examples=40)
@given(problem=linear(ball=st.sampled_from([TotalVariation(r, support=s) for r in (0.1, 0.4) for s in ("all",)])))
def test_factors_can_do_no_more_than_rows_within_the_same_total_variation(problem):
    problem = dataclasses.replace(problem, criterion=Discounted(0.9), optimistic=False)
    rows = solve(RobustMDP(problem.problem, problem.ambiguity), eps=width(problem))
    assert (solve(problem, eps=width(problem)).certificate.upper >= rows.certificate.lower - 1e-9).all()


def test_factors_can_do_strictly_less_than_rows():
    """A row half good and half bad: of two certain factors, total variation moves only the good."""
    model = LinearRobustMDP([0, 1, 1, 1], [[0.5, 0.5]], np.eye(3)[1:], [0.0], Discounted(0.5),
                            TotalVariation(0.5, support="all"), terminal_value=np.array([0.0, 1.0, 0.0]))  # fmt: skip
    assert solve(model, eps=1e-9).value[0] == pytest.approx(0.125)
    rows = RobustMDP(model.problem, TotalVariation(0.5, support="all"))
    assert solve(rows, eps=1e-9).value[0] == pytest.approx(0.0, abs=1e-9)


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**32 - 1), radius=st.sampled_from([0.1, 0.3, 0.9]), horizon=st.integers(1, 6))
def test_values_shrink_together(seed, radius, horizon):
    """Rewards in [0, 1]: max V_h - min V_h <= (1 - (1 - rho)^(H - h)) / rho with h decisions made (Liu and Xu 2024)."""
    rng = np.random.default_rng(seed)
    n, d = 4, 3
    problem = LinearRobustMDP(
        np.arange(n + 1) * 2, rng.dirichlet(np.ones(d), 2 * n), rng.dirichlet(np.full(n, 0.2), d), rng.random(2 * n) ** 0.1,
        FiniteHorizon(horizon), TotalVariation(radius, support="all"),
    )  # fmt: skip
    certificate = solve(problem, eps=1e-9).certificate
    for stage in range(horizon):
        bound = (1 - (1 - radius) ** (horizon - stage)) / radius
        assert certificate.lower[stage].max() - certificate.upper[stage].min() <= bound + 1e-12


def test_shrinkage_is_attained_by_two_loops():
    problem = LinearRobustMDP(np.arange(3), np.eye(2), np.eye(2), [1.0, 0.0], FiniteHorizon(5),
                              TotalVariation(0.25, support="all"))  # fmt: skip
    value = solve(problem, eps=1e-9).value
    for stage in range(5):
        assert np.ptp(value[stage]) == pytest.approx((1 - 0.75 ** (5 - stage)) / 0.25)


@settings(deadline=None, max_examples=20)
@given(problem=linear(), data=st.data())
def test_the_worst_factors_and_the_policy_are_a_saddle(problem, data):
    """The nominal problem with nature's factors has the same value, and so has the robust problem with the policy alone."""
    problem = problem.negated() if problem.criterion.minimize else problem
    answer = solve(problem, eps=width(problem))
    worst = problem.operator.worst_factors(answer.value)
    frozen = dataclasses.replace(problem, factors=worst / worst.sum(axis=1, keepdims=True), ambiguity=L1(0.0))
    alone = problem.restricted(answer.policy)
    atol = 4 * width(problem) / (1 - problem.problem.discount)
    np.testing.assert_allclose(solve(alone, eps=width(problem)).value, answer.value, atol=atol)
    np.testing.assert_allclose(solve(frozen, eps=width(problem)).value, answer.value, atol=atol)


def test_every_factor_has_a_set_of_its_own():
    rng = np.random.default_rng(0)
    n, d = 3, 5
    factors = rng.dirichlet(np.ones(n), d)
    families = [
        [TotalVariation(0.1 * i, support="all") for i in range(d)],
        [Interval(0.5 * row, np.minimum(2 * row, 1)) for row in factors],
        [Scenarios(rng.dirichlet(np.ones(n), 2)) for _ in range(d)],
        [WeightedL1(0.2, np.array([1.0, 2.0, 0.5])) for _ in range(d)],
        [Polytope(-np.eye(n), -0.3 * row) for row in factors],
    ]
    for sets in families:
        problem = LinearRobustMDP(
            np.arange(n + 1), rng.dirichlet(np.ones(d), n), factors, rng.normal(size=n), Discounted(0.9), sets
        )
        answer = solve(problem, eps=1e-7)
        assert check(problem, answer.certificate)
        low, _ = factors_at(problem, answer.value)
        exact = problem.reward + problem.features @ [float(int(a.p) / int(a.q)) for a in low]
        np.testing.assert_allclose(answer.value, exact, atol=1e-6)


@settings(deadline=None, max_examples=25)
@given(problem=linear(), large=st.sampled_from([1.0, 1e9]))
def test_the_enclosure_contains_the_exact_rows(problem, large):
    problem = problem.negated() if problem.criterion.minimize else problem
    problem = dataclasses.replace(problem, reward=large * (problem.reward + 1 / 3))
    value = np.random.default_rng(1).normal(size=problem.n_states)
    lower, upper, policy = np.empty_like(value), np.empty_like(value), problem.operator.blank_policy()
    problem.operator.enclose(value, policy, lower, upper)
    low, high = (
        [Fraction(r) + sum(Fraction(p) * Fraction(int(x.p), int(x.q)) for p, x in zip(phi, side, strict=True))
         for r, phi in zip(problem.reward.tolist(), problem.features.tolist(), strict=True)]
        for side in factors_at(problem, value)
    )  # fmt: skip
    for s in np.flatnonzero(~problem.terminal):
        first = int(problem.state_ptr[s])
        assert Fraction(lower[s]) <= low[first + policy[s]]
        assert max(high[first : problem.state_ptr[s + 1]]) <= Fraction(upper[s])
        assert upper[s] - lower[s] <= 1e-9 * large


def test_what_is_spoilt_is_refused_with_its_place():
    rng = np.random.default_rng(2)
    problem = LinearRobustMDP([0, 2, 4, 4], rng.dirichlet(np.ones(2), 4), rng.dirichlet(np.ones(3), 2), rng.normal(size=4),
                              Discounted(0.9), KL(0.1), terminal_value=np.array([0.0, 0.0, 1.0]))  # fmt: skip
    good = solve(problem, eps=1e-7).certificate
    other = good.policy.copy()
    other[0] = 1 - other[0]
    for match, spoilt in {
        "state 1, action .: lower <= T_policy": {"lower": good.upper + np.array([0, 1e-3, 0])},
        "state 0, action .: T upper <= upper": {"upper": good.lower - np.array([1e-3, 0, 0])},
        "state 0, action .: lower <= T_policy lower": {"policy": other},
        "terminal state 2": {"lower": good.lower + np.array([0, 0, 1e-9])},
        "upper has shape": {"upper": good.upper[:2].copy()},
        "finite float64": {"upper": np.full(3, np.inf)},
        "action 7 is not one of its 2": {"policy": np.array([7, 0, -1], dtype=np.int32)},
        "the policy has shape": {"policy": good.policy.astype(float)},
        "no further vectors": {"witness": {"bias": np.zeros(3)}},
        "speaks of model": {"model": "0" * 64},
    }.items():
        with pytest.raises(CertificateRejected, match=match):
            check(problem, dataclasses.replace(good, **spoilt))
    nominal = dataclasses.replace(solve(problem.problem, eps=1e-7).certificate, model=problem)
    with pytest.raises(CertificateRejected, match="does not hold"):
        check(problem, nominal)


def test_rows_that_do_not_contract_are_refused():
    heavy = np.array([[1 + 2.0**-51]])
    problem = LinearRobustMDP([0, 1], [[1.0]], heavy, [0.0], Discounted(1 - 2.0**-53), L1(0.1))
    zero = np.zeros(1)
    from banach.solvers import Certificate

    with pytest.raises(CertificateRejected, match="not below one"):
        check(problem, Certificate(zero, zero, np.zeros(1, dtype=np.int32), problem))


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"features": [[0.5, 0.4], [0.0, 1.0]]}, "state 0, action 0: the features .* no distribution"),
        ({"factors": [[0.5, 0.5], [0.9, 0.2]]}, "factor 1 is no distribution"),
        ({"features": [[1.0], [1.0]]}, r"give \(m, d\) and \(d, n\)"),
        ({"state_ptr": [0, 1, 3]}, "3 pairs"),
        ({"criterion": AverageReward()}, "discounted or of finite horizon"),
        ({"ambiguity": [L1(0.1)]}, "1 ambiguity sets for 2 factors"),
        ({"ambiguity": [L1(0.1), KL(0.1)]}, "more than one family"),
        ({"ambiguity": [Interval(np.zeros(2), np.ones(2)), Interval(np.zeros(2), np.full(2, 0.1))]}, "factor 1.*no row fits"),
        ({"reward": [0.0, np.nan]}, "state 1, action 0"),
    ],
)
def test_what_is_no_linear_problem_is_refused(change, fault):
    given = {"state_ptr": [0, 1, 2], "features": np.eye(2), "factors": np.eye(2), "reward": [0.0, 1.0],
             "criterion": Discounted(0.9), "ambiguity": L1(0.1)}  # fmt: skip
    with pytest.raises(ModelError, match=fault):
        LinearRobustMDP(**(given | change))


def test_a_change_of_a_number_is_another_problem():
    model = instances.forest()
    prints = {of_table(model, L1(r), optimistic=o).fingerprint for r in (0.1, 0.2) for o in (False, True)}
    prints.add(dataclasses.replace(of_table(model, L1(0.1)), reward=model.reward + 1).fingerprint)
    assert len(prints) == 5
