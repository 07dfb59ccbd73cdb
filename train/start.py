"""From a request to a trained run: what it reads is found and checked, then the loop has it."""

import math
import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from caption import encoders
from caption.table import CaptionSet
from synth.errors import UserError
from train import checkpoint, config, presets, runs
from train.config import Config
from train.distributed import Ranks
from train.loop import Tick, Trainer, Watch
from train.sampling import grid
from train.stream import captioned_sets
from train.stream.cache import Cache
from train.stream.captioned_sets import CaptionedSet
from train.stream.stream import Stream, Text, Visit

_CACHE = "EXNIHILO_CACHE"  # environment variable: the folder of fetched files
_GRID = 16  # pictures of a sample grid

Json = dict[str, Any]


@dataclass(frozen=True)
class Request:
    """What one `pretrain` or `finetune` command asks for."""

    preset: str
    shards: tuple[str, ...]  # sets that are read as one
    out: str
    captions: tuple[str, ...] = ()  # the tables of each; none: the only ones of these shards under data/captions
    images_seen: int | None = None
    precision: str = "auto"
    text: str | None = None
    encoder: str | None = None  # None: the one that made the captions
    device: str = "auto"
    settings: tuple[str, ...] = ()
    source: str | None = None  # the run whose weights are taken: fine-tuning
    fraction: float | None = None


@dataclass(frozen=True)
class Prepared:
    """A checked request."""

    config: Config
    sets: tuple[CaptionedSet, ...]
    stream: Stream
    encoder: encoders.Encoder | None
    source: Path | None  # checkpoint whose weights are taken
    about: Json  # what config.json says
    run: Path


def prepare(request: Request, device: str, *, ranks: int = 1) -> Prepared:
    """Everything that a run needs, checked, nothing written. Raises UserError."""
    found = captioned_sets.find(request.shards, request.captions)
    captions = found[0].captions
    settled = _settled(request, captions, device)
    config.require_divisible(settled, ranks)
    captioned_sets.require_resolution(found, settled.model.resolution)
    stream = _stream(settled, found)
    if stream.order.samples < ranks:
        raise UserError(f"{ranks} ranks are more than the {stream.order.samples} samples of the set")
    source = _source(request, settled, captions) if request.source else None
    about = {
        "preset": request.preset,
        "config": config.to_json(settled),
        **captioned_sets.about(found),
        "encoder": {"name": request.encoder or _asked(captions), "digest": captions.identity["weights"]},
        "from": {"run": request.source, "checkpoint": source.name, "digest": _digest(source)} if source else None,
    }
    runs.require_same(Path(request.out), about)
    encoder = _encoder(request, captions, device, settled.training.precision) if settled.loss.cong_weight else None
    return Prepared(settled, found, stream, encoder, source, about, Path(request.out))


def pretrain(request: Request, *, said: Callable[[str], None], started: Callable[[int, int], None], advance: Callable[[int], None]) -> int:
    """Trains the run of a request, or goes on with it. Returns the number of the signal that ended it, 0 where it is finished.

    `said` gets lines for a person, `started` the images to see and those seen, `advance` images as they are seen. Raises UserError;
    of several ranks one does, the others leave with exit code 2."""
    device = encoders.choose_device(request.device)
    if device == "cpu" and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1)  # sums depend on the number; small models get slower from more
    ranks = Ranks.join(device)
    with ExitStack() as stack:
        prepared = ranks.together(lambda: prepare(request, ranks.device, ranks=ranks.count))
        settled, run, stream = prepared.config, prepared.run, prepared.stream
        found = ranks.together(lambda: _open(prepared, ranks, stack))
        if found and checkpoint.images_seen(found) >= settled.run.images:
            if ranks.rank == 0:
                seen = f"{checkpoint.images_seen(found):,} images are seen, of {settled.run.images:,} asked for"
                said(f"finished: {seen}; nothing is left to do")
            return 0
        trainer = ranks.together(lambda: _trainer(prepared, ranks, found))
        begin = trainer.images_seen
        fetcher = ranks.together(lambda: stream.fetcher(begin, int(settled.run.cache_gb * 1e9)) if ranks.local == 0 else None)
        if fetcher:
            fetcher.start()
            stack.callback(fetcher.end)
        batches = stream.batches(begin, settled.training.batch, rank=ranks.rank, ranks=ranks.count, workers=settled.run.workers)
        stack.callback(batches.close)
        watch = ranks.together(lambda: _watch(prepared, ranks, stack, begin, said, advance))
        if ranks.rank == 0:
            started(settled.run.images, begin)
        if not begin:
            ranks.together(lambda: watch.samples(trainer))
        ended_by = trainer.train(batches, watch, run)
        if ended_by and ranks.rank == 0:
            said("stopped after a checkpoint; the same command goes on from here")
        return ended_by


