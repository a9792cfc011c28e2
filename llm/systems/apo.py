r"""APO: one model with cheap and expensive modes, forced rollouts in each, and a charge on expense where it is not needed.

The reward is that of `banach.llm.modes`; the rest is GRPO without a divergence, tokens averaged, tags of forced rollouts and
tools masked. In a large group an easy query is routed to the cheapest mode exactly where its accuracy is at least (1 - p^alpha)
times the best of the others; a query that is not easy to the most accurate mode.

Q. Chen et al. 2025, A^2FM, arXiv 2510.12838.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..advantage import GroupAdvantage
from ..aggregation import Aggregation
from ..batch import TokenBatch
from ..catalogue import Objective, Probe, objective, register
from ..modes import LeaveOneOutModes, ModeCost, Source, best_mode, cost_of_pass, silent_groups, without_tags
from ..objective import ObjectiveSpec
from ..plan import plan
from ..ratio import Ratio
from ..surrogate import ClippedRatio
from .system import Reduction, System, add

if TYPE_CHECKING:
    from ..testbeds.comparison import Comparison


def apo(
    tau: float,
    alpha: float = 2.0,
    source: Source = "all-forced",
    gate: bool = True,
    leave_one_out: bool = False,
    threshold: float = 1.0,
    low: float = 0.2,
    high: float = 0.2,
    ddof: int = 1,
    aggregation: Aggregation = Aggregation("token-mean"),  # noqa: B008 - frozen
) -> ObjectiveSpec:
    """GRPO's advantages of charged rewards. tau, alpha, source, gate, threshold: of `ModeCost`; tau is not printed, 1/2 is
    usual.

    leave_one_out: advantages by `LeaveOneOutModes`, centred and not scaled, which forced rollouts need to be unbiased. low,
    high: clip. ddof: of the group's deviation, 0 or 1.
    aggregation: of tokens. The mean over the batch's tokens is published; it divides by a number that moves with modes and
    outcomes, so that what is exact for answers of one length needs sequence-mean-token-sum, or its form with a constant, where
    lengths differ.
    """
    cost = ModeCost(tau, alpha, source, gate, threshold)
    grouped = GroupAdvantage("group-mean", "group-std", ddof)  # pyright: ignore[reportArgumentType]
    return ObjectiveSpec(
        "apo",
        LeaveOneOutModes(cost) if leave_one_out else grouped,
        ClippedRatio(low, high),
        Ratio("token"),
        aggregation,
        rewards=() if leave_one_out else (cost,),
    )


def _modes_by_length(batch: TokenBatch) -> TokenBatch:
    """Where a group has no short answer to say whether it is easy, nobody pays."""
    long_B = batch.length_B > 2
    some_B = torch.isin(batch.group_B, batch.group_B[~long_B & (batch.length_B > 0)])
    return replace(batch, mode_B=(long_B & some_B).long(), forced_B=torch.ones_like(long_B))


register(
    Objective(
        "apo",
        apo,
        "Chen et al. 2025, arXiv 2510.12838",
        example={"tau": 0.5},
        variants={
            "without a gate": {"gate": False, "alpha": 1.0},
            "instant": {"source": "instant", "threshold": 0.5, "tau": 0.2},
            "frozen": {"source": 0.5, "gate": False},
            "left out": {"leave_one_out": True, "tau": 0.2, "aggregation": Aggregation("sequence-mean-token-sum")},
        },
        probe=Probe(
            ("mode_B", "forced_B"),
            "answers of at most two tokens are in the cheapest mode, longer ones in a dear one if a group has both, all forced",
            _modes_by_length,
        ),
    )
)

HYBRID = {
    "fact": (0.9, 0.95, 0.95),
    "chain": (0.1, 0.9, 0.6),
    "hidden key": (0.02, 0.05, 0.9),
    "just hard": (0.5, 0.56, 0.56),
    "just easy": (0.51, 1.0, 1.0),
    "one good mode": (0.7, 0.9, 0.1),
    "guess": (0.3, 0.38, 0.36),
}
"""Accuracies of the modes instant, reasoning and agentic on kinds of queries: three that are far from any switch, one on either
side of a gate at 1/2, one whose mode depends on alpha, and a hard one of which a plain penalty on cost makes an easy one."""

COSTS = (1.0, 6.0, 10.0)
"""Cost of an answer in each mode."""

FEE = 5.0
"""Cost of a call of the tool, in tokens."""

RATE, COLLAPSED = 0.05, -8.0
"""Step of Adam; logit of the agentic mode in a router that never asks a tool."""


@dataclass(frozen=True)
class _Arm:
    """A method of the experiment. rho: forced rollouts a mode. adaptive: free ones. penalty: share of the reward that a unit of
    cost takes. start: logit of the agentic mode at the beginning. still: whether the rates of `cost` are told, a query each.
    words: whether it trains answers too.
    """

    spec: Callable[[ModeCost], ObjectiveSpec]
    cost: ModeCost
    rho: int = 3
    adaptive: int = 3
    penalty: float = 0.0
    start: float = 0.0
    still: bool = False
    words: bool = False

    def told(self, rate: np.ndarray) -> ModeCost:
        """The charge, with the success rates (P,) of the queries if it is told them."""
        return replace(self.cost, source=dict(enumerate(rate.tolist()))) if self.still else self.cost

    def modes(self, queries: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Query, mode and whether it is forced, of every rollout of a step, (B,); free ones are still to choose."""
        size = 3 * self.rho + self.adaptive
        query = np.repeat(np.arange(queries), size)
        mode = np.tile(np.r_[np.repeat(np.arange(3), self.rho), np.zeros(self.adaptive, int)], queries)
        return query, mode, np.tile(np.arange(size) < 3 * self.rho, queries)


