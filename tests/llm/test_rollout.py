"""What is sampled is what the model says, token by token; what is recomputed is what was sampled."""

import math
import os
import sys
from itertools import product

import numpy as np
import pytest
import torch
from banach.llm.policy import CharacterTokenizer, ModelMissing, PolicyError, load_smollm2, tiny_policy
from banach.llm.rollout import Sampling, llama_log_probs, mismatch, sample, score, uniforms
from banach.llm.rollout.sampling import draw
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("transformers")

DIGITS = CharacterTokenizer("0123456789 ")
PROMPTS, KEYS = [[1, 2, 3], [4], [5, 6]], [(7, 0, 0), (7, 0, 1), (7, 0, 2)]


def lively(seed, tokenizer):
    """A policy in double precision whose logits spread by about one nat."""
    made = tiny_policy(seed, width=16, tokenizer=tokenizer, tied=False)
    made.model.double()
    return made


@pytest.fixture(scope="module")
def policy():
    return lively(1, DIGITS)


def naive_distribution(policy, tokens, temperature, top_p):
    """The sampled distribution after `tokens`, (V,), by the definition, in numpy."""
    with torch.no_grad():
        logits = policy.model(input_ids=torch.tensor([tokens])).logits[0, -1].double().numpy() / temperature
    q = np.exp(logits - logits.max())
    q /= q.sum()
    kept, mass = [], 0.0
    for v in sorted(range(len(q)), key=lambda v: (-q[v], v)):
        if mass >= top_p and kept:
            break
        kept.append(v)
        mass += q[v]
    p = np.zeros_like(q)
    p[kept] = q[kept]
    return p / p.sum()


def naive_answer(policy, prompt, uniform, sampling, stops, respond=None, number=0):
    """An answer drawn token by token, the whole sequence passed through the model each time."""
    tokens, emitted, logp, spent = [], [], [], 0
    while True:
        p = naive_distribution(policy, [*prompt, *tokens], sampling.temperature, sampling.top_p)
        v = int(np.searchsorted(np.cumsum(p), uniform[spent] * p.sum(), side="right"))
        tokens.append(v)
        emitted.append(True)
        logp.append(math.log(p[v]))
        spent += 1
        if v in stops:
            reply = None if respond is None else respond(number, tokens)
            if not reply:
                return tokens, emitted, logp, False
            tokens += reply
            emitted += [False] * len(reply)
            logp += [0.0] * len(reply)
        if spent == sampling.max_tokens:
            return tokens, emitted, logp, True


def environment(number, tokens):
    """Answers a stop with some tokens, as many times as the answer's number allows."""
    stops = sum(t in (3, 11) for t in tokens)
    return [number % 10, 8, 9][: 1 + number % 3] if stops <= number % 4 else None


