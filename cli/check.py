"""`banach check`: does a saved proof hold for a model?"""

from __future__ import annotations

import argparse
import time

from . import problem, terminal

HELP = "check a saved proof against a model, in exact arithmetic"

EXAMPLES = """\
The model must be the very one that was solved, with the same criterion: the proof names it by hash. Nothing of the solver is
believed; every inequality is decided in exact arithmetic. A proof that fails is an error that names the first state and
action where it fails.

examples:
  banach solve gym:Taxi-v4 --discount 0.99 --save-certificate taxi.proof.npz
  banach check gym:Taxi-v4 taxi.proof.npz --discount 0.99"""


def add_to(commands: argparse._SubParsersAction) -> None:
    """Teach the command its words."""
    parser = commands.add_parser(
        "check", help=HELP, description=HELP, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    problem.add_arguments(parser)
    parser.add_argument("certificate", metavar="CERTIFICATE", help="a file that `banach solve --save-certificate` wrote")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Check and print the verdict. Raises CertificateRejected and other BanachErrors, OSError."""
    from ..solvers.certificate import Certificate
    from ..solvers.check import check

    certificate = Certificate.load(arguments.certificate)
    model = problem.open_problem(arguments)
    began = time.perf_counter()
    verdict = check(model, certificate)
    seconds = time.perf_counter() - began
    if arguments.json:
        terminal.print_json(
            {
                "proved": True,
                "width": verdict.width,
                "inequalities": verdict.rows,
                "decided_in_integers": verdict.exact,
                "seconds": seconds,
                "model": model.fingerprint,
            }
        )
    else:
        print(f"{verdict}, {seconds:.2g} s")
    return 0
