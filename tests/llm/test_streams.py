"""The residual stream of a transformer: what layers write adds up to it, and its end, normed and unembedded, is the policy."""

import copy

import pytest
import torch
from banach.llm.internal import entropy, internal_log_policy
from banach.llm.policy import PolicyError, model_entropy_flow, residual_streams, tiny_policy

POLICY = tiny_policy(layers=3, width=32, seed=1)
TOKENS = torch.randint(0, 12, (4, 7), generator=torch.Generator().manual_seed(0))
REAL = torch.arange(7) < torch.tensor([7, 5, 2, 6])[:, None]


def test_layers_write_what_the_stream_gains_and_its_end_is_the_policy():
    found = residual_streams(POLICY, TOKENS)
    assert (len(found.streams), len(found.writes)) == (4, 3)
    for number, (attention, mlp) in enumerate(found.writes):
        torch.testing.assert_close(found.streams[number] + attention + mlp, found.streams[number + 1])
    with torch.no_grad():
        logp = POLICY.model(input_ids=TOKENS).logits.log_softmax(-1).flatten(0, 1)
    head = POLICY.model.get_output_embeddings().weight
    torch.testing.assert_close(internal_log_policy(found.streams[-1], head, POLICY.body.norm), logp, rtol=0, atol=1e-5)
    torch.testing.assert_close(found.streams[0], POLICY.model.get_input_embeddings()(TOKENS).flatten(0, 1))


def test_padding_takes_no_part():
    found = residual_streams(POLICY, TOKENS, REAL)
    alone = [residual_streams(POLICY, row[real][None]).streams[-1] for row, real in zip(TOKENS, REAL, strict=True)]
    torch.testing.assert_close(found.streams[-1], torch.cat(alone), rtol=0, atol=1e-5)


def test_the_flow_ends_with_the_entropy_of_the_policy_and_leaves_no_hook():
    flow = model_entropy_flow(POLICY, TOKENS, REAL)
    with torch.no_grad():
        logp = POLICY.model(input_ids=TOKENS, attention_mask=REAL.long()).logits.log_softmax(-1)
    assert flow.normed[-1] == pytest.approx(float(entropy(logp[REAL]).mean()), abs=1e-5)
    assert len(flow.stream) == len(flow.size) == 4
    assert not any(module._forward_hooks for module in POLICY.model.modules())


def test_a_model_that_is_no_pre_norm_decoder_is_refused_and_left_without_hooks():
    other = copy.deepcopy(POLICY)
    del other.body.layers[0].mlp
    with pytest.raises(PolicyError, match="self_attn and mlp"):
        residual_streams(other, TOKENS)
    scaled = copy.deepcopy(POLICY)
    scaled.body.layers[1].register_forward_hook(lambda module, given, out: 2 * out)
    with pytest.raises(PolicyError, match="layer 1's writes do not add up"):
        residual_streams(scaled, TOKENS)
