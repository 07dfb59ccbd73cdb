"""Caption tables of a set of shards: the plan, and the commit protocol of every set.

Each shard becomes one table of embeddings, pseudo-captions and sentences.
"""

import json
import os
import tempfile
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import torch

from caption import captioners, card, drafts, encoders, table_folder, worker
from caption.captioners import Captioner, EndpointCaptioner
from caption.endpoint import Endpoint
from caption.pseudo import Xi
from caption.sentences import attributes, names
from caption.table import KIND, LAW, Rows, TableWriter
from caption.worker import CaptionJob, caption_shard, is_formula, stacked
from synth import settings
from synth.errors import UserError
from synth.sets import completion, ledger, places
from synth.sets.completion import Estimate, Execution, Outcome, Probe, Progress, Work
from synth.sets.ledger import State
from synth.sets.records import Part, Record
from synth.sets.shards import Sample, ShardSet
from synth.sets.storage import plain_errors

_PROBED_AT_ONCE = 8
_PROBES = 32  # most pictures of the preflight
_PROBE_SECONDS = 2.0  # of encoding, after which the preflight ends
_AGREEMENT = 0.999  # least cosine of bf16 and fp32 embeddings for bf16

Json = dict[str, Any]


@dataclass(frozen=True)
class CaptionRequest:
    """The options of one `captions` command."""

    shards: str
    out: str | None = None  # None: data/captions/DATASET/ENCODER
    encoder: str = encoders.DEFAULT
    xi: str = "0.25"
    seed: int = 0
    workers: int | None = None  # None: one per GPU, else one per core, at most one per shard
    device: str = "auto"
    precision: str = "auto"
    text_embeddings: bool = False
    names: bool = False  # bare names of formula pictures, with all embeddings of texts
    overwrite: bool = False
    ray_address: str | None = None
    captioner: str | None = None  # folder of an image-to-text model; None: no synthetic captions
    endpoint: Endpoint | None = None  # of a captioner
    prompt: str | None = None  # short, long or a text; None: long, if the captioner reads one


class CaptionSummary(NamedTuple):
    """The result of a `captions` command. `pictures` and `bytes` count this command, `total` the set."""

    out: str
    total: int
    pictures: int
    bytes: int
    seconds: float
    cpu_seconds: float
    retries: int
    cut: int  # captions that were longer than the encoder's context
    precision: str

    def row(self) -> Json:
        """Returns the rounded figures by name."""
        rate = round(self.pictures / self.cpu_seconds, 1) if self.cpu_seconds else 0
        return {
            "out": self.out,
            "pictures": self.total,
            "captioned": self.pictures,
            "bytes": self.bytes,
            "seconds": round(self.seconds, 1),
            "pictures_per_core_second": rate,
            "precision": self.precision,
            "retries": self.retries,
            "cut_captions": self.cut,
        }


def estimate(request: CaptionRequest) -> Estimate:
    """Returns the estimate of a request (--dry-run).

    It encodes some pictures and writes nothing. Raises UserError."""
    return completion.foresee(_Captioning(request), _execution(request))


def cost(request: CaptionRequest) -> Json:
    """Returns the estimate of a request with a captioner, with the captioner's cost: a row for a person.

    It sends no requests and writes nothing. Raises UserError."""
    work = _Captioning(request)
    foreseen = completion.foresee(work, _execution(request))
    return {**work.cost(foreseen.pictures), **foreseen._asdict()}


def require_places(requests: Sequence[CaptionRequest]) -> None:
    """Raises UserError if a request cannot be carried out, or two of them name one place. Writes nothing.

    The encoder is loaded once, as loading caches it."""
    works: dict[str, _Captioning] = {}
    for request in requests:
        work = _Captioning(request)
        completion.require_place(work, _execution(request))
        other = works.setdefault(work.storage.url, work)
        if (other.identity, other.parts) != (work.identity, work.parts):
            problem = f"{work.storage.url} would hold the tables of two sets"
            raise UserError(f"{problem}; give --out once for each set")


def make_captions(request: CaptionRequest) -> Generator[Estimate | Progress | CaptionSummary, None, None]:
    """Makes the missing tables of a request. Leaves finished tables alone.

    If the set of shards has grown, makes only the tables of changed shards again. Yields the estimate before
    it writes anything, then the progress, and at the end the summary. Raises UserError."""
    work = _Captioning(request)
    for event in completion.complete(work, _execution(request)):
        if isinstance(event, Estimate) and work.captioner:
            yield Progress(0, note=_sentence(work.cost(event.pictures)))
        yield _summary(work, event) if isinstance(event, Outcome) else event


