"""TRL's and Liger's losses through the adapters: against the papers' formulas, against each other, and where they go astray."""

import importlib.metadata
import math
from types import SimpleNamespace

import pytest
import torch
from banach.llm.peers import PeerMissing, PeerRefusal, liger, trl
from banach.llm.peers.batch import group_rows
from banach.llm.peers.table import two_token_logits
from banach.llm.peers.trl_trainer import build, quiet
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import logsigmoid

TINY = 1e-4  # TRL's addition to the standard deviation
FEW = settings(max_examples=12, deadline=None)


@st.composite
def group_batches(draw, holes=False):
    """Two groups of two or three sequences of one to four tokens, off the policy, rewards tied or not."""
    seed, size = draw(st.integers(0, 2**31)), draw(st.sampled_from([2, 3]))
    generator = torch.Generator().manual_seed(seed)
    sequences, tokens = 2 * size, 4

    def numbers(scale):
        return scale * torch.randn(sequences, tokens, generator=generator, dtype=torch.float64)

    old = -numbers(1).abs() - 0.1
    logp = (old + numbers(draw(st.sampled_from([0.0, 0.05, 0.5])))).clamp(max=-0.02)
    length = torch.randint(1, tokens + 1, (sequences,), generator=generator)
    mask = torch.arange(tokens) < length[:, None]
    if holes:
        mask[:, 1] &= torch.rand(sequences, generator=generator) < 0.5
    rewards = torch.tensor(draw(st.lists(st.sampled_from([0.0, 1.0, 0.3]), min_size=sequences, max_size=sequences)))
    groups = torch.tensor([7, 3] * size)
    return logp, old, (old + numbers(0.2)).clamp(max=-0.02), mask, rewards.double(), groups


@st.composite
def pair_batches(draw):
    """Four pairs of responses of one to four tokens, as the arguments of a preference loss."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    lengths = torch.randint(1, 5, (2, 4), generator=generator)
    reference = -(0.2 + torch.rand(2, 4, generator=generator, dtype=torch.float64)) * lengths
    shift = draw(st.sampled_from([0.0, 0.3, 3.0])) * torch.randn(2, 4, generator=generator, dtype=torch.float64)
    logp = torch.minimum(reference + shift, torch.tensor(-0.05))
    return *logp, *reference, *lengths


def value_and_gradient(loss, batch, wanted=(0,)):
    """A loss and its gradient in the log-probabilities at the positions `wanted` of the batch."""
    batch = [part.detach().clone().requires_grad_(place in wanted) for place, part in enumerate(batch)]
    value = loss(*batch)
    gradient = torch.autograd.grad(value, [batch[place] for place in wanted], allow_unused=True, materialize_grads=True)
    return value.detach(), torch.stack([part.detach() for part in gradient])


def assert_same_loss(one, other, batch, wanted=(0,), tolerance=1e-9):
    """Equal values and equal gradients in the log-probabilities."""
    for left, right in zip(value_and_gradient(one, batch, wanted), value_and_gradient(other, batch, wanted), strict=True):
        torch.testing.assert_close(left.double(), right.double(), rtol=tolerance, atol=tolerance)


# The papers' formulas, written once more in float64 and without a trainer.


def advantages(rewards, groups, scale=True):
    """Reward less the group's mean, over its standard deviation (Bessel) plus 1e-4 where scaled."""
    answer = torch.empty_like(rewards)
    for group in groups.unique():
        own = rewards[groups == group]
        answer[groups == group] = (own - own.mean()) / ((own.std() + TINY) if scale else 1)
    return answer


def clipped(ratio, advantage, epsilon=0.2):
    """PPO's surrogate."""
    return torch.minimum(ratio * advantage, ratio.clamp(1 - epsilon, 1 + epsilon) * advantage)


def sequence_mean(term, mask):
    return (torch.where(mask, term, 0).sum(1) / mask.sum(1)).mean()


def token_mean(term, mask):
    return torch.where(mask, term, 0).sum() / mask.sum()


