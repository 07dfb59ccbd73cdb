"""Tars of img2dataset: 00000.tar, each with its 00000_stats.json.

The module reads each tar once and checks that it is whole. It uses exnihilo's reader (synth.sets.shards),
not webdataset's: later stages use it too, so they read the same samples. The reader hashes the bytes that it
reads, and needs no torch. tests/test_img2dataset.py compares the two readers.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

from synth import console
from synth.errors import UserError
from synth.foreign import escaped, is_utf8, parsed_json
from synth.sets import shards
from synth.sets.damage import UnreadableError
from synth.sets.storage import Storage

_CHUNK = 1 << 20
_STATS = "_stats.json"
_NAMED = 3  # tars without samples that the note names
_DOWNLOAD = re.compile(r"(.+\.tar)\.(part|partial|filepart|crdownload|download|aria2|tmp|incomplete)")


class UnfitTarError(UserError):
    """Tars that cannot be used in place."""


class HashedFile:
    """A file that hashes its bytes while it is read from start to end. The reader may go back a little."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._seen, self._sha256 = file, 0, hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        """Returns the next bytes."""
        start = self._file.tell()
        data = self._file.read(size)
        if start + len(data) > self._seen:
            self._sha256.update(data[self._seen - start :])
            self._seen = start + len(data)
        return data

    def seek(self, offset: int) -> int:
        """Moves to an offset and returns it. Hashes the skipped bytes too."""
        if offset > self._seen:
            self._file.seek(self._seen)
            while self._seen < offset and self.read(min(_CHUNK, offset - self._seen)):
                pass
        return self._file.seek(offset)

    def tell(self) -> int:
        """Returns the current offset."""
        return self._file.tell()

    def sha256(self) -> str:
        """Reads the rest of the file and returns the sha256 of the whole."""
        self._file.seek(self._seen)
        while self.read(_CHUNK):
            pass
        return self._sha256.hexdigest()


def find(storage: Storage) -> dict[str, int]:
    """Returns the tars of a place with their bytes, in the order of their names.

    Raises UserError if there are none, or some are missing."""
    # Tars.
    sizes = storage.sizes()
    tars = {name: sizes[name] for name in sorted(sizes) if name.endswith(".tar")}

    # Names that records can hold, and downloads that are complete.
    for name in sizes:
        if name in tars and not is_utf8(name):
            raise UserError(f"the name of {escaped(storage.join(name))} is not UTF-8; rename it")
        if match := _DOWNLOAD.fullmatch(name):
            fault = f"{storage.join(match[1])} is a download that has not ended, as {name} shows"
            raise UserError(f"{fault}; let it end, or fetch the tar again and remove {name}")
        if name.endswith(".TAR"):
            raise UserError(f"{storage.join(name)} has its extension in capitals; rename it to .tar")

    if not tars:
        raise UserError(
            f"{storage.url} holds no .tar; img2dataset writes them with --output_format webdataset"
        )

    # Each file of statistics has its tar.
    for name in sizes:
        tar = f"{name.removesuffix(_STATS)}.tar"
        if name.endswith(_STATS) and tar not in tars:
            raise UserError(
                f"{storage.join(tar)} is missing, but its {name} exists;"
                " fetch the tar, or let img2dataset resume"
            )
    return tars


def read(file: Any, name: str) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Yields the samples of a tar by key.

    Raises UserError if the tar is damaged, UnfitTarError if a key comes twice."""
    keys: set[str] = set()
    try:
        for key, files in shards.read_members(file, name, ended=True):
            if key in keys:
                raise UnfitTarError(f"{name} has the key {escaped(key)} twice; keys must be unique")
            keys.add(key)
            yield key, files
    # The tar is the owner's, so no command of exnihilo can make it again.
    except UnreadableError as error:
        advice = "fetch it again, or let img2dataset write it again"
        raise UserError(f"{name} is damaged {error.reason}; {advice}") from None


def counts(storage: Storage, tars: Iterable[str]) -> dict[str, int]:
    """Returns the numbers of samples of tars, from img2dataset's statistics. Tars may have none.

    Raises UserError if a file of statistics is damaged."""
    # Existing files of statistics.
    sizes = storage.sizes()
    tar_of = {name.removesuffix(".tar") + _STATS: name for name in tars}
    existing = [file for file in tar_of if file in sizes]

    # Their counts.
    samples = {}
    for file, data in storage.read_many(existing).items():
        try:
            samples[tar_of[file]] = int(parsed_json(data)["successes"])
        except (ValueError, TypeError, KeyError, OverflowError):
            advice = "fetch it again, or move it to another folder"
            raise UserError(f"{storage.join(file)} is not what img2dataset writes; {advice}") from None
    return samples


def with_samples(storage: Storage, sizes: dict[str, int], samples: dict[str, int]) -> dict[str, int]:
    """Returns the tars that hold samples, with their bytes. Prints a note on the others.

    A tar is left out if it is empty and img2dataset counted no successes (`samples`). Raises UserError if all
    tars are left out."""
    empty = [name for name in sizes if samples.get(name) == 0 and _is_empty(storage, name)]
    if len(empty) == len(sizes):
        raise UserError(
            f"no tar of {storage.url} holds a sample: img2dataset downloaded no picture;"
            " let it download them again"
        )
    if empty:
        more = " ..." if len(empty) > _NAMED else ""
        count = "1 tar without samples is" if len(empty) == 1 else f"{len(empty):,} tars without samples are"
        console.note(
            f"note: {count} left out, for img2dataset counted no successes: {', '.join(empty[:_NAMED])}{more}"
        )
    return {name: size for name, size in sizes.items() if name not in empty}


def _is_empty(storage: Storage, name: str) -> bool:
    """Returns True for a tar without samples. Raises UserError if it is damaged."""
    with storage.open(name) as file:
        return next(read(file, storage.join(name)), None) is None


def require_whole(storage: Storage, name: str, samples: int) -> None:
    """Raises UserError if a tar has another number of samples than its statistics."""
    expected = counts(storage, [name]).get(name, samples)
    if expected != samples:
        raise UserError(
            f"{storage.join(name)} holds {samples:,} samples, but img2dataset counted {expected:,};"
            " fetch it again"
        )


def require_unique(storage: Storage, ranges: dict[str, tuple[str, str]]) -> None:
    """Raises UnfitTarError if two tars contain the same key.

    `ranges` has the least and the greatest key of each. Only tars with overlapping ranges are read again;
    those of img2dataset do not overlap."""
    ordered = sorted(ranges, key=lambda file: ranges[file])
    file_of: dict[str, str] = {}
    greatest = ""
    for i, file in enumerate(ordered):
        # Overlap with a range before or after.
        least, most = ranges[file]
        after_others = not greatest or least > greatest
        before_others = i + 1 == len(ordered) or ranges[ordered[i + 1]][0] > most
        greatest = max(greatest, most)
        if after_others and before_others:
            continue

        # Keys.
        for key in _keys(storage, file):
            if key in file_of:
                raise UnfitTarError(
                    f"{file_of[key]} and {file} of {storage.url} both hold the key {escaped(key)};"
                    " keys must be unique over all tars"
                )
            file_of[key] = file


def _keys(storage: Storage, name: str) -> Iterator[str]:
    """Yields the keys of a tar."""
    with storage.whole(name) as file:
        for key, _ in shards.read_members(file, storage.join(name)):
            yield key
