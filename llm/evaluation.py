# ruff: noqa: N815 - names carry their shapes
r"""What evaluating an objective returns: the loss, its score weights in closed form, and diagnostics.

Every objective of the library has a gradient of the form

    grad(-loss) = sum weight_BT grad logp_BT  (+ sum weight_BTV grad log_policy_BTV + sum weight_entropy_BT grad entropy_BT),

so an objective *is* its score weights. They are computed without automatic differentiation, so that autograd is a second
witness, and so that a kernel which knows only logits and weights can carry the backward pass.

Shape suffixes: B sequences (or pairs), T token positions, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Evaluation:
    """A minimised loss with its ascent score weights.

    loss: scalar tensor, differentiable; minimised.
    weight_BT: (B, T), detached; grad(-loss) = sum of weight times grad of log-probability. None for losses on pairs.
    weight_chosen_B, weight_rejected_B: (B,), the same for the sequence log-probabilities of a pair. None for token losses.
    weight_BTV: (B, T, V), the same for `log_policy_BTV`, where a divergence is summed over the vocabulary. Else None.
    weight_entropy_BT: (B, T), the same for `entropy_BT`, where an entropy bonus is paid. Else None.
    value_loss: scalar tensor, minimised by the critic; None without a critic. It is not part of `loss`.
    weight_value_BT: (B, T), ascent weights of the value loss: grad(-value_loss) = sum of weight times grad value_BT. Else None.
    diagnostics: name -> number.
    """

    loss: Tensor
    weight_BT: Tensor | None = None
    diagnostics: dict[str, float] = field(default_factory=dict)
    weight_chosen_B: Tensor | None = None
    weight_rejected_B: Tensor | None = None
    weight_BTV: Tensor | None = None
    weight_entropy_BT: Tensor | None = None
    value_loss: Tensor | None = None
    weight_value_BT: Tensor | None = None
