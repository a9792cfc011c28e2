"""Losses of the literature in plain torch, written for the audit's tests and sharing nothing with the objective core."""

import torch
from torch.nn.functional import logsigmoid


def advantages(rewards, groups, kind):
    """raw, mean, loo, std (population) or bessel (n - 1, plus 1e-4), group by group."""
    n = int(groups.max()) + 1
    same = (groups[:, None] == groups[None, :]).to(rewards.dtype)
    size = same.sum(1)
    mean = same @ rewards / size
    if kind == "raw":
        return rewards
    centred = rewards - mean
    if kind == "mean":
        return centred
    if kind == "loo":
        return centred * size / (size - 1)
    square = same @ centred.square()
    if kind == "std":
        return centred / ((square / size).sqrt() + 1e-8)
    assert kind == "bessel"
    assert n > 0
    return centred / ((square / (size - 1)).sqrt() + 1e-4)


def policy_loss(kind="raw", aggregate="sequence-sum", surrogate="likelihood", penalty=None, beta=0.1, low=0.2, high=0.2):
    """The family of REINFORCE, RLOO, PPO, GRPO, Dr. GRPO, DAPO and CISPO, by its parts."""

    def loss(logp, old, ref, mask, rewards, groups):
        A = advantages(rewards, groups, kind)[:, None]
        ratio = torch.exp(torch.where(mask, logp - old, 0))
        gap = torch.where(mask, logp - ref, 0)
        gain = {
            "likelihood": lambda: A * logp,
            "ratio": lambda: A * ratio,
            "clip": lambda: torch.minimum(A * ratio, A * ratio.clamp(1 - low, 1 + high)),
            "cispo": lambda: A * ratio.clamp(max=high).detach() * logp,
            "sequence": lambda: A * ratio.prod(1, keepdim=True) / mask.sum(1, keepdim=True),
        }[surrogate]()
        cost = {
            None: lambda: 0 * gap,
            "k1": gap.clone,
            "k2": lambda: gap.square() / 2,
            "k3": lambda: torch.exp(-gap) + gap - 1,
        }[penalty]()
        x = torch.where(mask, beta * cost - gain, 0)
        return {
            "sequence-sum": x.sum(1).mean,
            "sequence-mean": (x.sum(1) / mask.sum(1)).mean,
            "token-mean": lambda: x.sum() / mask.sum(),
            "constant": lambda: x.sum(1).mean() / 4,
            "padded": x.mean,
            "total": x.sum,
        }[aggregate]()

    return loss


def margin(chosen, rejected, ref_chosen, ref_rejected):
    """The log-ratio margin of a pair."""
    return (chosen - rejected) - (ref_chosen - ref_rejected)


def dpo(beta):
    """-log sigma(beta m)."""
    return lambda c, r, a, b, *_: -logsigmoid(beta * margin(c, r, a, b)).mean()


def cdpo(beta, flip):
    """DPO with a share of labels flipped."""

    def loss(c, r, a, b, *_):
        m = beta * margin(c, r, a, b)
        return (-(1 - flip) * logsigmoid(m) - flip * logsigmoid(-m)).mean()

    return loss


def ipo(tau):
    """(m - 1 / (2 tau))^2."""
    return lambda c, r, a, b, *_: (margin(c, r, a, b) - 1 / (2 * tau)).square().mean()


def hinge(beta):
    """max(0, 1 - beta m)."""
    return lambda c, r, a, b, *_: torch.relu(1 - beta * margin(c, r, a, b)).mean()


def simpo(beta, gamma):
    """-log sigma of the length-averaged margin less gamma, no reference."""
    return lambda c, r, a, b, lc, lr: -logsigmoid(beta * (c / lc - r / lr) - gamma).mean()


def orpo(weight):
    """Likelihood and log odds ratio."""

    def loss(c, r, a, b, lc, lr):
        odds = [logp / n - torch.log1p(-torch.exp(logp / n)) for logp, n in ((c, lc), (r, lr))]
        return (-c - weight * logsigmoid(odds[0] - odds[1])).mean()

    return loss
