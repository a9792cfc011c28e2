"""Laws of total rewards: proved brackets that hold what enumeration finds in Fractions, and proofs that can be refuted."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from banach.mdp import MDP, Discounted, TotalReward, instances, strategies
from banach.mdp.instances.rows import from_lists
from banach.solvers import CertificateRejected, SolveError, check_total_laws, solve, total_reward_laws
from hypothesis import given, settings
from hypothesis import strategies as st

WINDOW = (-12, 6)


def models(rewards):
    numbers = st.sampled_from(rewards)
    return strategies.total_reward_mdps(
        kind="proper", max_states=4, max_actions=2, rewards=numbers, tiny=0.1, minimize=st.just(False)
    )


def policy_of(problem, pick):
    return np.array([pick % max(1, count) for count in np.diff(problem.state_ptr)])


def rows_of(problem, policy, state):
    """(probability, successor), exact, and the reward."""
    pair = int(problem.state_ptr[state] + policy[state])
    row = slice(int(problem.row_ptr[pair]), int(problem.row_ptr[pair + 1]))
    weights = [Fraction(w) for w in problem.probability[row].tolist()]
    return [(w / sum(weights), j) for w, j in zip(weights, problem.successor[row].tolist(), strict=True) if w], Fraction(
        float(problem.reward[pair])
    )


def ended(problem, policy, state, steps):
    """{total reward: probability} of having ended within so many steps, and the probability of still going on."""
    going, found = {(state, Fraction(0)): Fraction(1)}, {}
    for _ in range(steps + 1):
        ahead = {}
        for (s, earned), p in going.items():
            if problem.terminal[s]:
                total = earned + Fraction(float(problem.terminal_value[s]))
                found[total] = found.get(total, 0) + p
                continue
            outcomes, reward = rows_of(problem, policy, s)
            for q, j in outcomes:
                ahead[j, earned + reward] = ahead.get((j, earned + reward), 0) + p * q
        going = ahead
    return found, sum(going.values())


@settings(deadline=None, max_examples=80)
@given(models([-1.0, 0.0, 1.0, -3.0]), st.integers(0, 1))
def test_the_bracket_holds_what_enumeration_finds(problem, pick):
    policy = policy_of(problem, pick)
    found = total_reward_laws(problem, policy, WINDOW)
    check_total_laws(problem, found.certificate)
    for state in range(problem.n_states):
        law, going = ended(problem, policy, state, 25)
        for x in (*range(WINDOW[0] - 2, WINDOW[1] + 3), 0.5):
            low, high = found.probability(state, x)
            below = sum(p for total, p in law.items() if total <= x)
            assert low <= below + going
            assert below <= high


@settings(deadline=None, max_examples=80)
@given(models([-1.0, -2.0, -4.5]), st.integers(0, 1))
def test_where_every_step_costs_the_probabilities_are_exact_to_rounding(problem, pick):
    """So many steps cannot cost less than so much: nothing that goes on matters in the window."""
    problem = problem.replace(terminal_value=np.where(problem.terminal, 0.0, problem.terminal_value))
    policy = policy_of(problem, pick)
    found = total_reward_laws(problem, policy, (-15, 0))
    for state in range(problem.n_states):
        law, _ = ended(problem, policy, state, 15)
        for x in np.arange(-15, 0.5, 0.5).tolist():
            low, high = found.probability(state, x)
            above = 1 - sum(p for total, p in law.items() if total > x)
            assert low <= above <= high
            assert high - low < 1e-12
    assert check_total_laws(problem, found.certificate).width < 1e-12


def test_tosses_until_heads_are_geometric():
    """The number of tosses: P(G <= -k) = 2^-(k - 1), and quantiles of it."""
    problem = from_lists([[(-1.0, {0: 0.5, 1: 0.5})], 0.0], TotalReward())
    found = total_reward_laws(problem, np.zeros(2, dtype=int), (-40, 0))
    for k in range(1, 41):
        low, high = found.probability(0, -k)
        assert low <= 2.0 ** -(k - 1) <= high
        assert high - low <= 1e-14 * 2.0 ** -(k - 1) + 2.0**-50
    assert found.probability(0, -50)[0] == 0
    assert found.probability(0, -50)[1] == pytest.approx(2.0**-39, rel=1e-2)
    assert found.probability(0, 3.5) == (pytest.approx(1), 1)
    assert found.quantile(0, 0.3) == (-2, -2)
    assert found.quantile(0, 0.9) == (-1, -1)
    assert found.quantile(0, 2.0**-45) == (-np.inf, -40)
    assert found.quantile(1, 0.5) == (0, 0)


def test_gains_and_losses_leave_the_window_and_come_back():
    """A walk that ends with probability 1/5 a step: what lies above the window counts when it returns."""
    chances = {0: 0.4, 1: 0.4, 2: 0.2}
    problem = from_lists([[(1.0, chances)], [(-1.0, chances)], 0.0], TotalReward())
    wide, narrow = (total_reward_laws(problem, np.zeros(3, dtype=int), (-end, end)) for end in (150, 3))
    for proof in (wide, narrow):
        check_total_laws(problem, proof.certificate)
    for x in (-3, 0, 3):
        one, two = wide.probability(0, x), narrow.probability(0, x)
        assert one[1] - one[0] < 1e-10
        assert two[0] <= one[0] <= one[1] <= two[1]
    assert narrow.certificate.width > 1e-3


def test_the_mean_of_the_law_is_the_value():
    problem = instances.make("ssp_grid:side=12")
    problem = problem.negated() if problem.criterion.minimize else problem
    answer = solve(problem, eps=1e-9)
    proof = total_reward_laws(problem, answer.policy, (-250, 0), tol=1e-14).certificate
    for law in (proof.lower, proof.upper):
        assert law[:, 0].max() < 1e-11
        mean = np.diff(law, axis=1) @ proof.lattice.grid[1:] + law[:, 0] * proof.lattice.grid[0]
        np.testing.assert_allclose(mean, answer.value, rtol=0, atol=1e-6)


def test_a_certificate_that_proves_nothing_is_rejected():
    problem = from_lists([[(-1.0, {0: 0.5, 1: 0.5})], [(-2.0, {0: 0.3, 2: 0.7})], 0.0], TotalReward())
    proof = total_reward_laws(problem, np.zeros(3, dtype=int), (-20, 0)).certificate

    def forged(side, state, place, by):
        table = getattr(proof, side).copy()
        table[state, place] += by
        return replace(proof, **{side: table})

    for bad, match in (
        (forged("lower", 0, 10, -1e-9), "state 0: lower"),
        (forged("upper", 1, 10, 1e-9), "state 1: T upper"),
        (forged("lower", 2, 5, 1e-3), "no distribution function"),
        (forged("lower", 2, 19, 0.5), "not the terminal value"),
        (replace(proof, fingerprint="0" * 64), "speaks of model"),
        (replace(proof, policy=np.array([0, 5, -1], dtype=np.int32)), "does not have"),
        (replace(proof, lattice=replace(proof.lattice, spacing=2.0)), "no multiple"),
        (replace(proof, lower=proof.lower[:2]), "shape"),
    ):
        with pytest.raises(CertificateRejected, match=match):
            check_total_laws(problem, bad)


def test_a_proof_of_a_policy_that_goes_on_is_rejected():
    """Functions that satisfy every inequality, of a state that never ends, prove nothing."""
    problem = from_lists([[(0.0, {0: 1.0}), (-1.0, {1: 1.0})], 0.0], TotalReward())
    proof = total_reward_laws(problem, np.array([1, 0]), (-5, 0)).certificate
    table = np.where(problem.terminal[:, None], proof.lower, 0.25)
    bad = replace(proof, lower=table, upper=table, policy=np.array([0, -1], dtype=np.int32))
    with pytest.raises(CertificateRejected, match="state 0: the policy may never end"):
        check_total_laws(problem, bad)


@pytest.mark.parametrize(
    ("ask", "match"),
    [
        (lambda m: total_reward_laws(m.replace(criterion=Discounted(0.9)), np.zeros(2, dtype=int), WINDOW), "of MDPs of Total"),
        (lambda m: total_reward_laws(m.negated(), np.zeros(2, dtype=int), WINDOW), "negated"),
        (lambda m: total_reward_laws(m, np.array([1, 0]), WINDOW), "state 0: the policy may never end"),
        (lambda m: total_reward_laws(m, np.array([7, 0]), WINDOW), "action 7 is not one of its 2"),
        (lambda m: total_reward_laws(m, np.zeros(2, dtype=int), (3, 1)), "two finite numbers in order"),
        (lambda m: total_reward_laws(m, np.zeros(2, dtype=int), (0.25, 0.75)), "holds 0 multiples of 1.0"),
        (lambda m: total_reward_laws(m, np.zeros(2, dtype=int), WINDOW).probability(2, 0), "no state 2"),
        (lambda m: total_reward_laws(m, np.zeros(2, dtype=int), WINDOW).quantile(0, 0), "level is 0"),
    ],
)
def test_what_makes_no_sense_is_refused(ask, match):
    problem: MDP = from_lists([[(-1.0, {1: 1.0}), (0.0, {0: 1.0})], 0.0], TotalReward())
    with pytest.raises(SolveError, match=match):
        ask(problem)
