"""Tars of img2dataset: 00000.tar, each with its 00000_stats.json. The module reads each tar once and checks
that it is whole.

The reader is exnihilo's own (synth.sets.shards), not webdataset's. Later stages read the tars with it, so
they find the same samples. It hashes the same bytes that it reads. It needs no torch.
tests/test_img2dataset.py compares the two readers.
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
    """Tars that cannot be used in place."""


class HashedFile:
    """A file that hashes itself while it is read from start to end. The reader may go back a little."""

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
        """Moves to an offset and returns it. The bytes skipped are hashed too."""
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
    """Returns the tars of a place with their bytes, in the order of their names. Raises UserError if there
    are none, or some are missing."""
    sizes = storage.sizes()
    found = {name: sizes[name] for name in sorted(sizes) if name.endswith(".tar")}
    if not found:
        raise UserError(
            f"{storage.url} holds no .tar; img2dataset writes them with --output_format webdataset"
        )
    for name in sizes:
        if name.endswith(_STATS) and f"{name.removesuffix(_STATS)}.tar" not in found:
            lost = storage.join(name.removesuffix(_STATS) + ".tar")
            raise UserError(f"{lost} is missing, and {name} lies there; fetch it, or let img2dataset go on")
    return found


def read(file: Any, name: str) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Yields the samples of a tar by key. Raises UserError if the tar is damaged, UnfitError if a key comes
    twice."""
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
    """Returns the numbers of samples that img2dataset counted into tars, as far as its files name them.
    Raises UserError if such a file is damaged."""
    there = storage.sizes()
    stats = {name.removesuffix(".tar") + _STATS: name for name in tars}
    found = {}
    for file, data in storage.read_many(file for file in stats if file in there).items():
        try:
            found[stats[file]] = int(json.loads(data)["successes"])
        except (ValueError, TypeError, KeyError):
            raise UserError(
                f"{storage.join(file)} is not what img2dataset writes; remove it, or fetch it again"
            ) from None
    return found


def require_whole(storage: Storage, name: str, samples: int) -> None:
    """Raises UserError if img2dataset counted another number of samples into a tar than it holds."""
    counted = counts(storage, [name]).get(name, samples)
    if counted != samples:
        raise UserError(
            f"{storage.join(name)} holds {samples:,} samples where img2dataset counted {counted:,}; fetch it again"
        )


def require_unique(storage: Storage, ranges: dict[str, tuple[str, str]]) -> None:
    """Raises UnfitError if two tars hold the same key. `ranges` has the least and the greatest key of each.
    Tars with ranges that do not overlap, as those of img2dataset, are not read again."""
    ordered = sorted(ranges, key=lambda file: ranges[file])
    place: dict[str, str] = {}
    reach = ""
    for i, file in enumerate(ordered):
        alone = (not reach or ranges[file][0] > reach) and (
            i + 1 == len(ordered) or ranges[ordered[i + 1]][0] > ranges[file][1]
        )
        reach = max(reach, ranges[file][1])
        if alone:
            continue
        for key in _keys(storage, file):
            if key in place:
                raise UnfitError(
                    f"the key {key} lies in {place[key]} and in {file} of {storage.url}; keys must be unique over all tars"
                )
            place[key] = file


def _keys(storage: Storage, name: str) -> Iterator[str]:
    with storage.whole(name) as file:
        for key, _ in shards.read_members(file, storage.join(name)):
            yield key
