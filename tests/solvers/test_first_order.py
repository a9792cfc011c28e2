"""First-order primal-dual steps: projections against cvxpy, proved answers near the exact ones, what they cost."""

import cvxpy as cp
import numpy as np
import pytest
from banach.mdp import RobustMDP, instances, strategies
from banach.mdp.ambiguity import KL, L1, L2
from banach.mdp.instances.rows import from_lists
from banach.solvers import NotConverged, RobustPolicyIteration, SolveError, check, solve
from banach.solvers.first_order import FirstOrder, project_divergence, project_euclidean
from hypothesis import given, settings
from hypothesis import strategies as st


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**32 - 1), radius=st.sampled_from([0.0, 0.05, 0.3, 5.0]))
def test_a_step_of_nature_is_the_projection_that_cvxpy_finds(seed, radius):
    rng = np.random.default_rng(seed)
    nominal, y, slope = rng.dirichlet(np.ones(4)), rng.dirichlet(np.ones(4)), rng.normal(size=4)
    held = np.ones((1, 4), dtype=bool)
    p = cp.Variable(4, nonneg=True)
    for step, distance, ball in (
        (project_euclidean, cp.sum_squares(p - y) / 2, cp.norm2(p - nominal) <= radius),
        (project_divergence, cp.sum(cp.kl_div(p, y)), cp.sum(cp.kl_div(p, nominal)) <= radius),
    ):
        found = step(y[None], slope[None], nominal[None], np.array([radius]), held)[0]
        assert found.sum() == pytest.approx(1.0)
        if radius == 0:
            np.testing.assert_allclose(found, nominal, atol=1e-6)
            continue
        program = cp.Problem(cp.Minimize(slope @ p + distance), [cp.sum(p) == 1, ball])
        program.solve(solver="CLARABEL")
        here = slope @ found + (
            np.sum((found - y) ** 2) / 2 if step is project_euclidean else np.sum(found * np.log(found / y))
        )
        assert here <= program.value + 1e-6


@pytest.mark.parametrize("chosen", [L2(0.2), L2(0.1, support="all"), KL(0.05)], ids=str)
def test_what_it_reaches_is_proved_and_near_the_exact_value(chosen):
    model = instances.make("garnet:states=8,actions=3,successors=4,discount=0.7,seed=1")
    problem = RobustMDP(model, chosen)
    exact = solve(problem, RobustPolicyIteration(), eps=1e-9).value
    answer = solve(problem, FirstOrder(), eps=1e-2)
    assert check(problem, answer.certificate)
    assert answer.certificate.width <= 1e-2
    np.testing.assert_allclose(answer.value, exact, atol=1e-2)


@settings(deadline=None, max_examples=8)
@given(model=strategies.discounted_mdps(max_states=3), seed=st.integers(0, 99))
def test_drawn_problems_with_rewards_of_transitions_and_terminal_states(model, seed):
    if not model.n_pairs:
        return
    model = model.replace(criterion=type(model.criterion)(0.5, minimize=False))
    kept = model.probability > 0
    gain = np.random.default_rng(seed).integers(-2, 3, model.n_transitions).astype(float) * kept
    problem = RobustMDP(model, L2(0.3), transition_reward=gain)
    size = 1 + np.abs(model.reward).max() + np.abs(model.terminal_value).max()
    answer = solve(problem, FirstOrder(), eps=0.1 * size)
    assert check(problem, answer.certificate)


def test_exact_inner_problems_need_fewer_sweeps_for_a_hundredth_of_the_error():
    """Steps are counted, not timed: one of the baseline's against one sweep with every inner problem solved."""
    problem = RobustMDP(instances.make("garnet:states=8,actions=3,successors=4,discount=0.7,seed=1"), L2(0.2))
    rough = solve(problem, FirstOrder(), eps=1e-1).trace.sweeps
    assert solve(problem, RobustPolicyIteration(), eps=1e-3).trace.sweeps < rough / 10


def test_it_gives_up_saying_what_was_reached():
    problem = RobustMDP(instances.riverswim(), L2(0.1))
    with pytest.raises(NotConverged, match=r"wide after 3 epochs .* use RobustPolicyIteration"):
        solve(problem, FirstOrder(max_rounds=3), eps=1e-6)


def test_other_problems_are_refused():
    model = instances.riverswim()
    for problem in (model, RobustMDP(model, L1(0.1)), RobustMDP(model, L2(0.1), optimistic=True)):
        with pytest.raises(SolveError, match="L2 or KL balls and a hostile nature"):
            solve(problem, FirstOrder(), eps=1.0)


def test_a_single_action_and_a_constant_value_are_no_trouble():
    model = from_lists([[(1.0, {0: 0.5, 1: 0.5})], [(1.0, {0: 0.5, 1: 0.5})]], instances.riverswim().criterion)
    answer = solve(RobustMDP(model, KL(0.2)), FirstOrder(), eps=1e-6)
    np.testing.assert_allclose(answer.value, 20.0, atol=1e-6)
