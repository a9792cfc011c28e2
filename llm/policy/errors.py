"""What transformer policies raise."""

from ...mdp.errors import BanachError


class PolicyError(BanachError, ValueError):
    """A model, a prompt or a setting does not make a policy; the message says what does not fit."""


class ModelMissing(BanachError, FileNotFoundError):  # noqa: N818 - what is so, said by the message
    """A model is not on this machine, or its files are damaged; the message names the command that fetches it."""
