"""What can go wrong between another library's loss and a batch of ours."""

from ...mdp.errors import BanachError


class PeerMissing(BanachError, ImportError):  # noqa: N818 - what is so, said by the message
    """The library that ships the loss is not installed; the message says how to install it."""


class PeerRefusal(BanachError, ValueError):  # noqa: N818
    """The library cannot be fed this batch, this setting or this loss name; the message says which and what it can be fed."""
