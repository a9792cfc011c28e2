"""What enters the preference kernel is checked once, at the door, and refused with the row and the remedy."""

import dataclasses

import pytest
import torch
from banach.llm.errors import BatchError
from banach.llm.pair_batch import PairBatch, Sequences, SingleBatch
from banach.llm.preference_catalogue import preference
from banach.llm.preference_kernel import evaluate_preference
from banach.llm.preference_plan import plan_preference

from .preference_witness import random_pairs

LOGP = torch.tensor([-1.0, -2.0, -3.0])


def sequences(**rows) -> Sequences:
    return Sequences(**{"logp_B": LOGP, **{name: torch.as_tensor(value) for name, value in rows.items()}})


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ({"logp_B": torch.zeros(2, 2)}, r"floating-point tensor of shape \(B,\)"),
        ({"logp_B": torch.tensor([1, 2])}, r"floating-point tensor of shape \(B,\)"),
        ({"logp_B": torch.zeros(0)}, "no sequences.*skip the batch"),
        ({"logp_B": [-1.0, float("nan"), 0.0]}, r"logp_B\[1\] is nan"),
        ({"logp_B": [-1.0, -2.0, -float("inf")]}, r"logp_B\[2\] is -inf: a response that a policy never gives"),
        ({"ref_B": [-1.0, -2.0]}, r"ref_B must be a tensor of shape \(3,\)"),
        ({"ref_B": [-1.0, -float("inf"), -2.0]}, r"ref_B\[1\] is -inf"),
        ({"previous_B": [float("nan"), -1.0, -2.0]}, r"previous_B\[0\] is nan"),
        ({"reward_B": [0.0, float("inf"), 0.0]}, r"reward_B\[1\] is inf"),
        ({"length_B": [3, 0, 2]}, r"length_B\[1\] is 0: a sequence without tokens has no mean; drop it"),
        ({"win_B": [0.2, 1.2, 0.3]}, r"win_B\[1\] is 1.2: it is a probability"),
        ({"mask_BT": torch.ones(3, 2)}, r"mask_BT must be a bool tensor of shape \(3, T\)"),
        ({"mask_BT": torch.ones(2, 2).bool()}, r"mask_BT must be a bool tensor of shape \(3, T\)"),
        ({"mask_BT": torch.tensor([[True], [False], [True]])}, r"length_B\[1\] is 0"),
        ({"mask_BT": torch.ones(3, 2).bool(), "length_B": [2, 1, 2]}, r"length_B\[1\] is 1, but mask_BT marks 2"),
    ],
)
def test_sequences_that_are_none_are_refused(rows, told):
    with pytest.raises(BatchError, match=told):
        sequences(**rows)


def test_a_number_in_place_of_a_tensor_is_refused():
    with pytest.raises(BatchError, match="ref_B must be a tensor"):
        Sequences(LOGP, ref_B=-1.0)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"label_B": [0.0, 1.5, 1.0]}, r"label_B\[1\] is 1.5"),
        ({"label_B": [0.0, 1.0]}, r"label_B must be a tensor of shape \(3,\)"),
        ({"weight_B": [1.0, -0.5, 1.0]}, r"weight_B\[1\] is -0.5"),
        ({"weight_B": [1.0, float("nan"), 1.0]}, r"weight_B\[1\] is nan"),
        ({"log_ratio_mismatched_M": torch.zeros(0)}, "M at least 1"),
        ({"log_ratio_mismatched_M": [0.0, float("nan")]}, r"log_ratio_mismatched_M\[1\] is nan"),
    ],
)
def test_pairs_that_are_none_are_refused(more, told):
    with pytest.raises(BatchError, match=told):
        PairBatch(sequences(), sequences(), **{name: torch.as_tensor(value) for name, value in more.items()})


def test_sides_that_differ_are_refused():
    with pytest.raises(BatchError, match="the sides of the pairs differ"):
        PairBatch(sequences(), Sequences(LOGP[:2]))
    with pytest.raises(BatchError, match="the sides of the pairs differ"):
        PairBatch(sequences(), Sequences(LOGP.double()))


