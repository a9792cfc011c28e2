"""The loop's gradient is that of the large batch, whatever it is cut into, and every objective trains."""

import itertools
import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from banach.llm.catalogue import OBJECTIVES, objective
from banach.llm.environments import Component, DigitChain, Failure, Reward
from banach.llm.plan import plan
from banach.llm.policy.causal import Prompts
from banach.llm.preference_catalogue import PREFERENCES, preference
from banach.llm.rollout import score
from banach.llm.rollout.rollout import Rollout
from banach.llm.surrogate import PolicyGradient
from banach.llm.train import Settings, TrainError, estimate_memory, open_policy, read_metrics, train
from banach.llm.train.experience import answered, collect, rescored
from banach.llm.train.loop import _fit, step
from banach.llm.train.metrics import append_failures, append_metrics, cut_metrics
from banach.llm.train.preference import ROLLOUT, matched, paired, refreshed, update_pairs, wins
from banach.llm.train.run import new_run
from banach.llm.train.update import accumulate, alive, tracked, update
from hypothesis import given, settings
from hypothesis import strategies as st

from .sandbox import with_tool
from .test_tool_sums import COMMON
from .training import begun, small

pytest.importorskip("transformers")


def moved(run):
    """The policy a little away from the one that sampled, so that ratios are not 1."""
    noise = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in run.policy.trained().values():
            p.add_(0.02 * torch.randn(p.shape, generator=noise).to(p))


def gradient(run):
    found = torch.cat([torch.zeros(p.numel()) if p.grad is None else p.grad.flatten() for p in run.policy.trained().values()])
    for p in run.policy.trained().values():
        p.grad = None
    return found.double()


def whole_by_autograd(run, planned, experience):
    """The gradient of the whole batch's loss, each sequence by itself through the whole model and all logits held."""
    rollout, batch = experience.rollout, planned.batch
    rows, entropies, tables = [], [], []
    for b in range(len(rollout)):
        prompt = rollout.prompts.token_GP[rollout.group_B[b]][rollout.prompts.real_GP[rollout.group_B[b]]]
        tokens = torch.cat([prompt, rollout.token_BT[b]])
        table = run.policy.model(input_ids=tokens[None]).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
        rows.append(table.gather(1, rollout.token_BT[b][:, None])[:, 0])
        entropies.append(-(table.exp() * table).sum(1))
        tables.append(table)
    fresh = {"entropy_BT": torch.stack(entropies)} if planned.spec.entropy else {}
    if batch.log_policy_BTV is not None:
        fresh["log_policy_BTV"] = torch.stack(tables)
    planned.evaluate(logp_BT=torch.stack(rows), **fresh).loss.backward()
    return gradient(run)


CUTS = {
    "grpo": {},
    "grpo, full divergence": {"objective_settings": {"estimator": "full", "beta": 0.5}},
    "dr_grpo": {},
    "gspo": {"objective_settings": {"unusual_clip": True, "low": 0.2, "high": 0.2}},
    "reinforce": {"objective_settings": {"entropy": 0.1}},
    "rloo": {},
    "cispo": {},
    "dapo": {},
    "nft": {},
}


@pytest.mark.parametrize("name", CUTS)
def test_the_gradient_does_not_depend_on_how_the_batch_is_cut(name):
    run = begun(objective=name.partition(",")[0], **CUTS[name])
    experience = collect(run)
    planned = plan(run.spec, experience.batch)
    moved(run)
    rows, found = alive(planned).nonzero()[:, 0], []
    assert len(rows) > 0
    for microbatch in (1, 3, 4):
        run.settings = small(objective=run.settings.objective, microbatch=microbatch)
        accumulate(run, planned, experience, rows, 1.0, None)
        found.append(gradient(run))
    wanted = whole_by_autograd(run, planned, experience)
    size = float(wanted.abs().max())
    assert size > 0
    for each in found:
        torch.testing.assert_close(each, wanted, rtol=0, atol=2e-5 * size)


