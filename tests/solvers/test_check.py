"""The checker is sound: what it accepts is true, and what has been tampered with is rejected at the place that is wrong."""

import dataclasses
from fractions import Fraction

import numpy as np
import pytest
from banach.mdp import MDP, AverageReward, Discounted, FiniteHorizon, TotalReward, strategies, sweeps
from banach.solvers import Certificate, CertificateRejected, check, solve
from banach.solvers.exact import row_signs, row_sum_at_least, sign_of_sum
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ..witness import finite_horizon_value, optimal_value, policy_value, rows, worth

battery = settings(deadline=None, max_examples=80, derandomize=True)
problems = strategies.discounted_mdps(max_states=4, minimize=st.booleans())
finite = strategies.finite_horizon_mdps(max_states=4, max_horizon=3, minimize=st.booleans())


def accepted(problem, certificate) -> bool:
    try:
        return bool(check(problem, certificate))
    except CertificateRejected:
        return False


def with_arrays(certificate: Certificate, **arrays) -> Certificate:
    return dataclasses.replace(certificate, **arrays)


def moved(vector: np.ndarray, where: int, amount: float) -> np.ndarray:
    changed = np.array(vector)
    changed.flat[where] += amount
    return changed


def is_true(problem: MDP, certificate: Certificate) -> bool:
    """Whether the discounted claim holds: both the optimum and the policy's value lie between the bounds."""
    values = optimal_value(problem)[0], policy_value(problem, certificate.policy)
    bounds = list(zip(certificate.lower.tolist(), certificate.upper.tolist(), strict=True))
    return all(Fraction(low) <= v <= Fraction(high) for value in values for v, (low, high) in zip(value, bounds, strict=True))


@given(problem=problems, data=st.data())
@battery
def test_whatever_vectors_the_checker_accepts_are_true_bounds(problem, data):
    exact = [float(v) for v in optimal_value(problem)[0]]
    size = st.sampled_from([0.0, 1e-12, 1e-6, 0.1, 10.0]) | st.floats(0, 1e3)
    sign = st.sampled_from([1.0, 1.0, 1.0, -1.0])
    lower = np.array([v - data.draw(size) * data.draw(sign) for v in exact])
    upper = np.array([v + data.draw(size) * data.draw(sign) for v in exact])
    policy = np.array([data.draw(st.integers(0, c - 1)) if c else -1 for c in np.diff(problem.state_ptr)], dtype=np.int32)
    certificate = Certificate(lower, upper, policy, problem)
    assert is_true(problem, certificate) or not accepted(problem, certificate)


def test_the_checker_accepts_and_rejects_random_claims_about_one_problem():
    problem, solved = example()
    rng = np.random.default_rng(1)
    outcomes = set()
    for size in 10.0 ** rng.uniform(-7, 0, size=200):
        below, above = size * rng.uniform(-0.1, 1, size=4) * (~problem.terminal), size * (~problem.terminal)
        forged = with_arrays(solved, lower=solved.lower - below, upper=solved.upper + above)
        outcomes.add((accepted(problem, forged), is_true(problem, forged)))
    assert outcomes == {(True, True), (False, True), (False, False)}


@given(problem=problems, where=st.integers(0, 3), factor=st.floats(1.01, 1e6))
@battery
def test_a_lower_bound_moved_up_by_more_than_the_width_is_rejected(problem, where, factor):
    certificate = solve(problem, eps=1e-4).certificate
    width = max(certificate.width, 1e-9 * np.abs(certificate.upper).max(), 1e-9)
    raised = moved(certificate.lower, where % problem.n_states, factor * width)
    with pytest.raises(CertificateRejected, match=r"state \d"):
        check(problem, with_arrays(certificate, lower=raised))


