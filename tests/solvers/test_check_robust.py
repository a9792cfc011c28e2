"""The robust checker: it proves what holds, for every set and criterion, and refuses what is spoilt, saying where."""

import dataclasses
from fractions import Fraction

import numpy as np
import pytest
from banach.mdp import Discounted, FiniteHorizon, RobustMDP, ambiguity, instances, strategies
from banach.mdp.instances.rows import from_lists
from banach.solvers import Certificate, CertificateRejected, check, solve
from banach.solvers.exact_ambiguity import exact_sigma
from banach.solvers.filter_robust import enclosed_rows
from hypothesis import given, settings
from hypothesis import strategies as st

from ..mdp.ambiguity_witness import SETS

ARRAYS = ("Interval", "Scenarios", "Polytope", "ModelCVaR", "WeightedL1", "Wasserstein")
FAMILIES = [registered for registered in SETS if registered.name not in ARRAYS]
every_set = pytest.mark.parametrize("registered", SETS, ids=lambda registered: registered.name)
UNIT = 2.0**-52


@st.composite
def robust_mdps(draw, registered, criterion=None):
    """A small problem, one set a pair, nature on either side, rewards of transitions or none."""
    model = draw(strategies.discounted_mdps(max_states=4))
    strength, seed = draw(st.sampled_from([0.0, 1e-12, 0.05, 0.3, 1.0])), draw(st.integers(0, 999))
    if criterion is not None:
        model = model.replace(criterion=dataclasses.replace(criterion, minimize=model.criterion.minimize))
    rows = [model.probability[slice(*model.row_ptr[k : k + 2])] for k in range(model.n_pairs)]
    if registered.at(strength, np.ones(1), seed, "nominal").contains_nominal:  # such sets speak of positive entries alone
        rows = [row[row > 0] for row in rows]
    sets = [registered.at(strength, row, seed + k, "nominal") for k, row in enumerate(rows)]
    chosen = sets if sets else ambiguity.L1(0.1)
    gain = np.random.default_rng(seed).integers(-2, 3, model.n_transitions).astype(float) if draw(st.booleans()) else None
    return RobustMDP(model, chosen, optimistic=draw(st.booleans()), transition_reward=gain)


def exact_rows(problem, x):
    """r_k + nature's extreme, as fractions, for every pair of a problem."""
    model, found = problem.problem, []
    turned = -1 if problem.optimistic else 1
    for k in range(model.n_pairs):
        row = slice(*model.row_ptr[k : k + 2].tolist())
        z = [Fraction(model.discount) * Fraction(float(x[j])) for j in model.successor[row]]
        if problem.transition_reward is not None:
            z = [a + Fraction(float(b)) for a, b in zip(z, problem.transition_reward[row], strict=True)]
        low, high = exact_sigma(problem.set_of(k), model.probability[row], [turned * v for v in z])
        low, high = (low, high) if turned > 0 else (-high, -low)
        found.append((Fraction(float(model.reward[k])) + low, Fraction(float(model.reward[k])) + high))
    return found


def comfortable(problem):
    """A width that rounding allows."""
    size = 1 + float(np.abs(problem.reward).max(initial=0.0)) + float(np.abs(problem.terminal_value).max())
    return 1e-6 * size / (1 - problem.problem.discount)


@every_set
@settings(deadline=None, max_examples=12)
@given(data=st.data())
def test_what_solve_answers_is_proved(registered, data):
    problem = data.draw(robust_mdps(registered))
    verdict = check(problem, solve(problem, eps=comfortable(problem)).certificate)
    assert verdict
    assert verdict.rows == problem.n_pairs + int((~problem.terminal).sum())


@every_set
@settings(deadline=None, max_examples=15)
@given(data=st.data())
def test_the_filter_encloses_the_exact_rows(registered, data):
    problem = data.draw(robust_mdps(registered))
    scale = data.draw(st.sampled_from([1.0, 1e-9, 1e9]))
    x = scale * np.array(data.draw(st.lists(st.floats(-5, 5), min_size=problem.n_states, max_size=problem.n_states)))
    low, high = enclosed_rows(problem, np.arange(problem.n_pairs), x)
    for k, (below, above) in enumerate(exact_rows(problem, x)):
        assert Fraction(float(low[k])) <= below
        assert above <= Fraction(float(high[k]))


