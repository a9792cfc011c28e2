"""RPO's maximin theory on tables, against programs solved by others, starts from many points, and exact small cases."""

import math

import cvxpy as cp
import numpy as np
import pytest
from banach.mdp import ModelError
from banach.mdp.preference import PreferenceOracle
from banach.solvers import NotConverged, SolveError, population_optimum
from banach.solvers.gibbs import divergence
from banach.solvers.preference_losses import DPO
from banach.solvers.preference_maximin import (
    RegularizedPO,
    density_ratio,
    likelihood_floor,
    maximin,
    preference_coverage,
    rpo_loss,
    rpo_optimum,
    saddle_bracket,
    suboptimality_bound,
    unreached,
)
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

SEED = st.integers(0, 10**6)


def drawn(seed, n=None, sparse=False, full_baseline=True):
    """A random problem; sparse: pairs that were never shown, and deterministic labels."""
    rng = np.random.default_rng(seed)
    n = n or int(rng.integers(2, 6))
    wins = rng.integers(0, 6, (n, n)).astype(float)
    if sparse:
        wins *= rng.random((n, n)) < 0.5
    np.fill_diagonal(wins, 0)
    baseline = rng.dirichlet(np.ones(n))
    if not full_baseline:
        baseline *= rng.random(n) < 0.6
        baseline = baseline / baseline.sum() if baseline.sum() else np.eye(n)[0]
    return RegularizedPO(
        wins, rng.dirichlet(np.full(n, 2.0)), baseline, float(rng.uniform(0.05, 1.5)), float(rng.uniform(0.2, 2))
    )


def conic(problem, top):
    """F minimised over the box by cvxpy."""
    r, n = cp.Variable(problem.n_responses), problem.n_responses
    soft = problem.temperature * cp.log_sum_exp(np.log(problem.reference) + r / problem.temperature)
    pairs = [problem.wins[i, j] * cp.logistic(r[j] - r[i]) for i in range(n) for j in range(n) if problem.wins[i, j] > 0]
    program = cp.Problem(cp.Minimize(problem.eta * (soft - problem.baseline @ r) + sum(pairs)), [r >= 0, r <= top])
    return program.solve(solver="CLARABEL")


@given(SEED, st.floats(0.3, 4), st.booleans())
@settings(max_examples=12, deadline=None)
def test_maximin_and_minimax_lie_in_the_interval_and_cvxpy_finds_them_there(seed, top, sparse):
    problem = drawn(seed, sparse=sparse, full_baseline=not sparse)
    answer = maximin(problem, top)
    value = conic(problem, top)
    assert answer.gap <= 1e-9
    assert answer.lower - 1e-6 <= value <= answer.upper + 1e-6
    assert answer.policy == pytest.approx(problem.best_policy(answer.reward), abs=1e-15)


@pytest.mark.parametrize(("seed", "top"), [(2025, 1.5625), (460, None), (1074, None)])
def test_the_last_newton_steps_are_not_refused_because_the_value_rounds(seed, top):
    """Instances whose last steps change the value by less than it rounds by."""
    problem = drawn(seed)
    if top is None:
        policy = rpo_optimum(problem)
        slope = problem.eta * (policy - problem.baseline)
        slope += problem.loss_slope(problem.temperature * np.log(policy / problem.reference))
        assert np.abs(slope).max() < 1e-12 * problem.eta
    else:
        assert maximin(problem, top).gap <= 1e-14


@given(SEED, st.floats(0.3, 4))
@settings(max_examples=15, deadline=None)
def test_nature_cannot_do_better_against_the_policy_from_any_start(seed, top):
    problem = drawn(seed)
    answer, rng = maximin(problem, top), np.random.default_rng(seed)
    for _ in range(3):
        found = minimize(
            lambda r: problem.payoff(answer.policy, r), rng.uniform(0, top, problem.n_responses), method="L-BFGS-B",
            bounds=[(0, top)] * problem.n_responses, options={"ftol": 1e-15, "gtol": 1e-10},
        )  # fmt: skip
        assert found.fun >= answer.lower - 1e-9


@given(SEED)
@settings(max_examples=20, deadline=None)
def test_any_pair_proves_an_interval_that_holds_the_value(seed):
    problem, rng = drawn(seed), np.random.default_rng(seed + 1)
    best = maximin(problem, 2.0)
    policy, reward = rng.dirichlet(np.ones(problem.n_responses)), rng.uniform(0, 2, problem.n_responses)
    lower, upper = saddle_bracket(problem, policy, reward, 2.0)
    assert lower <= best.upper
    assert upper >= best.lower
    assert upper == pytest.approx(problem.best_value(reward), rel=1e-12)


