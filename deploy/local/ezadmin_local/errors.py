"""The one error that a user sees."""


class LocalError(Exception):
    """What went wrong, where it is and what to do; printed without a traceback, exit status 1."""