def _route(arm: _Arm, budget: float, seed: int) -> dict[str, float]:
    """Train a tabular router, one row of logits a kind of query, until sampled answers have cost the budget. Answers are right
    with the table's probabilities."""
    rng, best, price = np.random.default_rng(seed), np.array(list(HYBRID.values())), np.array(COSTS)
    kinds, cost = len(best), arm.told(best.mean(1))
    query, mode, forced = arm.modes(kinds)
    spec = arm.spec(cost)
    logits = torch.zeros(kinds, 3, dtype=torch.float64)
    logits[:, 2] = arm.start
    optimiser = torch.optim.Adam([logits.requires_grad_()], lr=RATE)
    answer = torch.full((len(query),), -1.0, dtype=torch.float64)  # its policy stands still
    spent, steps, silent = 0.0, 0, np.zeros(2)
    while spent < budget:
        table = logits.log_softmax(-1)
        below = table.detach().exp().numpy()[query[~forced]].cumsum(1)[:, :2]
        mode[~forced] = (rng.random(len(below))[:, None] > below).sum(1)
        right = (rng.random(len(query)) < best[query, mode]).astype(float)
        chosen = torch.stack([table[query, mode], answer], 1)
        batch = TokenBatch(
            logp_BT=chosen,
            logp_old_BT=chosen.detach(),
            mask_BT=without_tags(torch.ones(len(query), 2, dtype=torch.bool), torch.tensor(forced), 1),
            reward_B=torch.tensor(right * (1 - arm.penalty * price[mode])),
            group_B=torch.tensor(query),
            mode_B=torch.tensor(mode),
            forced_B=torch.tensor(forced),
        )
        optimiser.zero_grad()
        plan(spec, batch).evaluate().loss.backward()
        optimiser.step()
        spent, steps = spent + float(price[mode].sum()), steps + 1
        if not arm.penalty:
            causes = silent_groups(cost, batch)
            silent += [causes["nothing right"], sum(causes.values())]
    route = logits.detach().softmax(-1).numpy()
    success, paid = float((route * best).sum() / kinds), float((route @ price).mean())
    tau, dear = cost.tau if cost.gate else None, route.argmax(1) > 0
    limit, own = (
        [best_mode(a, cost.alpha, True, float(a.mean()) if arm.still else "all-forced", rho, tau) > 0 for a in best]
        for rho in (None, max(arm.rho, 1))
    )
    found = {"accuracy": success, "cost of a pass": cost_of_pass(paid, success), "cost": paid, "steps": float(steps)}
    found |= {f"not instant, {name}": float(1 - route[k, 0]) for k, name in enumerate(HYBRID)}
    found |= {f"agentic, {name}": float(route[k, 2]) for k, name in enumerate(list(HYBRID)[:3])}
    found |= {"like the limit": float((dear == limit).mean()), "like its rho": float((dear == own).mean())}
    if not arm.penalty:
        found |= {"groups without a right answer": silent[0] / steps / kinds, "silent groups": silent[1] / steps / kinds}
    return found


