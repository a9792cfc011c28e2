"""Expected gradients of objectives on token problems, by enumerating every group of sequences, and closed forms."""

import dataclasses
from itertools import product

import numpy as np
import torch
from banach.llm.batch import TokenBatch
from banach.llm.plan import plan
from banach.mdp import token_policy


def log_probability(problem, logits):
    """(S, T) log-probabilities of the policy's tokens, 0 elsewhere, from logits (N, V) that may carry a gradient."""
    table = logits.log_softmax(-1)
    node, token = torch.tensor(problem.node).long(), torch.tensor(problem.token).long()
    return torch.where(torch.tensor(problem.mask), table[node.clamp(min=0), token.clamp(min=0)], 0.0)


def rows(problem, indices, groups, logits, old, reference=None, **more):
    """The batch of these sequences."""
    index = torch.as_tensor(indices)
    frozen = [None if x is None else log_probability(problem, torch.as_tensor(x))[index] for x in (old, reference)]
    return TokenBatch(
        logp_BT=log_probability(problem, logits)[index],
        logp_old_BT=frozen[0],
        mask_BT=torch.tensor(problem.mask)[index],
        reward_B=torch.tensor(problem.reward)[index],
        group_B=torch.as_tensor(groups),
        logp_ref_BT=frozen[1],
        turn_BT=torch.tensor(problem.turn).long()[index],
        **{name: torch.tensor(x)[index] for name, x in more.items()},
    )


def tuples(problem, old, size):
    """Every group of `size` independent sequences of a prompt with its probability, the prompt's included."""
    probability = token_policy.sequence_probability(problem, old)
    for prompt in range(problem.n_prompts):
        mine = np.flatnonzero(problem.prompt == prompt)
        for group in product(mine, repeat=size):
            yield group, problem.prompt_probability[prompt] * probability[list(group)].prod()


def expected_gradient(spec, problem, logits, old=None, reference=None, size=1, kept=False, **more):
    """E[grad(-loss)] over groups drawn from `old`, (N, V); with `kept`, over the groups that the filters keep.

    All groups stand in one batch, averaged group by group, and are weighed afterwards by their probabilities.
    """
    old = logits if old is None else old
    leaf = torch.tensor(logits, requires_grad=True)
    groups, weights = zip(*tuples(problem, old, size), strict=True)
    names = np.repeat(np.arange(len(groups)), size)
    batch = rows(problem, np.concatenate(groups), names, leaf, old, reference, **more)
    apart = dataclasses.replace(spec, aggregation=dataclasses.replace(spec.aggregation, scope="group"))
    planned = plan(apart, batch)
    alive = planned.mask_BT.any(1).reshape(-1, size).any(1)
    each = planned.evaluate().weight_BT * alive.sum()
    weight = torch.tensor(weights)
    if kept:
        weight = torch.where(alive, weight, 0.0) / weight[alive].sum()
    score = (each * weight.repeat_interleave(size)[:, None] * batch.logp_BT).sum()
    return torch.autograd.grad(score, leaf)[0].numpy()


def gradient_of(function, logits):
    """Of a torch function of logits (N, V), by autograd."""
    leaf = torch.tensor(logits, requires_grad=True)
    return torch.autograd.grad(function(leaf), leaf)[0].numpy()


def probability(problem, logits):
    """(S,) probability of each sequence given its prompt, differentiable in logits (N, V)."""
    return torch.tensor(problem.environment_probability) * log_probability(problem, logits).sum(1).exp()


def success(problem, logits):
    """(P,) expected reward of each prompt, differentiable."""
    paid = probability(problem, logits) * torch.tensor(problem.reward)
    return torch.zeros(problem.n_prompts, dtype=torch.float64).index_add(0, torch.tensor(problem.prompt).long(), paid)
