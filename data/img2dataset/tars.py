"""Tars as img2dataset writes them: 00000.tar, and beside it 00000_stats.json; how they are read, each once, and when they are whole.

They are read by exnihilo's own reader (synth.sets.shards) and not by webdataset's: later stages read them with it, so what is found here is
what they will find; it hashes the same bytes that it reads; and it needs no torch. tests/test_img2dataset.py compares the two.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

from synth.errors import UserError
from synth.sets import shards
from synth.sets.storage import Storage

_CHUNK = 1 << 20
_STATS = "_stats.json"


class UnfitError(UserError):
    """Tars that cannot be used in place, and which stay others'."""


class HashedFile:
    """A file that is read from its start to its end, now and then from a little before, and hashed meanwhile."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._seen, self._sha256 = file, 0, hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        """The next bytes."""
        start = self._file.tell()
        data = self._file.read(size)
        if start + len(data) > self._seen:
            self._sha256.update(data[self._seen - start :])
            self._seen = start + len(data)
        return data

    def seek(self, offset: int) -> int:
        """To a place; what is passed over is hashed too."""
        if offset > self._seen:
            self._file.seek(self._seen)
            while self._seen < offset and self.read(min(_CHUNK, offset - self._seen)):
                pass
        return self._file.seek(offset)

    def tell(self) -> int:
        """Where it stands."""
        return self._file.tell()

    def sha256(self) -> str:
        """Of the whole file, of which the rest is read now."""
        self._file.seek(self._seen)
        while self.read(_CHUNK):
            pass
        return self._sha256.hexdigest()


def find(storage: Storage) -> dict[str, int]:
    """The tars of a place with their bytes, in the order of their names. Raises UserError where there are none, or some are missing."""
    sizes = storage.sizes()
    found = {name: sizes[name] for name in sorted(sizes) if name.endswith(".tar")}
    if not found:
        raise UserError(f"{storage.url} holds no .tar; img2dataset writes them with --output_format webdataset")
    for name in sizes:
        if name.endswith(_STATS) and f"{name.removesuffix(_STATS)}.tar" not in found:
            lost = storage.join(name.removesuffix(_STATS) + ".tar")
            raise UserError(f"{lost} is missing, and {name} lies there; fetch it, or let img2dataset go on")
    return found


def read(file: Any, name: str) -> Iterator[tuple[str, dict[str, bytes]]]:
    """The samples of a tar by key. Raises UserError where the tar is damaged, UnfitError where a key comes twice."""
    keys: set[str] = set()
    try:
        for key, files in shards.read_members(file, name):
            if key in keys:
                raise UnfitError(f"{name} has the key {key} twice; keys must be unique")
            keys.add(key)
            yield key, files
    except UnfitError:
        raise
    except UserError as error:
        advice = "fetch it again, or let img2dataset write it again"
        raise UserError(re.sub("remove it and give the command.*", advice, str(error))) from None


def counts(storage: Storage, tars: Iterable[str]) -> dict[str, int]:
    """How many samples img2dataset counted into tars, where it says so. Raises UserError where its file is not what it writes."""
    there = storage.sizes()
    stats = {name.removesuffix(".tar") + _STATS: name for name in tars}
    found = {}
    for file, data in storage.read_many(file for file in stats if file in there).items():
        try:
            found[stats[file]] = int(json.loads(data)["successes"])
        except (ValueError, TypeError, KeyError):
            raise UserError(f"{storage.join(file)} is not what img2dataset writes; remove it, or fetch it again") from None
    return found


def require_whole(storage: Storage, name: str, samples: int) -> None:
    """Raises UserError where img2dataset counted other samples into a tar than it holds."""
    counted = counts(storage, [name]).get(name, samples)
    if counted != samples:
        raise UserError(f"{storage.join(name)} holds {samples:,} samples where img2dataset counted {counted:,}; fetch it again")


def require_unique(storage: Storage, ranges: dict[str, tuple[str, str]]) -> None:
    """Raises UnfitError where a key lies in two tars. `ranges` has the least and the greatest key of each: where they do not
    overlap, as in what img2dataset writes, no tar needs to be read again."""
    ordered = sorted(ranges, key=lambda file: ranges[file])
    place: dict[str, str] = {}
    reach = ""
    for i, file in enumerate(ordered):
        alone = (not reach or ranges[file][0] > reach) and (i + 1 == len(ordered) or ranges[ordered[i + 1]][0] > ranges[file][1])
        reach = max(reach, ranges[file][1])
        if alone:
            continue
        for key in _keys(storage, file):
            if key in place:
                raise UnfitError(f"the key {key} lies in {place[key]} and in {file} of {storage.url}; keys must be unique over all tars")
            place[key] = file


def _keys(storage: Storage, name: str) -> Iterator[str]:
    with storage.whole(name) as file:
        for key, _ in shards.read_members(file, storage.join(name)):
            yield key
