"""Files that cannot be read, and files that are damaged. The two are never confused.

A failing disk or network says nothing about the content of a file: see `storage.reading`. Content that does
not parse is damage only if the checksum of the file differs as well, because reads can be wrong too.
"""

import hashlib
from typing import Any

from synth.errors import UserError


class UnreadableError(UserError):
    """A file with content that does not parse, and no checksum to compare it with."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name} is damaged {reason}; give another, or fetch it again")
        self.name, self.reason = name, reason


def judged(error: UnreadableError, file: Any, sha256: str, remedy: str) -> UserError:
    """Returns the error about a file of a finished set that does not parse.

    It is damage, with the remedy, if the open file's checksum differs from the manifest's."""
    file.seek(0)
    if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
        return UserError(f"{error.name} is damaged {error.reason}; {remedy}")
    fault = f"{error.name} could not be read ({error.reason}), though its checksum is right"
    return UserError(f"{fault}; run the command again")
