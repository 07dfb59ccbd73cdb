"""DOOR. The one exception that a user is meant to read."""


class UserError(Exception):
    """One plain sentence for the user: the fault, the allowed values and the remedy. Commands print it and
    exit with code 2."""
