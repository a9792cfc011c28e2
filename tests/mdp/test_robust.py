"""Robust problems: the model and its operator, against slow Python and published values."""

import numpy as np
import pytest
from banach.mdp import MDP, ModelError, RobustMDP, TotalReward, instances, strategies
from banach.mdp.ambiguity import L1, Contamination, CVaR, Interval, LInfinity, Scenarios, TotalVariation, WeightedL1
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

SETS = st.sampled_from(
    [
        L1(0.3),
        TotalVariation(0.5, support="all"),
        LInfinity(0.1),
        CVaR(0.4),
        Contamination(0.2),
        Contamination(0.3, support="all"),
    ]
)


@st.composite
def robust_mdps(draw, max_states=4):
    """A discounted problem, minimising or not, a set, and nature on either side."""
    model = draw(strategies.discounted_mdps(max_states=max_states))
    ambiguity, optimistic = draw(SETS), draw(st.booleans())
    gain = None
    if draw(st.booleans()) and ambiguity.support == "nominal":
        rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
        gain = rng.integers(-2, 3, size=model.n_transitions).astype(float)
    return RobustMDP(model, ambiguity, optimistic=optimistic, transition_reward=gain)


def maximising(problem):
    return problem.negated() if problem.criterion.minimize else problem


def inner(ambiguity, nominal, z):
    """min p.z by linear programming, written from the sets' definitions."""
    n, mass = len(z), float(nominal.sum())
    low, high = np.zeros(n), np.full(n, np.inf)
    match ambiguity:
        case L1(radius=psi) | TotalVariation(radius=psi):
            psi = psi if isinstance(ambiguity, L1) else 2 * psi
            # p - nominal = a - b with a, b >= 0
            cost = np.concatenate((z, -z))
            result = linprog(
                cost,
                A_ub=np.vstack((np.ones((1, 2 * n)), np.hstack((-np.eye(n), np.eye(n))))),
                b_ub=np.concatenate(([psi], nominal)),
                A_eq=np.concatenate((np.ones(n), -np.ones(n)))[None],
                b_eq=[0.0],
            )
            return float(nominal @ z) + result.fun
        case LInfinity(radius=psi):
            low, high = np.maximum(0, nominal - psi), nominal + psi
        case CVaR(level=alpha):
            high = nominal / alpha
        case Contamination(radius=eps):
            return float((1 - eps) * nominal @ z + eps * mass * z.min())
    result = linprog(z, A_eq=np.ones((1, n)), b_eq=[mass], bounds=np.stack((low, high), axis=1))
    return result.fun


def slow_worth(problem, pair, value):
    """q_k(v)."""
    model = problem.problem
    row = slice(int(model.row_ptr[pair]), int(model.row_ptr[pair + 1]))
    gain = 0.0 if problem.transition_reward is None else problem.transition_reward[row]
    z = gain + model.discount * value[model.successor[row]]
    side = -1 if problem.optimistic else 1
    return float(model.reward[pair]) + side * inner(problem.set_of(pair), model.probability[row], side * z)


@settings(max_examples=60, deadline=None)
@given(robust_mdps(), st.integers(0, 2**32 - 1))
def test_the_operator_is_the_best_worst_row(problem, seed):
    problem = maximising(problem)
    value = np.random.default_rng(seed).normal(size=problem.n_states)
    value[problem.terminal] = problem.terminal_value[problem.terminal]
    operator = problem.operator
    out, policy = np.empty_like(value), np.empty(problem.n_states, dtype=np.int32)
    operator.apply(value, out, policy)
    ptr = problem.problem.state_ptr
    for s in np.flatnonzero(~problem.terminal):
        worths = [slow_worth(problem, k, value) for k in range(ptr[s], ptr[s + 1])]
        assert out[s] == pytest.approx(max(worths), rel=1e-7, abs=1e-6)
        assert worths[policy[s]] == pytest.approx(max(worths), rel=1e-7, abs=1e-6)
    again = np.empty_like(value)
    operator.apply_policy(policy, value, again)
    np.testing.assert_array_equal(again, out)
    lower, upper = np.empty_like(value), np.empty_like(value)
    operator.enclose(value, policy, lower, upper)
    assert (lower <= out + 1e-12 * np.abs(out)).all()
    assert (out - 1e-12 * np.abs(out) <= upper).all()
    assert (upper - lower <= 1e-10 * (1 + np.abs(out))).all()


@settings(max_examples=40, deadline=None)
@given(robust_mdps(), st.integers(0, 2**32 - 1))
def test_a_frozen_chain_touches_the_policys_operator_and_lies_on_natures_far_side(problem, seed):
    problem = maximising(problem)
    rng = np.random.default_rng(seed)
    value = rng.normal(size=problem.n_states)
    operator = problem.operator
    out, policy = np.empty_like(value), np.empty(problem.n_states, dtype=np.int32)
    operator.apply(value, out, policy)
    chain, only = operator.frozen(policy, value).operator, np.minimum(policy, 0).astype(np.int32)
    image = np.empty_like(value)
    chain.apply_policy(only, value, image)
    np.testing.assert_allclose(image, out, atol=1e-9)
    other = rng.normal(size=problem.n_states)
    nature = np.empty_like(value)
    chain.apply_policy(only, other, image)
    operator.apply_policy(policy, other, nature)
    side = -1 if problem.optimistic else 1
    assert (side * (image - nature) >= -1e-9).all()