def _write(arm: _Arm, budget: float, seed: int) -> dict[str, float]:
    """Train tags and answers of `hybrid_tasks`, a table half fitted to accepted answers in every mode, until the tokens sampled
    and the fees of the tool cost the budget. What is told is exact, by enumeration."""
    from ...mdp.instances_modes import answer_modes, hybrid_tasks
    from ...mdp.token_policy import sequence_probability
    from ..testbeds.policies import TablePolicy
    from ..testbeds.rollout import batch_of, draw
    from ..testbeds.training import warm_start

    problem, rng = hybrid_tasks(), np.random.default_rng(seed)
    modes, accepted = answer_modes(problem), problem.reward == 1
    price = (problem.token >= 0).sum(1) + FEE * (modes == 2)
    kind = np.unique([name for name, _ in problem.prompts], return_inverse=True)[1]  # chain, fact, hidden key
    corpus = np.zeros(problem.n_sequences)
    for prompt, share in enumerate(problem.prompt_probability):
        for m in range(3):
            mine = accepted & (problem.prompt == prompt) & (modes == m)
            corpus[mine] = share / 3 * problem.environment_probability[mine] / problem.environment_probability[mine].sum()
    policy = warm_start(problem, TablePolicy(problem), corpus, steps=30, rate=0.1)

    def measured() -> tuple[np.ndarray, np.ndarray, float, float]:
        """Chance and success of a mode given the kind, (3, 4) with no mode last, accuracy and cost."""
        chance = problem.prompt_probability[problem.prompt] * sequence_probability(problem, policy.logits.detach().numpy())
        routed, solved = np.zeros((3, 4)), np.zeros((3, 4))
        np.add.at(routed, (kind[problem.prompt], modes), chance)
        np.add.at(solved, (kind[problem.prompt], modes), chance * accepted)
        return routed / routed.sum(1, keepdims=True), solved / routed, float(chance @ accepted), float(chance @ price)

    start = measured()[1]
    cost = arm.told(start[kind, :3].mean(1))
    query, mode, forced = arm.modes(problem.n_prompts)
    spec, words, optimiser = arm.spec(cost), problem.vocabulary_size - 5, torch.optim.Adam(policy.parameters(), lr=RATE)
    roots, spent = torch.arange(problem.n_prompts), 0.0
    sequences = np.zeros(len(query), dtype=np.int64)
    while spent < budget:
        table = policy.log_policy()
        for m in range(3):
            tagged = table.detach().clone()
            tagged[roots] = -torch.inf
            tagged[roots, words + m] = 0.0
            mine = forced & (mode == m)
            sequences[mine] = draw(problem, tagged, query[mine], rng)
        sequences[~forced] = draw(problem, table.detach(), query[~forced], rng)
        known = {"mode_B": torch.from_numpy(modes[sequences]), "forced_B": torch.from_numpy(forced)}
        batch = batch_of(problem, sequences, query, table, table, **known)
        batch = batch.renewed(
            mask_BT=without_tags(batch.mask_BT, torch.from_numpy(forced), 1),
            reward_B=batch.reward_B * torch.tensor(1 - arm.penalty * price[sequences]),
        )
        optimiser.zero_grad()
        plan(spec, batch).evaluate().loss.backward()
        optimiser.step()
        spent += float(price[sequences].sum())
    routed, solved, success, paid = measured()
    found = {"accuracy, words": success, "cost of a pass, words": cost_of_pass(paid, success)}
    for k, (name, mode_name, m) in enumerate((("chain", "reasoning", 1), ("fact", "instant", 0), ("hidden key", "agentic", 2))):
        found |= {f"not instant, {name}, words": float(1 - routed[k, 0]), f"{mode_name} right, {name}": float(solved[k, m])}
    return found | {"dear right, fact": float(solved[1, 1:3].mean()), "dear right at first, fact": float(start[1, 1:3].mean())}


