"""Stock-augmented dynamic programming against every policy that may remember everything, listed; and what must be refused."""

import dataclasses
import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pytest
from banach.mdp import MDP, Discounted, FiniteHorizon, ModelError, strategies
from banach.mdp.instances.rows import from_lists
from banach.mdp.law import Law, mixture
from banach.mdp.law_functional import (
    MEAN,
    REACH,
    SHORTFALL,
    TARGET,
    CVaR,
    ExpectedUtility,
    Lexicographic,
    MeanVariance,
    TwoSlopes,
    exponential,
    homeostasis,
)
from banach.mdp.outcome import OutcomeMDP
from banach.solvers import (
    SolveError,
    distributional_policy_iteration,
    distributional_value_iteration,
    dual_cvar_upper_bound,
    optimal_cvar,
    optimal_mean_variance,
    optimal_utility,
    solve,
    stock_tree,
)
from banach.solvers.stock_tree import StockTree
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from .return_witness import all_laws, markov_policies, outcomes, returns, tail_mean

FAST = settings(deadline=None, max_examples=20)
HALF = Fraction(1, 2)
REWARDS = st.integers(-2, 2).map(float)
SQUARE = ExpectedUtility(lambda x: -x * x, degree=2, name="-x^2")
HOMOGENEOUS = (MEAN, SHORTFALL, TwoSlopes(1, 0), TARGET, REACH, SQUARE, Lexicographic((REACH, SHORTFALL, MEAN)))
LEVELS = (Fraction(1, 10), Fraction(1, 4), HALF, Fraction(9, 10), Fraction(1))


@st.composite
def small(draw, discounts=(1.0, 0.5), most=3, horizon=2):
    """Few states, actions, outcomes and decisions, so that all policies can be listed; rewards by outcome."""
    models = strategies.finite_horizon_mdps(
        max_states=most,
        max_actions=2,
        max_successors=2,
        max_horizon=horizon,
        discounts=st.sampled_from(discounts),
        rewards=REWARDS,
        max_terminal=1,
        tiny=0.5,
    )
    problem = draw(models)
    return OutcomeMDP(problem, [draw(REWARDS) for _ in range(problem.n_transitions)])


def every_law(model, state=0):
    spreads = all_laws(model.problem, model.transition_reward, state, model.horizon)
    return [Law.of(list(spread), list(spread.values()), exact=True) for spread in spreads]


@FAST
@given(small(), st.sampled_from(HOMOGENEOUS), st.sampled_from([Fraction(-1), Fraction(0), HALF]))
def test_value_and_policy_iteration_reach_the_best_of_all_policies(model, functional, stock):
    best = max(functional(law.affine(stock, 1)) for law in every_law(model))
    plan = distributional_value_iteration(model, functional, stock)
    assert plan.value == best == functional(plan.law.affine(stock, 1))
    assert plan.spread == plan.tree.law(plan.policy)
    assert distributional_policy_iteration(model, functional, stock).value == best
    if not isinstance(functional, Lexicographic):  # classic dynamic programming with time in the state
        assert optimal_utility(model, lambda x: functional.function(stock + x)).value == best


@FAST
@given(small(discounts=(1.0,)), st.sampled_from([-1, 0]))
def test_without_discount_any_utility_may_be_used(model, stock):
    capped = ExpectedUtility(lambda x: min(x, 1), monotone=True)
    for functional in (capped, exponential(1.0)):
        best = max(functional(law.affine(stock, 1)) for law in every_law(model))
        assert distributional_value_iteration(model, functional, stock).value == pytest.approx(best, abs=1e-12)


@FAST
@given(small())
def test_exponential_utility_keeps_the_time_and_needs_no_degree(model):
    utility = exponential(0.5)
    best = max(float(utility(law)) for law in every_law(model))
    assert float(optimal_utility(model, utility.function).value) == pytest.approx(best, abs=1e-12)