def _settled(request: Request, captions: CaptionSet, device: str) -> Config:
    """The preset with everything that the command changes."""
    settled = presets.get(request.preset).make()
    settled = replace(settled, model=replace(settled.model, text_dim=captions.dimensions))
    settled = config.with_settings(settled, request.settings)
    if settled.model.text_dim != captions.dimensions:
        what = f"{captions.storage.url} has embeddings of {captions.dimensions}"
        raise UserError(f"{what}, and model.text_dim is {settled.model.text_dim}; leave it out")
    if request.images_seen is not None:
        settled = config.with_settings(settled, [f"run.images={request.images_seen}"])
    if request.text is not None:
        settled = replace(settled, data=replace(settled.data, text=request.text))
    if request.fraction is not None:
        settled = config.with_settings(settled, [f"data.fraction={request.fraction}"])
    Text.parse(settled.data.text)
    return replace(settled, training=replace(settled.training, precision=_precision(request, settled, device)))


def _precision(request: Request, settled: Config, device: str) -> str:
    """As asked for; else what a run has that is there already; else bf16 where the device computes in it."""
    if any(s.startswith("training.precision=") for s in request.settings):
        return settled.training.precision
    if request.precision != "auto":
        if request.precision not in config.PRECISIONS:
            raise UserError(f"unknown precision {request.precision!r}; known are auto, {', '.join(config.PRECISIONS)}")
        return request.precision
    if (Path(request.out) / runs.CONFIG).exists():
        return str(runs.describe(Path(request.out))["config"]["training"]["precision"])
    return "bf16" if encoders.has_bf16(device) else "fp32"


def _asked(captions: CaptionSet) -> str:
    return str(captions.identity["encoder"])


def _encoder(request: Request, captions: CaptionSet, device: str, precision: str) -> encoders.Encoder:
    """The captions' encoder, for L_ConG. Raises UserError where it is not to be had, or another one is given."""
    name = request.encoder or _asked(captions)
    try:
        source = encoders.find(name)
    except UserError as error:
        raise UserError(f"L_ConG needs the captions' encoder: {error}; or --set loss.cong_weight=0 does without") from None
    if source.sha256 != captions.identity["weights"]:
        raise UserError(f"the encoder {name} has other weights than the one that made {captions.storage.url}; give that one by --encoder")
    return encoders.load(source, device, precision)


def _source(request: Request, settled: Config, captions: CaptionSet) -> Path:
    """The checkpoint whose weights are taken: the newest, or that of the first start of this run. Raises UserError where there is none,
    or it is of another model, or reads the texts of another encoder."""
    source, run = Path(str(request.source)), Path(request.out)
    about = runs.describe(source)
    if about["encoder"]["digest"] != captions.identity["weights"]:
        made = (
            f"{captions.storage.url} was made by {captions.identity['encoder']}, and {source} was trained with {about['encoder']['name']}"
        )
        raise UserError(f"{made}, whose vectors mean other things; make captions by that one")
    model, own = (dict(c["model"], mbstd_group=0) for c in (about["config"], config.to_json(settled)))
    changed = [f"model.{name} is {model.get(name)} there and {value} here" for name, value in own.items() if model.get(name) != value]
    if changed:
        raise UserError(f"{source} is of another model: {'; '.join(changed)}; give the preset that it was made by, or --set")
    begun = (runs.describe(run).get("from") or {}) if (run / runs.CONFIG).exists() else {}
    kept = source / "checkpoints" / str(begun.get("checkpoint"))
    return kept if begun.get("run") == request.source and kept in checkpoint.committed(source) else checkpoint.require(source)


