"""A run's checkpoints are policies again, and may be another run's reference."""

import shutil
from itertools import pairwise

import pytest
import torch
from banach.llm.policy import CharacterTokenizer, PolicyError, Reference, tiny_policy
from banach.llm.train import CheckpointDamaged, TrainError, checkpoint_steps, policy_at, train

from .training import small

pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("pool") / "run"
    train(small(steps=3, checkpoint_every=1, keep=9), made)
    return made


def flat(policy):
    return torch.cat([x.detach().flatten() for x in policy.trained().values()])


def test_every_checkpoint_that_is_kept_is_a_policy(folder, tmp_path):
    assert checkpoint_steps(folder) == [0, 1, 2, 3]
    policies = [flat(policy_at(folder, step)) for step in range(4)]
    assert all((a != b).any() for a, b in pairwise(policies))
    assert torch.equal(flat(policy_at(folder)), policies[-1])
    again = train(small(steps=2), tmp_path / "again")
    assert torch.equal(flat(again.policy), policies[2])


def test_a_step_that_was_not_kept_is_refused_with_those_that_were(folder, tmp_path):
    with pytest.raises(TrainError, match="no checkpoint of step 7; it has those of steps 0, 1, 2, 3"):
        policy_at(folder, 7)
    with pytest.raises(TrainError, match="it has none"):
        policy_at(tmp_path)


def test_a_damaged_checkpoint_is_not_a_policy(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "run")
    (tmp_path / "run" / "checkpoints" / "00000003" / "tensors.safetensors").write_bytes(b"x")
    with pytest.raises(CheckpointDamaged, match="00000003"):
        policy_at(tmp_path / "run")


@pytest.mark.parametrize("objective", ["grpo", "dpo"])
def test_a_run_is_held_to_the_checkpoint_of_another(objective, folder, tmp_path):
    """With the checkpoint of its own beginning as reference it is the run without; with another it is another."""
    changes = {"objective": objective, "steps": 2}
    plain = train(small(**changes), tmp_path / "plain")
    same = train(small(**changes, reference=f"{folder}@0"), tmp_path / "same")
    other = train(small(**changes, reference=str(folder)), tmp_path / "other")
    assert torch.equal(flat(plain.policy), flat(same.policy))
    assert (flat(plain.policy) != flat(other.policy)).any()


def test_a_reference_that_does_not_fit_is_refused(folder):
    with pytest.raises(TrainError, match="a checkpoint stays"):
        small(reference=str(folder), reference_decay=0.5)
    policy = tiny_policy(0, width=16, tokenizer=CharacterTokenizer("01"))
    with pytest.raises(PolicyError, match="a given reference of"):
        Reference(tiny_policy(0, width=16), given=policy)
