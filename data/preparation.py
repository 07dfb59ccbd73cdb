"""Shards of originals: cropped, scaled, and written with their captions, by the commit protocol of every set.

A picture that does not decode is left out of its shard. Record, manifest and card name it and give the
reason.
"""

import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from data import card, splits, whole_card
from data.decoding import UndecodableError, decoding
from data.originals import Original, Pictures, Source, Splits
from data.requests import PrepareRequest
from data.squares import CROP, FILTER, Square, square
from data.summary import SetSummary
from synth import settings
from synth.errors import UserError
from synth.foreign import escaped
from synth.images.codecs import CODECS
from synth.options import LARGEST
from synth.sets import completion, ledger, shards
from synth.sets.completion import Estimate, Execution, Outcome, Probe, Progress, Work
from synth.sets.records import Part, Record
from synth.sets.storage import open_storage
from synth.stopwatch import Stopwatch

LAW = 1  # increased when the same originals give other samples
VERSIONED = ("numpy", "pillow")  # packages that records name

_SPLITS = ("train", "val", "test")  # names that splits may have
_PROBES = 32  # pictures that the preflight prepares
_ADVANCE = 32  # pictures between two events of progress
_BLOCK = 512  # bytes of a tar header; members are padded to multiples of it

Json = dict[str, Any]


class PrepareJob(NamedTuple):
    """One shard to make."""

    part: Part
    originals: Sequence[Original]
    pictures: Pictures
    out: str
    identity: Json


def prepare(
    source: Source, law: str, originals: Splits, pictures: Pictures, request: PrepareRequest
) -> Generator[Estimate | Progress | list[SetSummary], None, None]:
    """Makes a finished set of every split of a source, or its missing parts.

    `law` describes the split in words. Yields the estimate of each split before it writes anything, then its
    progress, and at the end all summaries. Raises UserError."""
    # Every place is checked before the first set is made.
    works = _works(source, originals, pictures, request)
    splits.require_place(request.out)
    for work in works:
        completion.require_place(work, _execution(request))

    # Sets.
    summaries = []
    for work in works:
        for event in completion.complete(work, _execution(request)):
            if isinstance(event, Outcome):
                summaries.append(SetSummary.of(work.storage, event))
            else:
                yield event
    # The set as a whole.
    splits.write(request.out, source.name, law, originals)
    whole_card.write(request.out, source, law, dict(zip(originals, (w.storage for w in works), strict=True)))
    yield summaries


def estimate(
    source: Source, originals: Splits, pictures: Pictures, request: PrepareRequest
) -> Iterator[tuple[str, Estimate]]:
    """Yields the estimates of the preflight (--dry-run), by split. Raises UserError."""
    splits.require_place(request.out)
    for work in _works(source, originals, pictures, request):
        yield work.storage.url, completion.foresee(work, _execution(request))


def prepare_shard(job: PrepareJob) -> Iterator[int | Record]:
    """Prepares, publishes and records one shard, as the task of a worker.

    Yields the number of originals done since the last yield, then the record. Raises UserError if none of
    them decodes."""
    watch = Stopwatch.start()
    storage, identity = open_storage(job.out), job.identity
    left_out: list[Json] = []
    grey = captions = 0

    # Shard.
    with storage.staged(job.part.file) as path, shards.ShardWriter(path) as writer:
        for number, original in enumerate(job.originals):
            try:
                picture = _square(job.pictures, original, identity["size"])
            except UndecodableError as error:
                left_out.append({"name": original.name, "reason": str(error)})
            else:
                writer.add(shards.sample_key(job.part.first + number), _files(original, picture, identity))
                grey, captions = grey + picture.grey, captions + len(original.captions)
            if (number + 1) % _ADVANCE == 0 or number + 1 == job.part.count:
                yield number % _ADVANCE + 1

        # A shard has at least one sample.
        if len(left_out) == job.part.count:
            first = f"{left_out[0]['name']}: {left_out[0]['reason']}"
            raise UserError(f"none of the {job.part.count:,} pictures of {job.part.file} decodes; {first}")

    # Record.
    record = Record.of(
        job.part,
        identity,
        {"left_out": left_out, "grey": grey, "captions": captions},
        watch,
        bytes=writer.size,
        sha256=writer.sha256,
        packages=VERSIONED,
        count=job.part.count - len(left_out),
    )
    ledger.write_record(storage, record)
    yield record


def require_form(size: int, codec: str) -> None:
    """Raises UserError for a size out of range or an unknown codec."""
    if not 1 <= size <= LARGEST:
        raise UserError(f"--size is {size}; it must be 1 to {LARGEST:,}")
    if codec not in CODECS:
        raise UserError(f"unknown codec {codec!r}; known are {', '.join(CODECS)}")


def sample_bytes(files: dict[str, bytes]) -> int:
    """Returns the bytes of a sample in a tar."""
    return sum(_BLOCK + len(data) + -len(data) % _BLOCK for data in files.values())