def shortfall_program(model, state, b):
    """Greatest E min(G - b, 0) as a linear program over occupancies of (stage, state, earned)."""
    names, ends = {}, {}
    waiting = [(0, state, Fraction(0))]
    g = Fraction(model.discount)
    columns = []
    while waiting:
        node = waiting.pop()
        if node in names:
            continue
        names[node] = len(names)
        stage, s, earned = node
        if model.problem.terminal[s] or stage == model.horizon:
            worth = Fraction(float(model.problem.terminal_value[s]))
            ends[node] = min(earned + g**stage * worth - b, 0)
            continue
        for action in range(len(model.actions(s))):
            following = [
                (p, (stage + 1, j, earned + g**stage * r))
                for p, r, j in outcomes(model.problem, model.transition_reward, s, action)
            ]
            columns.append((node, following))
            waiting += [after for _, after in following]
    flow = np.zeros((len(names), len(columns) + len(ends)))
    gain = np.zeros(len(columns) + len(ends))
    for c, (node, following) in enumerate(columns):
        flow[names[node], c] += 1
        for p, after in following:
            flow[names[after], c] -= float(p)
    for c, (node, worth) in enumerate(ends.items(), len(columns)):
        flow[names[node], c] += 1
        gain[c] = float(worth)
    start = np.zeros(len(names))
    start[names[0, state, Fraction(0)]] = 1
    return -linprog(-gain, A_eq=flow, b_eq=start, method="highs").fun


@settings(deadline=None, max_examples=15)
@given(small(horizon=2), st.sampled_from(LEVELS))
def test_three_ways_to_the_optimal_cvar_agree_and_the_dual_lies_above(model, level):
    found = optimal_cvar(model, level)
    listed = every_law(model)
    assert found.value == max(CVaR(level)(law) for law in listed)
    assert CVaR(level)(found.plan.law) == found.value
    assert found.plan.law.quantile(level) <= found.at or found.at in found.plan.law.atoms
    tree = StockTree.of(model, 0)
    programs = [float(b) + shortfall_program(model, 0, b) / float(level) for b in tree.returns()]
    assert max(programs) == pytest.approx(float(found.value), abs=1e-9)
    assert found.value == max(
        tail_mean(spread, level) for spread in all_laws(model.problem, model.transition_reward, 0, model.horizon)
    )
    assert dual_cvar_upper_bound(model, level) >= found.value


@FAST
@given(small(), st.sampled_from(LEVELS))
def test_the_dual_value_iteration_is_exact_without_choice(model, level):
    problem = model.problem
    first = np.where(problem.terminal, -1, 0)
    kept = np.isin(np.arange(problem.n_pairs), problem.state_ptr[:-1][~problem.terminal])
    entries = np.repeat(kept, np.diff(problem.row_ptr))
    only = MDP(
        np.concatenate(([0], np.cumsum(~problem.terminal))),
        np.concatenate(([0], np.cumsum(np.diff(problem.row_ptr)[kept]))),
        problem.successor[entries],
        problem.probability[entries],
        problem.reward[kept],
        problem.criterion,
        problem.terminal,
        problem.terminal_value,
    )
    spread = returns(problem, model.transition_reward, [first] * model.horizon, 0, model.horizon)
    single = OutcomeMDP(only, model.transition_reward[entries])
    assert dual_cvar_upper_bound(single, level) == tail_mean(spread, level) == optimal_cvar(single, level).value


@settings(deadline=None, max_examples=15)
@given(small(), st.sampled_from([Fraction(0), HALF, Fraction(2)]))
def test_mean_variance_is_the_best_of_all_policies(model, weight):
    found = optimal_mean_variance(model, weight)
    assert found.value == max(MeanVariance(weight)(law) for law in every_law(model))
    assert MeanVariance(weight)(found.plan.law) == found.value
    assert found.at == found.plan.law.mean


@FAST
@given(small(discounts=(1.0, 0.5, 0.9)), st.sampled_from([-1, 0, 3]))
def test_risk_neutral_plans_do_not_look_at_the_stock(model, stock):
    plan = distributional_value_iteration(model, MEAN, stock)
    assert plan.law.mean == distributional_value_iteration(model, MEAN, 0).law.mean
    problem = model.expected
    bracket = solve(problem, eps=1e-6).certificate
    assert bracket.lower[0, 0] - 1e-9 <= plan.law.mean <= bracket.upper[0, 0] + 1e-9


@FAST
@given(small(), st.sampled_from([TARGET, SHORTFALL]), st.sampled_from([2, 3]))
def test_a_scaled_problem_has_the_same_policy(model, functional, scale):
    plan = distributional_value_iteration(model, functional, 1)
    larger = OutcomeMDP(
        model.problem.replace(reward=scale * model.problem.reward, terminal_value=scale * model.problem.terminal_value),
        scale * model.transition_reward,
    )
    other = distributional_value_iteration(larger, functional, scale)
    assert other.value == scale * plan.value
    assert [a for _, a in sorted(plan.policy.items())] == [a for _, a in sorted(other.policy.items())]


