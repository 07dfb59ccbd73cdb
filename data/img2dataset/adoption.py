"""Tars of other people, used in place.

They are counted, hashed, and described by records and a manifest in the same folder. The tars never change.

In place nothing can be left out, so one unusable sample, or one picture of another size, ends the command.
Such tars can be rewritten (rewriting.py). The command writes nothing but records and the manifest, because
any other name may be the owner's.
"""

import re
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

from data.img2dataset import samples, tars
from data.img2dataset.samples import RawSample, Tally, UnusableError
from data.img2dataset.tars import HashedFile, UnfitTarError
from data.originals import Source
from data.preparation import LAW, VERSIONED
from data.summary import SetSummary
from synth import settings
from synth.errors import UserError
from synth.foreign import escaped
from synth.sets import completion, ledger
from synth.sets.completion import Estimate, Execution, Outcome, Probe, Progress, Work
from synth.sets.records import Part, Record
from synth.sets.storage import Storage, open_storage
from synth.stopwatch import Stopwatch

_PROBES = 32  # samples that the preflight reads
_ADVANCE = 256  # samples between two events of progress
_NUMBERED = re.compile(r"(.+-)?\d{5,}\.tar")  # names with records that synth.sets.ledger can find
_REWRITE = "give --out (and --size) to rewrite all usable samples there"

Json = dict[str, Any]


@dataclass(frozen=True)
class AdoptRequest:
    """Tars to use in place, and their source."""

    place: str
    source: Source
    execution: Execution


class AdoptJob(NamedTuple):
    """A tar to describe."""

    part: Part
    place: str
    identity: Json


class Glance(NamedTuple):
    """An estimate for all tars from the first samples of the first tar."""

    size: tuple[int, int]  # of the first picture
    bytes: float  # per sample
    seconds: float  # of CPU time per sample


def prepare(request: AdoptRequest) -> Generator[Estimate | Progress | list[SetSummary], None, None]:
    """Describes the tars of a place, or the new ones.

    Yields the estimate, the progress, and at the end the summary in a list. Raises UserError. If the tars can
    never be used in place, it removes the records of this command. If a tar only needs to be fetched again,
    it leaves them for the next command."""
    work = _Adoption(request)
    fresh = not ledger.load(work.storage).records
    try:
        for event in completion.complete(work, request.execution):
            yield [SetSummary.of(work.storage, event)] if isinstance(event, Outcome) else event
    # Records of earlier commands stay.
    except UnfitTarError:
        if fresh:
            _forget(work.storage, work.identity)
        raise


def estimate(request: AdoptRequest) -> Estimate:
    """Returns the estimate of the preflight (--dry-run). Raises UserError."""
    return completion.foresee(_Adoption(request), request.execution)


def describe_tar(job: AdoptJob) -> Iterator[int | Record]:
    """Reads a tar once and records it, as the task of a worker.

    Yields the number of samples read since the last yield, then the record. Raises UnfitTarError if a sample
    cannot be used unchanged, and UserError if the tar is damaged."""
    watch = Stopwatch.start()
    storage, name = open_storage(job.place), job.part.file
    tally = Tally()

    # Samples and hash. HashedFile has the methods that tarfile uses.
    with storage.whole(name) as stream:
        file: Any = HashedFile(stream)
        for key, members in tars.read(file, storage.join(name)):
            try:
                tally.take(key, _fitting(key, members, job.identity["size"]))
            except UnusableError as error:
                tally.refuse(key, error)
            if tally.total % _ADVANCE == 0:
                yield _ADVANCE
        yield tally.total % _ADVANCE
        sha256, size = file.sha256(), file.tell()

    # Every sample is usable, and none is missing.
    if not tally.keys or tally.unusable:
        raise _unfit(storage.join(name), tally.unusable)
    tars.require_whole(storage, name, tally.total)

    # Record.
    record = Record.of(
        job.part,
        job.identity,
        tally.content(),
        watch,
        bytes=size,
        sha256=sha256,
        packages=VERSIONED,
        count=len(tally.keys),
    )
    ledger.write_record(storage, record)
    yield record


