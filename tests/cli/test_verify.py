"""`banach verify`, `banach falsify` and the report: what they hold, what they break, and what they exit with."""

import dataclasses
import io
import json
import re
from contextlib import redirect_stdout
from html.parser import HTMLParser

import pytest
from banach.bounds import CATALOGUE, FALSEHOODS, falsify, shelves, verify
from banach.cli import figures, published
from banach.cli.main import main
from banach.cli.report import page
from banach.mdp import MDP, instances


@pytest.fixture
def banach(capsys):
    """Runs the command; returns exit code, stdout and stderr."""

    def run(*words):
        code = main([str(word) for word in words])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """Document and page of one verification of a family with curves, the exact answers and the falsehoods."""
    path, said = tmp_path_factory.mktemp("report") / "report.html", io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(said):
        patch.setattr(shelves, "CATALOGUE", tuple(bound for bound in CATALOGUE if bound.family == "contraction"))
        assert main(["verify", "--html", str(path), "--json"]) == 0
    return json.loads(said.getvalue()), path.read_text()


def test_every_row_names_statement_source_instance_numbers_and_how_the_proof_was_checked(report):
    document, _ = report
    assert document["holds"]
    for row in document["rows"]:
        assert all(row[name] for name in ("bound", "source", "instance", "proof"))
        assert row["holds"]
        assert all(isinstance(row[name], float) for name in ("measured", "promised", "tightness"))


def test_the_published_answers_are_reproduced_and_their_certificates_checked(report):
    rows = [row for row in report[0]["rows"] if row["family"] == "exact"]
    assert len(rows) >= 60
    assert all(re.fullmatch(r"certificate, \d+ inequalities", row["proof"]) for row in rows)
    assert all(row["parameters"]["lower"] <= row["measured"] <= row["parameters"]["upper"] for row in rows)


def test_every_false_statement_is_broken_by_a_model(report):
    found = report[0]["falsified"]
    assert {item["key"] for item in found} == {bound.key for bound in FALSEHOODS}
    assert all(item["broken"] and re.search("state 0|responses|prompt 0", item["instance"]) for item in found)


class _Page(HTMLParser):
    """Collects ids, links and what would be loaded from elsewhere; counts open elements."""

    VOID = frozenset({"meta", "br", "wbr", "img", "link", "input", "hr"})

    def __init__(self):
        super().__init__()
        self.ids, self.links, self.loaded, self.open = [], [], [], []

    def handle_starttag(self, tag, attrs):
        named = dict(attrs)
        self.ids += [named["id"]] if "id" in named else []
        self.links += [named["href"]] if tag == "a" else []
        self.loaded += [named[key] for key in ("src", "srcset", "data", "href", "xlink:href") if key in named and tag != "a"]
        if tag in {"script", "link", "iframe", "object"}:
            self.loaded.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture
def parsed(report):
    parser = _Page()
    parser.feed(report[1])
    return parser


def test_the_report_needs_no_other_file(report, parsed):
    assert all(target.startswith("#") for target in parsed.loaded)
    assert "url(http" not in report[1]
    assert "@import" not in report[1]


def test_the_report_is_well_formed_and_its_links_lead_somewhere(parsed):
    assert parsed.open == []
    assert {link.removeprefix("#") for link in parsed.links} <= set(parsed.ids)


def test_the_report_shows_every_statement_model_and_counterexample(report):
    document, text = report
    shown = re.sub(r"<wbr>", "", text)
    for row in document["rows"]:
        assert row["instance"] in shown
    for statement in document["statements"]:
        assert f'id="{statement["key"]}"' in shown or statement["family"] == "exact"
    for item in document["falsified"]:
        assert item["instance"].splitlines()[-1] in shown
    assert shown.count("<figure>") >= 5


def test_the_report_follows_the_colour_of_its_reader(report):
    assert "prefers-color-scheme: dark" in report[1]
    assert figures.INK not in report[1]


@pytest.mark.parametrize("bound", [*CATALOGUE, *FALSEHOODS], ids=lambda bound: bound.key)
def test_every_formula_of_the_catalogue_can_be_drawn(bound):
    assert figures.formula(bound.latex()) is not None


def test_a_formula_that_cannot_be_drawn_is_not():
    assert figures.formula(r"\nosuchmacro{x}") is None


