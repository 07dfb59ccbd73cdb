"""Exports of captioned sets: tars with a picture, its caption and its JSON, as trainers of image-text models
read them.

The pictures and JSON are those of the shards, byte for byte. The captions come from the caption tables: those
that people wrote or true sentences, or a captioner's. A sample without a caption is left out, since such
trainers drop it in silence.
"""

import io
import itertools
import json
import os
import random
import tempfile
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from caption import export_card
from caption.table import VECTORS, CaptionSet, vectors
from synth.errors import UserError
from synth.foreign import escaped
from synth.images import codecs
from synth.sets import completion, ledger, places, shards
from synth.sets.completion import Estimate, Execution, Outcome, Probe, Progress, Work
from synth.sets.records import Part, Record
from synth.sets.shards import Shard, ShardSet, ShardWriter
from synth.sets.storage import open_storage, plain_errors
from synth.stopwatch import Stopwatch

LAW = 1  # increased when the same tables give other members
SYNTHETIC = "synthetic"
CHOICES = ("long", "short", "random", "all", SYNTHETIC)  # of a sample's captions; the last by a captioner

_PROBES = 64  # samples of the preflight
_ADVANCE = 256  # samples between two events of progress
_PACKAGES = ("synth", "caption")
_VERSIONED = ("numpy", "pyarrow")

Json = dict[str, Any]
Files = dict[str, bytes]


@dataclass(frozen=True)
class ExportRequest:
    """The options of one `export` command."""

    tables: str
    shards: str
    out: str | None = None  # None: data/shards/DATASET-CAPTION
    caption: str = "long"
    embeddings: bool = False
    classes: bool = False
    seed: int = 0
    workers: int | None = None  # None: one per core, at most one per shard
    overwrite: bool = False
    ray_address: str | None = None


class ExportSummary(NamedTuple):
    """The result of an `export` command. `exported` counts this command, `pictures` the set."""

    out: str
    pictures: int
    exported: int
    left_out: int  # samples of the set without a caption
    bytes: int
    seconds: float


class ExportJob(NamedTuple):
    """One tar to make."""

    part: Part
    shard: Shard
    shards: str
    tables: str
    out: str
    identity: Json


def estimate(request: ExportRequest) -> Estimate:
    """Returns the estimate of a request (--dry-run). Writes nothing. Raises UserError."""
    return completion.foresee(_Exporting(request), _execution(request))


def make_export(request: ExportRequest) -> Generator[Estimate | Progress | ExportSummary, None, None]:
    """Makes the missing tars of an export. Leaves a finished one alone.

    Yields the estimate before it writes anything, then the progress, and at the end the summary. Raises
    UserError."""
    work = _Exporting(request)
    for event in completion.complete(work, _execution(request)):
        yield _summary(work, event) if isinstance(event, Outcome) else event


def export_shard(job: ExportJob) -> Iterator[int | Record]:
    """Publishes and records the tar of one shard: the task of a worker.

    Yields the number of samples done since the last yield, then the record. Raises UserError."""
    storage, watch, left_out = open_storage(job.out), Stopwatch.start(), []
    shard_set, tables = ShardSet(job.shards), CaptionSet(job.tables)

    # Tar.
    with storage.staged(job.part.file) as path, ShardWriter(path) as writer:
        members = shard_set.verified(job.shard)
        for row, (key, files) in enumerate(_captioned(members, tables, job.shard, job.identity)):
            if files:
                writer.add(key, files)
            else:
                left_out.append({"name": key, "reason": "no caption"})
            if (row + 1) % _ADVANCE == 0 or row + 1 == job.part.count:
                yield row % _ADVANCE + 1
        if len(left_out) == job.part.count:
            file = tables.place.join(tables.parts[job.part.number].file)
            raise UserError(f"no sample of {file} has a caption; export tables with captions")

    # Record.
    record = Record.of(
        job.part,
        job.identity,
        {**job.part.content, "left_out": left_out},
        watch,
        bytes=writer.size,
        sha256=writer.sha256,
        packages=_VERSIONED,
        count=job.part.count - len(left_out),
    )
    ledger.write_record(storage, record)
    yield record


