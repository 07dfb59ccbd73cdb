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

from synth import console, foreign
from synth.checkout import ROOT
from synth.errors import UserError
from synth.images.codecs import EXTENSIONS
from synth.images.conversion import EXTENSIONS as PICTURES
from synth.sets import shards
from synth.sets.ledger import MANIFEST
from synth.sets.shards import Sample, ShardSet
from synth.settings import digest

_AT_ONCE = 64  # pictures that are decoded together
_THREADS = min(8, os.cpu_count() or 1)

Files = tuple[str, dict[str, bytes], str]  # key, files by extension, and the name of their shard or folder


@dataclass(frozen=True)
class Pictures:
    """A stream of a known number of pictures of one size."""

    name: str  # for people
    digest: str  # sha256 that identifies the pictures
    count: int
    # Yields the pictures from a number on: uint8 (n, H, W, 3), any n.
    batches: Callable[[int], Iterator[np.ndarray]]


def find(place: str, *, limit: int | None = None) -> Pictures:
    """Returns the pictures of a set of shards or of a folder.

    Raises UserError if the place is neither, or a run."""
    # An unfinished set has tars and no manifest. `of_shards` refuses it.
    folder = Path(place)
    if is_run(place):
        advice = "give a folder or set of pictures, such as one of `python -m train synthesise`"
        raise UserError(f"{place} is a run, and holds no pictures to measure; {advice}")
    if "://" in place or (folder / MANIFEST).is_file() or any(folder.glob("*.tar")):
        return of_shards(place, limit=limit)
    if folder.is_dir():
        return of_folder(place, limit=limit)
    problem = "is a file" if folder.exists() else "is not there"
    raise UserError(f"{place} {problem}; give a finished set of shards or a folder of pictures")


def is_run(place: str) -> bool:
    """Returns True if a place is a RUN. Pictures in its folder are sheets of samples."""
    if not any((folder / "config.json").is_file() for folder in (Path(place), ROOT / "data" / place)):
        return False

    # torch is slow to import.
    from train import runs

    try:
        runs.find(place)
    except UserError:
        return False
    return True


def of_shards(url: str, *, limit: int | None = None) -> Pictures:
    """Returns the first pictures of a set, all by default.

    Raises UserError if the set is not finished, or has fewer pictures."""
    shard_set = ShardSet(url)
    count = _count(url, len(shard_set), limit)

    def batches(first: int) -> Iterator[np.ndarray]:
        return _decoded(islice(_stored(shard_set, first), count - first))

    # A part of a set is another set of pictures.
    identity = shard_set.digest
    if count < len(shard_set):
        identity = digest({"manifest": shard_set.digest, "first": count})
    return Pictures(url, identity, count, batches)


def of_folder(folder: str, *, limit: int | None = None) -> Pictures:
    """Returns the first pictures below a folder, sorted by name.

    Raises UserError if the folder has no pictures, or fewer."""
    # Files.
    root = Path(folder)
    files = [(p, p.suffix.lower()[1:]) for p in root.rglob("*") if p.is_file()]
    names = sorted(p.relative_to(root).as_posix() for p, extension in files if extension in EXTENSIONS)
    _note_unread(folder, [p for p, extension in files if extension in PICTURES - EXTENSIONS])
    if odd := [name for name in names if not foreign.is_utf8(name)]:
        raise UserError(f"the name of {odd[0]!a} in {folder} is not UTF-8; rename it")
    count = _count(folder, len(names), limit)
    names = names[:count]

    def stored(name: str) -> Files:
        return name, {Path(name).suffix.lower()[1:]: (root / name).read_bytes()}, folder

    def batches(first: int) -> Iterator[np.ndarray]:
        return _decoded(map(stored, names[first:]))

    # Identity.
    hashes = [[name, hashlib.sha256((root / name).read_bytes()).hexdigest()] for name in names]
    return Pictures(folder, digest(hashes), count, batches)


def _note_unread(folder: str, pictures: list[Path]) -> None:
    """Prints the number of pictures of a folder that are of a kind that is not read, if there are any."""
    if pictures:
        first, kinds = foreign.escaped(min(pictures).name), ", ".join(sorted(EXTENSIONS))
        count = f"{len(pictures):,} pictures of {folder}"
        console.note(f"note: {count} are of a kind that is not read, among them {first}; read are {kinds}")


def _count(place: str, available: int, limit: int | None) -> int:
    """Returns the number of pictures to take."""
    if not available:
        advice = "give a finished set of shards, or a folder of .png, .webp or .jpg files"
        raise UserError(f"{place} holds no pictures; {advice}")
    if limit is not None and not 0 < limit <= available:
        problem = f"{place} holds {available:,} pictures, so {limit:,} cannot be taken"
        raise UserError(f"{problem}; ask for 1 to {available:,}")
    return available if limit is None else limit


def _stored(shard_set: ShardSet, first: int) -> Iterator[Files]:
    """Yields the samples of a set from a number on, as stored."""
    position = 0
    for shard in shard_set.shards:
        if position + shard.count > first:
            samples = islice(shard_set.verified(shard), max(0, first - position), None)
            yield from ((key, files, shard_set.storage.join(shard.file)) for key, files in samples)
        position += shard.count


def _decoded(stored: Iterable[Files]) -> Iterator[np.ndarray]:
    """Yields batches uint8 (n, H, W, 3).

    Raises UserError if a picture does not decode, or sizes differ."""
    waiting = iter(stored)
    first: Sample | None = None
    with ThreadPoolExecutor(_THREADS) as pool:
        while batch := list(islice(waiting, _AT_ONCE)):
            samples = list(pool.map(lambda one: shards.decode(*one), batch))
            first = first or samples[0]
            for sample, (_, _, name) in zip(samples, batch, strict=True):
                _require_same_size(sample, first, name)
            yield np.stack([sample.pixels for sample in samples])


def _require_same_size(sample: Sample, other: Sample, name: str) -> None:
    if sample.pixels.shape != other.pixels.shape:
        one, two = (f"{s.key} has {s.pixels.shape[1]} x {s.pixels.shape[0]} pixels" for s in (other, sample))
        problem = f"{name} holds pictures of several sizes ({one} and {two})"
        raise UserError(f"{problem}; resize them to one size first")
