"""A set as its owner distributes it: its pictures, their captions, and a reader.

A missing or mismatched file is a UserError before anything is written. The error names the file and the place
that offers it. A picture that does not decode is no such error: it is left out and named
(data/preparation.py).
"""

import os
import re
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

from PIL import Image

from synth import console
from synth.errors import UserError

PICTURES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"}  # extensions, in small letters

Json = Mapping[str, Any]


@dataclass(frozen=True)
class Source:
    """The origin of a set: its name, title, place and licence."""

    name: str  # as in data/NAME
    title: str
    place: str  # the owner's page; empty if there is none
    licence: str

    @property
    def advice(self) -> str:
        """The end of a sentence about something missing."""
        return f": is {self.title} unpacked whole? Its owner offers it at {self.place}" if self.place else ""


class Original(NamedTuple):
    """A picture before it is prepared."""

    name: str  # unique in its set; for a file its path below the root
    captions: tuple[str, ...] = ()
    about: Json = MappingProxyType(
        {}
    )  # more entries of its sample; never "caption", "params" or "stats", which other stages read
    bytes: int = 0  # of its file: another file under its name makes another set


_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")

Splits = Mapping[str, Sequence[Original]]  # by name: train, test ...


class Pictures(Protocol):
    """A reader of originals that works in any process."""

    def open(self, name: str) -> Image.Image:
        """Returns the picture. Raises the errors that `data.decoding.decoding` turns into one."""


@dataclass(frozen=True)
class Files:
    """Pictures that are files below a folder."""

    root: str

    def open(self, name: str) -> Image.Image:
        """Returns the picture of a file."""
        return Image.open(Path(self.root, name))


def set_name(name: str | None, place: str) -> str:
    """Returns the requested name of a set, else the last part of its place. Raises UserError if it cannot
    name files."""
    found = name or re.sub(r"[^A-Za-z0-9._-]+", "-", place.rstrip("/").rsplit("/", 1)[-1]).strip("-.")
    if not _NAME.fullmatch(found):
        raise UserError(
            f"--name is {found!r}; give letters, digits, dots, dashes and underscores, as flickr8k"
        )
    return found


def require(path: Path, source: Source) -> Path:
    """Returns the path of a file or folder of the original. Raises UserError if it does not exist."""
    if not path.exists():
        raise UserError(f"{path} is missing{source.advice}")
    return path


def sizes(folder: Path, source: Source, *, suffixes: Collection[str] = PICTURES) -> dict[str, int]:
    """Returns the bytes of every picture below a folder, by path relative to it, sorted. Names that begin
    with a dot are skipped.

    Raises UserError if there is no such folder, or one holds a link to itself."""
    found: dict[str, int] = {}
    waiting = [require(folder, source)]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir():
                    _require_no_loop(entry)
                    waiting.append(Path(entry.path))
                elif os.path.splitext(entry.name)[1].lower() in suffixes:
                    found[os.path.relpath(entry.path, folder)] = _size(entry)
    for name in found:
        if name.encode(errors="replace").decode() != name:
            raise UserError(f"the name of {name!a} in {folder} is not UTF-8; rename it")
    return dict(sorted(found.items()))


def _require_no_loop(entry: os.DirEntry[str]) -> None:
    """Raises UserError if a folder is a link to one that holds it. Its pictures would repeat without end."""
    if entry.is_symlink() and Path(entry.path).parent.resolve().is_relative_to(Path(entry.path).resolve()):
        raise UserError(f"{entry.path} is a link to a folder that holds it; remove the link")


def _size(entry: os.DirEntry[str]) -> int:
    """Returns the bytes of a file. Raises UserError if it is not a regular file: opening a pipe would wait
    forever."""
    about = entry.stat()
    if not stat.S_ISREG(about.st_mode):
        raise UserError(f"{entry.path} is called like a file and is none; remove it")
    return about.st_size


def text(path: Path, source: Source) -> str:
    """Returns the content of a text file. Raises UserError if it is missing or not UTF-8."""
    try:
        return require(path, source).read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path} is not UTF-8 (byte {error.start:,} is none of it); convert it, for example with iconv"
        ) from None


def lines(path: Path, source: Source) -> Iterator[str]:
    """Returns the lines of a text file that are not blank, without surrounding spaces. Raises UserError as
    `text` does."""
    return (line.strip() for line in text(path, source).split("\n") if line.strip())


def require_pairs(pictures: Collection[str], captioned: Collection[str], where: str, source: Source) -> None:
    """Raises UserError if pictures (by name) have no captions, or captions no picture. `where` names the
    place of the captions."""
    pictures, captioned = set(pictures), set(captioned)
    bare, lost = pictures - captioned, captioned - pictures
    for lone, what in (
        (bare, f"has no caption in {where}"),
        (lost, f"has captions in {where} and is not there"),
    ):
        if lone:
            more = f" (and {len(lone) - 1:,} more)" if len(lone) > 1 else ""
            raise UserError(f"{min(lone)} {what}{more}{source.advice}")


def require_all(named: Iterable[str], present: Collection[str], where: str, source: Source) -> None:
    """Raises UserError if a named entry is not present. `where` is the file that names it."""
    if lost := sorted(name for name in named if name not in present):
        more = f" (and {len(lost) - 1:,} more)" if len(lost) > 1 else ""
        raise UserError(f"{lost[0]} is named in {where} and is not there{more}{source.advice}")


def first_of(folder: Path, names: Sequence[str], source: Source) -> Path:
    """Returns the first of several paths below a folder that exists. Raises UserError, which names the first,
    if none does."""
    return next((path for name in names if (path := folder / name).exists()), None) or require(
        folder / names[0], source
    )


def note_counts(found: Splits, whole: Mapping[str, int]) -> None:
    """Notes the splits with another number of pictures than the whole set has. A part of the set may be
    intended."""
    for split, originals in found.items():
        if len(originals) != whole[split]:
            console.note(
                f"note: {split} has {len(originals):,} pictures where the whole set has {whole[split]:,}"
            )