def chosen(captions: Sequence[str], choice: str, seed: int, index: int) -> str:
    """Returns the text of a sample: one of its captions on one line, or all of them, a line each.

    `random` is a function of the seed and the sample's index. Returns an empty text if there are none."""
    lines = [" ".join(caption.split()) for caption in captions if caption.strip()]
    if not lines:
        return ""
    if choice == "all":
        return "\n".join(lines)
    if choice == "random":
        return random.Random(f"{seed} {index}").choice(lines)
    if choice == SYNTHETIC:
        return lines[0]
    return max(lines, key=len) if choice == "long" else min(lines, key=len)


def _captioned(
    members: Iterator[tuple[str, Files]], tables: CaptionSet, shard: Shard, identity: Json
) -> Iterator[tuple[str, Files]]:
    """Yields each sample with its files in the export, or with none if it has no caption.

    Raises UserError if the table has other keys."""
    # Table.
    form = identity["export"]
    column = "synthetic_caption" if form["caption"] == SYNTHETIC else "caption"
    names = ["key", column, *(VECTORS if form["embeddings"] else ())]
    table = tables.read(tables.parts[shard.number], names)
    keys, captions = table["key"].to_pylist(), table[column].to_pylist()
    columns = {name: vectors(table[name], tables.dimensions) for name in names[2:]}

    # Samples.
    for row, (stored, files) in enumerate(members):
        key = escaped(stored)
        # Older tables have the last part of each key, without its folders.
        if row >= len(keys) or keys[row] not in (key, key.rpartition("/")[2]):
            file = tables.place.join(tables.parts[shard.number].file)
            raise UserError(f"{file} and {shard.file} do not agree: the tar has key {key} in row {row}")
        text = chosen(captions[row], form["caption"], form["seed"], shard.first + row)
        named = {name: column[row] for name, column in columns.items()}
        yield key, _files(key, files, text, named, classes=form["classes"]) if text else {}


def _files(
    key: str, files: Files, text: str, embeddings: Mapping[str, np.ndarray], *, classes: bool
) -> Files:
    """Returns the members of a sample by extension: the picture first, then its texts and numbers."""
    members = {name: data for name, data in files.items() if name in codecs.EXTENSIONS}
    members |= {name: data for name, data in files.items() if name not in ("txt", *members)}
    members["txt"] = text.encode()
    if classes:
        members["cls"] = str(_class_of(key, files)).encode()
    for name, vector in embeddings.items():
        content = io.BytesIO()
        np.save(content, vector)
        members[f"{name}.npy"] = content.getvalue()
    return members


def _class_of(key: str, files: Files) -> int:
    """Returns the class of a sample. Raises UserError if its JSON has none."""
    try:
        number = json.loads(files["json"])["class"]
    except (LookupError, TypeError, ValueError):
        number = None
    if not isinstance(number, int) or isinstance(number, bool):
        raise UserError(f"the JSON of sample {key} has no number of a class; leave --classes out")
    return number


def _summary(work: Work, outcome: Outcome) -> ExportSummary:
    parts = ledger.read_manifest(work.storage)["parts"]
    return ExportSummary(
        out=work.storage.url,
        pictures=sum(part["count"] for part in parts),
        exported=sum(record.count for record in outcome.records),
        left_out=sum(len(part["content"]["left_out"]) for part in parts),
        bytes=sum(record.bytes for record in outcome.records),
        seconds=round(outcome.seconds, 1),
    )


def _execution(request: ExportRequest) -> Execution:
    return Execution(request.workers, request.ray_address, request.overwrite)


