r"""Does the likelihood of the chosen response rise?

A step of gradient ascent on an objective with score weights w moves the parameters along g = sum_j w_j grad log pi(y_j), so to
first order the log-likelihoods of the chosen sequences change at the rates

    d log pi(y_i) / dt = <grad log pi(y_i), g>,

and a contrast of a pair alone may well push both of its sequences down when their gradients are alike (Razin et al. 2024,
2410.08847; Shi et al. 2024, 2410.11677). For a log-linear policy pi ~ q e^{theta phi} and one pair the rate is proportional to

    (phi_w - mean phi) . (phi_w - phi_l),

which for one-hot phi is 1 - pi_w + pi_l > 0: a table always raises the chosen response, a model need not.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from .errors import BatchError
from .evaluation import Evaluation


def likelihood_displacement(
    evaluation: Evaluation, logp_chosen_B: Tensor, logp_rejected_B: Tensor | None, parameters: Iterable[Tensor]
) -> Tensor:
    """Rates d log pi(chosen) / dt along the objective's gradient flow, (B,), exact for any model that can be differentiated
    twice.

    logp_chosen_B, logp_rejected_B: (B,), with their graphs, of the batch that was evaluated; the latter None for single
        sequences.
    parameters: the tensors that the step moves. The graphs are kept.
    Raises BatchError when a log-probability has no graph or the sides do not match the weights.
    """
    sides: list[tuple[str, Tensor | None, Tensor | None]] = [("logp_chosen_B", logp_chosen_B, evaluation.weight_chosen_B)]
    if evaluation.weight_rejected_B is not None:
        sides.append(("logp_rejected_B", logp_rejected_B, evaluation.weight_rejected_B))
    outputs, weights = [], []
    for name, logp_B, weight_B in sides:
        if logp_B is None or weight_B is None or not logp_B.requires_grad or logp_B.shape != weight_B.shape:
            raise BatchError(f"{name} must be the batch's log-probabilities with their graph, one for each score weight")
        outputs.append(logp_B)
        weights.append(weight_B.to(logp_B))
    leaves = list(parameters)
    # J'v is linear in v, so its derivative by v along the step g is J g: forward mode by two passes of reverse mode
    probe_B = torch.zeros_like(logp_chosen_B, requires_grad=True)
    pulled = torch.autograd.grad(logp_chosen_B, leaves, probe_B, create_graph=True, allow_unused=True)
    step = torch.autograd.grad(outputs, leaves, weights, retain_graph=True, allow_unused=True)
    moved = [(p, s) for p, s in zip(pulled, step, strict=True) if p is not None and s is not None and p.requires_grad]
    if not moved:
        return torch.zeros_like(logp_chosen_B.detach())
    return torch.autograd.grad([p for p, _ in moved], probe_B, [s for _, s in moved], retain_graph=True)[0]