def formula(name, epsilon=0.2):
    """The loss `name` of GRPOTrainer with its defaults as a function of the batch."""

    def loss(logp, old, _ref, mask, rewards, groups):
        advantage = advantages(rewards, groups)[:, None]
        ratio = (logp - old).exp()
        sequence = torch.where(mask, logp - old, 0).sum(1, keepdim=True)
        if name == "gspo":
            return -sequence_mean(
                clipped((sequence / mask.sum(1, keepdim=True)).exp(), advantage, epsilon).expand_as(logp), mask
            )
        if name == "cispo":
            return -token_mean(ratio.clamp(max=epsilon).detach() * advantage * logp, mask)
        if name == "sapo":
            tau = torch.where(advantage > 0, 1.0, 1.05)
            return -sequence_mean(4 / tau * torch.sigmoid(tau * (ratio - 1)) * advantage, mask)
        if name == "vespo":
            k, rate = torch.where(advantage >= 0, 2.0, 3.0), torch.where(advantage >= 0, 3.0, 2.0)
            weight = (rate + k * sequence - rate * sequence.exp()).exp().detach()
            return -token_mean(weight * advantage * logp, mask)
        surrogate = clipped(ratio, advantage)
        if name == "grpo":
            return -sequence_mean(surrogate, mask)
        total = torch.where(mask, surrogate, 0).sum()
        return -total / {"dapo": mask.sum(), "bnpo": mask.sum(), "dr_grpo": len(mask) * 512, "luspo": len(mask)}[name]

    return loss


def pair_formula(name, beta=0.1):
    """The loss `name` of DPOTrainer with its defaults, of one argument a response: log-probability, reference, length."""

    def loss(chosen, rejected, ref_chosen, ref_rejected, n_chosen, n_rejected):
        win, lose = chosen - ref_chosen, rejected - ref_rejected
        margin = beta * (win - lose)
        smoothing = 1e-3
        per_pair = {
            "sigmoid": lambda: -logsigmoid(margin),
            "hinge": lambda: (1 - margin).clamp(min=0),
            "ipo": lambda: (win / n_chosen - lose / n_rejected - 0.5 / beta) ** 2,
            "exo_pair": lambda: (
                margin.sigmoid() * (logsigmoid(margin) - math.log(1 - smoothing))
                + (-margin).sigmoid() * (logsigmoid(-margin) - math.log(smoothing))
            ),
            "nca_pair": lambda: -logsigmoid(beta * win) - (logsigmoid(-beta * win) + logsigmoid(-beta * lose)) / 2,
            "robust": lambda: -logsigmoid(margin),
            "bco_pair": lambda: -logsigmoid(beta * win) - logsigmoid(-beta * lose),
            "sppo_hard": lambda: (win - 0.5 / beta) ** 2 + (lose + 0.5 / beta) ** 2,
            "aot": lambda: -logsigmoid(beta * ((chosen - rejected).sort().values - (ref_chosen - ref_rejected).sort().values)),
            "aot_unpaired": lambda: -logsigmoid(beta * (win.sort().values - lose.sort().values)),
            "apo_zero": lambda: 1 - (beta * win).sigmoid() + (beta * lose).sigmoid(),
            "apo_down": lambda: (beta * win).sigmoid() + 1 - margin.sigmoid(),
            "discopop": lambda: (
                (1 - (margin / 0.05).sigmoid()) * -logsigmoid(margin) + (margin / 0.05).sigmoid() * (-margin).exp()
            ),
            "sft": lambda: (-chosen.sum() / n_chosen.sum()).expand_as(chosen),
            "sigmoid_norm": lambda: -logsigmoid(beta * (win / n_chosen - lose / n_rejected)),
        }[name]()
        return per_pair.mean()

    return loss


@pytest.mark.parametrize("name", trl.GROUP_LOSSES)
@FEW
@given(batch=group_batches())
def test_a_loss_of_trls_grpo_trainer_is_its_formula(name, batch):
    single = name in ("sapo", "vespo")  # TRL keeps their constants in float32
    assert_same_loss(trl.grpo(name), formula(name), batch, tolerance=1e-6 if single else 1e-9)


@FEW
@given(batch=group_batches(holes=True))
def test_tokens_of_the_environment_have_no_weight(batch):
    assert_same_loss(trl.grpo("dapo"), formula("dapo"), batch)
    _, gradient = value_and_gradient(trl.grpo("grpo", beta=0.3), batch)
    assert not gradient[0][~batch[3]].any()