def _square(pictures: Pictures, original: Original, size: int) -> Square:
    """Returns the square of an original. Raises UndecodableError."""
    with decoding(original.name), pictures.open(original.name) as picture:
        return square(picture, size)


def _files(original: Original, picture: Square, identity: Json) -> dict[str, bytes]:
    """Returns the members of a sample."""
    # JSON.
    names = {"dataset": identity["dataset"], "split": identity["split"], "source": original.name}
    form = {"original_size": picture.size, "crop": picture.crop, "filter": FILTER, "size": identity["size"]}
    metadata = {**names, **original.metadata, **form}

    # Members. Only a sample with captions has a .txt.
    codec = CODECS[identity["codec"]]
    files = {codec.extension: codec.encode(picture.pixels), "json": settings.canonical(metadata)}
    return {**files, "txt": "\n".join(original.captions).encode()} if original.captions else files


def _digest(originals: Sequence[Original]) -> str:
    """Returns the sha256 of all that originals are.

    Raises UserError for a text that no file can store, such as half a surrogate pair in somebody's JSON."""
    try:
        return settings.digest([[o.name, o.captions, dict(o.metadata), o.bytes] for o in originals])
    except UnicodeEncodeError as error:
        text = escaped(str(error.object)[max(0, error.start - 30) : error.end + 30])
        raise UserError(f"the text {text} of the originals is not UTF-8; correct it") from None


def _execution(request: PrepareRequest) -> Execution:
    return Execution(request.workers, None, request.overwrite)


def _works(
    source: Source, originals: Splits, pictures: Pictures, request: PrepareRequest
) -> list["_Preparing"]:
    """Returns the sets of a source.

    Raises UserError for an invalid request before the first set is made."""
    # Options.
    require_form(request.size, request.codec)
    for name, value, least in (
        ("--workers", request.workers or 0, 0),
        ("--shard-size", request.shard_size, 1),
    ):
        if value < least:
            raise UserError(f"{name} is {value}; it must be at least {least}")

    # Splits.
    for split, members in originals.items():
        if not members:
            raise UserError(f"{source.title} has no pictures for {split}{source.advice}")
    _require_no_other_split(request.out, originals)
    return [_Preparing(source, split, members, pictures, request) for split, members in originals.items()]


def _require_no_other_split(out: str, originals: Splits) -> None:
    """Raises UserError if OUT contains a split of another division.

    It would share pictures with the new splits."""
    for split in _SPLITS:
        place = open_storage(f"{out.rstrip('/')}/{split}")
        if split not in originals and ledger.load(place).manifest:
            raise UserError(
                f"{place.url} holds a split that this command does not make; remove it, or give another --out"
            )


class _Preparing(Work):
    """The plan of a set of prepared shards."""

    companions = card.FILES
    task = staticmethod(prepare_shard)

    def __init__(
        self,
        source: Source,
        split: str,
        originals: Sequence[Original],
        pictures: Pictures,
        request: PrepareRequest,
    ) -> None:
        # Everything that decides the bytes of the set.
        dataset = f"{source.name}-{split}"
        identity = {
            "dataset": dataset,
            "split": split,
            "law": LAW,
            "size": request.size,
            "crop": CROP,
            "filter": FILTER,
            "codec": request.codec,
            "shard_size": request.shard_size,
            "originals": {"count": len(originals), "digest": _digest(originals)},
        }

        # Shards.
        plan = shards.plan(dataset, len(originals), request.shard_size)
        super().__init__(open_storage(f"{request.out.rstrip('/')}/{split}"), identity, plan)
        self._source, self._originals, self._pictures = source, originals, pictures

    def probe(self) -> Probe:
        # The first pictures also load code, and are not measured.
        probed = self._originals[:_PROBES]
        for original in probed[:8]:
            self._bytes(original)

        # Bytes and seconds.
        start = time.process_time()
        lengths = [self._bytes(original) for original in probed]
        return Probe(sum(lengths) / len(probed), (time.process_time() - start) / len(probed))

    def _bytes(self, original: Original) -> int:
        """Returns the bytes of a sample in a tar, or 0 if the picture does not decode."""
        try:
            files = _files(original, _square(self._pictures, original, self.identity["size"]), self.identity)
        except UndecodableError:
            return 0
        return sample_bytes(files)

    def jobs(self, parts: Sequence[Part]) -> list[PrepareJob]:
        out, jobs = self.storage.url, []
        for part in parts:
            originals = self._originals[part.first : part.first + part.count]
            jobs.append(PrepareJob(part, originals, self._pictures, out, self.identity))
        return jobs

    def statement(self, records: Sequence[Record]) -> Json:
        source = self._source
        return {
            "title": source.title,
            "source": source.place or source.title,
            "licence": source.licence,
            "channels": 3,
            "left_out": [original for r in records for original in r.content["left_out"]],
        }

    def documents(self, manifest: Json) -> Mapping[str, bytes]:
        return card.files(manifest, self.storage)

    def is_closed(self, manifest: Json) -> bool:
        return bool(manifest["licence"] == self._source.licence)