@every_set
@settings(deadline=None, max_examples=10)
@given(data=st.data())
def test_a_finite_horizon_is_proved_stage_by_stage(registered, data):
    problem = data.draw(robust_mdps(registered, FiniteHorizon(3, 0.9)))
    certificate = _staged(problem)
    assert check(problem, certificate)
    stage, state = data.draw(st.integers(0, 2)), data.draw(st.integers(0, problem.n_states - 1))
    size = 1 + float(np.abs(certificate.upper).max())
    for name, step in (("lower", 1e-3 * size), ("upper", -1e-3 * size)):
        array = getattr(certificate, name).copy()
        array[stage, state] += step
        with pytest.raises(CertificateRejected, match=f"at stage {stage}|terminal state"):
            check(problem, dataclasses.replace(certificate, **{name: array}))


def _staged(problem):
    """Backward induction by exact rows, rounded outwards."""
    maximal = problem.negated() if problem.criterion.minimize else problem
    model, horizon = maximal.problem, problem.criterion.horizon
    lower, upper = np.tile(model.terminal_value, (2, horizon + 1, 1))
    policy = np.full((horizon, model.n_states), -1, dtype=np.int32)
    for stage in reversed(range(horizon)):
        low, high = exact_rows(maximal, lower[stage + 1]), exact_rows(maximal, upper[stage + 1])
        for state in np.flatnonzero(~model.terminal):
            pairs = range(model.state_ptr[state], model.state_ptr[state + 1])
            best = max(pairs, key=lambda k: low[k][0])
            policy[stage, state] = best - model.state_ptr[state]
            lower[stage, state] = np.nextafter(float(low[best][0]), -np.inf)
            upper[stage, state] = np.nextafter(float(max(high[k][1] for k in pairs)), np.inf)
    if problem.criterion.minimize:
        lower, upper = -upper, -lower
    return Certificate(lower, upper, policy, problem)


@pytest.mark.parametrize("registered", FAMILIES, ids=lambda registered: registered.name)
@pytest.mark.parametrize("optimistic", [False, True])
def test_a_bound_moved_past_the_optimum_is_refused(registered, optimistic):
    model = instances.riverswim()
    problem = RobustMDP(model, registered.at(0.1, model.probability[:2], 0, "nominal"), optimistic=optimistic)
    good = solve(problem, eps=1e-6).certificate
    assert check(problem, good)
    for state in range(model.n_states):
        for name, other, step in (("lower", "upper", 1e-3), ("upper", "lower", -1e-3)):
            spoilt = getattr(good, name).copy()
            spoilt[state] = getattr(good, other)[state] + step
            with pytest.raises(CertificateRejected, match=r"state .*, action .* does not hold"):
                check(problem, dataclasses.replace(good, **{name: spoilt}))


@pytest.mark.parametrize("registered", FAMILIES, ids=lambda registered: registered.name)
def test_the_nominal_problems_certificate_does_not_prove_the_robust_one(registered):
    model = instances.riverswim()
    problem = RobustMDP(model, registered.at(0.1, model.probability[:2], 0, "nominal"))
    nominal = dataclasses.replace(solve(model, eps=1e-6).certificate, model=problem)
    with pytest.raises(CertificateRejected, match="lower <= T_policy lower does not hold"):
        check(problem, nominal)


def test_a_policy_that_does_not_guarantee_the_bound_is_refused():
    problem = RobustMDP(instances.riverswim(), ambiguity.L1(0.1))
    good = solve(problem, eps=1e-6).certificate
    other = good.policy.copy()
    other[2] = 1 - other[2]
    with pytest.raises(CertificateRejected, match=r"state 2.*lower <= T_policy lower"):
        check(problem, dataclasses.replace(good, policy=other))