def glance(storage: Storage, name: str) -> Glance:
    """Returns size, bytes and CPU seconds from the first samples of a tar.

    Raises UserError if none of them is usable."""
    # Size of the first usable picture, and bytes of all samples.
    watch, size, count = Stopwatch.start(), None, 0
    with storage.open(name) as file:
        for key, members in islice(tars.read(file, storage.join(name)), _PROBES):
            count += 1
            try:
                size = size or samples.examined(key, members, whole=True).size
            except UnusableError as error:
                first = f"{escaped(key)}: {error}"
        end = file.tell()

    # Means per sample.
    if size is None:
        reason = f"; {first}" if count else ""
        raise UserError(f"{storage.join(name)} holds no sample that can be used{reason}")
    return Glance(size, end / count, watch.cpu_seconds() / count)


def planned(sizes: dict[str, int], counts: dict[str, int], bytes: float) -> list[Part]:
    """Returns one part per tar, with img2dataset's number of samples, else a guess by the size of the tar.

    The content of a part is known after its tar is read."""
    expected = {name: counts.get(name, max(1, round(size / bytes))) for name, size in sizes.items()}
    return [Part(name, i, 0, expected[name], {}, len(sizes), counted=False) for i, name in enumerate(sizes)]


def _fitting(key: str, members: dict[str, bytes], side: int) -> RawSample:
    """Returns a sample if its picture has the set's size. Raises UnusableError."""
    sample = samples.examined(key, members, whole=True)
    if sample.size != (side, side):
        width, height = sample.size
        raise UnusableError(f"its picture has {width} x {height} pixels, but those before it {side} x {side}")
    return sample


def _unfit(name: str, unusable: Sequence[tuple[str, str]]) -> UnfitTarError:
    """Returns the error of a tar with unusable samples (key and reason), or without samples."""
    if not unusable:
        return UnfitTarError(f"{name} holds no samples; fetch it again, or move it to another folder")
    key, reason = unusable[0]
    more = f" (and {len(unusable) - 1:,} more of this tar)" if len(unusable) > 1 else ""
    return UnfitTarError(
        f"sample {key} of {name} cannot be used: {reason}{more}; in place nothing can be left out: {_REWRITE}"
    )


def _forget(storage: Storage, identity: Json) -> None:
    """Removes the records of a command that failed."""
    records = ledger.load(storage).records.values()
    storage.remove(r.name for r in records if r.fingerprint == settings.digest(identity))


class _Adoption(Work):
    """The plan of a set of other people's tars, in place."""

    task = staticmethod(describe_tar)

    def __init__(self, request: AdoptRequest) -> None:
        # Names.
        storage = open_storage(request.place)
        sizes = tars.find(storage)
        if odd := [storage.join(name) for name in sizes if not _NUMBERED.fullmatch(name)]:
            raise UserError(
                f"{odd[0]} has no number of five digits in its name; rename it, such as 00000.tar, or"
                f" {_REWRITE}"
            )

        # Tars without samples.
        counts = tars.counts(storage, sizes)
        sizes = tars.with_samples(storage, sizes, counts)

        # Pictures.
        self._glance, self._source = glance(storage, next(iter(sizes))), request.source
        width, height = self._glance.size
        if width != height:
            first = f"the first has {width} x {height} pixels"
            raise UserError(f"the pictures of {storage.url} are no squares ({first}); {_REWRITE}")

        # Plan.
        identity = {"dataset": request.source.name, "law": LAW, "adopted": True, "size": width}
        super().__init__(storage, identity, planned(sizes, counts, self._glance.bytes))

    def probe(self) -> Probe:
        return Probe(0, self._glance.seconds)

    def jobs(self, parts: Sequence[Part]) -> list[AdoptJob]:
        return [AdoptJob(part, self.storage.url, self.identity) for part in parts]

    def statement(self, records: Sequence[Record]) -> Json:
        tars.require_unique(self.storage, {r.file: tuple(r.content["keys"]) for r in records})
        source = self._source
        return {"title": source.title, "source": source.place, "licence": source.licence, "channels": 3}

    def is_closed(self, manifest: Json) -> bool:
        same = [p["file"] for p in manifest["parts"]] == [p.file for p in self.parts]
        return same and bool(manifest["licence"] == self._source.licence)
