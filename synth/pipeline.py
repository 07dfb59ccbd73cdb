"""Plan -> render -> commit -> manifest: from a request to a finished set of shards."""

import hashlib
import os
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from zlib_ng import zlib_ng

from synth import card, datasets, options, settings
from synth.allocator import keep_memory
from synth.errors import UserError
from synth.glsl import gl
from synth.images.codecs import CODECS
from synth.images.pictures import contact_sheet
from synth.recipe import DrawError, Recipe
from synth.sets import completion, ledger, shards
from synth.sets.completion import Estimate, Execution, Outcome, Probe, Progress, Work
from synth.sets.records import Part, Record
from synth.sets.storage import Storage, open_storage
from synth.stopwatch import Stopwatch
from synth.vetting import programs

Json = dict[str, Any]

_PROBES = 64  # pictures that the preflight draws
_ADVANCE = 32  # pictures between two events of progress
_MOST_SHARDS = 10**6  # of a set, as their names have six digits
_VERSIONED = ("numpy", "numba", "pillow", "zlib-ng")
_BLOCK = 512  # bytes of a tar header; members are padded to multiples of it


@dataclass(frozen=True)
class RenderRequest:
    """The arguments of one `shards` command."""

    dataset: str
    samples: int
    out: str
    size: int = 256
    seed: int = 0
    workers: int | None = None  # None: a core each, as far as there are shards
    shard_size: int = 4096
    codec: str = "png"
    settings: tuple[str, ...] = ()
    overwrite: bool = False
    ray_address: str | None = None
    device: str = "software"  # the renderer of shaders; or gpu, gpu:NUMBER


class RenderJob(NamedTuple):
    """One shard to be rendered."""

    recipe: Recipe
    part: Part
    out: str
    device: str


class RenderSummary(NamedTuple):
    """The outcome of a run. Bytes and pictures are those of this run. `total` is the set's."""

    total: int
    pictures: int
    bytes: int
    seconds: float
    cpu_seconds: float
    retries: int
    redraws: int  # of pictures that showed nothing

    def row(self) -> Json:
        """Returns the summary as a row for a person."""
        return {
            "pictures": self.total,
            "drawn": self.pictures,
            "bytes": self.bytes,
            "seconds": round(self.seconds, 1),
            "pictures_per_core_second": round(self.pictures / self.cpu_seconds) if self.cpu_seconds else 0,
            "retries": self.retries,
            "redraws": self.redraws,
        }


