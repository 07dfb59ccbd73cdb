"""Tars of other people, rewritten.

Each tar becomes one new tar with the same keys. Every picture is cropped and scaled. A sample that cannot be
used is left out, and named in record, manifest and card. A sample without captions stays, and is counted.
"""

import io
import os
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from PIL import Image

from data import card
from data.decoding import UndecodableError, decoding
from data.img2dataset import adoption, samples, tars
from data.img2dataset.samples import RawSample, Tally, UnusableError
from data.img2dataset.tars import HashedFile
from data.originals import Source
from data.preparation import LAW, VERSIONED, require_form, sample_bytes
from data.squares import CROP, FILTER, Square, square
from data.summary import SetSummary
from synth import settings
from synth.errors import UserError
from synth.images.codecs import CODECS
from synth.sets import completion, ledger, shards
from synth.sets.completion import Estimate, Execution, Outcome, Probe, Progress, Work
from synth.sets.records import Part, Record
from synth.sets.storage import open_storage
from synth.stopwatch import Stopwatch

_PROBES = 32  # samples that the preflight prepares
_ADVANCE = 32  # samples between two events of progress
_LONGEST = 90  # bytes of a key; a tar's header holds little more, with the extension
_NOT_KEPT = ("caption", "exif")  # entries of the owner's JSON: the first is in the .txt, the second is long

Json = dict[str, Any]


@dataclass(frozen=True)
class RewriteRequest:
    """Tars to rewrite, their source, and the form of the new set."""

    place: str
    source: Source
    out: str
    size: int
    codec: str
    execution: Execution


class RewriteJob(NamedTuple):
    """A tar to rewrite."""

    part: Part
    place: str
    out: str
    identity: Json


def prepare(request: RewriteRequest) -> Generator[Estimate | Progress | list[SetSummary], None, None]:
    """Makes a finished set of the tars of a place, or its missing parts.

    Yields the estimate, the progress, and at the end the summary in a list. Raises UserError."""
    work = _Rewriting(request)
    for event in completion.complete(work, request.execution):
        yield [SetSummary.of(work.storage, event)] if isinstance(event, Outcome) else event


def estimate(request: RewriteRequest) -> Estimate:
    """Returns the estimate of the preflight (--dry-run). Raises UserError."""
    return completion.foresee(_Rewriting(request), request.execution)


def rewrite_tar(job: RewriteJob) -> Iterator[int | Record]:
    """Rewrites, publishes and records one tar, as the task of a worker.

    Yields the number of samples read since the last yield, then the record. Raises UserError if the tar is
    damaged, or none of its samples can be used."""
    watch, name = Stopwatch.start(), job.part.content["tar"]
    place, storage, identity = open_storage(job.place), open_storage(job.out), job.identity
    tally = Tally()

    # New tar.
    with (
        place.whole(name) as stream,
        storage.staged(job.part.file) as path,
        shards.ShardWriter(path) as writer,
    ):
        file: Any = HashedFile(stream)
        for key, members in tars.read(file, place.join(name)):
            try:
                sample, files = _rewritten(name, key, members, identity)
                writer.add(key, files)
                tally.take(key, sample)
            except UnusableError as error:
                tally.refuse(key, error)
            if tally.total % _ADVANCE == 0:
                yield _ADVANCE
        yield tally.total % _ADVANCE

        # The old tar is whole, and some of its samples are usable.
        tars.require_whole(place, name, tally.total)
        if not tally.keys:
            reason = f"; {tally.unusable[0][1]}" if tally.unusable else ""
            raise UserError(f"no sample of {place.join(name)} can be used{reason}")
        sha256 = file.sha256()

    # Record.
    left_out = [{"name": f"{name}/{key}", "reason": reason} for key, reason in tally.unusable]
    record = Record.of(
        job.part,
        identity,
        {**job.part.content, "tar_sha256": sha256, **tally.content(), "left_out": left_out},
        watch,
        bytes=writer.size,
        sha256=writer.sha256,
        packages=VERSIONED,
        count=len(tally.keys),
    )
    ledger.write_record(storage, record)
    yield record