def test_on_a_set_that_is_not_convex_minimax_exceeds_maximin():
    """Two arms, no labels, R = {(1, 0), (0, 1)}: the uniform policy earns 0 whoever is chosen; a best answer does not."""
    problem = RegularizedPO(np.zeros((2, 2)), np.full(2, 0.5), np.full(2, 0.5), 0.7, 0.4)
    corners = [np.array([1.0, 0.0]), np.array([0.0, 1.0])]
    minimax = min(problem.best_value(r) for r in corners)
    assert minimax == pytest.approx(0.7 * (0.4 * math.log((math.exp(1 / 0.4) + 1) / 2) - 0.5))
    worst = [min(problem.payoff(np.array([p, 1 - p]), r) for r in corners) for p in np.linspace(0, 1, 1001)]
    assert max(worst) == pytest.approx(0.0, abs=1e-12)
    assert minimax > 0.1
    for r in corners:
        answer = problem.best_policy(r)
        assert min(problem.payoff(answer, other) for other in corners) < -0.1


@given(SEED)
@settings(max_examples=25, deadline=None)
def test_rpos_loss_is_the_minimax_objective_in_other_coordinates(seed):
    """At r = beta log p/q the two differ by a constant: whatever the policy."""
    problem, rng = drawn(seed), np.random.default_rng(seed + 7)
    constant = problem.eta * problem.temperature * float(problem.baseline @ np.log(problem.reference))
    for _ in range(3):
        policy = rng.dirichlet(np.ones(problem.n_responses))
        reward = problem.temperature * np.log(policy / problem.reference)
        assert rpo_loss(problem, policy) == pytest.approx(problem.best_value(reward) - constant, rel=1e-9, abs=1e-9)


@given(SEED)
@settings(max_examples=20, deadline=None)
def test_the_optimum_obeys_the_first_order_law_and_has_the_least_loss(seed):
    problem = drawn(seed)
    policy = rpo_optimum(problem)
    score = problem.temperature * np.log(policy / problem.reference)
    shown = problem.wins + problem.wins.T
    share = np.divide(problem.wins, shown, out=np.full_like(shown, 0.5), where=shown > 0)
    believed = 1 / (1 + np.exp(score[None, :] - score[:, None]))
    law = problem.baseline + (shown * (share - believed)).sum(axis=1) / problem.eta
    assert policy == pytest.approx(law, abs=1e-9)
    found = minimize(
        lambda s: rpo_loss(problem, np.exp(s - s.max()) / np.exp(s - s.max()).sum()), np.zeros(problem.n_responses),
        method="BFGS", options={"gtol": 1e-9},
    )  # fmt: skip
    assert rpo_loss(problem, policy) <= found.fun + 1e-10
    assert (np.log(policy) >= likelihood_floor(problem)).all()


def test_its_limits_are_fine_tuning_and_dpo():
    wins = np.array([[0.0, 3, 1], [1, 0, 2], [2, 1, 0]])
    reference, baseline = np.array([0.2, 0.3, 0.5]), np.array([0.6, 0.3, 0.1])
    tuned = rpo_optimum(RegularizedPO(wins, reference, baseline, 1e6, 0.5))
    assert tuned == pytest.approx(baseline, abs=1e-5)
    unlabelled = rpo_optimum(RegularizedPO(np.zeros((3, 3)), reference, baseline, 0.3, 0.5))
    assert unlabelled == pytest.approx(baseline, abs=1e-10)
    oracle, weights = PreferenceOracle.of_counts(wins)
    dpo = population_optimum(oracle, weights, reference, DPO(0.5)).policy
    near = rpo_optimum(RegularizedPO(wins, reference, baseline, 1e-6, 0.5))
    assert near == pytest.approx(dpo, abs=1e-5)


def test_what_nobody_compared_gets_the_least_reward_that_is_believed():
    """The specimen: one response never shown and not in the baseline."""
    wins = np.array([[0.0, 7, 0], [3, 0, 0], [0, 0, 0]])
    problem = RegularizedPO(wins, np.array([0.2, 0.2, 0.6]), np.array([0.7, 0.3, 0.0]), 0.1, 0.5)
    for top, reward, left in ((1.0, (1, 0.231, 0), 0.25), (3.0, (3, 2.2135, 0), 0.0066)):
        answer = maximin(problem, top)
        assert answer.reward == pytest.approx(reward, abs=0.006)
        assert answer.reward[2] == 0
        assert answer.policy[2] == pytest.approx(left, abs=0.006)
    assert unreached(problem).tolist() == [2]
    with pytest.raises(SolveError, match=r"leads from \[2\] to the baseline"):
        rpo_optimum(problem)
    assert preference_coverage(problem, np.eye(3)[2]) == math.inf