def check(request: RenderRequest) -> Any:
    """Returns the family's config of a request. Writes and vets nothing.

    Raises UserError for anything that is not allowed."""
    dataset = datasets.get(request.dataset)

    # Ranges of options, which a request from Python has not passed.
    options.require(options.Pictures, request.samples)
    options.require(options.Size, request.size)
    options.require(options.Seed, request.seed)
    options.require(options.Workers, request.workers or 0)
    options.require(options.ShardSize, request.shard_size)
    if request.codec not in CODECS:
        raise UserError(f"unknown codec {request.codec!r}; known are {', '.join(CODECS)}")
    if (count := -(-request.samples // request.shard_size)) > _MOST_SHARDS:
        fault = f"--shard-size is {request.shard_size}: {request.samples:,} pictures take {count:,} tars"
        least = -(-request.samples // _MOST_SHARDS)
        raise UserError(f"{fault}, and a set has at most {_MOST_SHARDS:,}; give --shard-size {least} or more")

    # The renderer, then the family's settings.
    if request.device != "software" and not hasattr(dataset.module, "vet"):
        raise UserError(f"{request.dataset} is not drawn by shaders, so --device has no use; leave it out")
    gl.choose(request.device)
    return settings.with_settings(dataset.module.Config(**dataset.config), request.settings)


def recipe_of(request: RenderRequest, storage: Storage | None = None) -> Recipe:
    """Returns the checked recipe of a request. Vets programs if the storage does not hold them.

    Raises UserError for anything that is not allowed."""
    dataset, family_config = datasets.get(request.dataset), check(request)
    if hasattr(dataset.module, "ready"):
        family_config = dataset.module.ready(family_config, _stored(storage))
    return Recipe(dataset, family_config, request.size, request.seed, request.shard_size, request.codec)


def estimate(request: RenderRequest) -> Estimate:
    """Returns the estimate of the preflight (--dry-run), which looks at the target and draws pictures but
    writes nothing. Raises UserError."""
    return completion.foresee(_Rendering(request), _terms(request))


def require_place(request: RenderRequest) -> None:
    """Raises UserError if the files at the target are neither the beginning of the set nor replaceable."""
    completion.require_place(_Rendering(request), _terms(request))


def make_shards(request: RenderRequest) -> Generator[Estimate | Progress | RenderSummary, None, None]:
    """Makes the set of a request, or its missing parts. A finished set is left alone.

    Yields the estimate before anything is written, then the progress, and last the summary. Raises UserError.
    """
    for event in completion.complete(_Rendering(request), _terms(request)):
        yield _summary(request, event) if isinstance(event, Outcome) else event


def _summary(request: RenderRequest, outcome: Outcome) -> RenderSummary:
    records = outcome.records
    return RenderSummary(
        total=request.samples,
        pictures=sum(r.count for r in records),
        bytes=sum(r.bytes for r in records),
        seconds=outcome.seconds,
        cpu_seconds=sum(r.run["cpu_seconds"] for r in records),
        retries=outcome.retries,
        redraws=sum(r.content["redraws"] for r in records),
    )


def render_shard(job: RenderJob) -> Iterator[int | Record]:
    """Renders, publishes and records one shard, as the task of a worker. Yields the number of pictures drawn
    since the last yield, then the record."""
    # The worker's process and its inputs.
    keep_memory()
    recipe, shard, out, device = job
    gl.choose(device)
    storage, identity = open_storage(out), recipe.identity
    watch = Stopwatch.start()

    # Samples. The hash of the pictures' CRC-32s is quick, and it is equal for every codec.
    pixels, redraws = hashlib.sha256(), 0
    with storage.staged(shard.file) as path, shards.ShardWriter(path) as writer:
        for done in range(1, shard.count + 1):
            index = shard.first + done - 1
            try:
                sample = recipe.encode(index)
            except DrawError as error:
                # A worker's message must name its shard.
                raise DrawError(f"{shard.file}: {error}") from None
            writer.add(shards.sample_key(index), sample.files)
            pixels.update(zlib_ng.crc32(sample.pixels).to_bytes(4, "big"))
            redraws += sample.redraws
            if done % _ADVANCE == 0 or done == shard.count:
                # The last batch may be smaller.
                yield (done - 1) % _ADVANCE + 1

    # The record, which marks the published shard as done.
    content = {"pixels": pixels.hexdigest(), "redraws": redraws}
    size, sha256, renderer = writer.size, writer.sha256, recipe.renderer
    record = Record.of(
        shard, identity, content, watch, bytes=size, sha256=sha256, packages=_VERSIONED, entries=renderer
    )
    ledger.write_record(storage, record)
    yield record


def _stored(storage: Storage | None) -> bytes | None:
    """Returns the programs.json of a target, if it has one."""
    if storage is None or programs.NAME not in storage.sizes():
        return None
    return storage.read(programs.NAME)


def _with_programs_at(recipe: Recipe, storage: Storage) -> Recipe:
    """Writes programs that are not stored yet to the target, for the workers. Returns the recipe with their
    place."""
    vetted = getattr(recipe.config, "programs", None)
    if vetted is None or vetted.place:
        return recipe
    storage.write(programs.NAME, vetted.data)
    return replace(recipe, config=replace(recipe.config, programs=vetted.at(storage.url)))


def _licence(recipe: Recipe) -> str:
    """Returns the licence of a set: exnihilo's, or that of its family for programs of other people."""
    licence = getattr(recipe.dataset.module, "licence", None)
    return str(licence(recipe.config)) if licence else card.LICENCE


def _terms(request: RenderRequest) -> Execution:
    return Execution(request.workers, request.ray_address, request.overwrite)


class _Rendering(Work):
    """A set of shards, rendered."""

    companions: Sequence[str] = (*card.FILES, programs.NAME)
    task = staticmethod(render_shard)

    def __init__(self, request: RenderRequest) -> None:
        storage = open_storage(request.out)
        self._recipe, self._device = recipe_of(request, storage), request.device
        parts = shards.plan(self._recipe.dataset.name, request.samples, request.shard_size)
        super().__init__(storage, self._recipe.identity, parts)
        self._probes = range(min(request.samples, _PROBES))

        # A set that replaces another may draw with the programs that lie there.
        vetted = getattr(self._recipe.config, "programs", None)
        if vetted and vetted.place and os.path.realpath(vetted.place) == os.path.realpath(request.out):
            self.companions = card.FILES

    def probe(self) -> Probe:
        # Warm-up: one picture compiles or loads the kernels, and each shader program compiles by itself.
        for i in self._probes if self._recipe.renderer else (0,):
            self._recipe.encode(i)

        # Measurement.
        begun = time.process_time()
        lengths = [
            _BLOCK + len(data) + -len(data) % _BLOCK
            for i in self._probes
            for data in self._recipe.encode(i).files.values()
        ]
        # The mean sample, with its tar headers and padding.
        return Probe(sum(lengths) / len(self._probes), (time.process_time() - begun) / len(self._probes))

    def jobs(self, parts: Sequence[Part]) -> list[RenderJob]:
        # Workers read large programs at the target, so these are stored before the jobs start.
        recipe = _with_programs_at(self._recipe, self.storage)
        return [RenderJob(recipe, part, self.storage.url, self._device) for part in parts]

    def statement(self, records: Sequence[Record]) -> Json:
        return {
            "title": self._recipe.dataset.title,
            "channels": self._recipe.config.channels,
            **({"masks": True} if hasattr(self._recipe.dataset.module, "MASKS") else {}),
            "licence": _licence(self._recipe),
        }

    def documents(self, manifest: Json) -> Mapping[str, bytes]:
        return card.files(manifest, contact_sheet(self._recipe.render(i)[1].pixels for i in self._probes))
