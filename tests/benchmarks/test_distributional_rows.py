"""Rows of the benchmark of laws are measured and shown, and scipy's sweeps are the same sweeps. Times are never asserted."""

from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _the_root_is_importable(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    monkeypatch.setenv("BANACH_THREADS", "1")  # rows set it, and this puts it back


def test_rows_are_measured_and_shown(monkeypatch):
    from benchmarks import distributional, machine

    monkeypatch.setattr(distributional, "_ATOMS", 1)
    monkeypatch.setattr(distributional, "_TRIAD", 1000)
    failed = {"states": 7, "size": 9, "failure": "stopped after 1 s"}
    sizes = {"sweep": (60, 11), "quantiles": (60, 7), "exact": (30, 9), "control": (20, 100)}
    found = {kind: distributional.measure(kind, *size, 2) for kind, size in sizes.items()}
    row, merged, exact, control = found.values()
    head = {"command": "c", "date": "d", "machine": machine.description(), "load": 0.0}
    run = {kind: head | {"rows": [each, failed]} for kind, each in found.items()}
    assert row["differ"] < 1e-13
    assert merged["differ"] < 1e-13
    assert (row["least"], row["moved"]) == (16 * 60 * 11, 56 * 60 * 11)
    assert exact["atoms"] == 30 * 9
    assert 0 < exact["width"] < 1e-12
    assert control["lower"] < control["upper"] < control["lower"] + 5
    shown = distributional.page(run)
    assert "| 60 | 11 | " in shown
    assert "| 30 | 4 | 270 | " in shown
    assert "| 7 |  |  | stopped after 1 s |  |" in shown


@pytest.mark.parametrize("points", [10, 11])
def test_scipys_sweeps_end_in_the_same_laws(points):
    from banach.mdp import OutcomeMDP, instances
    from banach.solvers import Categorical, projected_evaluation

    from benchmarks.distributional import ScipySweeps

    problem = instances.garnet(states=40, actions=1, discount=0.8)
    model = OutcomeMDP(problem)
    theirs = ScipySweeps(model, points, model.returns_within())
    assert theirs.masses.sum(axis=1) == pytest.approx(np.ones(40))
    for _ in range(150):
        theirs.sweep()
    ours = projected_evaluation(problem, np.zeros(40, dtype=int), Categorical(points), tol=1e-9)
    np.testing.assert_allclose(theirs.masses, ours.weights, rtol=0, atol=1e-7)


def test_a_row_that_fails_says_so():
    from benchmarks.apart import measured

    assert "KeyError" in measured("distributional", ["no such kind", "1", "1"], 1, 100)["failure"]
