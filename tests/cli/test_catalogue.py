"""`banach catalogue`: the list, one entry, JSON, a name that there is not."""

import json

import pytest
from banach.cli.main import main
from banach.llm.systems import SYSTEMS


def test_the_list_has_a_line_for_every_system(capsys):
    assert main(["catalogue"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(SYSTEMS)


@pytest.mark.parametrize("name", SYSTEMS)
def test_an_entry_tells_source_reductions_findings_and_numbers(capsys, name):
    entry = SYSTEMS[name]
    assert main(["catalogue", name]) == 0
    said = " ".join(capsys.readouterr().out.split())
    for text in (entry.arxiv, entry.title, entry.optimizes, *map(str, entry.reductions), *entry.findings, entry.measured):
        assert " ".join(text.split()) in said
    assert f"python -m banach.llm.systems {name}" in said


def test_the_document_holds_every_number_and_one_entry_alone_when_named(capsys):
    assert main(["catalogue", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [entry["name"] for entry in document["systems"]] == list(SYSTEMS)
    assert all(entry["results"]["seeds"] >= 5 for entry in document["systems"])
    assert main(["catalogue", "lite-ppo", "--json"]) == 0
    [entry] = json.loads(capsys.readouterr().out)["systems"]
    assert entry["arxiv"] == "2508.08221"


def test_a_name_that_there_is_not_is_told_in_one_line(capsys):
    assert main(["catalogue", "mite-ppo"]) == 2
    assert "no system is called 'mite-ppo'; there are " in capsys.readouterr().err
