"""Nash policies are proved in rationals, regularised ones carry a gap that bounds their distance, iterations keep promises."""

import sys
from fractions import Fraction
from itertools import combinations

import cvxpy as cp
import numpy as np
import pytest
from banach.mdp import preference_strategies as drawn
from banach.mdp.preference import PreferenceGame, PreferenceOracle
from banach.solvers.errors import NotConverged, SolveError
from banach.solvers.gibbs import divergence, gibbs
from banach.solvers.nash import exploitability, nash
from banach.solvers.preference_iterations import INPO, NashMD, OnlineDPO, OnlineIPO, SPPOIteration, anchor, iterate
from banach.solvers.preference_losses import IPO
from banach.solvers.preference_optimum import population_optimum
from banach.solvers.regularised_nash import best_response, duality_gap, enclosed_nash, regularised_nash
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import expit, logit

ROCK = PreferenceGame(PreferenceOracle.cyclic(3, 0.9), np.array([0.5, 0.3, 0.2]), 0.1)


def payoff(game, one, other):
    t, q = game.temperature, game.reference
    return one @ game.oracle.matrix @ other - t * divergence(one, q) + t * divergence(other, q)


@settings(deadline=None, max_examples=60)
@given(drawn.oracles(max_responses=6, certain=True))
def test_a_nash_policy_is_beaten_by_nobody_in_exact_arithmetic(oracle):
    found = nash(oracle)
    table = oracle.rational()
    rates = [sum(p * x for p, x in zip(row, found.exact, strict=True)) for row in table]
    assert sum(found.exact) == 1
    assert min(found.exact) >= 0
    assert max(rates) - Fraction(1, 2) == found.exploitability == 0
    assert found.value == (Fraction(1, 2), Fraction(1, 2))
    assert found.policy == pytest.approx([float(x) for x in found.exact], abs=1e-16)


@settings(deadline=None, max_examples=40)
@given(drawn.oracles(max_responses=5, certain=True))
def test_whether_it_is_the_only_one_is_what_linear_programmes_over_all_of_them_say(oracle):
    found, n = nash(oracle), oracle.n_responses
    x = cp.Variable(n)
    all_of_them = [x >= 0, cp.sum(x) == 1, (oracle.matrix - 0.5) @ x <= 1e-9]
    width = 0.0
    for y in range(n):
        ends = [cp.Problem(sense(x[y]), all_of_them).solve(solver=cp.HIGHS) for sense in (cp.Maximize, cp.Minimize)]
        width = max(width, ends[0] - ends[1])
    if width > 1e-3:
        assert not found.unique
    elif width < 1e-6:
        assert found.unique


@settings(deadline=None, max_examples=30)
@given(drawn.bradley_terry_oracles())
def test_under_bradley_terry_the_best_response_alone_is_nash(oracle):
    found = nash(oracle)
    best = (oracle.matrix >= 0.5).all(axis=1)  # rewards closer than rounding tie
    assert found.exploitability == 0
    assert (found.policy[~best] == 0).all()
    assert oracle.reward[best].max() == oracle.reward.max()
    assert found.unique == (best.sum() == 1)


@pytest.mark.parametrize("n", [3, 5, 7])
def test_the_ring_is_played_uniformly(n):
    found = nash(PreferenceOracle.cyclic(n, 0.8))
    assert found.exact == (Fraction(1, n),) * n
    assert found.unique


def test_two_copies_of_a_response_share_its_probability_in_many_ways():
    oracle = PreferenceOracle([[0.5, 0.5, 0.9], [0.5, 0.5, 0.9], [0.1, 0.1, 0.5]])
    found = nash(oracle)
    assert found.unique is False
    assert found.exact[2] == 0


ORDER = PreferenceOracle([[0.5, 0.6, 0.7], [0.4, 0.5, 0.8], [0.3, 0.2, 0.5]])