def test_an_answer_without_weight_is_not_passed_through_the_model_and_has_no_gradient():
    run = begun(objective="dr_grpo", prompts=8, seed=3)
    experience = collect(run)
    planned = plan(run.spec, experience.batch)
    live = alive(planned)
    assert 0 < live.sum() < len(live)
    accumulate(run, planned, experience, (~live).nonzero()[:, 0], 1.0, None)
    assert (gradient(run) == 0).all()
    passed = []
    hook = run.policy.body.register_forward_pre_hook(
        lambda module, args, named: passed.append(len(named["input_ids"])), with_kwargs=True
    )
    run.settings = small(objective="dr_grpo", prompts=8, microbatch=8)
    update(run, experience)
    hook.remove()
    groups = len(torch.unique(experience.batch.group_B[live]))
    assert passed == [groups, int(live.sum())]


def test_minibatches_together_are_the_batch():
    """Of a run whose policy does not move, the gradients of the minibatches add up to their number times the batch's."""
    whole, parts = [], []
    for minibatches, found in ((1, whole), (3, parts)):
        run = begun(objective="grpo", minibatches=minibatches)
        run.optimiser.step = lambda found=found, run=run: found.append(gradient(run))
        run.settings = small(objective="grpo", minibatches=minibatches, clip_norm=0.0)
        update(run, collect(run))
    assert (len(whole), len(parts)) == (1, 3)
    torch.testing.assert_close(sum(parts), 3 * whole[0], rtol=0, atol=1e-4 * float(whole[0].abs().max()))


REFUSED = {
    "apo": "apo reads mode_B, forced_B, but a run imposes no mode .* banach.llm.without_tags",
    "t_ppo": "t_ppo reads fresh_BT, .* draws every answer whole.* banach.llm.Windows",
    "eapo": "eapo reads rounds_left_B, the rounds of an answer, but no environment speaks in the answers to digit_chain",
    "aspo": "aspo reads first_call_B, the first call of a tool, but no environment speaks in the answers to digit_chain",
    "dapo_direct": "dapo_direct regresses the log-ratios of reasoning steps .* banach.llm.step_numbers",
    "bradley_terry": "bradley_terry fits a reward model, .* banach.llm.evaluate_preference",
}
"""What answers without turns cannot be told truly, and what is said of it."""

ANEW = ("online_dpo", "online_ipo", "nash_md")
"""What compares answers of the policy as it stands."""

ALL = {**dict.fromkeys(OBJECTIVES), **dict.fromkeys(PREFERENCES)}


def example(name):
    """Settings under which the objective is what its name says, if a run can supply it."""
    found = {key: x for key, x in (OBJECTIVES[name].example if name in OBJECTIVES else {}).items() if key != "budget"}
    return {"objective": name, "objective_settings": found, "refresh": int(name in ANEW)}


@pytest.mark.parametrize("name", [name for name in ALL if name not in REFUSED])
def test_every_objective_that_a_run_can_supply_trains_by_name(name, tmp_path):
    run = begun(**example(name))
    before = torch.cat([p.detach().flatten() for p in run.policy.trained().values()])
    for _ in range(2):
        numbers = step(run, tmp_path)
        run.step += 1
        assert math.isfinite(numbers["loss"])
        assert math.isfinite(numbers["gradient_norm"])
    after = torch.cat([p.detach().flatten() for p in run.policy.trained().values()])
    assert after.isfinite().all()
    assert (before != after).any()


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_run_cannot_supply_is_refused_at_the_door(name, tmp_path):
    with pytest.raises(TrainError, match=REFUSED[name]):
        train(small(**example(name), warm_start=0), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"objective": "risk_po", "bundle": 3}, "bundles of 3 prompts together, and 4 prompts"),
        ({"objective": "risk_po", "objective_settings": {"high": 1.0}}, "a largest score has no quantile to follow"),
        ({"objective": "dpo", "group_size": 1}, "group_size=1; dpo compares"),
        ({"objective": "t_ppo", "objective_settings": {"bootstrap": "given"}}, "reads value_end_B, fresh_BT"),
        ({"objective": "ppo", "objective_settings": {"bootstrap": "given"}}, "ppo reads value_end_B, which sampled answers"),
        *[
            ({"objective": name, "refresh": 2}, f"refresh=2; {name} compares answers of the policy as it stands")
            for name in ANEW
        ],
    ],
)
def test_settings_under_which_a_run_cannot_supply_it_are_refused_at_the_door(changes, message):
    with pytest.raises(TrainError, match=message):
        new_run(small(**changes))


