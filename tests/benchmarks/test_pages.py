"""Pages say what the kept numbers say, runs are made once, and each program runs from end to end at a small size."""

import json
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"


@pytest.fixture(autouse=True)
def _the_root_is_importable(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))


@pytest.mark.parametrize(
    ("module", "results", "kept"),
    [
        ("learning", "learning_smollm2", "LEARNING"),
        ("tours", "tours", "TOURS"),
        ("distributional", "distributional", "DISTRIBUTIONAL"),
    ],
)
def test_a_kept_page_is_made_of_the_kept_numbers(module, results, kept):
    made = __import__(f"benchmarks.{module}", fromlist=["page"]).page(json.loads((RESULTS / f"{results}.json").read_text()))
    assert made == (ROOT / "benchmarks" / f"{kept}.md").read_text()


def test_every_objective_raised_held_out_accuracy_beyond_the_interval_over_seeds():
    from benchmarks.learning import METHODS, gains, interval

    found = json.loads((RESULTS / "learning_smollm2.json").read_text())
    assert set(METHODS) == {"grpo", "dr_grpo", "risk_po", "nft", "dpo"}
    for method in METHODS:
        for kind in ("sampled", "greedy"):
            assert len(gains(found, method, kind)) == 3
            mean, half = interval(gains(found, method, kind))
            assert mean > half


def test_an_interval_is_students():
    from benchmarks.learning import interval

    assert interval([1.0, 2.0, 4.0]) == pytest.approx((7 / 3, 4.302653 * np.std([1, 2, 4], ddof=1) / 3**0.5), rel=1e-6)
    assert interval([2.0])[1] == float("inf")


def test_runs_that_are_there_are_not_made_again(tmp_path):
    from benchmarks.storage import complete

    made, found = [], {"runs": [{"network": "tail", "seed": 0}]}

    def make(name, seed):
        made.append((name, seed))
        if len(made) == 3:
            raise KeyboardInterrupt
        return {"network": name, "seed": seed}

    with pytest.raises(KeyboardInterrupt):
        complete(tmp_path / "x.json", found, "network", ("tail", "prefix"), 2, make)
    assert made == [("prefix", 0), ("tail", 1), ("prefix", 1)]
    assert json.loads((tmp_path / "x.json").read_text())["runs"] == found["runs"]
    complete(tmp_path / "x.json", found, "network", ("tail", "prefix"), 2, make)
    assert made[3:] == [("prefix", 1)]


def test_tours_are_trained_and_compared_at_a_small_size(tmp_path, monkeypatch):
    from benchmarks import tours

    for name, value in {"PLACES": 6, "TRIPS": 20, "KICKS": 5, "TESTS": {6: (3, 5), 9: (2, 5)}, "BEAM": 2, "NEAREST": 3}.items():
        monkeypatch.setattr(tours, name, value)
    (tmp_path / "results").mkdir()
    assert tours.main(["--seeds", "1", "--batches", "2", "--out", str(tmp_path / "results")]) == 0
    found = json.loads((tmp_path / "results" / "tours.json").read_text())
    assert [run["network"] for run in found["runs"]] == ["tail", "prefix", "pointer"]
    for run in found["runs"]:
        assert all(gap >= -1e-6 for gaps in run["gaps"].values() for gap in gaps.values())
        assert all(run["gaps"]["eight positions"][n] <= run["gaps"]["greedy"][n] + 1e-6 for n in ("6", "9"))
    assert "3 of 6, 2 of 9 places" in (tmp_path / "TOURS.md").read_text()


def test_a_tiny_model_is_trained_and_compared(tmp_path, monkeypatch):
    from benchmarks import learning

    monkeypatch.setattr(learning, "PROBLEMS", 4)
    monkeypatch.setattr(learning, "METHODS", {"dr_grpo": {}})
    (tmp_path / "results").mkdir()
    words = ["--model", "tiny", "--task", "digit_chain", "--seeds", "1", "--steps", "2"]
    assert learning.main([*words, "--out", str(tmp_path / "results"), "--work", str(tmp_path / "work")]) == 0
    found = json.loads((tmp_path / "results" / "learning_tiny.json").read_text())
    (run,) = found["runs"]
    assert len(run["steps"]) == 2
    assert 0 <= run["end"]["sampled"] <= 4
    assert "| dr_grpo | 1 |" in (tmp_path / "LEARNING.md").read_text()
    assert not (tmp_path / "work" / "dr_grpo-0").exists()


def test_the_flow_of_a_tiny_model_is_written_and_the_kept_one_is_smollm2s(tmp_path):
    from benchmarks import entropy_flow

    assert entropy_flow.main(["--model", "tiny", "--problems", "2", "--out", str(tmp_path)]) == 0
    found = json.loads((tmp_path / "entropy_flow_tiny.json").read_text())
    assert len(found["stream"]) == len(found["mlp"]) + 1
    kept = json.loads((RESULTS / "entropy_flow_smollm2.json").read_text())
    assert (len(kept["stream"]), kept["vocabulary"]) == (31, 49152)
    assert kept["stream"][15] < 0.5 < kept["normed"][15]
    assert kept["size"][20] > 500 * kept["size"][0]


def test_smollm2s_mlps_explore_to_the_end_of_layer_21_then_waver_then_converge_in_the_last_three():
    kept = json.loads((RESULTS / "entropy_flow_smollm2.json").read_text())
    change = np.subtract(kept["mlp"], kept["before_mlp"])  # entropy written less entropy read, nats
    assert change.shape == (30,)
    assert change[:22].min() > 0.2
    assert np.abs(change[22:27]).max() < 0.25
    assert {bool(x > 0) for x in change[22:27]} == {True, False}
    assert change[27:].max() < -0.4
    assert kept["last_exploring_layer"] == max(layer for layer in range(30) if change[layer] > 0)
