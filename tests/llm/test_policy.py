"""A transformer policy: prompts shared by a group give the same function and the same gradient as each answer alone."""

import json

import pytest
import torch
from banach.llm.policy import (
    CharacterTokenizer,
    CriticHead,
    ModelMissing,
    Policy,
    PolicyError,
    Prompts,
    Reference,
    fetch_smollm2,
    load_smollm2,
    tiny_policy,
    with_lora,
)
from banach.llm.policy.smollm2 import smollm2_folder

transformers = pytest.importorskip("transformers")

ALPHABET = CharacterTokenizer("0123456789")


def llama():
    return tiny_policy(3, width=16, tokenizer=ALPHABET)


def gpt2():
    config = transformers.GPT2Config(vocab_size=11, n_positions=64, n_embd=16, n_layer=2, n_head=2)
    return Policy(transformers.GPT2LMHeadModel(config), ALPHABET)


def biased():
    policy = llama()
    head = torch.nn.Linear(16, 11)
    policy.model.set_output_embeddings(head)
    return Policy(policy.model, ALPHABET)


def windowed():
    config = transformers.MistralConfig(
        vocab_size=11,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        sliding_window=3,
    )
    return Policy(transformers.MistralForCausalLM(config), ALPHABET)


PROMPTS = [[1, 2, 3, 4], [5], [6, 7]]
GROUP = [2, 0, 0, 1, 2]
ANSWERS = [[1], [2, 3, 4], [5, 6], [7, 8, 9], [0, 0]]


def rectangles(policy):
    width = max(map(len, ANSWERS))
    token = torch.tensor([answer + [10] * (width - len(answer)) for answer in ANSWERS])
    real = torch.tensor([[t < len(answer) for t in range(width)] for answer in ANSWERS])
    return policy.pack(PROMPTS), torch.tensor(GROUP), token, real


def shared(policy, temperature=1.0):
    """Log-probabilities of the answers' tokens, answer by answer, by the shared prompts."""
    prompts, group, token, real = rectangles(policy)
    hidden = policy.hidden_states(prompts, group, token, real)
    return policy.head(hidden[real], token[real], temperature=temperature).logp_N


def alone(policy, temperature=1.0):
    """The same, each sequence by itself through the whole model."""
    found = []
    for g, answer in zip(GROUP, ANSWERS, strict=True):
        tokens = torch.tensor(PROMPTS[g] + answer)
        table = (policy.model(input_ids=tokens[None]).logits[0] / temperature).log_softmax(-1)
        start = len(PROMPTS[g])
        found.append(table[torch.arange(start - 1, len(tokens) - 1), tokens[start:]])
    return torch.cat(found)


def gradient(policy, function):
    logp = function(policy)
    weight = torch.linspace(-1, 1, len(logp), dtype=logp.dtype)
    parts = torch.autograd.grad((weight * logp).sum(), policy.trained().values(), allow_unused=True)
    return logp.detach(), torch.cat([x.flatten() for x in parts if x is not None])


@pytest.mark.parametrize("make", [llama, gpt2, biased, windowed])
def test_prompts_shared_by_a_group_give_the_function_and_the_gradient_of_each_answer_alone(make):
    policy = make()
    policy.model.double()
    (logp, slope), (wanted, wanted_slope) = gradient(policy, shared), gradient(policy, alone)
    torch.testing.assert_close(logp, wanted, rtol=0, atol=1e-6 if make is windowed else 1e-12)
    torch.testing.assert_close(slope, wanted_slope, rtol=0, atol=1e-6 * float(wanted_slope.abs().max()))


def test_a_temperature_divides_the_logits():
    policy = llama()
    policy.model.double()
    torch.testing.assert_close(shared(policy, 0.6), alone(policy, 0.6), rtol=0, atol=1e-9)


def test_mixed_precision_rounds_inside_the_body_and_nowhere_else():
    policy, mixed = llama(), llama()
    mixed.precision = torch.bfloat16
    (logp, slope), (rounded, rounded_slope) = gradient(policy, shared), gradient(mixed, shared)
    assert rounded.dtype == rounded_slope.dtype == torch.float32
    assert 0 < float((rounded - logp).abs().max()) < 0.05
    assert float(torch.cosine_similarity(slope, rounded_slope, dim=0)) > 0.999
    hidden = torch.randn(3, 16, generator=torch.Generator().manual_seed(0))
    with mixed.mixed():
        assert torch.equal(mixed.logits(hidden), policy.logits(hidden))


