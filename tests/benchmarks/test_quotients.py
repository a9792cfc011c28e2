"""The models of the comparison have the classes that it is told, and a row is measured and shown. Times are never asserted."""

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _the_root_is_importable(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))


@pytest.mark.parametrize(("kind", "size"), [("product", 4), ("square", 7), ("copies", 20), ("irrelevant", 3)])
def test_a_model_has_as_many_classes_as_is_known(kind, size):
    from banach.solvers import coarsest_bisimulation, stability

    from benchmarks.quotient_models import MODELS

    model, classes = MODELS[kind](size)
    partition = coarsest_bisimulation(model, actions="any")
    assert partition.n_classes == classes
    assert stability(model, partition)


def test_the_models_are_those_that_are_written_down_state_by_state():
    from banach.solvers import solve

    from benchmarks.quotient_models import product, square

    from ..solvers import bisimulation_witness as slow

    pairs = (product(3)[0], slow.product_of_chains(3, discount=0.999)), (square(5)[0], slow.symmetric_grid(5, 0.999))
    for fast, written in pairs:
        assert (fast.n_states, fast.n_pairs) == (written.n_states, written.n_pairs)
        assert sorted(solve(fast).value) == pytest.approx(sorted(solve(written).value), abs=2e-6)


@pytest.mark.parametrize("peer", ["storm", "bispy"])
def test_a_peer_counts_the_same_classes(peer):
    from benchmarks import quotients
    from benchmarks.quotient_models import square

    pytest.importorskip({"storm": "stormpy", "bispy": "bispy"}[peer])
    model, classes = square(7)
    assert getattr(quotients, f"_{peer}")(model)() == classes


def test_rows_are_measured_and_shown(tmp_path):
    from benchmarks import machine, quotients

    rows = []
    for kind, size in (("product", 4), ("solve:irrelevant", 2)):
        quotients._measure(kind, size, 1, tmp_path / "row.json")
        rows.append(json.loads((tmp_path / "row.json").read_text()))
    assert rows[0]["right"]
    assert rows[0]["stable"]
    assert max(rows[1][name]["width"] for name in ("direct", "reduced")) <= 1e-6
    run = {"command": "c", "date": "d", "machine": machine.description(), "load": 0.0, "rows": rows[:1], "reduced": rows[1:]}
    shown = quotients._markdown(run)
    assert "| product 4 | 81 | 540 | 15 |" in shown
    assert "| irrelevant 2 | 256 |" in shown