def test_quantiles_of_bundles_follow_their_scores_through_the_steps():
    """The tracker by hand, and the first step's gradient is that of the objective with its quantiles given."""
    run, seen = begun(objective="risk_po", bundle=2, rate=1e-2), []
    for _ in range(4):
        made = collect(run)
        seen.append(np.sort(np.bincount(made.batch.bundle_B.numpy(), made.batch.reward_B.numpy())))
        numbers = update(run, made)
        run.step += 1
        if len(seen) == 1:
            values = [seen[0][math.ceil(level * len(seen[0])) - 1] for level in (0.2, 0.8)]
        values = [q + 0.1 * (level - (seen[-1] < q).mean()) for q, level in zip(values, (0.2, 0.8), strict=True)]
        assert (numbers["quantile_low"], numbers["quantile_high"]) == pytest.approx((min(values), values[1]))
        if len(seen) == 1:
            fixed = begun(objective="risk_po", bundle=2, rate=1e-2, objective_settings={"quantiles": tuple(values)})
            alike = update(fixed, collect(fixed))
            assert "quantile_low" not in alike
            assert alike["gradient_norm"] == pytest.approx(numbers["gradient_norm"], rel=1e-6)
    assert len({tuple(scores) for scores in seen}) > 1


def test_at_rate_zero_quantiles_are_each_batchs_own():
    run = begun(objective="risk_po", bundle=2, quantile_rate=0.0)
    assert tracked(run, collect(run).batch) == (run.spec, {})
    assert run.quantiles is None


@pytest.fixture(scope="module")
def talker():
    """A policy that has seen transcripts with a tool."""
    run = new_run(Settings(**(COMMON | {"objective": "eapo", "objective_settings": {"discount": 0.5}})))
    for done in range(run.settings.warm_start):
        _fit(run, done)
    return run


