r"""Expectations over groups by enumeration.

A group is G independent answers y_1..y_G to one prompt. Answers fall into classes: c(y) collects what the loss can tell apart,
at most one class a sequence, and far fewer (length and reward alone) where the weights do not look at the log-probabilities.
The weights of every tuple of classes are tabulated once, W[c_1,..,c_G] (G, T); a loss that does not care for the order of a
group is asked for multisets only. The expected gradient at a policy pi is then a contraction,

    omega_t(y) = sum_i sum_{c_j, j != i} prod_{j != i} P(c_j) W[.., c_i = c(y), ..]_{i,t},
    E grad     = sum_y pi(y) sum_t omega_t(y) grad log pi(y_t | prefix),

and the variance needs the sum over tuples itself. Everything is float64 and exact up to rounding.

Shapes: S sequences, T tokens, N policy nodes, V vocabulary, C classes, G group, K tuples.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace

import numpy as np

from ...mdp.token import TokenProblem
from .errors import AuditError
from .subject import Array, Batches, Subject

MAX_TUPLES = 40_000
"""Tuples of classes that an audit enumerates before it refuses."""


@dataclass(frozen=True)
class Classes:
    """What the loss sees of an answer, one row a class.

    logp, old, ref: (C, T). mask: (C, T) bool. reward: (C,).
    """

    logp: Array
    old: Array
    ref: Array
    mask: Array
    reward: Array

    def __len__(self) -> int:
        return len(self.reward)

    def batches(self, tuples: Array) -> Batches:
        """The groups that `tuples` (K, G) of class numbers name, as K batches of one group."""
        chosen = (array[tuples] for array in (self.logp, self.old, self.ref, self.mask, self.reward))
        return Batches(*chosen, group=np.zeros(tuples.shape[1], dtype=np.int64))


def log_policy(logits: Array) -> Array:
    """Log-probabilities (N, V) of the policy whose logits (N, V) are given."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def token_logp(problem: TokenProblem, logits: Array) -> Array:
    """Log-probability of every token the policy emitted, shape (S, T), and 0 elsewhere."""
    return np.where(problem.mask, log_policy(logits)[problem.node, problem.token], 0.0)


def sequence_probability(problem: TokenProblem, logits: Array) -> Array:
    """Probability of every sequence given its prompt, shape (S,), the environment's tokens included."""
    return problem.environment_probability * np.exp(token_logp(problem, logits).sum(axis=1))


def score_sum(problem: TokenProblem, logits: Array, weight: Array) -> Array:
    """sum_{y,t} weight[y, t] grad log pi(y_t | prefix), shape (N, V); weight is (S, T) and counts nothing off the mask."""
    total = np.zeros(logits.shape)
    on = problem.mask
    node, token, value = problem.node[on], problem.token[on], weight[on]
    np.add.at(total, (node, token), value)
    visited = np.bincount(node, weights=value, minlength=len(logits))
    return total - visited[:, None] * np.exp(log_policy(logits))


def tuples_of(n_classes: int, group_size: int, exchangeable: bool) -> Array:
    """Tuples (K, G) of class numbers: multisets when the order does not matter, all ordered tuples otherwise.

    Raises AuditError when there are more than MAX_TUPLES.
    """
    count = math.comb(n_classes + group_size - 1, group_size) if exchangeable else n_classes**group_size
    if count > MAX_TUPLES or n_classes**group_size > 50 * MAX_TUPLES:
        raise AuditError(
            f"{count} groups of {group_size} answers out of {n_classes} would have to be enumerated, more than {MAX_TUPLES}; "
            "give a smaller problem or a smaller group_size"
        )
    walk = (
        itertools.combinations_with_replacement(range(n_classes), group_size)
        if exchangeable
        else itertools.product(range(n_classes), repeat=group_size)
    )
    return np.array(list(walk), dtype=np.int64).reshape(-1, group_size)