def test_names_cannot_smuggle_markup_into_the_report(report):
    document = json.loads(json.dumps(report[0]))
    for part in (*document["rows"], *document["statements"]):
        for name in ("bound", "name", "source", "instance", "assumes"):
            if name in part:
                part[name] += "<script>alert(1)</script>"
    assert "<script>" not in page(document)


def test_a_family_can_be_named_and_is_printed_with_a_verdict(banach):
    code, out, err = banach("verify", "average")
    assert (code, err) == (0, "")
    assert "everything holds" in out
    assert all(word in out for word in ("measured", "promised", "tightness", "proof checked", "Odoni"))


def test_a_false_statement_is_searched_not_believed(banach):
    code, out, _ = banach("verify", "the-error-is-at-most-the-residual")
    assert code == 0
    assert "broken, as it should be" in out


def test_a_statement_that_should_hold_and_does_not_exits_with_1(banach, monkeypatch):
    claimed = dataclasses.replace(FALSEHOODS[1], name="claimed", family="claims")
    monkeypatch.setattr(shelves, "CATALOGUE", (claimed,))
    code, out, _ = banach("verify", "claims")
    assert code == 1
    assert "DOES NOT HOLD" in out


def test_a_false_statement_that_is_not_broken_exits_with_1(banach, monkeypatch):
    true = dataclasses.replace(CATALOGUE[0], name="wrongly doubted", family="doubts")
    monkeypatch.setattr(shelves, "FALSEHOODS", (true,))
    monkeypatch.setattr(falsify, "__defaults__", (None, 40, 0, None))
    code, out, _ = banach("verify", "doubts")
    assert code == 1
    assert "NOT BROKEN" in out


def test_a_wrong_published_answer_is_noticed():
    right = published.Answer(instances.CATALOGUE["howard_taxi"], {}, 13.34, 0.005, "Howard 1960")
    wrong = dataclasses.replace(right, value=13.35)
    assert [row.holds for row in published.rows([right, wrong])] == [True, False]


def test_each_answer_is_asked_once_and_the_long_ones_only_on_demand():
    short, long = published.answers(), published.answers(long=True)
    assert len({answer.spelling for answer in long}) == len(long)
    assert {answer.spelling for answer in short} < {answer.spelling for answer in long}


def test_the_spelling_of_an_answer_makes_its_model():
    for answer in published.answers():
        if answer.instance.name != "lost_sales":
            assert instances.make(answer.spelling).fingerprint == answer.instance.make(**answer.parameters).fingerprint


def test_a_counterexample_is_saved_as_a_model_and_breaks_the_bound_again(banach, tmp_path):
    path = tmp_path / "model.npz"
    code, out, _ = banach("falsify", "half the greedy loss", "--save", path)
    assert code == 0
    assert "BROKEN" in out
    assert not verify("half the greedy loss", MDP.load(path))


def test_the_same_seed_finds_the_same_model(banach):
    def found():
        item = json.loads(banach("falsify", "the-error-is-at-most-the-residual", "--seed", "3", "--json")[1])
        return item["instance"], item["measured"]

    assert found() == found()


def test_a_true_statement_is_not_broken(banach):
    code, out, _ = banach("falsify", "greedy-loss", "--budget", "60")
    assert code == 0
    assert "not broken" in out


def test_breaking_a_statement_of_the_catalogue_exits_with_1(banach, monkeypatch):
    monkeypatch.setattr(shelves, "CATALOGUE", FALSEHOODS)
    monkeypatch.setattr(shelves, "FALSEHOODS", ())
    assert banach("falsify", "the-error-is-at-most-the-residual")[0] == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["verify", "nothing-known"], "there is no bound or family"),
        (["verify", "average", "--html", "/nowhere/report.html"], "there is no folder"),
        (["falsify", "gredy-loss"], "did you mean 'greedy-loss'"),
        (["falsify", "rates"], "is a family; name one of"),
        (["falsify", "?"], "the statements are value-iteration"),
        (["falsify", "greedy-loss", "--budget", "0"], "must be a whole number"),
    ],
)
def test_a_wrong_word_is_one_line_on_stderr_and_exit_code_2(banach, words, message):
    code, out, err = banach(*words)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1
