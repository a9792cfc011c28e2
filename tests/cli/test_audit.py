"""`banach audit`: what it audits, prints and exits with; and the committed page of findings against a fresh run."""

import dataclasses
import json
import re
import sys
from pathlib import Path

import pytest
from banach.cli.main import main
from banach.llm.peers.agreement import difference
from banach.llm.peers.catalogue import PEERS, Peer, peer, versions
from banach.llm.peers.survey import line, markdown, row, survey

PAGE = Path(__file__).parents[2] / "llm" / "FINDINGS.md"

OWN = """
import torch

def reinforce(logp, logp_old, logp_ref, mask, rewards, groups):
    return -(rewards[:, None] * torch.where(mask, logp, 0.0)).sum() / len(rewards)

def dpo(chosen, rejected, ref_chosen, ref_rejected, length_chosen, length_rejected):
    return -torch.nn.functional.logsigmoid(0.3 * (chosen - ref_chosen - rejected + ref_rejected)).mean()

number = 3
"""


@pytest.fixture
def banach(capsys, tmp_path, monkeypatch):
    """Runs the command in a folder with a module `own_losses`; returns exit code, stdout and stderr."""
    (tmp_path / "own_losses.py").write_text(OWN)
    (tmp_path / "own_broken.py").write_text("raise RuntimeError('not today')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])

    def run(*words):
        code = main([str(word) for word in words])
        said = capsys.readouterr()
        return code, said.out, said.err

    yield run
    for name in ("own_losses", "own_broken"):
        sys.modules.pop(name, None)


def verdicts(document):
    return {finding["key"]: finding for finding in document["findings"]}


def test_a_function_of_the_current_folder_is_audited(banach):
    code, out, _ = banach("audit", "own_losses:reinforce", "--group-size", 2, "--json")
    assert code == 0
    document = json.loads(out)
    assert document["subject"] == "own_losses:reinforce"
    assert document["setting"]["group_size"] == 2
    assert verdicts(document)["direction"]["value"] == pytest.approx(1)


def test_a_function_of_pairs_is_audited_and_its_page_needs_no_other_file(banach, tmp_path):
    code, out, _ = banach("audit", "--pairs", "own_losses:dpo", "--html", tmp_path / "dpo.html", "--json")
    assert code == 0
    assert verdicts(json.loads(out))["margin"]["value"] == pytest.approx(0.3)
    page = (tmp_path / "dpo.html").read_text()
    assert "own_losses:dpo" in page
    assert not re.search(r"(?:src|href)=.https?:", page)


def test_an_objective_of_the_catalogue_is_audited_with_its_settings(banach):
    code, out, _ = banach("audit", "--pairs", "dpo:temperature=0.25", "--json")
    assert code == 0
    assert verdicts(json.loads(out))["margin"]["value"] == pytest.approx(0.25)


def test_a_setting_without_a_default_is_the_examples_and_is_told(banach):
    code, out, _ = banach("audit", "apo", "--group-size", 2, "--json")
    assert code == 0
    document = json.loads(out)
    assert document["subject"] == "apo:tau=0.5"
    assert verdicts(document)["assumed"]["details"]["fields"] == ["mode_B", "forced_B"]
    assert "direction" in verdicts(document)


def test_trls_cispo_comes_out_with_a_fifth_of_its_weight(banach):
    code, out, _ = banach("audit", "--trl", "cispo", "--group-size", 2)
    assert code == 0
    assert "audit of TRL cispo" in out
    assert re.search(r"FAULT +weight given to +On-policy tokens get only 0\.2 of their weight", out)


def test_a_loss_of_ligers_is_audited_with_settings_of_its_own(banach):
    code, out, _ = banach("audit", "--liger", "sigmoid:beta=0.3", "--json")
    assert code == 0
    document = json.loads(out)
    assert (document["subject"], document["kind"]) == ("Liger sigmoid", "preference loss")
    assert verdicts(document)["margin"]["value"] == pytest.approx(0.3)
    assert document["setting"]["rounding"] > 1e-7
    assert verdicts(document)["displacement"]["value"] == 0
    assert verdicts(document)["optimum"]["grade"] == verdicts(document)["swap"]["grade"] == "good"
    assert verdicts(document)["accumulation"]["grade"] == "good"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["?"], "the objectives are .*grpo.*module:function"),
        (["nonsense"], "'nonsense' is no objective here"),
        (["--pairs", "nonsense"], "the objectives are dpo"),
        (["copg"], "copg is an objective of pairs: ask with --pairs"),
        (["--pairs", "grpo"], "grpo is an objective of answers: ask without --pairs"),
        (["--trl", "?"], "the losses of trl are grpo"),
        (["--liger", "ipo"], "liger has no loss 'ipo' here; it has grpo"),
        (["--trl", "cispo:epsilon_hihg=5"], "TRL refuses grpo .*epsilon_hihg"),
        (["--trl", "cispo:5"], "not setting=value"),
        (["--trl", "dapo:entropy_coef=0.1"], "distribution of every token"),
        (["no_such_module:loss"], "cannot import 'no_such_module'"),
        (["own_losses:nothing"], "'nothing' is missing"),
        (["own_losses:number"], "not a function"),
        (["own_broken:loss"], "importing it raised RuntimeError: not today"),
        (["own_losses:reinforce", "--group-size", "0"], "group_size 0"),
        (["grpo:colour=red"], "no setting colour"),
        (["own_losses:reinforce", "--html", "nowhere/page.html"], "there is no folder nowhere"),
        (["own_losses:reinforce", "--markdown", "page.md"], "--markdown is the page of --all"),
        (["--all", "--html", "page.html"], "--html is the page of one loss"),
    ],
)
def test_an_error_is_told_in_one_line_with_exit_code_two(banach, words, told):
    code, out, err = banach("audit", *words)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert re.search(told, err)