def weight_table(subject: Subject, classes: Classes, group_size: int, exchangeable: bool) -> Array:
    """Weights of every ordered tuple, shape (C,) * G + (G, T). Raises LossFailure or AuditError."""
    tuples = tuples_of(len(classes), group_size, exchangeable)
    weights = subject.weights(classes.batches(tuples))
    table = np.empty((len(classes),) * group_size + weights.shape[1:])
    orders = itertools.permutations(range(group_size)) if exchangeable else [tuple(range(group_size))]
    for order in orders:
        table[tuple(tuples[:, order].T)] = weights[:, order]
    return table


def expected_weight(table: Array, probability: Array) -> Array:
    """omega (C, T): the weight of a class's tokens summed over places in the group, others drawn from probability (C,)."""
    group_size = table.ndim - 2
    total = np.zeros((len(probability), table.shape[-1]))
    for place in range(group_size):
        slab = np.moveaxis(table[..., place, :], place, 0)
        for _ in range(group_size - 1):
            slab = np.tensordot(probability, slab, axes=([0], [1]))
        total += slab
    return total


@dataclass(frozen=True)
class Setting:
    """Whose log-probabilities the loss is shown: logits of the policy, of the sampling policy, of the reference, each (N, V).

    reward: (S,), the rewards shown. None for `old` and `ref` means the policy itself; answers are drawn from `old`.
    """

    logits: Array
    old: Array | None = None
    ref: Array | None = None
    reward: Array | None = None

    @property
    def sampler(self) -> Array:
        """Logits (N, V) of the policy that draws the answers."""
        return self.logits if self.old is None else self.old


def sequence_classes(problem: TokenProblem, setting: Setting, prompt: int) -> tuple[Array, Classes]:
    """The sequences of a prompt, shape (C,), and themselves as classes."""
    own = np.flatnonzero(problem.prompt == prompt)
    logp, old, ref = (
        token_logp(problem, setting.logits if logits is None else logits)[own]
        for logits in (setting.logits, setting.old, setting.ref)
    )
    reward = problem.reward if setting.reward is None else setting.reward
    return own, Classes(logp, old, ref, problem.mask[own], np.asarray(reward, dtype=float)[own])


def enumerated_weight(
    subject: Subject, problem: TokenProblem, setting: Setting, group_size: int, exchangeable: bool = True
) -> Array:
    """omega (S, T) with every sequence a class of its own: what a loss that looks at log-probabilities needs.

    Groups whose weights are not finite count as zero, and in `subject.broken`. Raises LossFailure or AuditError.
    """
    omega = np.zeros(problem.mask.shape)
    probability = sequence_probability(problem, setting.sampler)
    for prompt in range(len(problem.prompt_probability)):
        own, classes = sequence_classes(problem, setting, prompt)
        table = weight_table(subject, classes, group_size, exchangeable)
        broken = ~np.isfinite(table)
        subject.broken += int(broken.any(axis=(-2, -1)).sum())
        omega[own] = expected_weight(np.where(broken, 0.0, table), probability[own])
    return omega


def field_of(problem: TokenProblem, setting: Setting, omega: Array) -> Array:
    """The expected ascent direction (N, V): omega (S, T) weighted by prompts and by the sampling policy."""
    drawn = problem.prompt_probability[problem.prompt] * sequence_probability(problem, setting.sampler)
    return score_sum(problem, setting.logits, drawn[:, None] * omega)


def enumerated_field(
    subject: Subject, problem: TokenProblem, setting: Setting, group_size: int, exchangeable: bool = True
) -> Array:
    """E[-grad loss], shape (N, V), over groups of one prompt, by enumeration of sequences. Raises LossFailure or AuditError."""
    return field_of(problem, setting, enumerated_weight(subject, problem, setting, group_size, exchangeable))


@dataclass(frozen=True)
class BlindTable:
    """The weights of a loss that, on policy, sees nothing but masks and rewards: classes are (length, reward).

    class_of: (S,) class of every sequence. table: (C,) * G + (G, T). failed: share of tuples whose weights were not finite.
    """

    problem: TokenProblem
    class_of: Array
    table: Array
    failed: float = 0.0

    def field(self, logits: Array) -> Array:
        """E[-grad loss] (N, V) at the policy of logits (N, V)."""
        problem = self.problem
        probability = sequence_probability(problem, logits)
        omega = np.zeros(problem.mask.shape)
        for prompt in range(len(problem.prompt_probability)):
            own = problem.prompt == prompt
            mass = np.bincount(self.class_of[own], weights=probability[own], minlength=len(self.table))
            omega[own] = expected_weight(self.table, mass)[self.class_of[own]]
        return field_of(problem, Setting(logits), omega)


