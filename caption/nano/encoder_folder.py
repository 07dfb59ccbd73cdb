"""The folder of an encoder that fit-encoder wrote: what it may replace, and how a new one appears.

A folder changes whole: the new files are written beside it, then it is renamed.
"""

import contextlib
import os
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path

from caption.encoders import MERGES
from caption.nano import card, hub_model, hub_tokenizer, network
from synth.errors import UserError
from synth.sets.storage import Folder, plain_errors, sync

FILES = frozenset(
    [
        *(network.CONFIG, network.WEIGHTS, MERGES, card.NAME),
        *(hub_model.CONFIG, hub_model.WEIGHTS, hub_tokenizer.FILE, hub_tokenizer.CONFIG),
    ]
)

_MARK = "python -m caption fit-encoder "  # on every card


def is_finished(out: str, command: str, *, replaces: bool) -> bool:
    """Returns True if a folder has the encoder of this command. With `replaces`, a new one takes its place.

    Raises UserError if it has other files, or the encoder of another command that stays."""
    # Files of fit-encoder.
    names = Folder(out).sizes().keys()
    if not names:
        return False
    page = Path(out) / card.NAME
    text = page.read_text(encoding="utf-8", errors="replace") if page.is_file() else ""
    if _MARK not in text or not names >= {network.CONFIG, network.WEIGHTS}:
        problem = f"--out is {out}, which holds other files than an encoder of fit-encoder"
        raise UserError(f"{problem}; give a new folder")
    if strange := sorted(names - FILES):
        problem = f"--out is {out}, which holds an encoder and also {strange[0]}"
        raise UserError(f"{problem}; move it away, or give a new folder")

    # The same command.
    if replaces:
        return False
    if f"\n{command}\n" not in text:
        raise UserError(f"--out is {out}, which holds the encoder of another command; give a new folder")
    return True


def write(out: str, files: Mapping[str, bytes]) -> None:
    """Writes a folder whole, in place of an earlier one. Raises UserError if it cannot be written."""
    # A scratch folder beside this one, so that a rename can move it.
    place = Path(out).resolve()
    scratch, old = (place.with_name(f".{place.name}.{secrets.token_hex(4)}.tmp") for _ in range(2))
    try:
        for name, data in files.items():
            Folder(str(scratch)).write(name, data)
        with plain_errors(out):
            # A folder without files is replaced by the rename itself.
            if Folder(str(place)).sizes():
                os.rename(place, old)
            try:
                os.rename(scratch, place)
            except OSError:
                with contextlib.suppress(OSError):
                    os.rename(old, place)
                raise
            sync(place.parent)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        if place.exists():
            shutil.rmtree(old, ignore_errors=True)
