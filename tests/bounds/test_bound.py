"""A bound is a statement with meanings; a user's own takes ten lines."""

import inspect
import re
import textwrap

import pytest
import sympy
from banach.bounds import CATALOGUE, FALSEHOODS, Bound, BoundError, falsify, statements, verify
from banach.bounds import bound as module
from banach.bounds.extremal import loop

EVERY = pytest.mark.parametrize("bound", [*CATALOGUE, *FALSEHOODS], ids=lambda bound: bound.key)
x, y = sympy.symbols("x y")


def example() -> str:
    """The code in the module's docstring."""
    return textwrap.dedent("\n".join(re.findall(r"^    .*$", inspect.getdoc(module) or "", re.MULTILINE)))


def test_a_users_own_bound_takes_ten_lines_and_is_verified(capsys):
    code = example()
    lines = [line for line in code.splitlines() if line.strip()]
    assert len(lines) <= 10
    exec(code, names := {})
    assert "tightness" in capsys.readouterr().out
    assert verify(names["MINE"])


def test_a_users_own_false_bound_is_broken_from_its_ten_lines(capsys):
    exec(example().replace("delta / (1 - gamma)", "delta / (2 * (1 - gamma))"), names := {})
    assert falsify(names["MINE"], budget=50)


def test_a_symbol_without_a_meaning_is_refused_by_name():
    with pytest.raises(BoundError, match="no meaning is given for y"):
        Bound("b", "q", x + y, {x: "x"}, lambda evidence: [])


def test_an_unknown_sense_is_refused():
    with pytest.raises(BoundError, match="it is one of at most, at least, equal to"):
        Bound("b", "q", x, {x: "x"}, lambda evidence: [], sense="about")  # pyright: ignore[reportArgumentType]


def test_a_bound_evaluates_to_the_nearest_float():
    bound = Bound("b", "q", x / (1 - y), {x: "x", y: "y"}, lambda evidence: [])
    assert bound.evaluate({x: 1, y: 0.75}) == 4.0


@EVERY
def test_the_statement_prints_as_latex_with_both_sides_and_the_sense(bound):
    text = bound.latex()
    assert text.startswith(bound.quantity)
    assert {"at most": r" \leq ", "at least": r" \geq ", "equal to": " = "}[bound.sense] in text
    assert text.endswith(sympy.latex(bound.statement))
    assert text.count("{") == text.count("}")


@EVERY
def test_the_latex_is_drawn_by_matplotlibs_reader(bound):
    from matplotlib.mathtext import MathTextParser

    readable = bound.latex().replace(r"\operatorname{sp}", r"\mathrm{sp}").replace(r"\#", "N").replace(r"\text", r"\mathrm")
    assert MathTextParser("path").parse(f"${readable}$").width > 0


@EVERY
def test_a_bound_says_what_its_symbols_mean_what_it_assumes_and_where_it_comes_from(bound):
    assert set(bound.statement.free_symbols) <= set(bound.symbols)
    assert all(bound.symbols.values())
    assert bound.assumes
    assert bound.source.startswith("false: ") if bound.family == "false" else re.search(r"(19|20)\d\d", bound.source)


def test_names_and_keys_are_unique_and_find_their_bound():
    everything = [*CATALOGUE, *FALSEHOODS]
    assert len({bound.key for bound in everything}) == len(everything)
    for bound in everything:
        assert statements(bound.key) == statements(bound.name) == (bound,)


def test_a_family_finds_its_bounds_and_false_ones_stay_apart():
    assert all(bound.family == "policies" for bound in statements("policies"))
    assert statements("false") == FALSEHOODS
    assert not set(FALSEHOODS) & set(statements())


def test_an_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(BoundError, match="did you mean 'simulation-lemma'"):
        statements("simulation-lema")


def test_the_bound_of_the_docstring_is_attained_on_a_loop():
    exec(example().replace("print(", "str("), names := {})
    [row] = verify(names["MINE"], loop()).rows
    assert (row.measured, row.promised, row.tightness, row.proof) == (8.0, 8.0, 1.0, "exact rationals")
