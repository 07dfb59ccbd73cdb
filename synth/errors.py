"""DOOR. The one exception that a user is meant to read."""


class UserError(Exception):
    """What was wrong, what is allowed and what to do, in one plain sentence. Commands print it and leave with exit code 2."""