@settings(deadline=None, max_examples=15)
@given(
    strategies.discounted_mdps(
        max_states=2, max_actions=2, max_successors=2, discounts=st.just(0.5), rewards=REWARDS, max_terminal=0, tiny=0.5
    ),
    st.sampled_from([TARGET, SHORTFALL]),
)
def test_truncation_loses_no_more_than_promised(problem, functional):
    few, many = (distributional_value_iteration(problem, functional, 1, decisions=n) for n in (2, 5))
    assert abs(few.value - many.value) <= few.lost / 2 + many.lost / 2
    assert few.lost == 8 * many.lost == 2 * 0.25 * max(abs(end) for end in OutcomeMDP(problem).returns_within())


def chain(states, horizon, discount=1.0):
    """states: for each its actions, lists of (probability, reward, successor)."""
    pairs = [rows for acts in states for rows in acts]
    problem = MDP(
        np.cumsum([0, *(len(acts) for acts in states)]),
        np.cumsum([0, *(len(rows) for rows in pairs)]),
        np.array([j for rows in pairs for _, _, j in rows], dtype=np.int32),
        np.array([p for rows in pairs for p, _, _ in rows]),
        np.zeros(len(pairs)),
        FiniteHorizon(horizon, discount),
        np.array([not acts for acts in states]),
    )
    return OutcomeMDP(problem, [r for rows in pairs for _, r, _ in rows])


def choice_after_a_wait():
    """One step without reward, then 1 for certain or 2 on a fair coin; discount 1/2."""
    return chain([[[(1.0, 0.0, 1)]], [[(1.0, 1.0, 2)], [(0.5, 2.0, 2), (0.5, 0.0, 2)]], []], 2, 0.5)


def test_constants_belong_into_the_stock_and_not_into_the_function():
    model = choice_after_a_wait()
    at_least_one = ExpectedUtility(lambda x: int(x >= 1), monotone=True, name="1{x >= 1}")
    with pytest.raises(SolveError, match="put constants into the stock"):
        distributional_value_iteration(model, at_least_one)
    claims_a_degree = dataclasses.replace(at_least_one, degree=0)
    assert distributional_value_iteration(model, claims_a_degree).value == 0
    assert distributional_value_iteration(model, REACH, -1).value == HALF
    assert optimal_utility(model, at_least_one.function).value == HALF


def test_the_stock_matters():
    model = chain([[[(0.5, 0.0, 1), (0.5, 1.0, 1)]], [[(1.0, 0.0, 2)], [(1.0, 1.0, 2)]], []], 2)
    assert distributional_value_iteration(model, TARGET, -1).value == 0
    blind = [
        sum(p * TARGET.function(x - 1) for x, p in returns(model.problem, model.transition_reward, policy, 0, 2).items())
        for policy in markov_policies(model.problem, 2)
    ]
    assert max(blind) == -HALF


def test_history_matters_for_cvar():
    model = chain(
        [[[(0.5, 0.0, 1), (0.5, 4.0, 1)]], [[(1.0, 0.0, 2)], [(0.5, -2.0, 2), (0.5, 4.0, 2)]], []],
        2,
    )
    blind = [
        tail_mean(returns(model.problem, model.transition_reward, policy, 0, 2), HALF)
        for policy in markov_policies(model.problem, 2)
    ]
    assert max(blind) == 0
    assert optimal_cvar(model, HALF).value == 1


def test_the_dual_value_iteration_returns_four_thirds_where_no_policy_has_more_than_one():
    model = chain(
        [
            [[(0.5, 0.0, 1), (0.5, 0.0, 2)]],
            [[(0.5, 0.0, 3), (0.5, 4.0, 3)], [(1.0, 1.0, 3)]],
            [[(1.0, 2.0, 3)]],
            [],
        ],
        2,
    )
    assert optimal_cvar(model, HALF).value == 1
    assert dual_cvar_upper_bound(model, HALF) == Fraction(4, 3)
    one, two = every_law(model)
    for share in (Fraction(k, 8) for k in range(9)):  # randomised policies do no better
        assert CVaR(HALF)(mixture([share, 1 - share], [one, two])) <= 1


@dataclass(frozen=True)
class Claiming:
    """A functional that wrongly says it is indifferent to mixtures."""

    functional: object
    mixtures: bool = True
    degree: int = 1
    lipschitz: float = math.inf
    monotone: bool = True

    def __call__(self, law):
        return self.functional(law)