class _Exporting(Work):
    """The plan of an export."""

    packages = _PACKAGES
    companions = export_card.FILES
    task = staticmethod(export_shard)

    def __init__(self, request: ExportRequest) -> None:
        # Options.
        if request.caption not in CHOICES:
            raise UserError(f"--caption is {request.caption!r}; known are {', '.join(CHOICES)}")
        for name, value in (("--seed", request.seed), ("--workers", request.workers or 0)):
            if value < 0:
                raise UserError(f"{name} is {value}; it must be at least 0")

        # Shards and their tables.
        self._shards, self._tables = ShardSet(request.shards), CaptionSet(request.tables)
        self._tables.require_made_for(self._shards)
        if request.caption == SYNTHETIC and "captioner" not in self._tables.identity:
            problem = f"the tables of {self._tables.storage.url} have no captions of a captioner"
            advice = f"`python -m caption recaption {self._shards.storage.url}` makes such tables"
            raise UserError(f"{problem}; {advice}, or give another --caption")
        source = self._shards.manifest["identity"]
        name = f"{source['dataset']}-{request.caption}"
        storage = open_storage(request.out or places.shards(name))
        if os.path.realpath(storage.url) == os.path.realpath(self._shards.storage.url):
            raise UserError(
                f"--out is {storage.url}, which holds the pictures themselves; give another --out"
            )

        # Everything that decides the bytes of the set.
        form = {"caption": request.caption, "embeddings": request.embeddings, "classes": request.classes}
        form["seed"] = request.seed if request.caption == "random" else 0
        identity = {
            "dataset": name,
            "law": LAW,
            **{key: source[key] for key in ("size", "codec", "split") if key in source},
            "export": form,
            "tables": self._tables.manifest["fingerprint"],
            "shards": {"dataset": source["dataset"], "fingerprint": self._shards.manifest["fingerprint"]},
        }

        # One tar per shard.
        parts = [
            Part(
                f"{name}-{shard.number:06d}.tar",
                shard.number,
                shard.first,
                shard.count,
                {"shard": self._shards.sha256[shard.file], "table": table["sha256"]},
                len(self._shards.shards),
            )
            for shard, table in zip(self._shards.shards, self._tables.manifest["parts"], strict=True)
        ]
        super().__init__(storage, identity, parts)
        self._first = _first_member(self._shards)

    def probe(self) -> Probe:
        # The first samples, written to a scratch file.
        shard, begun, count = self._shards.shards[0], time.process_time(), 0
        place = self._shards.storage
        with (
            plain_errors(f"the scratch folder {tempfile.gettempdir()}"),
            tempfile.TemporaryDirectory() as scratch,
            place.open(shard.file) as file,
            ShardWriter(str(Path(scratch) / "probe.tar")) as writer,
        ):
            members = itertools.islice(shards.read_members(file, place.join(shard.file)), _PROBES)
            for key, files in _captioned(members, self._tables, shard, self.identity):
                count += 1
                if files:
                    writer.add(key, files)
        return Probe(writer.size / count, (time.process_time() - begun) / count)

    def jobs(self, parts: Sequence[Part]) -> list[ExportJob]:
        shards_of = {shard.number: shard for shard in self._shards.shards}
        places = self._shards.storage.url, self._tables.storage.url, self.storage.url
        return [ExportJob(part, shards_of[part.number], *places, self.identity) for part in parts]

    def statement(self, records: Sequence[Record]) -> Json:
        source = self._shards.manifest
        tables = {"encoder": self._tables.identity["encoder"], "digest": self._tables.digest}
        if self.identity["export"]["caption"] == SYNTHETIC:
            tables["captioner"] = self._tables.identity["captioner"]["model"]
        return {
            "title": f"pictures of {source['identity']['dataset']}, each with a caption",
            "channels": source.get("channels", 3),
            "licence": source.get("licence", "unknown"),
            "tables": tables,
            "shards": {"dataset": source["identity"]["dataset"], "digest": self._shards.digest},
        }

    def documents(self, manifest: Json) -> Mapping[str, bytes]:
        return export_card.files(manifest, self._first)

    def is_closed(self, manifest: Json) -> bool:
        return bool(manifest.get("tables", {}).get("digest") == self._tables.digest)


def _first_member(shard_set: ShardSet) -> str:
    """Returns the name of the first picture of a set, which stands for all."""
    place, shard = shard_set.storage, shard_set.shards[0]
    with place.open(shard.file) as file:
        key, files = next(shards.read_members(file, place.join(shard.file)))
    return f"{escaped(key)}.{next(extension for extension in files if extension in codecs.EXTENSIONS)}"
