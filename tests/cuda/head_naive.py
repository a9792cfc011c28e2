"""The head's formulas written out with the whole table of logits, for autograd; and inputs to try them on."""

import torch


def naive(hidden, weight, target, temperature=1.0, top=0):
    """log-probability, entropy, top mass, each (N,)."""
    log_p = (hidden @ weight.T / temperature).log_softmax(-1)
    chosen = log_p.gather(1, target[:, None])[:, 0]
    return chosen, -(log_p.exp() * log_p).sum(-1), log_p.exp().sort(descending=True).values[:, :top].sum(-1)


def inputs(n, v, d, seed=0, dtype=torch.float64, spread=1.0, level=0.0):
    """hidden (n, d), weight (v, d), target (n,), two gradients from above (n,), some of whose rows are zero in both."""
    rng = torch.Generator().manual_seed(seed)
    hidden = spread * torch.randn(n, d, generator=rng, dtype=torch.float64)
    weight = torch.randn(v, d, generator=rng, dtype=torch.float64)
    if level:
        hidden[:, 0], weight[:, 0] = 1.0, level
    target = torch.randint(v, (n,), generator=rng)
    up_logp, up_entropy = torch.randn(2, n, generator=rng, dtype=torch.float64)
    up_logp[::3], up_entropy[::3] = 0.0, 0.0
    up_logp[1::4] = 0.0
    up_entropy[2::5] = 0.0
    return [x.to(dtype) for x in (hidden, weight)] + [target] + [x.to(dtype) for x in (up_logp, up_entropy)]


def gradients(function, hidden, weight, target, up_logp, up_entropy, **settings):
    """Values, and the gradients by hidden and weight of sum(up_logp logp + up_entropy entropy)."""
    hidden, weight = hidden.detach().clone().requires_grad_(), weight.detach().clone().requires_grad_()
    values = function(hidden, weight, target, **settings)
    total = (up_logp * values[0]).sum() + ((up_entropy * values[1]).sum() if values[1] is not None else 0.0)
    return values, torch.autograd.grad(total, (hidden, weight))
