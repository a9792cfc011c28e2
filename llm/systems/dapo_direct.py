r"""Direct Advantage Policy Optimization (not the decoupled clip): steps regressed on a frozen critic's advantages.

A row of the batch is one step at one state; rows of a state form a group, and a row's reward is the critic's value after the
step, or the reward itself where the step ends the answer. The group's mean makes advantages of values, the temperature targets
of advantages, and the log-ratio of the whole step to the reference is regressed on them. Actor and critic never train together;
a critic that is a network is fitted with `banach.llm.critic.completion_loss`, here it is a table of means.

The exact optimum is `banach.solvers.direct_advantage`. With M steps drawn from the reference the group's mean shrinks
advantages by (M - 1)/M; taking each distinct step once makes the exploration uniform, whose baseline is another number.

Liu et al. 2024, arXiv 2412.18279.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache, partial
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ...mdp.errors import ModelError
from ...mdp.token import TokenProblem
from ..advantage import GroupAdvantage
from ..aggregation import Aggregation
from ..batch import TokenBatch
from ..catalogue import Objective, objective, register
from ..errors import BatchError, SpecError
from ..log_ratio import GapFilter, LogRatioRegression, Tempered
from ..objective import ObjectiveSpec
from ..plan import Plan, plan
from ..ratio import Ratio
from .system import Reduction, System, add

if TYPE_CHECKING:
    from ..testbeds.comparison import Comparison

LEVEL = 0.9
"""Of the expected reward, to which tokens are counted."""

FLIP = 0.2
"""Chance that a verdict of the experiment's noisy verifier is the other one."""


def dapo_direct(beta: float = 0.02, gap: float = 0.1, limit: float | None = None) -> ObjectiveSpec:
    """Log-ratios of steps regressed on advantages of a group of steps. beta: temperature (published 0.01 and 0.02).

    gap: groups whose values differ by less are left out. limit: largest target in nats.
    """
    return ObjectiveSpec(
        "dapo_direct",
        Tempered(GroupAdvantage("group-mean"), beta, limit),
        LogRatioRegression(),
        Ratio("sequence", clamp=80.0),
        Aggregation("sequence-mean-token-sum"),
        filters=(GapFilter(gap),),
    )


register(
    Objective(
        "dapo_direct",
        dapo_direct,
        "Liu et al. 2024, arXiv 2412.18279",
        variants={"limited": {"beta": 0.2, "limit": 1.0}, "every state": {"beta": 1.0, "gap": 0.0}},
    )
)


def step_numbers(token_BT: Tensor, mask_BT: Tensor, newline: int) -> Tensor:
    """The step, from 0, to which each policy token of an answer belongs, (B, T) whole numbers, 0 off the mask: a `turn_BT`.

    token_BT, mask_BT: (B, T). newline: the token that ends a step. Further newlines in a row belong to the step that they end,
    those before the first word to the first step: no step is empty. Raises BatchError for shapes that differ.
    """
    if token_BT.ndim != 2 or token_BT.shape != mask_BT.shape:
        raise BatchError(f"token_BT is of shape {tuple(token_BT.shape)}, mask_BT of {tuple(mask_BT.shape)}; give both (B, T)")
    place = torch.arange(1, token_BT.shape[1] + 1, device=token_BT.device)
    ends, words = mask_BT & (token_BT == newline), mask_BT & (token_BT != newline)
    before = [torch.where(x, place, 0).cummax(1).values.roll(1, 1) for x in (ends, words)]  # the last of each, 0 for none
    for last in before:
        last[:, 0] = 0
    begins = words & (before[1] > 0) & (before[0] > before[1])
    return torch.where(mask_BT, begins.cumsum(1), 0)


def unique_steps(batch: TokenBatch) -> Tensor:
    """Which rows, steps of states, to learn from, (B,) bool: each distinct step of a group once, its first row, by its tokens.

    Groups with one distinct step are left out, for nothing is compared there. `batch.select(unique_steps(batch))` explores the
    distinct steps uniformly; its baseline is their plain mean, no longer the reference's. Raises BatchError without token_BT.
    """
    if batch.token_BT is None:
        raise BatchError("unique_steps reads token_BT, which the batch lacks")
    first: dict[int, dict[tuple[int, ...], int]] = {}
    for row, (group, tokens, mask) in enumerate(zip(batch.group_B.tolist(), batch.token_BT, batch.mask_BT, strict=True)):
        if mask.any():
            first.setdefault(group, {}).setdefault(tuple(tokens[mask].tolist()), row)
    kept = torch.zeros(len(batch.group_B), dtype=torch.bool)
    for rows in first.values():
        if len(rows) > 1:
            kept[list(rows.values())] = True
    return kept


