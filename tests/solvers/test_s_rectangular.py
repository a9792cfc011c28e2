"""s-rectangular problems solved: published values, programs, exact rationals, saddle points; every bracket proved."""

import dataclasses
from fractions import Fraction

import numpy as np
import pytest
from banach.mdp import MDP, FiniteHorizon, ModelError, RobustMDP, instances
from banach.mdp.ambiguity import KL, L1, Burg, ChiSquare, SRectangular, TotalVariation, WeightedL1
from banach.solvers import (
    Anderson,
    Certificate,
    CertificateRejected,
    GaussSeidel,
    ModifiedPolicyIteration,
    PartialPolicyIteration,
    RobustPolicyIteration,
    SolveError,
    ValueIteration,
    check,
    iwocs,
    solve,
)
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from .s_rectangular_witness import (
    BALLS,
    comfortable,
    conic_worth,
    exact_worth,
    maximising,
    plain,
    policy_program,
    problems,
    random_weights,
    rows_of,
)

METHODS = [
    ValueIteration(),
    GaussSeidel(),
    ModifiedPolicyIteration(5),
    Anderson(),
    RobustPolicyIteration(),
    PartialPolicyIteration(),
]
every_ball = pytest.mark.parametrize("name", BALLS)
seeds = st.integers(0, 2**32 - 1)


def forest(radius=0.4):
    return RobustMDP(instances.make("forest:states=3,discount=0.9"), SRectangular(L1(radius)))


def coin():
    """One decision whose outcomes are opposite: nature spends the budget on what is sure to be played."""
    transition = np.zeros((3, 2, 3))
    transition[0, :, 1:] = 0.5
    transition[1:, :, 1:] = np.eye(2)[:, None]
    reward = np.array([[0.0, 0.0], [1.0, 1.0], [0.0, 0.0]])
    model = MDP.from_dense(transition, reward, discount=0.5, layout="sas")
    gain = np.zeros(model.n_transitions)
    gain[:4] = [1.0, 0.0, -1.0, 2.0]
    return RobustMDP(model, SRectangular(L1(0.4)), transition_reward=gain)


@pytest.mark.parametrize("method", [None, *METHODS], ids=str)
def test_the_published_forest(method):
    problem = forest()
    answer = solve(problem, method, eps=1e-8)
    assert answer.value == pytest.approx([15.876, 18.396, 22.396], abs=1e-7)
    assert check(problem, answer.certificate)


@every_ball
@settings(deadline=None, max_examples=8)
@given(data=st.data())
def test_all_methods_prove_overlapping_brackets(name, data):
    problem = data.draw(problems(name))
    eps = comfortable(problem)
    proofs = [solve(problem, method, eps=eps).certificate for method in (None, *METHODS)]
    assert max(proof.width for proof in proofs) <= eps
    assert (np.max([proof.lower for proof in proofs], axis=0) <= np.min([proof.upper for proof in proofs], axis=0)).all()
    for proof in proofs:
        assert check(problem, proof)


@every_ball
@settings(deadline=None, max_examples=10)
@given(data=st.data())
def test_the_value_is_a_fixed_point_of_programs(name, data):
    problem = maximising(data.draw(problems(name)))
    assume(plain(problem))
    value = solve(problem, eps=comfortable(problem) / 100).value
    for state in np.flatnonzero(~problem.terminal):
        size = 1 + max(abs(reward) + float(np.abs(z).max()) for reward, _, z in rows_of(problem, state, value))
        found = (
            max(conic_worth(problem, state, value, one) for one in np.eye(np.diff(problem.problem.state_ptr)[state]))
            if problem.optimistic
            else conic_worth(problem, state, value)
        )
        assert value[state] == pytest.approx(found, abs=1e-4 * size)


@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_the_best_decision_is_worth_as_much_in_one_linear_program_and_no_other_more(data):
    problem = maximising(data.draw(problems("L1", hostile=True)))
    eps = comfortable(problem)
    answer = solve(problem, eps=eps)
    tolerance = 10 * eps
    np.testing.assert_allclose(policy_program(problem, answer.policy), answer.value, atol=tolerance)
    other = policy_program(problem, random_weights(problem, data.draw(seeds)))
    assert (other <= answer.value + tolerance).all()


@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_a_given_decision_is_worth_what_one_linear_program_says(data):
    problem = maximising(data.draw(problems("L1", hostile=True)))
    eps, decision = comfortable(problem), random_weights(problem, data.draw(seeds))
    committed = problem.restricted(decision)
    answer = solve(committed, eps=eps)
    np.testing.assert_allclose(policy_program(problem, decision), answer.value, atol=10 * eps)
    np.testing.assert_array_equal(answer.policy, decision)
    assert check(committed, answer.certificate)