@pytest.mark.parametrize("radius", [0.25, 0.375])
def test_equality_is_accepted_and_the_next_float_is_not(radius):
    # One state pays 1 and stays, another pays nothing for ever; nature moves half the radius: v = 1 + (1 - radius/2) v / 2.
    model = from_lists([[(1.0, {0: 0.5, 1: 0.5})], [(0.0, {1: 1.0})]], Discounted(0.5))
    problem = RobustMDP(model, ambiguity.L1(radius))
    exact = 1 / (1 - Fraction(1, 2) * (Fraction(1, 2) - Fraction(radius) / 2))
    value = np.array([float(exact), 0.0])
    policy = np.zeros(2, dtype=np.int32)
    side = Fraction(float(exact)) - exact
    lower, upper = value.copy(), value.copy()
    lower[0] = np.nextafter(value[0], 0) if side > 0 else value[0]
    upper[0] = np.nextafter(value[0], 9) if side < 0 else value[0]
    assert check(problem, Certificate(lower, upper, policy, problem))
    for name, array, way in (("lower", lower, np.inf), ("upper", upper, -np.inf)):
        beyond = array.copy()
        beyond[0] = np.nextafter(np.nextafter(array[0], way), way)
        with pytest.raises(CertificateRejected, match="state 0, action 0"):
            check(problem, Certificate(*((beyond, upper) if name == "lower" else (lower, beyond)), policy, problem))


def test_other_faults_are_named():
    problem = RobustMDP(instances.forest(), ambiguity.KL(0.1))
    good = solve(problem, eps=1e-6).certificate
    spoilt = {
        "speaks of model": dataclasses.replace(good, model="0" * 64),
        "lower has shape": dataclasses.replace(good, lower=good.lower[:-1].copy()),
        "upper has shape .*float32": dataclasses.replace(good, upper=good.upper.astype(np.float32)),
        "lower of state 1 is not finite": dataclasses.replace(good, lower=np.array([0.0, np.nan, 0.0])),
        "the policy has shape": dataclasses.replace(good, policy=good.policy.astype(float)),
        "action 7 is not one of its 2": dataclasses.replace(good, policy=np.array([0, 7, 0], dtype=np.int32)),
        "needs no further vectors": dataclasses.replace(good, witness={"bias": np.zeros(3)}),
    }
    for match, certificate in spoilt.items():
        with pytest.raises(CertificateRejected, match=match):
            check(problem, certificate)


def test_a_terminal_state_keeps_its_value():
    model = from_lists([[(1.0, {0: 0.5, 1: 0.5})], 3.0], Discounted(0.5))
    problem = RobustMDP(model, ambiguity.TotalVariation(0.1))
    good = solve(problem, eps=1e-6).certificate
    assert check(problem, good)
    with pytest.raises(CertificateRejected, match="terminal state 1"):
        check(problem, dataclasses.replace(good, lower=good.lower + np.array([0.0, 1e-9])))


def test_a_change_of_the_set_is_a_change_of_the_problem():
    model = instances.riverswim()
    good = solve(RobustMDP(model, ambiguity.L1(0.1)), eps=1e-6).certificate
    with pytest.raises(CertificateRejected, match="speaks of model"):
        check(RobustMDP(model, ambiguity.L1(0.1 * (1 + UNIT))), good)


def test_rows_of_nature_that_do_not_contract_are_refused():
    discount = 1 - 2.0**-53
    model = from_lists([[(0.0, {0: 1.0})]], Discounted(discount))
    heavy = ambiguity.Scenarios(np.array([[1 + 2.0**-51]]))
    problem = RobustMDP(model, [heavy])
    zero = np.zeros(1)
    with pytest.raises(CertificateRejected, match="not below one"):
        check(problem, Certificate(zero, zero, np.zeros(1, dtype=np.int32), problem))
    assert check(
        RobustMDP(model, ambiguity.L1(0.1)), Certificate(zero, zero, np.zeros(1, np.int32), RobustMDP(model, ambiguity.L1(0.1)))
    )
