"""Sums with a tool: the environment's words are never the policy's, in sampling, in training, and in a run that resumes."""

import re
import shutil

import pytest
import torch
from banach.llm.environments import TaskError, ToolSums, task
from banach.llm.train import Settings, train
from banach.llm.train.experience import collect, demonstrations
from banach.llm.train.loop import _fit
from banach.llm.train.run import new_run

from .sandbox import with_tool

pytest.importorskip("transformers")

COMMON = {
    "objective": "dr_grpo",
    "task": "tool_sums",
    "task_settings": {"digits": 1, "shots": 0},
    "model_settings": {"layers": 2, "width": 32},
    "prompts": 4,
    "group_size": 4,
    "max_tokens": 60,
    "warm_start": 60,
    "warm_rate": 1e-2,
    "rate": 1e-3,
    "steps": 2,
}


def spoken(text):
    """Which characters of an answer are the environment's, by its marks."""
    theirs = [False] * len(text)
    for found in re.finditer(r"<output>.*?</output>\n", text, re.DOTALL):
        theirs[found.start() : found.end()] = [True] * (found.end() - found.start())
    return theirs


def test_a_problem_shows_calls_and_is_solved_by_its_own_transcript():
    posed = ToolSums(seed=3)
    problem = posed.problem(5)
    assert problem.prompt.count("<output>") == 3
    for left, right, total in re.findall(r"(\d+) \+ (\d+)\)</python>\n<output>(\d+)", problem.prompt):
        assert int(left) + int(right) == int(total)
    assert posed.score(problem, posed.parse("".join(problem.turns))) == 1
    assert posed.score(problem, "7") == 0
    assert posed.parse("<python>print(1)</python>\n") is None
    assert posed.problem(5) == problem
    assert "python" not in ToolSums(calls=0).problem(0).prompt


def test_settings_out_of_range_are_refused():
    with pytest.raises(TaskError, match="1 terms of 3 digits"):
        ToolSums(terms=1)
    with pytest.raises(TaskError, match=r"tool_sums: .*colour"):
        task("tool_sums", colour=1)


@pytest.fixture(scope="module")
def run():
    """A policy that has seen transcripts."""
    made = new_run(Settings(**COMMON))
    for done in range(made.settings.warm_start):
        _fit(made, done)
    return made


def test_a_demonstration_imitates_no_output(run):
    rollout = demonstrations(run, range(6))
    for b, tokens in enumerate(rollout.answers()):
        text = run.policy.tokenizer.decode(tokens)
        assert len(text) == len(tokens)
        assert (~rollout.mask_BT[b, : len(tokens)]).tolist() == spoken(text)


@with_tool
def test_what_the_tool_says_is_in_the_answer_and_not_in_the_batch(run):
    experience = collect(run)
    rollout, called = experience.rollout, 0
    for b, tokens in enumerate(rollout.answers()):
        text = run.policy.tokenizer.decode(tokens)
        theirs = spoken(text)
        called += any(theirs)
        assert (~rollout.mask_BT[b, : len(tokens)]).tolist() == theirs
        first = theirs.index(True) if any(theirs) else -1
        assert experience.batch.first_call_B[b] == first
        assert rollout.turn_BT[b, len(tokens) - 1] == (1 if any(theirs) and not theirs[-1] else 0)
        for call, output in re.findall(r"<python>print\((\d \+ \d)\)</python>\n<output>(\d+)</output>", text):
            assert sum(map(int, call.split(" + "))) == int(output)
    assert called > 0
    assert experience.numbers["turns_mean"] > 1
    assert torch.equal(experience.batch.mask_BT, rollout.mask_BT)


@with_tool
def test_a_run_with_a_tool_resumes_exactly(tmp_path):
    settings = Settings(**(COMMON | {"warm_start": 40, "checkpoint_every": 1, "keep": 9}))
    whole = train(settings, tmp_path / "whole")
    assert any(line["turns_mean"] > 1 for line in whole.metrics)
    shutil.copytree(tmp_path / "whole", tmp_path / "parts")
    shutil.rmtree(tmp_path / "parts" / "checkpoints" / "00000002")
    parts = train(settings, tmp_path / "parts", resume=True)
    for name, x in whole.policy.trained().items():
        assert torch.equal(x, parts.policy.trained()[name])
