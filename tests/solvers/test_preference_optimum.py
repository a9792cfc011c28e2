"""Each preference loss asks for the policy that a minimiser of its printed formula finds, and says so where there is none."""

from itertools import pairwise

import cvxpy as cp
import numpy as np
import pytest
from banach.mdp import preference_strategies as drawn
from banach.mdp.preference import PreferenceOracle
from banach.solvers.errors import SolveError
from banach.solvers.gibbs import divergence, gibbs
from banach.solvers.preference_losses import (
    CDPO,
    DPO,
    IPO,
    KTO,
    ORPO,
    RLHF,
    SPPO,
    Hinge,
    RobustDPO,
    SimPO,
    SLiC,
)
from banach.solvers.preference_optimum import population_optimum, wins_of
from banach.solvers.preference_result import Existence
from banach.solvers.preference_slic import _problem
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit

from .label_losses import minimised, population_value, softmax

PAIR = np.array([[0.0, 1.0], [1.0, 0.0]])
HALVES = np.array([0.5, 0.5])
CERTAIN = PreferenceOracle([[0.5, 1.0], [0.0, 0.5]])


def two(p):
    return PreferenceOracle([[0.5, p], [1 - p, 0.5]])


@st.composite
def problems(draw, max_responses=4, certain=False):
    oracle = draw(drawn.oracles(max_responses=max_responses, certain=certain))
    n = oracle.n_responses
    return oracle, draw(drawn.pair_weights(n)), draw(drawn.policies(n, smallest=0.05))


SMOOTH = [DPO(0.7), CDPO(0.5, 0.2), RobustDPO(0.8, 0.005), IPO(0.4), SimPO(2.0, 0.5), RLHF(0.7)]


@pytest.mark.parametrize("loss", SMOOTH[:5], ids=lambda loss: type(loss).__name__)
@settings(deadline=None, max_examples=12)
@given(problem=problems(), lengths=st.lists(st.integers(1, 6), min_size=4, max_size=4))
def test_a_general_minimiser_of_the_printed_loss_finds_the_same_policy(loss, problem, lengths):
    oracle, weights, reference = problem
    tokens = np.array(lengths[: oracle.n_responses], dtype=float) if isinstance(loss, SimPO) else None
    found = population_optimum(oracle, weights, reference, loss, tokens)
    assert found.status is Existence.UNIQUE
    assert found.residual < 1e-9
    assert found.value == pytest.approx(population_value(loss, oracle, weights, reference, found.policy, tokens), abs=1e-10)
    policy, value = minimised(loss, oracle, weights, reference, tokens)
    assert found.value <= value + 1e-12
    assert found.policy == pytest.approx(policy, abs=2e-4)


@settings(deadline=None, max_examples=40)
@given(problems())
def test_dpo_is_rlhf_with_the_maximum_likelihood_reward_whatever_the_oracle(problem):
    oracle, weights, reference = problem
    direct = population_optimum(oracle, weights, reference, DPO(0.3)).policy
    indirect = population_optimum(oracle, weights, reference, RLHF(0.3)).policy
    assert direct == pytest.approx(indirect, abs=1e-9)
    reward = 0.3 * (np.log(direct) - np.log(reference))
    shown = (weights + weights.T) / weights.sum()
    moments = (shown * (oracle.matrix - expit(reward[:, None] - reward[None, :]))).sum(axis=1)
    assert np.abs(moments).max() < 1e-8


@settings(deadline=None, max_examples=40)
@given(drawn.bradley_terry_oracles(max_responses=5), st.data())
def test_under_bradley_terry_dpo_is_the_gibbs_policy_of_the_reward_however_pairs_are_drawn(oracle, data):
    n = oracle.n_responses
    weights, reference = data.draw(drawn.pair_weights(n)), data.draw(drawn.policies(n))
    found = population_optimum(oracle, weights, reference, DPO(0.5)).policy
    assert found == pytest.approx(gibbs(reference, oracle.reward / 0.5), abs=1e-9)


def test_under_bradley_terry_ipo_depends_on_how_pairs_are_drawn():
    oracle = PreferenceOracle.bradley_terry([0.0, 1.0, 3.0])
    reference = np.full(3, 1 / 3)
    chain, star = np.zeros((3, 3)), np.zeros((3, 3))
    chain[0, 1] = chain[1, 2] = 1.0
    star[0, 1] = star[0, 2] = 1.0
    policies = [population_optimum(oracle, weights, reference, IPO(0.5)).policy for weights in (chain, star)]
    assert np.abs(policies[0] - policies[1]).max() > 0.03


