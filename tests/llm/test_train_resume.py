"""A run that is stopped anywhere and resumed makes the steps of a run that was not, bit for bit."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from banach.llm.train import CheckpointDamaged, TrainError, checkpoint, loop, read_metrics, train
from banach.llm.train.checkpoint import checkpoints

from .training import small

pytest.importorskip("transformers")

KINDS = {
    "a reference": {"objective": "grpo"},
    "an average": {"objective": "grpo", "reference_decay": 0.7},
    "a previous iterate": {"objective": "grpo", "reference_decay": 0.0, "epochs": 2, "minibatches": 2},
    "a critic": {"objective": "ppo", "epochs": 2},
    "tracked quantiles": {"objective": "risk_po", "bundle": 2},
    "pairs": {"objective": "dpo"},
    "pairs drawn anew": {"objective": "dpo", "refresh": 2},
    "an adapter": {"objective": "dr_grpo", "model_settings": {"layers": 1, "width": 16, "lora": 2}},
}


def told(folder):
    """The metrics without what the clock says."""
    return [{name: x for name, x in line.items() if name != "seconds"} for line in read_metrics(folder)]


def weights(made):
    return torch.cat([p.detach().flatten() for p in made.policy.model.parameters()])


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_in_two_parts_is_the_run_in_one(kind, tmp_path):
    if kind == "an adapter":
        pytest.importorskip("peft")
    changes = {"warm_start": 10, **KINDS[kind]}
    whole = train(small(steps=5, **changes), tmp_path / "whole")
    train(small(steps=3, **changes), tmp_path / "parts")
    parts = train(small(steps=5, **changes), tmp_path / "parts", resume=True)
    assert told(tmp_path / "parts") == told(tmp_path / "whole")
    assert [line["step"] for line in parts.metrics] == [1, 2, 3, 4, 5]
    assert torch.equal(weights(parts), weights(whole))


class Killed(BaseException):
    pass


def dies_at(function, times):
    """The function, that kills the run at its call of this number: before it does anything, or after."""
    calls = [0]

    def dying(*arguments, **named):
        calls[0] += 1
        if calls[0] == times[0] and times[1] == "before":
            raise Killed
        result = function(*arguments, **named)
        if calls[0] == times[0]:
            raise Killed
        return result

    return dying


PLACES = {
    "update": (loop, "update"),
    "metrics": (loop, "append_metrics"),
    "checkpoint": (loop, "save_checkpoint"),
    "renaming": (checkpoint.os, "replace"),
    "removal": (checkpoint.shutil, "rmtree"),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_run_may_die_anywhere(place, moment, tmp_path, monkeypatch):
    where, name = PLACES[place]
    settings = small(steps=4, warm_start=5, checkpoint_every=1, keep=2)
    train(settings, tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(where, name, dies_at(getattr(where, name), (3, moment)))
        with pytest.raises(Killed):
            train(settings, tmp_path / "run")
    train(settings, tmp_path / "run", resume=True)
    assert told(tmp_path / "run") == told(tmp_path / "whole")


def test_a_killed_process_resumes(tmp_path):
    settings = small(steps=400, warm_start=5, checkpoint_every=2, rate=1e-4)
    program = (
        "import json, sys, torch\ntorch.set_num_threads(1)\nfrom banach.llm.train import Settings, train\n"
        "train(Settings(**json.loads(sys.argv[1])), sys.argv[2])"
    )
    command = [sys.executable, "-c", program, json.dumps(settings.document()), str(tmp_path / "run")]
    child = subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, start_new_session=True)
    try:
        deadline = time.monotonic() + 120
        while len(read_metrics(tmp_path / "run")) < 5 and time.monotonic() < deadline:
            assert child.poll() is None
            time.sleep(0.02)
    finally:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
    reached = read_metrics(tmp_path / "run")[-1]["step"]
    assert 5 <= reached < 400
    steps = reached + 2
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        train(small(steps=steps, warm_start=5, checkpoint_every=2, rate=1e-4), tmp_path / "run", resume=True)
        train(small(steps=steps, warm_start=5, checkpoint_every=2, rate=1e-4), tmp_path / "whole")
    finally:
        torch.set_num_threads(threads)
    assert told(tmp_path / "run") == told(tmp_path / "whole")


@pytest.mark.parametrize("file", ["tensors.safetensors", "optimiser.pt", "state.json"])
@pytest.mark.parametrize("how", ["cut", "changed", "gone"])
def test_a_damaged_checkpoint_is_found_out_and_the_one_before_is_used(file, how, tmp_path):
    settings = small(steps=4, warm_start=5, checkpoint_every=1)
    train(settings, tmp_path / "run")
    wanted = told(tmp_path / "run")
    path = checkpoints(tmp_path / "run")[-1] / file
    damage(path, how)
    with pytest.warns(UserWarning, match="checkpoint 00000004 is damaged"):
        train(settings, tmp_path / "run", resume=True)
    assert told(tmp_path / "run") == wanted


def damage(path, how):
    content = path.read_bytes()
    if how == "gone":
        path.unlink()
    elif how == "cut":
        path.write_bytes(content[: len(content) // 2])
    else:
        middle = len(content) // 2
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])


def test_where_no_checkpoint_is_whole_every_fault_is_told(tmp_path):
    settings = small(steps=2, warm_start=5, checkpoint_every=1)
    train(settings, tmp_path / "run")
    for path in checkpoints(tmp_path / "run"):
        damage(path / "optimiser.pt", "cut")
    with pytest.warns(UserWarning, match="damaged"), pytest.raises(CheckpointDamaged, match=r"00000002: .*00000001: "):
        train(settings, tmp_path / "run", resume=True)


def test_only_so_many_checkpoints_are_kept(tmp_path):
    train(small(steps=4, warm_start=5, checkpoint_every=1, keep=3), tmp_path / "run")
    assert [path.name for path in checkpoints(tmp_path / "run")] == ["00000002", "00000003", "00000004"]


def test_a_folder_holds_one_run(tmp_path):
    train(small(steps=1, warm_start=5), tmp_path / "run")
    with pytest.raises(TrainError, match="holds a run already"):
        train(small(steps=1, warm_start=5), tmp_path / "run")
    with pytest.raises(TrainError, match=r"rate=0\.001, not 0\.5"):
        train(small(steps=2, warm_start=5, rate=0.5), tmp_path / "run", resume=True)
    with pytest.raises(TrainError, match="no checkpoint to resume from"):
        train(small(steps=1), tmp_path / "other", resume=True)


def test_tensorboard_reads_the_numbers_of_a_run_and_of_what_it_repeated(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    settings = small(steps=2, warm_start=5, tensorboard=True)
    train(settings, tmp_path / "run")
    again = train(small(steps=4, warm_start=5, tensorboard=True), tmp_path / "run", resume=True)
    read = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    read.Reload()
    for name in ("loss", "reward_mean", "gradient_norm"):
        shown = {event.step: event.value for event in read.Scalars(name)}
        assert shown == pytest.approx({line["step"]: line[name] for line in again.metrics}, rel=1e-5, abs=1e-7)
