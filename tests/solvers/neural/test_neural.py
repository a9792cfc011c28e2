"""Deep worst-case search, part by part: the task is gymnasium's, searches find what they should, pessimism picks as defined."""

from dataclasses import dataclass, field

import gymnasium
import numpy as np
import pytest
import torch
from banach.solvers.neural import (
    CovarianceSearch,
    GridSearch,
    Pendulum,
    PessimisticPolicy,
    SoftLearning,
    anywhere,
    at,
    deep_iwocs,
    grid,
    mean_returns,
    returns,
)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_the_pendulum_is_gymnasiums_with_any_mass_and_length():
    rng, task = np.random.default_rng(0), Pendulum()
    env = gymnasium.make("Pendulum-v1").unwrapped
    for _ in range(60):
        env.reset(seed=0)
        env.m, env.l = rng.uniform(0.5, 2.0), rng.uniform(0.5, 1.5)
        angle, speed, action = rng.uniform(-3.1, 3.1), rng.uniform(-8, 8), int(rng.integers(3))
        env.state = np.array([angle, speed])
        expected, reward, ended, *_ = env.step(np.array([2.0 * (action - 1)]))
        state = task.state(torch.tensor([angle]), torch.tensor([speed])).float()
        found, earned, over = task.step(state, torch.tensor([action]), torch.tensor([[env.m, env.l]]).float())
        np.testing.assert_allclose(found[0], expected, atol=2e-5)
        assert float(earned) == pytest.approx(float(reward), abs=1e-4)
        assert bool(over) is ended is False


@dataclass(frozen=True)
class Ladder:
    """Two rungs: on rung s action 1 climbs and earns psi, action 0 ends with 1; from the second rung any action ends."""

    horizon: int = 3
    discount: float = 0.5
    low: torch.Tensor = field(default_factory=lambda: torch.tensor([0.0]))
    high: torch.Tensor = field(default_factory=lambda: torch.tensor([4.0]))
    reference: torch.Tensor = field(default_factory=lambda: torch.tensor([2.0]))
    scale: torch.Tensor = field(default_factory=lambda: torch.tensor([1.0]))
    state_size: int = 1
    n_actions: int = 2

    def start(self, n, generator):
        return torch.zeros(n, 1)

    def step(self, state, action, parameters):
        up = (action == 1) & (state[:, 0] < 0.5)
        reward = torch.where(action == 1, parameters[:, 0], 1.0)
        return torch.where(up[:, None], 1.0, state), reward, ~up


SMALL = SoftLearning(
    steps=300, processes=16, batch=64, memory=2000, warm_up=20, temperature=0.5, hidden=24, polyak=0.9, rate=5e-3
)


@pytest.fixture(scope="module")
def climber():
    return SMALL.run(Ladder(), at(torch.tensor([2.0])), seeded())


def test_critics_with_and_without_entropy_reach_their_fixed_points(climber):
    """At the top Q' = Q = (1, 2). Below, action 1 is worth 2 + V / 2, with V' = t log sum exp(Q' / t) or V = pi.Q."""
    rungs, t = torch.tensor([[0.0], [1.0]]), SMALL.temperature
    top = torch.tensor([1.0, 2.0])
    share = torch.softmax(top / t, dim=0)
    soft = torch.tensor([1.0, 2 + 0.5 * float(t * torch.logsumexp(top / t, dim=0))])
    plain = torch.tensor([1.0, 2 + 0.5 * float(share @ top)])
    torch.testing.assert_close(climber.soft_values(rungs), torch.stack((soft, top)), atol=0.05, rtol=0)
    torch.testing.assert_close(climber.values(rungs), torch.stack((plain, top)), atol=0.05, rtol=0)
    assert climber.act(rungs).tolist() == [1, 1]


def test_the_predictor_learns_where_a_step_leads(climber):
    found = climber.predicted(torch.tensor([[0.0], [0.0]]), torch.tensor([0, 1]))
    torch.testing.assert_close(found, torch.tensor([[0.0], [1.0]]), atol=0.05, rtol=0)


def test_learning_is_the_same_for_the_same_seed():
    few = SoftLearning(steps=8, processes=4, batch=8, memory=20, warm_up=2, hidden=8)
    values = [few.run(Ladder(), anywhere(Ladder()), seeded(3)).values(torch.zeros(1, 1)) for _ in range(2)]
    torch.testing.assert_close(*values, atol=0, rtol=0)