def step_batch(
    problem: TokenProblem, nodes: np.ndarray, values: np.ndarray, log_policy: torch.Tensor, old: torch.Tensor
) -> TokenBatch:
    """Every next token of some nodes, (n,), as steps: a group a node, a row a token, rewards the values (N, V) after it.

    log_policy, old: tables (N, V) of the trained policy and the reference. Raises ModelError for a node that there is not.
    """
    size = problem.vocabulary_size
    if len(nodes) and not 0 <= nodes.min() <= nodes.max() < problem.n_nodes:
        raise ModelError(f"nodes run from {nodes.min()} to {nodes.max()}, but there are {problem.n_nodes}")
    at = torch.tensor(np.asarray(nodes, dtype=np.int64))
    return TokenBatch(
        logp_BT=log_policy[at].reshape(-1, 1),
        logp_old_BT=old[at].detach().reshape(-1, 1),
        mask_BT=torch.ones(len(nodes) * size, 1, dtype=torch.bool),
        reward_B=torch.tensor(values[nodes].reshape(-1)),
        group_B=at.repeat_interleave(size),
    )


def improve(
    problem: TokenProblem,
    logits: np.ndarray,
    completions: int,
    rollouts: int,
    beta: float,
    gap: float,
    rng: np.random.Generator,
    flip: float = 0.0,
) -> tuple[np.ndarray, int]:
    """One round with a Monte-Carlo critic: logits (N, V) after it, and the tokens that it sampled.

    rollouts whole answers find states; every next step of each is drawn, a token each, and from it `completions` more estimate
    its value; a step that ends the answer is worth one reading of its reward. flip: chance that a verdict is the other one.
    Raises SpecError for fewer than one completion or rollout, or a flip outside [0, 1/2).
    """
    from ...mdp import token_policy
    from ..testbeds.rollout import draw

    for name, number in (("completions", completions), ("rollouts", rollouts)):
        if number < 1:
            raise SpecError(f"{name}={number}: a round needs at least one")
    if not 0 <= flip < 0.5:
        raise SpecError(f"flip={flip}: verdicts are wrong with a chance in [0, 1/2)")
    old = torch.tensor(token_policy.log_policy(problem, logits))
    seen = draw(problem, old, rng.choice(problem.n_prompts, rollouts, p=problem.prompt_probability), rng)
    nodes = np.unique(problem.node[seen][problem.node[seen] >= 0])
    chance = flip + (1 - 2 * flip) * np.clip(token_policy.action_value(problem, logits)[nodes], 0.0, 1.0)
    depth = _tokens_before(problem)[nodes]
    readings = np.where(depth + 1 >= problem.horizon, 1, completions)[:, None]
    values = np.zeros_like(logits, dtype=np.float64)
    values[nodes] = rng.binomial(readings, chance) / readings
    left = problem.horizon - depth - 1
    cost = int(problem.length[seen].sum() + problem.vocabulary_size * (len(nodes) + completions * left.sum()))
    table = torch.tensor(logits, dtype=torch.float64, requires_grad=True)
    spec = dapo_direct(beta, gap, limit=20.0)
    planned = plan(spec, step_batch(problem, nodes, values, table.log_softmax(-1), old))
    optimiser = torch.optim.Adam([table], lr=0.2)
    for _ in range(30):
        optimiser.zero_grad()
        fresh = table.log_softmax(-1)[torch.tensor(nodes.astype(np.int64))].reshape(-1, 1)
        (planned.evaluate(fresh).loss * len(nodes)).backward()
        optimiser.step()
    return table.detach().numpy(), cost


def _tokens_before(problem: TokenProblem) -> np.ndarray:
    """Tokens written before each node, (N,)."""
    depth = np.zeros(problem.n_nodes, dtype=np.int64)
    for t in range(problem.horizon):
        at = problem.node[:, t]
        depth[at[at >= 0]] = t
    return depth


def verdicts(reward_B: np.ndarray, flip: float, rng: np.random.Generator) -> np.ndarray:
    """Rewards of 0 and 1, (B,), as a verifier reads them that is wrong with chance `flip`; for 0 nothing is drawn."""
    return np.where(rng.random(len(reward_B)) < flip, 1 - reward_B, reward_B) if flip else reward_B


