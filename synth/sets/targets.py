"""Targets of commands that write to this machine alone, checked before any work."""

from pathlib import Path

from synth.errors import UserError
from synth.sets.storage import Folder


def file(out: str, ending: str = "", option: str = "--out", *, beside: str = "") -> Path:
    """Returns the path of a file to write. `beside` is the ending of a second file there.

    Raises UserError if it is a URL, has another ending, is a folder, or lies in one that takes no files."""
    advice = f"give the name of a {ending} file" if ending else "give the name of a file"
    if "://" in out:
        raise UserError(f"{option} is {out}; {advice} on this machine")
    if not out.endswith(ending):
        raise UserError(f"{option} is {out}; it must end in {ending}")
    path = Path(out)
    for place in (path, path.with_suffix(beside)) if beside else (path,):
        if place.is_dir():
            raise UserError(f"{option} is {out}, and {place} is a folder; {advice}")
    Folder(str(path.parent)).require_writable()
    return path


def folder(out: str, option: str = "--out") -> Path:
    """Returns the path of a folder to write.

    Raises UserError if it is a URL, is a file, or is in a folder that takes no files."""
    if "://" in out:
        raise UserError(f"{option} is {out}; give a folder on this machine")
    if Path(out).exists() and not Path(out).is_dir():
        raise UserError(f"{option} is {out}, which is a file; give a folder")
    Folder(out).require_writable()
    return Path(out)
