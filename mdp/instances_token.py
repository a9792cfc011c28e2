r"""Named token problems.

`tiny_enum` is where a loss is audited first, `softmax_bandit` the shortest problem, `tool_turns` the one with an environment,
`digit_chain` the one whose difficulty is a number.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from .errors import ModelError
from .instances.parameters import at_least, inside, within
from .token import TokenProblem
from .token_build import Tokens


def tiny_enum(vocabulary_size: int = 3, horizon: int = 3) -> TokenProblem:
    """Two prompts, rewards 0 and 1, lengths from 1 to the horizon, right answers and wrong ones of several lengths.

    The last token is the end of sequence, the last but one the word. "easy" is right when the word is said; "hard" is right
    when the word is said and the sequence ends at once, by its own end of sequence. With the defaults there are 30 sequences
    and 14 nodes, and the uniform policy is right with probability 13/27 and 4/27.
    vocabulary_size: >= 2. horizon: >= 2.
    Raises ModelError for parameters out of range.
    """
    at_least(2, vocabulary_size=vocabulary_size, horizon=horizon)
    end, word = vocabulary_size - 1, vocabulary_size - 2

    def right(prompt: str, tokens: Tokens) -> float:
        if prompt == "easy":
            return float(word in tokens)
        return float(word in tokens and tokens.index(word) == len(tokens) - 2 and tokens[-1] == end)

    return TokenProblem.build(vocabulary_size, horizon, ("easy", "hard"), right, eos=end)


def softmax_bandit(arms: int = 4, contexts: int = 1) -> TokenProblem:
    """A contextual bandit: in context p, arm (p + j) mod arms is worth j / (arms - 1).

    arms: >= 2, the vocabulary. contexts: >= 1, the prompts.
    Raises ModelError for parameters out of range.
    """
    at_least(2, arms=arms)
    at_least(1, contexts=contexts)
    worth = np.arange(arms) / (arms - 1)
    return TokenProblem.bandit([np.roll(worth, context) for context in range(contexts)])


def tool_turns(
    answers: int = 2, reliability: float = 0.9, cheap: float = 0.1, dear: float = 0.5, horizon: int = 4
) -> TokenProblem:
    r"""Ask a tool, or guess: the environment's tokens, their mask, turns, step rewards.

    A secret answer is uniform among `answers`. The policy may call the tool, as often as the horizon allows, at a price that
    the prompt says; the environment then reads out the secret with probability `reliability`, another answer otherwise, reads
    independent given the secret. The token before the end of sequence is the policy's answer, and its reward the probability,
    given the reads r, that it is right:

        P(secret = a | r) ~ prod_i q^{r_i = a} ((1 - q) / (n - 1))^{r_i != a}.

    With horizon 4 one call fits before an answer, and the best reward is the mean over the prompts of max(1/n, q - price).
    Tokens 0..n-1 are the answers, n calls the tool, n + 1 ends. The problem is the belief form of one in which the secret stays
    hidden (Kaelbling, Littman and Cassandra, Artificial Intelligence 101, 1998).
    answers: >= 2. reliability: in [1/answers, 1). cheap, dear: >= 0, prices of a call. horizon: >= 2.
    Raises ModelError for parameters out of range.
    """
    at_least(2, answers=answers, horizon=horizon)
    at_least(0, cheap=cheap, dear=dear)
    within(1 / answers, 1, reliability=reliability)
    inside(0, 1, reliability=reliability)
    call, end = answers, answers + 1
    price = {"cheap": cheap, "dear": dear}

    def belief(tokens: Tokens) -> np.ndarray:
        reads = [after for before, after in pairwise(tokens) if before == call]
        weight = np.array([(reliability * (answers - 1) / (1 - reliability)) ** reads.count(a) for a in range(answers)])
        return weight / weight.sum()

    def read(_prompt: str, tokens: Tokens) -> np.ndarray | None:
        if not tokens or tokens[-1] != call:
            return None
        secret = belief(tokens[:-1])
        other = (1 - reliability) / (answers - 1)
        return np.concatenate([other + (reliability - other) * secret, [0.0, 0.0]])

    def pay(prompt: str, tokens: Tokens) -> float:
        return -price[prompt] if tokens[-1] == call else 0.0

    def answer(_prompt: str, tokens: Tokens) -> float:
        if len(tokens) < 2 or tokens[-1] != end or tokens[-2] >= answers or tokens[-3:-2] == (call,):
            return 0.0
        return float(belief(tokens)[tokens[-2]])

    return TokenProblem.build(answers + 2, horizon, ("cheap", "dear"), answer, eos=end, environment=read, step_reward=pay)


def digit_chain(digits: int = 2, base: int = 3, scratchpad: bool = False) -> TokenProblem:
    """Add up the prompt's digits modulo the base, and stop; every prompt equally likely.

    A sequence is right, and worth 1, when it ends by its own end of sequence and the digit before that is the sum; all else is
    worth 0. Without a scratchpad there is room for the answer and the end; with one, for `digits` digits and the end, so that
    the running sums may be written first. Tokens 0..base-1 are digits, base ends.
    digits: >= 1, the difficulty. base: >= 2.
    Raises ModelError for parameters out of range, and TooManySequences, of its family, when they cannot be listed.
    """
    at_least(1, digits=digits)
    at_least(2, base=base)
    if base**digits > 1_000_000:
        raise ModelError(f"{digits} digits to base {base} make {base**digits:,} prompts; lower the digits or the base")
    prompts = [tuple(int(d) for d in index) for index in np.ndindex(*(base,) * digits)]

    def right(prompt: Tokens, tokens: Tokens) -> float:
        return float(tokens[-1] == base and tokens[-2:-1] == (sum(prompt) % base,))

    return TokenProblem.build(base + 1, (digits if scratchpad else 1) + 1, prompts, right, eos=base)