@given(problem=problems, where=st.integers(0, 3), factor=st.floats(1.01, 1e6))
@battery
def test_an_upper_bound_moved_down_by_more_than_the_width_is_rejected(problem, where, factor):
    certificate = solve(problem, eps=1e-4).certificate
    width = max(certificate.width, 1e-9 * np.abs(certificate.upper).max(), 1e-9)
    with pytest.raises(CertificateRejected, match=r"state \d"):
        check(problem, with_arrays(certificate, upper=moved(certificate.upper, where % problem.n_states, -factor * width)))


@given(problem=problems, data=st.data())
@battery
def test_a_policy_that_is_worse_than_claimed_is_rejected(problem, data):
    certificate = solve(problem, eps=1e-6).certificate
    policy = np.array([data.draw(st.integers(0, c - 1)) if c else -1 for c in np.diff(problem.state_ptr)], dtype=np.int32)
    changed = with_arrays(certificate, policy=policy)
    if accepted(problem, changed):
        assert is_true(problem, changed)
    assume(not is_true(problem, changed))
    with pytest.raises(CertificateRejected, match="lower <= T_policy lower"):
        check(problem, changed)


@given(problem=problems, data=st.data())
@battery
def test_a_certificate_of_another_model_is_rejected_by_its_fingerprint(problem, data):
    certificate = solve(problem, eps=1e-4).certificate
    name = data.draw(st.sampled_from(["reward", "terminal_value", "probability", "discount", "sense"]))
    if name == "discount":
        other = problem.replace(criterion=dataclasses.replace(problem.criterion, discount=problem.discount / 2 + 0.1))
    elif name == "sense":
        other = problem.replace(criterion=dataclasses.replace(problem.criterion, minimize=not problem.criterion.minimize))
    else:
        numbers = np.array(getattr(problem, name))
        assume(len(numbers) and (name != "terminal_value" or problem.terminal.any()))
        at = np.flatnonzero(problem.terminal)[0] if name == "terminal_value" else data.draw(st.integers(0, len(numbers) - 1))
        numbers[at] = np.nextafter(numbers[at], 0.5 if name == "probability" else np.inf)
        other = problem.replace(**{name: numbers})
    with pytest.raises(CertificateRejected, match="speaks of model"):
        check(other, certificate)


@given(problem=problems, data=st.data())
@battery
def test_a_certificate_with_a_forged_fingerprint_is_accepted_only_where_it_is_true(problem, data):
    certificate = solve(problem, eps=1e-4).certificate
    assume(problem.n_pairs)
    reward = moved(
        problem.reward, data.draw(st.integers(0, problem.n_pairs - 1)), data.draw(st.sampled_from([-1.0, 1e-3, 1.0]))
    )
    other = problem.replace(reward=reward)
    forged = with_arrays(certificate, model=other.fingerprint)
    assert is_true(other, forged) or not accepted(other, forged)


def example() -> tuple[MDP, Certificate]:
    rng = np.random.default_rng(0)
    transition = rng.dirichlet(np.ones(4), size=(4, 3))
    problem = MDP.from_dense(transition, rng.normal(size=(4, 3)), discount=0.9, layout="sas", terminal={3: 2.0})
    return problem, solve(problem).certificate


