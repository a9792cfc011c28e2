r"""What rounds with discounted outcomes estimate, how long they pay, and how many a context holds.

A round is a run of the policy's tokens where an environment speaks, else a token. With the whole reward R paid at the end and
T rounds in all,

UNBIASED      E[g^(T-t) R | what was said until the end of round t] is the action value Q_g of the problem whose rounds are
              discounted by g: the average over what follows, against the recursion over the tree of prefixes.
PATIENT       Where nothing is left to chance and R >= 0, the best sequence of g^(T-1) R, the shortest of equals, is no longer
              than that of a larger discount h: g^T R <= g^S Q for T < S gives h^T R <= h^S Q. Backward induction against the
              list of all sequences.
CONTEXT       A context of L tokens that keeps everything holds no more than L / r whole rounds, r the tokens of the smallest, a
              round and what the environment answered; attained where all are alike. A workspace holds any number.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import numpy as np
import sympy
from flint import fmpq

from ..mdp.instances_token import digit_chain, tiny_enum, tool_turns
from ..mdp.token import TokenProblem
from .bound import Measurement
from .drawing import drawn_long_problems, drawn_spoken_problems
from .rlvr_group import of_tokens
from .token_evidence import ONE, ZERO, Table, TokenEvidence, tokens

q = sympy.Symbol("Q", real=True)
n, L, r = sympy.symbols("n L r", positive=True)

DISCOUNTS = (fmpq(1, 10), fmpq(1, 2), fmpq(4, 5), fmpq(199, 200), fmpq(1))
"""Discounts of a round; .995 is published."""


def rounds(problem: TokenProblem) -> np.ndarray:
    """The round of each of the policy's tokens, counted from 0, int64 (S, T); -1 elsewhere."""
    spoken = not problem.mask[problem.token >= 0].all()
    return np.where(problem.mask, problem.turn if spoken else problem.mask.cumsum(1) - 1, -1).astype(np.int64)


def _unbiased(evidence: Any) -> Iterator[Measurement]:
    game = tokens(evidence, "the outcome")
    edge, number = game.problem.tree.edge, rounds(game.problem)
    last = number.max(axis=1)
    through: dict[int, tuple[int, list[int]]] = {}
    for y, row in enumerate(number):
        ends = [t for t in np.flatnonzero(row >= 0).tolist() if t + 1 == len(row) or row[t + 1] != row[t]]
        for t in ends:
            through.setdefault(int(edge[y, t]), (int(row[t]), []))[1].append(y)
    for name, policy in game.policies.items():
        chance = game.chances(policy)
        for discount in (fmpq(1, 2), fmpq(199, 200)):
            value = action_values(game, policy, discount)
            for at, (t, rows) in list(through.items())[:25]:
                mass = sum((chance[y] for y in rows), ZERO)
                if mass > 0:
                    paid = [chance[y] * discount ** int(last[y] - t) * game.answers[y].reward for y in rows]
                    yield Measurement(sum(paid, ZERO) / mass, {q: value[at]}, {"policy": name, "discount": str(discount)})