def test_a_prompt_passes_once_through_the_model_for_all_its_answers():
    policy, seen = llama(), []
    policy.body.register_forward_pre_hook(
        lambda module, arguments, named: seen.append(tuple(named["input_ids"].shape)), with_kwargs=True
    )
    shared(policy)
    assert seen == [(3, 4), (5, 2)]


def test_logits_for_sampling_are_those_of_the_model():
    policy = llama()
    out = policy.body(input_ids=torch.tensor([[1, 2, 3]])).last_hidden_state[:, -1]
    torch.testing.assert_close(policy.logits(out), policy.model(input_ids=torch.tensor([[1, 2, 3]])).logits[:, -1])


def test_a_head_that_is_no_linear_map_is_refused():
    config = transformers.Gemma2Config(
        vocab_size=11,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        final_logit_softcapping=0.05,
    )
    with pytest.raises(PolicyError, match="Gemma2ForCausalLM does more"):
        Policy(transformers.Gemma2ForCausalLM(config), ALPHABET)


def test_the_same_seed_gives_the_same_tiny_policy_and_leaves_the_global_generator_alone():
    torch.manual_seed(5)
    first, second, other = llama(), llama(), tiny_policy(4, width=16, tokenizer=ALPHABET)
    after = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(after, torch.rand(1))
    theirs = [x.model.state_dict() for x in (first, second, other)]
    assert all(torch.equal(x, theirs[1][name]) for name, x in theirs[0].items())
    assert not all(torch.equal(x, theirs[2][name]) for name, x in theirs[0].items())


def test_an_empty_prompt_is_refused_by_its_number():
    with pytest.raises(PolicyError, match="prompt 1 is empty"):
        Prompts.of([[1], []], 0)


@pytest.mark.parametrize("make", [llama, gpt2, windowed])
def test_what_all_prompts_begin_with_passes_once_and_changes_neither_function_nor_gradient(make, monkeypatch):
    """Where attention slides over columns it passes once an answer."""
    policy, seen = make(), []
    policy.model.double()
    examples = torch.randint(0, 10, (40,), generator=torch.Generator().manual_seed(1)).tolist()
    monkeypatch.setitem(globals(), "PROMPTS", [examples + prompt for prompt in PROMPTS])
    logp, slope = gradient(policy, shared)
    wanted, wanted_slope = gradient(policy, alone)
    torch.testing.assert_close(logp, wanted, rtol=0, atol=1e-6 if make is windowed else 1e-12)
    torch.testing.assert_close(slope, wanted_slope, rtol=0, atol=1e-6 * float(wanted_slope.abs().max()))
    policy.body.register_forward_pre_hook(
        lambda module, arguments, named: seen.append(tuple(named["input_ids"].shape)), with_kwargs=True
    )
    shared(policy)
    assert seen == ([(5, 46)] if make is windowed else [(1, 40), (3, 4), (5, 2)])


def test_padding_stands_behind_what_all_prompts_begin_with():
    packed = Prompts.of([[1, 2, 3, 4], [1, 2, 5]], 10)
    assert packed.token_GP.tolist() == [[1, 2, 3, 4], [1, 2, 10, 5]]
    assert packed.real_GP.tolist() == [[True] * 4, [True, True, False, True]]
    assert packed.shared == 2
    assert Prompts.of([[1, 2], [1, 2, 3]], 10).token_GP.tolist() == [[1, 10, 2], [1, 2, 3]]
    assert packed.select(torch.tensor([1])).token_GP.tolist() == [[1, 2, 5]]


def test_selected_prompts_lose_the_columns_that_none_of_them_needs():
    few = Prompts.of(PROMPTS, 10).select(torch.tensor([2, 1]))
    assert few.token_GP.tolist() == [[6, 7], [10, 5]]
    assert few.real_GP.tolist() == [[True, True], [False, True]]


def moved(policy, by):
    with torch.no_grad():
        for parameter in policy.trained().values():
            parameter.add_(by)


