"""Plan -> render -> commit -> manifest: from a request to a finished set of shards."""

import contextlib
import hashlib
import os
import platform
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any, NamedTuple, NoReturn

from zlib_ng import zlib_ng

from synth import card, config, datasets, gl, ledger, parallel, programs, shards
from synth.allocator import keep_memory
from synth.codecs import CODECS
from synth.errors import UserError
from synth.pictures import contact_sheet
from synth.recipe import DrawError, Recipe
from synth.shards import Shard
from synth.storage import Storage, open_storage

Json = dict[str, Any]

LARGEST = 4096  # pixels a side
_PROBES = 64  # pictures that the preflight draws
_ADVANCE = 32  # pictures between two signs of life
_ROUNDS = 3  # of drawing again what does not agree with its record
_MARGIN = 1.1  # more space than the preflight's mean says
_VERSIONED = ("numpy", "numba", "pillow", "zlib-ng")
_BLOCK = 512  # bytes of a tar header, and what members are padded to


@dataclass(frozen=True)
class Request:
    """What one `shards` command asks for."""

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
    device: str = "software"  # or gpu, gpu:NUMBER: what draws shaders


class Job(NamedTuple):
    """One shard to be made."""

    recipe: Recipe
    shard: Shard
    out: str
    device: str


class Estimate(NamedTuple):
    """What the preflight foresees for the shards that are missing."""

    pictures: int
    bytes: int
    seconds: float  # of wall clock, with every worker on a free core
    free_bytes: int | None


class Summary(NamedTuple):
    """What a run did. Bytes and pictures are those of this run; `total` is the set's."""

    total: int
    pictures: int
    bytes: int
    seconds: float
    cpu_seconds: float
    retries: int
    redraws: int  # of pictures that had nothing to show

    def row(self) -> Json:
        """The summary as a person reads it."""
        rate = round(self.pictures / self.cpu_seconds) if self.cpu_seconds else 0
        row = {"pictures": self.total, "drawn": self.pictures, "bytes": self.bytes, "seconds": round(self.seconds, 1)}
        return {**row, "pictures_per_core_second": rate, "retries": self.retries, "redraws": self.redraws}


class Progress(NamedTuple):
    """A step of a run: pictures drawn (negative where a worker was lost)."""

    pictures: int
    retried: str | None = None


def recipe_of(request: Request, storage: Storage | None = None) -> Recipe:
    """The checked recipe of a request, programs vetted where the storage does not hold them. Raises UserError for anything that is
    not allowed."""
    dataset = datasets.get(request.dataset)
    if request.samples < 1:
        raise UserError(f"--n is {request.samples}; ask for at least one picture")
    if request.samples > 10**9:
        raise UserError(f"--n is {request.samples}; keys have nine digits, so a set holds at most {10**9:,} pictures")
    if not 1 <= request.size <= LARGEST:
        raise UserError(f"--size is {request.size}; it must lie in 1..{LARGEST}")
    if request.codec not in CODECS:
        raise UserError(f"unknown codec {request.codec!r}; known are {', '.join(CODECS)}")
    least_of = [("--seed", request.seed, 0), ("--workers", request.workers or 0, 0), ("--shard-size", request.shard_size, 1)]
    for name, value, least in least_of:
        if value < least:
            raise UserError(f"{name} is {value}; it must be at least {least}")
    gl.choose(request.device)
    family_config = config.with_settings(dataset.module.Config(**dataset.config), request.settings)
    if hasattr(dataset.module, "ready"):
        family_config = dataset.module.ready(family_config, _stored(storage))
    return Recipe(dataset, family_config, request.size, request.seed, request.shard_size, request.codec)


def estimate(request: Request) -> Estimate:
    """The preflight alone (--dry-run): looks at the target and draws pictures, but writes nothing. Raises UserError."""
    storage = open_storage(request.out)
    recipe = recipe_of(request, storage)
    _require_ray(request)
    return _foresee(recipe, storage, _examine(recipe, storage, request), request)