@pytest.mark.parametrize("words", [[], ["grpo", "--all"], ["--trl", "grpo", "--liger", "grpo"]])
def test_one_thing_is_audited_at_a_time(words):
    with pytest.raises(SystemExit) as left:
        main(["audit", *words])
    assert left.value.code == 2


def committed(title):
    """The line of the committed page that begins with that loss."""
    (found,) = [text for text in PAGE.read_text().splitlines() if text.startswith(f"| {title} |")][:1]
    return found


def cells(text):
    """A line's cells, numbers read as numbers, an ✗ kept as a cell of its own."""
    is_number = re.compile(r"-?\d+(\.\d+)?(e[-+]?\d+)?").fullmatch
    return [float(word) if is_number(word) else word for word in re.split(r"[ |]+", text.strip())]


def assert_same(fresh, kept):
    """Two lines of the page with the same words, and numbers to one in a hundred."""
    assert len(cells(fresh)) == len(cells(kept))
    for now, then in zip(cells(fresh), cells(kept), strict=True):
        assert now == (pytest.approx(then, rel=0.01, abs=2e-3) if isinstance(then, float) else then)


@pytest.mark.parametrize(("library", "name"), [("trl", "cispo"), ("trl", "simpo")])
def test_the_committed_page_says_what_a_fresh_audit_says(library, name):
    found = row(peer(library, name))
    assert_same(line(found), committed(found["title"]))


def test_the_committed_page_names_the_installed_releases_and_every_peer():
    page = PAGE.read_text()
    assert all(f"{name} {release}" in page for name, release in versions().items())
    assert all(committed(candidate.title) for candidate in PEERS)


@pytest.mark.slow
def test_the_committed_page_is_what_the_command_writes():
    fresh, kept = markdown(survey()).splitlines(), PAGE.read_text().splitlines()
    assert len(fresh) == len(kept)
    for now, then in zip(fresh, kept, strict=True):
        assert_same(now, then)


def test_a_survey_keeps_both_kinds_apart_and_does_not_audit_a_twin_twice():
    chosen = [peer("trl", "sigmoid"), peer("liger", "sigmoid")]
    told = []
    document = survey(chosen, report=lambda done, of, title: told.append((done, of, title)))
    assert told == [(0, 2, "TRL sigmoid"), (1, 2, "Liger sigmoid")]
    page = markdown(document)
    assert page.count("| Liger sigmoid |") == 1
    assert "| TRL sigmoid | rounding |" in page
    assert [finding["key"] for finding in document["rows"][1]["audit"]["findings"]] == ["accumulation"]
    json.dumps(document)


@pytest.mark.parametrize("liger", [candidate for candidate in PEERS if candidate.library == "liger"], ids=lambda one: one.name)
def test_liger_has_trls_gradient_to_float32s_rounding_but_for_luspo(liger):
    assert (difference(liger) > 0.1) == (liger.name == "luspo")


def test_peers_have_names_of_their_own_and_can_all_be_built():
    names = [(candidate.library, candidate.name) for candidate in PEERS]
    assert len(set(names)) == len(names)
    for candidate in PEERS:
        assert isinstance(candidate, Peer)
        assert dataclasses.is_dataclass(candidate.loss(accumulation=2))
