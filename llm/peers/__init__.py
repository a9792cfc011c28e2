"""Other libraries' losses, as they ship, in the signatures of the audit."""

from . import liger, trl
from .accumulation import accumulation
from .agreement import difference, twin
from .catalogue import PEERS, Peer, peer, versions
from .errors import PeerMissing, PeerRefusal
from .survey import examine, survey

__all__ = [
    "PEERS",
    "Peer",
    "PeerMissing",
    "PeerRefusal",
    "accumulation",
    "difference",
    "examine",
    "liger",
    "peer",
    "survey",
    "trl",
    "twin",
    "versions",
]
