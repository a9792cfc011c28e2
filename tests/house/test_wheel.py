"""The built wheel holds every module, installs without torch, and takes no name of anybody else's."""

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("mdp", "cuda", "solvers", "bounds", "llm", "cli")
NEEDS_TORCH = ("banach.llm", "banach.cuda.", "banach.solvers.neural")


def module_files() -> list[Path]:
    return [path.relative_to(ROOT) for room in ROOMS for path in (ROOT / room).rglob("*.py")]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from a copy, so that nothing is left in the tree; without isolation, so that no network is needed."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for room in ROOMS:
        shutil.copytree(ROOT / room, source / room, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(out.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """The directory into which nothing but the wheel was installed."""
    target = tmp_path_factory.mktemp("installed")
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        "--target",
        str(target),
        str(wheel),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return target


def run_installed(installed: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Python that sees the wheel and the dependencies, but (without `site`) not this tree's editable install."""
    path = os.pathsep.join((str(installed), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")))
    environment = os.environ | {"PYTHONPATH": path}
    command = [sys.executable, "-S", *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=installed, env=environment, check=False)


def test_the_wheel_holds_every_module_of_every_room(wheel):
    inside = set(zipfile.ZipFile(wheel).namelist())
    assert [path for path in module_files() if f"banach/{path.as_posix()}" not in inside] == []


def test_the_wheel_takes_no_top_level_name_but_banach(wheel):
    heads = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {head for head in heads if not head.endswith(".dist-info")} == {"banach"}


def test_banach_is_a_namespace_without_a_file_of_its_own(wheel):
    assert "banach/__init__.py" not in zipfile.ZipFile(wheel).namelist()


def test_the_wheel_brings_the_licence(wheel):
    archive = zipfile.ZipFile(wheel)
    (licence,) = [name for name in archive.namelist() if name.endswith("/licenses/LICENSE")]
    assert archive.read(licence) == (ROOT / "LICENSE").read_bytes()


def test_every_module_of_the_wheel_imports_from_the_wheel_and_without_torch(installed):
    names = [".".join(("banach", *path.with_suffix("").parts)).removesuffix(".__init__") for path in module_files()]
    names = [name for name in names if not name.startswith(NEEDS_TORCH)]
    assert len(names) > 30
    program = f"""
import importlib, sys
sys.modules["torch"] = None
for name in {names!r}:
    module = importlib.import_module(name)
    assert module.__file__.startswith({str(installed)!r}), (name, module.__file__)
"""
    done = run_installed(installed, "-c", program)
    assert done.returncode == 0, done.stderr


def test_the_installed_command_solves_a_problem_and_proves_it(installed):
    done = run_installed(installed, str(installed / "bin" / "banach"), "solve", "howard_toymaker")
    assert done.returncode == 0, done.stderr
    assert "proof               holds" in done.stdout
