r"""What tools cost text, what guessing for them costs, and how far preferring early calls leads from the base.

KEPT       A policy that spends a share c of every decision on one token, and is q on the others, gives a sequence of n
           decisions without that token (1 - c)^n times its probability under q: for one fixed policy {P >= e} is not contained
           in what it was, at (1 - c)^n e it is.
GUESSED    Text that takes the tool model's decisions and tosses a fair token for each of the m that the environment wrote, with
           probability e, has V^-m p(y) / e of its probability p(y): 2^-m p for m bits of a tool that is certain.
SUPPORT    Without an environment the regularised optimum is q e^{R/beta} / Z, and e^{min R/beta} <= Z <= e^{max R/beta}: no
           answer's probability moves by more than a factor e^{(max R - min R)/beta}, and none that has one is left without.
SHAPED     Advantages that are moved by at most k |A|, on right answers with a call alone, move the mean gradient by at most
           k times their E |A| |score|, in each coordinate; A' is ASPO's, token 0 for the call, three answers a group.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import sympy
from flint import arb, ctx, fmpq

from ..mdp.instances_token import tiny_enum, tool_turns
from ..mdp.token import TokenProblem
from ..mdp.token_build import TooManySequences
from .bound import Measurement
from .drawing import drawn_spoken_problems
from .objective_divergences import TEXTS, log_ratios
from .objective_optima import BETAS, soft_optimum
from .rlvr_group import of_tokens, weighed_scores
from .token_evidence import PRECISION, ZERO, TokenEvidence, tokens

c, e, k, p, q, s, t, R = sympy.symbols("c e k p q s beta Delta", nonnegative=True)
m, n = sympy.symbols("m n", integer=True, nonnegative=True)
V = sympy.Symbol("V", integer=True, positive=True)


def _kept(evidence: Any) -> Iterator[Measurement]:
    problem = tokens(evidence, "the support")
    if problem.n_tokens < 2:
        return
    for name, policy in problem.policies.items():
        without = [[fmpq(0), *(p / (1 - row[0]) for p in row[1:])] for row in policy]
        for share in (fmpq(1, 100), fmpq(1, 2)):
            table = [[share, *((1 - share) * p for p in row[1:])] for row in without]
            plain, spent = problem.chances(without), problem.chances(table)
            for y, answer in enumerate(problem.answers[:60]):
                if plain[y] > 0:
                    yield Measurement(
                        spent[y], {c: share, q: plain[y], n: answer.length}, {"policy": name, "share": str(share)}
                    )


KEPT = of_tokens(
    "spending a share on tools keeps text within that share",
    r"P_{\mathrm{tool}}(y)",
    (1 - c) ** n * q,
    {c: "share of each decision", q: "probability without", n: "decisions of the sequence"},
    _kept,
    "in place of a step of Lin and Xu 2025, arXiv 2508.19201, theorem 3.4; proved here",
    sense="equal to",
)


def reading(bits: int) -> TokenProblem:
    """Token 1 first calls, and the environment writes as many bits, the answer; after 0 the policy writes them itself."""
    answer = (1, 0, 1, 1)[:bits]

    def speak(_: Any, said: tuple[int, ...]) -> np.ndarray | None:
        return np.eye(2)[answer[len(said) - 1]] if said and said[0] == 1 else None

    return TokenProblem.build(2, bits + 1, 1, lambda _, said: float(said[1:] == answer), environment=speak)


@cache
def tools() -> Mapping[str, TokenProblem]:
    """Tools that are certain, of one to four bits, and one that is not."""
    return {f"{bits} bits read": reading(bits) for bits in (1, 2, 3, 4)} | {"one tool call": tool_turns(horizon=3)}


def _prefixes(problem: TokenProblem) -> dict[tuple[int, tuple[int, ...]], int]:
    """The node of each prompt and prefix at which the policy moves."""
    found = {}
    for y in range(problem.n_sequences):
        row = tuple(problem.token[y].tolist())
        for place in np.flatnonzero(problem.mask[y]).tolist():
            found[int(problem.prompt[y]), row[:place]] = int(problem.node[y, place])
    return found


def _guessed(evidence: Any) -> Iterator[Measurement]:
    game = tokens(evidence, "guessing")
    problem, size = game.problem, game.n_tokens
    try:
        alone = TokenProblem.build(
            size, problem.horizon, problem.n_prompts, eos=problem.eos, max_sequences=3000,
            prompt_probability=problem.prompt_probability,
        )  # fmt: skip
    except TooManySequences:
        return
    text, moves, nodes = TokenEvidence(alone), _prefixes(problem), _prefixes(alone)
    place = {(int(alone.prompt[y]), alone.text(y)[1]): y for y in range(alone.n_sequences)}
    for name, policy in game.policies.items():
        table = [[fmpq(1, size)] * size for _ in range(alone.n_nodes)]
        for prefix, node in moves.items():
            table[nodes[prefix]] = policy[node]
        ours, theirs = game.chances(policy), text.chances(table)
        written = (problem.token >= 0).sum(axis=1) - problem.length
        for y in sorted(range(problem.n_sequences), key=lambda y: -written[y])[:20]:
            found = place.get((int(problem.prompt[y]), problem.text(y)[1]))
            if found is not None and ours[y] > 0:
                values = {p: ours[y], e: game.answers[y].chance, m: int(written[y]), V: size}
                yield Measurement(theirs[found], values, {"policy": name})


GUESSED = of_tokens(
    "text that guesses what a tool reads out has an exponentially small share of its probability",
    r"P_{\mathrm{text}}(y)",
    p / (e * V**m),
    {p: "probability with the tool", e: "the tool's chance of what it wrote", m: "tokens that it wrote", V: "vocabulary"},
    _guessed,
    "Lin and Xu 2025, arXiv 2508.19201, theorem 3.4",
    sense="equal to",
    problems=tools,
    drawn=drawn_spoken_problems,
)


def _support(evidence: Any) -> Iterator[Measurement]:
    game = tokens(evidence, "the support")
    if game.has_environment:
        return
    for name, reference in game.policies.items():
        for beta in BETAS:
            best = soft_optimum(game, reference, beta)[0]
            for rows, moved in zip(game.by_prompt, _moves(game, best, reference), strict=True):
                if rows:
                    earned = [game.answers[row].reward for row in rows]
                    values = {t: beta, R: max(earned) - min(earned)}
                    yield Measurement(moved, values, {"reference": name, "beta": float(beta)})


def _moves(game: TokenEvidence, policy: Any, reference: Any) -> list[Any]:
    """The largest |log pi(y)/q(y)| among the answers to each prompt, (P,), in balls; zero where there are none."""
    ratios = log_ratios(game, policy, reference)
    with ctx.workprec(PRECISION):
        size = [abs(sum(ratio, arb(0))) for ratio in ratios]
        return [max((size[row] for row in rows), key=lambda x: float(x.mid()), default=arb(0)) for rows in game.by_prompt]


SUPPORT = of_tokens(
    "a regularised optimum leaves no answer out",
    r"\max_y |\log \pi^*(y)/q(y)|",
    R / t,
    {R: "largest reward of the prompt less the smallest", t: "price of a nat"},
    _support,
    "of Lin and Xu 2025, arXiv 2508.19201, theorem 3.3; proved here",
    assumes=TEXTS,
)


STRENGTH = fmpq(-2)
"""Of the preference for early calls, as published."""


def shaping(group: Sequence[tuple[fmpq, bool, int, int]], share: fmpq) -> list[fmpq]:
    """A' - A of a group, A centred rewards: of each answer (reward, whether right, first call counted from 1 or 0, length)."""
    mean = sum((r for r, *_ in group), ZERO) / len(group)
    eligible = [right and call > 0 for _, right, call, _ in group]
    called = [(call, length) for (_, _, call, length), mine in zip(group, eligible, strict=True) if mine]
    found = []
    for (reward, _, call, _), mine in zip(group, eligible, strict=True):
        if not mine:
            found.append(ZERO)
            continue
        bias = STRENGTH * (len(called) * call - sum(x for x, _ in called)) / fmpq(sum(length for _, length in called))
        room = share * abs(reward - mean)
        found.append(max(-room, min(room, bias)))
    return found