@pytest.mark.parametrize("name", trl.GROUP_LOSSES)
def test_an_answer_without_tokens_of_the_policy_counts_in_no_group_of_tokens(name):
    logp, old, ref, mask, rewards, groups = UNEQUAL
    empty = mask.clone()
    empty[0] = False
    for loss in (trl.grpo(name), liger.grpo(name, beta=0.0)):
        value, gradient = value_and_gradient(loss, (logp, old, ref, empty, rewards, groups))
        assert value.isfinite()
        assert gradient.isfinite().all()
        if name != "luspo":
            assert not gradient[0][0].any()


@FEW
@given(batch=group_batches())
def test_gspo_is_the_sequence_level_of_grpo(batch):
    assert_same_loss(trl.grpo("grpo", importance_sampling_level="sequence", epsilon=3e-4), formula("gspo", 3e-4), batch)


@FEW
@given(batch=group_batches())
def test_the_divergence_is_k3_times_the_ratio_and_needs_a_reference(batch):
    def with_k3(logp, old, ref, mask, rewards, groups):
        k3 = (ref - logp).exp() - (ref - logp) - 1
        return formula("grpo")(logp, old, ref, mask, rewards, groups) + 0.3 * sequence_mean((logp - old).exp() * k3, mask)

    assert_same_loss(trl.grpo("grpo", beta=0.3), with_k3, batch)
    with pytest.raises(PeerRefusal, match="reference"):
        trl.grpo("grpo", beta=0.3)(*batch[:2], None, *batch[3:])


@FEW
@given(batch=group_batches())
def test_rloo_puts_k1_in_the_reward_and_leaves_one_out(batch):
    def leave_one_out(logp, old, ref, mask, rewards, groups):
        penalised = rewards - 0.05 * torch.where(mask, old - ref, 0).sum(1)
        size = int((groups == groups[0]).sum())
        advantage = advantages(penalised, groups, scale=False) * size / (size - 1)
        return -clipped(torch.where(mask, logp - old, 0).sum(1).exp(), advantage).mean()

    assert_same_loss(trl.rloo(), leave_one_out, batch)


def test_online_dpo_calls_the_first_of_two_equals_chosen():
    logp = torch.full((4, 2), -0.7, dtype=torch.float64, requires_grad=True)
    mask, groups = torch.ones(4, 2, dtype=torch.bool), torch.tensor([0, 0, 1, 1])
    rewards = torch.tensor([0.0, 1.0, 1.0, 1.0], dtype=torch.float64)
    value = trl.online_dpo()(logp, logp.detach(), logp.detach(), mask, rewards, groups)
    assert value.item() == pytest.approx(math.log(2))
    (gradient,) = torch.autograd.grad(value, logp)
    step = 0.1 / 2 / 2  # beta times the logistic's slope, over two pairs
    torch.testing.assert_close(gradient[:, 0], torch.tensor([step, -step, -step, step], dtype=torch.float64))


@pytest.mark.parametrize("name", trl.PAIR_LOSSES)
@FEW
@given(batch=pair_batches())
def test_a_loss_of_trls_dpo_trainer_is_its_formula(name, batch):
    given_settings = {"label_smoothing": 1e-3} if name == "exo_pair" else {}
    tolerance = 1e-6 if name == "exo_pair" else 1e-9  # TRL keeps its label smoothing in float32
    assert_same_loss(trl.dpo(name, **given_settings), pair_formula(name), batch, wanted=(0, 1), tolerance=tolerance)


@FEW
@given(batch=pair_batches())
def test_kto_holds_each_response_against_the_mean_log_ratio_of_the_batch(batch):
    def formula(chosen, rejected, ref_chosen, ref_rejected, _n, _m):
        win, lose = 0.1 * (chosen - ref_chosen), 0.1 * (rejected - ref_rejected)
        point = torch.cat((win, lose)).mean().clamp(min=0).detach()
        return 1 - torch.cat(((win - point).sigmoid(), (point - lose).sigmoid())).mean()

    assert_same_loss(trl.kto(), formula, batch, wanted=(0, 1))