@every_ball
@settings(deadline=None, max_examples=10)
@given(data=st.data())
def test_a_given_decision_is_a_fixed_point_of_programs_on_either_side_of_nature(name, data):
    problem = maximising(data.draw(problems(name)))
    assume(plain(problem))
    decision = random_weights(problem, data.draw(seeds))
    committed = problem.restricted(decision)
    answer = solve(committed, PartialPolicyIteration(), eps=comfortable(problem) / 100)
    assert check(committed, answer.certificate)
    ptr, value = problem.problem.state_ptr, answer.value
    for state in np.flatnonzero(~problem.terminal):
        size = 1 + max(abs(reward) + float(np.abs(z).max()) for reward, _, z in rows_of(problem, state, value))
        found = conic_worth(problem, state, value, decision[ptr[state] : ptr[state + 1]])
        assert value[state] == pytest.approx(found, abs=1e-4 * size)


@settings(deadline=None, max_examples=60)
@given(data=st.data(), scale=st.sampled_from([1.0, 1e-9, 1e9]))
def test_the_enclosure_of_an_l1_problem_holds_in_exact_arithmetic(data, scale):
    problem = maximising(data.draw(problems("L1", hostile=True)))
    if problem.set_of(0).support == "all":
        return
    entries = st.floats(-5, 5).map(lambda x: scale * x)
    value = np.array(data.draw(st.lists(entries, min_size=problem.n_states, max_size=problem.n_states)))
    operator = problem.operator
    policy, lower, upper = operator.blank_policy(), np.empty_like(value), np.empty_like(value)
    operator.enclose(value, policy, lower, upper)
    for state in np.flatnonzero(~problem.terminal):
        exact = exact_worth(problem, state, value)
        assert Fraction(float(lower[state])) <= exact <= Fraction(float(upper[state]))
        size = 1 + max(abs(reward) + float(np.abs(z).max()) for reward, _, z in rows_of(problem, state, value))
        assert upper[state] - lower[state] <= 1e-12 * size


@every_ball
@settings(deadline=None, max_examples=10)
@given(data=st.data())
def test_policy_and_natures_rows_are_a_saddle(name, data):
    """Against nature's rows no policy, and against the policy no rows, are better for the one who chooses."""
    problem = maximising(data.draw(problems(name, hostile=True)))
    eps = comfortable(problem) / 10
    answer = solve(problem, eps=eps)
    policy, rows = problem.operator.saddle(answer.value)
    margin = 20 * eps / (1 - problem.problem.discount)
    best_reply = solve(problem.against(rows), eps=eps)
    np.testing.assert_allclose(best_reply.value, answer.value, atol=margin)
    worst_reply = solve(problem.restricted(policy), eps=eps)
    np.testing.assert_allclose(worst_reply.value, answer.value, atol=margin)
    played = solve(problem.chain(policy, rows), eps=eps)
    np.testing.assert_allclose(played.value, answer.value, atol=margin)


def test_every_deterministic_policy_is_strictly_worse():
    problem = coin()
    answer = solve(problem, eps=1e-9)
    assert answer.policy[:2] == pytest.approx([0.5, 0.5], abs=1e-6)
    for action in (0, 1):
        policy = np.array([action, 0, 0], dtype=np.int32)
        assert solve(problem.restricted(policy), eps=1e-9).value[0] < answer.value[0] - 0.1


@every_ball
def test_a_helping_nature_gives_the_whole_budget_to_one_row(name):
    model = instances.make("garnet:states=6,actions=3,successors=3,discount=0.9,seed=4")
    ball = BALLS[name](0.3, 6, "nominal")
    shared = solve(RobustMDP(model, SRectangular(ball), optimistic=True), eps=1e-9)
    apart = solve(RobustMDP(model, ball, optimistic=True), eps=1e-9)
    np.testing.assert_allclose(shared.value, apart.value, atol=1e-8)
    assert shared.policy.dtype == np.int32


@every_ball
def test_the_value_falls_with_the_budget_and_lies_above_that_of_a_budget_for_each_row(name):
    model = instances.make("garnet:states=6,actions=3,successors=3,discount=0.9,seed=5")
    before = solve(model, eps=1e-9).value
    for radius in (0.0, 0.1, 0.4, 5.0):
        ball = BALLS[name](radius, 6, "nominal")
        shared = solve(RobustMDP(model, SRectangular(ball)), eps=1e-9).value
        assert (shared <= before + 1e-8).all()
        assert (shared >= solve(RobustMDP(model, ball), eps=1e-9).value - 1e-8).all()
        if radius == 0.0:
            np.testing.assert_allclose(shared, before, atol=1e-8)
        before = shared