@settings(deadline=None, max_examples=40)
@given(drawn.oracles(max_responses=5, certain=True), st.data())
def test_ipo_on_pairs_of_one_policy_is_the_best_regularised_answer_to_it(oracle, data):
    n = oracle.n_responses
    opponent, reference = data.draw(drawn.policies(n)), data.draw(drawn.policies(n))
    found = population_optimum(oracle, np.outer(opponent, opponent), reference, IPO(0.4)).policy
    assert found == pytest.approx(gibbs(reference, oracle.matrix @ opponent / 0.4), abs=1e-9)


def test_ipo_on_pairs_of_two_policies_is_not():
    oracle, reference = PreferenceOracle.cyclic(3, 0.9), np.array([0.5, 0.3, 0.2])
    first, second = np.array([0.8, 0.1, 0.1]), np.array([0.1, 0.3, 0.6])
    found = population_optimum(oracle, np.outer(first, second), reference, IPO(0.5)).policy
    assert np.abs(found - gibbs(reference, oracle.matrix @ second / 0.5)).max() > 1e-2


@given(st.floats(0.01, 0.99), st.floats(0.0, 0.45), st.floats(-5, 5))
def test_robust_dpo_on_flipped_labels_is_dpo_on_clean_ones(p, flip, margin):
    def loss(m):
        return ((1 - flip) * np.logaddexp(0, -m) - flip * np.logaddexp(0, m)) / (1 - 2 * flip)

    noisy = p * (1 - flip) + (1 - p) * flip
    clean = p * np.logaddexp(0, -margin) + (1 - p) * np.logaddexp(0, margin)
    assert noisy * loss(margin) + (1 - noisy) * loss(-margin) == pytest.approx(clean, abs=1e-12)
    found = population_optimum(two(noisy), PAIR, HALVES, RobustDPO(0.5, flip)).policy
    assert found == pytest.approx(population_optimum(two(p), PAIR, HALVES, DPO(0.5)).policy, abs=1e-9)


@settings(deadline=None, max_examples=60)
@given(drawn.oracles(n=4, certain=True), st.data())
def test_robust_dpo_has_an_optimum_exactly_where_every_set_of_responses_loses_enough(oracle, data):
    """All sets enumerated; the solver goes by linear programmes, or by strong components."""
    weights, flip = data.draw(drawn.pair_weights(4)), 0.2
    shown = (weights + weights.T) / weights.sum()
    clean = shown * (oracle.matrix - flip) / (1 - 2 * flip)
    cuts = []
    for members in range(1, 15):
        inside = np.array([bool(members >> y & 1) for y in range(4)])
        cuts.append(clean[np.ix_(~inside, inside)].sum())
    found = population_optimum(oracle, weights, np.full(4, 0.25), RobustDPO(0.5, flip))
    if min(cuts) > 1e-9:
        assert found.status is Existence.UNIQUE
        assert found.residual < 1e-9
    elif min(cuts) < -1e-9:
        assert found.status is Existence.UNBOUNDED
        assert found.value == -np.inf
        inside = found.direction > 0
        assert clean[np.ix_(~inside, inside)].sum() == pytest.approx(min(cuts), abs=1e-9)


@settings(deadline=None, max_examples=60)
@given(problems(max_responses=5, certain=True), st.floats(0.05, 2.0))
def test_dpo_is_unbounded_exactly_where_wins_are_not_strongly_connected(problem, beta):
    oracle, weights, reference = problem
    n = oracle.n_responses
    wins = (weights + weights.T) * oracle.matrix > 0
    reach = np.linalg.matrix_power(np.eye(n) + wins, n) > 0
    found = population_optimum(oracle, weights, reference, DPO(beta))
    assert (found.status is Existence.UNIQUE) == reach.all()
    if found.status is Existence.UNBOUNDED:
        values = [
            population_value(DPO(beta), oracle, weights, reference, softmax(np.log(reference) + t * found.direction))
            for t in (0.0, 1.0, 2.0, 4.0)
        ]
        assert all(later < earlier for earlier, later in pairwise(values))
        assert values[-1] > found.value - 1e-9
        with pytest.raises(SolveError, match="no chain of wins leads back"):
            _ = found.policy


