"""`banach train` and `banach model`: what they print, what they refuse, and that a run is taken up where it stopped."""

import json

import pytest
from banach.cli.main import main

pytest.importorskip("torch")
pytest.importorskip("transformers")

SMALL = (
    *("--objective", "grpo:beta=0.1", "--task", "digit_chain:base=3,longest=2,shortest=1", "--model", "tiny:layers=1,width=16"),
    *("--steps", "2", "--prompts", "4", "--group-size", "4", "--max-tokens", "4", "--rate", "1e-3"),
    *("--warm-start", "20", "--warm-rate", "0.01", "--noise", "0.3", "--evaluate-every", "1", "--evaluate-problems", "8"),
)


def run(capsys, *words):
    code = main(["train", *words])
    return code, capsys.readouterr()


def test_a_run_is_made_told_and_taken_up_again(tmp_path, capsys):
    out = str(tmp_path / "run")
    code, said = run(capsys, *SMALL, "--out", out)
    assert code == 0
    assert "held out" in said.out
    code, said = run(capsys, "--resume", "--out", out, "--steps", "3", "--json")
    assert code == 0
    document = json.loads(said.out)
    assert document["last"]["step"] == 3
    assert document["settings"]["objective_settings"] == {"beta": 0.1}
    assert document["settings"]["steps"] == 3


def test_a_dry_run_says_what_it_would_take_and_leaves_nothing(tmp_path, capsys):
    code, said = run(capsys, *SMALL, "--dry-run", "--out", str(tmp_path / "run"))
    assert code == 0
    assert "estimated peak" in said.out
    assert "4 x 4 answers of at most 4 tokens" in said.out
    code, said = run(capsys, *SMALL, "--dry-run", "--json")
    assert json.loads(said.out)["memory"]["peak"] > 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--objective", "grop"], "no objective is called 'grop'; did you mean grpo"),
        (["--objective", "grpo:colour=1"], "grpo has no setting colour"),
        (["--task", "digit_chians"], "no task is called 'digit_chians'; did you mean digit_chain"),
        (["--model", "smolm2"], "did you mean smollm2"),
        (["--prompts", "100000000"], "would not fit"),
        (["--resume"], "holds no run to resume"),
    ],
)
def test_what_does_not_exist_or_fit_is_told_in_one_line(words, message, tmp_path, capsys):
    code, said = run(capsys, *SMALL, "--out", str(tmp_path / "run"), *words)
    assert code == 2
    assert message in said.err
    assert said.err.count("\n") == 1


def test_a_missing_model_names_the_command_that_fetches_it(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("BANACH_CACHE", str(tmp_path))
    code, said = run(capsys, "--model", "smollm2", "--out", str(tmp_path / "run"))
    assert code == 2
    assert "banach model smollm2" in said.err
