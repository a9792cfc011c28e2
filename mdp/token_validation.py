"""What makes arrays of sequences a token problem, checked once, where they enter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import ModelError
from .validation import ROW_SUM_TOLERANCE

if TYPE_CHECKING:
    from .token import TokenProblem
    from .token_tree import PrefixTree

_KINDS = {
    np.dtype(np.float64): ("iuf", "real numbers"),
    np.dtype(np.int32): ("iu", "integers"),
    np.dtype(np.bool_): ("b", "booleans"),
}


def adopt(name: str, given: Any, dtype: type, dimensions: int) -> np.ndarray:
    """What was given as a read-only contiguous array of one or two dimensions, shape (S,) or (S, T), copied where it was
    writable. Raises ModelError when it is something else, or empty."""
    try:
        array = np.asarray(given)
    except ValueError as fault:
        raise ModelError(f"{name} is no array: {fault}") from None
    kinds, words = _KINDS[np.dtype(dtype)]
    if array.ndim != dimensions or 0 in array.shape:
        raise ModelError(f"{name} has shape {array.shape}; it must have {dimensions} dimensions and at least one entry")
    if array.dtype.kind not in kinds:
        raise ModelError(f"{name} holds {array.dtype}; it must hold {words}")
    if dtype is np.int32 and (array.max() > np.iinfo(np.int32).max or array.min() < np.iinfo(np.int32).min):
        raise ModelError(f"{name} holds {array.max()}; it must lie within 32 bits")
    if array.flags.writeable or array.dtype != dtype or not array.flags.c_contiguous:
        array = np.array(array, dtype=dtype, order="C")
        array.setflags(write=False)
    return array


def check_distribution(probability: np.ndarray, where: str) -> None:
    """Raise ModelError, saying where, unless the numbers (n,) are in [0, 1] and sum to one within 1e-9."""
    wrong = np.flatnonzero(~((probability >= 0) & (probability <= 1)))
    if len(wrong):
        raise ModelError(f"{where}: entry {wrong[0]} is {probability[wrong[0]]}; a probability is in [0, 1]")
    total = float(probability.sum())
    if abs(total - 1) > ROW_SUM_TOLERANCE:
        raise ModelError(f"{where}: the probabilities sum to {total!r}; divide them by their sum")


def check_sequences(problem: TokenProblem) -> None:
    """Raise ModelError at the first row that is no sequence of the problem's tokens, naming it and the number."""
    size = problem.vocabulary_size
    if isinstance(size, bool) or not isinstance(size, int | np.integer) or size < 1:
        raise ModelError(f"vocabulary_size is {size!r}; give an integer >= 1")
    check_distribution(problem.prompt_probability, "prompt_probability")
    n_prompts, shape = len(problem.prompt_probability), (len(problem.prompt), problem.token.shape[1])
    if len(problem.prompts) != n_prompts:
        raise ModelError(f"prompts has {len(problem.prompts)} names for {n_prompts} prompts")
    for name in ("token", "mask", "token_probability", "step_reward"):
        if getattr(problem, name).shape != shape:
            raise ModelError(f"{name} has shape {getattr(problem, name).shape}; prompt and token ask for {shape}")
    if problem.eos is not None and not 0 <= problem.eos < size:
        raise ModelError(f"eos is {problem.eos}; it must be a token in 0..{size - 1}, or None")
    _rows(
        (problem.prompt < 0) | (problem.prompt >= n_prompts),
        problem.prompt,
        f"its prompt is {{}}; prompts are 0..{n_prompts - 1}",
    )
    missing = np.flatnonzero(np.bincount(problem.prompt, minlength=n_prompts) == 0)
    if len(missing):
        raise ModelError(f"prompt {missing[0]} has no sequence; each prompt has at least one")
    token, there = problem.token, problem.token >= 0
    _entries((token < -1) | (token >= size), token, f"is {{}}; tokens are 0..{size - 1}, and -1 after the end")
    _entries(there[:, 1:] & ~there[:, :-1], token[:, 1:], "is {}, after the end; -1 goes on to the end of the row", shift=1)
    _rows(~there[:, 0], problem.prompt, "it has no token, prompt {}; every sequence has one")
    _entries(problem.mask & ~there, token, "is padding, and the mask calls it the policy's; padding is nobody's")
    if problem.eos is not None:
        ended = token[:, :-1] == problem.eos
        _entries(ended & there[:, 1:], token[:, :-1], "is {}, the end of sequence, and more tokens follow")
    _rows(
        ~problem.mask.any(axis=1),
        problem.prompt,
        "no token is the policy's, prompt {}; every sequence has one, or drop the prompt",
    )
    given, own = problem.token_probability, there & ~problem.mask
    _entries(~own & (given != 1), given, "has token_probability {}; it is one where the environment does not move")
    _entries(own & ~((given > 0) & (given <= 1)), given, "has token_probability {}; the environment's are in (0, 1]")
    reward = problem.step_reward
    _entries(~np.isfinite(reward), reward, "has reward {}; rewards are finite")
    _entries(~there & (reward != 0), reward, "is padding with reward {}; padding earns nothing")
    with np.errstate(over="ignore"):
        total = np.abs(reward).sum(axis=1)
    _rows(~np.isfinite(total), problem.prompt, "its rewards overflow when they are added, prompt {}; divide them by a factor")


def check_tree(problem: TokenProblem) -> None:
    """Raise ModelError unless sequences that share a prefix agree on it, and what may follow a prefix is all there."""
    tree = problem.tree
    there = problem.token >= 0
    for name in ("mask", "token_probability", "step_reward"):
        array = getattr(problem, name)
        first = array[tree.first][tree.edge]
        _entries(there & (array != first), array, f"has {name} {{}}, and another sequence with this prefix has another")
    of_policy = problem.mask[tree.first]
    chosen = np.bincount(tree.parent, of_policy, minlength=len(tree.n_children)).astype(np.int64)
    count = tree.n_children
    for prefix in np.flatnonzero((chosen > 0) & ((chosen < count) | (count < problem.vocabulary_size)))[:1]:
        row, position = _place(tree, prefix)
        if chosen[prefix] < count[prefix]:
            raise ModelError(f"sequence {row}, position {position}: some tokens here are the policy's, some the environment's")
        raise ModelError(
            f"sequence {row}, position {position}: {count[prefix]} of {problem.vocabulary_size} tokens follow here, and the "
            "policy may choose any; list a sequence for each"
        )
    total = np.bincount(tree.parent, problem.token_probability[tree.first], minlength=len(count))
    for prefix in np.flatnonzero((count > 0) & (chosen == 0) & (np.abs(total - 1) > ROW_SUM_TOLERANCE))[:1]:
        row, position = _place(tree, prefix)
        raise ModelError(
            f"sequence {row}, position {position}: the environment's probabilities sum to {float(total[prefix])!r}; "
            "list every token that it may give, and divide them by their sum"
        )


def _place(tree: PrefixTree, prefix: int) -> tuple[int, int]:
    """The first sequence that goes on after a prefix, and the position where it does."""
    edge = np.flatnonzero(tree.parent == prefix)[0]
    return int(tree.first[0][edge]), int(tree.first[1][edge])


def _rows(wrong: Any, number: np.ndarray, words: str) -> None:
    for row in np.flatnonzero(wrong)[:1]:
        raise ModelError(f"sequence {row}: {words.format(number[row])}")


def _entries(wrong: np.ndarray, number: np.ndarray, words: str, shift: int = 0) -> None:
    for row, position in np.argwhere(wrong)[:1]:
        raise ModelError(f"sequence {row}: position {position + shift} {words.format(number[row, position])}")
