"""Latents of a set of shards, written once: the plan, and the commit protocol of every set.

Each shard becomes one table of train/stream/latent_tables.py, so that a diffusion model on latents never runs
the encoder.
"""

import json
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from time import process_time
from typing import Any, NamedTuple

import numpy as np
import torch

from caption import encoders
from synth import settings
from synth.errors import UserError
from synth.images.pictures import box_average
from synth.sets import completion, ledger, places
from synth.sets.completion import Estimate, Execution, Outcome, Probe, Progress, Work
from synth.sets.records import Part, Record
from synth.sets.shards import Sample, Shard, ShardSet
from synth.sets.storage import open_storage
from synth.stopwatch import Stopwatch
from train import autoencoders
from train.autoencoders import Autoencoder
from train.stream.latent_tables import KIND, LatentWriter

LAW = 1  # increased when the same request gives other latents

_AT_ONCE = 16  # pictures
_PROBES = 32  # pictures of the preflight
_VERSIONED = ("torch", "numpy", "pyarrow")

Json = dict[str, Any]


@dataclass(frozen=True)
class LatentRequest:
    """The options of one `latents` command."""

    shards: str
    autoencoder: str  # RUN, or a folder of diffusers
    out: str | None = None  # None: data/latents/DATASET/AUTOENCODER
    workers: int | None = 0  # None: one per core; 0: this process
    device: str = "auto"
    overwrite: bool = False


class LatentSummary(NamedTuple):
    """The result of a `latents` command. `encoded` and `bytes` count this command, `pictures` the set."""

    out: str
    pictures: int
    encoded: int
    bytes: int
    seconds: float


class LatentJob(NamedTuple):
    """One table to make."""

    part: Part
    shard: Shard
    shards: str
    out: str
    autoencoder: str
    device: str
    identity: Json


def estimate(request: LatentRequest) -> Estimate:
    """Returns the estimate of a request (--dry-run). Encodes some pictures, and writes nothing.

    Raises UserError."""
    return completion.foresee(_Encoding(request), _execution(request))


def make_latents(request: LatentRequest) -> Generator[Estimate | Progress | LatentSummary, None, None]:
    """Makes the missing tables of a request. Leaves finished tables alone.

    Yields the estimate before it writes anything, then the progress, and at the end the summary. Raises
    UserError."""
    work = _Encoding(request)
    for event in completion.complete(work, _execution(request)):
        yield _summary(work, event) if isinstance(event, Outcome) else event


def encode_shard(job: LatentJob) -> Iterator[int | Record]:
    """Encodes one shard, then publishes and records its table: the task of a worker.

    Yields the number of pictures done since the last yield, then the record. Raises UserError."""
    autoencoder, identity = autoencoders.find(job.autoencoder, job.device), job.identity
    if autoencoder.weights != identity["autoencoder"]["weights"]:
        problem = f"{job.autoencoder} has a newer checkpoint than when this command began"
        raise UserError(f"{problem}; wait until that run has ended, then run the command again")
    storage, watch, total, square = open_storage(job.out), Stopwatch.start(), 0.0, 0.0

    # Table.
    fields = {
        "autoencoder_sha256": identity["autoencoder"]["weights"],
        "shard_sha256": job.part.content["shard"],
        "shape": json.dumps(identity["shape"]),
    }
    with storage.staged(job.part.file) as path, LatentWriter(path, identity["shape"], fields) as writer:
        rest = ShardSet(job.shards).read(job.shard)
        while samples := list(islice(rest, _AT_ONCE)):
            latents = _encoded(autoencoder, samples, identity["resolution"])
            writer.add([sample.key for sample in samples], latents)
            values = latents.astype(np.float64)
            total, square = total + float(values.sum()), square + float((values**2).sum())
            yield len(samples)

    # Record, with the sums that give the deviation of the set.
    record = Record.of(
        job.part,
        identity,
        {**job.part.content, "sum": float(f"{total:.6g}"), "square": float(f"{square:.6g}")},
        watch,
        bytes=writer.size,
        sha256=writer.sha256,
        packages=_VERSIONED,
        entries={"device": job.device},
    )
    ledger.write_record(storage, record)
    yield record


@torch.inference_mode()
def _encoded(autoencoder: Autoencoder, samples: Iterable[Sample], resolution: int) -> np.ndarray:
    """Returns the latents of samples: float16 (N, K, S, S)."""
    rows = np.stack([box_average(sample.pixels, resolution) for sample in samples])
    device = next(autoencoder.encoder.parameters()).device
    pictures = torch.from_numpy(rows).to(device).permute(0, 3, 1, 2).float() / 127.5 - 1
    return np.asarray(autoencoder.encoder(pictures).mean.half().cpu().numpy())