@pytest.mark.parametrize("beta", [0.01, 0.1, 1.0])
def test_a_certain_preference_unbounds_dpo_for_every_beta_but_not_ipo_nor_smoothed_labels(beta):
    assert population_optimum(CERTAIN, PAIR, HALVES, DPO(beta)).status is Existence.UNBOUNDED
    assert population_optimum(CERTAIN, PAIR, HALVES, RLHF(beta)).status is Existence.UNBOUNDED
    ipo = population_optimum(CERTAIN, PAIR, HALVES, IPO(beta)).policy
    assert np.log(ipo[0] / ipo[1]) == pytest.approx(1 / (2 * beta), rel=1e-6)
    smoothed = population_optimum(CERTAIN, PAIR, HALVES, CDPO(beta + 1, 0.1)).policy
    assert logit(smoothed[0]) == pytest.approx(np.log(9) / (beta + 1))


def test_the_infimum_of_an_unbounded_loss_is_that_of_its_blocks():
    """0 and 1 answer each other 3 to 1, both always beat 2: the infimum is that pair's entropy, for its share of labels."""
    oracle = PreferenceOracle([[0.5, 0.75, 1.0], [0.25, 0.5, 1.0], [0.0, 0.0, 0.5]])
    found = population_optimum(oracle, np.ones((3, 3)), np.full(3, 1 / 3), DPO(0.1))
    assert found.value == pytest.approx(-(0.75 * np.log(0.75) + 0.25 * np.log(0.25)) / 3)
    assert found.direction.tolist() == [1.0, 1.0, 0.0]


@pytest.mark.parametrize("loss", [DPO(0.5), IPO(0.5), CDPO(0.5, 0.1), RLHF(0.5), Hinge(1.0), RobustDPO(0.5, 0.1)], ids=str)
def test_responses_that_were_never_compared_leave_many_optima(loss):
    oracle = PreferenceOracle.bradley_terry([0.0, 1.0, 0.0, -1.0])
    weights = np.zeros((4, 4))
    weights[0, 1] = weights[2, 3] = 1.0
    reference = np.full(4, 0.25)
    found = population_optimum(oracle, weights, reference, loss)
    assert found.status is Existence.NOT_UNIQUE
    assert np.abs(found.policies[0] - found.policies[1]).max() > 1e-2
    if not isinstance(loss, RLHF):
        values = [population_value(loss, oracle, weights, reference, policy) for policy in found.policies]
        assert values == pytest.approx([found.value] * 2, abs=1e-9)
    with pytest.raises(SolveError, match=r"responses|margin"):
        _ = found.policy


@settings(deadline=None, max_examples=25)
@given(problems(max_responses=4, certain=True))
def test_the_hinge_reaches_the_value_of_a_conic_solver(problem):
    oracle, weights, reference = problem
    found = population_optimum(oracle, weights, reference, Hinge(0.5))
    assert found.residual < 1e-9
    wins = (weights + weights.T) * oracle.matrix / weights.sum()
    u = cp.Variable(oracle.n_responses)
    margins = cp.sum([wins[i, j] * cp.pos(1 - (u[i] - u[j])) for i, j in np.argwhere(wins > 0)])
    assert found.value == pytest.approx(cp.Problem(cp.Minimize(margins)).solve(solver=cp.CLARABEL), abs=1e-7)
    for policy in found.policies:
        assert population_value(Hinge(0.5), oracle, weights, reference, policy) == pytest.approx(found.value, abs=1e-9)
    assert (found.status is Existence.NOT_UNIQUE) == (len(found.policies) == 2)


@settings(deadline=None, max_examples=40)
@given(drawn.oracles(n=4, certain=True), st.data())
def test_the_hinge_has_one_optimum_exactly_where_no_set_of_responses_can_move_by_one_at_no_cost(oracle, data):
    """All sets enumerated: integral minimisers of such a loss are joined by moves of whole sets by one."""
    weights, reference = data.draw(drawn.pair_weights(4)), np.full(4, 0.25)
    found = population_optimum(oracle, weights, reference, Hinge(1.0))
    score = np.round(np.log(found.policies[0] / found.policies[0][0]))
    rises = []
    for members in range(1, 15):
        moved = softmax(score + [members >> y & 1 for y in range(4)])
        rises.append(population_value(Hinge(1.0), oracle, weights, reference, moved) - found.value)
    assert min(rises) >= -1e-9
    assert (found.status is Existence.NOT_UNIQUE) == (min(rises) < 1e-10)


