"""What the library raises when a model, a file or a request is wrong.

Every message names the place (state, action, key or number) and the remedy.
"""


class BanachError(Exception):
    """Root of everything the library raises on purpose."""


class ModelError(BanachError, ValueError):
    """The numbers do not form a decision problem; the message names the state, the action and the number."""


class FileFormatError(BanachError, ValueError):
    """A file is truncated, damaged or not of the format that its reader expects."""
