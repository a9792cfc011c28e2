"""Every public thing says what it is: shapes of arrays, errors that it raises, and the source of a module's mathematics.

What is checked is what a reader would miss first: no docstring at all; an array whose shape is not said; an error of ours
that the body raises and the docstring does not name.
"""

import ast
import builtins
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("mdp", "solvers", "bounds", "llm", "cuda", "cli")
FILES = sorted(path.relative_to(ROOT) for room in ROOMS for path in (ROOT / room).rglob("*.py"))
METHODS = [path for path in FILES if "    def run(self, operator" in (ROOT / path).read_text() and path.name != "method.py"]
EVERY_FILE = pytest.mark.parametrize("path", FILES, ids=str)

SHAPE = re.compile(r"\(\w[\w\s+*-]*,\s*([\w\s+*-]+(,\s*[\w\s+*-]+)*)?\)|\bshape|\bone-dimensional\b|\bany number of")
"""How a shape is said: `(n,)`, `(n, n)`, `(horizon + 1, n_states)`, or in words."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


def tree_of(path: Path) -> ast.Module:
    return ast.parse((ROOT / path).read_text())


def public(
    body: list[ast.stmt], owner: ast.ClassDef | None = None
) -> Iterator[tuple[Function | ast.ClassDef, ast.ClassDef | None]]:
    """Public classes and functions with the class that they stand in; the public methods of public classes among them."""
    for node in body:
        if isinstance(node, Function | ast.ClassDef) and not node.name.startswith("_"):
            yield node, owner
            if isinstance(node, ast.ClassDef):
                yield from public(node.body, node)


def said(node: Function | ast.ClassDef, owner: ast.ClassDef | None) -> str:
    """What a reader of the thing has before the eyes: its docstring and that of its class."""
    return "\n".join(ast.get_docstring(thing) or "" for thing in (node, owner) if thing is not None)


def without_docstring(tree: ast.Module) -> list[str]:
    return [node.name for node, _ in public(tree.body) if not ast.get_docstring(node)]


def without_shape(tree: ast.Module) -> list[str]:
    """Functions that take or return arrays, and classes that hold some, whose docstring says no shape."""
    found = []
    for node, owner in public(tree.body):
        if isinstance(node, ast.ClassDef):
            hints = [line.annotation for line in node.body if isinstance(line, ast.AnnAssign)]
        else:
            arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            hints = [hint for hint in (node.returns, *(argument.annotation for argument in arguments)) if hint is not None]
        if any("ndarray" in ast.unparse(hint) for hint in hints) and not SHAPE.search(said(node, owner)):
            found.append(node.name)
    return found


def raised(node: ast.AST) -> set[str]:
    """Names of the errors that the body raises by name."""
    causes = (step.exc for step in ast.walk(node) if isinstance(step, ast.Raise) and step.exc is not None)
    names = {ast.unparse(cause.func if isinstance(cause, ast.Call) else cause).split(".")[-1] for cause in causes}
    return {name for name in names if name[0].isupper() and not hasattr(builtins, name)}


def called(node: ast.AST) -> set[str]:
    """Names that the body calls, of functions and of methods of the same object."""
    calls = (step.func for step in ast.walk(node) if isinstance(step, ast.Call))
    return {
        call.id if isinstance(call, ast.Name) else call.attr
        for call in calls
        if isinstance(call, ast.Name) or (isinstance(call, ast.Attribute) and ast.unparse(call.value) in {"self", "cls"})
    }


def reach(node: ast.AST, private: dict[str, ast.AST]) -> set[str]:
    """Errors that the body raises itself or through private functions of its module."""
    seen, waiting, found = set(), [node], set()
    while waiting:
        step = waiting.pop()
        found |= raised(step)
        for name in (called(step) & set(private)) - seen:
            seen.add(name)
            waiting.append(private[name])
    return found


def without_error(tree: ast.Module) -> list[str]:
    """`function: Error` for each error that a public body raises and its docstring does not name."""
    private = {node.name: node for node in ast.walk(tree) if isinstance(node, Function) and node.name.startswith("_")}
    found = []
    for node, owner in public(tree.body):
        bodies = [node]
        if isinstance(node, ast.ClassDef):
            bodies = [line for line in node.body if isinstance(line, Function) and line.name in {"__init__", "__post_init__"}]
        errors = set().union(*(reach(body, private) for body in bodies))
        found += [f"{node.name}: {error}" for error in sorted(errors) if error not in said(node, owner)]
    return found


@EVERY_FILE
def test_every_module_and_everything_public_has_a_docstring(path):
    tree = tree_of(path)
    assert ast.get_docstring(tree), f"{path} does not say what it is"
    assert without_docstring(tree) == []


@EVERY_FILE
def test_a_docstring_says_the_shapes_of_the_arrays(path):
    assert without_shape(tree_of(path)) == []


@EVERY_FILE
def test_a_docstring_names_the_errors_that_the_body_raises(path):
    assert without_error(tree_of(path)) == []


@pytest.mark.parametrize("path", METHODS, ids=str)
def test_the_module_of_a_method_cites_its_source(path):
    assert re.search(r"\b(1[89]|20)\d\d\b", ast.get_docstring(tree_of(path)) or "")


@pytest.mark.parametrize(
    ("rule", "source", "found"),
    [
        (without_docstring, "class A:\n    '''It.'''\n    def f(self): pass", ["f"]),
        (without_shape, "def f(v: np.ndarray):\n    '''A vector.'''", ["f"]),
        (without_shape, "class A:\n    '''Arrays.'''\n    v: np.ndarray | None", ["A"]),
        (without_error, "def f():\n    '''Solve.'''\n    raise SolveError('x')", ["f: SolveError"]),
        (without_error, "def f():\n    '''Solve.'''\n    _g()\ndef _g():\n    raise errors.SolveError", ["f: SolveError"]),
        (without_error, "class A:\n    '''It.'''\n    def __post_init__(self):\n        raise ModelError", ["A: ModelError"]),
    ],
)
def test_the_rules_see_what_is_missing(rule, source, found):
    assert rule(ast.parse(source)) == found


@pytest.mark.parametrize("text", ["(n,)", "(n, n)", "(horizon + 1, n_states)", "shape (n_states,)", "(m,), of pairs"])
def test_the_rules_read_a_shape(text):
    assert SHAPE.search(text)


@pytest.mark.parametrize("text", ["(see below)", "the values (all finite)", "arrays"])
def test_the_rules_do_not_take_prose_for_a_shape(text):
    assert not SHAPE.search(text)
