"""Brackets over state and stock hold the exact optimum of all policies with memory, and prove themselves or are rejected."""

import dataclasses
from fractions import Fraction

import numpy as np
import pytest
from banach.mdp import Discounted, FiniteHorizon, ModelError, instances, strategies
from banach.mdp.instances.rows import from_lists
from banach.mdp.law_functional import MEAN, REACH, SHORTFALL, TARGET, CVaR, TwoSlopes
from banach.mdp.outcome import OutcomeMDP
from banach.solvers import (
    CertificateRejected,
    SolveError,
    check_stock,
    cvar_bracket,
    distributional_value_iteration,
    optimal_cvar,
    return_laws,
    solve,
    stock_bracket,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from .test_stock import LEVELS, REWARDS, small

FAST = settings(deadline=None, max_examples=20)
UTILITIES = st.sampled_from([SHORTFALL, TARGET, MEAN, TwoSlopes(1, 0), TwoSlopes(0.5, 2)])


@FAST
@given(small(discounts=(1.0, 0.5, 0.75)), UTILITIES, st.sampled_from([-1.0, 0.0, 0.3]), st.sampled_from([64, 300]))
def test_the_listed_optimum_lies_between(model, utility, stock, points):
    found = stock_bracket(model, utility, points)
    assert check_stock(model, found.certificate)
    for state in range(model.n_states):
        best = distributional_value_iteration(model, utility, stock, state=state).value
        low, high = found.interval(state, stock)
        assert low <= best <= high
        if model.discount == 1 and stock != 0.3:
            assert high - low < 1e-9


@FAST
@given(small(discounts=(1.0, 0.5)), st.sampled_from(LEVELS))
def test_the_exact_cvar_lies_between(model, level):
    found = cvar_bracket(model, float(level), points=300)
    exact = optimal_cvar(model, float(level)).value
    assert found.lower <= exact <= found.upper
    if model.discount == 1:
        assert found.upper - found.lower < 1e-9


@FAST
@given(
    strategies.discounted_mdps(
        max_states=2, max_actions=2, max_successors=2, discounts=st.just(0.5), rewards=REWARDS, max_terminal=1, tiny=0.5
    ),
    UTILITIES,
)
def test_a_discounted_optimum_lies_between(problem, utility):
    found = stock_bracket(problem, utility, 200)
    verdict = check_stock(problem, found.certificate)
    spacing = found.certificate.lattice.spacing
    assert verdict.width <= 1.01 * utility.lipschitz * spacing / (1 - 0.5) + 1e-12
    plan = distributional_value_iteration(problem, utility, 1, decisions=5)
    low, high = found.interval(0, 1.0)
    assert low <= plan.value + plan.lost
    assert high >= plan.value - plan.lost


def machine():
    return OutcomeMDP(*instances.with_outcomes("machine_ten"))


def test_at_level_one_the_cvar_is_the_value_and_below_it_lies_above_every_stationary_policys():
    model = machine()
    value = solve(model.expected, eps=1e-6)
    found = cvar_bracket(model, 1.0, points=1500)
    assert found.lower <= value.value[0] + 1e-6
    assert value.value[0] - 1e-6 <= found.upper
    assert found.upper - found.lower < 0.3
    tail = cvar_bracket(model, 0.25, points=1500)
    assert check_stock(model, tail.stock.certificate)
    neutral = return_laws(model, value.policy, atoms=1500).interval(CVaR(0.25), 0)
    assert tail.upper >= neutral[0]
    assert tail.upper - tail.lower < 1.5


def reached(found, state, stock, stage=0):
    """Exact E f(c + G) of the bracket's policy, by listing what happens."""
    model, utility, g = found.model, found.certificate.utility, Fraction(found.model.discount)
    if model.problem.terminal[state] or stage == model.horizon:
        return utility.function(stock + Fraction(float(model.problem.terminal_value[state])))
    rows = model.outcomes(state, found.action(state, float(stock), stage))
    return sum(p * g * reached(found, j, (stock + r) / g, stage + 1) for p, r, j in rows)


@FAST
@given(small(discounts=(1.0, 0.5)), UTILITIES, st.sampled_from([Fraction(-1), Fraction(1, 4), Fraction(5, 16)]))
def test_the_policy_reaches_what_the_lower_end_says(model, utility, stock):
    found = stock_bracket(model, utility, 100)
    for state in range(model.n_states):
        low, high = found.interval(state, float(stock))
        assert low <= reached(found, state, stock) <= high


def test_sampled_returns_follow_the_policy():
    problem = from_lists([[(1.0, {1: 1.0}), (3.0, {2: 1.0})], [(2.0, {2: 1.0})], -4.0], Discounted(0.5))
    found = stock_bracket(problem, TARGET, 64)
    sampled = found.returns(0, -1.0, 3, np.random.default_rng(1))
    assert sampled.tolist() == [1.0, 1.0, 1.0]  # 1 + 2/2 - 4/4, and 3 - 4/2: both on target
    assert found.returns(2, 0.0, 2, np.random.default_rng(1)).tolist() == [-4.0, -4.0]


@pytest.mark.parametrize("horizon", [None, 5])
def test_a_function_moved_a_little_towards_the_other_is_rejected(horizon):
    problem, gain = instances.with_outcomes("machine_ten")
    model = OutcomeMDP(problem if horizon is None else problem.replace(criterion=FiniteHorizon(horizon, 0.9)), gain)
    proof = stock_bracket(model, SHORTFALL, 300).certificate
    assert check_stock(model, proof)
    left, right = proof.tails[0]
    for side, sign in (("lower", 1), ("upper", -1)):
        for column, where in ((0, "left tail"), ((left + right) // 2 + 1, "stock"), (proof.lattice.points + 1, "right tail")):
            moved = getattr(proof, side).copy()
            moved[0, 6, column] += sign * 0.05
            with pytest.raises(CertificateRejected, match=f"state 6 at stage 0, .*{where}"):
                check_stock(model, dataclasses.replace(proof, **{side: moved}))


def test_what_proves_nothing_is_rejected():
    model = machine()
    proof = stock_bracket(model, SHORTFALL, 200).certificate
    for change, match in (
        ({"fingerprint": "0" * 64}, "speaks of model"),
        ({"lower": proof.lower[:, :, 1:]}, "shape"),
        ({"policy": proof.policy + 5}, "does not have"),
        ({"policy": proof.policy[:, :1]}, "it must be"),
        ({"tails": proof.tails[:, ::-1].copy()}, "in order"),
        ({"tails": proof.tails + np.array([[20, 0]])}, "lead into tails"),
        ({"lattice": dataclasses.replace(proof.lattice, spacing=-1.0)}, "spacing"),
        ({"utility": TwoSlopes(0.5, 1)}, "does not hold"),
    ):
        with pytest.raises(CertificateRejected, match=match):
            check_stock(model, dataclasses.replace(proof, **change))
    worth = from_lists([[(0.0, {1: 1.0})], 3.0], Discounted(0.5))
    good = stock_bracket(worth, TARGET, 64).certificate
    assert check_stock(worth, good)
    late = dataclasses.replace(good, tails=np.array([[good.tails[0, 0] + 8, good.tails[0, 1]]]))
    with pytest.raises(CertificateRejected, match="tails"):
        check_stock(worth, late)


@pytest.mark.parametrize(
    ("ask", "error", "match"),
    [
        (lambda: stock_bracket(machine(), REACH), SolveError, "two slopes"),
        (lambda: stock_bracket(machine(), SHORTFALL, 3), SolveError, "at least 8 points"),
        (lambda: cvar_bracket(machine(), 0.0), ModelError, r"\(0, 1\]"),
        (lambda: cvar_bracket(machine(), 0.5, state=99, points=50), SolveError, "no state 99"),
        (lambda: stock_bracket(machine(), SHORTFALL, 50).interval(-1, 0.0), SolveError, "no state -1"),
    ],
)
def test_what_makes_no_sense_is_refused(ask, error, match):
    with pytest.raises(error, match=match):
        ask()


@pytest.mark.parametrize("level", [0.1, 0.5, 0.9])
def test_the_best_stock_may_lie_between_lattice_points(level):
    problem = from_lists([[(1 / 3, {1: 1.0})], 0.0, [(1.0, {2: 1.0})]], Discounted(0.5))
    found = cvar_bracket(problem, level, points=64)
    assert 1 / 3 not in found.stock.certificate.lattice.grid
    assert found.lower < 1 / 3 < found.upper + 1e-12
    assert found.upper - found.lower < 0.1


def test_a_terminal_state_is_worth_its_value_whatever_the_level():
    problem = from_lists([[(0.0, {1: 1.0})], 3.0], Discounted(0.5))
    found = cvar_bracket(problem, 0.3, state=1, points=64)
    assert (found.lower, found.upper) == (3.0, 3.0)
    assert found.stock.action(1, 0.0) == -1
    assert found.stock.interval(1, -5.0) == (-2.0, -2.0)
    assert found.stock.interval(0, float(Fraction(-3, 2))) == pytest.approx((0.0, 0.0), abs=1e-12)