def test_where_there_is_no_optimum_descent_sends_what_is_unreached_to_nothing_and_keeps_the_rest():
    """0 beats 1 beats 2, the baseline is on the first two: the mass of 2 falls with every step, the infimum is two answers'."""
    wins = np.array([[0.0, 1, 0], [0, 0, 1], [0, 0, 0]])
    problem = RegularizedPO(wins, np.full(3, 1 / 3), np.array([2 / 3, 1 / 3, 0.0]), 0.3, 0.5)
    assert unreached(problem).tolist() == [2]

    def loss(score):
        policy = np.exp(score - score.max())
        return rpo_loss(problem, policy / policy.sum())

    left = []
    for steps in (5, 15, 40):
        found = minimize(loss, np.zeros(3), method="BFGS", options={"maxiter": steps, "gtol": 0.0})
        policy = np.exp(found.x - found.x.max())
        left.append(policy[2] / policy.sum())
    assert left[0] < 0.05
    assert left[2] < 1e-3 * left[1] < 1e-4 * left[0]
    alone = RegularizedPO(wins[:2, :2], np.full(2, 0.5), np.array([2 / 3, 1 / 3]), 0.6, 0.5)  # a label in two: eta twice
    policy = rpo_optimum(alone)
    assert found.x[0] - found.x[1] == pytest.approx(math.log(policy[0] / policy[1]), abs=1e-3)


@given(SEED)
@settings(max_examples=40, deadline=None)
def test_there_is_an_optimum_exactly_where_all_responses_reach_the_baseline(seed):
    """Against a linear program: a direction along which the loss falls for ever, or none."""
    problem = drawn(seed, n=4, sparse=True, full_baseline=False)
    d, n = cp.Variable(4), 4
    rules = [d[i] >= d[j] for i in range(n) for j in range(n) if problem.wins[i, j] > 0]
    rules += [d[i] == 0 for i in np.flatnonzero(problem.baseline > 0)] + [d <= 0, d >= -1]
    falls = -cp.Problem(cp.Minimize(cp.sum(d)), rules).solve(solver="CLARABEL") > 1e-6
    assert falls == (len(unreached(problem)) > 0)


@given(SEED, st.floats(0.5, 3))
@settings(max_examples=15, deadline=None)
def test_the_certificate_holds_for_every_comparator_and_every_true_reward(seed, top):
    problem, rng = drawn(seed), np.random.default_rng(seed + 3)
    answer = maximin(problem, top)
    for _ in range(3):
        comparator, reward = rng.dirichlet(np.ones(problem.n_responses)), rng.uniform(0, top, problem.n_responses)
        bound = suboptimality_bound(problem, answer, comparator, reward, top)
        assert float((comparator - answer.policy) @ reward) <= bound
    r = cp.Variable(problem.n_responses)
    n = problem.n_responses
    believed = sum(problem.wins[i, j] * cp.logistic(r[j] - r[i]) for i in range(n) for j in range(n) if problem.wins[i, j] > 0)
    worst = cp.Problem(
        cp.Maximize((comparator - problem.baseline) @ (reward - r) + (problem.loss(reward) - believed) / problem.eta),
        [r >= 0, r <= top],
    ).solve(solver="CLARABEL", tol_gap_abs=1e-10, tol_gap_rel=1e-10)
    nats = divergence(comparator, problem.reference) - divergence(answer.policy, problem.reference)
    assert bound == pytest.approx(worst + problem.temperature * nats, abs=1e-6)


