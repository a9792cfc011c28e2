"""Brackets on laws of returns hold the exact laws, close where nothing is rounded, and prove themselves or are rejected."""

import dataclasses
from fractions import Fraction

import numpy as np
import pytest
from banach.mdp import MDP, Discounted, FiniteHorizon, ModelError, TotalReward, instances, strategies
from banach.mdp.instances.rows import from_lists
from banach.mdp.law import Law, stochastically_below
from banach.mdp.law_functional import MEAN, TARGET, CVaR, Entropic, VaR
from banach.mdp.law_lattice import Lattice
from banach.mdp.outcome import OutcomeMDP
from banach.solvers import CertificateRejected, LawCertificate, SolveError, check_laws, return_laws, solve
from hypothesis import given, settings
from hypothesis import strategies as st

from .return_witness import returns

FAST = settings(deadline=None, max_examples=25)
REWARDS = st.sampled_from([0.0, 1.0, -1.0, 2.0, 0.1, -1 / 3])


@st.composite
def with_rewards(draw, models, rewards=REWARDS):
    problem = draw(models)
    return OutcomeMDP(problem, [draw(rewards) for _ in range(problem.n_transitions)])


def finite(discounts, rewards=REWARDS):
    models = strategies.finite_horizon_mdps(max_states=3, max_horizon=4, discounts=discounts, rewards=rewards, max_terminal=1)
    return with_rewards(models, rewards)


def a_policy(model, data):
    counts = np.diff(model.problem.state_ptr)
    row = st.tuples(*(st.integers(0, c - 1) if c else st.just(-1) for c in counts))
    rows = model.horizon or 1
    table = np.array([data.draw(row) for _ in range(rows)], dtype=np.int32)
    return table[0] if model.horizon is None else table if model.horizon else table[:0]


def law_of(spread):
    return Law.of(list(spread), list(spread.values()))


def bracketed(found, law, state):
    return stochastically_below(found.lower(state), law) and stochastically_below(law, found.upper(state))


@FAST
@given(finite(st.sampled_from([1.0, 0.5, 0.9])), st.data(), st.sampled_from([3, 7, 60]))
def test_the_listed_law_of_a_finite_horizon_lies_between(model, data, atoms):
    policy = a_policy(model, data)
    found = return_laws(model, policy, atoms=atoms)
    assert check_laws(model, found.certificate)
    for state in range(model.n_states):
        law = law_of(returns(model.problem, model.transition_reward, policy, state, model.horizon))
        assert bracketed(found, law, state)
        for functional in (MEAN, CVaR(Fraction(1, 4)), VaR(Fraction(1, 2))):
            low, high = found.interval(functional, state)
            assert low <= functional(law) <= high
        low, high = found.probability(state, 0.5)
        assert low <= law.cdf(Fraction(1, 2)) <= high


@FAST
@given(finite(st.just(1.0), st.sampled_from([0.0, 1.0, -2.0, 0.5])), st.data())
def test_without_discount_laws_on_an_integer_lattice_are_exact_up_to_rounding_of_weights(model, data):
    policy = a_policy(model, data)
    found = return_laws(model, policy)
    assert check_laws(model, found.certificate)
    for state in range(model.n_states):
        law = law_of(returns(model.problem, model.transition_reward, policy, state, model.horizon))
        low, high = found.lower(state), found.upper(state)
        assert max(abs(low.cdf(x) - law.cdf(x)) for x in law.atoms.tolist()) < 1e-12
        assert max(abs(high.cdf(x) - law.cdf(x)) for x in law.atoms.tolist()) < 1e-12
        spread = max(law.atoms) - min(law.atoms)
        assert len(law.atoms) <= 2 * spread + 1  # at most one atom a lattice point