def _summary(work: Work, outcome: Outcome) -> CaptionSummary:
    records = outcome.records
    return CaptionSummary(
        out=work.storage.url,
        total=sum(part.count for part in work.parts),
        pictures=sum(record.count for record in records),
        bytes=sum(record.bytes for record in records),
        seconds=outcome.seconds,
        cpu_seconds=sum(record.run["cpu_seconds"] for record in records),
        retries=outcome.retries,
        cut=sum(record.content["cut"] for record in records),
        precision=str(work.identity["precision"]),
    )


def _sentence(cost: Json) -> str:
    """Returns a captioner's cost as a sentence."""
    sentence = f"{cost['captioner']} describes {cost['pictures']:,} pictures, {cost['pixels']:,} pixels"
    if "requests" not in cost:
        return sentence
    tokens = f"about {cost['tokens_sent']:,} tokens sent and {cost['tokens_received']:,} received"
    return f"{sentence}: {cost['requests']:,} requests, {tokens}; their time is not in the estimate"


def _captioner(request: CaptionRequest, device: str) -> Captioner | None:
    """Returns the captioner of a request, if it has one."""
    if request.endpoint:
        return EndpointCaptioner(request.endpoint, request.prompt or "long")
    return captioners.in_folder(request.captioner, device, request.prompt) if request.captioner else None


def _execution(request: CaptionRequest) -> Execution:
    # Requests to an endpoint overlap in one process, which has the key.
    workers = 0 if request.endpoint else request.workers
    return Execution(workers, request.ray_address, request.overwrite)