def prefer_pairs(
    problem: TokenProblem,
    tokens: int,
    group: int,
    beta: float,
    rate: float,
    rng: np.random.Generator,
    flip: float = 0.0,
    level: float = float("inf"),
) -> tuple[np.ndarray, list[float]]:
    """DPO on pairs drawn as it goes, from a uniform table that is the reference: logits (N, V), and rewards before each step.

    Of each group of answers to a prompt the best is paired with the worst, the second best with the second worst, and so on
    while their rewards differ. beta: DPO's temperature. rate: Adam's. flip: chance that a verdict is the other one. level:
    of the expected reward, at which it stops.
    """
    from ...mdp import token_policy
    from ..group_pairs import matched
    from ..pair_batch import PairBatch, Sequences
    from ..preference_catalogue import preference
    from ..preference_kernel import evaluate_preference
    from ..testbeds.policies import TablePolicy
    from ..testbeds.rollout import draw, token_table

    policy, spec, spent, curve = TablePolicy(problem), preference("dpo", temperature=beta), 0, []
    optimiser = torch.optim.Adam(policy.parameters(), lr=rate)
    with torch.no_grad():
        reference_S = token_table(problem, policy.log_policy()).sum(1)
    while spent < tokens:
        with torch.no_grad():
            table = policy.log_policy()
        curve.append(token_policy.expected_reward(problem, table.numpy()))
        if curve[-1] >= level:
            break
        prompt = rng.choice(problem.n_prompts, p=problem.prompt_probability)
        drawn = draw(problem, table, np.repeat(prompt, group), rng)
        spent += int(problem.length[drawn].sum())
        pairs = matched(torch.tensor(verdicts(problem.reward[drawn], flip, rng)), torch.ones(group, dtype=torch.bool), group)
        if not len(pairs):
            continue
        chosen, rejected = drawn[pairs.numpy()].T
        log_policy = policy.log_policy()

        def side(rows: np.ndarray, log_policy: torch.Tensor = log_policy) -> Sequences:
            return Sequences(token_table(problem, log_policy, rows).sum(1), ref_B=reference_S[torch.from_numpy(rows)])

        optimiser.zero_grad()
        evaluate_preference(spec, PairBatch(side(chosen), side(rejected))).loss.backward()
        optimiser.step()
    return policy.logits.detach().numpy(), curve


class _Reached(Exception):  # noqa: N818 - an end, not an error
    """The level was reached; nothing more is learnt."""


def _outcome(spec: ObjectiveSpec, problem: TokenProblem, budget: int, flip: float, seed: int, rate: float, group: int) -> int:
    """Tokens before an objective of whole answers reaches 0.9 from a uniform table; the budget where it does not."""
    from ..testbeds.policies import TablePolicy
    from ..testbeds.training import Recipe, Step, TableCritic, train

    steps = []

    def watch(step: Step, reward: float) -> None:
        steps.append(step.number)
        if reward >= LEVEL:
            raise _Reached

    def read(step: Step, planned: Plan) -> Plan:
        reward_B = verdicts(problem.reward[step.sequences], flip, step.rng)
        return plan(spec, replace(planned.batch, reward_B=torch.tensor(reward_B)))

    recipe = Recipe(tokens=budget, prompts=1, group=group, rate=rate)
    critic = TableCritic(problem) if spec.critic is not None else None
    try:
        train(problem, TablePolicy(problem), spec, recipe, seed, log=watch, replan=read if flip else None, critic=critic)
    except _Reached:
        return steps[-1] * group * problem.horizon
    return budget


def _pairs(problem: TokenProblem, budget: int, flip: float, seed: int, rate: float, group: int) -> int:
    """The same of DPO on pairs, at temperature 0.1."""
    _, curve = prefer_pairs(problem, budget, group, 0.1, rate, np.random.default_rng(seed), flip, LEVEL)
    return (len(curve) - 1) * group * problem.horizon if curve[-1] >= LEVEL else budget


def _direct(n: int, problem: TokenProblem, budget: int, flip: float, seed: int, beta: float, rollouts: int) -> int:
    """The same of direct advantages with n completions a step."""
    from ...mdp import token_policy

    rng, spent = np.random.default_rng(seed), 0
    logits = np.zeros((problem.n_nodes, problem.vocabulary_size))
    while spent < budget:
        if token_policy.expected_reward(problem, logits) >= LEVEL:
            return spent
        logits, cost = improve(problem, logits, n, rollouts, beta, 0.1, rng, flip)
        spent += cost
    return budget


