"""A set as its owner distributes it: its pictures, their captions, and a reader.

A missing or mismatched file is a UserError before anything is written. The error names the file and its
owner's page. A picture that does not decode is no such error: the set is prepared without it, and its record
names it (data/preparation.py).
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

from synth import console, foreign
from synth.errors import UserError
from synth.images import conversion

PICTURES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"}  # extensions, lower case
_UNREAD = {f".{extension}" for extension in conversion.EXTENSIONS} - PICTURES

Json = Mapping[str, Any]


@dataclass(frozen=True)
class Source:
    """The origin of a set: its name, title, place and licence."""

    name: str  # as in data/NAME
    title: str
    place: str  # the owner's page; empty if there is none
    licence: str

    def __post_init__(self) -> None:
        """Raises UserError if no file can store the licence, which --licence may name."""
        if not foreign.is_utf8(self.licence):
            raise UserError(f"--licence is {foreign.escaped(self.licence)!a}, which is not UTF-8; correct it")

    @property
    def advice(self) -> str:
        """The end of a sentence about something missing."""
        return f": is {self.title} unpacked whole? Its owner offers it at {self.place}" if self.place else ""


class Original(NamedTuple):
    """A picture before it is prepared."""

    name: str  # unique in its set; for a file its path below the root
    captions: tuple[str, ...] = ()
    # More entries of its sample; never "caption", "params" or "stats", which other stages read.
    metadata: Json = MappingProxyType({})
    bytes: int = 0  # of its file: another file under its name makes another set


_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")

Splits = Mapping[str, Sequence[Original]]  # by name: train, test ...


class Pictures(Protocol):
    """A reader of originals that works in any process."""

    def open(self, name: str) -> Image.Image:
        """Returns the picture. Raises errors that `data.decoding.decoding` converts."""


@dataclass(frozen=True)
class Files:
    """Pictures that are files below a folder."""

    root: str

    def open(self, name: str) -> Image.Image:
        """Returns the picture of a file."""
        return Image.open(Path(self.root, name))


def set_name(name: str | None, place: str) -> str:
    """Returns the requested name of a set, else the last part of its place.

    Raises UserError if it cannot name files."""
    last = place.rstrip("/").rsplit("/", 1)[-1]
    file_name = name or re.sub(r"[^A-Za-z0-9._-]+", "-", last).strip("-.")
    if not _NAME.fullmatch(file_name):
        raise UserError(
            f"--name is {file_name!r}; give letters, digits, dots, dashes and underscores, such as flickr8k"
        )
    return file_name


def require(path: Path, source: Source) -> Path:
    """Returns the path of a file or folder of the original. Raises UserError if it does not exist."""
    if not path.exists():
        raise UserError(f"{path} is missing{source.advice}")
    return path


def sizes(folder: Path, source: Source, *, suffixes: Collection[str] = PICTURES) -> dict[str, int]:
    """Returns the bytes of every picture below a folder, by path relative to it, sorted.

    Names that begin with a dot are skipped. Pictures of a kind that is not read are skipped too, with a note.
    Raises UserError if there is no such folder, or one holds a link to itself."""
    # Every folder below.
    bytes_of: dict[str, int] = {}
    unread: list[str] = []
    waiting = [require(folder, source)]
    if not folder.is_dir():
        raise UserError(f"{folder} is a file; give a folder")
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir():
                    _require_no_loop(entry)
                    waiting.append(Path(entry.path))
                    continue
                suffix = os.path.splitext(entry.name)[1].lower()
                if suffix in suffixes:
                    bytes_of[os.path.relpath(entry.path, folder)] = _size(entry)
                elif suffix in _UNREAD and suffixes is PICTURES:
                    unread.append(os.path.relpath(entry.path, folder))

    # Pictures passed over.
    if unread:
        first = f"among them {foreign.escaped(min(unread))}; read are {_known()}"
        console.note(f"note: {len(unread):,} pictures of {folder} are of a kind that is not read, {first}")

    # Names must fit into JSON.
    for name in bytes_of:
        if not foreign.is_utf8(name):
            raise UserError(f"the name of {name!a} in {folder} is not UTF-8; rename it")
    return dict(sorted(bytes_of.items()))


def _require_no_loop(entry: os.DirEntry[str]) -> None:
    """Raises UserError if a folder is a link to one that contains it, also by way of other links.

    Its pictures would repeat forever."""
    if not entry.is_symlink():
        return
    path = Path(entry.path)
    if any(folder.resolve().is_relative_to(path.resolve()) for folder in path.absolute().parents):
        raise UserError(f"{entry.path} is a link to a folder that contains it; remove the link")


def _size(entry: os.DirEntry[str]) -> int:
    """Returns the bytes of a file.

    Raises UserError if it is no regular file: opening a pipe would wait forever."""
    status = entry.stat()
    if not stat.S_ISREG(status.st_mode):
        raise UserError(f"{entry.path} has the name of a picture, but is no regular file; remove it")
    return status.st_size


def text(path: Path, source: Source) -> str:
    """Returns the content of a text file. Raises UserError if it is missing or not UTF-8."""
    try:
        return require(path, source).read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path} is not UTF-8 (byte {error.start:,} is invalid); convert it, for example with iconv"
        ) from None


def lines(path: Path, source: Source) -> Iterator[str]:
    """Returns the lines of a text file that are not blank, without surrounding spaces.

    Raises UserError as `text` does."""
    return (line.strip() for line in text(path, source).split("\n") if line.strip())


def require_pairs(
    pictures: Collection[str], captioned: Collection[str], where: str, source: Source
) -> dict[str, str]:
    """Returns the name that each picture has among the captions. The two look equal to a person.

    `where` is the file or folder of the captions. Raises UserError if pictures (by name) have no captions, or
    captions no picture."""
    # Pairs.
    matched = foreign.matches(captioned, pictures)
    name_of = {picture: name for name, picture in matched.items()}
    for name, picture in matched.items():
        if name != name_of[picture]:
            both = f"{foreign.escaped(name)!a} and {foreign.escaped(name_of[picture])!a}"
            raise UserError(f"{where} has captions for {both}, which look equal; keep one{source.advice}")

    # Both kinds of lonely names. The error names the least of them.
    bare, lost = set(pictures) - name_of.keys(), set(captioned) - matched.keys()
    absent = f"has captions in {where}, but {_absence(min(lost, default=''))}"
    for names, problem, advice in (
        (bare, f"has no caption in {where}", "; write one, or move the picture elsewhere"),
        (lost, absent, "; add the picture, or remove its captions"),
    ):
        if names:
            sentence = f"{foreign.escaped(min(names))} {problem}{others(names)}"
            raise UserError(f"{sentence}{source.advice or advice}")
    return name_of


def require_all(names: Iterable[str], present: Collection[str], where: str, source: Source) -> dict[str, str]:
    """Returns the present name of each name. The two look equal to a person.

    `where` is the file that names them. Raises UserError if a name is not present."""
    names = list(names)
    matched = foreign.matches(names, present)
    if lost := sorted(name for name in names if name not in matched):
        problem = f"is named in {where}, but {_absence(lost[0])}"
        raise UserError(f"{foreign.escaped(lost[0])} {problem}{others(lost)}{source.advice}")
    return matched


def others(names: Collection[str]) -> str:
    """Returns the number of names besides the one in a sentence, such as " (and 2 more)", or nothing."""
    return f" (and {len(names) - 1:,} more)" if len(names) > 1 else ""


def _absence(name: str) -> str:
    """Returns a phrase about a picture that is named and not among those that are read."""
    if os.path.splitext(name)[1].lower() in _UNREAD:
        return f"is of a kind that is not read (read are {_known()})"
    return "does not exist"


def _known() -> str:
    return ", ".join(sorted(suffix[1:] for suffix in PICTURES))


def first_of(folder: Path, names: Sequence[str], source: Source) -> Path:
    """Returns the first of several paths below a folder that exists.

    Raises UserError, which names the first path, if none exists."""
    existing = (path for name in names if (path := folder / name).exists())
    return next(existing, None) or require(folder / names[0], source)


def note_counts(originals: Splits, whole: Mapping[str, int]) -> None:
    """Prints a note on every split that is smaller or larger than in the whole set.

    A part of the set may be intended."""
    for split, pictures in originals.items():
        if len(pictures) != whole[split]:
            console.note(
                f"note: {split} has {len(pictures):,} pictures; in the whole set it has {whole[split]:,}"
            )