@FAST
@given(
    with_rewards(strategies.discounted_mdps(max_states=3, discounts=st.sampled_from([0.5, 0.3, 0.75]), rewards=REWARDS)),
    st.data(),
    st.sampled_from([5, 100]),
)
def test_the_law_of_a_discounted_return_lies_between(model, data, atoms):
    policy = a_policy(model, data)
    found = return_laws(model, policy, atoms=atoms)
    assert check_laws(model, found.certificate)
    low, high = (Fraction(end) for end in model.returns_within())
    for state in range(model.n_states):
        below, above = (
            law_of(returns(model.problem, model.transition_reward, [policy] * 5, state, 5, end)) for end in (low, high)
        )
        assert stochastically_below(below, above)
        assert stochastically_below(found.lower(state), above)
        assert stochastically_below(below, found.upper(state))
        assert stochastically_below(found.lower(state), found.upper(state))


def coin(discount=0.5, terminal=False):
    """Rewards 0 or 1, a fair coin each step: at discount 1/2 the return is uniform on [0, 2]."""
    problem = MDP([0, 1], [0, 2], np.array([0, 0], dtype=np.int32), [0.5, 0.5], [0.0], Discounted(discount))
    return OutcomeMDP(problem, [0.0, 1.0])


@pytest.mark.parametrize("atoms", [16, 256, 4096])
def test_the_binary_expansion_is_uniform_and_the_bracket_closes_with_the_lattice(atoms):
    model = coin()
    found = return_laws(model, np.array([0]), atoms=atoms)
    assert check_laws(model, found.certificate)
    grid, spacing = found.certificate.lattice.grid, found.certificate.lattice.spacing
    uniform = np.clip(grid / 2, 0, 1)
    assert (found.certificate.lower[0] >= uniform).all()
    assert (found.certificate.upper[0] <= uniform).all()
    assert found.certificate.width <= 2 * spacing / 0.5 * 1.01
    low, high = found.interval(CVaR(Fraction(1, 10)), 0)
    assert low <= 0.1 <= high
    low, high = found.interval(Entropic(1.0), 0)
    assert low <= -np.log((1 - np.exp(-2)) / 2) <= high


@FAST
@given(
    strategies.discounted_mdps(max_states=5, discounts=st.sampled_from([0.5, 0.9]), rewards=st.sampled_from([0.0, 1.0, 0.1]))
)
def test_the_mean_of_the_laws_brackets_the_value_of_the_policy(problem):
    solution = solve(problem, eps=1e-8)
    found = return_laws(problem, solution.policy, atoms=300)
    for state in range(problem.n_states):
        low, high = found.interval(MEAN, state)
        # rows of drawn models sum to one within rounding only: the value is of the floats, the law of the weights
        assert low <= solution.certificate.upper[state] + 1e-9
        assert high >= solution.certificate.lower[state] - 1e-9


def test_a_larger_model_is_proved():
    model = OutcomeMDP(*instances.with_outcomes("machine_ten"))
    policy = solve(model.expected, eps=1e-6).policy
    found = return_laws(model, policy, atoms=2000)
    verdict = check_laws(model, found.certificate)
    assert verdict.rows == 2 * 10 * (found.certificate.lattice.points - 1)
    assert verdict.width < 2.5


def test_a_certificate_survives_a_file(tmp_path):
    model = coin()
    found = return_laws(model, np.array([0]), atoms=32)
    found.certificate.save(tmp_path / "laws.npz")
    assert check_laws(model, LawCertificate.load(tmp_path / "laws.npz"))


@pytest.mark.parametrize("atoms", [40, 400])
def test_a_law_moved_by_a_trillionth_towards_the_other_is_rejected(atoms):
    problem, gain = instances.with_outcomes("machine_ten")
    model = OutcomeMDP(problem.replace(criterion=FiniteHorizon(6, 0.9)), gain)
    certificate = return_laws(model, np.zeros(10, dtype=int), atoms=atoms).certificate
    for side, by in (("lower", -1e-12), ("upper", 1e-12)):
        cdf = getattr(certificate, side)
        inside = np.flatnonzero(np.diff(cdf[2, 6], append=1, prepend=0)[:-1] > 1e-6)
        inside = inside[(cdf[2, 6, inside] < 0.999) & (cdf[2, 6, inside] > 1e-6)]
        assert len(inside) > 1
        for at in inside:
            moved = cdf.copy()
            moved[2, 6, at if by < 0 else at - 1] += by
            with pytest.raises(CertificateRejected, match=r"state 6 at stage 2: .* in stochastic order does not hold at"):
                check_laws(model, dataclasses.replace(certificate, **{side: moved}))