def signatures(problem: TokenProblem, reward: Array | None = None) -> tuple[Array, Array]:
    """Class of every sequence (S,) by mask and reward, and one sequence of each class (C,)."""
    reward = problem.reward if reward is None else reward
    key = np.column_stack([problem.mask, reward])
    _, first, class_of = np.unique(key, axis=0, return_index=True, return_inverse=True)
    return class_of.reshape(-1), first


def blind_table(
    subject: Subject,
    problem: TokenProblem,
    group_size: int,
    generator: np.random.Generator,
    reward: Array | None = None,
    exchangeable: bool = True,
    draws: int = 3,
) -> BlindTable | None:
    """The table over (length, reward), or None when on-policy weights change with the log-probabilities.

    Every tuple of classes is tried at `draws` random log-probabilities, shown as policy, sampler and reference at once, and
    one table serves all policies only if all agree. Raises LossFailure or AuditError.
    """
    reward = problem.reward if reward is None else reward
    class_of, first = signatures(problem, reward)
    mask = problem.mask[first]
    tables = []
    for _ in range(draws):
        logp = np.where(mask, -generator.exponential(1.0, mask.shape) - 0.05, 0.0)
        classes = Classes(logp, logp, logp, mask, np.asarray(reward, dtype=float)[first])
        tables.append(weight_table(subject, classes, group_size, exchangeable))
    size = max(np.abs(np.nan_to_num(tables[0])).max(), 1e-30)
    allowed = subject.rounding * size
    if any(not np.allclose(table, tables[0], rtol=0, atol=allowed, equal_nan=True) for table in tables[1:]):
        return None
    broken = ~np.isfinite(tables[0])
    failed = broken.any(axis=(-2, -1)).mean()
    return BlindTable(problem, class_of, np.where(broken, 0.0, tables[0]), float(failed))


def group_gradients(table: BlindTable, logits: Array, prompt: int, exchangeable: bool = True) -> tuple[Array, Array]:
    """Probability (K,) and gradient (K, D) of every group of answers to a prompt, D the policy's numbers at the prompt's nodes.

    Raises AuditError.
    """
    problem = table.problem
    own = np.flatnonzero(problem.prompt == prompt)
    group_size = table.table.ndim - 2
    tuples = tuples_of(len(own), group_size, exchangeable)
    chance = sequence_probability(problem, logits)[own]
    probability = chance[tuples].prod(axis=1)
    if exchangeable:
        counts = np.apply_along_axis(np.bincount, 1, tuples, minlength=len(own))
        probability *= math.factorial(group_size) / np.array([math.prod(map(math.factorial, row)) for row in counts])
    weights = table.table[tuple(table.class_of[own][tuples].T)]
    scores = sequence_scores(problem, logits, own)
    gradient = np.einsum("kgt,kgtd->kd", weights, scores[tuples], optimize=True)
    return probability, gradient


def sequence_scores(problem: TokenProblem, logits: Array, own: Array) -> Array:
    """grad log pi of every token of the sequences `own` (C,), shape (C, T, D) over the nodes that they visit."""
    nodes = np.unique(problem.node[own][problem.mask[own]])
    column = {int(node): k for k, node in enumerate(nodes)}
    policy = np.exp(log_policy(logits))
    scores = np.zeros((len(own), problem.mask.shape[1], len(nodes), logits.shape[1]))
    for row, sequence in enumerate(own):
        for t in np.flatnonzero(problem.mask[sequence]):
            node = int(problem.node[sequence, t])
            scores[row, t, column[node]] -= policy[node]
            scores[row, t, column[node], problem.token[sequence, t]] += 1
    return scores.reshape(len(own), problem.mask.shape[1], -1)


def with_reward(setting: Setting, reward: Array) -> Setting:
    """The same setting with rewards (S,) of one's own."""
    return replace(setting, reward=reward)
