r"""EAPO: every round of a research agent is a sample, its reward the outcome discounted by the rounds that were still to come.

The reward transform is `banach.llm.rounds.RoundDiscount`, the ratio the geometric mean of one round's decision, the group all
rounds of all trajectories to a question. At discount 1 the rounds of a trajectory share one advantage, and the group's mean is
weighted by lengths, which GRPO's is not. The workspace is `banach.llm.workspace.Workspace`.

G. Chen et al. 2025, arXiv 2511.07327.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch

from ...mdp import token_policy
from ...mdp.token import TokenProblem
from ..advantage import GroupAdvantage
from ..aggregation import Aggregation
from ..batch import TokenBatch
from ..catalogue import Objective, Probe, objective, register
from ..objective import ObjectiveSpec
from ..plan import plan
from ..ratio import Ratio
from ..rounds import RoundDiscount, SpreadGroups, downsampled
from ..surrogate import ClippedRatio
from ..workspace import Workspace
from .system import Reduction, System, add

if TYPE_CHECKING:
    from ..testbeds.comparison import Comparison


def eapo(
    discount: float = 0.995,
    low: float = 3e-4,
    high: float = 4e-4,
    ddof: int = 1,
    epsilon: float = 0.0,
    unusual_clip: bool = False,
) -> ObjectiveSpec:
    """GSPO on rounds with discounted outcomes, groups without spread left out of the mean.

    discount: a round's. low, high: clip (not printed; GSPO's).
    ddof, epsilon: of the group's deviation; an epsilon damps groups that are all right, which else carry a gradient of full
    strength at any discount below 1.
    """
    return ObjectiveSpec(
        "eapo",
        GroupAdvantage("group-mean", "group-std", ddof, epsilon),  # pyright: ignore[reportArgumentType]
        ClippedRatio(low, high),
        Ratio("sequence-geometric"),
        Aggregation("sequence-mean-token-mean"),
        rewards=(RoundDiscount(discount),),
        filters=(SpreadGroups(),),
        unusual_clip=unusual_clip,
    )


def _rounds_by_length(batch: TokenBatch) -> TokenBatch:
    return replace(batch, rounds_left_B=(batch.length_B - 1).clamp(min=0))


register(
    Objective(
        "eapo",
        eapo,
        "Chen et al. 2025, arXiv 2511.07327",
        reward_degree=0,
        shift_invariant=True,
        variants={"steep": {"discount": 0.5, "low": 0.04, "high": 0.05}, "undiscounted": {"discount": 1.0}},
        probe=Probe(("rounds_left_B",), "an answer of n tokens is a round with n - 1 more to come", _rounds_by_length),
    )
)


def round_batch(
    problem: TokenProblem, sequences: np.ndarray, groups: np.ndarray, log_policy: torch.Tensor, old: torch.Tensor
) -> TokenBatch:
    """A row for each round of some sequences, (n,) with groups (n,): a run of the policy's tokens. Tables (N, V)."""
    turn = problem.turn[sequences]
    row, place = np.nonzero(turn >= 0)
    _, first, at = np.unique(row * problem.horizon + turn[row, place], return_index=True, return_inverse=True)
    column = place - place[first][at]
    mask = np.zeros((len(first), int(column.max()) + 1), dtype=bool)
    node, token = np.zeros((2, *mask.shape), dtype=np.int64)
    mask[at, column] = True
    node[at, column] = problem.node[sequences][row, place]
    token[at, column] = problem.token[sequences][row, place]
    of = row[first]
    left = turn.max(axis=1)[of] - turn[of, place[first]]
    cells = torch.from_numpy(node), torch.from_numpy(token)
    return TokenBatch(
        logp_BT=log_policy[cells],
        logp_old_BT=old.detach()[cells],
        mask_BT=torch.from_numpy(mask),
        reward_B=torch.tensor(problem.reward[sequences][of]),
        group_B=torch.tensor(np.asarray(groups, dtype=np.int64)[of]),
        rounds_left_B=torch.from_numpy(left.astype(np.int64)),
    )


def report_states(problem: TokenProblem, window: int | None = None) -> np.ndarray:
    """What each node of `lookup_research` looks like, (N,): the question and the hops found, as a report keeps them.

    window: rounds that a growing context can hold; beyond them question and hops are lost, one state for all.
    """

    def seen(prompt: int, results: list[int]) -> tuple[int, ...]:
        return (prompt, min(results.count(2), 50)) if window is None or len(results) < window else ()

    return _states(problem, seen)


