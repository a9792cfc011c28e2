"""Answers of groups, matched best with worst, and how often each beats its mates: by hand and by counting."""

import numpy as np
import pytest
import torch
from banach.llm.group_pairs import matched, wins


def test_the_best_is_matched_with_the_worst_within_its_group_while_they_differ():
    reward = torch.tensor([0.0, 1.0, 0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 1.0])
    kept = torch.ones(12, dtype=torch.bool)
    assert matched(reward, kept, 4).tolist() == [[1, 0], [3, 2], [11, 10]]
    kept[0] = False
    assert matched(reward, kept, 4).tolist() == [[1, 2], [11, 10]]
    assert matched(torch.ones(6), torch.ones(6, dtype=torch.bool), 3).shape == (0, 2)


@pytest.mark.parametrize("seed", range(20))
def test_wins_are_counted(seed):
    rng = np.random.default_rng(seed)
    reward, kept = rng.integers(0, 3, 15) / 2, rng.random(15) < 0.8
    found = wins(torch.tensor(reward), torch.tensor(kept), 5)
    for i in range(15):
        mates = [j for j in range(i // 5 * 5, i // 5 * 5 + 5) if j != i and kept[j]]
        share = sum(1.0 if reward[i] > reward[j] else 0.5 if reward[i] == reward[j] else 0.0 for j in mates)
        assert float(found[i]) == pytest.approx(share / max(len(mates), 1), abs=1e-12)