@pytest.mark.parametrize(
    ("oracle", "vertex"),
    [(PreferenceOracle.cyclic(3, 0.9), [0.6, 0.4, 0.0]), (ORDER, [0.3, 0.3, 0.4])],
    ids=["a response is missing", "the system's solution is no distribution"],
)
def test_a_policy_that_is_no_equilibrium_is_answered_with_what_it_guarantees(monkeypatch, oracle, vertex):
    monkeypatch.setattr(sys.modules["banach.solvers.nash"], "_vertex", lambda skew: np.array(vertex))
    found = nash(oracle)
    assert found.policy == pytest.approx(vertex)
    assert found.unique is None
    assert found.exploitability == max(
        sum(p * x for p, x in zip(row, found.exact, strict=True)) - Fraction(1, 2) for row in oracle.rational()
    )
    assert found.exploitability > Fraction(1, 100)
    assert found.value == (Fraction(1, 2) - found.exploitability, Fraction(1, 2) + found.exploitability)
    assert found.gap == 2 * found.exploitability


def test_exploitability_of_certainty_in_a_cycle():
    assert exploitability(PreferenceOracle.cyclic(3, 0.9), np.array([1.0, 0.0, 0.0])) == pytest.approx(0.4)


@settings(deadline=None, max_examples=60)
@given(drawn.games(certain=True))
def test_the_regularised_nash_policy_is_the_best_response_to_itself(game):
    found = regularised_nash(game)
    assert found.policy == pytest.approx(best_response(game, found.policy), abs=1e-10)
    assert found.gap <= 1e-12
    assert found.steps <= 40


@settings(deadline=None, max_examples=25)
@given(drawn.games(), st.data())
def test_the_gap_is_what_direct_optimisation_of_both_players_finds(game, data):
    policy = data.draw(drawn.policies(game.n_responses, smallest=0.05))

    def attack(logits):
        return -payoff(game, gibbs(np.ones(game.n_responses), np.append(logits, 0.0)), policy)

    best = -minimize(attack, np.zeros(game.n_responses - 1), options={"gtol": 1e-9}).fun

    def defend(logits):
        return payoff(game, policy, gibbs(np.ones(game.n_responses), np.append(logits, 0.0)))

    worst = minimize(defend, np.zeros(game.n_responses - 1), options={"gtol": 1e-9}).fun
    gap = duality_gap(game, policy)
    assert gap == pytest.approx(best - worst, abs=1e-7)
    assert gap == pytest.approx(2 * game.temperature * divergence(policy, best_response(game, policy)), abs=1e-12)


@settings(deadline=None, max_examples=60)
@given(drawn.games(certain=True), st.data())
def test_the_gap_bounds_the_divergence_to_the_nash_policy(game, data):
    policy = data.draw(drawn.policies(game.n_responses))
    optimum = regularised_nash(game).policy
    gap = duality_gap(game, policy)
    assert divergence(policy, optimum) <= gap / (2 * game.temperature) + 1e-9
    assert payoff(game, optimum, policy) - 0.5 == pytest.approx(game.temperature * divergence(policy, optimum), abs=1e-9)


@settings(deadline=None, max_examples=15)
@given(drawn.games(max_responses=4), st.booleans())
def test_balls_around_the_nash_policy_contain_what_newton_finds_and_are_narrow(game, certain):
    found = regularised_nash(game)
    balls = enclosed_nash(game)
    for p, ball in zip(found.policy, balls, strict=True):
        assert float(ball.rad()) < 1e-19
        assert abs(float(ball.mid()) - p) <= found.distance + 1e-15
    assert found.distance < 1e-5


@pytest.mark.parametrize("steps", [1, 2])
def test_what_a_policy_far_from_rest_says_of_its_distance_is_true(steps):
    game = PreferenceGame(ROCK.oracle, ROCK.reference, 1.5)
    found, optimum = regularised_nash(game, eps=1.0, max_steps=steps), regularised_nash(game).policy
    apart, away = np.abs(found.policy - optimum).sum() / 2, divergence(found.policy, optimum)
    assert found.gap == pytest.approx(2 * 1.5 * divergence(found.policy, best_response(game, found.policy)), rel=1e-3)
    assert found.divergence == pytest.approx(found.gap / (2 * 1.5), rel=1e-12)
    assert found.distance == pytest.approx(np.sqrt(found.gap / 1.5) / 2, rel=1e-12)
    assert away <= found.divergence
    assert apart <= found.distance