BROKEN = {
    "lower of the wrong shape": ({"lower": np.zeros(3)}, r"lower has shape \(3,\)"),
    "upper of two dimensions": ({"upper": np.zeros((4, 1))}, r"upper has shape \(4, 1\)"),
    "lower in single precision": ({"lower": np.zeros(4, dtype=np.float32)}, "float32"),
    "lower with nan": ({"lower": np.array([0, np.nan, 0, 0])}, "lower of state 1 is not finite"),
    "upper with infinity": ({"upper": np.array([0, 0, np.inf, 0])}, "upper of state 2 is not finite"),
    "lower of minus infinity": ({"lower": np.full(4, -np.inf)}, "not finite"),
    "a policy of floats": ({"policy": np.zeros(4)}, "the policy has shape"),
    "a short policy": ({"policy": np.zeros(2, dtype=np.int32)}, "the policy has shape"),
    "an action that does not exist": ({"policy": np.array([0, 3, 0, -1], dtype=np.int32)}, "state 1: the policy's action 3"),
    "no action": ({"policy": np.array([0, 0, -1, -1], dtype=np.int32)}, "state 2: the policy's action -1"),
    "an action in a terminal state": ({"policy": np.array([0, 0, 0, 0], dtype=np.int32)}, "state 3: the policy's action 0"),
    "a huge action": ({"policy": np.array([0, 0, 2**31 - 1, -1], dtype=np.int32)}, "state 2"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_malformed_certificates_are_rejected_by_name(fault):
    problem, certificate = example()
    arrays, message = BROKEN[fault]
    with pytest.raises(CertificateRejected, match=message):
        check(problem, with_arrays(certificate, **arrays))


def test_swapped_bounds_are_rejected():
    problem, certificate = example()
    with pytest.raises(CertificateRejected):
        check(problem, with_arrays(certificate, lower=certificate.upper, upper=certificate.lower))


def test_a_wrong_terminal_value_is_rejected_by_state():
    problem, certificate = example()
    with pytest.raises(CertificateRejected, match=r"terminal state 3: its value 2\.0 is not in"):
        check(problem, with_arrays(certificate, upper=moved(certificate.upper, 3, -1.0)))


def test_the_message_names_state_and_action():
    problem, certificate = example()
    named = problem.replace(state_names=["a", "b", "c", "d"], action_names=[f"act{k}" for k in range(problem.n_pairs)])
    with pytest.raises(CertificateRejected, match=r"state 1 \(b\), action act\d: T upper <= upper does not hold"):
        check(named, with_arrays(certificate, upper=moved(certificate.upper, 1, -1.0), model=named))


def test_a_row_as_heavy_as_the_discount_allows_is_rejected():
    problem = MDP(
        state_ptr=np.arange(2),
        row_ptr=np.arange(2),
        successor=np.array([0]),
        probability=np.array([1 + 4e-10]),
        reward=np.array([-1.0]),
        criterion=Discounted(1 - 1e-10),
    )
    claim = Certificate(np.array([-1e300]), np.array([-1e299]), np.zeros(1, dtype=np.int32), problem)
    with pytest.raises(CertificateRejected, match="discount times the sum of the row below one"):
        check(problem, claim)


def test_the_checker_runs_without_the_solvers_sweeps(monkeypatch):
    problem, certificate = example()

    def broken(*_):
        raise AssertionError("the checker called a sweep")

    kernels = [name for name in vars(sweeps) if callable(getattr(sweeps, name)) and hasattr(getattr(sweeps, name), "py_func")]
    assert "bellman" in kernels
    for name in kernels:
        monkeypatch.setattr(sweeps, name, broken)
    monkeypatch.setattr(MDP, "operator", property(broken))
    assert check(problem, certificate)


@given(problem=problems, data=st.data())
@battery
def test_signs_of_rows_are_exact_even_a_unit_in_the_last_place_from_zero(problem, data):
    problem = problem.negated() if problem.criterion.minimize else problem
    x = np.array([data.draw(st.sampled_from([0.1, 1 / 3, -7.7, 1e8, 1e-8])) for _ in range(problem.n_states)])
    exact = [Fraction(v) for v in x]
    y = np.zeros(problem.n_states)
    q = [[worth(row, Fraction(problem.discount), exact) for row in actions] for actions in rows(problem)]
    for state, values in enumerate(q):
        if values:
            near = float(values[0])
            y[state] = data.draw(st.sampled_from([near, np.nextafter(near, np.inf), np.nextafter(near, -np.inf)]))
    signs, _ = row_signs(problem, np.arange(problem.n_pairs), x, [y], weights=False)
    differences = [v - Fraction(y[state]) for state, values in enumerate(q) for v in values]
    assert signs.tolist() == [(d > 0) - (d < 0) for d in differences]


@given(st.lists(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=3), max_size=6))
@settings(deadline=None, max_examples=300, derandomize=True)
def test_the_sign_of_a_sum_of_products_is_exact(terms):
    total = sum((Fraction(1) * np.prod([Fraction(x) for x in term], dtype=object) for term in terms), Fraction(0))
    assert sign_of_sum([tuple(term) for term in terms]) == (total > 0) - (total < 0)


@given(mass=st.sampled_from([1.0, 1 + 4e-10, 1 - 4e-10]), discount=st.floats(0.999999999, 0.9999999999999999))
@battery
def test_whether_a_row_reaches_one_over_the_discount_is_decided_exactly(mass, discount):
    problem = MDP(
        state_ptr=np.arange(2),
        row_ptr=np.array([0, 2]),
        successor=np.zeros(2, dtype=np.int32),
        probability=np.array([0.5, mass - 0.5]),
        reward=np.zeros(1),
        criterion=Discounted(discount),
    )
    heavy = Fraction(discount) * (Fraction(0.5) + Fraction(mass - 0.5)) >= 1
    assert row_sum_at_least(problem, 0, discount) == heavy


@given(problem=finite, stage=st.integers(0, 3), where=st.integers(0, 3), up=st.booleans())
@battery
def test_a_bound_of_a_finite_horizon_moved_beyond_the_width_is_rejected(problem, stage, where, up):
    certificate = solve(problem, eps=1e-4).certificate
    amount = 1.1 * max(certificate.width, 1e-9 * np.abs(certificate.upper).max(), 1e-9)
    at = (stage % len(certificate.lower)) * problem.n_states + where % problem.n_states
    lower = moved(certificate.lower, at, amount) if up else certificate.lower
    upper = certificate.upper if up else moved(certificate.upper, at, -amount)
    with pytest.raises(CertificateRejected):
        check(problem, with_arrays(certificate, lower=lower, upper=upper))


@given(problem=finite)
@battery
def test_the_certificate_of_a_finite_horizon_contains_backward_induction_in_fractions(problem):
    certificate = solve(problem, eps=1e-4).certificate
    assert check(problem, certificate)
    for low, exact, high in zip(
        certificate.lower.tolist(), finite_horizon_value(problem), certificate.upper.tolist(), strict=True
    ):
        assert all(Fraction(a) <= v <= Fraction(b) for a, v, b in zip(low, exact, high, strict=True))


def one_state_trap(criterion, reward: float = 0.0, **more) -> MDP:
    """State 0 may stay for `reward`, or leave for the goal (state 1, worth 1) with probability 1/2, else for the sink (2)."""
    return MDP(
        state_ptr=np.array([0, 2, 2, 2]),
        row_ptr=np.array([0, 1, 3]),
        successor=np.array([0, 1, 2]),
        probability=np.array([1.0, 0.5, 0.5]),
        reward=np.array([reward, 0.0]),
        criterion=criterion,
        terminal=np.array([False, True, True]),
        terminal_value=np.array([0.0, 1.0, 0.0]),
        **more,
    )


def claim(problem: MDP, lower: float, upper: float, action: int) -> Certificate:
    ends = problem.terminal_value[1:].tolist()
    policy = np.array([action, -1, -1], dtype=np.int32)
    return Certificate(np.array([lower, *ends]), np.array([upper, *ends]), policy, problem)


def test_an_optimistic_guess_below_the_reachability_probability_is_never_accepted():
    problem = one_state_trap(TotalReward())
    assert check(problem, claim(problem, 0.5 - 1e-9, 0.5, 1))
    for guess in (0.0, 0.25, float(np.nextafter(0.5, 0))):
        with pytest.raises(CertificateRejected, match="action 1: T upper <= upper does not hold"):
            check(problem, claim(problem, 0.0, guess, 1))


def test_a_loop_that_only_repeats_its_own_promise_proves_nothing():
    problem = one_state_trap(TotalReward())
    with pytest.raises(CertificateRejected, match="strictly where lower > 0"):
        check(problem, claim(problem, 0.4, 1.0, 0))
    assert check(problem, claim(problem, 0.0, 1.0, 0))


def test_a_loop_that_only_repeats_its_own_cost_bounds_nothing():
    problem = one_state_trap(TotalReward()).replace(terminal_value=np.array([0.0, -3.0, -3.0]))
    with pytest.raises(CertificateRejected, match="strictly where upper < 0"):
        check(problem, claim(problem, -3.0, -1.0, 1))
    assert check(problem, claim(problem, -3.0, 0.0, 1))


def test_minimal_reachability_is_the_mirror_image():
    problem = one_state_trap(TotalReward(minimize=True))
    assert check(problem, claim(problem, 0.0, 0.0, 0))
    assert check(problem, claim(problem, 0.0, 0.75, 1))
    with pytest.raises(CertificateRejected):
        check(problem, claim(problem, 0.1, 0.75, 1))


def cycle(criterion=None) -> MDP:
    """Two states that alternate, paid 1 and 0: the gain is 1/2, and no bias makes value iteration settle."""
    return MDP(
        state_ptr=np.arange(3),
        row_ptr=np.arange(3),
        successor=np.array([1, 0]),
        probability=np.ones(2),
        reward=np.array([1.0, 0.0]),
        criterion=criterion or AverageReward(),
    )


def gain_claim(problem: MDP, lower: float, upper: float, bias: float) -> Certificate:
    witness = {"lower_bias": np.array([bias, 0.0]), "upper_bias": np.array([bias, 0.0])}
    return Certificate(np.full(2, lower), np.full(2, upper), np.zeros(2, dtype=np.int32), problem, witness)


def test_the_gain_of_a_periodic_chain_is_proved_by_its_bias():
    problem = cycle()
    assert check(problem, gain_claim(problem, 0.5, 0.5, 0.5))
    for lower, upper, bias in ((0.5 + 1e-15, 1.0, 0.5), (0.0, 0.5 - 1e-15, 0.5), (0.5, 0.5, 0.4)):
        with pytest.raises(CertificateRejected, match="bias"):
            check(problem, gain_claim(problem, lower, upper, bias))


def test_an_average_reward_proof_without_its_biases_is_rejected():
    problem = cycle()
    bare = with_arrays(gain_claim(problem, 0.5, 0.5, 0.5), witness={})
    with pytest.raises(CertificateRejected, match="needs lower_bias and upper_bias"):
        check(problem, bare)


@pytest.mark.parametrize("criterion", [TotalReward(), AverageReward()], ids=str)
def test_rows_of_undiscounted_problems_are_weights(criterion):
    heavy = np.array([1 + 4e-10, 1 - 4e-10])
    if isinstance(criterion, AverageReward):
        problem = cycle().replace(probability=heavy)
        assert check(problem, gain_claim(problem, 0.5, 0.5, 0.5))
    else:
        problem = one_state_trap(criterion).replace(probability=np.array([1 + 4e-10, 0.5 + 2e-10, 0.5 + 2e-10]))
        assert check(problem, claim(problem, 0.5 - 1e-12, 0.5, 1))


@pytest.mark.parametrize(
    "criterion", [Discounted(0.5), FiniteHorizon(2), TotalReward(), AverageReward()], ids=lambda c: type(c).__name__
)
def test_a_proof_of_one_criterion_does_not_pass_for_another(criterion):
    problem = cycle()
    certificate = gain_claim(problem, 0.5, 0.5, 0.5)
    if criterion == problem.criterion:
        return
    with pytest.raises(CertificateRejected):
        check(problem.replace(criterion=criterion), certificate)