def _summary(work: Work, outcome: Outcome) -> LatentSummary:
    pictures = sum(part.count for part in work.parts)
    encoded, size = (sum(getattr(r, name) for r in outcome.records) for name in ("count", "bytes"))
    return LatentSummary(work.storage.url, pictures, encoded, size, round(outcome.seconds, 1))


def _execution(request: LatentRequest) -> Execution:
    return Execution(request.workers, None, request.overwrite)


class _Encoding(Work):
    """The plan of a set of tables of latents."""

    packages = ("synth", "caption", "train")
    task = staticmethod(encode_shard)

    def __init__(self, request: LatentRequest) -> None:
        # Autoencoder and shards.
        self._request, self._device = request, encoders.choose_device(request.device)
        self.gpus = 1 if self._device.startswith("cuda") else 0
        self._autoencoder = autoencoders.find(request.autoencoder, self._device)
        self._shard_set = ShardSet(request.shards)
        self._dataset = str(self._shard_set.manifest["identity"]["dataset"])
        self._probes = list(islice(self._shard_set.read(self._shard_set.shards[0]), _PROBES))
        resolution = _resolution(self._probes[0], self._autoencoder, request.shards)

        # Everything that decides the content of the tables.
        sizes = self._autoencoder.sizes
        side = resolution // sizes.factor
        identity = {
            "kind": KIND,
            "law": LAW,
            "autoencoder": self._autoencoder.description,
            "resolution": resolution,
            "shape": [sizes.planes, side, side],
            "shards": {"dataset": self._dataset, "fingerprint": self._shard_set.manifest["fingerprint"]},
        }

        # One table per shard.
        sha256, shards = self._shard_set.sha256, self._shard_set.shards
        parts = [
            Part(_table_of(s.file), s.number, s.first, s.count, {"shard": sha256[s.file]}, len(shards))
            for s in shards
        ]
        out = request.out or places.latents(self._dataset, places.name_of(request.autoencoder))
        super().__init__(open_storage(out), json.loads(settings.canonical(identity)), parts)

    @property
    def places(self) -> int:
        return torch.cuda.device_count() if self.gpus else super().places

    def probe(self) -> Probe:
        # The first call is slower than the others, and is not measured.
        resolution = self.identity["resolution"]
        _encoded(self._autoencoder, self._probes[:_AT_ONCE], resolution)
        begun = process_time()
        with TemporaryDirectory() as scratch:
            path = str(Path(scratch) / "probe.parquet")
            with LatentWriter(path, self.identity["shape"], {}) as writer:
                for start in range(0, len(self._probes), _AT_ONCE):
                    samples = self._probes[start : start + _AT_ONCE]
                    latents = _encoded(self._autoencoder, samples, resolution)
                    writer.add([sample.key for sample in samples], latents)
        count = len(self._probes)
        return Probe(writer.size / count, (process_time() - begun) / count)

    def jobs(self, parts: Sequence[Part]) -> list[LatentJob]:
        shards_of = {_table_of(s.file): s for s in self._shard_set.shards}
        source, place = self._shard_set.storage.url, self._request.autoencoder
        return [
            LatentJob(p, shards_of[p.file], source, self.storage.url, place, self._device, self.identity)
            for p in parts
        ]

    def statement(self, records: Sequence[Record]) -> Json:
        manifest = self._shard_set.manifest
        return {
            "title": f"latents of {self._dataset}",
            "shards": {
                "dataset": self._dataset,
                "digest": self._shard_set.digest,
                "fingerprint": manifest["fingerprint"],
            },
            "licence": manifest.get("licence", "unknown"),
        }

    def is_closed(self, manifest: Json) -> bool:
        return bool(manifest.get("shards", {}).get("digest") == self._shard_set.digest)


def _resolution(sample: Sample, autoencoder: Autoencoder, shards: str) -> int:
    """Returns the side at which pictures are encoded: their own, or the autoencoder's if that is smaller.

    Raises UserError if one is no power-of-two multiple of the other."""
    side, width = sample.pixels.shape[:2]
    resolution = min(side, autoencoder.sizes.resolution)
    factor, rest = divmod(side, resolution)
    if side != width or rest or factor & (factor - 1) or resolution % autoencoder.sizes.factor:
        problem = f"the pictures of {shards} have {width} x {side} pixels"
        allowed = f"a power of two times {autoencoder.sizes.resolution} a side"
        raise UserError(f"{problem}, and {autoencoder.place} reads {allowed}; give another set")
    return resolution


def _table_of(file: str) -> str:
    return file.rsplit(".", 1)[0] + ".parquet"
