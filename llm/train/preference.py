r"""Preference objectives on the policy's own answers, compared by the verifier.

A pool of answers is drawn once from the initial policy (offline), or anew every `refresh` steps from the policy as it stands.
An objective for pairs that are given (`PreferenceSpec.pairs` is "data") takes the best of a group with the worst, the second
best with the second worst, and so on while their rewards differ; a later pool in which no two differ leaves the pairs as they
were. One that regresses on rewards (CoPG), to which a tie says as much as a difference, takes every pair. The others' optimum
is that of two answers drawn independently, y, y' ~ pi_t x pi_t, so they take the first answer with the second, the third with
the fourth, whatever their rewards: choosing by reward fits another policy (INPO's mirror step turns into another map). The
label is then 1, 1/2 or 0 as the first is better, as good or worse. Answers whose reward failed are in no pair. Of each answer
are kept its log-probability under the reference (the initial policy), under the policy that drew it (the previous iterate), its
reward, and how often it beats an answer of its group, ties counting half.

A step takes `prompts` pairs of the pool. Some objectives couple them (a common centre, a count of tokens), so log-probabilities
of all of them come first; the gradient is then the sum of score weights times gradients of log-probabilities, a microbatch at a
time. Where all pairs are held at once, one pass does both.

Shape suffixes: B pairs, A answers (those chosen, then those rejected), T answer positions.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..group_pairs import matched, wins
from ..pair_batch import PairBatch, Sequences
from ..policy.causal import Policy, Prompts
from ..preference_kernel import evaluate_preference
from ..preference_spec import PairTerm, PreferenceSpec
from ..rollout.rollout import Rollout
from ..rollout.score import score
from .experience import answered, rescored
from .run import Run
from .settings import TrainError
from .update import descend, idle_passes

ROLLOUT = ("token_BT", "real_BT", "mask_BT", "logp_sampler_BT", "turn_BT", "truncated_B")


def refreshed(run: Run) -> dict[str, float]:
    """Draw the pool if it is time to. Raises TrainError where no two answers of a first pool's groups differ in reward."""
    own = run.settings
    if run.pairs is not None and not (own.refresh and run.step % own.refresh == 0):
        return {}
    rollout, rewarded = answered(run, run.step, range(own.pool))
    kept = ~rewarded.failed_B
    assert isinstance(run.spec, PreferenceSpec)
    pairs = paired(run.spec, rewarded.reward_B, kept, own.group_size)
    drawn = {
        "pool_pairs": float(len(pairs)),
        "pool_reward_mean": float(rewarded.reward_B[kept].mean()),
        "reward_failures": float(len(rewarded.failures)),
    }
    if run.pairs is not None and not len(pairs):
        return drawn
    first, second = rewarded.reward_B[pairs].unbind(1)
    if run.pairs is None and not (first != second).any():
        raise TrainError(
            f"in none of {own.pool} groups do two answers that are compared differ in reward "
            f"(mean {float(rewarded.reward_B.mean()):g}): there is nothing to prefer; take an easier or harder task, larger "
            "groups, or a warm start"
        )
    index_A = pairs.T.reshape(-1).to(rollout.group_B.device)
    picked = rollout.select(index_A)
    once_A, back_A = torch.unique(index_A, return_inverse=True)  # an answer of several pairs is read once
    distinct = rollout.select(once_A)
    previous_A = _total(distinct, rescored(run, run.policy, distinct).logp_BT)[back_A]
    reference_A = previous_A
    if run.reference is not None:
        with run.reference.active():
            reference_A = _total(distinct, rescored(run, run.reference.policy, distinct).logp_BT)[back_A]
    run.pairs = {
        "prompt_token": picked.prompts.token_GP,
        "prompt_real": picked.prompts.real_GP,
        "group": picked.group_B,
        **{name: getattr(picked, name) for name in ROLLOUT},
        "reward": rewarded.reward_B[index_A.cpu()].to(index_A.device),
        "win": wins(rewarded.reward_B, kept, own.group_size)[index_A.cpu()].to(index_A.device),
        "reference": reference_A,
        "previous": previous_A,
    }
    return drawn