def test_one_action_a_state_is_the_problem_of_its_rows():
    model = instances.make("garnet:states=6,actions=1,successors=3,discount=0.9,seed=5")
    shared, apart = solve(RobustMDP(model, SRectangular(L1(0.3))), eps=1e-9), solve(RobustMDP(model, L1(0.3)), eps=1e-9)
    np.testing.assert_allclose(shared.value, apart.value, atol=1e-8)


def test_one_set_a_state():
    model = instances.make("garnet:states=4,actions=2,successors=3,discount=0.9,seed=6")
    same = solve(RobustMDP(model, [SRectangular(L1(0.3))] * 4), eps=1e-9).value
    np.testing.assert_allclose(same, solve(RobustMDP(model, SRectangular(L1(0.3))), eps=1e-9).value, atol=1e-8)
    some = RobustMDP(model, [SRectangular(L1(0.3 * (state == 2))) for state in range(4)])
    answer = solve(some, eps=1e-9)
    assert check(some, answer.certificate)
    assert (answer.value >= same - 1e-8).all()
    weighted = RobustMDP(model, [SRectangular(WeightedL1(0.3, np.array([1.0, 2.0, 0.5, 1.0])))] * 4)
    assert check(weighted, solve(weighted, eps=1e-9).certificate)


@every_ball
@settings(deadline=None, max_examples=6)
@given(data=st.data())
def test_a_finite_horizon_is_proved_stage_by_stage(name, data):
    drawn = data.draw(problems(name))
    criterion = FiniteHorizon(3, 0.9, minimize=drawn.criterion.minimize)
    problem = RobustMDP(drawn.problem.replace(criterion=criterion), drawn.ambiguity, optimistic=drawn.optimistic)
    answer = solve(problem, eps=comfortable(drawn))
    assert check(problem, answer.certificate)
    operator, value = maximising(problem).operator, maximising(problem).terminal_value.copy()
    for stage in reversed(range(3)):
        image, policy = np.empty_like(value), operator.blank_policy()
        operator.apply(value, image, policy)
        value = image
        side = -1 if problem.criterion.minimize else 1
        np.testing.assert_allclose(answer.value[stage], side * value, atol=comfortable(drawn))
    stage = data.draw(st.integers(0, 2))
    spoilt = answer.certificate.upper.copy()
    spoilt[stage] = answer.certificate.lower[stage] - 1e-3 * (1 + np.abs(spoilt).max())
    with pytest.raises(CertificateRejected, match=f"at stage {stage}|at stage {stage - 1}|terminal state"):
        check(problem, dataclasses.replace(answer.certificate, upper=spoilt))


@every_ball
def test_a_bound_moved_past_the_optimum_is_refused(name):
    model = instances.riverswim()
    problem = RobustMDP(model, SRectangular(BALLS[name](0.1, model.n_states, "nominal")))
    good = solve(problem, eps=1e-6).certificate
    assert check(problem, good)
    for state in range(model.n_states):
        for bound, other, step in (("lower", "upper", 1e-3), ("upper", "lower", -1e-3)):
            spoilt = getattr(good, bound).copy()
            spoilt[state] = getattr(good, other)[state] + step
            with pytest.raises(CertificateRejected, match=r"state .* does not hold"):
                check(problem, dataclasses.replace(good, **{bound: spoilt}))


def test_what_is_spoilt_is_refused():
    problem = coin()
    good = solve(problem, eps=1e-9).certificate
    price, share = good.witness["price"], good.witness["share"]
    assert check(problem, good)
    greedy, negative, heavy = good.policy.copy(), good.policy.copy(), good.policy.copy()
    greedy[:2], negative[:2], heavy[0] = [1.0, 0.0], [1.5, -0.5], 0.65
    spoilt = {
        "lower <= T_policy lower does not hold": dataclasses.replace(good, policy=greedy),
        "must not be negative": dataclasses.replace(good, policy=negative),
        r"sum to 1\.1": dataclasses.replace(good, policy=heavy),
        "the policy has shape": dataclasses.replace(good, policy=np.zeros(3, dtype=np.int32)),
        "speaks of model": dataclasses.replace(good, model=forest().fingerprint),
        "needs price and share": dataclasses.replace(good, witness={"price": price}),
        "price has the entry -1": dataclasses.replace(good, witness={"price": price - 1 - price.min(), "share": share}),
        "shares sum to more than the budget": dataclasses.replace(good, witness={"price": price, "share": share + 0.1}),
        "lower of state 0 is not finite": dataclasses.replace(good, lower=np.full(3, np.nan)),
    }
    for match, certificate in spoilt.items():
        with pytest.raises(CertificateRejected, match=match):
            check(problem, certificate)