@pytest.mark.parametrize("sampling", [Sampling(6), Sampling(5, 0.7, 0.8, stop=(3,)), Sampling(7, 1.4, 0.5, stop=(3, 5))])
@pytest.mark.parametrize("respond", [None, environment])
def test_answers_and_their_log_probabilities_are_those_drawn_token_by_token(policy, sampling, respond):
    rollout = sample(policy, PROMPTS, 4, sampling, KEYS, respond)
    stops = {11, *sampling.stop}
    answers = rollout.answers()
    cut = []
    for b, answer in enumerate(answers):
        stream = uniforms(KEYS[b // 4], 4, sampling.max_tokens)[b % 4]
        tokens, emitted, logp, truncated = naive_answer(policy, PROMPTS[b // 4], stream, sampling, stops, respond, b)
        assert answer == tokens
        assert rollout.mask_BT[b, : len(tokens)].tolist() == emitted
        assert not rollout.mask_BT[b, len(tokens) :].any()
        np.testing.assert_allclose(rollout.logp_sampler_BT[b, : len(tokens)], logp, rtol=0, atol=1e-6)
        cut.append(truncated)
    assert rollout.truncated_B.tolist() == cut
    assert 0 < sum(cut) < 12 or sampling.stop == ()


def test_turns_count_the_words_of_the_environment(policy):
    rollout = sample(policy, PROMPTS, 4, Sampling(9, stop=(3, 5, 6, 7)), KEYS, environment)
    assert rollout.turn_BT.max() >= 2
    for b in range(12):
        turn, mask = rollout.turn_BT[b][rollout.real_BT[b]], rollout.mask_BT[b][rollout.real_BT[b]]
        begins = mask[1:] & ~mask[:-1]
        assert torch.equal(turn[1:] - turn[:-1], begins.long())


def test_sampled_frequencies_are_those_of_full_enumeration():
    """15 answers of at most 3 tokens over {0, 1, end}, each frequency within 6 standard deviations (false alarms < 1e-6)."""
    policy = lively(2, CharacterTokenizer("01"))
    n, exact = 4000, {}
    for length in (1, 2, 3):
        for tokens in product(range(3), repeat=length):
            if 2 in tokens[:-1] or (length < 3 and tokens[-1] != 2):
                continue
            steps = [naive_distribution(policy, [0, *tokens[:t]], 1.0, 1.0)[tokens[t]] for t in range(length)]
            exact[tokens] = math.prod(steps)
    assert sum(exact.values()) == pytest.approx(1)
    counted = [tuple(answer) for answer in sample(policy, [[0]], n, Sampling(3), [(1, 2)]).answers()]
    assert set(counted) <= set(exact)
    for tokens, p in exact.items():
        assert abs(counted.count(tokens) - n * p) < 6 * math.sqrt(n * p * (1 - p)) + 1, tokens


def test_an_answer_does_not_depend_on_what_is_drawn_beside_it(policy):
    whole = sample(policy, PROMPTS, 4, Sampling(6, stop=(3,)), KEYS).answers()
    parts = [sample(policy, [PROMPTS[g]], 3, Sampling(6, stop=(3,)), [KEYS[g]]).answers() for g in range(3)]
    assert [whole[4 * g : 4 * g + 3] for g in range(3)] == parts


def test_recomputed_log_probabilities_are_the_sampled_ones(policy):
    rollout = sample(policy, PROMPTS, 4, Sampling(7, 0.8, stop=(3,)), KEYS, environment)
    scores = score(policy, rollout, top=3, table=True, hidden=True)
    numbers = mismatch(scores.logp_BT, rollout.logp_sampler_BT, rollout.mask_BT)
    assert numbers["sampler_gap_max"] < 1e-6
    table = scores.log_policy_BTV[rollout.mask_BT]
    chosen = table.gather(1, rollout.token_BT[rollout.mask_BT][:, None])[:, 0]
    torch.testing.assert_close(chosen, scores.logp_BT[rollout.mask_BT])
    torch.testing.assert_close(-(table.exp() * table).sum(1), scores.entropy_BT[rollout.mask_BT])
    torch.testing.assert_close(table.exp().topk(3).values.sum(1), scores.top_mass_BT[rollout.mask_BT])
    assert (scores.logp_BT[~rollout.mask_BT] == 0).all()
    assert not scores.hidden_BTD.requires_grad


def test_a_nucleus_shows_in_the_mismatch_as_the_mass_that_was_kept(policy):
    rollout = sample(policy, PROMPTS, 4, Sampling(6, top_p=0.6), KEYS)
    with torch.no_grad():
        scores = score(policy, rollout)
    gap = (scores.logp_BT - rollout.logp_sampler_BT)[rollout.mask_BT]
    assert (gap < 1e-6).all()
    assert gap.min() < -0.1
    assert (gap >= math.log(0.6) - 1e-6).all()


def test_half_precision_sampling_is_measured(policy):
    coarse = policy.copy()
    coarse.model.bfloat16()
    rollout = sample(coarse, PROMPTS, 8, Sampling(6), KEYS)
    with torch.no_grad():
        numbers = mismatch(score(policy, rollout).logp_BT, rollout.logp_sampler_BT, rollout.mask_BT)
    assert 1e-4 < numbers["sampler_gap_mean"] < 0.5
    assert numbers["sampler_k3"] > 0


def test_selected_answers_score_as_they_do_among_all(policy):
    rollout = sample(policy, PROMPTS, 4, Sampling(7, stop=(3,)), KEYS, environment)
    whole, rows = score(policy, rollout).logp_BT, torch.tensor([9, 2, 3])
    part = rollout.select(rows)
    assert len(part) == 3
    assert part.answers() == [rollout.answers()[i] for i in rows]
    found = score(policy, part).logp_BT
    torch.testing.assert_close(found, whole[rows, : found.shape[1]], rtol=0, atol=1e-9)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-4, 4), min_size=2, max_size=6), st.floats(0.05, 1.0), st.floats(0, 0.999999))
def test_a_nucleus_is_the_smallest_set_of_likeliest_tokens(logits, top_p, u):
    z = torch.tensor([logits], dtype=torch.float64)
    log_p = Sampling(1, top_p=top_p).log_distribution(z)[0]
    q, kept = z[0].softmax(0), log_p > -torch.inf
    assert log_p.exp().sum() == pytest.approx(1)
    assert q[kept].sum() >= top_p - 1e-12
    assert q[kept].sum() - q[kept].min() < top_p + 1e-12
    assert kept.all() or q[kept].min() >= q[~kept].max()
    token = int(draw(log_p[None], torch.tensor([u], dtype=torch.float64)))
    assert kept[token]
    cdf = log_p.exp().cumsum(0)
    assert cdf[token] > u * cdf[-1]
    assert token == 0 or cdf[token - 1] <= u * cdf[-1]


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 1200), st.integers(0, 10**6))
def test_a_draw_inverts_the_cumulated_distribution(vocabulary, seed):
    """In stretches as in one piece; tokens without probability are never drawn, the last u below one included."""
    rng = np.random.default_rng(seed)
    log_p = np.where(rng.random((5, vocabulary)) < 0.5, -np.inf, rng.normal(size=(5, vocabulary)))
    log_p[np.arange(5), rng.integers(vocabulary, size=5)] = 0.0
    p = np.exp(log_p) / np.exp(log_p).sum(1, keepdims=True)
    u = np.array([0.0, 1 - 2**-53, *rng.random(3)])
    found = draw(torch.tensor(np.log(p, where=p > 0, out=np.full_like(p, -np.inf))), torch.tensor(u)).numpy()
    cdf = p.cumsum(1)
    rows = np.arange(5)
    assert (p[rows, found] > 0).all()
    assert (cdf[rows, found] > u * cdf[:, -1] - 1e-12).all()
    assert ((found == 0) | (cdf[rows, found - 1] <= u * cdf[:, -1] + 1e-12)).all()


