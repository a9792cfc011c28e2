"""An audit as a table, as JSON and as a page; specs and names as what is audited."""

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from banach.llm.audit import Audit, Finding, audit, audit_preference
from banach.llm.catalogue import objective
from banach.llm.preference_catalogue import preference
from banach.mdp import instances_token

from .plain_losses import dpo, policy_loss


@pytest.fixture(scope="module")
def grpo():
    return audit(policy_loss("std", "sequence-mean", "clip", "k3"), group_size=2, name="my <grpo>")


def test_the_table_shows_every_finding_and_fits_its_width(grpo):
    text = grpo.table(100)
    assert max(map(len, text.splitlines())) <= 100
    flat = re.sub(r"\s+", "", text)
    for finding in grpo.findings:
        assert finding.title.split()[0] in text
    assert text.count("FAULT") == len(grpo.faults)
    assert "KL(ref||pi)tokenbytoken" in flat


def test_json_holds_every_number_and_is_strict(grpo):
    document = json.loads(grpo.to_json(), parse_constant=pytest.fail)
    assert document["subject"] == "my <grpo>"
    assert [entry["key"] for entry in document["findings"]] == [finding.key for finding in grpo.findings]
    by_key = {entry["key"]: entry for entry in document["findings"]}
    assert by_key["direction"]["value"] == pytest.approx(grpo["direction"].value)
    assert len(by_key["prompt_weight"]["details"]["p"]) == 99


def test_numbers_that_are_not_finite_become_null():
    finding = Finding("a", "b", "c", "bad", float("inf"), "", {"x": np.array([1.0, np.nan])})
    document = json.loads(Audit("s", "loss", {}, (finding,), 1, 0.0).to_json())
    assert document["findings"][0]["value"] is None
    assert document["findings"][0]["details"]["x"] == [1.0, None]


class Balance(HTMLParser):
    """Elements opened and not closed, ids, and what points at them."""

    def __init__(self):
        super().__init__()
        self.open, self.ids, self.uses = [], [], []

    def handle_starttag(self, tag, attributes):
        if tag not in {"meta", "path", "use", "rect"}:
            self.open.append(tag)
        self.ids += [value for key, value in attributes if key == "id"]
        self.uses += [value[1:] for key, value in attributes if key == "xlink:href"]

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in {"meta", "path", "use", "rect"}:
            self.open.pop()

    def handle_endtag(self, tag):
        if tag not in {"meta", "path", "use", "rect"}:
            assert self.open.pop() == tag


@pytest.mark.parametrize("kind", ["loss", "preference"])
def test_the_page_stands_alone_with_its_curves(grpo, tmp_path, kind):
    answer = grpo if kind == "loss" else audit_preference(dpo(0.1), name="dpo")
    text = answer.to_html(tmp_path / "audit.html").read_text(encoding="utf-8")
    balance = Balance()
    balance.feed(text)
    assert balance.open == []
    assert len(balance.ids) == len(set(balance.ids))
    assert set(balance.uses) <= set(balance.ids)
    assert not re.search(r'(src|href)="(?!#)', text)
    assert text.count("<svg") >= (6 if kind == "loss" else 3)
    assert "<grpo>" not in text


def test_the_same_seed_gives_the_same_findings():
    loss = policy_loss("bessel", "token-mean", "clip", "k2")
    first, second = (audit(loss, group_size=2, seed=7, name="x").document() for _ in range(2))
    first.pop("seconds"), second.pop("seconds")
    assert first == second


def test_a_missing_finding_names_those_there_are(grpo):
    with pytest.raises(KeyError, match="direction"):
        grpo["nothing"]
    assert "direction" in grpo
    assert "nothing" not in grpo


@pytest.mark.parametrize(("name", "clean"), [("rloo", True), ("grpo", False)])
def test_specs_of_the_catalogue_are_audited_as_they_are(name, clean):
    answer = audit(objective(name), group_size=2)
    assert (answer["direction"].grade == "good") == clean


def test_preference_specs_are_audited_as_they_are():
    answer = audit_preference(preference("dpo", temperature=0.2))
    assert answer["margin"].details["parameters"]["beta"] == pytest.approx(0.2, rel=1e-6)


def test_the_audit_takes_a_problem_with_turns():
    answer = audit(policy_loss("loo"), instances_token.tool_turns(horizon=3), group_size=2)
    assert answer["direction"].grade == "good"
    assert answer["fixed_point"].details["best"] > 0


def test_a_question_that_was_not_asked_has_no_curve_and_is_marked(tmp_path):
    def surprise(logp, old, ref, mask, rewards, groups):
        return -((rewards - rewards.mean())[:, None] * logp.detach().exp() * logp * mask).sum(1).mean()

    answer = audit(surprise, group_size=2)
    assert answer["variance"].grade == "moot"
    text = answer.to_html(tmp_path / "audit.html").read_text(encoding="utf-8")
    assert "not asked</span>" in text
    assert "variance-" not in text
    assert "n/a" in answer.table()