@pytest.mark.parametrize("ball", [KL(0.1), ChiSquare(0.1), Burg(0.1)], ids=str)
def test_witnesses_that_prove_less_are_refused_and_polyhedral_sets_need_none(ball):
    model = instances.make("garnet:states=4,actions=3,successors=3,discount=0.9,seed=7")
    for chosen, needed in ((ball, True), (L1(0.2), False), (WeightedL1(0.2, WEIGHTS), False)):
        problem = RobustMDP(model, SRectangular(chosen))
        good = solve(problem, eps=1e-9).certificate
        nothing = {name: np.zeros_like(array) for name, array in good.witness.items()}
        for name in ("price", "share"):
            bare = dataclasses.replace(good, witness=dict(good.witness) | {name: nothing[name]})
            if not needed:
                assert check(problem, bare).exact > 0
                continue
            with pytest.raises(CertificateRejected, match="does not hold"):
                check(problem, bare)


WEIGHTS = np.array([1.0, 0.5, 2.0, 1.0])


def test_equality_is_accepted_and_the_next_float_is_not():
    """Both of the coin's first actions are worth 1 on average; the budget moves 0.1 of the mass of each from 2 to 0."""
    problem = coin()
    witness = {"price": np.array([1.0, 0.0, 0.0]), "share": np.array([0.1, 0.1, 0.0, 0.0, 0.0, 0.0])}
    policy, value = np.array([0.5, 0.5, 1.0, 0.0, 1.0, 0.0]), np.array([0.0, 2.0, 0.0])
    worth = exact_worth(problem, 0, value)
    assert float(worth) == pytest.approx(0.8)
    lower, upper = value.copy(), value.copy()
    lower[0] = np.nextafter(0.8, -np.inf) if Fraction(float(worth)) > worth else float(worth)
    upper[0] = np.nextafter(0.8, np.inf) if Fraction(float(worth)) < worth else float(worth)
    verdict = check(problem, Certificate(lower, upper, policy, problem, witness))
    assert verdict.exact > 0
    for bound, way in (("lower", np.inf), ("upper", -np.inf)):
        beyond = {"lower": lower.copy(), "upper": upper.copy()}
        beyond[bound][0] = np.nextafter(np.nextafter(beyond[bound][0], way), way)
        with pytest.raises(CertificateRejected, match="state 0"):
            check(problem, Certificate(beyond["lower"], beyond["upper"], policy, problem, witness))


def test_a_certificate_survives_its_file(tmp_path):
    problem = coin()
    certificate = solve(problem, eps=1e-9).certificate
    certificate.save(tmp_path / "proof.npz")
    again = Certificate.load(tmp_path / "proof.npz")
    np.testing.assert_array_equal(again.policy, certificate.policy)
    assert check(problem, again)
    with pytest.raises(CertificateRejected, match="speaks of model"):
        check(RobustMDP(problem.problem, L1(0.4), transition_reward=problem.transition_reward), again)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda m: RobustMDP(m, [SRectangular(L1(0.1))] * 2), "2 s-rectangular sets for 3 states"),
        (lambda m: RobustMDP(m, [SRectangular(L1(0.1)), L1(0.1), L1(0.1)]), "some are not"),
        (lambda m: RobustMDP(m, [SRectangular(L1(0.1)), SRectangular(KL(0.1)), SRectangular(L1(0.1))]), "more than one family"),
        (lambda m: RobustMDP(m, SRectangular(L1(0.1)), decision=np.ones(6)), "state 0: the weights of its actions sum to 2.0"),
        (lambda m: RobustMDP(m, SRectangular(L1(0.1)), decision=np.ones(2)), "6 finite weights"),
        (lambda m: RobustMDP(m, L1(0.1)).restricted(np.full(6, 0.5)), "only SRectangular"),
        (lambda m: RobustMDP(m, SRectangular(WeightedL1(0.1, np.ones(2)))), "state 0, action 0"),
    ],
)
def test_what_does_not_fit_is_refused(build, words):
    with pytest.raises(ModelError, match=words):
        build(instances.make("forest:states=3,discount=0.9"))


def test_the_search_for_worst_cases_is_for_rows_apart():
    with pytest.raises(SolveError, match="use solve for SRectangular sets"):
        iwocs(forest(), 0)


def test_total_variation_is_half_of_l1():
    model = instances.make("forest:states=4,discount=0.9")
    halves = solve(RobustMDP(model, SRectangular(TotalVariation(0.2))), eps=1e-9).value
    np.testing.assert_allclose(halves, solve(RobustMDP(model, SRectangular(L1(0.4))), eps=1e-9).value, atol=1e-8)
