"""The robust races: general solvers get the state that we solve, Storm the intervals, and the report says what was found."""

import json
from pathlib import Path

import numpy as np
import pytest
from banach.mdp import instances
from banach.solvers import solve

ROOT = Path(__file__).parents[2]
pytest.importorskip("cvxpy")


@pytest.fixture(autouse=True)
def _the_root_is_importable(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))


@pytest.mark.parametrize(
    ("distance", "method"), [("l1", "highs"), ("l1", "cvxpy:highs"), ("kl", "cvxpy:clarabel"), ("chi2", "cvxpy:clarabel")]
)
def test_a_general_solver_gets_the_state_that_we_solve(distance, method):
    from benchmarks import updates
    from benchmarks.peers.updates import competitor

    for rewards in ("pairs", "transitions"):
        nominal, reward, ahead = updates.states(12, rewards)
        ball, some, value = updates.BALLS[distance], slice(3), np.broadcast_to(reward + 0.95 * ahead, nominal.shape)
        truth = updates.truth(ball, nominal[some], value[some])
        assert truth.width <= 1e-9
        found = competitor(distance, nominal[some], value[some], ball.radius, method).build()()
        assert truth.judge(found)[2] == "correct"
        whole = updates.truth(ball, nominal[:4], value[:4])
        assert whole.judge(updates.ours(ball, nominal, reward, ahead, False).build()())[2] == "correct"
        assert whole.judge(updates.ours(ball, nominal, reward, ahead, True).build()())[2] == "certified"


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(instances.garnet(states=30, actions=3, successors=3, discount=0.9), id="rewards of both signs"),
        pytest.param(instances.gridworld(side=5, walls=0.1, discount=0.9), id="negative rewards, a terminal state"),
        pytest.param(instances.random_ice(side=5, discount=0.9), id="a terminal state worth one"),
    ],
)
def test_storm_gets_the_intervals_that_we_solve(model):
    pytest.importorskip("stormpy")
    from benchmarks import robust
    from benchmarks.peers import intervals

    theirs = intervals.competitor(model, robust.RADIUS).build()()
    assert theirs.value == pytest.approx(solve(robust.robust("intervals", model), eps=1e-8).value, abs=1.1e-6)


@pytest.mark.parametrize(
    ("kind", "spelling", "told"),
    [
        ("updates", "l1:successors=9,rewards=pairs", "one state's s-rectangular update"),
        ("robust", "l1=0.2:garnet:states=30,actions=2,successors=3,discount=0.9", "large problems"),
    ],
)
def test_a_row_is_measured_and_reported(kind, spelling, told, tmp_path):
    from benchmarks import report_robust, robust, updates

    {"updates": updates, "robust": robust}[kind].run(spelling, [], 1, tmp_path / "row.json")
    row = json.loads((tmp_path / "row.json").read_text()) | {"kind": kind}
    assert row["competitors"][0]["name"] == "banach"
    assert {one["verdict"] for one in row["competitors"]} <= {"correct", "certified"}
    text = "\n".join(report_robust.sections([{"bandwidth": 1e10, "rows": [row]}]))
    assert told in text
    assert spelling in text


def test_a_search_is_counted_and_reported(tmp_path):
    from benchmarks import report_robust, searches

    spelling = "scenarios=3:garnet:states=8,actions=2,successors=3,discount=0.9"
    searches.run(spelling, [], 1, tmp_path / "row.json")
    row = json.loads((tmp_path / "row.json").read_text()) | {"kind": "search"}
    ways = ("search", "value iteration", "policy iteration")
    assert all(row[way]["rows"] >= row["pairs"] for way in ways[1:])
    assert max(row[way]["lower"] for way in ways) <= min(row[way]["upper"] for way in ways)
    assert row["search"]["known_rows"] > 0 == row["value iteration"]["known_rows"]
    text = "\n".join(report_robust.sections([{"rows": [row]}]))
    assert "worst-case search" in text
    assert spelling in text


def test_published_timings_stand_beside_ours(tmp_path):
    from benchmarks import published, report_robust

    published.run("projection", [], 1, tmp_path / "row.json")
    row = json.loads((tmp_path / "row.json").read_text()) | {"kind": "published"}
    assert [task["task"].split()[-1] for task in row["tasks"]] == ["100", "1000", "4000"]
    assert "Intel i9" in "\n".join(report_robust.sections([{"rows": [row]}]))


def test_growth_is_told_in_units_of_n_log_n():
    from benchmarks.report_robust import sections

    def row(n, seconds):
        record = {
            "name": "banach",
            "median_seconds": 1.0,
            "median_processor": seconds,
            "seconds": [seconds],
            "verdict": "certified",
        }
        return {"kind": "updates", "spelling": f"l1:successors={n},rewards=pairs", "successors": n, "competitors": [record]}

    (_, table) = sections([{"rows": [row(50, 1e-6), row(100, 2e-6 * np.log(100) / np.log(50))]}])
    assert table.splitlines()[-1].split("|")[-2].strip() == "1.00"