@FEW
@given(batch=pair_batches())
def test_simpo_and_cpo_carry_the_likelihood_of_the_chosen_and_orpo_the_odds(batch):
    def likelihood(chosen, n_chosen):
        return -chosen.sum() / n_chosen.sum()

    def simpo(chosen, rejected, _c, _r, n, m):
        return -logsigmoid(0.1 * (chosen / n - rejected / m) - 0.5).mean() + likelihood(chosen, n)

    def cpo(chosen, rejected, _c, _r, n, _m):
        return -logsigmoid(0.1 * (chosen - rejected)).mean() + likelihood(chosen, n)

    def orpo(chosen, rejected, _c, _r, n, m):
        win, lose = chosen / n, rejected / m
        odds = win - lose - torch.log1p(-win.exp()) + torch.log1p(-lose.exp())
        return likelihood(chosen, n) - 0.1 * logsigmoid(odds).mean()

    assert_same_loss(trl.cpo("simpo"), simpo, batch, wanted=(0, 1))
    assert_same_loss(trl.cpo("sigmoid"), cpo, batch, wanted=(0, 1))
    assert_same_loss(trl.orpo(), orpo, batch, wanted=(0, 1), tolerance=1e-5)  # TRL takes these odds in float32


@pytest.mark.parametrize("name", [name for name in liger.GROUP_LOSSES if name != "luspo"])
@FEW
@given(batch=group_batches())
def test_ligers_grpo_is_trls(name, batch):
    assert_same_loss(liger.grpo(name, beta=0.0), trl.grpo(name), batch, tolerance=2e-5)
    plain = {"beta": 0.04, "use_bias_correction_kl": False}
    assert_same_loss(liger.grpo(name), trl.grpo(name, **plain), batch, tolerance=2e-5)


@pytest.mark.parametrize("name", liger.PAIR_LOSSES)
@FEW
@given(batch=pair_batches())
def test_ligers_dpo_is_trls(name, batch):
    given_settings = {"label_smoothing": 1e-3} if name == "exo_pair" else {}
    assert_same_loss(liger.dpo(name, **given_settings), trl.dpo(name, **given_settings), batch, (0, 1), tolerance=5e-5)


@pytest.mark.parametrize(
    ("one", "other"),
    [(liger.cpo, trl.cpo), (liger.simpo, lambda: trl.cpo("simpo")), (liger.orpo, trl.orpo), (liger.kto, trl.kto)],
    ids=["cpo", "simpo", "orpo", "kto"],
)
@FEW
@given(batch=pair_batches())
def test_ligers_other_preference_losses_are_trls(one, other, batch):
    assert_same_loss(one(), other(), batch, (0, 1), tolerance=5e-5)


@FEW
@given(batch=group_batches())
def test_ligers_advantages_are_those_that_trl_computes(batch):
    rows = group_rows(*batch)
    trainer = build("grpo", '{"loss_type": "dapo", "num_iterations": 2}', rows.n_sequences, rows.group_size, 1)
    trl.grpo("dapo")(*batch)  # leaves its generation batch in the trainer
    rows_of = trainer._buffered_inputs[0]["prompt_ids"].flatten()
    expected = liger.group_advantage(rows.reward_B, rows.group_size)[rows_of]
    torch.testing.assert_close(trainer._buffered_inputs[0]["advantages"], expected, rtol=1e-12, atol=1e-12)


@given(exponent=st.floats(-40, 1.5), single=st.booleans())
def test_two_logits_give_the_wanted_log_probability_with_derivative_one(exponent, single):
    wanted = torch.tensor([[-(10.0**exponent)]], dtype=torch.float64, requires_grad=True)
    logits = two_token_logits(wanted, torch.ones(1, 1, dtype=torch.bool))
    found = (logits.float() if single else logits).log_softmax(-1)[..., 0]
    rounding = 2e-6 if single else 1e-14
    assert found.item() == pytest.approx(wanted.item(), rel=rounding, abs=rounding)
    (slope,) = torch.autograd.grad(found.sum(), wanted)
    assert slope.item() == pytest.approx(1, rel=1e-5 if single else 1e-12)


# A real language model in place of the table.


