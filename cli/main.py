"""The `banach` command: reads the words, calls the rooms, prints what they say.

Exit codes: 0 done; 1 a statement that should hold does not (`verify`, `falsify`); 2 an error, told in one line on stderr;
130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from ..mdp.errors import BanachError
from . import audit, catalogue, check, falsify, instances, model, reduce, risk, solve, train, verify

DESCRIPTION = "Solve decision problems with proofs attached, check the proofs, and hold theorems against experiments."

EXAMPLES = """\
examples:
  banach instances                                   every named problem
  banach solve garnet:states=1000,discount=0.99      solve one of them and check the proof
  banach solve gym:Taxi-v4 --discount 0.99           solve a gymnasium table
  banach solve model.umb --target goal               reachability in a model that Storm or PRISM wrote
  banach risk machine_ten --cvar 0.1                 the best mean of the worst tenth of the returns, bracketed
  banach check model.npz proof.npz                   check a saved proof in exact arithmetic
  banach reduce model.umb --discount 0.9             merge what no experiment tells apart, and prove it
  banach verify                                      hold every theorem of the catalogue against real models
  banach falsify "half the greedy loss"              search for the smallest model that breaks a statement
  banach audit --trl cispo                           what another library's loss really does
  banach catalogue                                   published systems, what they optimize, their numbers and ours
  banach train --objective grpo --model tiny         train a transformer policy on a verifiable task

`banach COMMAND --help` explains a command. With --json every command prints one JSON document on stdout."""


class _Parser(argparse.ArgumentParser):
    """Tells an error in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def parser() -> argparse.ArgumentParser:
    """The command's grammar."""
    root = _Parser(
        prog="banach", description=DESCRIPTION, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = root.add_subparsers(metavar="COMMAND", required=True, parser_class=_Parser)
    for module in (solve, risk, check, instances, reduce, verify, falsify, audit, catalogue, train, model):
        module.add_to(commands)
    return root


def main(words: Sequence[str] | None = None) -> int:
    """Run the command on `words` (default: those of the process) and return its exit code."""
    try:
        arguments = parser().parse_args(words)
        code = arguments.run(arguments)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return _fail("interrupted", 130)
    except BrokenPipeError:  # the reader, `head` for instance, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (BanachError, OSError) as fault:
        return _fail(str(fault), 2)


def _fail(message: str, code: int) -> int:
    print("banach:", " ".join(message.split()), file=sys.stderr)
    return code