class TestRounds:
    """EAPO's samples are the rounds of answers in turns, and its update is that of its formula."""

    @with_tool
    def test_every_round_is_a_row_that_says_how_many_are_to_come(self, talker):
        experience = collect(talker)
        batch, rollout, rows = experience.batch, experience.rollout, []
        for b in range(len(rollout)):
            turns = sorted({int(t) for t, own in zip(rollout.turn_BT[b], rollout.mask_BT[b], strict=True) if own})
            rows += [(b, len(turns) - 1 - i, turn) for i, turn in enumerate(turns)]
        assert max(left for _, left, _ in rows) >= 1
        assert len(batch.reward_B) == len(rows) > len(rollout)
        plain = answered(talker, talker.step, range(talker.settings.prompts))[1].reward_B
        for n, (b, left, turn) in enumerate(rows):
            assert (int(experience.answer_N[n]), int(batch.rounds_left_B[n])) == (b, left)
            assert int(batch.group_B[n]) == b // talker.settings.group_size
            assert float(batch.reward_B[n]) == float(plain[b])
            assert torch.equal(batch.mask_BT[n], rollout.mask_BT[b] & (rollout.turn_BT[b] == turn))

    @with_tool
    def test_the_gradient_of_a_run_is_that_of_the_published_objective_round_by_round(self, talker):
        """The witness: r = g^(rounds to come) R, z-scores over all rounds of a prompt, geometric means of ratios, in a loop."""
        low, high, g = 0.1, 0.2, 0.5
        talker.spec = objective("eapo", discount=g, low=low, high=high, unusual_clip=True)
        experience = collect(talker)
        weights = {name: x.clone() for name, x in talker.policy.model.state_dict().items()}
        moved(talker)
        planned, found = plan(talker.spec, experience.batch), []
        rows = alive(planned).nonzero()[:, 0]
        settings = talker.settings
        for microbatch in (1, 4):
            talker.settings = replace(settings, microbatch=microbatch)
            accumulate(talker, planned, experience, rows, 1.0, None)
            found.append(gradient(talker))
        rollout, samples = experience.rollout, {}
        logp_BT = score(talker.policy, rollout).logp_BT
        n = 0
        for b in range(len(rollout)):
            own, turn = rollout.mask_BT[b], rollout.turn_BT[b]
            turns = sorted(set(turn[own].tolist()))
            for t in turns:
                picked = own & (turn == t)
                ratio = (logp_BT[b] - rollout.logp_sampler_BT[b])[picked].mean().exp()
                earned = g ** (len(turns) - 1 - turns.index(t)) * float(experience.batch.reward_B[n])
                samples.setdefault(b // settings.group_size, []).append((ratio, earned))
                n += 1
        terms = []
        for group in samples.values():
            earned = torch.tensor([r for _, r in group], dtype=torch.float64)
            if earned.std() == 0:
                continue
            for ratio, r in group:
                A = float((r - earned.mean()) / earned.std())
                terms.append(torch.minimum(ratio * A, ratio.clamp(1 - low, 1 + high) * A))
        assert {len(group) for group in samples.values()} != {settings.group_size}
        (-torch.stack(terms).mean()).backward()
        wanted = gradient(talker)
        talker.settings = settings
        talker.policy.model.load_state_dict(weights)
        for each in found:
            torch.testing.assert_close(each, wanted, rtol=0, atol=1e-4 * float(wanted.abs().max()))

    @with_tool
    def test_an_objective_of_calls_trains_where_a_tool_answers_and_is_refused_where_it_is_taken_away(self, tmp_path):
        made = train(Settings(**(COMMON | {"objective": "aspo", "steps": 1})), tmp_path / "aspo")
        assert math.isfinite(made.metrics[-1]["loss"])
        away = COMMON | {"task_settings": COMMON["task_settings"] | {"calls": 0}}
        for name in ("aspo", "eapo"):
            with pytest.raises(TrainError, match=f"{name} reads .* no environment speaks in the answers to tool_sums"):
                new_run(Settings(**(away | {"objective": name})))


def test_in_mixed_precision_the_sampler_and_the_trainer_agree_but_for_rounding(tmp_path):
    numbers = step(begun(objective="grpo", precision="bfloat16"), tmp_path)
    assert 0 < numbers["sampler_gap_max"] < 0.1
    assert math.isfinite(numbers["gradient_norm"])
    assert step(begun(objective="grpo", precision="float32"), tmp_path)["sampler_gap_max"] < 1e-5
    with pytest.raises(TrainError, match="precision='half'"):
        small(precision="half")


def test_maximum_likelihood_learns_its_answers(tmp_path):
    task = {"base": 3, "shortest": 1, "longest": 1}
    changes = {"rate": 1e-2, "warm_start": 0, "noise": 0.0, "prompts": 16, "evaluate_every": 30, "task_settings": task}
    made = train(small(objective="sft", steps=30, **changes), tmp_path / "run")
    assert made.metrics[-1]["loss"] < 0.2 * made.metrics[0]["loss"]
    assert made.metrics[-1]["held_out"] == 1.0
    assert made.metrics[-1]["held_out_low"] > 0.9


def test_a_policy_gradient_learns_by_sampling(tmp_path):
    """From half right to nearly all right; the seed is fixed."""
    changes = {"objective": "rloo", "steps": 25, "rate": 5e-3, "prompts": 8, "group_size": 8, "noise": 0.8}
    made = train(small(**changes, task_settings={"base": 3, "shortest": 1, "longest": 1}), tmp_path / "run")
    rewards = [line["reward_mean"] for line in made.metrics]
    assert sum(rewards[:3]) / 3 < 0.7
    assert sum(rewards[-3:]) / 3 > 0.9


def test_the_same_seed_gives_the_same_weights_bit_for_bit(tmp_path):
    first, second, other = (
        train(small(seed=seed), tmp_path / str(i)).policy.model.state_dict() for i, seed in enumerate((1, 1, 2))
    )
    assert all(torch.equal(x, second[name]) for name, x in first.items())
    assert not all(torch.equal(x, other[name]) for name, x in first.items())


def test_answers_whose_reward_fails_are_masked_and_written_down():
    run = begun(prompts=4)
    plain = run.reward

    def failing(sample):
        if sample.problem.index % 4 == 1:
            raise ZeroDivisionError("by nought")
        return plain.components[0].of(sample)

    run.reward = Reward((Component("score", failing),), plain.gates)
    experience = collect(run)
    failed = sorted(failure.sample for failure in experience.failures)
    assert failed
    assert experience.numbers["reward_failures"] == len(failed)
    assert experience.batch.mask_BT.any(1).logical_not().nonzero()[:, 0].tolist() == failed
    assert not alive(plan(run.spec, experience.batch))[failed].any()


def test_a_previous_iterate_is_what_the_policy_was():
    run = begun(reference_decay=0.0)
    moved(run)
    run.reference.follow(run.policy)
    experience = collect(run)
    torch.testing.assert_close(experience.batch.logp_ref_BT, experience.batch.logp_old_BT, rtol=0, atol=1e-5)


class TestPairs:
    @settings(max_examples=50, deadline=None)
    @given(st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=8, max_size=8), st.lists(st.booleans(), min_size=8, max_size=8))
    def test_the_better_is_paired_with_the_worse_of_its_group(self, rewards, kept):
        reward, kept = torch.tensor(rewards), torch.tensor(kept)
        pairs = matched(reward, kept, 4).tolist()
        assert len({i for pair in pairs for i in pair}) == 2 * len(pairs)
        for better, worse in pairs:
            assert better // 4 == worse // 4
            assert reward[better] > reward[worse]
            assert kept[better]
            assert kept[worse]
        for group in (range(4), range(4, 8)):
            values = {rewards[i] for i in group if kept[i]}
            assert (len(values) > 1) == any(pair[0] in group for pair in pairs)

    @settings(max_examples=50, deadline=None)
    @given(st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=6, max_size=6), st.lists(st.booleans(), min_size=6, max_size=6))
    def test_a_win_is_a_comparison_with_each_other_answer(self, rewards, kept):
        found = wins(torch.tensor(rewards), torch.tensor(kept), 3)
        for i in range(6):
            others = [j for j in range(i // 3 * 3, i // 3 * 3 + 3) if j != i and kept[j]]
            score = [(rewards[i] > rewards[j]) + 0.5 * (rewards[i] == rewards[j]) for j in others]
            assert float(found[i]) == pytest.approx(sum(score) / len(score) if score else 0.0)

    @pytest.mark.parametrize("name", ["dpo", "kto", "simpo", "nash_md"])
    def test_the_gradient_does_not_depend_on_how_the_pairs_are_cut(self, name):
        found = []
        for microbatch in (1, 3, 8):
            run = begun(objective=name, microbatch=microbatch, prompts=6, clip_norm=0.0, refresh=int(name in ANEW))
            run.optimiser.step = lambda run=run: found.append(gradient(run))
            refreshed(run)
            moved(run)
            update_pairs(run)
        assert float(found[0].abs().max()) > 0
        for each in found[1:]:
            torch.testing.assert_close(each, found[0], rtol=0, atol=1e-4 * float(found[0].abs().max()))

    @pytest.mark.parametrize("name", [name for name in PREFERENCES if name != "bradley_terry"])
    @pytest.mark.parametrize("size", [2, 3, 4])
    def test_the_law_of_a_pair_is_the_product_law_where_theory_asks_for_it(self, name, size):
        """All groups of draws from a law on three answers, enumerated: pairs per group and the law of each, exactly."""
        law, reward = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64), torch.tensor([0.0, 1.0, 1.0])
        spec, found, count = preference(name), torch.zeros(3, 3, dtype=torch.float64), 0.0
        for group in itertools.product(range(3), repeat=size):
            chance = float(law[list(group)].prod())
            pairs = paired(spec, reward[list(group)], torch.ones(size, dtype=torch.bool), size).tolist()
            for i, j in pairs:
                found[group[i], group[j]] += chance
            count += chance * len(pairs)
        product = torch.outer(law, law)
        if name == "copg":
            assert count == pytest.approx(size * (size - 1) / 2)
            torch.testing.assert_close(found / count, product, rtol=0, atol=1e-12)
        elif spec.pairs == "data":
            assert (found / count - product).abs().max() > 0.05
            assert found.diag().sum() == 0
        else:
            assert count == pytest.approx(size // 2)
            torch.testing.assert_close(found / count, product, rtol=0, atol=1e-12)

    def test_contrastive_pairs_are_all_of_a_group_but_for_failures_and_one_answer_is_read_once(self):
        run = begun(objective="copg", temperature=1.0)
        kept = torch.tensor([1, 1, 0, 1, 1, 1, 1, 1], dtype=torch.bool)
        assert paired(run.spec, torch.zeros(8), kept, 4).tolist() == [
            [0, 1], [0, 3], [1, 3], *([i, j] for i, j in itertools.combinations(range(4, 8), 2))
        ]  # fmt: skip
        refreshed(run)
        pool = run.pairs
        assert len(pool["reward"]) == 2 * run.settings.pool * 6
        half = len(pool["reward"]) // 2
        assert (pool["reward"][:half] == pool["reward"][half:]).any()  # ties are kept
        picked = Rollout(Prompts(pool["prompt_token"], pool["prompt_real"]), pool["group"], sampling=run.sampling,
                         **{name: pool[name] for name in ROLLOUT})  # fmt: skip
        again = torch.where(picked.mask_BT, rescored(run, run.policy, picked).logp_BT, 0.0).sum(1)
        torch.testing.assert_close(pool["previous"], again, rtol=1e-5, atol=1e-5)

    @pytest.mark.parametrize("name", ["inpo", "nash_md"])
    def test_pairs_of_self_play_are_neighbouring_draws_and_their_labels_are_told(self, name):
        """Whatever their rewards; the loss is that of the formula with P = 1, 1/2, 0."""
        run = begun(objective=name, refresh=1, prompts=16, microbatch=16)
        rollout, rewarded = answered(run, 0, range(run.settings.pool))
        refreshed(run)
        n = len(run.pairs["group"]) // 2
        assert n == run.settings.pool * 2 == 16
        for k in range(n):
            for row, drawn in ((k, 2 * k), (n + k, 2 * k + 1)):
                length = int(rollout.real_BT[drawn].sum())
                assert run.pairs["token_BT"][row, :length].tolist() == rollout.token_BT[drawn, :length].tolist()
        reward = rewarded.reward_B.reshape(-1, 2)
        label = (reward[:, 0] > reward[:, 1]).double() + 0.5 * (reward[:, 0] == reward[:, 1]).double()
        assert set(label.tolist()) == {0.0, 0.5, 1.0}
        moved(run)
        pool = {k: v.double().clone() for k, v in run.pairs.items() if k in ("reference", "previous")}
        whole = Rollout(
            Prompts(run.pairs["prompt_token"], run.pairs["prompt_real"]),
            run.pairs["group"],
            sampling=run.sampling,
            **{key: run.pairs[key] for key in ("token_BT", "real_BT", "mask_BT", "logp_sampler_BT", "turn_BT", "truncated_B")},
        )
        with torch.no_grad():
            logp = score(run.policy, whole).logp_BT.sum(1).double()
        if name == "inpo":
            eta, tau = 0.0075, 0.0025
            s = logp - tau / eta * pool["reference"] - (1 - tau / eta) * pool["previous"]
            h, c = s[:n] - s[n:], 1 / (2 * eta)
            wanted = (label * (h - c) ** 2 + (1 - label) * (h + c) ** 2).mean()
        else:
            wanted = -((label - 0.5 - 0.008 * (logp - pool["reference"])[:n]) * logp[:n]).mean()
        assert update_pairs(run)["loss"] == pytest.approx(float(wanted), rel=1e-5)

    def test_where_no_answers_differ_there_is_nothing_to_prefer(self):
        run = begun(objective="dpo")
        run.reward = Reward((Component("same", lambda s: 1.0),))
        with pytest.raises(TrainError, match="nothing to prefer"):
            refreshed(run)

    def test_a_later_pool_without_a_difference_leaves_the_pairs_as_they_were(self):
        """A policy that has learned the task is no error."""
        run = begun(objective="dpo", refresh=1)
        refreshed(run)
        before = run.pairs
        run.step, run.reward = 1, Reward((Component("same", lambda s: 1.0),))
        assert refreshed(run)["pool_pairs"] == 0
        assert run.pairs is before
        assert "gradient_norm" in update_pairs(run)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"objective": "grop"}, r"no objective is called 'grop'; did you mean .*grpo"),
        ({"prompts": 0}, "prompts=0"),
        ({"steps": -1}, "steps=-1"),
        ({"minibatches": 5}, "minibatches=5 of 4 prompts"),
        ({"rate": 0.0}, r"rate=0\.0"),
    ],
)
def test_settings_that_make_no_run_are_refused(wrong, message):
    with pytest.raises(TrainError, match=message):
        small(**wrong)