def test_a_real_model_trained_by_trl_gets_the_gradient_that_the_adapter_tells():
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=11, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=2
    )
    model = LlamaForCausalLM(config).double()
    prompts, completions = [[3, 4], [3, 4], [5], [5]], [[6, 7, 1], [8, 1], [9], [2, 6]]
    rewards = torch.tensor([1.0, 0.0, 0.5, 0.2], dtype=torch.float64)
    settings_ = '{"loss_type": "dapo", "num_iterations": 2}'
    trainer = build.__wrapped__("grpo", settings_, 4, 2, 2)
    with quiet():
        from trl.trainer.utils import add_fused_lm_head

        add_fused_lm_head(model, outputs=("log_probs", "entropy"))
    trainer.model = model
    nothing = (None, [""] * 4, None, {}, None, None)
    trainer._generate = lambda rows: ([prompts[int(r)] for r in rows], [completions[int(r)] for r in rows], *nothing)
    trainer._calculate_rewards = lambda *_: rewards[:, None]
    trainer._step, trainer._buffered_inputs, trainer.current_gradient_accumulation_steps = 0, None, 2
    with quiet():
        for _ in range(2):
            trainer.training_step(model, [{"prompt": str(row)} for row in range(4)], None)
    told = {name: parameter.grad for name, parameter in model.named_parameters()}
    model.zero_grad()
    mask = torch.arange(3) < torch.tensor([len(tokens) for tokens in completions])[:, None]
    logp = torch.zeros(4, 3, dtype=torch.float64)
    for row, (prompt, tokens) in enumerate(zip(prompts, completions, strict=True)):
        ids = torch.tensor([prompt + tokens])
        scores = model(ids).logits.log_softmax(-1)[0, len(prompt) - 1 : -1]
        logp[row, : len(tokens)] = scores.gather(1, torch.tensor(tokens)[:, None])[:, 0]
    adapter = trl.grpo("dapo", accumulation=2)
    adapter(logp, logp.detach(), None, mask, rewards, torch.tensor([0, 0, 1, 1])).backward()
    for name, parameter in model.named_parameters():
        assert told[name] is not None
        assert parameter.grad is not None
        assert parameter.grad.any()
        torch.testing.assert_close(parameter.grad, told[name], rtol=1e-5, atol=1e-7)


# What ships astray.


@FEW
@given(batch=group_batches())
def test_trls_cispo_scales_every_token_on_the_policy_by_a_fifth(batch):
    _, old, *rest = batch
    _, wanted = value_and_gradient(trl.grpo("cispo", epsilon_high=5.0), (old, old, *rest))
    _, found = value_and_gradient(trl.grpo("cispo"), (old, old, *rest))
    torch.testing.assert_close(found, 0.2 * wanted, rtol=1e-9, atol=1e-12)


UNEQUAL = (
    torch.full((4, 3), -0.8, dtype=torch.float64),
    torch.full((4, 3), -0.8, dtype=torch.float64),
    torch.full((4, 3), -0.9, dtype=torch.float64),
    torch.tensor([[1, 0, 0], [1, 1, 1], [1, 1, 1], [1, 0, 0]]).bool(),
    torch.tensor([1.0, 0.0, 0.0, 1.0], dtype=torch.float64),
    torch.tensor([0, 0, 1, 1]),
)


@pytest.mark.parametrize("name", trl.GROUP_LOSSES)
def test_of_trls_grpo_losses_only_bnpo_depends_on_gradient_accumulation(name):
    def gradients(seed):
        return [value_and_gradient(trl.grpo(name, accumulation=k, seed=seed), UNEQUAL)[1] for k in (1, 2, 4)]

    changes = [(one - other).norm() / one.norm() for seed in range(3) for one, *others in [gradients(seed)] for other in others]
    assert (max(changes) > 0.1) == (name == "bnpo")


def test_trls_rloo_does_not_depend_on_accumulation_and_its_online_dpo_multiplies_by_it():
    _, one = value_and_gradient(trl.rloo(), UNEQUAL)
    torch.testing.assert_close(value_and_gradient(trl.rloo(accumulation=2), UNEQUAL)[1], one)
    _, one = value_and_gradient(trl.online_dpo(), UNEQUAL)
    torch.testing.assert_close(value_and_gradient(trl.online_dpo(accumulation=2), UNEQUAL)[1], 2 * one)


PAIRS = (
    *torch.tensor([[-1.0, -3, -2, -2.5], [-4.0, -1, -3, -2], [-2.0, -4, -2.5, -4], [-2.5, -2, -5, -1]], dtype=torch.float64),
    torch.tensor([1, 3, 1, 4]),
    torch.tensor([2, 1, 4, 1]),
)


def accumulated(make):
    """Relative change of the gradient when the batch is split in two."""
    one, two = (value_and_gradient(make(accumulation=k), PAIRS, (0, 1))[1] for k in (1, 2))
    return float((one - two).norm() / one.norm())


