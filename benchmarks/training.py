"""One step of GRPO beside TRL's: the same model, prompts, shapes and reward, in turn, a process each.

    python -m benchmarks.training --model tiny       a Llama of 2 layers and width 64 with SmolLM2's vocabulary of 49152
    python -m benchmarks.training --model smollm2    SmolLM2-135M, as `banach model smollm2` fetched it

4 prompts of about 122 tokens, 8 answers each, 16 tokens at most, float32, no reference, AdamW. The reward is a number in [0, 1)
that belongs to the text of an answer, so that every group has a spread: a group without one would cost us nothing, and TRL as
much as any. Both do what they do by themselves, sampling included; a step of one is made while the other waits. Written are
medians of wall clock, processor time and peak resident memory, the first step (which warms up) left out.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from . import machine, memory
from .storage import write_json

HERE = Path(__file__).parent
PROMPTS, GROUP, TOKENS, RATE = 4, 8, 16, 1e-5
KEYS = ("seconds", "cpu_seconds", "generation_seconds", "update_seconds", "peak_gb")


def main(words: list[str] | None = None) -> int:
    """Race, write the JSON, print the table; 0 when both ran."""
    options = _parser().parse_args(words)
    if options.worker:
        return _work(options.worker, Path(options.folder))
    with tempfile.TemporaryDirectory() as work:
        folder = _model(options.model, Path(work))
        found = _race(options, folder)
    run = {
        "command": f"python -m benchmarks.training --model {options.model} --repeat {options.repeat}",
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": machine.description() | {"libraries": _versions()},
        "load": os.getloadavg()[0],
        "shape": {"prompts": PROMPTS, "group": GROUP, "tokens": TOKENS},
        "competitors": found,
    }
    write_json(options.out / f"training_{options.model}.json", run)
    print(_table(found))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", choices=("tiny", "smollm2"), default="tiny")
    parser.add_argument("--repeat", type=int, default=3, metavar="N", help="steps of each that are measured (3)")
    parser.add_argument("--out", type=Path, default=HERE / "results", help="folder of the JSON file (benchmarks/results)")
    parser.add_argument("--worker", choices=("ours", "trl"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    return parser


def _race(options: argparse.Namespace, folder: Path) -> dict[str, dict[str, Any]]:
    """Both in turn: medians, and every step."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TRL_EXPERIMENTAL_SILENCE": "1"}
    workers = {
        name: subprocess.Popen(
            [sys.executable, "-m", "benchmarks.training", "--worker", name, "--folder", str(folder)],
            cwd=HERE.parent,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for name in ("ours", "trl")
    }
    steps: dict[str, list[dict[str, float]]] = {name: [] for name in workers}
    try:
        for turn in range(options.repeat + 1):
            for name, worker in workers.items():
                assert worker.stdin is not None
                assert worker.stdout is not None
                worker.stdin.write("step\n")
                worker.stdin.flush()
                line = _answer(worker.stdout)
                if turn:
                    steps[name].append(line)
                print(f"{name} step {turn}: {line['seconds']:.2f} s", file=sys.stderr, flush=True)
    finally:
        for worker in workers.values():
            worker.kill()
            worker.wait()
    medians = {name: {key: statistics.median(x[key] for x in lines) for key in KEYS} for name, lines in steps.items()}
    return {name: {"median": medians[name], "steps": lines} for name, lines in steps.items()}


def _answer(stream: Any) -> dict[str, float]:
    """The next line that is a measurement; libraries print what they like in between."""
    for line in stream:
        if line.startswith("measured "):
            return json.loads(line.removeprefix("measured "))
    raise RuntimeError("the worker ended without an answer")


def _work(name: str, folder: Path) -> int:
    """Make a step each time a line comes in, and say what it took."""
    import torch

    torch.set_num_threads(1)
    for times in {"ours": _ours, "trl": _trl}[name](folder):
        print("measured " + json.dumps(times), flush=True)
    return 0


class Stopwatch:
    """Of a step: wall clock, processor time, peak memory, and how long its sampling took."""

    def __init__(self) -> None:
        self.generation = 0.0

    def wait(self) -> None:
        """For the word to begin; ends the process where there is none."""
        if not sys.stdin.readline():
            sys.exit(0)
        memory.reset_peak()
        self.generation, self.start, self.cpu = 0.0, time.perf_counter(), time.process_time()

    def timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, whose time counts as sampling."""

        def run(*arguments: Any, **named: Any) -> Any:
            start = time.perf_counter()
            result = function(*arguments, **named)
            self.generation += time.perf_counter() - start
            return result

        return run

    def read(self) -> dict[str, float]:
        """What the step took."""
        seconds = time.perf_counter() - self.start
        return {
            "seconds": seconds,
            "cpu_seconds": time.process_time() - self.cpu,
            "generation_seconds": self.generation,
            "update_seconds": seconds - self.generation,
            "peak_gb": memory.peak() / 1e9,
        }


def _ours(folder: Path) -> Iterator[dict[str, float]]:
    from banach.llm.environments import Component, ReasoningTask, Reward
    from banach.llm.environments.catalogue import EASY
    from banach.llm.train import Settings, loop
    from banach.llm.train.run import new_run

    class Endless(ReasoningTask):
        """The task without its stop text, so that answers are as long as TRL's."""

        stop = ""

    settings = Settings(
        objective="grpo", objective_settings={"beta": 0.0}, task="chain_sum", model=str(folder), prompts=PROMPTS,
        group_size=GROUP, max_tokens=TOKENS, rate=RATE, microbatch=PROMPTS,
    )  # fmt: skip
    run, watch = new_run(settings), Stopwatch()
    run.task = Endless("chain_sum", EASY["chain_sum"])
    run.reward = Reward((Component("text", lambda sample: worth(sample.text)),))
    loop.collect = watch.timed(loop.collect)
    while True:
        watch.wait()
        loop.step(run, folder)
        run.step += 1
        yield watch.read()


def _trl(folder: Path) -> Iterator[dict[str, float]]:
    import queue
    import threading

    import torch
    from banach.llm.environments import task
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    posed, watch, done = task("chain_sum"), Stopwatch(), queue.Queue()

    class Turns(TrainerCallback):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            watch.wait()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            done.put(watch.read())

    settings = GRPOConfig(
        output_dir=tempfile.mkdtemp(prefix="trl-"), per_device_train_batch_size=PROMPTS * GROUP, num_generations=GROUP,
        max_completion_length=TOKENS, learning_rate=RATE, beta=0.0, temperature=1.0, max_steps=1000, use_cpu=True, bf16=False,
        gradient_checkpointing=False, report_to="none", save_strategy="no", logging_strategy="no", disable_tqdm=True,
        lr_scheduler_type="constant",
    )  # fmt: skip
    trainer = GRPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32),
        args=settings,
        processing_class=AutoTokenizer.from_pretrained(folder),
        train_dataset=Dataset.from_list([{"prompt": posed.problem(i).prompt} for i in range(4000)]),
        reward_funcs=lambda completions, **_: [worth(text) for text in completions],
        callbacks=[Turns()],
    )
    trainer._generate_and_score_completions = watch.timed(trainer._generate_and_score_completions)
    threading.Thread(target=trainer.train, daemon=True).start()
    while True:
        yield done.get()


def worth(text: str) -> float:
    """A number in [0, 1) that belongs to a text."""
    return zlib.crc32(text.encode()) % 97 / 97


def _model(name: str, work: Path) -> Path:
    """A folder with the model's files that both load."""
    from banach.llm.policy.smollm2 import load_smollm2, smollm2_folder

    if name == "smollm2":
        load_smollm2()  # says what to do where it is missing
        return smollm2_folder()
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=49152, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, tie_word_embeddings=True, bos_token_id=1, eos_token_id=2, pad_token_id=2,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(work)
    AutoTokenizer.from_pretrained(smollm2_folder()).save_pretrained(work)
    return work


def _versions() -> dict[str, str]:
    import importlib.metadata

    return {name: importlib.metadata.version(name) for name in ("torch", "transformers", "trl")}


def _table(found: dict[str, dict[str, Any]]) -> str:
    ours, trl = found["ours"]["median"], found["trl"]["median"]
    lines = ["| a step | banach | TRL | ratio |", "|---|---|---|---|"]
    lines += [f"| {key} | {ours[key]:.2f} | {trl[key]:.2f} | {trl[key] / max(ours[key], 1e-9):.1f} |" for key in KEYS]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