def experiment(seeds: int = 5, budget: float = 240_000.0, words: float = 60_000.0) -> Comparison:
    """A tabular router on seven kinds of queries, at equal cost of what is sampled: accuracy only, with and without forced
    rollouts, a penalty on cost, APO at three alphas and two rhos, without a gate, left out, with rates that stand still, and
    from a router that never asks a tool. Some train the answers of a token problem too, "words"."""
    from ..testbeds.comparison import compare

    plain, free = objective("grpo", beta=0.0, aggregation=Aggregation("token-mean")), ModeCost(1.0)

    def charged(alpha: float = 2.0, gate: bool = True, out: bool = False, sums: bool = False, **more: Any) -> _Arm:
        whole = Aggregation("sequence-mean-token-sum" if sums else "token-mean")
        return _Arm(
            lambda cost: apo(cost.tau, cost.alpha, cost.source, cost.gate, out, aggregation=whole),
            ModeCost(0.5, alpha, gate=gate),
            **more,
        )

    arms = {
        "GRPO, accuracy only": _Arm(lambda _: plain, free, 0, 12, words=True),
        "GRPO, 9 of 12 forced": _Arm(lambda _: plain, free, words=True),
        "GRPO, reward less 6 % a unit of cost": _Arm(lambda _: plain, free, 0, 12, 0.06, words=True),
        "APO, alpha 1": charged(1.0),
        "APO, alpha 2": charged(words=True),
        "APO, alpha 4": charged(4.0),
        "APO, alpha 1, rho 1": charged(1.0, rho=1),
        "APO, alpha 2, rho 1": charged(rho=1, words=True),
        "APO, alpha 4, rho 1": charged(4.0, rho=1),
        "APO, alpha 2, no gate": charged(gate=False, words=True),
        "APO, alpha 2, left out": charged(out=True, words=True),
        "APO, alpha 2, left out, sums": charged(out=True, sums=True, words=True),
        "APO, alpha 2, rates that stand still": charged(still=True, words=True),
        "GRPO, collapsed router": _Arm(lambda _: plain, free, 0, 12, start=COLLAPSED),
        "APO, alpha 2, collapsed router": charged(start=COLLAPSED),
    }

    def run(arm: _Arm, seed: int) -> dict[str, float]:
        return _route(arm, budget, seed) | (_write(arm, words, seed) if arm.words else {})

    settings = {"budget": budget, "words": words, "accuracies": str(HYBRID), "costs": str(COSTS), "fee": FEE, "rate": RATE}
    return compare(
        "APO's router on hybrid tasks, equal cost of sampling",
        {name: partial(run, arm) for name, arm in arms.items()},
        "GRPO, accuracy only",
        seeds,
        "python -m banach.llm.systems apo",
        settings | {"collapsed": COLLAPSED},
    )


