"""Tars of other people used in place: counted, hashed, and described by records and a manifest in the same
folder. The tars never change.

In place nothing can be left out. So one unusable sample, or one picture of another size, ends the run. Such
tars can be rewritten (rewriting.py). The run writes nothing but records and the manifest, since any other
name may be the owner's.
"""

import re
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

from data.img2dataset import samples, tars
from data.img2dataset.samples import RawSample, Tally, UnusableError
from data.img2dataset.tars import HashedFile, UnfitError
from data.originals import Source
from data.preparation import LAW, VERSIONED
from data.summary import SetSummary
from synth import settings
from synth.errors import UserError
from synth.sets import completion, ledger
from synth.sets.completion import Estimate, Execution, Outcome, Probe, Progress, Work
from synth.sets.records import Part, Record
from synth.sets.storage import Storage, open_storage
from synth.stopwatch import Stopwatch

_PROBES = 32  # samples that the preflight reads
_ADVANCE = 256  # samples between two events of progress
_NUMBERED = re.compile(r"(.+-)?\d{5,}\.tar")  # names that give records which synth.sets.ledger can find
_REWRITE = "give --out (and --size) to have what can be used rewritten there"

Json = dict[str, Any]


@dataclass(frozen=True)
class AdoptRequest:
    """Tars to use in place, and their source."""

    place: str
    source: Source
    terms: Execution


class AdoptJob(NamedTuple):
    """A tar to be described."""

    part: Part
    place: str
    identity: Json


class Glance(NamedTuple):
    """An estimate for all tars from the first samples of the first tar."""

    size: tuple[int, int]  # of the first picture
    bytes: float  # a sample
    seconds: float  # of CPU time a sample


def prepare(request: AdoptRequest) -> Generator[Estimate | Progress | list[SetSummary], None, None]:
    """Describes the tars of a place, or the new ones. Yields the estimate, the progress, and last the summary
    in a list.

    Raises UserError. If the tars can never be used in place, the records of this run are removed again. If a
    tar only needs to be fetched again, they stay for the next run."""
    work = _Adoption(request)
    fresh = not ledger.load(work.storage).records
    try:
        for event in completion.complete(work, request.terms):
            yield [SetSummary.of(work.storage, event)] if isinstance(event, Outcome) else event
    except UnfitError:
        if fresh:
            _forget(work.storage, work.identity)
        raise


def estimate(request: AdoptRequest) -> Estimate:
    """Returns the estimate of the preflight (--dry-run). Raises UserError."""
    return completion.foresee(_Adoption(request), request.terms)


def describe_tar(job: AdoptJob) -> Iterator[int | Record]:
    """Reads a tar once and records it, as the task of a worker. Yields samples seen since the last yield,
    then the record.

    Raises UnfitError if a sample cannot be used as it is, and UserError if the tar is damaged."""
    watch = Stopwatch.start()
    storage, name = open_storage(job.place), job.part.file
    tally = Tally()
    with storage.whole(name) as plain:
        file: Any = HashedFile(plain)  # the methods of a file that tarfile uses
        for key, members in tars.read(file, storage.join(name)):
            try:
                tally.take(key, _fitting(members, job.identity["size"]))
            except UnusableError as error:
                tally.unusable.append((key, str(error)))
            if tally.seen % _ADVANCE == 0:
                yield _ADVANCE
        yield tally.seen % _ADVANCE
        sha256, size = file.sha256(), file.tell()
    if not tally.keys or tally.unusable:
        raise _unfit(storage.join(name), tally.unusable)
    tars.require_whole(storage, name, tally.seen)
    keys = len(tally.keys)
    record = Record.of(
        job.part,
        job.identity,
        tally.content(),
        watch,
        bytes=size,
        sha256=sha256,
        packages=VERSIONED,
        count=keys,
    )
    ledger.write_record(storage, record)
    yield record


def glance(storage: Storage, name: str) -> Glance:
    """Returns size, bytes and CPU seconds from the first samples of a tar. Raises UserError if none can be
    used."""
    watch, size, count = Stopwatch.start(), None, 0
    with storage.open(name) as file:
        for key, members in islice(tars.read(file, storage.join(name)), _PROBES):
            count += 1
            try:
                size = size or samples.examined(members, whole=True).size
            except UnusableError as error:
                first = f"{key}: {error}"
        end = file.tell()
    if size is None:
        raise UserError(
            f"{storage.join(name)} holds no sample that can be used" + (f"; {first}" if count else "")
        )
    return Glance(size, end / count, watch.cpu_seconds() / count)


def planned(storage: Storage, found: dict[str, int], bytes: float) -> list[Part]:
    """Returns one part a tar, with the samples that img2dataset counted into it, else a guess by its size.
    The content of a part is known once its tar is read."""
    counts = {
        **{name: max(1, round(size / bytes)) for name, size in found.items()},
        **tars.counts(storage, found),
    }
    return [Part(name, i, 0, counts[name], {}, len(found), counted=False) for i, name in enumerate(found)]


def _fitting(members: dict[str, bytes], side: int) -> RawSample:
    """Returns a sample if its picture has the set's size. Raises UnusableError."""
    sample = samples.examined(members, whole=True)
    if sample.size != (side, side):
        raise UnusableError(
            f"its picture has {sample.size[0]} x {sample.size[1]} pixels where {side} x {side} came before"
        )
    return sample


def _unfit(name: str, unusable: Sequence[tuple[str, str]]) -> UnfitError:
    if not unusable:
        return UnfitError(f"{name} holds no samples; remove it, or fetch it again")
    key, reason = unusable[0]
    more = f" (and {len(unusable) - 1:,} more of this tar)" if len(unusable) > 1 else ""
    return UnfitError(
        f"sample {key} of {name} cannot be used: {reason}{more}; in place nothing can be left out: {_REWRITE}"
    )


def _forget(storage: Storage, identity: Json) -> None:
    """Removes the records of a run that failed."""
    records = ledger.load(storage).records.values()
    storage.remove(r.name for r in records if r.fingerprint == settings.digest(identity))


class _Adoption(Work):
    """A set of others' tars, described in place."""

    task = staticmethod(describe_tar)

    def __init__(self, request: AdoptRequest) -> None:
        storage = open_storage(request.place)
        found = tars.find(storage)
        if odd := [storage.join(name) for name in found if not _NUMBERED.fullmatch(name)]:
            raise UserError(
                f"{odd[0]} has no number of five digits in its name, as 00000.tar has; rename it, or {_REWRITE}"
            )
        self._glance, self._source = glance(storage, next(iter(found))), request.source
        width, height = self._glance.size
        if width != height:
            raise UserError(
                f"the pictures of {storage.url} are no squares (the first has {width} x {height} pixels); {_REWRITE}"
            )
        identity = {"dataset": request.source.name, "law": LAW, "adopted": True, "size": width}
        super().__init__(storage, identity, planned(storage, found, self._glance.bytes))

    def probe(self) -> Probe:
        return Probe(0, self._glance.seconds)

    def jobs(self, parts: Sequence[Part]) -> list[AdoptJob]:
        return [AdoptJob(part, self.storage.url, self.identity) for part in parts]

    def statement(self, records: Sequence[Record]) -> Json:
        tars.require_unique(self.storage, {r.file: tuple(r.content["keys"]) for r in records})
        source = self._source
        return {"title": source.title, "source": source.place, "licence": source.licence, "channels": 3}

    def is_closed(self, manifest: Json) -> bool:
        return [p["file"] for p in manifest["parts"]] == [p.file for p in self.parts] and bool(
            manifest["licence"] == self._source.licence
        )
