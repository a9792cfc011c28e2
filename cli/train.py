"""`banach train`: any objective of the catalogue trains a transformer policy on a verifiable task."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..mdp.errors import BanachError
from . import terminal
from .spelling import SpellingError, spelled

if TYPE_CHECKING:
    from ..llm.train.settings import Settings

HELP = "train a transformer policy on a verifiable task"

EXAMPLES = """\
OBJECTIVE, TASK and MODEL are names with settings if you like: name:setting=value,setting=value. Models: tiny (random weights,
one token a character), smollm2 (135 million weights; `banach model smollm2` fetches it), or a folder with a model of Hugging
Face's. A run is a folder; stopped at any point it is taken up with --resume, and on a CPU makes the same steps bit for bit.

examples:
  banach train --objective grpo --task digit_chain:base=3 --model tiny --warm-start 200 --noise 0.5 --rate 1e-3
  banach train --objective dr_grpo --task chain_sum --model smollm2 --steps 30 --max-tokens 8 --dry-run
  banach train --objective dpo:beta=0.1 --task chain_sum --model smollm2:lora=8 --out runs/dpo
  banach train --resume --out runs/dpo --steps 200          the same run, further
  torchrun --nproc-per-node 2 -m banach.cli train --shard ...    two processes, one policy, each holding half"""

NUMBERS = [
    "steps",
    "prompts",
    "group_size",
    "max_tokens",
    "temperature",
    "top_p",
    "rate",
    "warmup",
    "weight_decay",
    "clip_norm",
    "epochs",
    "minibatches",
    "microbatch",
    "reference_decay",
    "value_rate",
    "bundle",
    "quantile_rate",
    "pool",
    "refresh",
    "warm_start",
    "warm_rate",
    "noise",
    "evaluate_every",
    "evaluate_problems",
    "checkpoint_every",
    "keep",
    "top",
    "seed",
]


class TrainingMissing(BanachError, ImportError):  # noqa: N818 - what is so, said by the message
    """Training needs a library that is not installed."""


def add_to(commands: argparse._SubParsersAction) -> None:
    """Teach the command its words."""
    parser = commands.add_parser(
        "train", help=HELP, description=HELP, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--objective", metavar="OBJECTIVE", help="of the catalogue (default: grpo)")
    parser.add_argument("--task", metavar="TASK", help="digit_chain, tool_sums, or of reasoning-gym (default: digit_chain)")
    parser.add_argument("--model", metavar="MODEL", help="tiny, smollm2 or a folder (default: tiny)")
    parser.add_argument("--precision", metavar="TYPE", help="float32, bfloat16 or auto: bfloat16 on a GPU (default: auto)")
    parser.add_argument("--out", metavar="DIR", default="run", help="the run's folder (default: run)")
    parser.add_argument("--reference", metavar="RUN[@STEP]", help="a run's checkpoint in place of the initial policy")
    parser.add_argument("--tensorboard", action="store_true", help="write the numbers for TensorBoard, too")
    parser.add_argument("--shard", action="store_true", help="processes divide weights and optimiser among them (FSDP2)")
    parser.add_argument("--resume", action="store_true", help="take up the run in the folder; other words change its settings")
    parser.add_argument("--dry-run", action="store_true", help="say what would be run and how much memory it takes")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    group = parser.add_argument_group("numbers of the run (see banach.llm.train.Settings)")
    for name in NUMBERS:
        group.add_argument(f"--{name.replace('_', '-')}", dest=name, type=_number, metavar="N")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Train and report; 0 when the steps are made. Raises BanachErrors (TrainingMissing, SpellingError among them), OSError."""
    try:
        return _run(arguments)
    except ImportError as fault:
        if isinstance(fault, BanachError):
            raise
        raise TrainingMissing(f"{fault}; training needs pip install 'banach[train]'") from fault


def _run(arguments: argparse.Namespace) -> int:
    settings = _settings(arguments)
    if arguments.dry_run:
        return _dry(settings, arguments.json)
    from ..llm.train.loop import train

    with terminal.step_progress("training") as report:
        made = train(settings, arguments.out, resume=arguments.resume, report=report)
    last = made.metrics[-1] if made.metrics else {}
    if arguments.json:
        terminal.print_json({"folder": arguments.out, "settings": settings.document(), "last": last, "findings": made.findings})
        return 0
    facts = {"run": arguments.out, "steps": str(last.get("step", 0))}
    facts |= {name: f"{last[name]:.4g}" for name in ("reward_mean", "loss", "gradient_norm", "entropy_mean") if last.get(name)}
    if "held_out" in last:
        facts["held out"] = f"{last['held_out']:.3f}  [{last['held_out_low']:.3f}, {last['held_out_high']:.3f}]"
    terminal.print_facts(facts)
    for finding in made.findings:
        print(f"finding  {finding}")
    return 0


def _settings(arguments: argparse.Namespace) -> Settings:
    """The run's settings: of its folder if it resumes, and what the words say. Raises SpellingError, TrainError."""
    from ..llm.train.settings import Settings

    given: dict[str, Any] = {name: getattr(arguments, name) for name in NUMBERS if getattr(arguments, name) is not None}
    given |= {name: getattr(arguments, name) for name in ("precision", "reference") if getattr(arguments, name) is not None}
    given |= {name: True for name in ("shard", "tensorboard") if getattr(arguments, name)}
    for name in ("objective", "task", "model"):
        if getattr(arguments, name) is not None:
            given[name], given[f"{name}_settings"] = spelled(getattr(arguments, name))
    if not arguments.resume:
        return Settings(**given)
    path = Path(arguments.out) / "settings.json"
    if not path.exists():
        raise SpellingError(f"{arguments.out} holds no run to resume; --out names its folder")
    import json

    return dataclasses.replace(Settings(**json.loads(path.read_text(encoding="utf-8"))), **given)


def _dry(settings: Settings, as_json: bool) -> int:
    from ..llm.train.memory import estimate_memory
    from ..llm.train.run import new_run

    made = new_run(settings)
    prompt = made.policy.tokenizer.encode(made.task.problem(0).prompt)
    found = estimate_memory(settings, made.policy, len(prompt))
    size = sum(p.numel() for p in made.policy.model.parameters())
    trained = sum(p.numel() for p in made.policy.trained().values())
    if as_json:
        document = {"settings": settings.document(), "weights": size, "trained": trained, "prompt_tokens": len(prompt)}
        terminal.print_json(document | {"memory": dataclasses.asdict(found) | {"peak": found.peak}})
    else:
        terminal.print_facts(
            {
                "objective": made.spec.name,
                "task": f"{settings.task}, prompts of about {len(prompt)} tokens",
                "model": f"{settings.model}, {size / 1e6:.2f} million weights, {trained / 1e6:.2f} million trained",
                "a step": f"{settings.prompts} x {settings.group_size} answers of at most {settings.max_tokens} tokens",
                "memory": str(found),
            }
        )
    found.check()
    return 0


def _number(text: str) -> int | float:
    try:
        return int(text)
    except ValueError:
        return float(text)