def test_uniform_numbers_belong_to_their_key():
    long, short = uniforms((1, 2, 3), 4, 9), uniforms((1, 2, 3), 2, 5)
    np.testing.assert_array_equal(long[:2, :5], short)
    assert (long[0] != long[1]).all()
    assert (uniforms((1, 2, 4), 2, 5) != short).all()


@pytest.mark.parametrize("wrong", [{"max_tokens": 0}, {"temperature": 0.0}, {"top_p": 0.0}, {"top_p": 1.1}])
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(PolicyError, match=next(iter(wrong))):
        Sampling(**wrong)


def test_every_prompt_has_its_key(policy):
    with pytest.raises(PolicyError, match="3 prompts, 1 keys"):
        sample(policy, PROMPTS, 2, Sampling(3), KEYS[:1])


def test_llama_cpp_is_asked_only_where_it_is(policy, monkeypatch, tmp_path):
    rollout = sample(policy, PROMPTS[:1], 1, Sampling(2), KEYS[:1])
    monkeypatch.setitem(sys.modules, "llama_cpp", None)
    with pytest.raises(ModelMissing, match="pip install llama-cpp-python"):
        llama_log_probs(tmp_path / "model.gguf", rollout)


def test_llama_cpp_says_of_the_same_weights_nearly_the_same():
    """Where it is installed, and BANACH_GGUF names SmolLM2's file: its 4-bit arithmetic is below 0.1 nats a token apart."""
    pytest.importorskip("llama_cpp")
    gguf = os.environ.get("BANACH_GGUF", "")
    if not gguf:
        pytest.skip("BANACH_GGUF names no file")
    mine = load_smollm2()
    prompts = [mine.tokenizer.encode(f"Question: What is {i} + 3?\nAnswer:") for i in range(3)]
    rollout = sample(mine, prompts, 1, Sampling(6), [(0, i) for i in range(3)])
    found = mismatch(llama_log_probs(gguf, rollout), rollout.logp_sampler_BT, rollout.mask_BT)
    assert 0 < found["sampler_gap_mean"] < 0.1
    with pytest.raises(ModelMissing, match="is no file"):
        llama_log_probs("nowhere.gguf", rollout)
