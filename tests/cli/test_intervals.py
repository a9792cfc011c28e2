"""`banach solve` and `banach check` on files of intervals, and average reward against nature."""

import json
from pathlib import Path

import pytest
from banach.cli.main import main

DIE = Path(__file__).parents[1] / "data" / "die_intervals.umb"


def run(capsys, *words):
    try:
        code = main([str(word) for word in words])
    except SystemExit as left:
        code = left.code
    said = capsys.readouterr()
    return code, said.out, said.err


def test_a_file_of_intervals_is_solved_and_its_certificate_checked(capsys, tmp_path):
    saved = tmp_path / "proof.npz"
    asked = (DIE, "--target", "one", "--horizon", "300")
    code, out, err = run(capsys, "solve", *asked, "--eps", "1e-9", "--save-certificate", saved, "--json")
    assert code == 0, err
    facts = json.loads(out)
    assert facts["initial"]["lower"] == pytest.approx(1 / 21, abs=1e-8)
    assert facts["nature"] == {"set": "Interval of each pair", "rectangular": "sa", "optimistic": False}
    code, _, err = run(capsys, "check", *asked, saved)
    assert code == 0, err


def test_costs_are_raised_by_the_same_nature(capsys):
    asked = (DIE, "--target", "one", "--horizon", "300", "--minimize")
    code, out, err = run(capsys, "solve", *asked, "--eps", "1e-9", "--json")
    assert code == 0, err
    assert json.loads(out)["initial"]["lower"] == pytest.approx(8 / 21, abs=1e-8)


def test_a_file_that_says_what_nature_may_do_is_not_given_another_set(capsys):
    code, _, err = run(capsys, "solve", DIE, "--target", "one", "--discount", "0.9", "--robust", "l1:0.1")
    assert code != 0
    assert "says itself what nature may do" in err


def test_average_reward_against_nature(capsys):
    asked = ("riverswim", "--average-reward", "--robust", "contamination:0.1", "--everywhere", "--eps", "1e-4", "--json")
    code, out, err = run(capsys, "solve", *asked)
    assert code == 0, err
    assert json.loads(out)["criterion"]["name"] == "AverageReward"