def test_what_proves_nothing_is_rejected():
    model, other = coin(), coin(0.25)
    certificate = return_laws(model, np.array([0]), atoms=32).certificate
    with pytest.raises(CertificateRejected, match="speaks of model"):
        check_laws(other, certificate)
    lattice = certificate.lattice
    for change, match in (
        ({"lower": certificate.lower[:, :-1]}, "shape"),
        ({"lower": certificate.lower[:, ::-1].copy()}, "no distribution function"),
        ({"policy": np.array([1], dtype=np.int32)}, "does not have"),
        ({"policy": np.array([0.0])}, "integers"),
        ({"lattice": Lattice(lattice.first + 1, lattice.spacing, lattice.points)}, "does not hold"),
        ({"lattice": Lattice(lattice.first, -1.0, lattice.points)}, "spacing"),
        ({"lattice": Lattice(lattice.first, 0.75, lattice.points)}, "no power of two"),
        ({"lattice": Lattice(2**60, lattice.spacing, lattice.points)}, "no floats"),
    ):
        with pytest.raises(CertificateRejected, match=match):
            check_laws(model, dataclasses.replace(certificate, **change))


def test_terminal_values_are_checked_on_their_side():
    problem = from_lists([[(1.0, {1: 1.0})], 3.0, [(2.0, {2: 1.0})]], Discounted(0.5))
    found = return_laws(problem, np.array([0, -1, 0]), atoms=64)
    assert check_laws(problem, found.certificate)
    assert found.interval(MEAN, 0) == (2.5, 2.5)
    for side in ("lower", "upper"):
        moved = getattr(found.certificate, side).copy()
        moved[1] = found.certificate.lattice.step(3.5 if side == "lower" else 2.5, side == "upper")
        with pytest.raises(CertificateRejected, match=r"terminal value 3\.0 is not on its side"):
            check_laws(problem, dataclasses.replace(found.certificate, **{side: moved}))


@pytest.mark.parametrize(
    ("ask", "error", "match"),
    [
        (lambda: OutcomeMDP(coin().problem.replace(criterion=TotalReward())), ModelError, "finite-horizon"),
        (lambda: OutcomeMDP(coin().problem.replace(criterion=Discounted(0.0))), ModelError, "above zero"),
        (lambda: OutcomeMDP(coin().problem.replace(criterion=Discounted(0.5, minimize=True))), ModelError, "negated"),
        (lambda: OutcomeMDP(coin().problem, [0.0]), ModelError, "2 finite numbers"),
        (lambda: OutcomeMDP(coin().problem, [0.0, np.nan]), ModelError, "finite numbers"),
        (lambda: return_laws(coin(), np.array([0.5])), SolveError, "integers"),
        (lambda: return_laws(coin(), np.array([1])), SolveError, "action 1 is not one of its 1"),
        (lambda: return_laws(coin(), np.array([0]), atoms=1), ModelError, "at least 3"),
        (lambda: return_laws(coin(), np.array([0])).interval(TARGET, 0), SolveError, "stochastic order"),
        (lambda: return_laws(coin(), np.array([0])).lower(1), SolveError, "no state 1"),
    ],
)
def test_what_has_no_law_is_refused(ask, error, match):
    with pytest.raises(error, match=match):
        ask()


def test_exact_expected_rewards_and_outcomes():
    model = OutcomeMDP(*instances.with_outcomes("machine_ten"))
    plain = instances.machine_ten()
    np.testing.assert_allclose(model.expected.reward, plain.reward, rtol=0, atol=1e-14)
    assert sum(p for p, _, _ in model.outcomes(0, 1)) == 1
    assert list(model.actions(0)) == [0, 1]
    assert OutcomeMDP(coin().problem.replace(criterion=FiniteHorizon(0))).returns_within() == (0.0, 0.0)