def _digest(found: Path) -> str:
    """sha256 over what a checkpoint's mark says."""
    import hashlib

    return hashlib.sha256((found / "COMMITTED").read_bytes()).hexdigest()


def _open(prepared: Prepared, ranks: Ranks, stack: ExitStack) -> Path | None:
    """Makes the run's folder, on the first rank; the checkpoint to go on from."""
    if ranks.rank == 0:
        runs.settle(prepared.run, prepared.about)
        stack.enter_context(runs.locked(prepared.run))
    found = checkpoint.newest(prepared.run)
    if ranks.rank == 0:
        runs.cut_back(prepared.run, checkpoint.images_seen(found) if found else 0)
    return found


def _trainer(prepared: Prepared, ranks: Ranks, found: Path | None) -> Trainer:
    """At a checkpoint of its own, or else with another run's weights, or new ones."""
    trainer = Trainer(prepared.config, prepared.encoder, ranks)
    if found:
        trainer.restore(found)
    elif prepared.source:
        trainer.start_from(prepared.source)
    return trainer


def _stream(settled: Config, found: tuple[CaptionedSet, ...]) -> Stream:
    data = settled.data
    visit = Visit(settled.model.resolution, settled.training.seed, Text.parse(data.text), data.xi, data.caption_xi)
    cache = Cache(os.environ.get(_CACHE) or str(Path.home() / ".cache" / "exnihilo"))
    return Stream(found, visit, cache=cache, fraction=data.fraction)


def _watch(
    prepared: Prepared, ranks: Ranks, stack: ExitStack, begin: int, said: Callable[[str], None], advance: Callable[[int], None]
) -> Watch:
    """What is told of a run, by its first rank: log, TensorBoard, grids."""
    if ranks.rank:
        return Watch(lambda _: None, lambda _: None, lambda _: None)
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(prepared.run / "tensorboard"), purge_step=begin + 1)  # what was told after the checkpoint
    stack.callback(writer.close)
    vectors, captions = captioned_sets.stored_texts(prepared.sets, _GRID)
    texts = torch.from_numpy(vectors).to(ranks.device)

    def tick(told: Tick) -> None:
        images = sum(b for b in (told.images_seen, -tick_before[0]))
        tick_before[0] = told.images_seen
        row = {
            "images_seen": told.images_seen,
            **{name: round(value, 6) if math.isfinite(value) else None for name, value in told.losses.items()},
            "seconds_per_kimg": round(1000 * told.seconds / max(images, 1), 3),
            "waited": round(told.waited / told.seconds, 4),
            "memory_mb": _memory(ranks.device),
            "skipped": told.skipped,
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }
        runs.append(prepared.run, row)
        for name, value in row.items():
            if isinstance(value, int | float) and name != "images_seen":
                writer.add_scalar(name, value, told.images_seen)
        writer.flush()
        losses = "  ".join(f"{name} {value:.3f}" for name, value in told.losses.items())
        said(f"{told.images_seen:>11,} images  {row['seconds_per_kimg']:.1f} s/kimg  {losses}")

    def samples(trainer: Trainer) -> None:
        pictures = grid.generate(trainer.average, texts, seed=trainer.config.training.seed)
        path = prepared.run / runs.SAMPLES / f"{trainer.images_seen:09d}.png"
        grid.save(path, grid.captioned(pictures, captions))

    tick_before = [begin]
    return Watch(tick, samples, advance)


def _memory(device: str) -> int:
    """The most memory in use so far, MB: of the GPU, or of this process."""
    if device.startswith("cuda"):
        return round(torch.cuda.max_memory_allocated(device) / 1e6)
    import resource

    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3)
