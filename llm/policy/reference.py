r"""Reference policies: copies of the policy that lag behind it.

After each update of the policy theta the reference phi becomes decay * phi + (1 - decay) * theta:

| decay | reference |
|---|---|
| 1 | the initial policy, frozen |
| in (0, 1) | an exponential moving average |
| 0 | the previous iterate: what the policy was when the update began |

Or it is another policy altogether, a checkpoint of some run (`llm.train.policy_at`), and stays what it is.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

from .causal import Policy
from .errors import PolicyError
from .sharding import whole


class Reference:
    """A lagging copy of a policy. Raises PolicyError for a decay outside [0, 1].

    given: another policy of the same tokens, which stays as it is, in place of a copy. With a LoRA adapter and decay 1 nothing
    is copied: the reference is the policy with its adapter switched off.
    """

    def __init__(self, policy: Policy, decay: float = 1.0, given: Policy | None = None) -> None:
        if not 0 <= decay <= 1:
            raise PolicyError(f"decay={decay} of a reference; 1 is frozen, 0 the previous iterate, in between an average")
        if given is not None and (given.vocabulary != policy.vocabulary or decay != 1):
            raise PolicyError(
                f"a given reference of {given.vocabulary} tokens with decay {decay}; it has the policy's {policy.vocabulary} "
                "tokens and decay 1"
            )
        self.decay = decay
        self._without_adapter = policy.adapter is not None and decay == 1 and given is None
        self.policy = policy if self._without_adapter else (given or policy).copy()
        if given is not None:
            self.policy.model.to(policy.device)
            self.policy.precision = policy.precision

    def active(self) -> AbstractContextManager[None]:
        """While it is entered, `policy` is the reference and not what it may share weights with."""
        return self.policy.adapter.disable_adapter() if self._without_adapter else nullcontext()

    @torch.no_grad()
    def follow(self, policy: Policy) -> None:
        """Move towards `policy`; to be called before each of its updates for the previous iterate, after it for an average."""
        if self.decay == 1:
            return
        all_theirs = policy.model.parameters() if policy.parts is None else policy.parts.values()
        for mine, theirs in zip(self.policy.model.parameters(), map(whole, all_theirs), strict=True):
            mine.lerp_(theirs, 1 - self.decay) if self.decay else mine.copy_(theirs)
