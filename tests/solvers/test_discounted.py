"""Discounted problems: every method's bracket is proved, and contains the answer of an independent route."""

import numpy as np
import pytest
from banach.mdp import MDP
from banach.solvers import GaussSeidel, ModifiedPolicyIteration, PolicyIteration, ValueIteration, check, solve

METHODS = [None, ValueIteration(), GaussSeidel(), ModifiedPolicyIteration(), PolicyIteration()]


def random_dense(seed: int, n_states: int = 30, n_actions: int = 3, discount: float = 0.95) -> MDP:
    rng = np.random.default_rng(seed)
    transition = rng.dirichlet(np.full(n_states, 0.1), size=(n_states, n_actions))
    return MDP.from_dense(transition, rng.normal(size=(n_states, n_actions)), discount=discount)


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_the_bracket_is_proved_and_no_wider_than_eps(method):
    problem = random_dense(1)
    solution = solve(problem, method, eps=1e-7)
    assert solution.certificate.width <= 1e-7
    assert check(problem, solution.certificate)