@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_the_balls_of_few_newton_steps_hold_the_answer_of_many(temperature):
    game = PreferenceGame(ROCK.oracle, ROCK.reference, temperature)
    for wide, narrow in zip(enclosed_nash(game, steps=1), enclosed_nash(game), strict=True):
        assert wide.overlaps(narrow)


@settings(deadline=None, max_examples=20)
@given(drawn.games(max_responses=4, bradley_terry=True))
def test_a_game_of_rewards_is_solved_for_its_irrational_oracle(game):
    found = regularised_nash(game)
    assert [float(ball.mid()) for ball in enclosed_nash(game)] == pytest.approx(found.policy, abs=1e-12)


@given(drawn.games(certain=True, smallest_temperature=0.3), st.data())
def test_the_best_response_contracts_total_variation_by_half_the_inverse_temperature(game, data):
    one, other = (data.draw(drawn.policies(game.n_responses, zeros=True)) for _ in range(2))
    moved = np.abs(best_response(game, one) - best_response(game, other)).sum() / 2
    assert moved <= np.abs(one - other).sum() / 2 / (2 * game.temperature) + 1e-14


@pytest.mark.parametrize("p", [0.6, 0.9, 1.0])
def test_two_responses_have_a_regularised_nash_policy_that_one_of_them_beats(p):
    """The win rates differ by p - 1/2 whatever the policy, the log-odds by 1 / t times that; the better one wins above 1/2."""
    game = PreferenceGame(PreferenceOracle([[0.5, p], [1 - p, 0.5]]), np.array([0.5, 0.5]), 0.2)
    found = regularised_nash(game)
    assert logit(found.policy[0]) == pytest.approx((p - 0.5) / 0.2)
    assert found.win_rate[0] == pytest.approx(0.5 + (p - 0.5) * (1 - expit((p - 0.5) / 0.2)))
    assert found.win_rate[0] > 0.5


def test_tiny_temperatures_approach_the_plain_nash_policy():
    oracle = PreferenceOracle([[0.5, 0.9, 0.2], [0.1, 0.5, 0.7], [0.8, 0.3, 0.5]])
    plain = nash(oracle)
    assert plain.unique
    for temperature, close in ((0.1, 0.2), (0.01, 0.03), (0.002, 0.006)):
        found = regularised_nash(PreferenceGame(oracle, np.array([0.5, 0.3, 0.2]), temperature), eps=1e-10)
        assert np.abs(found.policy - plain.policy).max() < close


def test_too_few_steps_say_how_far_they_came():
    with pytest.raises(NotConverged, match=r"the duality gap is .* after 1 Newton steps") as caught:
        regularised_nash(ROCK, max_steps=1)
    assert 0 < caught.value.reached < 1
    with pytest.raises(SolveError, match="eps is 0"):
        regularised_nash(ROCK, eps=0)


def gaps(method, steps, at=()):
    path = iterate(ROCK, method, steps)
    return [duality_gap(ROCK, path.policies[k]) for k in at]


def test_inpo_cycles_with_a_small_constant_inverse_step_and_converges_with_a_large_or_growing_one():
    """Rock, paper, scissors at 0.9, q = (.5, .3, .2), t = 0.1."""
    equal = gaps(INPO(0.1), 400, (399, 400))
    assert sorted(equal) == pytest.approx([0.59, 0.85], abs=0.01)
    assert gaps(INPO(0.3), 3000, (3000,))[0] > 1e-2
    assert gaps(INPO(3.0), 300, (300,))[0] < 1e-9
    early, late = gaps(INPO.decaying(0.1), 3000, (300, 3000))
    assert early == pytest.approx(1.3e-6, rel=0.1)
    assert late < 1e-9


def test_inpo_at_the_temperature_is_online_ipo():
    assert iterate(ROCK, INPO(0.1), 20).policies == pytest.approx(iterate(ROCK, OnlineIPO(), 20).policies, abs=1e-12)


