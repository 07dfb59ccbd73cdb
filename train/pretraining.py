"""From a request to a trained run: what it reads is found and checked, then the loop has it."""

import json
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
from synth.shards import ShardSet
from train import checkpoint, config, folder, grid, presets
from train.cache import Cache
from train.config import Config
from train.distributed import Ranks
from train.loop import Tick, Trainer, Watch
from train.stream import Stream, Text, Visit

_CACHE = "EXNIHILO_CACHE"  # environment variable: the folder of fetched files
_GRID = 16  # pictures of a sample grid

Json = dict[str, Any]


@dataclass(frozen=True)
class Request:
    """What one `pretrain` or `finetune` command asks for."""

    preset: str
    shards: str
    out: str
    captions: str | None = None  # None: the only tables of these shards under data/captions
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
    shards: ShardSet
    captions: CaptionSet
    encoder: encoders.Encoder | None
    source: Path | None  # checkpoint whose weights are taken
    about: Json  # what config.json says
    run: Path


def prepare(request: Request, device: str) -> Prepared:
    """Everything that a run needs, checked, nothing written. Raises UserError."""
    shards = ShardSet(request.shards)
    captions = CaptionSet(request.captions or _only_captions(shards))
    captions.require_made_for(shards)
    settled = _settled(request, captions, device)
    _require_resolution(shards, settled.model.resolution)
    encoder = _encoder(request, captions, device) if settled.loss.cong_weight else None
    source = checkpoint.require(Path(request.source)) if request.source else None
    about = {
        "preset": request.preset,
        "config": config.to_json(settled),
        "shards": {"url": shards.storage.url, "digest": shards.digest, "dataset": shards.manifest["identity"].get("dataset")},
        "captions": {"url": captions.storage.url, "digest": captions.digest, "encoder": captions.identity["encoder"]},
        "encoder": {"name": request.encoder or _asked(captions), "digest": captions.identity["weights"]},
        "from": {"run": request.source, "checkpoint": source.name, "digest": _digest(source)} if source else None,
    }
    return Prepared(settled, shards, captions, encoder, source, about, Path(request.out))


def pretrain(request: Request, *, said: Callable[[str], None], started: Callable[[int, int], None], advance: Callable[[int], None]) -> int:
    """Trains the run of a request, or goes on with it. Returns the number of the signal that ended it, 0 where it is finished.

    `said` gets lines for a person, `started` the images to see and those seen, `advance` images as they are seen. Raises UserError;
    of several ranks one does, the others leave with exit code 2."""
    device = encoders.choose_device(request.device)
    ranks = Ranks.join(device)
    try:
        with ExitStack() as stack:
            prepared = _together(ranks, lambda: prepare(request, ranks.device))
            settled, run = prepared.config, prepared.run
            _together(ranks, lambda: _open(prepared, ranks, stack))
            trainer = _together(ranks, lambda: Trainer(settled, prepared.encoder, ranks))
            _together(ranks, lambda: _restore(trainer, prepared))
            stream = _together(ranks, lambda: _stream(prepared))
            _require_ranks(stream, ranks)
            begin = trainer.images_seen
            fetcher = _together(ranks, lambda: stream.fetcher(begin, int(settled.run.cache_gb * 1e9)) if ranks.local == 0 else None)
            if fetcher:
                fetcher.start()
                stack.callback(fetcher.end)
            batches = stream.batches(begin, settled.training.batch, rank=ranks.rank, ranks=ranks.count, workers=settled.run.workers)
            stack.callback(batches.close)
            watch = _watch(prepared, ranks, stack, begin, said, advance)
            if ranks.rank == 0:
                started(settled.run.images, begin)
                if not begin:
                    watch.samples(trainer)
            return trainer.train(batches, watch, run)
    finally:
        ranks.leave()


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
    if (Path(request.out) / folder.CONFIG).exists():
        return str(folder.describe(Path(request.out))["config"]["training"]["precision"])
    return "bf16" if encoders.has_bf16(device) else "fp32"


def _only_captions(shards: ShardSet) -> str:
    """The only finished tables of these shards at the default place. Raises UserError, listing them, where there are several or none."""
    dataset = shards.manifest["identity"].get("dataset", "")
    found = []
    for manifest in sorted(Path("data/captions", str(dataset)).glob("*/manifest.json")):
        made_for = json.loads(manifest.read_text()).get("shards", {})
        found += [str(manifest.parent)] if made_for.get("digest") == shards.digest else []
    if not found:
        raise UserError(
            f"no caption tables of {shards.storage.url} are in data/captions/{dataset}; `make captions` makes them, or --captions"
        )
    if len(found) > 1:
        raise UserError(f"{shards.storage.url} has several caption tables; choose by --captions: {', '.join(found)}")
    return found[0]


def _require_resolution(shards: ShardSet, resolution: int) -> None:
    """Raises UserError where the pictures are no power-of-two multiple of what the model draws."""
    side = next(iter(shards.read(shards.shards[0]))).pixels.shape[0]
    factor, rest = divmod(side, resolution)
    if rest or factor & (factor - 1) or not factor:
        raise UserError(
            f"the pictures of {shards.storage.url} have {side} pixels a side, no power-of-two multiple of model.resolution = {resolution}"
        )


