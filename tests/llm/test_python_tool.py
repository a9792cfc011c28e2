"""What hostile programs can do in the sandbox: nothing."""

import os
from pathlib import Path

import pytest
from banach.llm.environments import PythonTool, PythonTurns, SandboxUnavailable, python_tool
from banach.llm.policy import CharacterTokenizer

from .sandbox import with_tool

QUICK = PythonTool(cpu_seconds=1, wall_seconds=30.0)
pytestmark = with_tool


def test_a_program_computes_and_prints():
    result = QUICK.run("import math, json, fractions, random\nprint(math.factorial(20), json.dumps([1]))\nrandom.random()")
    assert (result.verdict, result.output) == ("ok", "2432902008176640000 [1]\n")


def test_a_program_has_a_folder_of_its_own_that_is_gone_afterwards():
    program = "open('a', 'w').write('x'); import os; os.mkdir('b'); print(os.listdir('.'), os.getcwd())"
    result = QUICK.run(program)
    assert result.verdict == "ok"
    assert "'a'" in result.output
    assert not Path(result.output.split()[-1]).exists()
    assert "['a" not in QUICK.run("import os; print(os.listdir('.'))").output


def test_an_error_is_told_without_the_machine():
    result = QUICK.run("def f():\n    raise ValueError('three')\nf()")
    assert result.verdict == "error"
    assert result.output.endswith("ValueError: three\n")
    assert "sandbox" not in result.output
    assert QUICK.run("1 +").verdict == "error"
    assert QUICK.run("import sys; sys.exit(3)").verdict == "error"


HOSTILE = {
    "a socket": "import socket; socket.socket()",
    "a local socket": "import socket; socket.socketpair()",
    "a process": "import os; os.fork()",
    "a command": "import subprocess; subprocess.run(['ls'])",
    "another program": "import os; os.execv('/bin/ls', ['ls'])",
    "a thread": "import threading; threading.Thread(target=print).start()",
    "a signal to the parent": "import os; os.kill(os.getppid(), 9)",
    "a signal by notification": "import fcntl, os; fcntl.fcntl(os.open('.', 0), fcntl.F_SETOWN, os.getppid())",
    "a watch on a folder": "import fcntl, os; fcntl.fcntl(os.open('.', 0), fcntl.F_NOTIFY, 4)",
    "files of the system": "open('/etc/passwd').read()",
    "files of the user": f"import os; os.listdir({str(Path.home())!r})",
    "this test": f"open({__file__!r}).read()",
    "files elsewhere": "open('/tmp/banach-evil', 'w')",
    "files above": "open('../evil', 'w')",
    "a way round by a link": "import os; os.symlink('/etc', 'e'); open('e/passwd').read()",
    "the environment of the process": "open('/proc/self/environ').read()",
    "rights of a file": f"import os; os.chmod({__file__!r}, 0)",
    "an immutable file": "import fcntl; fcntl.ioctl(open('a', 'w'), 0x40086602, b'\\x10\\0\\0\\0\\0\\0\\0\\0')",
    "its own limits": "import resource; resource.setrlimit(resource.RLIMIT_CPU, (999, 999))",
    "the limits of others": "import os, resource; resource.prlimit(os.getppid(), resource.RLIMIT_CPU, (1, 1))",
    "a device": "open('/dev/zero', 'rb')",
    "a name in memory": "import os; os.memfd_create('x')",
    "a mount": "import ctypes; l = ctypes.CDLL(None, use_errno=True); assert l.unshare(0x10000000) == 0",
    "a hard link": f"import os; os.link({__file__!r}, 'x')",
    "a program longer than its pipe": "x = '" + "a" * 300_000 + "'; import socket; socket.socket()",
}


@pytest.mark.parametrize("what", HOSTILE)
def test_it_cannot_reach(what):
    result = QUICK.run(HOSTILE[what])
    assert result.verdict == "error", result
    refusals = ("PermissionError", "not allowed", "can't start new thread", "AssertionError")
    assert any(text in result.output for text in refusals), result.output


def test_a_command_of_the_c_library_does_not_run():
    program = "import ctypes; print(ctypes.CDLL(None).system(b'touch escaped') == 0)\nimport os; print(os.listdir('.'))"
    assert QUICK.run(program).output == "False\n[]\n"


@pytest.mark.parametrize(
    ("program", "verdict"),
    [
        ("while True: pass", "time"),
        ("x = []\nwhile True: x.append(' ' * 10**6)", "memory"),
        ("x = bytearray(10**10)", "memory"),
        ("while True: print('a' * 1000)", "output"),
        ("open('a', 'w').write('a' * 10**7)", "error"),  # a file has its own limit, told as an error
        ("i = 0\nwhile True:\n    open(str(i), 'w').write('a' * 1000000)\n    i += 1", "files"),
        ("import ctypes; ctypes.string_at(0)", "killed"),
        ("import os; os.close(0); os.close(1); os.close(2)", "ok"),
    ],
)
def test_it_is_stopped_at_its_limits(program, verdict):
    result = QUICK.run(program)
    assert result.verdict == verdict, result
    assert len(result.output) <= QUICK.output_characters


def test_sleeping_is_no_way_to_stay():
    result = PythonTool(wall_seconds=0.3).run("import time; time.sleep(60)")
    assert result.verdict == "time"
    assert result.seconds < 20


def test_without_confinement_nothing_is_run(tmp_path, monkeypatch):
    child = tmp_path / "child.py"
    source = python_tool.CHILD.read_text().replace("if version < 3:", "if True:")
    child.write_text(source)
    monkeypatch.setattr(python_tool, "CHILD", child)
    with pytest.raises(SandboxUnavailable, match="Landlock of version 3"):
        QUICK.run("print('ran')")


def test_a_turn_that_ends_with_a_program_gets_its_output():
    tokenizer = CharacterTokenizer()
    turns = PythonTurns(tokenizer, QUICK, calls=2)
    first = tokenizer.encode("Let me see. <python>print(6 * 7)</python>\n")
    reply = turns(0, first)
    assert tokenizer.decode(reply) == "<output>42</output>\n"
    assert turns(0, [*first, *reply]) is None
    assert turns(0, tokenizer.encode("no program")) is None
    second = [*first, *reply, *tokenizer.encode("<python>while 1: pass</python>")]
    assert tokenizer.decode(turns(0, second)) == "<output>stopped: time</output>\n"
    assert turns(0, [*second, *tokenizer.encode("<python>1</python>")]) is None


def test_no_process_is_left_behind():
    before = {p for p in os.listdir("/proc") if p.isdigit()}
    QUICK.run("print(1)")
    children = [p for p in {q for q in os.listdir("/proc") if q.isdigit()} - before if _parent(p) == os.getpid()]
    assert children == []


def _parent(process):
    try:
        return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0