def early(thoughts: int) -> TokenProblem:
    """Token 0 calls, then the answer is right; token 1 thinks, and after as many thoughts it is wrong."""
    eye = np.eye(2)
    return TokenProblem.build(
        2, thoughts, 1, lambda _, said: float(0 in said), environment=lambda _, said: eye[0] if 0 in said else None
    )


@cache
def styles() -> Mapping[str, TokenProblem]:
    """Calls that may come early or late, and a problem without."""
    return {f"{thoughts} thoughts": early(thoughts) for thoughts in (2, 3, 4)} | {"two tokens": tiny_enum(2, 2)}


def _shaped(evidence: Any) -> Iterator[Measurement]:
    game = tokens(evidence, "early calls")
    kinds = []
    for answer, right in zip(game.answers, game.right, strict=True):
        said = [token for _, token in answer.steps]
        kinds.append((answer.reward, right, said.index(0) + 1 if 0 in said else 0, answer.length))
    if len(set(kinds)) > 6:
        return

    def sizes(group: tuple[Any, ...]) -> list[fmpq]:
        mean = sum((r for r, *_ in group), ZERO) / len(group)
        return [abs(r - mean) if right and call > 0 else ZERO for r, right, call, _ in group]

    share = fmpq(7, 10)
    for name in ("uniform", "sharp"):
        policy = game.policies[name]
        moved = game.groups(policy, 3, lambda group: shaping(group, share), kinds)[0]
        found = max(abs(x) for row in game.ascent(policy, moved) for x in row)
        size = weighed_scores(game, policy, game.groups(policy, 3, sizes, kinds)[0])
        yield Measurement(found, {k: share, s: size}, {"policy": name})


SHAPED = of_tokens(
    "preferring early calls moves the gradient within a share",
    r"|\mathbb{E}[(A' - A)\,\partial\log\pi]|",
    k * s,
    {k: "share of an advantage that shaping may take", s: "mean size of advantage times score, of right answers with a call"},
    _shaped,
    "of Lin and Xu 2025, arXiv 2508.19201; proved here",
    problems=styles,
)

CATALOGUE = (KEPT, GUESSED, SUPPORT, SHAPED)