def test_robust_dpo_that_falls_to_a_limit_is_not_taken_for_solved():
    """Wins of exactly the flip rate leave no clean win of 1 over 0: the gradient fades along a way to infinity."""
    flip = 0.25
    found = population_optimum(two(0.75), PAIR, HALVES, RobustDPO(0.5, flip))
    assert found.status is Existence.UNBOUNDED
    three = PreferenceOracle([[0.5, 0.75, 1.0], [0.25, 0.5, 0.5], [0.0, 0.5, 0.5]])
    found = population_optimum(three, np.ones((3, 3)), np.full(3, 1 / 3), RobustDPO(0.5, flip))
    assert found.status is Existence.UNBOUNDED
    assert found.value == -np.inf


def test_robust_dpo_whose_least_cut_is_zero_has_no_minimiser():
    """Clean wins of 0 by 1 and by 2 are 1/2 and -1/2: nothing holds 0 back, and its gradient fades."""
    oracle = PreferenceOracle([[0.5, 0.5, 1.0], [0.5, 0.5, 0.375], [0.0, 0.625, 0.5]])
    found = population_optimum(oracle, np.ones((3, 3)), np.full(3, 1 / 3), RobustDPO(0.5, 0.25))
    assert found.status is Existence.UNBOUNDED
    assert np.isnan(found.value)
    assert "has no minimiser" in found.message


@pytest.mark.parametrize("p", [0.51, 0.7, 0.99])
def test_the_hinge_forgets_how_strong_a_preference_is(p):
    found = population_optimum(two(p), PAIR, HALVES, Hinge(0.5))
    assert logit(found.policy[0]) == pytest.approx(2.0)


def test_the_hinge_of_a_tie_or_a_certain_preference_has_many_optima():
    tie = population_optimum(two(0.5), PAIR, HALVES, Hinge(1.0))
    assert tie.status is Existence.NOT_UNIQUE
    assert np.abs(logit(tie.policies[:, 0])).max() <= 1 + 1e-9
    certain = population_optimum(CERTAIN, PAIR, HALVES, Hinge(1.0))
    assert certain.status is Existence.NOT_UNIQUE
    assert logit(certain.policies[:, 0]).min() >= 1 - 1e-9


@settings(deadline=None, max_examples=20)
@given(problems(max_responses=4, certain=True), st.sampled_from([0.05, 0.3, 1.0]))
def test_slic_is_what_a_conic_solver_finds(problem, weight):
    oracle, weights, reference = problem
    loss = SLiC(1.5, weight)
    found = population_optimum(oracle, weights, reference, loss)
    assert found.residual < 1e-7
    assert population_value(loss, oracle, weights, reference, found.policy) == pytest.approx(found.value, abs=1e-9)
    wins = (weights + weights.T) * oracle.matrix / weights.sum()
    x = cp.Variable(oracle.n_responses)
    value = cp.sum([wins[i, j] * cp.pos(1.5 - (x[i] - x[j])) for i, j in np.argwhere(wins > 0)])
    value += weight * (cp.log_sum_exp(x) - reference @ x)
    assert found.value == pytest.approx(cp.Problem(cp.Minimize(value)).solve(solver=cp.CLARABEL), abs=1e-6)
    assert found.policy == pytest.approx(softmax(x.value), abs=2e-3)


@settings(deadline=None)
@given(problems(max_responses=4), st.floats(0.05, 1.0), st.lists(st.floats(-0.2, 1.2), min_size=12, max_size=12))
def test_slics_dual_value_is_below_its_loss_whatever_the_multipliers(problem, weight, shares):
    oracle, weights, reference = problem
    wins = wins_of(oracle, weights)
    dual = _problem(wins, reference, SLiC(1.5, weight))
    multiplier = np.resize(shares, len(dual.cost)) * dual.cost
    found = population_optimum(oracle, weights, reference, SLiC(1.5, weight))
    assert dual.dual_value(multiplier) <= found.value + 1e-7 * (1 + abs(found.value))


@given(st.floats(0.05, 0.95), st.floats(0.5, 3.0), st.floats(0.0, 2.0), st.integers(1, 5))
def test_simpo_of_two_equal_lengths_is_its_closed_form(p, beta, gamma, length):
    found = population_optimum(two(p), PAIR, HALVES, SimPO(beta, gamma), np.array([length, length])).policy
    g = np.exp(-gamma)
    t = ((2 * p - 1) + np.sqrt((2 * p - 1) ** 2 + 4 * p * (1 - p) * g * g)) / (2 * (1 - p) * g)
    assert beta * np.log(found[0] / found[1]) / length == pytest.approx(np.log(t), abs=1e-7)


