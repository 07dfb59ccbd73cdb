"""SHA256SUMS of a finished set: `sha256sum -c SHA256SUMS` in its folder compares every part."""

from typing import Any

NAME = "SHA256SUMS"

Json = dict[str, Any]


def document(manifest: Json, folder: str = "") -> bytes:
    """Returns the checksums of the parts. `folder` is theirs, below the set's, with a slash."""
    lines = (f"{part['sha256']}  {folder}{part['file']}\n" for part in manifest["parts"])
    return "".join(lines).encode()
