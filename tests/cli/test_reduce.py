"""`banach reduce`: what it prints, saves and refuses."""

import json
from pathlib import Path

import pytest
from banach.cli.main import main
from banach.mdp import MDP
from banach.solvers import coarsest_bisimulation, solve

from ..solvers import bisimulation_witness as slow

DATA = Path(__file__).parents[1] / "data"
CONSENSUS = [str(DATA / "consensus_2_2.umb"), "--discount", "0.9"]


@pytest.fixture
def banach(capsys):
    """Runs the command; returns exit code, stdout and stderr."""

    def run(*words):
        try:
            code = main([str(word) for word in words])
        except SystemExit as left:
            code = left.code
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def test_it_says_classes_ratio_and_both_halves_of_the_proof(banach):
    code, out, err = banach("reduce", *CONSENSUS)
    assert (code, err) == (0, "")
    assert "144, with 191 actions and 237 transitions" in out
    assert "1.889 states a class" in out
    assert "holds: 400 rows compared in exact arithmetic" in out
    assert "splits of the classes, each decided in fractions" in out


def test_the_document_holds_the_classes(banach):
    facts = json.loads(banach("reduce", *CONSENSUS, "--json", "--actions", "position")[1])
    model = MDP.from_umb(CONSENSUS[0], 0.9)
    assert facts["classes_of_states"] == coarsest_bisimulation(model).states.tolist()
    assert facts["classes"] == 193
    assert facts["proof"] == {"exact": True, "reward": 0.0, "probability": 0.0, "rows": 400}
    assert facts["coarsest"]["proved"]


@pytest.mark.parametrize("name", ["small.npz", "small.umb"])
def test_the_merged_model_is_saved_and_worth_the_same(banach, tmp_path, name):
    model, saved = slow.symmetric_grid(5), tmp_path / name
    model.save(tmp_path / "grid.npz")
    code, out, _ = banach("reduce", tmp_path / "grid.npz", "--save", saved)
    assert code == 0
    assert str(saved) in out
    small = MDP.load(saved) if name.endswith("npz") else MDP.from_umb(saved, 0.9)
    assert small.n_states == 6
    assert solve(small).value.min() == pytest.approx(solve(model).value.min(), abs=2e-6)


def test_fewer_labels_merge_more(banach):
    all_of_them = json.loads(banach("reduce", *CONSENSUS, "--json")[1])["classes"]
    one = json.loads(banach("reduce", *CONSENSUS, "--json", "--labels", "finished")[1])["classes"]
    none = json.loads(banach("reduce", *CONSENSUS, "--json", "--labels", "")[1])["classes"]
    assert none == 1 < one < all_of_them


def test_what_tells_two_states_apart_is_said(banach):
    code, out, _ = banach("reduce", *CONSENSUS, "--apart", 0, 1)
    assert code == 0
    assert any("state 0" in line and "state 1" in line for line in out.splitlines())
    assert any(word in out.splitlines()[-1] for word in ("with probability", "at once", "alone"))


def test_merging_within_a_window_says_what_classes_differ_by(banach):
    code, out, _ = banach("reduce", "garnet:states=30,actions=2,successors=3", "--within", "0.9")
    assert code == 0
    assert "in rewards and" in out
    assert "nothing left" not in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--labels", "gaol"], "no label 'gaol'"),
        (["--apart", 0, 999], "no state 999"),
        (["--apart", 3, 3], "one class"),
        (["--within", "-1"], "number >= 0"),
        (["--robust", "l1:0.1"], "leave them out"),
    ],
)
def test_impossible_requests_are_told_in_one_line(banach, words, message):
    code, _, err = banach("reduce", *CONSENSUS, *words)
    assert code == 2
    assert message in err
    assert len(err.splitlines()) == 1


def test_solve_goes_through_a_quotient_and_proves_the_answer_for_the_model(banach):
    code, out, err = banach("solve", "frozen_lake", "--reduce", "--json")
    assert (code, err) == (0, "")
    said = json.loads(out)
    assert (said["states"], said["proof"]["holds"]) == (16, True)
    assert "13 classes for 16 states" in said["reason"]
    assert said["initial"]["lower"] <= 14 / 17 <= said["initial"]["upper"]


def test_merging_what_is_alike_widens_the_bracket_and_keeps_the_proof(banach):
    words = ["solve", "garnet:states=30,actions=2,successors=3,discount=0.9", "--json"]
    near, exact = (json.loads(banach(*words, *more)[1]) for more in (("--reduce", "0.5"), ()))
    assert near["proof"]["holds"]
    assert near["width"] > exact["width"]
    assert near["greatest"]["lower"] <= exact["greatest"]["upper"]
    assert exact["greatest"]["lower"] <= near["greatest"]["upper"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--reduce=-1",), "must be a number >= 0"),
        (("--reduce", "--robust", "l1:0.1"), "for RobustMDP leave it out"),
        (("--reduce", "--checkpoint", "x"), "give one of the two"),
    ],
)
def test_a_reduction_that_cannot_be_is_refused(banach, words, said):
    code, out, err = banach("solve", "riverswim:discount=0.9", *words)
    assert (code, out) == (2, "")
    assert said in err