@given(st.floats(0.05, 0.95), st.sampled_from([0.0, 0.1, 1.0, 50.0]))
def test_orpo_of_two_responses_lies_between_half_the_log_odds_and_all_of_them(p, weight):
    found = population_optimum(two(p), PAIR, HALVES, ORPO(weight))
    x = logit(found.policy[0])
    assert (expit(x) - p) + 2 * weight * (expit(2 * x) - p) == pytest.approx(0, abs=1e-9 * (1 + weight))
    assert abs(logit(p)) / 2 - 1e-9 <= abs(x) <= abs(logit(p)) + 1e-9
    if weight == 0:
        assert found.policy[0] == pytest.approx(p, abs=1e-9)


@settings(deadline=None, max_examples=12)
@given(problems(max_responses=4), st.sampled_from([0.1, 1.0]))
def test_orpo_is_no_worse_than_what_a_general_minimiser_finds(problem, weight):
    oracle, weights, reference = problem
    found = population_optimum(oracle, weights, reference, ORPO(weight))
    assert found.residual < 1e-7
    assert found.value == pytest.approx(population_value(ORPO(weight), oracle, weights, reference, found.policy), abs=1e-9)
    assert found.value <= minimised(ORPO(weight), oracle, weights, reference)[1] + 1e-8


def test_orpo_drops_a_response_that_never_wins():
    oracle = PreferenceOracle([[0.5, 0.6, 1.0], [0.4, 0.5, 1.0], [0.0, 0.0, 0.5]])
    found = population_optimum(oracle, np.ones((3, 3)), np.full(3, 1 / 3), ORPO(0.5))
    assert found.status is Existence.BOUNDARY
    assert found.policy[2] == 0
    near = (1 - 1e-6) * found.policy + 1e-6 * np.array([0.0, 0.0, 1.0])
    assert population_value(ORPO(0.5), oracle, np.ones((3, 3)), np.full(3, 1 / 3), near) > found.value
    only = population_optimum(CERTAIN, PAIR, HALVES, ORPO(0.5))
    assert (only.status, only.policy.tolist()) == (Existence.BOUNDARY, [1.0, 0.0])


@settings(deadline=None, max_examples=25)
@given(problems(max_responses=5), st.sampled_from([0.1, 0.5, 0.9]), st.sampled_from([1.0, 1.5]))
def test_the_sign_of_ktos_gradient_is_that_of_the_class_rates(problem, beta, desirable):
    """Finite differences of the loss in one score, the reference point held fixed."""
    oracle, weights, _ = problem
    wins = (weights + weights.T) * oracle.matrix / weights.sum()
    won, lost = wins.sum(axis=1), wins.sum(axis=0)

    def loss(score, point):
        good, bad = expit(beta * (score - point)), expit(beta * (point - score))
        return float(desirable * won @ (1 - good) + lost @ (1 - bad))

    score = np.linspace(-1, 1, oracle.n_responses)
    for y in range(oracle.n_responses):
        moved = score + 1e-6 * np.eye(oracle.n_responses)[y]
        slope = loss(moved, 0.3) - loss(score, 0.3)
        balance = desirable * won[y] - lost[y]
        assert abs(balance) < 1e-3 or np.sign(slope) == -np.sign(balance)


@settings(deadline=None, max_examples=10)
@given(problems(max_responses=4), st.sampled_from([0.2, 0.7]))
def test_ktos_fixed_point_is_best_for_its_own_reference_point(problem, beta):
    oracle, weights, reference = problem
    loss = KTO(beta, desirable=1.3)
    found = population_optimum(oracle, weights, reference, loss)
    wins = (weights + weights.T) * oracle.matrix / weights.sum()
    balance = 1.3 * wins.sum(axis=1) - wins.sum(axis=0)
    assert ((found.policy > 0) == (balance > 0)).all()
    assert found.residual < 1e-9
    point = divergence(found.policy, reference)
    with np.errstate(divide="ignore"):
        score = beta * (np.log(found.policy) - np.log(reference) - point)
    printed = [wins[i, j] * (1.3 * expit(-score[i]) + expit(score[j])) for i, j in np.argwhere(wins > 0)]
    assert found.value == pytest.approx(sum(printed), abs=1e-12)

    def worth(policy):
        with np.errstate(divide="ignore"):
            return balance @ expit(beta * (np.log(policy) - np.log(reference) - point))

    rng = np.random.default_rng(0)
    others = [rng.dirichlet(np.ones(len(reference))) for _ in range(50)]
    others += [0.999 * found.policy + 0.001 * other for other in others]
    assert all(worth(found.policy) >= worth(other) - 1e-12 for other in others)


