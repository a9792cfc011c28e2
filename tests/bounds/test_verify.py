"""A report's rows say what was measured, on what, against what, and how far it is proved."""

import dataclasses
import json
import math

import pytest
import sympy
from banach.bounds import FALSEHOODS, Bound, BoundError, Measurement, verify
from banach.bounds.contraction import GAUSS_SEIDEL, GEOMETRIC_DECAY, SWEEPS
from banach.bounds.extremal import cycle, loop
from banach.bounds.falsehoods import RESIDUAL_STOP
from banach.bounds.policies import DIFFERENCE, GREEDY_LOSS
from banach.bounds.residual import RESIDUAL
from banach.mdp import MDP, instances

x = sympy.Symbol("x")


def measuring(*pairs, axis="") -> Bound:
    """A bound whose measurements are given: (measured, promised)."""

    def measure(evidence):
        for step, (measured, promised) in enumerate(pairs):
            yield Measurement(measured, {x: promised}, {"step": step})

    return Bound("given", "q", x, {x: "a number"}, measure, axis=axis)


def test_a_row_of_the_loop_has_the_numbers_of_the_geometric_series():
    [row] = verify(GEOMETRIC_DECAY, {"one": loop(0.5)}).rows
    assert (row.instance, row.states, row.pairs, row.measurements) == ("one", 1, 1, len(SWEEPS))
    assert row.measured == row.promised == 2 * 0.5 ** row.parameters["sweeps"]
    assert (row.tightness, row.holds, row.proof, row.proof_checked) == (1.0, True, "exact rationals", True)


def test_a_row_carries_its_bounds_words():
    [row] = verify(GREEDY_LOSS, loop()).rows
    assert (row.bound, row.key, row.family, row.sense) == ("greedy loss", "greedy-loss", "policies", "at most")
    assert row.source == GREEDY_LOSS.source
    assert row.latex == GREEDY_LOSS.latex()
    assert row.instance == "model"


def test_a_row_shows_the_tightest_measurement_where_all_hold():
    [row] = verify(measuring((1, 4), (3, 4), (2, 4)), loop()).rows
    assert (row.measured, row.promised, row.tightness, row.parameters) == (3.0, 4.0, 0.75, {"step": 1})


def test_a_row_shows_the_worst_violation_where_one_breaks_the_bound():
    [row] = verify(measuring((4, 4), (5, 4), (6, 4)), loop()).rows
    assert (row.holds, row.measured, row.tightness) == (False, 6.0, 1.5)


def test_the_proof_of_a_row_is_the_weakest_of_its_measurements():
    [row] = verify(measuring((1, 4), (1.0, 4)), loop()).rows
    assert (row.proof, row.proof_checked) == ("within rounding", False)


def test_a_large_model_is_proved_by_brackets():
    [row] = verify(GAUSS_SEIDEL, {"grid": instances.gridworld(side=8, discount=0.9)}).rows
    assert (row.holds, row.proof, row.states) == (True, "certified brackets", 64)


def test_an_identity_on_a_large_model_holds_within_its_brackets():
    [row] = verify(DIFFERENCE, {"garnet": instances.garnet(states=40, actions=3)}).rows
    assert row.holds
    assert row.measured == pytest.approx(row.promised, rel=1e-9)


def test_a_curve_runs_along_the_axis_in_order():
    [curve] = verify(GEOMETRIC_DECAY, {"ring": cycle(3, 0.5)}).curves
    assert (curve.key, curve.instance, curve.axis) == (GEOMETRIC_DECAY.key, "ring", "sweeps")
    assert curve.x == list(map(float, SWEEPS))
    assert curve.measured == curve.promised == [2 * 0.5**k for k in SWEEPS]


def test_a_bound_without_an_axis_has_no_curve():
    assert verify(RESIDUAL, loop()).curves == ()


def test_a_report_is_plain_data():
    report = verify(GEOMETRIC_DECAY, loop())
    data = json.loads(json.dumps(report.to_dict()))
    assert data["holds"] is True
    assert data["rows"][0]["proof_checked"] is True
    assert data["rows"][0]["measured"] == report.rows[0].measured
    assert data["curves"][0]["x"] == list(report.curves[0].x)


def test_a_report_is_true_if_every_row_holds():
    assert verify([RESIDUAL, GEOMETRIC_DECAY], loop())
    assert not verify([RESIDUAL, FALSEHOODS[2]], loop())


def test_progress_is_reported_row_by_row():
    seen = []
    report = verify(RESIDUAL, {"a": loop(0.5), "b": loop(0.75)}, report=seen.append)
    assert tuple(seen) == report.rows


def test_a_family_is_verified_by_its_name():
    assert {row.family for row in verify("residual", loop()).rows} == {"residual"}


def test_an_unknown_family_is_refused():
    with pytest.raises(BoundError, match="no bound or family 'residuals'"):
        verify("residuals", loop())


def test_a_symbol_without_a_value_is_named():
    forgetful = dataclasses.replace(measuring((1, 2)), measure=lambda evidence: [Measurement(1, {})])
    with pytest.raises(BoundError, match="speaks of x"):
        verify(forgetful, loop())


def test_value_iteration_stops_seven_tenths_short_on_haddad_and_monmeges_chain():
    [row] = verify(RESIDUAL_STOP, {"chain": instances.haddad_monmege(n=20, p=0.7)}).rows
    assert (row.holds, row.proof) == (False, "exact rationals")
    assert row.measured == pytest.approx(0.7, abs=1e-5)
    assert row.promised == 1e-6
    assert row.parameters == {"eps": 1e-6, "sweeps": 21}


@pytest.mark.parametrize("bound", FALSEHOODS, ids=lambda bound: bound.key)
def test_a_false_statement_is_never_broken_within_rounding_only(bound):
    small = {name: model for name, model in bound.problems().items() if bound.about is not MDP or model.n_states <= 50}
    for row in verify(bound, small).rows:
        assert row.holds or row.proof_checked
        assert math.isfinite(row.measured)