def action_values(game: TokenEvidence, policy: Table, discount: fmpq) -> list[fmpq]:
    """E[g^(rounds still to come) R] behind each edge of the tree of prefixes, (E,), by backward induction."""
    problem, number = game.problem, rounds(game.problem)
    tree = problem.tree
    before = np.maximum.accumulate(np.pad(number, ((0, 0), (1, 0)), constant_values=-1), axis=1)[:, :-1]
    opens = (number > before)[tree.first]
    worth = [ZERO] * (tree.n_prompts + tree.n_edges)
    for y, answer in enumerate(game.answers):
        worth[tree.n_prompts + int(tree.edge[y][tree.edge[y] >= 0][-1])] = answer.reward
    for e in reversed(range(tree.n_edges)):
        at, parent = int(problem.edge_index[e]), int(tree.parent[e])
        step = game.edge_chance[e] if at < 0 else policy[at // game.n_tokens][at % game.n_tokens]
        worth[parent] += step * (discount if opens[e] else ONE) * worth[tree.n_prompts + e]
    return worth[tree.n_prompts :]


UNBIASED = of_tokens(
    "a discounted outcome is an unbiased action value",
    r"\mathbb{E}[\gamma^{T-t} R \mid s_t, d_t]",
    q,
    {q: "action value, by backward induction"},
    _unbiased,
    "of Chen et al. 2025, arXiv 2511.07327; proved here",
    sense="equal to",
    assumes="the whole reward paid at the end, rounds discounted",
)


def chain(*paid: float) -> TokenProblem:
    """Token 1 stops and is paid what the round pays, the last round stops by itself."""

    def reward(_: Any, said: tuple[int, ...]) -> float:
        return paid[len(said) - 1]

    return TokenProblem.build(2, len(paid), 1, reward, eos=1)


@cache
def chains() -> Mapping[str, TokenProblem]:
    """Rounds that pay more the later one stops, and problems with several prompts or tokens."""
    return {
        "stops at .2, .5, .7, .9": chain(0.2, 0.5, 0.7, 0.9),
        "stops at .1, .6, .3, .65": chain(0.1, 0.6, 0.3, 0.65),
        "tiny enum": tiny_enum(),
        "two bits": digit_chain(2, 2),
    }


def _patient(evidence: Any) -> Iterator[Measurement]:
    game = tokens(evidence, "how long to go on")
    if game.has_environment:
        return
    for prompt, rows in enumerate(game.by_prompt):
        if not rows or min(game.answers[y].reward for y in rows) < 0 or max(game.answers[y].reward for y in rows) == 0:
            continue
        found = [best_round(game, prompt, discount) for discount in DISCOUNTS]
        listed = []
        for discount in DISCOUNTS:
            worth = [(discount ** game.answers[y].length * game.answers[y].reward, -game.answers[y].length) for y in rows]
            listed.append(-max(worth)[1])
        for i, small in enumerate(DISCOUNTS):
            for j, large in enumerate(DISCOUNTS[i:], i):
                where = {"prompt": prompt, "discount": str(small), "larger": str(large)}
                yield Measurement(found[i], {n: listed[j]}, where)


def best_round(game: TokenEvidence, prompt: int, discount: fmpq) -> int:
    """Rounds of the best sequence to a prompt by backward induction, the shortest of equals."""
    tree = game.problem.tree
    best: list[tuple[fmpq, int]] = [(fmpq(-1), 0)] * (tree.n_prompts + tree.n_edges)
    for y, answer in enumerate(game.answers):
        best[tree.n_prompts + int(tree.edge[y][tree.edge[y] >= 0][-1])] = (answer.reward, 0)
    for e in reversed(range(tree.n_edges)):
        worth, longer = best[tree.n_prompts + e]
        parent = int(tree.parent[e])
        found = (worth * discount, longer - 1)
        best[parent] = max(best[parent], found)
    return -best[prompt][1]


PATIENT = of_tokens(
    "the best number of rounds does not fall as the discount rises",
    r"T^*_\gamma",
    n,
    {n: "the best number of rounds at a larger discount, the shortest of equals"},
    _patient,
    "of Chen et al. 2025, arXiv 2511.07327; proved here",
    assumes="no environment, rewards that are not negative, paid at the end and some of them positive",
    problems=chains,
    drawn=drawn_long_problems,
)


def searches(result: int, times: int = 3) -> TokenProblem:
    """As many searches, token 0 or 1 for where, each answered by a page of `result` tokens, all 0."""

    def speak(_: Any, said: tuple[int, ...]) -> np.ndarray | None:
        return np.eye(2)[0] if len(said) % (1 + result) else None

    return TokenProblem.build(2, times * (1 + result), 1, environment=speak)


@cache
def pages() -> Mapping[str, TokenProblem]:
    """Pages of one to three tokens, and a tool that may be called."""
    return {f"pages of {result}": searches(result) for result in (1, 2, 3)} | {"one tool call": tool_turns(horizon=3)}


def _context(evidence: Any) -> Iterator[Measurement]:
    game = tokens(evidence, "the context")
    problem = game.problem
    for y in range(min(problem.n_sequences, 40)):
        mask = problem.mask[y][problem.token[y] >= 0]
        ends = [t + 1 for t in range(len(mask)) if not mask[t] and (t + 1 == len(mask) or mask[t + 1])]
        starts = [t for t in range(len(mask)) if mask[t] and (t == 0 or not mask[t - 1])]
        whole = [(a, b) for a, b in zip(starts, [e for e in ends if e > starts[0]], strict=False)]
        if not whole:
            continue
        smallest = min(b - a for a, b in whole)
        for held in range(smallest, len(mask) + 1):
            kept = sum(b <= held for _, b in whole)
            yield Measurement(kept, {L: held, r: smallest}, {"sequence": y, "context": held})


CONTEXT = of_tokens(
    "a growing context holds its tokens over a round's rounds",
    r"\max T",
    L / r,
    {L: "tokens of the context", r: "tokens of the smallest round with its result"},
    _context,
    "Chen et al. 2025, arXiv 2511.07327, complexity; elementary",
    assumes="an environment that answers rounds, everything kept",
    problems=pages,
    drawn=drawn_spoken_problems,
    axis="context",
)

CATALOGUE = (UNBIASED, PATIENT, CONTEXT)