@settings(max_examples=30, deadline=None)
@given(strategies.discounted_mdps(max_states=5))
def test_radius_zero_is_the_nominal_problem(model):
    model = model.negated() if model.criterion.minimize else model
    robust = RobustMDP(model, L1(0.0))
    value = np.linspace(-1, 1, model.n_states)
    out, same, policy = np.empty_like(value), np.empty_like(value), np.empty(model.n_states, dtype=np.int32)
    robust.operator.apply(value, out, policy)
    model.operator.apply(value, same, policy)
    np.testing.assert_allclose(out, same, atol=1e-12 * (1 + float(np.abs(same).max())))


def test_one_set_a_pair():
    model = instances.make("forest:states=3,discount=0.9")
    sets = [L1(0.1 * k) for k in range(model.n_pairs)]
    problem = RobustMDP(model, sets)
    value = np.array([1.0, 2.0, 4.0])
    out, policy = np.empty(3), np.empty(3, dtype=np.int32)
    problem.operator.apply(value, out, policy)
    worths = [slow_worth(problem, k, value) for k in range(model.n_pairs)]
    assert out == pytest.approx([max(worths[0:2]), max(worths[2:4]), max(worths[4:6])])


def test_arrays_of_one_set_run_over_the_states():
    model = instances.make("riverswim:states=6,discount=0.95")
    weights = np.linspace(1.0, 2.0, 6)
    problem = RobustMDP(model, WeightedL1(0.2, weights))
    for pair in range(model.n_pairs):
        row = slice(int(problem.row_ptr[pair]), int(problem.row_ptr[pair + 1]))
        np.testing.assert_array_equal(problem.entries_of(pair)[0], weights[problem.problem.successor[row]])


def test_rows_of_one_set_without_a_nominal_row_run_over_the_states():
    """Two states that stay where they are; nature may send either anywhere, with a fair coin."""
    model = MDP.from_dense(np.eye(2)[:, None], np.array([[1.0], [0.0]]), 0.5, layout="sas")
    for ambiguity in (Scenarios(np.array([[0.5, 0.5]])), Interval(np.array([0.5, 0.5]), np.array([1.0, 1.0]))):
        problem = RobustMDP(model, ambiguity)
        out, policy = np.empty(2), np.empty(2, dtype=np.int32)
        problem.operator.apply(np.array([4.0, 2.0]), out, policy)
        assert out == pytest.approx([1 + 0.5 * 3, 0.5 * 3])


def test_negation_keeps_the_numbers_and_natures_side():
    model = instances.make("forest:states=4,discount=0.9")
    problem = RobustMDP(model, L1(0.2))
    assert problem.negated().negated().fingerprint == problem.fingerprint
    assert not problem.negated().optimistic
    assert RobustMDP(model, L1(0.3)).fingerprint != problem.fingerprint


def forest():
    return instances.make("forest:states=3,discount=0.9")


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: RobustMDP(forest(), [L1(0.1)]), "1 ambiguity sets for 6"),
        (lambda: RobustMDP(forest(), []), "list of ambiguity sets is empty"),
        (lambda: RobustMDP(forest(), 0.1), "give an ambiguity set"),
        (lambda: RobustMDP(forest(), [L1(0.1), CVaR(0.5)] * 3), "more than one family"),
        (lambda: RobustMDP(forest(), [L1(0.1), L1(0.1, support="all")] * 3), "family or support"),
        (lambda: RobustMDP(forest().replace(criterion=TotalReward()), L1(0.1)), "of finite horizon or averaged"),
        (lambda: RobustMDP(forest(), L1(0.1), transition_reward=np.zeros(2)), "transition_reward must be"),
        (lambda: RobustMDP(forest(), L1(0.1, support="all"), transition_reward=np.zeros(9)), "store every state"),
        (lambda: RobustMDP(forest(), WeightedL1(0.1, np.ones(2))), "state 0, action 0"),
        (lambda: RobustMDP(forest(), Scenarios(np.ones((1, 2)) / 2)), "state 0, action 0"),
        (lambda: RobustMDP.intervals(forest(), np.zeros(9), np.full(9, 0.3)), "state 0, action 0"),
        (lambda: RobustMDP.intervals(forest(), np.zeros(2), np.ones(2)), "shapes"),
    ],
)
def test_what_does_not_fit_is_refused(build, words):
    with pytest.raises(ModelError, match=words):
        build()


def test_a_table_is_not_spread_beyond_what_an_index_can_name():
    model = MDP.from_callable(lambda s: {"on": [(1.0, (s + 1) % 70_000, 0.0)]}, [0], 0.9)
    with pytest.raises(ModelError, match="more than 2\\^31"):
        RobustMDP(model, L1(0.1, support="all"))
