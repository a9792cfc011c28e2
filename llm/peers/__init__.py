"""Other libraries' losses, as they ship, in the signatures of the audit."""

from . import liger, trl
from .errors import PeerMissing, PeerRefusal

__all__ = ["PeerMissing", "PeerRefusal", "liger", "trl"]
