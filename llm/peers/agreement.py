"""How far two libraries' implementations of one loss are apart.

Liger implements TRL's losses; where both give the same gradient in the log-probabilities, what the audit says of one holds of
the other. Compared are the gradients on the batches of `accumulation`, off the policy, of unequal lengths, padding included; at
equal settings: Liger's GRPO has a divergence from the reference by default (beta 0.04), TRL's has none.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from .accumulation import BATCHES, SINGLE, gradient
from .catalogue import Peer, peer

EQUAL_SETTINGS: Mapping[str, Mapping[str, Any]] = MappingProxyType({"group": {"beta": 0.0}, "pair": {}})
"""What makes Liger's defaults those of TRL."""

ROUNDING = SINGLE
"""Relative difference that float32 explains."""


def twin(liger: Peer) -> Peer:
    """TRL's loss of the same name and kind. Raises PeerRefusal when there is none."""
    return peer("trl", liger.name)


def difference(liger: Peer) -> float:
    """Largest relative difference of a Liger loss's gradient from its twin's. Raises PeerMissing, PeerRefusal."""
    worst = 0.0
    for seed in range(BATCHES):
        ours = gradient(liger.loss(**EQUAL_SETTINGS[liger.kind]), liger.kind, seed)
        theirs = gradient(twin(liger).loss(), liger.kind, seed)
        worst = max(worst, float((ours - theirs).norm() / theirs.norm()))
    return worst