@settings(deadline=None, max_examples=25)
@given(drawn.oracles(max_responses=5, certain=True), st.data(), st.sampled_from([0.1, 1.0, 5.0]))
def test_sppos_step_is_the_regression_over_policies_and_nearly_the_multiplicative_one(oracle, data, eta):
    start = data.draw(drawn.policies(oracle.n_responses))
    found = population_optimum(oracle, None, start, SPPO(eta))
    target = eta * (oracle.win_rate(start) - 0.5)
    normaliser = np.log(start @ np.exp(target))
    assert -1e-12 <= normaliser <= eta**2 / 8 + 1e-12
    multiplicative = gibbs(start, target)
    if normaliser < 1e-15:
        assert found.policy == pytest.approx(multiplicative, abs=1e-12)

    def value(policy):
        return start @ (np.log(policy / start) - target) ** 2

    assert found.value == pytest.approx(value(found.policy), abs=1e-12)
    assert found.value <= value(multiplicative) + 1e-12
    rng = np.random.default_rng(1)
    others = [gibbs(found.policy, 0.05 * rng.normal(size=len(start))) for _ in range(40)]
    assert all(found.value <= value(other) + 1e-12 for other in others)


@given(problems(max_responses=4), st.data())
def test_a_policy_with_the_same_margins_on_compared_pairs_has_the_same_loss(problem, data):
    """A response that was never compared may take any mass: every pairwise loss is blind to it."""
    oracle, weights, reference = problem
    n = oracle.n_responses
    wider = np.full((n + 1, n + 1), 0.5)
    wider[:n, :n] = oracle.matrix
    shown = np.zeros((n + 1, n + 1))
    shown[:n, :n] = weights
    outside = np.append(reference / 2, 0.5)
    policy = data.draw(drawn.policies(n, smallest=0.05))
    for mass in (0.01, 0.9):
        moved = np.append((1 - mass) * policy, mass)
        for loss in (DPO(0.5), IPO(0.5), Hinge(1.0)):
            value = population_value(loss, PreferenceOracle(wider), shown, outside, moved)
            assert value == pytest.approx(population_value(loss, oracle, weights, reference, policy), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("loss", [DPO(), IPO(), Hinge(), SLiC(), SimPO(), ORPO(), KTO(), SPPO(), RLHF(), CDPO(), RobustDPO()])
def test_one_response_has_all_probability(loss):
    lengths = np.ones(1) if isinstance(loss, SimPO) else None
    found = population_optimum(PreferenceOracle([[0.5]]), None, np.ones(1), loss, lengths)
    assert found.policy.tolist() == [1.0]


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda: DPO(0.0), "DPO: beta is 0.0"),
        (lambda: CDPO(0.1, 0.5), r"flip is 0.5; it must be in \[0, 1/2\)"),
        (lambda: SimPO(1.0, -1.0), "gamma is -1.0"),
        (lambda: KTO(1.0), "known for beta < 1"),
        (lambda: IPO(float("nan")), "tau is nan"),
        (lambda: population_optimum(two(0.6), -PAIR, HALVES, DPO()), r"weights\[0, 1\] = -1.0"),
        (lambda: population_optimum(two(0.6), np.eye(2), HALVES, DPO()), "nothing to learn from"),
        (lambda: population_optimum(two(0.6), np.ones(2), HALVES, DPO()), r"give \(2, 2\)"),
        (lambda: population_optimum(two(0.6), PAIR, np.array([1.0, 0.0]), DPO()), r"reference\[1\] is 0.0"),
        (lambda: population_optimum(two(0.6), PAIR, HALVES, SimPO()), "give lengths"),
        (lambda: population_optimum(two(0.6), PAIR, HALVES, SimPO(), np.array([1, 0])), "without tokens"),
        (lambda: population_optimum(two(0.6), PAIR, HALVES, DPO(), np.ones(2)), "DPO does not look at lengths"),
        (lambda: population_optimum(two(0.6), PAIR, HALVES, SPPO()), "give weights=None"),
        (lambda: population_optimum(two(0.5), PAIR, HALVES, KTO(0.5)), "pushes every one of them down"),
        (lambda: population_optimum(two(0.6), PAIR, HALVES, "dpo"), "not a preference loss"),
    ],
)
def test_what_makes_no_sense_is_refused(ask, message):
    with pytest.raises(ValueError, match=message):
        ask()