def make_shards(request: Request, *, started: Callable[[Estimate], None], progress: Callable[[Progress], None]) -> Summary:
    """Makes the set of a request, or what is missing of it. A finished one is left alone.

    `started` is told the preflight's estimate before anything is written, `progress` every step. Raises UserError."""
    storage = open_storage(request.out)
    recipe = recipe_of(request, storage)
    begun = time.perf_counter()
    if _examine(recipe, storage, request).finished:
        return Summary(request.samples, 0, 0, time.perf_counter() - begun, 0.0, 0, 0)
    _require_ray(request)
    made: list[ledger.Record] = []
    retries = 0
    with storage.exclusive():
        found = _examine(recipe, storage, request)
        started(_foresee(recipe, storage, found, request))
        workers = _workers(request, found)
        with _engine(workers, request.ray_address):  # what can fail to start has failed before the first change
            claim = ledger.claim(found.plan[0].file, recipe.identity)
            if found.other:
                ledger.replace_by(found.state, storage, claim, [*card.FILES, programs.NAME])
                found = found._replace(state=ledger.load(storage))
            for _ in range(_ROUNDS):
                ledger.begin(found.state, storage, claim, [s.file for s in found.missing])
                recipe = _with_programs_at(recipe, storage)
                jobs = [Job(recipe, shard, storage.url, request.device) for shard in found.missing]
                retries += _render(jobs, workers, request.ray_address, made, progress)
                found = _compare(recipe, ledger.load(storage), found.plan)
                if not found.missing:
                    break
            else:
                _give_up(storage, found)
        seconds = time.perf_counter() - begun
        _finish(recipe, storage, found, {"seconds": round(seconds, 3), "retries": retries})
    cpu_seconds, redraws = sum(r.run["cpu_seconds"] for r in made), sum(r.content["redraws"] for r in made)
    return Summary(request.samples, sum(r.count for r in made), sum(r.bytes for r in made), seconds, cpu_seconds, retries, redraws)


def render_shard(job: Job) -> Iterator[int | ledger.Record]:
    """The task of a worker: renders, publishes and records one shard. Yields pictures drawn since the last yield, then the record."""
    keep_memory()
    recipe, shard, out, device = job
    gl.choose(device)
    storage, identity = open_storage(out), recipe.identity
    begun, cpu = time.perf_counter(), time.process_time()
    pixels, redraws = hashlib.sha256(), 0  # pixels: over the pictures' CRC-32s, which is quick, and the same for every codec
    with storage.staged(shard.file) as path, shards.ShardWriter(path) as writer:
        for done in range(1, shard.count + 1):
            index = shard.first + done - 1
            try:
                sample = recipe.encode(index)
            except DrawError as error:
                raise DrawError(f"{shard.file}: {error}") from None
            writer.add(shards.sample_key(index), sample.files)
            pixels.update(zlib_ng.crc32(sample.pixels).to_bytes(4, "big"))
            redraws += sample.redraws
            if done % _ADVANCE == 0 or done == shard.count:
                yield (done - 1) % _ADVANCE + 1
    record = ledger.Record(
        file=shard.file,
        number=shard.number,
        first=shard.first,
        count=shard.count,
        bytes=writer.size,
        sha256=writer.sha256,
        fingerprint=config.digest(identity),
        identity=identity,
        content={"pixels": pixels.hexdigest(), "redraws": redraws},
        run={
            "seconds": round(time.perf_counter() - begun, 3),
            "cpu_seconds": round(time.process_time() - cpu, 3),
            "host": platform.node(),
            **recipe.renderer,
            "versions": {"python": platform.python_version(), **{name: version(name) for name in _VERSIONED}},
        },
    )
    ledger.write_record(storage, record)
    yield record


def _stored(storage: Storage | None) -> bytes | None:
    """The programs.json of a target, if it has one."""
    if storage is None or programs.NAME not in storage.sizes():
        return None
    return storage.read(programs.NAME)


def _with_programs_at(recipe: Recipe, storage: Storage) -> Recipe:
    """The recipe with its programs, if it has any that are not shipped, written to the target for the workers."""
    own = getattr(recipe.config, "programs", None)
    if own is None or own.place:
        return recipe
    storage.write(programs.NAME, own.data)
    return replace(recipe, config=replace(recipe.config, programs=own.at(storage.url)))


def _licence(recipe: Recipe) -> str:
    """The licence of a set: exnihilo's, or what its family says of other people's programs."""
    stated = getattr(recipe.dataset.module, "licence", None)
    return str(stated(recipe.config)) if stated else card.LICENCE


class Found(NamedTuple):
    """What lies at a target, beside what is asked for."""

    plan: list[Shard]
    state: ledger.State
    missing: list[Shard]
    other: bool = False  # another set, which --overwrite replaces

    @property
    def finished(self) -> bool:
        """Whether there is nothing to do."""
        return not self.missing and self.state.manifest is not None