APO = add(
    System(
        name="apo",
        title="A^2FM: An Adaptive Agent Foundation Model for Tool-Aware Hybrid Reasoning",
        authors="Q. Chen et al.",
        year=2025,
        arxiv="2510.12838",
        summary="forced rollouts in every mode, and a charge on expensive modes where the cheapest already solves the query",
        optimizes="for the router, with centred advantages and tokens summed, exactly the accuracy in which modes other "
        "than the instant one count 1 - E[p^alpha 1[easy]] as much; not quite with the published deviation and mean over "
        "tokens, nor for forced answers, whose outcomes move the charge",
        objective="apo",
        parts=("apo", "ModeCost", "LeaveOneOutModes", "without_tags", "best_mode", "cost_of_pass", "silent_groups"),
        reductions=(
            Reduction(
                "every answer in the cheapest mode",
                "grpo with the token mean",
                apo(0.5),
                objective("grpo", beta=0.0, aggregation=Aggregation("token-mean")),
                ("cheapest mode",),
            ),
        ),
        findings=(
            "Success rates of the group that is reweighted bias forced gradients, up or down. Two modes of accuracy 1/2, "
            "one forced rollout each, alpha 2, no gate: 11/64 and 3/64 a rollout where a charge of the same mean that "
            "stands still gives 8/64 and 5/64, +38 and -40 %. Accuracies (.4, .7, .8), rho 2, one adaptive rollout: +14, "
            "+7, +10 %; (.9, .9, .9): +20, +73, +73 %. With the gate at 1/2 and rho 2: (.9, .95, .95): +62, +53, +53 %. "
            "Leave-one-out is exact.",
            "The gate of few rollouts is an error of its own: accuracies (.45, .5, .3) are not easy, and yet at alpha 2, "
            "tau 1/2 the best mode is worth .440 at rho 3, .408 at rho 1, less than .45: the router ends in the instant "
            "mode. An easy one, (.52, .98, .98), ends in a dear mode at rho 3.",
            "The published mean over tokens costs the router its exactness where lengths differ: no charge, accuracies (.4, "
            ".7, .8), answers of 1, 6 and 10 tokens: gradient over truth (.036, .051, .030), cosine .991. Tokens summed are "
            "exact.",
            "Without the gate heavy modes are charged where the cheapest never works: a_I = 0 and two perfect modes give p "
            "= 2/3, factor .556.",
            "E p^2 is too large by sum a(1 - a)/(9 rho): .0278 at rho 3, accuracies 1/2.",
            "Cost of a pass alone prefers giving up: accuracies (1, 1) and (0, 1), costs (1, 10): adaptive 5.5 against "
            "instant 2.",
            "Forcing a mode does not repair a collapsed router in the mean: its gradient is still scaled by its "
            "probability. Adam divides that out: with forced rollouts our router comes back to the tool, with none never, "
            "for then the advantages of the free ones sum to zero.",
        ),
        published=(
            "cost of a correct answer -45.2 % against reasoning alone, -33.5 % against agents alone (SuperGPQA: 0.00487 "
            "dollars against 0.00889 and 0.00732)",
            "adaptive is at most the best single mode on 8 of 9 benchmarks: the gain is cost",
            "adaptive reward on SuperGPQA: instant share 50.2 to 58.6 %, score 55.6 to 54.7; instant on 61.1 % of easy and "
            "8.3 % of hard queries",
            "at the end accuracy 53.8 % with 77.1 % not instant, best mode for each query 55.4 % at 100 %",
            "two modes against three, 200 queries: pass@2 67.0 at 0.00812 dollars against 62.5 at 0.00432",
            "APO over fine-tuning: XBench 51 to 56, MATH500 84 to 95, HLE 11 to 16.7",
            "the router agrees with people on 92.2 % of GAIA, 94.0 % of BrowseComp, all of AIME",
        ),
        measured="At equal cost of sampling APO's router (alpha 2, rho 3) sends facts to the instant mode (not instant: 0.2 "
        "% against 99 % for accuracy alone), chains to reasoning and hidden keys to the tool as before. Over seven kinds of "
        "queries, four of them near a switch, the cost of a pass falls by 31 % and accuracy by 4.8 points; at rho 1, in "
        "twice the steps, by 37 % and 9.4 points. The router ends where its own group's mean charge sends it (7 of 7 "
        "kinds), not where a large group's would (5 of 7): a query that is not easy, (.5, .56, .56), is answered in the "
        "instant mode (not instant: 10 %, accuracy alone 97 %), an easy one, (.51, 1, 1), in a dear one (92 %). Alpha moves "
        "(.7, .9, .1): not instant 5 % at 2, 97 % at 4. Leaving rates out changes nothing beyond the interval, for routers "
        "or answers that learn. A plain penalty, 6 % of the reward a unit of cost, is as accurate and cheaper, 5.2 against "
        "6.5 a pass, but gives up a hard query, (.3, .38, .36): not instant 17 % against 97 %. From a router that never "
        "asks the tool, APO comes back to it on hidden keys, GRPO does not. Where answers learn, APO keeps accuracy and "
        "cuts the cost of a pass by 12 %, and, under Adam, charged modes forget: dear answers to facts, 93 % right at "
        "first, end at 69 %, at rho 1 at 55 %, with accuracy alone at 98 %, though with rates left out the mean gradient "
        "points up.",
        bounds=(
            "a router's cost of a pass lies between its modes'",
            "the square of a success rate is too large by its variance",
            "an adaptive rollout gives the router the slope of the charged accuracy",
        ),
        experiment=experiment,
    )
)
