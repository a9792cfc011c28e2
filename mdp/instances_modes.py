r"""A token problem with three modes of answering: at once, by reasoning, with a tool.

The first token is the mode's tag. What makes a mode fit for a query is what is seen there before the answer is given.
"""

from __future__ import annotations

import numpy as np

from .errors import ModelError
from .instances.parameters import at_least, within
from .token import TokenProblem
from .token_build import Tokens

INSTANT, REASONING, AGENTIC = range(3)


def hybrid_tasks(words: int = 3, digits: int = 2, tool: float = 0.9, calculator: float = 0.6) -> TokenProblem:
    """Facts to remember, digits to add up, a key that is hidden; to be answered at once, by reasoning, or with a tool.

    Tokens 0..n-1 are words, n the tag of the instant mode, n + 1 of reasoning, n + 2 of the agentic mode, n + 3 says
    "accepted", n + 4 ends. Instant: the tag and the answer. Reasoning: the tag, and then `digits` times a digit that is read
    out, uniform among the words, and a word, the last of them the answer. Agentic: the tag, what the tool reads out, uniform,
    and the answer. A token out of place ends the sequence. An answer is accepted, with reward 1,

        fact w       if it is w,
        chain        if it is the sum of the digits modulo n; with the tool's word with probability `calculator`, with another
                     as often as they share the rest; with probability 1/n where nothing was read,
        hidden key   likewise with the tool's word with probability `tool`; with probability 1/n without the tool.

    So the best accuracies of the modes are (1, 1, 1), (1/n, 1, calculator), (1/n, 1/n, tool). The three kinds are equally
    likely, and so are the n facts. With the defaults there are 1445 sequences and 175 nodes.
    words: >= 2. digits: >= 1. tool, calculator: in [1/n, 1].
    Raises ModelError for parameters out of range.
    """
    at_least(2, words=words)
    at_least(1, digits=digits)
    within(1 / words, 1, tool=tool, calculator=calculator)
    accepted, end = words + 3, words + 4
    prompts = [*(("fact", word) for word in range(words)), ("chain", None), ("hidden key", None)]

    def parse(tokens: Tokens) -> tuple[str, int, list[int], int]:
        """What comes next (tag, see, say, judge, close, over), the mode, what was seen, the last token said."""
        state, mode, seen, said = "tag", -1, [], -1
        for t in tokens:
            if state == "tag":
                mode = t - words
                state = "say" if mode == INSTANT else "see" if mode in (REASONING, AGENTIC) else "close"
            elif state == "see":
                seen.append(t)
                state = "say"
            elif state == "say":
                said = t
                more = mode == REASONING and len(seen) < digits
                state = "close" if t >= words else "see" if more else "judge"
            elif state == "judge":
                state = "over" if t == accepted else "close"
        return state, mode, seen, said

    def chance(prompt: tuple[str, int | None], mode: int, seen: list[int], said: int) -> float:
        kind, word = prompt
        if kind == "fact":
            return float(said == word)
        if kind == "chain" and mode == REASONING:
            return float(said == sum(seen) % words)
        if mode != AGENTIC:
            return 1 / words
        reliability = calculator if kind == "chain" else tool
        return reliability if said == seen[0] else (1 - reliability) / (words - 1)

    def environment(prompt: tuple[str, int | None], tokens: Tokens) -> np.ndarray | None:
        state, mode, seen, said = parse(tokens)
        if state in ("tag", "say"):
            return None
        law = np.zeros(words + 5)
        if state == "see":
            law[:words] = 1 / words
        else:
            law[accepted] = chance(prompt, mode, seen, said) if state == "judge" else 0.0
            law[end] = 1 - law[accepted]
        return law

    def reward(_prompt: tuple[str, int | None], tokens: Tokens) -> float:
        return float(parse(tokens[:-1])[0] == "over")

    share = [1 / (3 * words)] * words + [1 / 3] * 2
    return TokenProblem.build(
        words + 5, 2 * digits + 3, prompts, reward, eos=end, environment=environment, prompt_probability=np.array(share)
    )


def answer_modes(problem: TokenProblem) -> np.ndarray:
    """The mode of every sequence of a `hybrid_tasks`, int64 (S,): 0 instant, 1 reasoning, 2 agentic, -1 without a tag.

    Raises ModelError for a problem whose tokens are too few for that.
    """
    if problem.vocabulary_size < 7:
        raise ModelError(f"{problem.vocabulary_size} tokens; a problem of hybrid_tasks has words, three tags and two more")
    mode = problem.token[:, 0].astype(np.int64) - (problem.vocabulary_size - 5)
    return np.where((mode >= 0) & (mode < 3), mode, -1)