@pytest.mark.parametrize(("decay", "share"), [(1.0, 0.0), (0.75, 0.25), (0.0, 1.0)])
def test_a_reference_moves_by_its_share_of_the_way(decay, share):
    policy = llama()
    reference = Reference(policy, decay)
    before = [x.clone() for x in reference.policy.model.parameters()]
    moved(policy, 1.0)
    reference.follow(policy)
    for old, new in zip(before, reference.policy.model.parameters(), strict=True):
        torch.testing.assert_close(new, old + share)
        assert not new.requires_grad


def test_a_decay_outside_the_unit_interval_is_refused():
    with pytest.raises(PolicyError, match=r"decay=1\.5"):
        Reference(llama(), 1.5)


def test_lora_begins_as_the_policy_trains_little_and_its_reference_costs_no_copy():
    pytest.importorskip("peft")
    wanted, whole = shared(llama()).detach(), sum(x.numel() for x in llama().trained().values())
    policy = with_lora(llama(), rank=2, alpha=4, seed=0)
    torch.testing.assert_close(shared(policy).detach(), wanted)
    assert 0 < sum(x.numel() for x in policy.trained().values()) < whole / 4
    reference = Reference(policy)
    assert reference.policy is policy
    moved(policy, 0.5)
    assert not torch.allclose(shared(policy), wanted, atol=1e-2)
    with reference.active():
        torch.testing.assert_close(shared(reference.policy).detach(), wanted)


def test_a_critic_begins_at_zero_and_leaves_the_hidden_states_alone():
    hidden = torch.randn(2, 3, 4, requires_grad=True)
    critic = CriticHead(4)
    value = critic(hidden)
    assert value.shape == (2, 3)
    assert (value == 0).all()
    loss = (value - 1).square().sum()
    assert torch.autograd.grad(loss, hidden, allow_unused=True, retain_graph=True)[0] is None
    torch.testing.assert_close(torch.autograd.grad(loss, critic.weight_D)[0], -2 * hidden.sum((0, 1)))


def test_characters_are_tokens():
    tokenizer = CharacterTokenizer("ab\n", size=6)
    assert tokenizer.encode("ab\na") == [0, 1, 2, 0]
    assert tokenizer.decode([0, 1, 3, 5, 2]) == "ab\n"
    assert tokenizer.tokens_with("\n") == (2,)
    assert tokenizer.eos == (3,)
    with pytest.raises(PolicyError, match="'c' is not in the alphabet"):
        tokenizer.encode("abc")
    with pytest.raises(PolicyError, match="repeats"):
        CharacterTokenizer("aa")
    with pytest.raises(PolicyError, match="no room"):
        CharacterTokenizer("ab", size=2)


def test_a_missing_model_says_which_command_fetches_it(tmp_path, monkeypatch):
    monkeypatch.setenv("BANACH_CACHE", str(tmp_path))
    with pytest.raises(ModelMissing, match="banach model smollm2"):
        load_smollm2()


def test_a_damaged_model_is_found_out(tmp_path, monkeypatch):
    monkeypatch.setenv("BANACH_CACHE", str(tmp_path))
    folder = smollm2_folder()
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"12345")
    (folder / "manifest.json").write_text(json.dumps({"files": {"model.safetensors": {"bytes": 6, "sha256": "?"}}}))
    with pytest.raises(ModelMissing, match="is not 6 bytes long"):
        load_smollm2()


smollm2 = pytest.mark.skipif(not (smollm2_folder() / "manifest.json").exists(), reason="banach model smollm2 was not run")


@smollm2
@pytest.mark.slow
def test_smollm2_is_whole_and_says_what_it_should():
    lines = []
    fetch_smollm2(lines.append)
    assert lines[0].endswith("is there and whole")
    policy = load_smollm2()
    tokens = policy.tokenizer.encode("The capital of France is")
    out = policy.body(input_ids=torch.tensor([tokens])).last_hidden_state[:, -1]
    assert policy.tokenizer.decode([int(policy.logits(out).argmax())]) == " Paris"
    assert policy.tokenizer.eos == (2,)
    newline = policy.tokenizer.tokens_with("\n")
    assert set(policy.tokenizer.encode("\n")) <= set(newline)