def _examine(recipe: Recipe, storage: Storage, request: Request) -> Found:
    """What lies at the target. Raises UserError where it is another set that may not be replaced."""
    plan = shards.plan(recipe.dataset.name, request.samples, recipe.shard_size)
    state = ledger.load(storage)
    try:
        ledger.require_same(state, storage, recipe.identity, request.samples)
    except UserError:
        if not (request.overwrite and state.records):
            raise
        return Found(plan, state, plan, other=True)
    return _compare(recipe, state, plan)


def _compare(recipe: Recipe, state: ledger.State, plan: list[Shard]) -> Found:
    fingerprint = config.digest(recipe.identity)
    return Found(plan, state, [s for s in plan if not state.done(s.file, s.count, fingerprint)])


def _give_up(storage: Storage, found: Found) -> NoReturn:
    file = found.missing[0].file
    if file not in found.state.sizes:
        raise UserError(f"{storage.join(file)} was written and is not there; is this folder shared by all nodes of the cluster?")
    raise UserError(f"{storage.join(file)} differs from its record each time; does another program write there?")


def _foresee(recipe: Recipe, storage: Storage, found: Found, request: Request) -> Estimate:
    """Draws pictures of the set. Raises UserError where the missing shards would not fit."""
    probes = range(min(request.samples, _PROBES))
    for i in probes if recipe.renderer else (0,):
        recipe.encode(i)  # compiles, or loads what was compiled
    begun = time.process_time()
    lengths = [_BLOCK + len(data) + -len(data) % _BLOCK for i in probes for data in recipe.encode(i).files.values()]
    seconds = (time.process_time() - begun) / len(probes)
    pictures = sum(s.count for s in found.missing)
    needed = int(pictures * sum(lengths) / len(probes))
    free = storage.free_bytes()
    freed = sum(found.state.sizes.get(r.file, 0) for r in found.state.records.values()) if found.other else 0
    if free is not None and needed * _MARGIN > free + freed:
        raise UserError(f"{storage.url} has {free:,} bytes free and needs about {int(needed * _MARGIN):,}; make room or give another --out")
    return Estimate(pictures, needed, round(pictures * seconds / (_workers(request, found) or 1), 1), free)


def _workers(request: Request, found: Found) -> int | None:
    """How many tasks at once: as asked for; else a cluster's cores (None), or those of this machine for which there are shards."""
    if request.workers is not None or request.ray_address:
        return request.workers
    workers = min(len(os.sched_getaffinity(0)), len(found.missing))
    return workers if workers > 1 else 0


def _require_ray(request: Request) -> None:
    if request.workers != 0:
        parallel.require_reachable(request.ray_address)


def _engine(workers: int | None, ray_address: str | None) -> contextlib.AbstractContextManager[Any]:
    """Ray, up for the length of a run, or nothing where none is asked for."""
    return contextlib.nullcontext() if workers == 0 else parallel.ray_session(workers, ray_address, ["synth"])


def _render(
    jobs: list[Job], workers: int | None, ray_address: str | None, made: list[ledger.Record], progress: Callable[[Progress], None]
) -> int:
    """Makes shards and appends their records to `made`; returns how many were given out again."""
    retries = 0
    with contextlib.closing(parallel.run(render_shard, jobs, workers=workers, ray_address=ray_address)) as values:
        for job, value in values:
            if isinstance(value, ledger.Record):
                made.append(value)
            elif isinstance(value, parallel.Retry):
                retries += 1
                progress(Progress(-value.lost, f"{job.shard.file} is drawn again ({value.reason})"))
            else:
                progress(Progress(value))
    return retries


def _finish(recipe: Recipe, storage: Storage, found: Found, run: Json) -> None:
    """Closes the set: card, contact sheet and, last, the manifest, which is told how the run went."""
    records = [found.state.records[s.file] for s in found.plan]
    stray = re.compile(rf"{recipe.dataset.name}-\d{{6,}}\.tar")
    storage.remove(name for name in found.state.sizes if stray.fullmatch(name) and name not in found.state.records)
    about = {"title": recipe.dataset.title, "channels": recipe.config.channels, "licence": _licence(recipe)}
    run = {**run, "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
    manifest = ledger.manifest(records, recipe.identity, about, run)
    sheet = contact_sheet(recipe.render(i)[1].pixels for i in range(min(sum(r.count for r in records), _PROBES)))
    for name, data in card.files(manifest, sheet).items():
        storage.write(name, data)
    ledger.write_manifest(storage, manifest)