def sliding_states(problem: TokenProblem, window: int) -> np.ndarray:
    """What each node of `lookup_research` looks like, (N,), to a context of the question and `window` results, >= 1."""
    return _states(problem, lambda prompt, results: (prompt, *results[-window:]))


def _states(problem: TokenProblem, seen: Callable[[int, list[int]], tuple[int, ...]]) -> np.ndarray:
    number: dict[tuple[int, ...], int] = {}
    state = np.zeros(problem.n_nodes, dtype=np.int64)
    for s in range(problem.n_sequences):
        for t in np.flatnonzero(problem.mask[s]).tolist():
            key = seen(int(problem.prompt[s]), problem.token[s, 1:t:2].tolist())
            state[problem.node[s, t]] = number.setdefault(key, len(number))
    return state


Read = tuple[tuple[int, ...], int]
"""Tokens of a workspace, and how many marks this decision has written so far."""

Seen = tuple[np.ndarray, np.ndarray, list[Read]]
"""What `workspace_states` finds."""


def workspace_states(problem: TokenProblem, capacity: int) -> Seen:
    """What each node of `written_research` looks like through a `Workspace` whose report holds `capacity` marks.

    States (N,); reports that were cut before the last decision of each sequence, (S,); and what each state reads.
    """
    number: dict[Read, int] = {}
    tree, size = problem.tree, problem.vocabulary_size
    state, cut = np.zeros(problem.n_nodes, dtype=np.int64), np.zeros(tree.n_edges)
    at: list[tuple[Workspace, tuple[int, ...]]] = [(Workspace((hops,), capacity, 1, 1), ()) for hops in problem.prompts]
    for edge, (parent, token, index) in enumerate(zip(tree.parent, tree.token, problem.edge_index.tolist(), strict=True)):
        space, said = at[parent]
        if index >= 0:
            state[index // size] = number.setdefault((space.tokens, len(said)), len(number))
            cut[edge] = space.overflowed
            at.append((space, (*said, int(token))))
        else:
            at.append((space.next(said[:-1], said[-1:], (int(token),)) if said else space, ()))
    last = problem.horizon - 1 - problem.mask[:, ::-1].argmax(axis=1)
    return state, cut[tree.edge[np.arange(problem.n_sequences), last]], list(number)


def counted(read: Read) -> int:
    """The token of a policy that writes a mark for every hit it knows of, and answers once there are as many as hops."""
    (hops, *rest), written = read
    found = rest.count(2) + (len(rest) > 1 and rest[-1] == 1)
    return 1 if found >= hops else 2 if written < found else 0


RATE, WRITING_RATE = 0.03, 0.1
"""Steps of Adam."""

ALLOWED = (2, 3, 4, 5)
"""Turns at which success is read off."""


@dataclass(frozen=True)
class _Arm:
    """A method of the experiment.

    spec: its objective. states: what the policy sees where the report is told, or None. capacity: of the one that it writes.
    shards: rows are cut to a multiple of them, None for not at all. shown: whether it starts from the counting policy and the
    uniform one, half of each. times: how often the tokens of the others it samples.
    """

    spec: ObjectiveSpec
    states: Callable[[TokenProblem], np.ndarray] | None = None
    capacity: int = 0
    shards: int | None = 8
    shown: bool = False
    times: int = 1


@dataclass(frozen=True)
class _Trained:
    """logits: (N, V). silent: share of the groups that were all right, and all wrong. steps: updates."""

    logits: np.ndarray
    silent: tuple[float, float]
    steps: int


def _train(
    problem: TokenProblem, arm: _Arm, states: np.ndarray, start: np.ndarray, rate: float, tokens: int, seed: int
) -> _Trained:
    """Train a table of states, logits (states, V) at the start, until the policy's tokens and the results, one a round, are as
    many as `tokens`."""
    from ..testbeds.rollout import draw

    rng, state = np.random.default_rng(seed), torch.tensor(states)
    logits = torch.tensor(start, requires_grad=True)
    optimiser, groups = torch.optim.Adam([logits], lr=rate), np.repeat(np.arange(4), 8)
    spent, steps, silent = 0, 0, np.zeros(2)
    while spent < tokens:
        table = logits[state].log_softmax(-1)
        prompts = np.repeat(rng.choice(problem.n_prompts, 4, p=problem.prompt_probability), 8)
        sequences = draw(problem, table, prompts, rng)
        right = problem.reward[sequences].reshape(4, 8)
        silent += [right.all(1).mean(), (right == 0).all(1).mean()]
        batch = round_batch(problem, sequences, groups, table, table)
        spent, steps = spent + int(batch.mask_BT.sum()) + len(batch.reward_B), steps + 1
        planned = plan(arm.spec, batch)
        if not planned.mask_BT.any():
            continue
        if arm.shards is not None:
            planned = downsampled(planned, arm.shards, rng)
        optimiser.zero_grad()
        planned.evaluate().loss.backward()
        optimiser.step()
    return _Trained(logits.detach().numpy()[states], tuple(silent / steps), steps)


def _told(problem: TokenProblem, arm: _Arm, tokens: int, seed: int) -> dict[str, float]:
    """Train where the report is the question and the hops found, whatever the policy does; exact numbers of the result."""
    assert arm.states is not None
    states = arm.states(problem)
    start = np.zeros((int(states.max()) + 1, problem.vocabulary_size))
    start[:, 2:] = -6.0
    trained = _train(problem, arm, states, start, RATE, tokens, seed)
    chance = problem.prompt_probability[problem.prompt] * token_policy.sequence_probability(problem, trained.logits)
    right, rounds = chance * problem.reward, problem.turn.max(axis=1) + 1
    found = {"success": float(right.sum()), "turns": float(chance @ rounds)}
    found |= {f"success within {allowed} turns": float(right[rounds <= allowed].sum()) for allowed in ALLOWED}
    each = token_policy.prompt_reward(problem, trained.logits)
    found |= {f"success, hops {hops}": float(p) for hops, p in zip(problem.prompts, each, strict=True)}
    silent = dict(zip(("groups all right", "groups all wrong"), trained.silent, strict=True))
    return found | silent | {"steps": float(trained.steps)}


def _written(problem: TokenProblem, arm: _Arm, seen: Seen, tokens: int, seed: int) -> dict[str, float]:
    """Train where the policy writes the report itself, and reads it through a workspace; exact numbers of the result."""
    states, cut, reads = seen
    start = np.zeros((len(reads), problem.vocabulary_size))
    start[:, 2:] = -1.0, -6.0
    if arm.shown:
        start = np.log(0.5 * np.exp(start) / np.exp(start).sum(1, keepdims=True) + 0.5 * np.eye(4)[[*map(counted, reads)]])
    trained = _train(problem, arm, states, start, WRITING_RATE, tokens, seed)
    chance = problem.prompt_probability[problem.prompt] * token_policy.sequence_probability(problem, trained.logits)
    found = {"success at first, written": token_policy.expected_reward(problem, start[states])}
    found |= {"success, written": float(chance @ problem.reward), "turns, written": float(chance @ (problem.turn.max(1) + 1))}
    each = token_policy.prompt_reward(problem, trained.logits)
    found |= {f"success, hops {hops}, written": float(p) for hops, p in zip(problem.prompts, each, strict=True)}
    return found | {"reports cut": float(chance @ cut)}


def experiment(seeds: int = 5, tokens: int = 80_000, written: int = 120_000) -> Comparison:
    """Chains of 1, 2 and 4 hops at equal sampled tokens, some with three times as many: a report that is told, with GSPO and
    EAPO, without the deviation, with an epsilon, without the cut to shards; a growing context that holds 3 rounds, and contexts
    of the question and the last results. And chains of 1, 2 and 3 hops with a report that the policy writes, of several
    capacities.
    """
    from ...mdp.instances_testbeds import lookup_research, written_research
    from ..testbeds.comparison import compare

    told, own = lookup_research(), written_research()
    seen = {capacity: workspace_states(own, capacity) for capacity in (0, 1, 2)}
    gspo, mild = eapo(1.0), eapo(0.97)
    arms = {
        "report, GSPO": _Arm(gspo, report_states),
        "report, GSPO, no deviation": _Arm(_centred(gspo), report_states),
        "report, EAPO 0.995": _Arm(eapo(0.995), report_states),
        "report, EAPO 0.97": _Arm(mild, report_states),
        "report, EAPO 0.9": _Arm(eapo(0.9), report_states),
        "report, EAPO 0.6": _Arm(eapo(0.6), report_states),
        "report, EAPO 0.97, no deviation": _Arm(_centred(mild), report_states),
        "report, EAPO 0.97, epsilon 0.5": _Arm(eapo(0.97, epsilon=0.5), report_states),
        "report, EAPO 0.97, not cut": _Arm(mild, report_states, shards=None),
        "growing context, GSPO": _Arm(gspo, partial(report_states, window=3)),
    }
    arms |= {f"last {w} results, GSPO": _Arm(gspo, partial(sliding_states, window=w)) for w in (1, 2, 4, 6)}
    arms |= {
        "report, GSPO, 3 times the tokens": _Arm(gspo, report_states, times=3),
        "report, EAPO 0.97, 3 times the tokens": _Arm(mild, report_states, times=3),
        "last 6 results, GSPO, 3 times the tokens": _Arm(gspo, partial(sliding_states, window=6), times=3),
    }
    arms |= {f"written report of {c}, EAPO 0.97": _Arm(mild, capacity=c) for c in (0, 1, 2)}
    arms |= {
        "written report of 2, GSPO": _Arm(gspo, capacity=2),
        "written report of 2, EAPO 0.97, shown": _Arm(mild, capacity=2, shown=True),
    }

    def run(arm: _Arm, seed: int) -> dict[str, float]:
        if arm.states is None:
            return _written(own, arm, seen[arm.capacity], written * arm.times, seed)
        return _told(told, arm, tokens * arm.times, seed)

    return compare(
        "EAPO and workspaces on chains of look-ups, equal sampled tokens",
        {name: partial(run, arm) for name, arm in arms.items()},
        "report, GSPO",
        seeds,
        "python -m banach.llm.systems eapo",
        {
            "tokens": tokens,
            "tokens, written": written,
            "testbed": "lookup_research((1, 2, 4), 7)",
            "testbed, written": "written_research((1, 2, 3), 5, 2)",
            "policy": "table of states",
            "shards": 8,
            "rate": RATE,
            "rate, written": WRITING_RATE,
        },
    )


def _centred(spec: ObjectiveSpec) -> ObjectiveSpec:
    """Without the group's deviation."""
    return replace(spec, advantage=GroupAdvantage("group-mean"))


_GSPO = objective("gspo", filters=(SpreadGroups(),))

EAPO = add(
    System(
        name="eapo",
        title="IterResearch: Rethinking Long-Horizon Agents via Markovian State Reconstruction",
        authors="G. Chen et al.",
        year=2025,
        arxiv="2511.07327",
        summary="rounds as samples with outcomes discounted by the rounds to come, on a workspace of constant size",
        optimizes="nothing: the expected update is the gradient of no function. At discount 1 the group's mean over rounds, "
        "the mean over |C| rounds and the deviation move with lengths, below it a factor g^(t-1) is missing besides; the plain "
        "sum without all of them is, at 1, the gradient of the expected reward",
        objective="eapo",
        parts=("eapo", "RoundDiscount", "downsampled", "Workspace"),
        reductions=(
            Reduction("last rounds only", "gspo of groups with spread", eapo(), _GSPO, ("last rounds",)),
            Reduction("discount 1", "gspo of groups with spread, on rounds", eapo(discount=1.0), _GSPO),
        ),
        findings=(
            "The published update is not the gradient of any function for a discount below 1: on two stopping rounds even the "
            "plain sum has a Jacobian that is not symmetric; with g^(t-1) it is the gradient of E[g^(T-1) R].",
            "At discount 1 it is none either. Groups of two, rounds stopped with logits (.3, -.4) and right with .2, .5, .9: "
            "Jacobian .00409 against .00434 without the deviation, .0096 against .0081 with it; cosine to the gradient of "
            "success .989 and .990 (.925 and .927 at logits (-2, 1)). The sum over rounds in place of the mean, no deviation: "
            "symmetric there, cosine .997.",
            "GSPO on rounds drifts in length where length earns nothing. Success q after one round or two, even odds to stop: "
            "the expected update of stopping is -.0036 in groups of 3 and -.0062 in groups of 4 at q = .8, the opposite at .2, "
            "0 at 1/2; 0 in groups of two, and without the deviation. So the baseline itself lengthens runs where most "
            "succeed; in our experiment that is no part of the turns that EAPO saves.",
            "A discount of .995 is not mild in a group that is all right: runs of 2, 3, 5 rounds give advantages from "
            "1.096 to -2.024 "
            "where .8 gives 1.213 to -1.774 and 1 gives 0; the limit is 1.093 and -2.030.",
            "Groups that all failed are dropped before the subset is drawn; groups that all succeeded stay below discount 1.",
            "A report of question and hops found is no sufficient statistic where rounds are limited: it cannot know the last "
            "one; with the round it is.",
            "A report of c marks suffices for chains of c + 1 hops, for the last result is read beside it; with fewer a policy "
            "that counts never knows a chain to be complete.",
            "A trajectory's summed reward R (1 - g^T)/(1 - g) grows with its length, though each round's falls.",
            "Dropping the tail of the sample instead of a uniform subset is biased: last rounds carry the largest rewards.",
            "In its own table it is below GSPO on both BrowseComp sets (37.3 and 38.3; 45.2 and 45.6).",
        ),
        published=(
            "average of six benchmarks 49.1 (GSPO 48.3, SFT 45.5); turns 18.04 against 19.13, SFT 16.45",
            "HLE 28.8, BrowseComp 37.3, BrowseComp-zh 45.2, GAIA 72.8, Xbench-DS 71.0, SEAL-0 39.6: 8.8, 20.1, 15.8, 8.7, 15.0 "
            "and 18.9 above the best open agent",
            "BrowseComp 3.5 % at 2 turns, 15.2 % at 32, 42.5 % at 2048 (80.1 used on average); 40K of context",
            "one growing context of 64K: 36.5, and 41.9 with the iterative data",
            "as a prompt alone, BrowseComp: +12.7 (o3), +19.2 (DeepSeek-V3.1)",
            "training reward .55 to .72 in 150 steps",
            "Qwen3-30B-A3B after fine-tuning on 110K trajectories; discount .995, 16 questions of 16 rollouts, 32 turns, "
            "learning rate 1e-6, temperature 1, top-p .95, no divergence, no entropy bonus; 4096 questions that 1 to 3 of 5 "
            "tries solve",
        ),
        measured="At equal sampled tokens discounts of .995, .97 and .9 cut the turns by 2.0, 2.0 and 2.4 %, less than half "
        "the published 5.7 %, and cost 0.4 to 0.5 points of success (0.895, 0.895, 0.894 against 0.899), more than the "
        "noise. Most of it is how far learning has come: with three times the tokens .97 saves 0.6 % (4.156 against "
        "4.181 turns) and 0.1 points are lost; searching until all hops are found is right in 0.911 and takes 4.167. It "
        "is no drift of the baseline: without the deviation on either side turns fall by 1.8 %. What goes is searching "
        "on after the last hop: allowed 2 turns, .97 has 0.230 right against 0.197, allowed 5 as many. At .6 chains of "
        "4 hops are given up (0.051 against 0.726), shorter ones are not. Two groups in five are all right; an epsilon "
        "of .5 leaves 1.7 %; leaving rows uncut changes nothing. A context of the question and the last w results loses "
        "chains of more than w hops: 2 hops 0.473 at w = 1, 0.892 at 2; 4 hops 0.143 at 1, 0.171 at 2, and 0.431 at 4, "
        "for misses take room. At 6 nothing is lost, and 0.632, with three times the tokens 0.708, are behind the "
        "report's 0.726 and 0.741 for having more states to learn. A context that loses the question, too, ends at "
        "0.666 in all. Where the policy writes the report itself, chains of 2 hops go from 0.346 without room to 0.738 "
        "with one mark and 0.867 with two (0.916 is what counting reaches), those of 3 from 0.151 to 0.199 and 0.264 of "
        "0.652: with two marks a code for them is found in one seed of five, in three of five from a start that is "
        "shown counting half of the time. EAPO and GSPO do not differ there beyond the noise.",
        bounds=(
            "a discounted outcome is an unbiased action value",
            "the best number of rounds does not fall as the discount rises",
            "a growing context holds its tokens over a round's rounds",
        ),
        experiment=experiment,
    )
)