@given(SEED)
@settings(max_examples=30, deadline=None)
def test_coverage_is_the_largest_ratio_and_below_the_density_ratio(seed):
    problem, rng = drawn(seed, sparse=True), np.random.default_rng(seed + 5)
    assume(problem.wins.any())
    comparator = rng.dirichlet(np.ones(problem.n_responses))
    found, shown = preference_coverage(problem, comparator), problem.wins + problem.wins.T

    def ratio(difference):
        square = 0.5 * (shown * (difference[:, None] - difference[None, :]) ** 2).sum()
        return ((comparator - problem.baseline) @ difference) ** 2 / square if square > 1e-12 else 0.0

    assert found**2 <= density_ratio(problem, comparator) * (1 + 1e-9)
    if math.isfinite(found):
        assert all(ratio(rng.normal(size=problem.n_responses)) <= found**2 * (1 + 1e-9) for _ in range(50))
        laplacian = np.diag(shown.sum(axis=1)) - shown
        best = np.linalg.lstsq(laplacian, comparator - problem.baseline, rcond=None)[0]
        assert ratio(best) == pytest.approx(found**2, rel=1e-6, abs=1e-9)


@given(SEED)
@settings(max_examples=40, deadline=None)
def test_coverage_in_a_box_is_the_largest_ratio_of_what_lies_between_the_truth_and_its_rewards(seed):
    """Against a conic program on D = r* - r, and a linear one that says whether labels leave a direction free."""
    problem, rng = drawn(seed, sparse=True), np.random.default_rng(seed + 5)
    assume(problem.wins.any())
    n, top = problem.n_responses, float(rng.uniform(0.5, 3))
    comparator, reward = rng.dirichlet(np.ones(n)), rng.choice([0.0, 0.4 * top, top], n)
    found = preference_coverage(problem, comparator, reward, top)
    shown, apart = problem.wins + problem.wins.T, comparator - problem.baseline
    pairs = [(i, j) for i in range(n) for j in range(i) if shown[i, j] > 0]
    d = cp.Variable(n)
    cone = [d[i] <= 0 for i in np.flatnonzero(reward == 0)] + [d[i] >= 0 for i in np.flatnonzero(reward == top)]
    free = cp.Problem(cp.Maximize(apart @ d), [*cone, *(d[i] == d[j] for i, j in pairs), d >= -1, d <= 1])
    if free.solve(solver="CLARABEL") > 1e-7:
        assert found == math.inf
        return
    seen = cp.hstack([math.sqrt(shown[i, j]) * (d[i] - d[j]) for i, j in pairs])
    conic = cp.Problem(cp.Maximize(apart @ d), [*cone, cp.sum_squares(seen) <= 1, d >= -1e3, d <= 1e3]).solve(solver="CLARABEL")
    assert found == pytest.approx(conic, abs=1e-5)
    assert found <= preference_coverage(problem, comparator) * (1 + 1e-9)


def test_a_box_covers_what_it_cannot_overrate():
    """One pair is shown, the third response is the worst and the comparator gives it: it costs nothing to have seen nothing."""
    wins = np.array([[0.0, 3, 0], [1, 0, 0], [0, 0, 0]])
    problem, comparator = RegularizedPO(wins, np.full(3, 1 / 3), np.array([0.5, 0.5, 0.0]), 0.3, 0.5), np.array([0.5, 0.3, 0.2])
    assert preference_coverage(problem, comparator) == math.inf
    assert preference_coverage(problem, comparator, np.array([0.5, 0.2, 0.0]), 1.0) == math.inf  # others could be overrated
    assert preference_coverage(problem, comparator, np.array([1.0, 0.2, 0.0]), 1.0) == pytest.approx(0.2)
    assert preference_coverage(problem, comparator, np.array([0.5, 0.2, 0.1]), 1.0) == math.inf
    with pytest.raises(SolveError, match="where in the box the true reward lies"):
        preference_coverage(problem, comparator, top=1.0)
    with pytest.raises(SolveError, match=r"must be \(3,\) numbers in \[0, 1.0\]"):
        preference_coverage(problem, comparator, np.array([0.5, 0.2, 1.1]), 1.0)


@given(SEED)
@settings(max_examples=20, deadline=None)
def test_with_all_labels_of_the_law_the_loss_is_bounded_by_coverage(seed):
    """J(p) - J(p^) <= C^2 eta / (8 kappa^2) + beta KL(p | q), kappa = sigma(R) sigma(-R), the labels being their own law."""
    rng = np.random.default_rng(seed)
    n, top = int(rng.integers(2, 5)), float(rng.uniform(0.5, 2))
    reward, pairs = rng.uniform(0, top, n), np.triu(rng.dirichlet(np.ones(n * n)).reshape(n, n), 1)
    reward[rng.integers(n)] = 0.0  # the truth on the box's floor: its coverage counts only what can be overrated
    wins = pairs / (1 + np.exp(reward[None, :] - reward[:, None]))
    wins = wins + (pairs - wins).T
    problem = RegularizedPO(wins, rng.dirichlet(np.ones(n) * 2), rng.dirichlet(np.ones(n)), float(rng.uniform(0.01, 0.5)), 0.3)
    answer = maximin(problem, top)
    kappa = 1 / (1 + math.exp(-top)) / (1 + math.exp(top))
    for comparator in (np.eye(n)[int(reward.argmax())], rng.dirichlet(np.ones(n))):
        promised = preference_coverage(problem, comparator, reward, top) ** 2 * problem.eta / (8 * kappa**2)
        promised += problem.temperature * divergence(comparator, problem.reference)
        assert float((comparator - answer.policy) @ reward) <= promised + 1e-9