def _after_a_round(beta: float) -> Callable[[int], Mapping[str, float]]:
    """A run of `compare`: the expected reward after one round of 64 rollouts with 4 completions from a reference of about 0.8,
    by how often verdicts are wrong.
    """
    from ...mdp import token_policy
    from ...mdp.instances_testbeds import step_tree
    from ...solvers.direct_advantage import direct_advantage_step

    def run(seed: int) -> dict[str, float]:
        problem = step_tree(3, 6, seed)
        start = direct_advantage_step(problem, np.zeros((problem.n_nodes, problem.vocabulary_size)), 0.3)
        found = {"reward, reference": token_policy.expected_reward(problem, start)}
        for flip in (0.0, FLIP, 0.35):
            logits, _ = improve(problem, start, 4, 64, beta, 0.1, np.random.default_rng(seed), flip)
            found[f"reward after a round, {flip:g} wrong"] = token_policy.expected_reward(problem, logits)
        return found

    return run


def experiment(seeds: int = 10, tokens: int = 48_000) -> Comparison:
    """Tokens to a reward of 0.9 on step trees of depth 3 and 6, with few right leaves, and with wrong verdicts: direct
    advantages against GRPO, RLOO, PPO and DPO; and the reward after a round by temperature.

    Each method has a small grid of settings; a tree gets the one that is best on the other trees. An untuned GRPO is there too.
    """
    from ...mdp.instances_testbeds import step_tree
    from ..testbeds.comparison import compare

    beds: dict[str, tuple[Callable[[int], TokenProblem], int, float]] = {
        "depth 3": (lambda seed: step_tree(3, 3, seed), tokens // 12, 0.0),
        "depth 6": (lambda seed: step_tree(3, 6, seed), tokens, 0.0),
        "few right": (lambda seed: step_tree(3, 6, seed, right=0.005), tokens, 0.0),
        "wrong verdicts": (lambda seed: step_tree(3, 6, seed), tokens, FLIP),
    }
    trees = {(bed, seed): make(seed) for bed, (make, _, _) in beds.items() for seed in range(seeds)}
    means: dict[str, dict[str, dict[str, float]]] = {}

    def tuned(name: str, learn: Callable[..., int], words: str, grid: tuple[tuple[float, int], ...]):
        @cache
        def all_of(bed: str) -> np.ndarray:
            """Tokens by setting and seed."""
            _, budget, flip = beds[bed]
            found = np.array([[learn(trees[bed, s], budget, flip, s, *setting) for s in range(seeds)] for setting in grid])
            means.setdefault(name, {})[bed] = {
                words.format(*setting): round(float(x), 1) for setting, x in zip(grid, found.mean(1), strict=True)
            }
            return found

        def run(seed: int) -> dict[str, float]:
            found = {}
            for bed in beds:
                table = all_of(bed)
                best = np.delete(table, seed, axis=1).mean(1).argmin() if len(grid) > 1 else 0
                found[f"thousand tokens to 0.9, {bed}"] = table[best, seed] / 1000
            return found

        return run

    outcome = {
        "GRPO": partial(_outcome, objective("grpo", beta=0.0)),
        "RLOO": partial(_outcome, objective("rloo")),
        "PPO, a value a node": partial(_outcome, objective("ppo", value_clip=None)),
        "DPO on pairs": _pairs,
    }
    rates = tuple(product((0.3, 1.0, 3.0), (8, 16)))
    temperatures = tuple(product((0.02, 0.1), (1, 8)))
    methods = {name: tuned(name, learn, "rate {:g}, group {}", rates) for name, learn in outcome.items()}
    methods["GRPO, untuned"] = tuned("GRPO, untuned", outcome["GRPO"], "rate {:g}, group {}", ((0.1, 16),))
    for n in (1, 4, 16, 64):
        name = f"direct advantage, n = {n}"
        methods[name] = tuned(name, partial(_direct, n), "b = {:g}, rollouts {}", temperatures)
    methods |= {f"b = {b:g}": _after_a_round(b) for b in (0.002, 0.02, 0.1, 0.5, 1.0, 3.0)}
    found = compare(
        "Direct advantages against outcome rewards on step trees, equal sampled tokens",
        methods,
        "GRPO",
        seeds,
        "python -m banach.llm.systems dapo-direct",
        {"tokens": tokens, "testbed": "step_tree(3, depth)", "policy": "table", "gap": 0.1, "flip": FLIP},
    )
    return replace(found, settings={**found.settings, "mean tokens by setting": means})


DAPO_DIRECT = add(
    System(
        name="dapo-direct",
        title="Improving Multi-Step Reasoning Abilities of Large Language Models with Direct Advantage-Based Policy "
        "Optimization",
        authors="Liu, Wang et al.",
        year=2024,
        arxiv="2412.18279",
        summary="regresses the log-ratio of reasoning steps on a frozen critic's advantages, offline",
        optimizes="the KL-regularised value, not at its optimum q e^(A/b) but at the optimum pi+ of the regression, which is "
        "no worse at any state, regularised or not, where every step is explored and the advantages are exact. A wrong critic "
        "that keeps the order of the steps leaves the plain reward no worse where steps are explored as the reference takes "
        "them, or there are two of them; the regularised value may fall",
        objective="dapo_direct",
        parts=("dapo_direct", "LogRatioRegression", "Tempered", "GapFilter", "step_numbers", "unique_steps"),
        reductions=(
            Reduction(
                "at the reference: the score function with centred rewards over the temperature",
                "dr_grpo",
                dapo_direct(beta=0.5, gap=0.0),
                objective("dr_grpo", budget=1),
                ("on the policy",),
                factor=2.0,
            ),
        ),
        findings=(
            "Coverage is needed: with nu = (.5, .5, 0, 0), q = (.3, .3, .3, .1), Q = (0, 0, -.5, 2), b = .5 a minimiser that "
            "puts the remaining 0.457 on the third action has regularised improvement -0.348.",
            "Deduplicating steps makes exploration uniform: from three steps on E A = ((M - 1)/M) A fails.",
            "A critic that reverses two actions turns the improvement negative; one that exaggerates the gap can: with q = "
            "(.04, .96), nu = (.93, .07), b = .5 half as much again is enough, -0.108.",
            "With three actions keeping their order is not enough: q = (.2, .1, .7), a critic (0, .72, .73) of Q = (0, .01, "
            "1), uniform exploration, b = .02: pi+ = (0, .418, .582) and the plain reward falls by 0.115. With nu = q it "
            "cannot fall: log(pi+/q) + l pi+/q = A'/b makes pi+/q increase with the critic's A', so in the order of A.",
            "A mean over a step's tokens in place of the sum multiplies its advantage by its length: with exact advantages of "
            "steps of one and three tokens the regularised value then falls where the sum raises it.",
        ),
        published=(
            "MATH: Llama-3.1-8B-Instruct 49.42 to 53.62 (GRPO 52.28, PPO 52.41); OpenO1-8B 52.73 to 60.33",
            "Qwen2-Math-7B-Instruct 74.46, 75.41, 76.40 in two rounds; Qwen2.5-Math-7B-Instruct 83.42 to 84.86; Qwen2.5-72B "
            "82.9 to 84.7",
            "b = .002, .01, .02, .05, .1: 44.52, 46.88, 46.70, 45.56, 44.50 from 41.90",
            "8 completions a step 75.30, 16 of them 75.41",
            "a loss: OpenO1-8B on LiveCodeBench 16.1 to 13.7",
        ),
        measured="Tokens to a reward of 0.9 on ten step trees, each method with the setting of a small grid that is best on "
        "the other trees. Outcome rewards need fewer: GRPO 26 at depth 3, 58 at depth 6 and 197 there with a fifth of the "
        "verdicts wrong, against 61, 649 and 794 for direct advantages with one completion a step and 125, 1408 and 1795 with "
        "4. Where one leaf in 200 is right the interval does not separate them, 2482 against 2311 and 4144. 16 and 64 "
        "completions need more on every tree. RLOO and DPO on pairs are within the interval of GRPO, PPO with a value a node "
        "is never ahead. Against GRPO as first tried, at a rate of 0.1 and in groups of 16, 4 completions need fewer tokens "
        "by a factor of 7.6 at depth 3 and 3.0 at depth 6: an untuned baseline, and no gain from depth. The trees are easy: "
        "there is one prompt, and a right leaf that was found need only be repeated. One round from a reference of 0.80, by "
        "temperature: with right verdicts 0.91 at b = .002 and .02, then falling to 0.82 at 3; with 35 in 100 wrong best at "
        "1, +0.009, where .1 and below show no gain. The published inverted U needs a critic that errs.",
        bounds=(
            "regressing log-ratios improves the regularised value by a known amount",
            "the tilted policy improves the regularised value more than the regression",
            "a critic that keeps the order raises the reward where steps are explored as the reference takes them",
        ),
        experiment=experiment,
    )
)
