"""Where a program can be confined, and the mark of tests that need it."""

import sys

import pytest
from banach.llm.environments import PythonTool, SandboxUnavailable


def _confined():
    try:
        return PythonTool(cpu_seconds=1).run("").verdict == "ok"
    except SandboxUnavailable:
        return False


CONFINED = sys.platform == "linux" and _confined()

with_tool = pytest.mark.skipif(not CONFINED, reason="this kernel cannot confine a program")
