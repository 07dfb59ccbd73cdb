"""Sources of pictures by number: a finished set of shards, a folder of files, or a model that draws them.

Axes: N pictures, H and W pixels.
"""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from synth.errors import UserError
from synth.sets import shards
from synth.sets.ledger import MANIFEST
from synth.sets.shards import Sample, ShardSet
from synth.settings import digest

_AT_ONCE = 64  # pictures that are decoded together
_THREADS = min(8, os.cpu_count() or 1)
_EXTENSIONS = {"png", "webp", "jpg", "jpeg"}

Files = tuple[str, dict[str, bytes], str]  # key, files by extension, and the name of their shard or folder


@dataclass(frozen=True)
class Pictures:
    """A countable stream of pictures of one size."""

    name: str  # for people
    digest: str  # sha256 that identifies the pictures
    count: int
    batches: Callable[[int], Iterator[np.ndarray]]  # from a picture's number on: uint8 (n, H, W, 3), any n


def find(place: str, *, limit: int | None = None) -> Pictures:
    """Returns the pictures of a set of shards or of a folder. Raises UserError if the place is neither."""
    if (
        "://" in place or (Path(place) / MANIFEST).is_file() or any(Path(place).glob("*.tar"))
    ):  # an unfinished set has tars alone
        return of_shards(place, limit=limit)
    if Path(place).is_dir():
        return of_folder(place, limit=limit)
    raise UserError(f"{place} is not there; give a finished set of shards or a folder of pictures")


def of_shards(url: str, *, limit: int | None = None) -> Pictures:
    """Returns the first pictures of a set, all by default.

    Raises UserError if it is not finished, or has fewer."""
    shard_set = ShardSet(url)
    count = _counted(url, len(shard_set), limit)

    def batches(first: int) -> Iterator[np.ndarray]:
        return _decoded(islice(_stored(shard_set, first), count - first))

    name = (
        digest({"manifest": shard_set.digest, "first": count}) if count < len(shard_set) else shard_set.digest
    )
    return Pictures(url, name, count, batches)


def of_folder(folder: str, *, limit: int | None = None) -> Pictures:
    """Returns the first pictures below a folder, sorted by name.

    Raises UserError if there are none, or fewer."""
    root = Path(folder)
    found = sorted(
        p.relative_to(root).as_posix()
        for p in root.rglob("*")
        if p.suffix.lower()[1:] in _EXTENSIONS and p.is_file()
    )
    count = _counted(folder, len(found), limit)
    files = found[:count]

    def batches(first: int) -> Iterator[np.ndarray]:
        return _decoded(
            (file, {Path(file).suffix.lower()[1:]: (root / file).read_bytes()}, folder)
            for file in files[first:]
        )

    return Pictures(
        folder,
        digest([[file, hashlib.sha256((root / file).read_bytes()).hexdigest()] for file in files]),
        count,
        batches,
    )


def _counted(place: str, there: int, limit: int | None) -> int:
    """Returns the number of pictures to take."""
    if not there:
        raise UserError(
            f"{place} holds no pictures; give a finished set of shards, or a folder of .png, .webp or .jpg files"
        )
    if limit is not None and not 0 < limit <= there:
        raise UserError(
            f"{place} holds {there:,} pictures, so {limit:,} cannot be taken; ask for 1 to {there:,}"
        )
    return there if limit is None else limit


def _stored(shard_set: ShardSet, first: int) -> Iterator[Files]:
    """Yields the samples of a set from a number on, as stored."""
    passed = 0
    for shard in shard_set.shards:
        if passed + shard.count > first:
            samples = islice(shard_set.verified(shard), max(0, first - passed), None)
            yield from ((key, files, shard_set.storage.join(shard.file)) for key, files in samples)
        passed += shard.count


def _decoded(stored: Iterable[Files]) -> Iterator[np.ndarray]:
    """Yields batches uint8 (n, H, W, 3).

    Raises UserError if a picture does not decode, or sizes differ in a batch."""
    waiting = iter(stored)
    with ThreadPoolExecutor(_THREADS) as pool:
        while batch := list(islice(waiting, _AT_ONCE)):
            samples = list(pool.map(lambda one: shards.decode(*one), batch))
            for sample, (_, _, name) in zip(samples, batch, strict=True):
                _require_same_size(sample, samples[0], name)
            yield np.stack([sample.pixels for sample in samples])


def _require_same_size(sample: Sample, other: Sample, name: str) -> None:
    if sample.pixels.shape != other.pixels.shape:
        sizes = " and ".join(
            f"{s.key} has {s.pixels.shape[1]} x {s.pixels.shape[0]} pixels" for s in (other, sample)
        )
        raise UserError(f"{name} holds pictures of several sizes ({sizes}); bring them to one size first")
