"""Average reward against nature: exact gains of every policy with every vertex of nature's; brackets without assumptions."""

import dataclasses
import itertools
from fractions import Fraction

import numpy as np
import pytest
from banach.mdp import AverageReward, Discounted, RobustMDP, instances
from banach.mdp.ambiguity import (
    KL,
    L1,
    L2,
    ChiSquare,
    Contamination,
    Interval,
    NestedVaR,
    Polytope,
    Scenarios,
    SRectangular,
    TotalVariation,
    Wasserstein,
)
from banach.mdp.instances.rows import from_lists
from banach.solvers import (
    Certificate,
    CertificateRejected,
    NotConverged,
    RelativeValueIteration,
    SolveError,
    ValueIteration,
    check,
    solve,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from .rational_gain import policy_gains


@st.composite
def averaged(draw, states=3, actions=2):
    """Rows over all states, some entries zero, rewards that are small integers, either sense of optimisation."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rows = rng.integers(0, 4, (states, actions, states)) + np.eye(states, dtype=int)[rng.integers(0, states, (states, actions))]
    rows = rows / rows.sum(axis=2, keepdims=True)
    reward = rng.integers(-3, 4, (states, actions)).astype(float)
    lists = [[(reward[s, a], dict(enumerate(rows[s, a].tolist()))) for a in range(actions)] for s in range(states)]
    return from_lists(lists, AverageReward(minimize=draw(st.booleans())))


def vertices(chosen, nominal):
    """The vertices of nature's set as Fractions that sum to one, from the set's inequalities."""
    n = len(nominal)
    if isinstance(chosen, Contamination):
        kept = (1 - chosen.radius) * nominal
        return [[Fraction(k) + (1 - sum(map(Fraction, kept.tolist()))) * (i == j) for i, k in enumerate(kept.tolist())]
                for j in range(n)]  # fmt: skip
    subsets = itertools.chain.from_iterable(itertools.combinations(range(n), k) for k in range(1, n))
    signs = np.array([np.isin(np.arange(n), subset).astype(float) for subset in subsets])
    hull = Polytope(signs, signs @ nominal + chosen.radius)
    return [[Fraction(x) / sum(map(Fraction, row)) for x in row] for row in hull.entries(nominal).tolist()]


def robust_gain(problem):
    """The best worst gain, over deterministic policies and kernels of vertices, with the least and greatest over states."""
    model = problem.problem
    best = None
    choices = [range(model.state_ptr[s], model.state_ptr[s + 1]) for s in range(model.n_states)]
    helps = problem.optimistic
    for pairs in itertools.product(*choices):
        rows = [vertices(problem.set_of(k), model.probability[slice(*model.row_ptr[k : k + 2])]) for k in pairs]
        reward = [model.reward[k] for k in pairs]
        kernels = [[dict(enumerate(row)) for row in kernel] for kernel in itertools.product(*rows)]
        gains = [policy_gains([{j: p for j, p in row.items() if p} for row in kernel], reward) for kernel in kernels]
        worst = (max if helps != model.criterion.minimize else min)(gain[0] for gain in gains)
        best = worst if best is None else (min if model.criterion.minimize else max)(best, worst)
    return best


SETS = st.sampled_from([Contamination(0.3, support="all"), TotalVariation(0.25, support="all")])


@settings(deadline=None, max_examples=25)
@given(model=averaged(), chosen=SETS, optimistic=st.booleans())
def test_the_bracket_holds_the_gain_over_all_policies_and_vertices(model, chosen, optimistic):
    problem = RobustMDP(model, chosen, optimistic=optimistic)
    if isinstance(chosen, TotalVariation) or optimistic:  # a kernel may have two recurrent classes: then no claim is made
        try:
            answer = solve(problem, RelativeValueIteration(max_rounds=3000), eps=1e-7)
        except NotConverged:
            return
    else:
        answer = solve(problem, eps=1e-7)
    assert check(problem, answer.certificate)
    gain = robust_gain(problem)
    assert Fraction(float(answer.certificate.lower[0])) <= gain + Fraction(1, 10**14)
    assert gain - Fraction(1, 10**14) <= Fraction(float(answer.certificate.upper[0]))
    assert np.ptp(answer.value) == 0


@pytest.mark.parametrize(
    "chosen",
    [L1(0.2, support="all"), KL(0.1), ChiSquare(0.2), L2(0.1, support="all"), Contamination(0.1), NestedVaR(0.4),
     Wasserstein(0.3, 1 - np.eye(6), support="all")],
    ids=lambda one: type(one).__name__,
)  # fmt: skip
@pytest.mark.parametrize("optimistic", [False, True])
def test_named_problems_are_solved_and_proved(chosen, optimistic):
    model = instances.riverswim().replace(criterion=AverageReward())
    problem = RobustMDP(model, chosen, optimistic=optimistic)
    answer = solve(problem, eps=1e-4)
    verdict = check(problem, answer.certificate)
    assert verdict
    assert verdict.rows == problem.n_pairs + problem.n_states
    assert answer.certificate.width <= 1e-4


def test_radius_zero_is_the_nominal_gain():
    model = instances.riverswim().replace(criterion=AverageReward())
    nominal = solve(model, eps=1e-6)
    robust = solve(RobustMDP(model, L1(0.0)), eps=1e-6)
    assert robust.value == pytest.approx(nominal.value, abs=2e-6)


def test_the_gain_is_the_limit_of_discounted_values():
    """(1 - g) v_g tends to the robust gain as g tends to one (Wang et al. 2023, theorem 1)."""
    model = instances.riverswim()
    chosen = Contamination(0.1, support="all")
    gain = solve(RobustMDP(model.replace(criterion=AverageReward()), chosen), eps=1e-6).value[0]
    gaps = []
    for discount in (0.99, 0.999, 0.9999):
        value = solve(RobustMDP(model.replace(criterion=Discounted(discount)), chosen), eps=1e-3).value
        gaps.append(np.abs((1 - discount) * value - gain).max())
    assert gaps[1] < 0.2 * gaps[0]
    assert gaps[2] < 0.2 * gaps[1]


@settings(deadline=None, max_examples=20)
@given(model=averaged(), weaker=st.floats(0, 0.5), stronger=st.floats(0, 0.5))
def test_more_contamination_is_no_better(model, weaker, stronger):
    model = model.negated() if model.criterion.minimize else model
    weak, strong = (
        solve(RobustMDP(model, Contamination(radius + 0.05, support="all")), eps=1e-7).certificate
        for radius in sorted((weaker, stronger))
    )
    assert strong.lower[0] <= weak.upper[0]


def test_an_interval_model_with_rewards_of_transitions():
    """Two states, one action; the row of the first between two rows, staying pays 1: the gain is that of the worst chain."""
    model = from_lists([[(0.0, {0: 0.5, 1: 0.5})], [(0.0, {0: 0.5, 1: 0.5})]], AverageReward())
    lower, upper = np.array([0.25, 0.25, 0.5, 0.5]), np.array([0.75, 0.75, 0.5, 0.5])
    problem = RobustMDP.intervals(model, lower, upper)
    problem = dataclasses.replace(problem, transition_reward=np.array([1.0, 0.0, 0.0, 0.0]))
    answer = solve(problem, eps=1e-9)
    assert check(problem, answer.certificate)
    share = 0.5 / (0.5 + 0.75)  # of time in the first state when it is left with probability 3/4
    assert answer.value[0] == pytest.approx(share * 0.25, abs=1e-8)


def test_a_gain_that_depends_on_the_state_is_refused_with_the_reason():
    model = from_lists([[(1.0, {0: 1.0})], [(0.0, {1: 1.0})]], AverageReward())
    with pytest.raises(NotConverged, match="depends on the state"):
        solve(RobustMDP(model, L1(0.1)), RelativeValueIteration(max_rounds=200), eps=1e-6)
    answer = solve(RobustMDP(model, Contamination(0.1, support="all")), eps=1e-6)
    assert answer.value == pytest.approx(0.0, abs=1e-6)


def test_a_hopeless_bracket_is_given_up_before_the_last_round():
    model = from_lists([[(1.0, {0: 1.0})], [(0.0, {1: 1.0})]], AverageReward())
    with pytest.raises(NotConverged, match=r"after 2\d\d\d sweeps"):
        solve(RobustMDP(model, L1(0.1)), eps=1e-6)


def test_periodic_chains_converge():
    model = from_lists([[(1.0, {1: 1.0})], [(0.0, {0: 1.0})]], AverageReward())
    assert solve(RobustMDP(model, L1(0.1)), eps=1e-9).value == pytest.approx(0.5)


def test_what_is_not_offered_is_refused():
    model = instances.riverswim().replace(criterion=AverageReward())
    with pytest.raises(SolveError, match="mass of their own"):
        solve(RobustMDP(model, Scenarios(np.full((1, 6), 1 / 6))))
    with pytest.raises(SolveError, match=r"\(s, a\)-rectangular"):
        solve(RobustMDP(model, SRectangular(L1(0.1))))
    with pytest.raises(SolveError, match="does not solve robust average-reward"):
        solve(RobustMDP(model, L1(0.1)), ValueIteration())


@pytest.mark.parametrize("sum_of_rows", [1 - 1e-10, 1 + 1e-10])
def test_rows_that_sum_to_a_little_less_or_more_are_weights(sum_of_rows):
    """Biases of millions would make a thousandth of the excess if rows were not weights; the proof holds all the same."""
    model = instances.riverswim().replace(criterion=AverageReward())
    model = model.replace(reward=1e3 * model.reward)
    light = RobustMDP(model.replace(probability=model.probability * sum_of_rows), Contamination(0.1, support="all"))
    answer = solve(light, eps=1e-1)
    assert check(light, answer.certificate)
    exact = solve(RobustMDP(model, Contamination(0.1, support="all")), eps=1e-3).certificate
    assert answer.certificate.lower[0] <= exact.upper[0]
    assert exact.lower[0] <= answer.certificate.upper[0]


@pytest.mark.parametrize("bias", [-1e6, 1e6])
def test_a_constant_bias_proves_a_gain_of_the_reward_and_no_more(bias):
    """One state whose row sums to 1 - 1e-10: taken as it stands, a bias of a million would move the gain by 1e-4."""
    model = from_lists([[(2.0, {0: 1.0})]], AverageReward())
    problem = RobustMDP(model.replace(probability=model.probability * (1 - 1e-10)), L1(0.1))
    flat, zero = np.full(1, bias), np.zeros(1, dtype=np.int32)
    for low, high, holds in ((2.0, 2.0, True), (2.00005, 3.0, False), (1.0, 1.99995, False)):
        claim = Certificate(np.full(1, low), np.full(1, high), zero, problem, {"lower_bias": flat, "upper_bias": flat.copy()})
        if holds:
            assert check(problem, claim)
            continue
        with pytest.raises(CertificateRejected, match="does not hold"):
            check(problem, claim)


def test_what_is_spoilt_is_refused_with_its_place():
    model = instances.riverswim().replace(criterion=AverageReward())
    problem = RobustMDP(model, Contamination(0.1, support="all"))
    good = solve(problem, eps=1e-5).certificate
    other = good.policy.copy()
    other[5] = 1 - other[5]
    witness = dict(good.witness)
    for match, spoilt in {
        r"state .*, action .*: lower \+ bias <= T_policy bias": {"lower": good.upper + 1e-3},
        r"state .*, action .*: T bias <= upper \+ bias": {"upper": good.lower - 1e-3},
        r"state 5, action .*: lower \+ bias": {"policy": other},
        "lower is not the same in all states": {"lower": good.lower - np.arange(6.0)},
        "upper has shape": {"upper": np.full(6, np.inf)},
        "it must hold lower_bias and upper_bias": {"witness": {}},
        "upper_bias has shape": {"witness": witness | {"upper_bias": np.zeros(5)}},
        r"T bias <= upper \+ bias": {"witness": witness | {"upper_bias": np.zeros(6)}},
        "action 2 is not one of its 2": {"policy": np.full(6, 2, dtype=np.int32)},
        "the policy has shape": {"policy": good.policy.astype(float)},
    }.items():
        with pytest.raises(CertificateRejected, match=match):
            check(problem, dataclasses.replace(good, **spoilt))
    nominal = dataclasses.replace(solve(model, eps=1e-5).certificate, model=problem)
    with pytest.raises(CertificateRejected):
        check(problem, nominal)


def test_one_interval_for_all_pairs_is_averaged():
    model = instances.forest().replace(criterion=AverageReward())
    problem = RobustMDP(model, Interval(np.array([0.1, 0.0, 0.0]), np.ones(3)))
    assert check(problem, solve(problem, eps=1e-7).certificate)