class _Captioning(Work):
    """The plan of a set of caption tables."""

    packages = ("synth", "caption", *(f"data/{name}" for name in encoders.SHIPPED))
    companions = card.FILES
    task = staticmethod(caption_shard)

    def __init__(self, request: CaptionRequest) -> None:
        # Options.
        _require_sound(request)
        xi = Xi.parse(request.xi).value
        self._request, self._device = request, encoders.choose_device(request.device)
        self.gpus = 1 if self._device.startswith("cuda") else 0

        # One thread, as in each worker; more threads slow small models down.
        if "OMP_NUM_THREADS" not in os.environ:
            torch.set_num_threads(1)

        # Shards and tables.
        self._shard_set = ShardSet(request.shards)
        self._name = str(self._shard_set.manifest["identity"]["dataset"])
        self._encoder_name = encoders.absolute(request.encoder)
        self._source = encoders.find(self._encoder_name)
        self.captioner = _captioner(request, self._device)
        by = f"{self._source.name}-names" if request.names else self._source.name
        by = f"{by}-recaptioned-{self.captioner.name}" if self.captioner else by
        storage = table_folder.to_write(request.out or places.tables(self._name, by))

        # Encoder. Its precision depends on existing tables and some pictures.
        self._probes = list(islice(self._shard_set.read(self._shard_set.shards[0]), _PROBES))
        precision = self._precision(ledger.load(storage))
        self._encoder = encoders.load(self._source, self._device, precision)

        # Everything that decides the bytes of the tables.
        formula = is_formula(self._probes[0]) and not self._probes[0].captions
        if request.names and not formula:
            reason = "have their own captions" if is_formula(self._probes[0]) else "are no formula pictures"
            problem = f"the pictures of {request.shards} have no bare names, as they {reason}"
            raise UserError(f"{problem}; leave --names out")
        identity = {
            "kind": KIND,
            "law": LAW,
            "encoder": self._source.name,
            "weights": self._source.sha256,
            "preprocessing": self._encoder.preprocessing,
            "precision": precision,
            "dimensions": self._encoder.dimensions,
            "xi": xi,
            "seed": request.seed,
            "sentences": attributes.law(self._probes[0].metadata["family"]) if formula else 0,
            "text_embeddings": request.text_embeddings or request.names or not formula,
            "shards": {"dataset": self._name, "fingerprint": self._shard_set.manifest["fingerprint"]},
        }
        if request.names:
            identity["names"] = names.NAME_LAW
        if self.captioner:
            identity["captioner"] = self.captioner.identity

        # One table per shard.
        sha256 = self._shard_set.sha256
        shards = self._shard_set.shards
        parts = [
            Part(_table_of(s.file), s.number, s.first, s.count, {"shard": sha256[s.file]}, len(shards))
            for s in shards
        ]
        super().__init__(storage, json.loads(settings.canonical(identity)), parts)

    @property
    def places(self) -> int:
        return torch.cuda.device_count() if self.gpus else super().places

    def cost(self, pictures: int) -> Json:
        """Returns the cost of a captioner: a row for a person. It is empty if there is no captioner."""
        side = self._probes[0].pixels.shape[0]
        return self.captioner.cost(pictures, side) if self.captioner else {}

    def _captioned(self, samples: Sequence[Sample], first: int) -> Rows:
        """Returns the rows of some samples. Sends nothing to an endpoint."""
        texts = [text for _, text in self.captioner.trial(samples)] if self.captioner else None
        return worker.caption(self._encoder, samples, first, self.identity, texts).rows

    def probe(self) -> Probe:
        # The first call is slower than the others, and is not measured.
        self._captioned(self._probes[:_PROBED_AT_ONCE], 0)

        # A table in a scratch folder.
        start, done = time.process_time(), 0
        texts = self.identity["text_embeddings"]
        with (
            plain_errors(f"the scratch folder {tempfile.gettempdir()}"),
            tempfile.TemporaryDirectory() as scratch,
        ):
            path = str(Path(scratch) / "probe.parquet")
            with TableWriter(
                path,
                self._encoder.dimensions,
                text_embeddings=texts,
                metadata={},
                synthetic=self.captioner is not None,
                names=self._request.names,
            ) as writer:
                while done < len(self._probes) and time.process_time() - start < _PROBE_SECONDS:
                    batch = self._probes[done : done + _PROBED_AT_ONCE]
                    writer.add(self._captioned(batch, done))
                    done += len(batch)
        return Probe(writer.size / done, (time.process_time() - start) / done)

    def jobs(self, parts: Sequence[Part]) -> list[CaptionJob]:
        shards_of = {_table_of(s.file): s for s in self._shard_set.shards}
        source, target, digest = self._shard_set.storage.url, self.storage.url, self._shard_set.digest
        return [
            CaptionJob(
                p,
                shards_of[p.file],
                source,
                target,
                table_folder.is_apart(self.storage),
                self._encoder_name,
                self._device,
                self.identity,
                digest,
                self.captioner,
            )
            for p in parts
        ]

    def statement(self, records: Sequence[Record]) -> Json:
        shard_set = self._shard_set.manifest
        return {
            "title": f"captions of {self._name}",
            "shards": {
                "dataset": self._name,
                "digest": self._shard_set.digest,
                "fingerprint": shard_set["fingerprint"],
            },
            "licence": shard_set.get("licence", "unknown"),
        }

    def done(self, state: State, part: Part, fingerprint: str) -> bool:
        # Rows have their numbers in the set, which change if a tar is added before them.
        return super().done(state, part, fingerprint) and state.records[part.file].first == part.first

    def documents(self, manifest: Json) -> Mapping[str, bytes]:
        folder = f"{table_folder.NAME}/" if table_folder.is_apart(self.storage) else ""
        return card.files(manifest, folder)

    def close(self, state: State, run: Json) -> None:
        if self.captioner:
            drafts.remove(self.storage)
        super().close(state, run)

    def is_closed(self, manifest: Json) -> bool:
        return bool(manifest.get("shards", {}).get("digest") == self._shard_set.digest)

    def _precision(self, state: State) -> str:
        """Returns the requested precision, else that of the existing tables.

        Else returns bf16 if the device computes in it and its embeddings agree with those of fp32."""
        if self._request.precision != "auto":
            return self._request.precision

        # Existing tables of the same encoder.
        identities = (record.identity for record in state.records.values())
        same = (identity for identity in identities if identity.get("weights") == self._source.sha256)
        precisions = {identity.get("precision") for identity in same}
        if precisions and not self._request.overwrite:
            return str(precisions.pop())

        # Agreement of the two precisions.
        if not encoders.has_bf16(self._device):
            return "fp32"
        pixels = stacked(self._probes[:_PROBED_AT_ONCE])
        exact, quick = (
            encoders.load(self._source, self._device, p).images(pixels) for p in encoders.PRECISIONS
        )
        return "bf16" if float((exact * quick).sum(axis=1).min()) >= _AGREEMENT else "fp32"


def _require_sound(request: CaptionRequest) -> None:
    for name, value in (("--seed", request.seed), ("--workers", request.workers or 0)):
        if value < 0:
            raise UserError(f"{name} is {value}; it must be at least 0")
    if request.precision not in ("auto", *encoders.PRECISIONS):
        known = ", ".join(("auto", *encoders.PRECISIONS))
        raise UserError(f"unknown precision {request.precision!r}; known are {known}")


def _table_of(file: str) -> str:
    return file.rsplit(".", 1)[0] + ".parquet"
