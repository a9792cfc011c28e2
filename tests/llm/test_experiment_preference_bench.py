"""Which preference objective finds the reward, and which the Nash policy: `make experiments` prints the table."""

import pytest
from banach.llm.preference_bench import preference_bench

pytestmark = pytest.mark.slow

NASH = ("online_ipo", "inpo", "nash_md, self-play")
REWARD = ("bradley_terry + copg", "dpo", "online_dpo")


@pytest.fixture(scope="module")
def rows(request):
    bench = preference_bench()
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        print("\n" + bench.table())
    return {row.method: row for row in bench.rows}


def test_with_a_reward_reinforcement_learning_dpo_and_online_dpo_find_the_best_policy_of_their_divergence(rows):
    assert all(rows[name].regret < 1e-9 for name in REWARD)
    assert all(row.regret > 1e-7 for name, row in rows.items() if name not in REWARD)


def test_without_a_reward_only_self_play_on_preferences_reaches_the_regularised_nash_policy(rows):
    assert all(rows[name].worst_gap < 1e-8 for name in NASH)
    assert all(row.cyclic_gap > 1e-6 for name, row in rows.items() if name not in NASH)


def test_no_temperature_would_have_brought_an_offline_objective_there(rows):
    assert all(row.least_gap > 1e-6 for name, row in rows.items() if name not in NASH)


def test_a_mixed_opponent_moves_nash_md_off_the_nash_policy_by_a_little(rows):
    assert 1e-6 < rows["nash_md, mixture 1/8"].cyclic_gap < rows["ipo"].cyclic_gap
