"""What the audit raises, and what it catches."""

from ...mdp.errors import BanachError


class AuditError(BanachError, ValueError):
    """The request makes no sense: a name that leads to no loss, a group of no sequences, a problem too large to enumerate."""


class LossFailure(BanachError, RuntimeError):  # noqa: N818 - what happened, said by the finding
    """The audited loss raised, or returned something that is not a scalar; the message is the finding's verdict."""
