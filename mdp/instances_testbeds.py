r"""Token problems on which published objectives are compared: small enough to list, rich enough to tell them apart.

`digit_mixture` mixes difficulties, `one_answer` asks prompts that have nothing in common, `step_tree` has credit to assign to
steps, `oracle_call` a tool that may be called early or late, `free_call` one whose place costs nothing, `mini_repl` turns of
several tokens and a name to look up, `lookup_research` a chain of searches that may be told in a report, `written_research` the
same with a report that the policy writes itself, `long_thought` answers whose lengths have a long tail.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .errors import ModelError
from .instances.parameters import at_least, inside
from .token import TokenProblem
from .token_build import Tokens


def digit_mixture(digits: int = 3, base: int = 3, scratchpad: bool = True) -> TokenProblem:
    """Chains of 1 to `digits` digits to add up modulo the base: easy prompts, hard ones, answers of several lengths.

    The rule is that of `banach.mdp.instances_token.digit_chain`; each number of digits is equally likely, and so are the
    prompts of one number. With a scratchpad there is room for `digits` digits and the end, else for the answer and the end.
    With the defaults there are 39 prompts, 4719 sequences and 1560 nodes.
    digits: >= 1. base: >= 2.
    Raises ModelError for parameters out of range.
    """
    at_least(1, digits=digits)
    at_least(2, base=base)
    prompts = [tuple(int(d) for d in index) for k in range(1, digits + 1) for index in np.ndindex(*(base,) * k)]
    share = np.array([1 / (digits * base ** len(prompt)) for prompt in prompts])

    def right(prompt: Tokens, tokens: Tokens) -> float:
        return float(tokens[-1] == base and tokens[-2:-1] == (sum(prompt) % base,))

    horizon = (digits if scratchpad else 1) + 1
    return TokenProblem.build(base + 1, horizon, prompts, right, eos=base, prompt_probability=share / share.sum())


def one_answer(prompts: int = 20, words: int = 3, length: int = 2, seed: int = 0) -> TokenProblem:
    """Prompts that are words of their own, each right when its own `length` words are said and then the end.

    The answers are drawn with the seed, alike for all who give it. With the defaults there are 800 sequences and 260 nodes.
    prompts, words, length: >= 1.
    Raises ModelError for parameters out of range.
    """
    at_least(1, prompts=prompts, words=words, length=length)
    answer = np.random.default_rng(seed).integers(0, words, (prompts, length))
    right = [(*row, words) for row in answer.tolist()]
    return TokenProblem.build(words + 1, length + 1, prompts, lambda p, tokens: float(tokens == right[p]), eos=words)


def step_tree(branching: int = 3, depth: int = 3, seed: int = 0, right: float = 0.3) -> TokenProblem:
    """A tree of reasoning steps, one token each, whose leaves are right at random; at least one is, and one is wrong.

    branching, depth: >= 1, branching^depth leaves. seed: of the leaves. right: share of the right ones, in (0, 1).
    Raises ModelError for parameters out of range.
    """
    at_least(1, branching=branching, depth=depth)
    inside(0, 1, right=right)
    leaves = np.random.default_rng(seed).random(branching**depth) < right
    leaves[0], leaves[-1] = (leaves[0] or not leaves.any()), (leaves[-1] and not leaves.all())
    places = branching ** np.arange(depth)[::-1]

    def reward(_prompt: int, tokens: Tokens) -> float:
        return float(leaves[int(places @ np.array(tokens))])

    return TokenProblem.build(branching, depth, 1, reward)


def oracle_call(answers: int = 3, horizon: int = 6) -> TokenProblem:
    """Think, call a tool that knows the answer, or guess: style, for calls may come early or late, and binary rewards.

    Tokens 0..n-1 are answers, n calls, n + 1 thinks, n + 2 is the verdict "accepted", n + 3 ends. After a call the tool reads
    out the answer, uniform among n the first time and the same ever after. An answer is judged at once: accepted for sure or
    never if it was read out, else with probability 1/n; then the sequence ends. Thinking helps nothing. Reward 1 for
    "accepted". A call whose reading, answer and verdict do not fit the horizon earns nothing, so that reward alone makes calls
    early; in `free_call` it does not.
    answers: >= 2. horizon: >= 4, tokens of both sides.
    Raises ModelError for parameters out of range.
    """
    at_least(2, answers=answers)
    at_least(4, horizon=horizon)
    call, accepted, end = answers, answers + 2, answers + 3

    def parse(tokens: Tokens) -> tuple[int | None, int | None, str]:
        """The secret that was read, the answer given, and what the environment owes: read, judge, close or nothing."""
        secret, answer, owes = None, None, ""
        for t in tokens:
            if owes == "read":
                secret, owes = t, ""
            elif owes == "judge":
                owes = "close"
            elif t == call:
                owes = "read"
            elif t < answers:
                answer, owes = t, "judge"
        return secret, answer, owes

    def environment(_prompt: int, tokens: Tokens) -> np.ndarray | None:
        secret, answer, owes = parse(tokens)
        if not owes:
            return None
        law = np.zeros(answers + 4)
        if owes == "read":
            law[:answers] = 1 / answers if secret is None else np.eye(answers)[secret]
        elif owes == "judge":
            law[accepted] = 1 / answers if secret is None else float(secret == answer)
            law[end] = 1 - law[accepted]
        else:
            law[end] = 1
        return law

    def reward(_prompt: int, tokens: Tokens) -> float:
        _, answer, owes = parse(tokens)
        return float(answer is not None and owes == "close" and accepted in tokens[-2:])

    return TokenProblem.build(answers + 4, horizon, 1, reward, eos=end, environment=environment)


def free_call(
    bits: Sequence[int] = (2, 4, 8, 12), thoughts: int = 7, calls: int = 2, reliability: float = 0.9, thinking: float = 0.0
) -> TokenProblem:
    """Guess at once, or think as long as one likes and call a tool: where the call stands, and how many follow, is free.

    A prompt is the number m of bits of a hidden answer. Of the policy's three tokens the first decides: 0 guesses, accepted
    with probability 2^-m, 1 calls, 2 thinks. After a thought 2 thinks on and the others call; after `thoughts` of them any
    token calls. The tool reads out, 2, and the policy goes on: 1 calls again, `calls` times at most, any other token hands in
    what was read, accepted with probability reliability + thinking * (thoughts before the first call). The verdict is 1 for
    accepted, reward 1, or 0; the environment fills the rest with 2. With thinking = 0 a policy that guesses with probability g
    is worth g 2^-m + (1 - g) reliability, whatever else it does.
    bits: >= 1 each. thoughts, calls: >= 1. reliability: in (0, 1). thinking: reliability + thinking * thoughts in (0, 1).
    Raises ModelError for parameters out of range.
    """
    at_least(1, bits=min(bits, default=0), thoughts=thoughts, calls=calls)
    inside(0, 1, **{"reliability": reliability, "reliability + thinking * thoughts": reliability + thinking * thoughts})

    def parse(tokens: Tokens) -> tuple[str, int, int]:
        """What comes next (first, think, read, on, judge, over), thoughts and calls so far."""
        state, thought, called = "first", 0, 0
        for t in tokens:
            if state == "first" and t == 0:
                state = "judge"
            elif state in ("first", "think"):
                thinks = t == 2 and thought < thoughts
                thought, called, state = (thought + 1, 0, "think") if thinks else (thought, 1, "read")
            elif state == "read":
                state = "on"
            elif state == "on":
                called, state = (called + 1, "read") if t == 1 and called < calls else (called, "judge")
            else:
                state = "over"
        return state, thought, called

    def environment(prompt: int, tokens: Tokens) -> np.ndarray | None:
        state, thought, called = parse(tokens)
        if state == "judge":
            right = reliability + thinking * thought if called else 2.0**-prompt
            return np.array([1 - right, right, 0.0])
        return np.array([0.0, 0.0, 1.0]) if state in ("read", "over") else None

    def reward(_prompt: int, tokens: Tokens) -> float:
        judged = next(k for k in range(1, len(tokens)) if parse(tokens[:k])[0] == "judge")
        return float(tokens[judged] == 1)

    return TokenProblem.build(3, thoughts + 2 * calls + 2, tuple(bits), reward, environment=environment)


def mini_repl(names: int = 3, turns: int = 3, horizon: int = 8) -> TokenProblem:
    """An interpreter whose function's name must be looked up, or guessed: turns of several tokens, fractional rewards.

    One of n names works, uniform and hidden. Tokens 0..n-1 are names, n begins a call and is followed by a name, n + 1 asks for
    the documentation, n + 2 submits, n + 3 and n + 4 are the replies "done" and "error". After a call the interpreter replies,
    after the documentation it reads out the name, consistently throughout. The prompt, 1 or 2, says how many calls must be
    done, the reward is the share of them that is. Anything ill-formed submits.
    names: >= 2. turns: >= 1, of the policy before the episode is cut. horizon: >= 3, tokens of both sides.
    Raises ModelError for parameters out of range.
    """
    at_least(2, names=names)
    at_least(1, turns=turns)
    at_least(3, horizon=horizon)
    call, docs, submit, done = names, names + 1, names + 2, names + 3

    def parse(tokens: Tokens) -> tuple[set[int], int, str, int]:
        """Names that may still work, calls done, what comes next (policy, name, reply, read, close), turns taken."""
        possible, finished, state, taken, called = set(range(names)), 0, "policy", 0, -1
        for t in tokens:
            if state == "policy":
                state = "name" if t == call else "read" if t == docs else "close"
                taken += state in ("name", "read")
            elif state == "name":
                state, called = ("reply", t) if t < names else ("close", -1)
            elif state == "read":
                possible, state = {t}, "policy"
            elif state == "reply":
                finished += t == done
                possible = {called} if t == done else possible - {called}
                state = "policy"
        return possible, finished, "close" if state == "policy" and taken >= turns else state, taken

    def environment(_prompt: int, tokens: Tokens) -> np.ndarray | None:
        possible, _, state, _ = parse(tokens)
        law = np.zeros(names + 5)
        if state == "read":
            law[list(possible)] = 1 / len(possible)
        elif state == "reply":
            works = (tokens[-1] in possible) / len(possible)
            law[done], law[done + 1] = works, 1 - works
        elif state == "close":
            law[submit] = 1
        else:
            return None
        return law

    def reward(prompt: int, tokens: Tokens) -> float:
        return min(parse(tokens)[1], prompt) / prompt

    return TokenProblem.build(names + 5, horizon, (1, 2), reward, eos=submit, environment=environment)


def lookup_research(hops: Sequence[int] = (1, 2, 4), rounds: int = 7, hit: float = 0.7, guess: float = 0.05) -> TokenProblem:
    """A chain of facts to follow: search until all hops are found, then answer; a search may bring back a distractor.

    The prompt is the number of hops. Tokens: 0 search, 1 answer, 2 hit, 3 miss, 4 right, 5 wrong. A search finds the next hop
    with probability `hit`; an answer is right for sure after all hops, with probability `guess` before. Reward 1 for right. A
    trajectory that does not answer within `rounds` fails.
    hops: >= 1 each, at least one. rounds: >= 1. hit: in (0, 1). guess: in (0, 1).
    Raises ModelError for parameters out of range.
    """
    if len(hops) == 0:
        raise ModelError("hops is empty; give at least one number of hops")
    at_least(1, rounds=rounds, hops=min(hops))
    inside(0, 1, hit=hit, guess=guess)

    def environment(prompt: int, tokens: Tokens) -> np.ndarray | None:
        if len(tokens) % 2 == 0:
            return None
        if tokens[-1] == 0:
            return np.array([0, 0, hit, 1 - hit, 0, 0])
        works = 1.0 if tokens.count(2) >= prompt else guess
        return np.array([0, 0, 0, 0, works, 1 - works]) if tokens[-1] == 1 else np.array([0, 0, 0, 0, 0, 1.0])

    def reward(_prompt: int, tokens: Tokens) -> float:
        return float(len(tokens) % 2 == 0 and tokens[-1:] == (4,))

    def ended(tokens: Tokens) -> bool:
        return len(tokens) % 2 == 0 and tokens[-1] >= 4

    return _ending(6, 2 * rounds, tuple(hops), reward, environment, ended)


def written_research(
    hops: Sequence[int] = (1, 2, 3), rounds: int = 5, marks: int = 2, hit: float = 0.7, guess: float = 0.05
) -> TokenProblem:
    """`lookup_research` in which the policy writes its own report: marks, as many as it likes, before each action.

    The prompt is the number of hops. Tokens of the policy: 0 searches, 1 answers, 2 is a mark of the report, 3 gives up; of the
    environment: 1 for a hit or a right answer, 0 for a miss or a wrong one, 3 ends. A decision is at most `marks` marks and
    then an action; one mark more ends the episode, and so does the search of the last round. Hits and answers are those of
    `lookup_research`, reward 1 for right. Nothing here forgets: what a decision may read is for a
    `banach.llm.workspace.Workspace` to say. With the defaults there are 49692 sequences and 13995 nodes.
    hops: >= 1 each, at least one. rounds: >= 1. marks: >= 0. hit, guess: in (0, 1).
    Raises ModelError for parameters out of range.
    """
    if len(hops) == 0:
        raise ModelError("hops is empty; give at least one number of hops")
    at_least(1, rounds=rounds, hops=min(hops))
    at_least(0, marks=marks)
    inside(0, 1, hit=hit, guess=guess)

    def parse(tokens: Tokens) -> tuple[str, int]:
        """What comes next (policy, read, judge, over), and the hits so far."""
        state, found, written, taken = "policy", 0, 0, 0
        for t in tokens:
            if state == "policy" and t == 2:
                written += 1
                state = "over" if written > marks else "policy"
            elif state == "policy":
                written, taken = 0, taken + 1
                state = "judge" if t == 1 else "read" if taken < rounds else "over"
            elif state == "read":
                found, state = found + t, "policy"
            else:
                state = "over"
        return state, found

    def environment(prompt: int, tokens: Tokens) -> np.ndarray | None:
        state, found = parse(tokens)
        if state == "policy":
            return None
        if state == "over":
            return np.eye(4)[3]
        works = hit if state == "read" else 1.0 if found >= prompt else guess
        return np.array([1 - works, works, 0, 0])

    def reward(_prompt: int, tokens: Tokens) -> float:
        return float(tokens[-2:] == (1, 3) and parse(tokens[:-2])[0] == "judge")

    return TokenProblem.build(4, rounds * (marks + 2) + 1, tuple(hops), reward, eos=3, environment=environment)


def long_thought(needs: Sequence[int] = (0, 0, 0, 12), horizon: int = 32, answers: int = 2) -> TokenProblem:
    """Think as often as the prompt needs, then answer: most answers may be short, some must be long.

    A prompt is (which, need, right answer), all equally likely. Tokens 0..answers-1 answer and end, the next one thinks, the
    one after it gives up. A sequence is worth 1 when it ends with the right answer after at least `need` thoughts, else 0; it
    is cut after `horizon` tokens. Under a policy that thinks with probability q lengths are geometric.
    needs: thoughts, each in [0, horizon). horizon: >= 1. answers: >= 1.
    Raises ModelError for parameters out of range.
    """
    at_least(1, horizon=horizon, answers=answers)
    if not needs or not all(0 <= need < horizon for need in needs):
        raise ModelError(f"needs={tuple(needs)}: give at least one number of thoughts, each from 0 to {horizon - 1}")
    prompts = tuple((which, need, right) for which, need in enumerate(needs) for right in range(answers))

    def reward(prompt: Tokens, tokens: Tokens) -> float:
        _, need, right = prompt
        return float(len(tokens) > need and tokens[-1] == right)

    return _ending(answers + 1, horizon, prompts, reward, lambda _prompt, _tokens: None, lambda tokens: tokens[-1] < answers)


def _ending(size: int, horizon: int, prompts: Any, reward: Any, environment: Any, ended: Any) -> TokenProblem:
    """A problem in which the environment closes what has ended, by the token `size`, so that several last tokens may end."""

    def closing(prompt: Any, tokens: Tokens) -> np.ndarray | None:
        if tokens and ended(tokens):
            return np.eye(size + 1)[size]
        law = environment(prompt, tokens)
        return None if law is None else np.append(law, 0.0)

    def paid(prompt: Any, tokens: Tokens) -> float:
        return reward(prompt, tokens[:-1] if tokens[-1] == size else tokens)

    return TokenProblem.build(size + 1, horizon, prompts, paid, eos=size, environment=closing)