VARIANCE = MeanVariance(1)


@pytest.mark.parametrize(
    ("functional", "model", "greedy", "best"),
    [
        (
            CVaR(HALF),
            chain([[[(0.5, 0.0, 1), (0.5, 4.0, 1)]], [[(1.0, 0.0, 2)], [(0.5, -2.0, 2), (0.5, 4.0, 2)]], []], 2),
            0,
            1,
        ),
        (
            VARIANCE,
            chain(
                [
                    [[(0.5, 0.0, 1), (0.5, 0.0, 2)]],
                    [[(1.0, 4.0, 3)]],
                    [[(0.625, 3.0, 3), (0.375, 5.0, 3)], [(1.0, 3.0, 3)]],
                    [],
                ],
                2,
            ),
            Fraction(13, 4),
            Fraction(217, 64),
        ),
    ],
    ids=["cvar", "mean-variance"],
)
def test_functionals_that_mix_badly_are_refused_and_would_be_wrong(functional, model, greedy, best):
    with pytest.raises(SolveError, match="not indifferent to mixtures"):
        distributional_value_iteration(model, functional)
    assert distributional_value_iteration(model, Claiming(functional)).value == greedy
    assert max(functional(law) for law in every_law(model)) == best > greedy


def test_homeostasis_keeps_two_needs_at_their_set_point():
    """Eat or drink; each step costs one of both, and a coin decides which of two drinks is served."""
    problem = from_lists([[(0.0, {0: 1.0}), (0.0, {0: 1.0})]], FiniteHorizon(4))
    rewards = np.array([[1.0, -1.0], [-1.0, 1.0]])
    plan = distributional_value_iteration(problem, homeostasis(), (Fraction(1), Fraction(-1)), rewards=rewards)
    start = distributional_value_iteration(problem, homeostasis(), (Fraction(0), Fraction(0)), rewards=rewards)
    assert start.value == 0
    assert plan.value == -2  # the parity of four steps keeps the deviation
    assert distributional_policy_iteration(problem, homeostasis(2), (0, 0), rewards=rewards).value == 0
    assert all(sum(x) == 0 for x in plan.spread)


@pytest.mark.parametrize(
    ("ask", "error", "match"),
    [
        (lambda m: distributional_value_iteration(m, MEAN, (0, 0)), SolveError, "a number"),
        (lambda m: distributional_value_iteration(m, MEAN, math.nan), SolveError, "finite"),
        (lambda m: distributional_value_iteration(m, MEAN, state=7), SolveError, "no state 7"),
        (lambda m: distributional_value_iteration(m, homeostasis(), 0, rewards=np.zeros((9, 2))), SolveError, "finite vectors"),
        (lambda m: distributional_value_iteration(m, homeostasis(), 0, rewards=np.zeros((4, 2))), SolveError, "a tuple"),
        (
            lambda m: distributional_value_iteration(m, MEAN_OF_LAW, (0, 0), rewards=np.zeros((4, 2))),
            SolveError,
            "only utilities",
        ),
        (lambda m: optimal_cvar(m, 0), ModelError, r"\(0, 1\]"),
        (lambda m: optimal_mean_variance(m, -1), ModelError, ">= 0"),
        (lambda m: dual_cvar_upper_bound(m, HALF, state=9), SolveError, "no state 9"),
        (lambda m: optimal_cvar(m.problem.replace(criterion=Discounted(0.5)), HALF), SolveError, "decisions="),
        (lambda m: dual_cvar_upper_bound(m.problem.replace(criterion=Discounted(0.5)), HALF), SolveError, "decisions="),
    ],
)
def test_what_makes_no_sense_is_refused(ask, error, match):
    with pytest.raises(error, match=match):
        ask(choice_after_a_wait())


MEAN_OF_LAW = Claiming(lambda law: law.mean)


def test_a_tree_that_is_too_large_is_refused(monkeypatch):
    monkeypatch.setattr(stock_tree, "MOST", 500)
    many = 2 ** np.arange(18.0)
    problem = MDP([0, 1], [0, 18], np.zeros(18, dtype=np.int32), np.full(18, 1 / 18), [0.0], FiniteHorizon(8))
    with pytest.raises(SolveError, match="more than 500 stocks can be reached"):
        optimal_cvar(OutcomeMDP(problem, many), HALF)
