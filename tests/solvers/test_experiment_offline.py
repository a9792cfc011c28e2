"""How many episodes does offline planning need on histories, on their classes, and on classes learned from the data?

`python tests/solvers/test_experiment_offline.py` measures again and writes `offline.json` beside this file: by problem and
method the mean value over 20 data sets of 4, 8, ..., 4096 episodes, the best value being 1. Ten minutes on one core.
"""

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from banach.mdp import simulate
from banach.mdp.history import history_tree
from banach.mdp.instances_pomdp import noisy_chain, t_maze
from banach.solvers import (
    behaviour_cloning,
    classes_from_data,
    coarsest_bisimulation,
    merge_states,
    pessimistic_value_iteration,
)

COMMITTED = Path(__file__).parent / "offline.json"
PROBLEMS = {
    "chain 2, 4": noisy_chain(2, 4),
    "chain 2, 6": noisy_chain(2, 6),
    "chain 3, 4": noisy_chain(3, 4),
    "chain 3, 6": noisy_chain(3, 6),
    "chain 8, 3": noisy_chain(8, 3),
    "T-maze 2": t_maze(2),
}
METHODS = ("histories", "classes", "learned", "cloning")
SIZES = tuple(2**k for k in range(2, 13))
SETS = 20


@cache
def prepared(name):
    """The tree, a policy that takes action 0 until the last decision and there either, and the coarsest classes."""
    tree = history_tree(PROBLEMS[name])
    last = tree.steps[tree.model.pair_state] == tree.horizon - 1
    logged = np.where(last, 0.5, np.tile([1.0, 0.0], tree.model.n_pairs // 2))
    if tree.model.n_pairs % 2:
        logged = np.append(logged, 1.0)
    return tree, logged, coarsest_bisimulation(tree.model)


def worths(name, episodes, seed, methods=METHODS):
    """What each method's policy is worth, from one data set."""
    tree, logged, known = prepared(name)
    data = simulate(tree.model, logged, episodes, tree.horizon, np.random.default_rng([seed, episodes]))
    n, found = tree.model.n_states, {}
    for method in methods:
        if method == "cloning":
            policy = behaviour_cloning(data, n, 2)
        elif method == "histories":
            policy = pessimistic_value_iteration(data, n, 2, pessimism=0).policy
        else:
            classes = known if method == "classes" else classes_from_data(tree, data)
            policy = pessimistic_value_iteration(merge_states(data, classes), classes.n_classes, 2, pessimism=0).lift(classes)
        found[method] = tree.worth(policy)
    return found


def measure():
    table = {}
    for name in PROBLEMS:
        for episodes in SIZES:
            runs = [worths(name, episodes, seed) for seed in range(SETS)]
            for method in METHODS:
                table.setdefault(name, {}).setdefault(method, []).append(float(np.mean([run[method] for run in runs])))
    return table


def threshold(found):
    """The least number of episodes from which on 90 % of the best value is reached; infinite where it is not."""
    enough = [n for n, value in zip(SIZES, found, strict=True) if value >= 0.9]
    return enough[0] if enough else np.inf


@pytest.fixture(scope="module")
def kept():
    return json.loads(COMMITTED.read_text())


CHAINS = {"chain 2, 4": 16, "chain 2, 6": 64, "chain 3, 4": 81, "chain 3, 6": 729, "chain 8, 3": 512}


@pytest.mark.parametrize(("name", "histories"), CHAINS.items())
def test_histories_need_episodes_in_proportion_to_their_number_and_classes_do_not(kept, name, histories):
    """Whether the good action was seen is negatively correlated from history to history, variance <= 1/4: the mean over 20 sets
    is off by 5.5 deviations with a probability below 1e-7 a cell, 55 cells."""
    for n, value in zip(SIZES, kept[name]["histories"], strict=True):
        closed = 1 - (1 - 0.5 / histories) ** n
        assert abs(value - closed) < 5.5 * np.sqrt(closed * (1 - closed) / histories / SETS) + 1e-12
    wanted = np.log(0.1) / np.log(1 - 0.5 / histories)
    assert wanted / 2 < threshold(kept[name]["histories"]) < 2 * wanted
    assert kept[name]["learned"] == kept[name]["classes"]
    for n, value in zip(SIZES, kept[name]["classes"], strict=True):
        assert abs(value - (1 - 0.5**n)) <= 5.5 * 0.5 ** (n / 2) / np.sqrt(SETS)
    assert threshold(kept[name]["classes"]) <= 8
    assert threshold(kept[name]["cloning"]) == np.inf


def test_on_a_problem_whose_histories_matter_a_guess_of_classes_is_worth_nothing_until_each_comes_often(kept):
    """16 histories at the turn. 64 episodes are enough for most of them, but not to tell any two apart."""
    found = {method: dict(zip(SIZES, values, strict=True)) for method, values in kept["T-maze 2"].items()}
    assert found["classes"][16] > 0.95
    assert found["histories"][64] > 0.85
    assert max(found["learned"][n] for n in (4, 8, 16, 32, 64)) < 0.52
    assert found["learned"][256] == found["histories"][256] == 1
    assert threshold(kept["T-maze 2"]["cloning"]) == np.inf


@pytest.mark.parametrize(("name", "episodes"), [("chain 2, 4", 8), ("chain 2, 4", 128), ("T-maze 2", 64), ("T-maze 2", 256)])
def test_the_kept_numbers_come_again(kept, name, episodes):
    runs = [worths(name, episodes, seed) for seed in range(SETS)]
    for method in METHODS:
        assert np.mean([run[method] for run in runs]) == pytest.approx(kept[name][method][SIZES.index(episodes)], abs=1e-12)


if __name__ == "__main__":
    COMMITTED.write_text(json.dumps(measure(), indent=1) + "\n")