@pytest.mark.parametrize(
    ("name", "settings", "told"),
    [
        ("dpo", {}, "dpo uses the reference, and ref_B is missing"),
        ("simpo", {}, "simpo uses the length, and length_B is missing"),
        ("ipo_token_mean", {}, "uses the length"),
        ("inpo", {}, "inpo uses the previous, and previous_B is missing"),
        ("sppo", {}, "sppo uses the previous"),
        ("copg", {}, "copg uses the reference"),
        ("kto", {"centre": "mismatched"}, "kto centres on mismatched sequences"),
    ],
)
def test_what_an_objective_uses_and_the_batch_lacks_is_named(name, settings, told):
    with pytest.raises(BatchError, match=told):
        evaluate_preference(preference(name, **settings), PairBatch(sequences(), sequences()))


def test_rewards_and_win_rates_are_asked_for():
    side = sequences(ref_B=LOGP, previous_B=LOGP)
    for name, told in (("copg", "reward_B"), ("rebel", "reward_B"), ("sppo", "win_B")):
        with pytest.raises(BatchError, match=told):
            evaluate_preference(preference(name), PairBatch(side, side))


def test_a_comparison_needs_pairs():
    with pytest.raises(BatchError, match="dpo compares the two sequences of a pair; give a PairBatch"):
        evaluate_preference(preference("dpo"), SingleBatch(sequences(ref_B=LOGP), torch.ones(3)))


def test_a_loss_passed_for_a_log_probability_is_refused_but_a_reward_models_score_is_not():
    side = sequences(logp_B=[-1.0, 0.3, -2.0], ref_B=LOGP)
    with pytest.raises(BatchError, match=r"logp_B\[1\] is 0.3: a log-probability is at most 0"):
        evaluate_preference(preference("dpo"), PairBatch(side, sequences(ref_B=LOGP)))
    assert evaluate_preference(preference("bradley_terry"), PairBatch(side, sequences())).loss > 0


def test_a_batch_that_counts_for_nothing_is_refused():
    with pytest.raises(BatchError, match="every weight of the batch is zero"):
        evaluate_preference(preference("cpo"), PairBatch(sequences(), sequences(), weight_B=torch.zeros(3)))


def test_a_plan_of_other_rows_or_of_another_objective_is_refused():
    batch, spec = random_pairs(0), preference("dpo")
    with pytest.raises(BatchError, match="the plan is of dpo on 5 rows, the request of dpo on 2"):
        evaluate_preference(spec, batch.rows(slice(0, 2)), plan_preference(spec, batch))
    with pytest.raises(BatchError, match="the plan is of dpo on 5 rows, the request of ipo on 5"):
        evaluate_preference(preference("ipo"), batch, plan_preference(spec, batch))


def test_token_tensors_of_another_shape_than_the_mask_are_refused():
    mask = torch.ones(2, 3).bool()
    with pytest.raises(BatchError, match=r"ref_BT has shape \(2, 2\), its mask \(2, 3\)"):
        Sequences.from_tokens(-torch.ones(2, 3), mask, ref_BT=-torch.ones(2, 2))
    with pytest.raises(BatchError, match=r"mask_BT must be a bool tensor of shape \(B, T\)"):
        Sequences.from_tokens(-torch.ones(2, 3), mask.float())


def test_token_sums_of_half_precision_are_made_in_single():
    """4099 tokens of -1/256 each: beyond 16 nats bfloat16 counts in eighths, and would lose the last three."""
    tokens = torch.full((1, 4099), -1 / 256, dtype=torch.bfloat16)
    found = Sequences.from_tokens(tokens, torch.ones(1, 4099).bool())
    assert found.logp_B.dtype == torch.float32
    assert found.logp_B.item() == -4099 / 256


def test_a_soft_verdict_is_a_probability_and_a_bool_is_one_too():
    for verdict in (torch.tensor([True, False, True]), torch.tensor([1.0, 0.0, 1.0])):
        single = SingleBatch(sequences(ref_B=LOGP - 0.1), verdict)
        assert evaluate_preference(preference("kto"), single).diagnostics["chosen_logp"] == -2.0


def test_half_of_a_batch_without_weight_is_as_if_it_were_not_there():
    batch = random_pairs(3, n_pairs=4, weighted=False)
    some = dataclasses.replace(batch, weight_B=torch.tensor([1.0, 1.0, 0.0, 0.0], dtype=torch.float64))
    for name in ("dpo", "kto", "cpo"):
        spec = preference(name) if name != "cpo" else preference("cpo", average="tokens")
        torch.testing.assert_close(
            evaluate_preference(spec, some).loss, evaluate_preference(spec, batch.rows(slice(0, 2))).loss
        )
