"""The project's documents say what is so: pins, versions, recipes."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
RECIPES = re.findall(r"^## ((?:A|An) \w+)\n(.*?)(?=^## )", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE | re.DOTALL)


def test_constraints_pin_every_direct_dependency_of_every_extra():
    pinned = {line.partition("==")[0] for line in (ROOT / "constraints.txt").read_text().split()}
    wanted = [*PROJECT["dependencies"], *(line for lines in PROJECT["optional-dependencies"].values() for line in lines)]
    names = {re.split(r"[^\w.-]", line)[0] for line in wanted if not line.startswith("banach[")}
    assert names - pinned == set()


def test_every_pin_is_one_exact_version():
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in (ROOT / "constraints.txt").read_text().split())


def test_the_citation_and_the_changelog_speak_of_this_version():
    assert f"\nversion: {PROJECT['version']}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"## {PROJECT['version']}" in (ROOT / "CHANGELOG.md").read_text()


def test_there_is_a_recipe_for_everything_that_can_be_added():
    assert [name for name, _ in RECIPES] == ["A problem", "A method", "A bound", "An objective"]


@pytest.mark.parametrize(("name", "text"), RECIPES, ids=[name for name, _ in RECIPES])
def test_a_recipe_is_short_and_names_a_file_to_copy_from(name, text):
    assert len(text.strip().splitlines()) < 15
    named = re.findall(r"`([\w/]+\.py)`", text)
    assert named
    assert all((ROOT / word).exists() for word in named), name


def test_no_document_speaks_of_the_machine_it_was_written_on():
    for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "CITATION.cff", "Makefile"):
        assert not re.search(r"/(work|root|home|tmp)/", (ROOT / name).read_text()), name
