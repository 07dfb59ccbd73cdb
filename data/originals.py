"""A set as its owner distributes it: which pictures it has, what is said of them, and how one is opened.

Whatever is missing or does not match is a UserError that names the file and the place where the owner offers it, before anything is
written; a picture that turns out not to decode is no error of the set: it is left out and named (data/preparation.py).
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
    """Whose set it is."""

    name: str  # as in data/NAME
    title: str
    place: str  # where its owner offers it; empty where nobody does
    licence: str

    @property
    def advice(self) -> str:
        """How a sentence about something missing ends."""
        return f": is {self.title} unpacked whole? Its owner offers it at {self.place}" if self.place else ""


class Original(NamedTuple):
    """A picture before it is prepared."""

    name: str  # unique in its set; a path below the root where it is a file
    captions: tuple[str, ...] = ()
    about: Json = MappingProxyType({})  # what else its sample says; never "caption", "params" or "stats", which other stages read
    bytes: int = 0  # of its file: another file under its name makes another set


_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")

Splits = Mapping[str, Sequence[Original]]  # by name: train, test ...


class Pictures(Protocol):
    """How originals are opened, in whatever process it is."""

    def open(self, name: str) -> Image.Image:
        """The picture. Raises what `data.decoding.decoding` makes one error of."""


@dataclass(frozen=True)
class Files:
    """Pictures that are files below a folder."""

    root: str

    def open(self, name: str) -> Image.Image:
        """The picture of a file."""
        return Image.open(Path(self.root, name))


def set_name(name: str | None, place: str) -> str:
    """What a set is called: as asked for, else as the last part of its place. Raises UserError where that could name no files."""
    found = name or re.sub(r"[^A-Za-z0-9._-]+", "-", place.rstrip("/").rsplit("/", 1)[-1]).strip("-.")
    if not _NAME.fullmatch(found):
        raise UserError(f"--name is {found!r}; give letters, digits, dots, dashes and underscores, as flickr8k")
    return found


def require(path: Path, source: Source) -> Path:
    """The path, of a file or folder of the original. Raises UserError where it is not there."""
    if not path.exists():
        raise UserError(f"{path} is missing{source.advice}")
    return path


def sizes(folder: Path, source: Source, *, suffixes: Collection[str] = PICTURES) -> dict[str, int]:
    """Bytes of every picture below a folder, by path relative to it, sorted; names that begin with a dot are passed over.

    Raises UserError where there is no such folder, or one holds a link to itself."""
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
    """Raises UserError where a folder is a link to one that holds it: its pictures would be found again and again."""
    if entry.is_symlink() and Path(entry.path).parent.resolve().is_relative_to(Path(entry.path).resolve()):
        raise UserError(f"{entry.path} is a link to a folder that holds it; remove the link")


def _size(entry: os.DirEntry[str]) -> int:
    """Bytes of a file. Raises UserError where it is none: opening a pipe would wait forever."""
    about = entry.stat()
    if not stat.S_ISREG(about.st_mode):
        raise UserError(f"{entry.path} is called like a file and is none; remove it")
    return about.st_size


def text(path: Path, source: Source) -> str:
    """A text file. Raises UserError where it is missing or not UTF-8."""
    try:
        return require(path, source).read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 (byte {error.start:,} is none of it); convert it, for example with iconv") from None


def lines(path: Path, source: Source) -> Iterator[str]:
    """The lines of a text file that hold something, without the spaces around them. Raises UserError as `text` does."""
    return (line.strip() for line in text(path, source).split("\n") if line.strip())


def require_pairs(pictures: Collection[str], captioned: Collection[str], where: str, source: Source) -> None:
    """Raises UserError where pictures (by name) have no captions, or captions no picture; `where` says where captions stand."""
    pictures, captioned = set(pictures), set(captioned)
    bare, lost = pictures - captioned, captioned - pictures
    for lone, what in ((bare, f"has no caption in {where}"), (lost, f"has captions in {where} and is not there")):
        if lone:
            more = f" (and {len(lone) - 1:,} more)" if len(lone) > 1 else ""
            raise UserError(f"{min(lone)} {what}{more}{source.advice}")


def require_all(named: Iterable[str], present: Collection[str], where: str, source: Source) -> None:
    """Raises UserError where something that is named is not present; `where` says which file names it."""
    if lost := sorted(name for name in named if name not in present):
        more = f" (and {len(lost) - 1:,} more)" if len(lost) > 1 else ""
        raise UserError(f"{lost[0]} is named in {where} and is not there{more}{source.advice}")


def first_of(folder: Path, names: Sequence[str], source: Source) -> Path:
    """The first of several paths below a folder that is there. Raises UserError, which names the first, where none is."""
    return next((path for name in names if (path := folder / name).exists()), None) or require(folder / names[0], source)


def note_counts(found: Splits, whole: Mapping[str, int]) -> None:
    """Says which splits have other numbers of pictures than the whole set has: a part of it may be meant."""
    for split, originals in found.items():
        if len(originals) != whole[split]:
            console.note(f"note: {split} has {len(originals):,} pictures where the whole set has {whole[split]:,}")
