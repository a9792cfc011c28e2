"""Does the bisimulation loss help a learner of logged histories? A T-maze, by number of episodes; five minutes on one core.

`python tests/solvers/neural/test_experiment_histories.py` measures again and writes `history_learning.json` beside this file:
by method and number of episodes, success (0.5 is chance, 1 optimal) and bisimulation loss, one entry a seed. On other machines
numbers may differ in their last digits, and a run may then part from the committed one.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from banach.mdp.instances_pomdp import t_maze
from banach.mdp.pomdp import episodes, uniform
from banach.solvers.neural import HistoryLearning

COMMITTED = Path(__file__).parent / "history_learning.json"
METHODS = {
    "without": HistoryLearning(steps=600),
    "matched, 0.1": HistoryLearning(steps=600, weight=0.1),
    "matched, 1": HistoryLearning(steps=600, weight=1.0),
    "unmatched, 0.1": HistoryLearning(steps=600, weight=0.1, matched=False),
}
SEEDS = 5


def measure(sizes=(16, 64, 256), methods=tuple(METHODS)):
    """Success on 1000 fresh episodes, and the loss on the data, by method and number of logged episodes."""
    torch.set_num_threads(1)
    problem, found = t_maze(5), {}
    for name in methods:
        for n in sizes:
            runs = []
            for seed in range(SEEDS):
                data = episodes(problem, uniform(problem), n, np.random.default_rng([seed, n]))
                generator = torch.Generator().manual_seed(seed)
                agent = METHODS[name].learn(data, problem.n_observations, problem.n_actions, generator)
                fresh = episodes(problem, agent.act(), 1000, np.random.default_rng([seed, n, 1]))
                runs.append((float(fresh.rewards.sum(axis=1).mean()), agent.bisimulation))
            success, loss = zip(*runs, strict=True)
            found[f"{name}, {n} episodes"] = {"success": success, "loss": [round(x, 5) for x in loss]}
    return found


def mean(found, key, measure="success"):
    return np.mean(found[key][measure])


@pytest.mark.slow
def test_the_loss_helps_where_episodes_are_few():
    found = measure((16,), ("without", "matched, 0.1", "unmatched, 0.1"))
    assert mean(found, "matched, 0.1, 16 episodes") > mean(found, "without, 16 episodes") + 0.1
    assert mean(found, "matched, 0.1, 16 episodes") > mean(found, "unmatched, 0.1, 16 episodes")
    assert mean(found, "matched, 0.1, 16 episodes", "loss") < 0.01 * mean(found, "without, 16 episodes", "loss")


@pytest.mark.slow
def test_it_is_not_needed_where_they_are_many_and_can_spoil():
    found = measure((256,), ("without", "matched, 1"))
    assert mean(found, "without, 256 episodes") == 1
    assert mean(found, "matched, 1, 256 episodes") < 0.9


if __name__ == "__main__":
    COMMITTED.write_text(json.dumps(measure(), indent=1) + "\n")