def _rewritten(
    tar: str, key: str, members: dict[str, bytes], identity: Json
) -> tuple[RawSample, dict[str, bytes]]:
    """Returns a sample, and its members in the new tar. Raises UnusableError."""
    # Sample and key.
    sample, source = samples.examined(key, members, whole=False), f"{tar}/{key}"
    if len(key.encode()) > _LONGEST:
        raise UnusableError(f"its key is longer than {_LONGEST} bytes")

    # Picture.
    try:
        with decoding(source), Image.open(io.BytesIO(sample.picture)) as original:
            picture = square(original, identity["size"])
    except UndecodableError as error:
        raise UnusableError(f"its picture does not decode: {error}") from None

    # Members.
    try:
        return sample, _files(source, sample, picture, identity)
    except ValueError as error:
        raise UnusableError(f"its .json cannot be stored: {error}") from None


def _files(source: str, sample: RawSample, picture: Square, identity: Json) -> dict[str, bytes]:
    """Returns the members of a sample."""
    # JSON, with the owner's in it.
    metadata = {
        "dataset": identity["dataset"],
        "source": source,
        "original_size": picture.size,
        "crop": picture.crop,
        "filter": FILTER,
        "size": identity["size"],
        "original": {k: v for k, v in sample.metadata.items() if k not in _NOT_KEPT},
    }

    # Members. Only a sample with captions has a .txt.
    codec = CODECS[identity["codec"]]
    files = {codec.extension: codec.encode(picture.pixels), "json": settings.canonical(metadata)}
    return {**files, "txt": "\n".join(sample.captions).encode()} if sample.captions else files


class _Rewriting(Work):
    """The plan of a set of shards from other people's tars."""

    companions = card.FILES
    task = staticmethod(rewrite_tar)

    def __init__(self, request: RewriteRequest) -> None:
        require_form(request.size, request.codec)
        storage = open_storage(request.out)

        # Tars, with the numbers of their samples.
        self._place, self._source = open_storage(request.place), request.source
        if os.path.realpath(storage.url) == os.path.realpath(self._place.url):
            raise UserError(f"--out is {storage.url}, which holds the tars themselves; give another --out")
        every = tars.find(self._place)
        counts = tars.counts(self._place, every)
        sizes = tars.with_samples(self._place, every, counts)
        self._empty = [name for name in every if name not in sizes]
        self._first = next(iter(sizes))
        old_parts = adoption.planned(sizes, counts, adoption.glance(self._place, self._first).bytes)

        # One new tar for each.
        name = request.source.name
        parts = []
        for part in old_parts:
            content = {"tar": part.file, "tar_bytes": sizes[part.file]}
            parts.append(replace(part, file=f"{name}-{part.number:06d}.tar", content=content))

        form = {"size": request.size, "crop": CROP, "filter": FILTER, "codec": request.codec}
        super().__init__(storage, {"dataset": name, "law": LAW, **form}, parts)

    def probe(self) -> Probe:
        lengths: list[int] = []
        start = time.process_time()
        with self._place.open(self._first) as file:
            for key, members in tars.read(file, self._place.join(self._first)):
                # Bytes of a sample.
                try:
                    _, files = _rewritten(self._first, key, members, self.identity)
                    lengths.append(sample_bytes(files))
                except UnusableError:
                    lengths.append(0)

                # The first eight samples also load code, and are not measured.
                if len(lengths) == 8:
                    start = time.process_time()
                if len(lengths) == 8 + _PROBES:
                    break
        return Probe(sum(lengths) / len(lengths), (time.process_time() - start) / max(1, len(lengths) - 8))

    def jobs(self, parts: Sequence[Part]) -> list[RewriteJob]:
        return [RewriteJob(part, self._place.url, self.storage.url, self.identity) for part in parts]

    def statement(self, records: Sequence[Record]) -> Json:
        tars.require_unique(self.storage, {r.file: tuple(r.content["keys"]) for r in records})
        left_out = [original for r in records for original in r.content["left_out"]]
        source = {"title": self._source.title, "source": self._source.place, "licence": self._source.licence}
        empty = {"empty_tars": self._empty} if self._empty else {}
        return {**source, "channels": 3, "left_out": left_out, **empty}

    def documents(self, manifest: Json) -> Mapping[str, bytes]:
        return card.files(manifest, self.storage)

    def is_closed(self, manifest: Json) -> bool:
        same = [p["file"] for p in manifest["parts"]] == [p.file for p in self.parts]
        return same and bool(manifest["licence"] == self._source.licence)