def paired(spec: PreferenceSpec, reward_A: Tensor, kept_A: Tensor, group_size: int) -> Tensor:
    """Numbers of the two answers of each pair, (pairs, 2), of rewards (A,) in groups of one size, as the objective needs them:
    the better first, or, where answers must be independent and where rewards are regressed on, in the order of their draws.
    """
    if spec.pairs == "data" and any(isinstance(term, PairTerm) and term.regress for term in spec.terms):
        places = torch.arange(len(reward_A)).reshape(-1, group_size)
        return torch.cat([torch.combinations(mine[kept_A.cpu()[mine]]) for mine in places])
    if spec.pairs == "data":
        return matched(reward_A, kept_A, group_size)
    drawn_GS = torch.arange(len(reward_A)).reshape(-1, group_size)[:, : group_size // 2 * 2]
    pairs = drawn_GS.reshape(-1, 2)
    return pairs[kept_A.cpu()[pairs].all(1)]


def update_pairs(run: Run) -> dict[str, float]:
    """One optimiser step on pairs of the pool. Returns the objective's diagnostics."""
    own, spec, pool = run.settings, run.spec, run.pairs
    assert isinstance(spec, PreferenceSpec)
    assert pool is not None
    numbers = {}
    for epoch in range(own.epochs):
        rollout, index_A = _drawn(run, pool, epoch)
        n = len(index_A) // 2
        mine = torch.arange(n, device=index_A.device)[run.processes.rank :: run.processes.size]
        chunks = mine.split(own.microbatch) if len(mine) else ()
        run.optimiser.zero_grad(set_to_none=True)
        once = run.processes.size == 1 and len(chunks) == 1
        more = idle_passes(run, len(chunks))
        logp_A = _logp(run, run.policy, rollout) if once else _gathered(run, rollout, chunks, more, n)
        batch = _batch(run, pool, index_A, rollout, logp_A)
        found = evaluate_preference(spec, batch)
        if once:
            found.loss.backward()
        else:
            weight_A = torch.cat([x for x in (found.weight_chosen_B, found.weight_rejected_B) if x is not None])
            for chunk in chunks:
                rows = torch.cat([chunk, chunk + n])
                (-(weight_A[rows] * _logp(run, run.policy, rollout.select(rows))).sum()).backward()
            for _ in range(more):
                run.policy.idle()
        norm = descend(run)
        if not numbers:
            numbers = {"loss": float(found.loss.detach()), **found.diagnostics, "gradient_norm": norm}
    return numbers


def _drawn(run: Run, pool: dict[str, Tensor], epoch: int) -> tuple[Rollout, Tensor]:
    """The answers of a step's pairs, chosen then rejected, and their rows in the pool."""
    n = len(pool["group"]) // 2
    shuffle = torch.Generator().manual_seed(run.settings.seed * 1_000_003 + run.step * 1_009 + epoch)
    pair_B = torch.randperm(n, generator=shuffle)[: run.settings.prompts].sort().values.to(pool["group"].device)
    whole = Rollout(
        Prompts(pool["prompt_token"], pool["prompt_real"]),
        pool["group"],
        sampling=run.sampling,
        **{name: pool[name] for name in ROLLOUT},
    )
    index_A = torch.cat([pair_B, pair_B + n])
    return whole.select(index_A), index_A


def _logp(run: Run, policy: Policy, rollout: Rollout) -> Tensor:
    return _total(rollout, score(policy, rollout, entropy=False).logp_BT)


def _total(rollout: Rollout, logp_BT: Tensor) -> Tensor:
    return torch.where(rollout.mask_BT, logp_BT, 0.0).sum(1)


@torch.no_grad()
def _gathered(run: Run, rollout: Rollout, chunks: tuple[Tensor, ...], more: int, n: int) -> Tensor:
    """(A,): log-probabilities of all answers, each process computing those of its pairs."""
    logp_A = torch.zeros(2 * n, dtype=torch.promote_types(run.policy.model.dtype, torch.float32), device=rollout.group_B.device)
    for chunk in chunks:
        rows = torch.cat([chunk, chunk + n])
        logp_A[rows] = _logp(run, run.policy, rollout.select(rows))
    for _ in range(more):
        run.policy.idle()
    run.processes.add([logp_A])
    return logp_A.requires_grad_(False)


def _batch(run: Run, pool: dict[str, Tensor], index_A: Tensor, rollout: Rollout, logp_A: Tensor) -> PairBatch:
    n = len(index_A) // 2

    def side(rows: slice) -> Sequences:
        known: dict[str, Any] = {
            "ref_B": pool["reference"],
            "previous_B": pool["previous"],
            "win_B": pool["win"],
            "reward_B": pool["reward"],
        }
        picked = {name: x[index_A[rows]] for name, x in known.items()}
        return Sequences(logp_A[rows], mask_BT=rollout.mask_BT[rows], **picked)

    apart = _mismatched(run, rollout) if "mismatched" in run.spec.uses else None  # pyright: ignore[reportAttributeAccessIssue]
    first, second = pool["reward"][index_A].split(n)
    label_B = (first > second).to(logp_A.dtype) + 0.5 * (first == second)
    return PairBatch(side(slice(0, n)), side(slice(n, 2 * n)), label_B, log_ratio_mismatched_M=apart)


@torch.no_grad()
def _mismatched(run: Run, rollout: Rollout) -> Tensor:
    """(A,): log pi/q of each answer after the prompt of the next group."""
    assert run.reference is not None
    moved = Rollout(**{**vars(rollout), "group_B": (rollout.group_B + 1) % len(rollout.prompts.token_GP)})
    mine_A = _total(moved, rescored(run, run.policy, moved).logp_BT)
    with run.reference.active():
        return mine_A - _total(moved, rescored(run, run.reference.policy, moved).logp_BT)
