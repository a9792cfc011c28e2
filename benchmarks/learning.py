"""Does a real language model learn? Five objectives train one policy on one task, measured on held-out problems over seeds.

    python -m benchmarks.learning                  SmolLM2-135M on sums of two digits, as `banach model smollm2` fetched it
    python -m benchmarks.learning --model tiny --task digit_chain ...      any model and task that `banach train` takes

Every run makes the same number of steps on the same number of sampled answers, from the same weights. Held-out problems are of
another seed, the same for all runs; each is answered once greedily and once as in training. Runs that are in the JSON already
are not made again, so that what was interrupted goes on where it stood; a run that was interrupted resumes from its checkpoint.
LEARNING.md, beside the folder of the JSON, is written anew from all that is there.

The intervals over seeds are Student's at 95 %, of the gain over the initial policy; of one run they are Wilson's.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import shutil
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from . import machine
from .storage import complete, write_page

HERE = Path(__file__).parent
METHODS: dict[str, dict[str, Any]] = {
    "grpo": {},
    "dr_grpo": {},
    "risk_po": {},
    "nft": {"objective_settings": {"threshold": 1.0}},
    "dpo": {"prompts": 32, "pool": 32, "refresh": 4, "microbatch": 32},
}
"""What is set apart for each. NFT asks for verdicts, and some wrong answers are paid a little. DPO draws its pool anew every
four steps: as many answers in all as the others.
"""
HELD_OUT, PROBLEMS = 500_000, 256
KEPT = (
    "reward_mean",
    "entropy_mean",
    "zero_variance_share",
    "unparsed_share",
    "truncated_share",
    "length_mean",
    "pool_reward_mean",
)


def main(words: list[str] | None = None) -> int:
    """Train what is missing, write the JSON after each run, then the table; 0 when all is there."""
    options = _parser().parse_args(words)
    path = options.out / f"learning_{options.model}.json"
    found = json.loads(path.read_text()) if path.exists() else _begun(options)
    found["settings"] = {method: _settings(options, method, 0).document() for method in METHODS}
    complete(path, found, "method", METHODS, options.seeds, lambda method, seed: _trained(options, method, seed))
    write_page(options.out.parent / "LEARNING.md", page(found))
    print(table(found))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.learning", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", default="smollm2", help="tiny, smollm2 or a folder (smollm2)")
    parser.add_argument("--task", default="chain_sum", help="digit_chain, or a dataset of reasoning-gym (chain_sum)")
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="runs of each objective (3)")
    parser.add_argument("--steps", type=int, default=24, metavar="N", help="of each run (24)")
    parser.add_argument("--rate", type=float, default=1e-5, help="of AdamW (1e-5)")
    parser.add_argument("--out", type=Path, default=HERE / "results", help="folder of the JSON file (benchmarks/results)")
    parser.add_argument("--work", type=Path, default=Path("runs"), help="folder of the runs in progress (runs)")
    return parser


def _settings(options: argparse.Namespace, method: str, seed: int) -> Any:
    from banach.llm.train import Settings

    common = {
        "task": options.task, "model": options.model, "prompts": 8, "group_size": 8, "max_tokens": 6, "microbatch": 8,
        "rate": options.rate, "warmup": 2, "steps": options.steps, "checkpoint_every": 12, "keep": 1,
    }  # fmt: skip
    return Settings(objective=method, seed=seed, **(common | METHODS[method]))


def _begun(options: argparse.Namespace) -> dict[str, Any]:
    """What holds for all runs, and the initial policy on the held-out problems."""
    from banach.llm.train import open_policy

    return {
        "command": f"python -m benchmarks.learning --model {options.model} --task {options.task} --seeds {options.seeds} "
        f"--steps {options.steps} --rate {options.rate:g}",
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": machine.description(),
        "problems": PROBLEMS,
        "beginning": _accuracies(open_policy(options.model), options),
        "runs": [],
    }


def _trained(options: argparse.Namespace, method: str, seed: int) -> dict[str, Any]:
    from banach.llm.train import train

    folder = options.work / f"{method}-{seed}"
    start, cpu = time.perf_counter(), time.process_time()
    made = train(
        _settings(options, method, seed), folder, resume=(folder / "settings.json").exists(), report=_told(method, seed)
    )
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    run = {
        "method": method,
        "seed": seed,
        "seconds": seconds,
        "cpu_seconds": cpu,
        "load": os.getloadavg()[0],
        "end": _accuracies(made.policy, options),
        "steps": [{name: line[name] for name in KEPT if name in line} for line in made.metrics],
        "findings": made.findings,
    }
    shutil.rmtree(folder)
    return run


def _told(method: str, seed: int) -> Any:
    return lambda done, of, note: print(f"{method} seed {seed}: {done}/{of} {note}", file=sys.stderr, flush=True)


def _accuracies(policy: Any, options: argparse.Namespace) -> dict[str, int]:
    """Held-out problems answered rightly."""
    from banach.llm.environments import task
    from banach.llm.rollout import Sampling
    from banach.llm.train import evaluate_policy

    posed = task(options.task, seed=HELD_OUT)
    sampling = Sampling(6, stop=policy.tokenizer.tokens_with(posed.stop))
    return {
        name: evaluate_policy(policy, posed, range(PROBLEMS), sampling, greedy=name == "greedy").right
        for name in ("greedy", "sampled")
    }


def gains(found: dict[str, Any], method: str, kind: str) -> list[float]:
    """Of each seed, the share of held-out problems that training gained."""
    before = found["beginning"][kind]
    return [(run["end"][kind] - before) / found["problems"] for run in found["runs"] if run["method"] == method]


def interval(values: list[float]) -> tuple[float, float]:
    """Mean and half-width of Student's 95 % interval; the half-width of one number is infinite."""
    from scipy.stats import t as student

    n = len(values)
    if n < 2:
        return values[0], float("inf")
    return statistics.mean(values), float(student.ppf(0.975, n - 1)) * statistics.stdev(values) / n**0.5


def table(found: dict[str, Any]) -> str:
    """A row an objective, in Markdown."""
    total = found["problems"]
    start = {kind: right / total for kind, right in found["beginning"].items()}
    lines = [
        "| objective | seeds | sampled accuracy | gain | greedy accuracy | gain | processor s a step |",
        "|---|---|---|---|---|---|---|",
        f"| initial policy | | {start['sampled']:.3f} | | {start['greedy']:.3f} | | |",
    ]
    for method in METHODS:
        runs = [run for run in found["runs"] if run["method"] == method]
        if not runs:
            continue
        cells = []
        for kind in ("sampled", "greedy"):
            mean, half = interval(gains(found, method, kind))
            cells += [f"{start[kind] + mean:.3f}", f"{mean:+.3f} ± {half:.3f}"]
        each = statistics.median(run["cpu_seconds"] / len(run["steps"]) for run in runs)
        lines.append(f"| {method} | {len(runs)} | {' | '.join(cells)} | {each:.1f} |")
    return "\n".join(lines)


def page(found: dict[str, Any]) -> str:
    """LEARNING.md."""
    first = next(iter(found["settings"].values()))
    lines = [
        "# A real language model, trained",
        "",
        f"`{found['command']}` ({found['date'][:10]}, {found['machine']['processor']}, one thread). {first['model']} on "
        f"{first['task']}, {first['steps']} steps of {first['prompts']} problems and {first['group_size']} answers, AdamW at "
        f"{first['rate']:g}, float32. {found['problems']} held-out problems, the same for all runs. Gains are over the initial "
        "policy, with Student's 95 % interval over seeds (of training; the problems are fixed).",
        "",
        table(found),
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