@pytest.mark.parametrize("name", trl.PAIR_LOSSES)
def test_of_trls_dpo_losses_sft_and_both_aots_depend_on_gradient_accumulation(name):
    given_settings = {"label_smoothing": 1e-3} if name == "exo_pair" else {}
    changed = accumulated(lambda **more: trl.dpo(name, **given_settings, **more))
    assert (changed > 1e-3) == (name in ("sft", "aot", "aot_unpaired"))


def test_losses_with_a_token_mean_or_a_batch_reference_point_depend_on_gradient_accumulation():
    depends = {"cpo": trl.cpo, "simpo": lambda **more: trl.cpo("simpo", **more), "orpo": trl.orpo, "kto": trl.kto}
    assert all(accumulated(make) > 1e-3 for make in depends.values())
    assert accumulated(lambda **more: trl.cpo("simpo", cpo_alpha=0.0, **more)) < 1e-9


def test_ligers_luspo_trains_on_padding():
    batch = tuple(part.clone() for part in UNEQUAL)
    padding = ~batch[3]
    _, leaking = value_and_gradient(liger.grpo("luspo", beta=0.0), batch)
    _, clean = value_and_gradient(trl.grpo("luspo"), batch)
    assert leaking[0][padding].abs().min() > 0.01
    assert not clean[0][padding].any()


def test_discopop_moves_the_chosen_down_where_policy_and_reference_agree():
    pair = tuple(torch.tensor([number], dtype=torch.float64) for number in (-2.0, -2, -2, -2)) + (torch.tensor([2]),) * 2
    _, (chosen, rejected) = value_and_gradient(trl.dpo("discopop"), pair, (0, 1))
    assert chosen.item() > 0 > rejected.item()
    slope = 0.1 * ((1 - math.log(2)) * 0.25 / 0.05 - 0.75)
    assert chosen.item() == pytest.approx(slope, rel=1e-9)


# What is refused.


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: trl.grpo("gspo"), "no loss 'gspo'; it has grpo"),
        (lambda: trl.dpo("dpo"), "no loss 'dpo'; it has sigmoid"),
        (lambda: trl.grpo("dapo", entropy_coef=0.1), "distribution of every token"),
        (lambda: trl.grpo("dapo", nonsense=3)(*UNEQUAL), "TRL refuses grpo.*nonsense"),
        (lambda: trl.dpo("exo_pair")(*PAIRS), "TRL refuses dpo.*[Ll]abel smoothing"),
        (lambda: trl.grpo(accumulation=3)(*UNEQUAL), "4 sequences do not split into 3"),
        (lambda: trl.grpo()(*UNEQUAL[:5], torch.tensor([0, 0, 0, 1])), "groups have 1 to 3 sequences"),
        (lambda: trl.rloo()(*UNEQUAL[:3], torch.tensor([[0, 1, 1]] * 4).bool(), *UNEQUAL[4:]), "cannot mask"),
        (lambda: trl.online_dpo()(*UNEQUAL[:5], torch.zeros(4).long()), "two completions"),
        (lambda: trl.dpo()(*PAIRS[:4], torch.zeros(4).long(), PAIRS[5]), "no token"),
        (lambda: liger.grpo("ppo"), "no loss 'ppo'; it has grpo"),
        (lambda: liger.dpo("ipo"), "no loss 'ipo'"),
        (lambda: liger.dpo("exo_pair")(*PAIRS), "Liger refuses DPO"),
        (lambda: liger.grpo()(*UNEQUAL[:2], None, *UNEQUAL[3:]), "reference policy"),
        (lambda: liger.grpo()(-UNEQUAL[0], *UNEQUAL[1:]), "token 0 of sequence 0 has log-probability 0.8, not below zero"),
        (lambda: liger.cpo(accumulation=3)(*PAIRS), "4 rows do not split into 3"),
    ],
)
def test_what_a_peer_cannot_be_asked_is_refused_in_words(call, told):
    with pytest.raises(PeerRefusal, match=told):
        call()


def test_a_missing_library_is_named_with_its_remedy(monkeypatch):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    for peer in (trl, liger):
        with pytest.raises(PeerMissing, match="pip install"):
            peer.grpo()


def test_the_tested_releases_are_installed():
    assert SimpleNamespace(trl=trl.version(), liger=liger.version()) == SimpleNamespace(trl="1.16.0", liger="0.8.5")
