"""The arrows between the rooms run downward only, and imports are written as the house writes them."""

import ast
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAY_IMPORT = {
    "mdp": set(),
    "cuda": set(),
    "solvers": {"mdp", "cuda"},
    "bounds": {"mdp", "solvers"},
    "llm": {"mdp", "solvers", "cuda"},
    "cli": {"mdp", "solvers", "bounds", "llm", "cuda"},
}
TORCHLESS = ("mdp", "solvers", "bounds", "cli")
ONLY_IF_IT_MAY_FAIL = {("solvers", "cuda")}
READS_FACES = "cli/method.py"  # lists the public names of a room, which only its face knows


def modules(folder: str) -> list[Path]:
    return sorted(path.relative_to(ROOT) for path in (ROOT / folder).rglob("*.py"))


def imports(tree: ast.AST, guarded: bool = False) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool]]:
    """Every import with whether it may fail or waits: inside a try, a function or a TYPE_CHECKING block."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node, guarded
        typing_only = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        waits = typing_only or isinstance(node, ast.Try | ast.FunctionDef | ast.AsyncFunctionDef)
        yield from imports(node, guarded or waits)


def is_module(parts: list[str]) -> bool:
    path = ROOT.joinpath(*parts)
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists()


def faults_of_a_room(path: Path, source: str) -> list[str]:
    """What is wrong with the imports of a file of a room, one sentence each."""
    room, found = path.parts[0], []
    for node, guarded in imports(ast.parse(source)):
        names = [alias.name for alias in node.names]
        if isinstance(node, ast.Import) or node.level == 0:
            heads = names if isinstance(node, ast.Import) else [node.module or ""]
            found += [
                f"imports {head} absolutely" for head in heads if re.match(r"(banach|mdp|solvers|bounds|llm|cli)\b", head)
            ]
            continue
        package = ("banach", *path.parts[:-1])
        if node.level > len(package):
            found.append(f"{ast.unparse(node)!r} climbs out of banach")
            continue
        target = [*package[: len(package) - node.level + 1], *(node.module.split(".") if node.module else [])][1:]
        for name in names:
            full = target if target and not is_module([*target, name]) else [*target, name]
            if full[0] != room and full[0] not in MAY_IMPORT[room]:
                found.append(f"{room} must not know {full[0]}")
            if (room, full[0]) in ONLY_IF_IT_MAY_FAIL and not guarded:
                found.append(f"{full[0]} may be missing: import it inside a function or a try")
            if len(full) == 1 and path.name != "__init__.py" and path.as_posix() != READS_FACES:
                found.append(f"imports {name} from the face of {full[0]}, not from the module that owns it")
    return found


def faults_outside(source: str) -> list[str]:
    """What is wrong with the imports of a test, a benchmark or a notebook's code."""
    heads = [
        head
        for node, _ in imports(ast.parse(source))
        for head in ([alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""])
        if isinstance(node, ast.Import) or node.level == 0
    ]
    return [f"imports {head}; write banach.{head}" for head in heads if head.split(".")[0] in MAY_IMPORT]


@pytest.mark.parametrize("path", [path for room in MAY_IMPORT for path in modules(room)], ids=str)
def test_a_room_imports_relatively_downward_and_from_the_module_that_owns_the_name(path):
    assert faults_of_a_room(path, (ROOT / path).read_text()) == []


@pytest.mark.parametrize("path", [path for folder in ("tests", "benchmarks", "notebooks") for path in modules(folder)], ids=str)
def test_tests_benchmarks_and_notebooks_import_banach_absolutely(path):
    assert faults_outside((ROOT / path).read_text()) == []


@pytest.mark.parametrize(
    ("path", "source", "fault"),
    [
        ("mdp/x.py", "from ..solvers.solve import solve", "mdp must not know solvers"),
        ("mdp/x.py", "def f():\n    from ..cuda import kernels", "mdp must not know cuda"),
        ("bounds/x.py", "from .. import llm", "bounds must not know llm"),
        ("solvers/neural/x.py", "from ...bounds.bound import Bound", "solvers must not know bounds"),
        ("solvers/x.py", "from ..cuda.sweep import sweep", "may be missing"),
        ("solvers/x.py", "from banach.mdp.model import MDP", "imports banach.mdp.model absolutely"),
        ("solvers/x.py", "import mdp", "imports mdp absolutely"),
        ("solvers/x.py", "from ..mdp import MDP", "from the face of mdp"),
        ("solvers/x.py", "from . import Solution", "from the face of solvers"),
        ("mdp/x.py", "from ...mdp import model", "climbs out of banach"),
    ],
)
def test_the_rules_see_a_wrong_import(path, source, fault):
    assert any(fault in found for found in faults_of_a_room(Path(path), source))


@pytest.mark.parametrize(
    "source",
    [
        "from ..mdp.model import MDP",
        "from ..mdp import model",
        "try:\n    from ..cuda.sweep import sweep\nexcept ImportError: pass",
    ],
)
def test_the_rules_let_a_right_import_pass(source):
    assert faults_of_a_room(Path("solvers/x.py"), source) == []


def test_the_rules_see_a_bare_room_name_outside_the_rooms():
    assert faults_outside("from mdp.model import MDP")
    assert not faults_outside("from banach.mdp import MDP")


def declared(*extras: str) -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] + [line for extra in extras for line in project["optional-dependencies"][extra]]
    return {re.split(r"[^\w.-]", line)[0].lower().replace("_", "-") for line in wanted}


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_every_third_party_import_of_a_room_is_a_declared_dependency(room):
    owners = importlib.metadata.packages_distributions() | {"torch": ["torch"], "triton": ["torch"]}
    allowed = declared() | (declared("llm") if room in ("llm", "cuda") else set())
    if room == "llm":  # llm/peers runs other libraries, and training takes models from them, imported when asked for
        allowed |= declared("peers", "train")
    if room == "solvers":  # solvers/neural brings its own torch
        allowed |= {"torch"}
    for path in modules(room):
        for node, _ in imports(ast.parse((ROOT / path).read_text())):
            heads = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            if isinstance(node, ast.ImportFrom) and node.level:
                continue
            for head in {name.split(".")[0] for name in heads} - set(sys.stdlib_module_names):
                names = {owner.lower().replace("_", "-") for owner in owners.get(head, [])}
                assert names & allowed, f"{path} imports {head}, which pyproject.toml does not declare for this room"


@pytest.mark.parametrize("room", TORCHLESS)
def test_a_room_imports_whole_where_torch_does_not_exist(room):
    names = [
        ".".join(("banach", *path.with_suffix("").parts)).removesuffix(".__init__")
        for path in modules(room)
        if path.parts[1] != "neural"
    ]
    program = "import sys, importlib\nsys.modules['torch'] = None\n" + "".join(
        f"importlib.import_module({n!r})\n" for n in names
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd="/", check=False)
    assert done.returncode == 0, done.stderr