@pytest.mark.parametrize(
    ("logits", "labels", "cold", "hot"),
    [
        ((0.5, 0.0, 0.3), [(0, 1), (1, 2)], (0.692, 0.028, -0.721), (0.069, 0.670, -0.739)),
        ((2.0, 0.0, 1.0), [(0, 2), (1, 2)], (0.388, 0.429, -0.816), (0.005, 0.705, -0.709)),
    ],
)
def test_beta_turns_the_gradient_of_two_pairs_and_not_of_one(logits, labels, cold, hot):
    """Of margins with opposite signs: a large beta forgets the pair that is in order. Published as a mere scale."""
    logits = np.array(logits)

    def direction(wins, beta):
        problem = RegularizedPO(wins, np.full(3, 1 / 3), np.full(3, 1 / 3), 1.0, beta)
        ascent = -problem.loss_slope(beta * logits)
        return ascent / np.linalg.norm(ascent)

    def by_hand(pairs, beta):
        ascent = np.zeros(3)
        for winner, loser in pairs:
            pull = beta / (1 + math.exp(beta * (logits[winner] - logits[loser])))
            ascent[winner], ascent[loser] = ascent[winner] + pull, ascent[loser] - pull
        return ascent / np.linalg.norm(ascent)

    def table(pairs):
        wins = np.zeros((3, 3))
        for pair in pairs:
            wins[pair] = 1.0
        return wins

    for beta, wanted in ((0.1, cold), (5.0, hot)):
        assert by_hand(labels, beta) == pytest.approx(wanted, abs=1e-3)
        assert direction(table(labels), beta) == pytest.approx(by_hand(labels, beta), abs=1e-12)
    assert direction(table(labels[:1]), 0.1) == pytest.approx(direction(table(labels[:1]), 5.0), abs=1e-12)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"eta": 0.0}, "for eta = 0 this is DPO"),
        ({"temperature": -1.0}, "temperature is -1.0"),
        ({"temperature": "1"}, "temperature is '1'"),
        ({"eta": True}, "eta is True"),
        ({"wins": np.eye(2)}, "response 0 is compared with itself"),
        ({"wins": -np.ones((2, 2))}, "finite counts >= 0"),
        ({"reference": np.array([1.0, 0.0])}, r"reference\[1\] is 0"),
        ({"baseline": np.array([0.5, 0.6])}, "baseline sums to"),
    ],
)
def test_what_is_no_problem_is_refused(changes, said):
    usual = {"wins": np.array([[0.0, 1], [0, 0]]), "reference": np.full(2, 0.5), "baseline": np.full(2, 0.5), "eta": 1.0}
    with pytest.raises((SolveError, ModelError), match=said):
        RegularizedPO(**({"temperature": 1.0} | usual | changes))


def test_numbers_of_numpy_are_numbers_and_a_policy_with_a_hole_has_no_loss():
    problem = drawn(3)
    alike = RegularizedPO(problem.wins, problem.reference, problem.baseline, np.float32(0.5), np.int64(1))
    assert (alike.eta, alike.temperature) == (0.5, 1.0)
    with pytest.raises(SolveError, match="top is '1'"):
        maximin(problem, "1")
    with pytest.raises(ModelError, match=r"policy"):
        rpo_loss(problem, np.eye(problem.n_responses)[0])


def test_rewards_outside_the_box_and_too_few_steps_are_refused():
    problem = drawn(3)
    with pytest.raises(SolveError, match="give positive numbers"):
        maximin(problem, 0.0)
    with pytest.raises(SolveError, match="numbers in"):
        saddle_bracket(problem, problem.reference, np.full(problem.n_responses, 9.0), 1.0)
    with pytest.raises(NotConverged, match="after 0 steps"):
        maximin(problem, 1.0, max_steps=0)