def test_a_model_that_does_not_exist_has_its_nearest_names_told():
    with pytest.raises(TrainError, match="did you mean smollm2"):
        open_policy("smolm2")
    with pytest.raises(TrainError, match="it has layers, width"):
        open_policy("tiny", depth=3)


def test_a_run_that_does_not_fit_is_refused_with_its_estimate(tmp_path):
    with pytest.raises(TrainError, match=r"would not fit: estimated peak .* GB"):
        train(small(prompts=10**6, group_size=10**4, microbatch=10**6), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_memory_of_weights_and_optimiser_is_what_they_are():
    policy = open_policy("tiny", layers=1, width=16)
    size = sum(p.numel() for p in policy.model.parameters())
    found = estimate_memory(small(), policy, 5)
    assert (found.weights, found.reference, found.gradient, found.optimiser) == (4 * size, 4 * size, 4 * size, 8 * size)
    assert estimate_memory(small(objective="dr_grpo"), policy, 5).reference == 0
    assert found.peak > 5 * 4 * size


def test_an_objective_that_reads_what_answers_do_not_have_is_refused():
    from banach.llm.advantage import Given
    from banach.llm.objective import ObjectiveSpec

    run = begun()
    run.spec = ObjectiveSpec("mine", Given(), PolicyGradient())
    with pytest.raises(TrainError, match="mine reads advantage_BT"):
        collect(run)


def test_lines_after_a_step_are_forgotten(tmp_path):
    failure = Failure(3, "score", "returned nan", DigitChain().problem(5), "an answer")
    for number in (1, 2, 3):
        append_metrics(tmp_path, number, {"loss": 0.5 * number, "gradient_norm": float("nan")})
        append_failures(tmp_path, number, [failure])
    cut_metrics(tmp_path, 2)
    assert read_metrics(tmp_path) == [{"step": i, "loss": 0.5 * i, "gradient_norm": None} for i in (1, 2)]
    lines = [json.loads(line) for line in (tmp_path / "failures.jsonl").read_text().splitlines()]
    told = {"sample": 3, "part": "score", "fault": "returned nan", "problem": 5, "text": "an answer"}
    assert lines == [{"step": i, **told} for i in (1, 2)]


def test_a_line_that_was_cut_off_is_left_out(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 0.5}\n{"step": 2, "lo')
    assert read_metrics(tmp_path) == [{"step": 1, "loss": 0.5}]


def test_settings_are_plain_data_and_back():
    made = small(objective="dpo")
    assert Settings(**made.document()) == made


def test_scores_stand_in_the_order_of_the_answers():
    run = begun(microbatch=1)
    rollout = collect(run).rollout
    shuffled = rollout.select(torch.randperm(len(rollout), generator=torch.Generator().manual_seed(0)))
    with torch.no_grad():
        wanted = score(run.policy, shuffled).logp_BT
    torch.testing.assert_close(rescored(run, run.policy, shuffled).logp_BT, wanted, rtol=0, atol=1e-5)


def test_a_batch_without_signal_moves_nothing():
    run = begun(objective="dr_grpo")
    run.reward = Reward((Component("same", lambda s: 1.0),))
    before = {name: x.clone() for name, x in run.policy.model.state_dict().items()}
    numbers = update(run, collect(run))
    assert (numbers["gradient_norm"], numbers["alive_share"], numbers["zero_variance_share"]) == (0.0, 0.0, 1.0)
    assert all(torch.equal(x, before[name]) for name, x in run.policy.model.state_dict().items())