def _asked(captions: CaptionSet) -> str:
    return str(captions.identity["encoder"])


def _encoder(request: Request, captions: CaptionSet, device: str) -> encoders.Encoder:
    """The captions' encoder, for L_ConG. Raises UserError where it is not to be had, or another one is given."""
    name = request.encoder or _asked(captions)
    try:
        source = encoders.find(name)
    except UserError as error:
        raise UserError(f"L_ConG needs the captions' encoder: {error}; or --set loss.cong_weight=0 does without") from None
    if source.sha256 != captions.identity["weights"]:
        raise UserError(f"the encoder {name} has other weights than the one that made {captions.storage.url}; give that one by --encoder")
    return encoders.load(source, device, "fp32")


def _digest(found: Path) -> str:
    """sha256 over what a checkpoint's mark says."""
    import hashlib

    return hashlib.sha256((found / "COMMITTED").read_bytes()).hexdigest()


def _together(ranks: Ranks, action: Callable[[], Any]) -> Any:
    """Does something on every rank; where it fails on any, all leave, one of them with a sentence."""
    result, failure = None, None
    try:
        result = action()
    except UserError as error:
        failure = error
    failed, rank = ranks.agree(2 if failure else 0)
    if failure and rank == ranks.rank:
        raise failure
    if failed:
        raise SystemExit(2)
    return result


def _open(prepared: Prepared, ranks: Ranks, stack: ExitStack) -> None:
    """Makes or compares the run's folder, on the first rank."""
    if ranks.rank == 0:
        folder.settle(prepared.run, prepared.about)
        stack.enter_context(folder.locked(prepared.run))
    found = checkpoint.newest(prepared.run)
    if ranks.rank == 0:
        folder.cut_back(prepared.run, checkpoint.images_seen(found) if found else 0)


def _restore(trainer: Trainer, prepared: Prepared) -> None:
    """Goes on from the newest checkpoint, or starts from another run's weights."""
    found = checkpoint.newest(prepared.run)
    if found:
        trainer.restore(found)
    elif prepared.source:
        trainer.start_from(prepared.source)


def _stream(prepared: Prepared) -> Stream:
    settled = prepared.config
    data = settled.data
    visit = Visit(settled.model.resolution, settled.training.seed, Text.parse(data.text), data.xi, data.caption_xi)
    cache = Cache(os.environ.get(_CACHE) or str(Path.home() / ".cache" / "exnihilo"))
    return Stream(prepared.shards, prepared.captions, visit, cache=cache, fraction=data.fraction)


def _require_ranks(stream: Stream, ranks: Ranks) -> None:
    if stream.order.samples < ranks.count:
        raise UserError(f"{ranks.count} ranks are more than the {stream.order.samples} samples of the set")


def _watch(
    prepared: Prepared, ranks: Ranks, stack: ExitStack, begin: int, said: Callable[[str], None], advance: Callable[[int], None]
) -> Watch:
    """What is told of a run, by its first rank: log, TensorBoard, grids."""
    if ranks.rank:
        return Watch(lambda _: None, lambda _: None, lambda _: None)
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(prepared.run / "tensorboard"), purge_step=begin)
    stack.callback(writer.close)
    texts, captions = fixed_texts(prepared.captions, _GRID)

    def tick(told: Tick) -> None:
        images = sum(b for b in (told.images_seen, -tick_before[0]))
        tick_before[0] = told.images_seen
        row = {
            "images_seen": told.images_seen,
            **{name: round(value, 6) for name, value in told.losses.items()},
            "seconds_per_kimg": round(1000 * told.seconds / max(images, 1), 3),
            "waited": round(told.waited / told.seconds, 4),
            "memory_mb": _memory(ranks.device),
            "skipped": told.skipped,
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }
        folder.append(prepared.run, row)
        for name, value in row.items():
            if isinstance(value, int | float) and name != "images_seen":
                writer.add_scalar(name, value, told.images_seen)
        losses = "  ".join(f"{name} {value:.3f}" for name, value in told.losses.items())
        said(f"{told.images_seen:>11,} images  {row['seconds_per_kimg']:.1f} s/kimg  {losses}")

    def samples(trainer: Trainer) -> None:
        pictures = grid.generate(trainer.average, texts.to(ranks.device), seed=trainer.config.training.seed)
        path = prepared.run / folder.SAMPLES / f"{trainer.images_seen:09d}.png"
        grid.save(path, grid.captioned(pictures, captions))

    tick_before = [begin]
    return Watch(tick, samples, advance)


def fixed_texts(captions: CaptionSet, count: int) -> tuple[torch.Tensor, list[str]]:
    """The texts of a run's grids: the stored vectors (N, D) of the first samples, and the first caption of each."""
    part = captions.parts[0]
    table = captions.read(part, ["pseudo_caption", "caption"]).slice(0, count)
    vectors = torch.tensor(table["pseudo_caption"].to_pylist(), dtype=torch.float32)
    return vectors, [(texts or [""])[0] for texts in table["caption"].to_pylist()]


def _memory(device: str) -> int:
    """The most memory in use so far, MB: of the GPU, or of this process."""
    if device.startswith("cuda"):
        return round(torch.cuda.max_memory_allocated(device) / 1e6)
    import resource

    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3)