@settings(deadline=None, max_examples=30)
@given(drawn.games(), st.data(), st.sampled_from([1.0, 1.5, 4.0]))
def test_inpos_step_is_the_optimum_of_its_squared_loss_on_product_pairs(game, data, ratio):
    policy = data.draw(drawn.policies(game.n_responses, smallest=0.1))
    inverse = ratio * game.temperature
    virtual = anchor(game, policy, game.temperature / inverse)
    fitted = population_optimum(game.oracle, np.outer(policy, policy), virtual, IPO(inverse)).policy
    assert INPO(inverse).step(game, policy, 0) == pytest.approx(fitted, abs=1e-9)


def test_pairs_of_the_best_and_the_worst_of_three_do_not_fit_inpos_step():
    """The counter-example's numbers: pairs of best and worst of 3 by win rate within the group, all groups enumerated."""
    game = ROCK
    policy, inverse = np.array([0.6, 0.3, 0.1]), 0.4
    weights = np.zeros((3, 3))
    for group in np.ndindex(3, 3, 3):
        rates = np.array([np.mean([game.oracle.matrix[y, z] for z in group]) for y in group])
        best, worst = group[int(rates.argmax())], group[int(rates.argmin())]
        if best != worst:
            weights[best, worst] += policy[list(group)].prod()
    virtual = anchor(game, policy, game.temperature / inverse)
    fitted = population_optimum(game.oracle, weights, virtual, IPO(inverse)).policy
    assert INPO(inverse).step(game, policy, 0) == pytest.approx([0.6715, 0.1745, 0.1540], abs=1e-4)
    assert np.abs(INPO(inverse).step(game, policy, 0) - fitted).max() > 0.03


@settings(deadline=None, max_examples=25)
@given(drawn.games(max_responses=4, smallest_temperature=0.1))
def test_self_play_rests_at_the_nash_policy_alone(game):
    optimum = regularised_nash(game).policy
    elsewhere = gibbs(optimum, np.linspace(0.0, 1.0, len(optimum)))
    for method in (OnlineIPO(), INPO(3 * game.temperature)):
        assert method.step(game, optimum, 0) == pytest.approx(optimum, abs=1e-9)
        assert np.abs(method.step(game, elsewhere, 0) - elsewhere).max() > 1e-6


@settings(deadline=None, max_examples=20)
@given(drawn.games(max_responses=4, smallest_temperature=0.6))
def test_online_ipo_converges_geometrically_above_temperature_one_half(game):
    optimum = regularised_nash(game).policy
    path = iterate(game, OnlineIPO(), 25)
    apart = np.abs(path.policies - optimum).sum(axis=1) / 2
    assert (apart[1:] <= apart[:-1] / (2 * game.temperature) + 1e-12).all()


def test_online_ipo_cycles_on_rock_paper_scissors_below():
    game = PreferenceGame(PreferenceOracle.cyclic(3, 1.0), np.array([0.5, 0.3, 0.2]), 0.1)
    optimum = regularised_nash(game).policy
    last = iterate(game, OnlineIPO(), 501).policies[-2:]
    assert np.abs(last - optimum).max() > 0.1


@settings(deadline=None, max_examples=25)
@given(drawn.bradley_terry_oracles(max_responses=4, largest=2.0), st.data())
def test_online_dpo_rests_at_the_gibbs_policy_under_bradley_terry(oracle, data):
    reference = data.draw(drawn.policies(oracle.n_responses, smallest=0.2))
    game = PreferenceGame(oracle, reference, 1.0)
    start = data.draw(drawn.policies(oracle.n_responses, smallest=0.2))
    expected = gibbs(reference, oracle.reward)
    assert iterate(game, OnlineDPO(1.0), 1, start).last == pytest.approx(expected, abs=1e-8)


def test_online_dpo_rests_elsewhere_than_nash_on_a_cycle():
    path = iterate(PreferenceGame(ROCK.oracle, ROCK.reference, 1.0), OnlineDPO(1.0), 400)
    assert np.abs(path.policies[-1] - path.policies[-2]).max() < 1e-9
    assert duality_gap(PreferenceGame(ROCK.oracle, ROCK.reference, 1.0), path.last) > 1e-3