class Fixed:
    """An agent that says what it is told to."""

    scale = torch.tensor([2.0])

    def __init__(self, action, worth, prediction=0.0):
        self.action, self.worth, self.prediction = action, torch.tensor(worth), prediction

    def act(self, state, before=None):
        return torch.full((len(state),), self.action)

    def values(self, state):
        return self.worth.expand(len(state), -1)

    def predicted(self, state, action):
        return torch.full_like(state, self.prediction)


def test_the_least_of_the_valid_models_acts_and_the_default_where_none_is():
    agents = (Fixed(0, [5.0, 0.0], 0.0), Fixed(1, [9.0, 4.0], 1.0))
    policy = PessimisticPolicy(agents, Fixed(2, [0.0, 0.0]), threshold=0.25)
    before = (torch.zeros(3, 1), torch.zeros(3, dtype=torch.int64))
    state = torch.tensor([[0.0], [0.5], [3.0]])  # the first model alone is valid, both (0.5 off over 2), none
    assert policy.act(state, before).tolist() == [0, 1, 2]
    assert policy.act(state, None).tolist() == [1, 1, 1]


class Climb:
    """Always climbs."""

    def act(self, state, before=None):
        return torch.ones(len(state), dtype=torch.int64)


def test_returns_end_with_the_process_and_the_horizon():
    found = returns(Ladder(), Climb(), torch.tensor([[0.0], [3.0]]), torch.zeros(2, 1))
    assert found.tolist() == [0.0, 6.0]
    assert returns(Ladder(horizon=1), Climb(), torch.tensor([[3.0]]), torch.zeros(1, 1)).tolist() == [3.0]


def test_episodes_begin_alike_for_all_parameters():
    same = mean_returns(Pendulum(horizon=5), Climb(), torch.ones(3, 2), 2, seeded())
    assert same[0] == same[1] == same[2] < 0


def test_the_grid_holds_the_corners_of_the_box():
    points = grid(Pendulum(), 3)
    assert points.shape == (9, 2)
    assert points[0].tolist() == [0.5, 0.5]
    assert points[-1].tolist() == [2.0, 1.5]


@pytest.mark.parametrize("search", [GridSearch(points=5, episodes=1), CovarianceSearch(episodes=1)], ids=str)
def test_nature_finds_the_parameters_at_which_climbing_earns_nothing(search):
    worst, earned = search.worst(Ladder(), Climb(), seeded())
    assert float(worst) == pytest.approx(0.0, abs=0.05)
    assert earned == pytest.approx(2 * float(worst), abs=1e-5)


@pytest.mark.parametrize("centre", [(0.2, 0.9, 0.5), (0.0, 1.0, 0.3)], ids=["inside", "on the edge"])
def test_covariance_search_finds_the_least_of_a_crooked_bowl_in_the_unit_box(centre):
    seen, aim = [], torch.tensor(centre)
    crooked = torch.tensor([[1.0, 0.9, 0.0], [0.9, 1.0, 0.0], [0.0, 0.0, 100.0]])

    def bowl(x):
        seen.append(x)
        return torch.einsum("ni,ij,nj->n", x - aim, crooked, x - aim)

    found = CovarianceSearch(generations=60, population=12, spread=0.3).least(bowl, 3, seeded())
    assert torch.cat(seen).min() >= 0
    assert torch.cat(seen).max() <= 1
    torch.testing.assert_close(found, aim, atol=2e-3, rtol=0)


def test_a_search_from_end_to_end_finds_the_model_that_hurts_and_is_not_worse_for_it():
    """Where climbing earns nothing, ending at once earns one: the second agent stops, and the list with it."""
    found = deep_iwocs(
        Ladder(), seeded(1), models=2, learning=SMALL, default_steps=60, search=GridSearch(5, 1), thresholds=(0.01, 10.0)
    )
    assert len(found.rounds) == 2
    assert found.rounds[0].trained.tolist() == [2.0]
    assert found.rounds[0].found.tolist() == found.rounds[1].trained.tolist() == [0.0]
    assert found.rounds[0].worst == pytest.approx(0.0)
    assert found.rounds[1].worst == pytest.approx(1.0)
    assert found.policy.act(torch.zeros(1, 1), None).tolist() == [0]


def test_a_search_needs_models_and_thresholds():
    for wrong in ({"models": 0}, {"thresholds": ()}, {"thresholds": (-1.0,)}):
        with pytest.raises(ValueError, match="give at least one model"):
            deep_iwocs(Ladder(), seeded(), **wrong)
