"""The harness runs from end to end and judges answers rightly. What it measures is never asserted."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from banach.mdp import MDP, instances
from banach.mdp.criterion import TotalReward
from banach.solvers import solve

ROOT = Path(__file__).parents[2]
PEERS = ["quantecon:mpi20", "mdpsolver:mpi", "mdpsolver:mpi-gs", "storm:native", "storm:default", "storm:ovi", "storm:ii"]


@pytest.fixture(autouse=True)
def _the_root_is_importable(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))


def test_a_quick_run_writes_results_and_a_table_in_which_our_answer_is_certified(tmp_path):
    command = [sys.executable, "-m", "benchmarks", "taxi", "--quick", "--repeat", "1", "--out", str(tmp_path / "results")]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=240)
    (row,) = json.loads((tmp_path / "results" / "taxi.json").read_text())["rows"]
    assert row["competitors"][0]["name"] == "banach"
    assert row["competitors"][0]["verdict"] == "certified"
    assert row["spelling"] in (tmp_path / "RESULTS.md").read_text()


@pytest.mark.parametrize("peer", PEERS)
@pytest.mark.parametrize(
    "model",
    [
        pytest.param(instances.garnet(states=40, actions=3, successors=3, discount=0.9), id="rewards of both signs"),
        pytest.param(instances.gridworld(side=6, walls=0.1, discount=0.9), id="negative rewards, a terminal state"),
        pytest.param(instances.queue(capacity=4, discount=0.9), id="costs"),
        pytest.param(instances.random_ice(side=6, discount=0.9), id="a terminal state worth one"),
    ],
)
def test_a_peer_gets_the_model_that_we_solve(model, peer):
    from benchmarks.peers import competitors

    found = competitors(model, [peer])
    if not found:
        pytest.skip("not installed")
    assert found[0].build()().value == pytest.approx(solve(model, eps=1e-8).value, abs=1.1e-6)


def test_the_model_that_ends_with_probability_one_minus_discount_has_the_discounted_value():
    from benchmarks.peers.closed import ended

    model = instances.random_ice(side=5, discount=0.9)
    rows = ended(model)
    ends = np.arange(rows.n_states) == model.n_states
    first, last = rows.state_ptr[-2], rows.row_ptr[-2]
    undiscounted = MDP(
        np.append(rows.state_ptr[:-1], first), rows.row_ptr[:-1], rows.successor[:last], rows.probability[:last],
        rows.reward[:first], TotalReward(), terminal=ends,
    )  # fmt: skip
    assert solve(undiscounted, eps=1e-8).value[:-1] == pytest.approx(solve(model, eps=1e-8).value, abs=2e-8)


@pytest.mark.parametrize(
    ("shift", "bounds", "verdict"),
    [
        (0.0, None, "correct"),
        (2e-6, None, "missed"),
        (1e-6, None, "unverified"),
        (0.0, (-9e-7, 9e-7), "certified"),
        (0.0, (-9e-6, 9e-7), "correct"),
        (0.0, (2e-7, 9e-7), "wrong bounds"),
        (float("nan"), None, "missed"),
    ],
)
def test_an_answer_is_judged_by_its_distance_and_by_its_own_bounds(shift, bounds, verdict):
    from benchmarks.competitor import Result
    from benchmarks.race import Reference

    truth = np.array([1.0, 2.0])
    reference = Reference(truth - 1e-8, truth + 1e-8)
    own = (None, None) if bounds is None else (truth + bounds[0], truth + bounds[1])
    assert reference.judge(Result(truth + shift, *own))[2] == verdict


def test_a_competitor_that_fails_leaves_the_others_running():
    from benchmarks.competitor import Competitor, Result
    from benchmarks.race import race

    def broken():
        raise SystemExit("Error: no such model")

    good = Competitor("good", lambda: lambda: Result(np.zeros(2)))
    records = race([Competitor("bad", broken), good], None, repeat=3)
    assert records[0].verdict == "failed"
    assert "no such model" in records[0].failure
    assert len(records[1].seconds) == 3