@settings(deadline=None, max_examples=25)
@given(drawn.oracles(max_responses=5, certain=True), st.sampled_from([1, 10, 200]))
def test_the_average_of_sppo_is_as_hard_to_exploit_as_promised(oracle, steps):
    n = oracle.n_responses
    game = PreferenceGame(oracle, np.full(n, 1 / n), 1.0)
    path = iterate(game, SPPOIteration(np.sqrt(8 * np.log(n) / steps)), steps)
    assert exploitability(oracle, path.average) <= np.sqrt(np.log(n) / (2 * steps)) + 1e-12


@settings(deadline=None, max_examples=25)
@given(drawn.games(max_responses=4, smallest_temperature=0.2), st.sampled_from([0.1, 0.5, 1.0]))
def test_nash_md_keeps_its_promise_at_every_step(game, share):
    rate = share / game.temperature
    optimum = regularised_nash(game).policy
    path = iterate(game, NashMD(rate), 30)
    first = divergence(optimum, game.reference)
    for number, policy in enumerate(path.policies):
        promise = (1 - share) ** number * first + 2 * rate / game.temperature
        assert divergence(optimum, policy) <= promise + 1e-9


def test_nash_md_rests_near_the_nash_policy_nearer_for_smaller_rates():
    """It plays against the mixture with the reference, so that its rest is the best response to a mixture, not to itself."""
    optimum = regularised_nash(ROCK).policy
    apart = []
    for rate in (1.0, 0.1, 0.01):
        last = iterate(ROCK, NashMD(rate), int(400 / rate)).last
        assert last == pytest.approx(best_response(ROCK, anchor(ROCK, last, rate * ROCK.temperature)), abs=1e-8)
        apart.append(divergence(optimum, last))
    assert apart[0] > 10 * apart[1] > 100 * apart[2] > 0
    assert apart[2] <= 2 * 0.01 / ROCK.temperature


def test_supports_enumerated_agree_on_random_tournaments():
    """Every support of odd size solved in floats (a generic skew matrix has one equilibrium, of odd support)."""
    rng = np.random.default_rng(3)
    for _ in range(10):
        n = 5
        upper = np.triu(rng.choice([0.125, 0.25, 0.75, 0.875, 0.625], size=(n, n)), 1)
        matrix = upper + np.tril(1 - upper.T, -1)
        np.fill_diagonal(matrix, 0.5)
        found = nash(PreferenceOracle(matrix))
        skew, equilibria = matrix - 0.5, []
        for size in (1, 3, 5):
            for support in map(list, combinations(range(n), size)):
                block = np.vstack([skew[np.ix_(support, support)], np.ones(size)])
                inside = np.linalg.lstsq(block, np.append(np.zeros(size), 1.0), rcond=None)[0]
                policy = np.zeros(n)
                policy[support] = inside
                if inside.min() > 1e-9 and abs(inside.sum() - 1) < 1e-9 and (skew @ policy).max() < 1e-9:
                    equilibria.append(policy)
        assert any(np.abs(policy - found.policy).max() < 1e-9 for policy in equilibria) or not found.unique


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda: NashMD(0.0), "NashMD: rate is 0.0"),
        (lambda: INPO(-1.0), "INPO: inverse_step is -1.0"),
        (lambda: iterate(ROCK, INPO(0.05), 1), "below the temperature 0.1"),
        (lambda: iterate(ROCK, NashMD(11.0), 1), "is above 1; lower the rate"),
        (lambda: iterate(ROCK, OnlineIPO(), -1), "whole number >= 0"),
        (lambda: iterate(ROCK, OnlineIPO(), 1, np.ones(3)), "start sums to 3"),
        (lambda: duality_gap(ROCK, np.ones(2) / 2), r"policy has shape \(2,\)"),
        (lambda: SPPOIteration(0), "eta is 0"),
        (lambda: OnlineDPO(0), "beta is 0"),
    ],
)
def test_what_makes_no_sense_is_refused(ask, message):
    with pytest.raises(ValueError, match=message):
        ask()
