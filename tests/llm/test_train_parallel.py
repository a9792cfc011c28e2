"""Two processes that share a run make the steps of one."""

import json
import os
import shutil
import subprocess
import sys

import pytest
import torch
from banach.llm.policy import PolicyError
from banach.llm.policy.sharding import shard
from banach.llm.train import TrainError, open_policy, read_metrics, train
from banach.llm.train.parallel import Processes, widened

from .sandbox import CONFINED
from .test_tool_sums import COMMON
from .training import small

pytest.importorskip("transformers")

KINDS = {
    # Warm enough for groups with spread: a gradient of rounding alone, which AdamW scales up, is no two machines' same.
    "grpo": {"objective": "grpo", "minibatches": 2, "warm_start": 40},
    "ppo": {"objective": "ppo", "prompts": 2, "warm_start": 40},
    "dpo": {"objective": "dpo"},
    "grpo, divided": {
        "objective": "grpo",
        "minibatches": 2,
        "microbatch": 1,
        "reference_decay": 0.7,
        "shard": True,
        "warm_start": 40,
    },
    "ppo, divided": {"objective": "ppo", "prompts": 2, "shard": True, "precision": "bfloat16", "warm_start": 40},
    "dpo, divided": {"objective": "dpo", "prompts": 3, "microbatch": 1, "shard": True},
}

if CONFINED:  # rounds: rows of a batch that are not as many in the one process as in the other
    KINDS["eapo"] = COMMON | {"objective": "eapo", "objective_settings": {"discount": 0.5}, "steps": 3, "pool": 8, "top": 2}

PROGRAM = """
import json, sys, torch
torch.set_num_threads(1)
from banach.llm.train import Settings, train
for name, settings in json.loads(sys.argv[1]).items():
    made = train(Settings(**settings), f"{sys.argv[2]}/{name}")
    if settings["shard"]:
        held = sum(p.to_local().numel() for p in made.policy.trained().values())
        open(f"{sys.argv[2]}/{name}/held-{torch.distributed.get_rank()}", "w").write(str(held))
"""


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """The same runs by two processes, and by one."""
    two, one = tmp_path_factory.mktemp("two"), tmp_path_factory.mktemp("one")
    runs = {name: small(**{"warm_start": 5} | changes) for name, changes in KINDS.items()}
    script = two / "script.py"
    script.write_text(PROGRAM)
    words = [json.dumps({name: settings.document() for name, settings in runs.items()}), str(two)]
    launch = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone", str(script)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *launch, *words], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    for name, settings in runs.items():
        train(settings, one / name)
    return two, one


@pytest.mark.parametrize("name", KINDS)
def test_two_processes_find_what_one_finds(name, folders):
    two, one = (read_metrics(folder / name) for folder in folders)
    assert [line["step"] for line in two] == [1, 2, 3]
    assert max(line["gradient_norm"] for line in two) > 0
    for mine, theirs in zip(two, one, strict=True):
        assert set(mine) == set(theirs)
        for key in set(mine) - {"seconds", "step"}:
            assert mine[key] == pytest.approx(theirs[key], rel=2e-3, abs=2e-5), (key, mine["step"])


@pytest.mark.parametrize("name", KINDS)
def test_two_processes_arrive_at_the_weights_of_one(name, folders):
    from safetensors.torch import load_file

    two, one = (load_file(folder / name / "checkpoints" / "00000003" / "tensors.safetensors") for folder in folders)
    assert set(two) == set(one)
    for key, x in one.items():
        if key.startswith("policy."):
            torch.testing.assert_close(two[key], x, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", [name for name in KINDS if "divided" in name])
def test_a_process_holds_its_part_of_the_weights(name, folders):
    from safetensors.torch import load_file

    weights = load_file(folders[1] / name / "checkpoints" / "00000003" / "tensors.safetensors")
    total = sum(x.numel() for key, x in weights.items() if key.startswith("policy."))
    held = [int((folders[0] / name / f"held-{rank}").read_text()) for rank in range(2)]
    assert sum(held) == total
    assert max(held) < 0.6 * total


def test_what_two_processes_divided_one_resumes(folders, tmp_path):
    further = small(**KINDS["grpo, divided"] | {"shard": False, "steps": 4})
    lines = []
    for i, folder in enumerate(folders):
        shutil.copytree(folder / "grpo, divided", tmp_path / str(i))
        lines.append(train(further, tmp_path / str(i), resume=True).metrics[-1])
    assert lines[0]["step"] == 4
    for key in set(lines[0]) - {"seconds"}:
        assert lines[0][key] == pytest.approx(lines[1][key], rel=5e-3, abs=5e-5), key


def test_a_policy_with_an_adapter_is_not_divided(tmp_path, monkeypatch):
    pytest.importorskip("peft")
    policy = open_policy("tiny", lora=2)
    monkeypatch.setattr("torch.distributed.get_world_size", lambda: 2)
    with pytest.raises(PolicyError, match="has an adapter"):
        shard(policy)


def test_a_process_alone_has_everything():
    alone = Processes()
    assert alone.share(5) == range(5)
    assert alone.numbers({"x": 2.0}) == {"x": 2.0}


def test_shares_are_even():
    assert [list(Processes(rank, 3).share(6)) for rank in range(3)] == [[0, 1], [2, 3], [4, 5]]
    with pytest.raises(TrainError, match="5 prompts a step"):
        Processes(0, 2).share(5)


def test_new_columns_are_zero():
    x = torch.ones(2, 1, 3)
    assert widened(x, 2).tolist() == [[[1.0] * 3, [0.0] * 3]] * 2
    assert widened(x[..., 0], 3).tolist() == [[1.0, 0.0, 0.0]] * 2
