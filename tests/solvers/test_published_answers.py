"""The certified brackets of models that Storm wrote contain the published exact answers, as rationals.

Answers: Hartmanns et al., The Quantitative Verification Benchmark Set, TACAS 2019 (computed with Storm's exact engine); for the
dice, Knuth and Yao 1976; for the election of one of three by numbers up to five, 1 / (1 - 1/25), since it fails when all agree.
"""

from fractions import Fraction
from pathlib import Path

import pytest
from banach.mdp import MDP, TotalReward
from banach.solvers import check, solve

DATA = Path(__file__).parent.parent / "data"
LEAST = TotalReward(minimize=True)

PUBLISHED = [
    ("die", {"target": "six"}, Fraction(1, 6)),
    ("die", {"target": "done", "reward": "coin_flips"}, Fraction(11, 3)),
    ("two_dice", {"target": "seven"}, Fraction(1, 6)),
    ("consensus_2_2", {"target": ["finished", "all_coins_equal_1"], "criterion": LEAST}, Fraction(49, 128)),
    ("consensus_2_2", {"target": "finished", "reward": "steps"}, Fraction(75)),
    ("consensus_2_2", {"target": "finished", "reward": "steps", "criterion": LEAST}, Fraction(48)),
    ("csma_2_2", {"target": "all_delivered", "avoid": "collision_max_backoff"}, Fraction(7, 8)),
    ("csma_2_2", {"target": "all_delivered", "reward": "time"}, Fraction(227630345357, 3221225472)),
    ("csma_2_2", {"target": "all_delivered", "reward": "time", "criterion": LEAST}, Fraction(53954981353, 805306368)),
    ("firewire_3", {"target": "elected", "reward": "time"}, Fraction(299)),
    ("firewire_3", {"target": "elected", "reward": "time", "criterion": LEAST}, Fraction(553, 4)),
    ("firewire_3", {"target": "elected", "reward": "time_sending"}, Fraction(18)),
    ("leader_sync_3_5", {"target": "elected", "reward": "num_rounds"}, Fraction(25, 24)),
]


@pytest.mark.parametrize(("name", "question", "exact"), PUBLISHED)
def test_the_bracket_contains_the_published_exact_answer(name, question, exact):
    problem = MDP.from_umb(DATA / f"{name}.umb", **question)
    certificate = solve(problem, eps=1e-6).certificate
    start = int(problem.initial.argmax())
    assert check(problem, certificate)
    assert certificate.width <= 1e-6
    assert Fraction(certificate.lower[start]) <= exact <= Fraction(certificate.upper[start])
