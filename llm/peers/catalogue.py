"""Every loss of another library that the audit can be run on, by the name that the library or its paper gives it.

A peer's settings are the library's defaults, except where the library demands one that has no default; those are listed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from . import liger, trl
from .errors import PeerRefusal


@dataclass(frozen=True)
class Peer:
    """A loss that another library ships.

    library: "trl" or "liger". name: what to ask for. kind: whether it is a loss of groups or of pairs. make: builds it from an
    `accumulation` and the library's own settings. settings: those given where the library has no default, or that make the
    loss what its name says.
    group_size: answers a group that the audit is to use. owner: the class whose code runs.
    """

    library: Literal["trl", "liger"]
    name: str
    kind: Literal["group", "pair"]
    make: Callable[..., Any]
    owner: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    group_size: int = 3

    def loss(self, accumulation: int = 1, **settings: Any) -> Any:
        """The callable; `settings` as the library spells them. Raises PeerMissing, PeerRefusal."""
        return self.make(accumulation=accumulation, **{**self.settings, **settings})

    @property
    def title(self) -> str:
        """The library and the name."""
        return f"{ {'trl': 'TRL', 'liger': 'Liger'}[self.library] } {self.name}"


def _named(module: Any, maker: str, loss_type: str) -> Callable[..., Any]:
    def make(**settings: Any) -> Any:
        return getattr(module, maker)(loss_type, **settings)

    return make


SMOOTHED = {"exo_pair": {"label_smoothing": 1e-3}}
SEQUENCE = {"importance_sampling_level": "sequence"}

PEERS: tuple[Peer, ...] = (
    *(Peer("trl", name, "group", _named(trl, "grpo", name), "GRPOTrainer") for name in trl.GROUP_LOSSES),
    Peer("trl", "gspo", "group", _named(trl, "grpo", "grpo"), "GRPOTrainer", SEQUENCE),
    Peer("trl", "rloo", "group", trl.rloo, "RLOOTrainer"),
    Peer("trl", "online_dpo", "group", _named(trl, "online_dpo", "sigmoid"), "experimental OnlineDPOTrainer", {}, 2),
    Peer("trl", "online_ipo", "group", _named(trl, "online_dpo", "ipo"), "experimental OnlineDPOTrainer", {}, 2),
    *(Peer("liger", name, "group", _named(liger, "grpo", name), "LigerFusedLinearGRPOLoss") for name in liger.GROUP_LOSSES),
    Peer("liger", "gspo", "group", _named(liger, "grpo", "grpo"), "LigerFusedLinearGRPOLoss", SEQUENCE),
    *(Peer("trl", name, "pair", _named(trl, "dpo", name), "DPOTrainer", SMOOTHED.get(name, {})) for name in trl.PAIR_LOSSES),
    Peer("trl", "kto", "pair", _named(trl, "kto", "kto"), "KTOTrainer"),
    Peer("trl", "apo_zero_unpaired", "pair", _named(trl, "kto", "apo_zero_unpaired"), "KTOTrainer"),
    Peer("trl", "cpo", "pair", _named(trl, "cpo", "sigmoid"), "experimental CPOTrainer"),
    Peer("trl", "cpo_hinge", "pair", _named(trl, "cpo", "hinge"), "experimental CPOTrainer"),
    Peer("trl", "cpo_ipo", "pair", _named(trl, "cpo", "ipo"), "experimental CPOTrainer"),
    Peer("trl", "simpo", "pair", _named(trl, "cpo", "simpo"), "experimental CPOTrainer"),
    Peer("trl", "alphapo", "pair", _named(trl, "cpo", "alphapo"), "experimental CPOTrainer"),
    Peer("trl", "orpo", "pair", trl.orpo, "experimental ORPOTrainer"),
    *(
        Peer("liger", name, "pair", _named(liger, "dpo", name), "LigerFusedLinearDPOLoss", SMOOTHED.get(name, {}))
        for name in liger.PAIR_LOSSES
    ),
    Peer("liger", "cpo", "pair", liger.cpo, "LigerFusedLinearCPOLoss"),
    Peer("liger", "simpo", "pair", liger.simpo, "LigerFusedLinearSimPOLoss"),
    Peer("liger", "orpo", "pair", liger.orpo, "LigerFusedLinearORPOLoss"),
    Peer("liger", "kto", "pair", liger.kto, "LigerFusedLinearKTOLoss"),
)


def peer(library: str, name: str) -> Peer:
    """The loss `name` of `library`. Raises PeerRefusal with the names there are."""
    for candidate in PEERS:
        if (candidate.library, candidate.name) == (library, name):
            return candidate
    known = ", ".join(candidate.name for candidate in PEERS if candidate.library == library)
    raise PeerRefusal(f"{library} has no loss {name!r} here; it has {known}")


def versions() -> dict[str, str]:
    """Releases of the libraries that are installed. Raises PeerMissing without one of them."""
    return {"trl": trl.version(), "liger-kernel": liger.version()}
