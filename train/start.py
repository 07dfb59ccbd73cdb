"""The start of a run: finds and checks its inputs, then runs the loop."""

import os
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

from caption import encoders
from caption.table import CaptionSet
from synth import caches, options
from synth.errors import UserError
from synth.sets.storage import Folder
from train import autoencoders, checkpoint, config, log, machine, model, presets, runs
from train.config import RunConfig
from train.distributed import Ranks
from train.log import GRID, Log
from train.loop import Grid, Step, Tick, Trainer
from train.model import PRECISIONS, CaptionedPicture, Context, Wanted
from train.stream import captioned_sets, live, mixture
from train.stream.cache import Cache
from train.stream.captioned_sets import CaptionedSet
from train.stream.latent_tables import LatentSet, deviation
from train.stream.stream import Stream, Text, Visit

_CACHE = "EXNIHILO_CACHE"  # environment variable: the folder of fetched files
_SURVEYED = 4096  # samples of a mixture with live sets

Json = dict[str, Any]


@dataclass(frozen=True)
class TrainRequest:
    """The options of one `pretrain` or `finetune` command."""

    preset: str
    shards: tuple[str, ...]  # sets that are read as one
    out: str
    # The tables of each set. Empty: the only tables of these shards under data/captions.
    captions: tuple[str, ...] = ()
    images: int | None = None  # length of the run
    precision: str = "auto"
    text: str | None = None
    encoder: str | None = None  # None: the one that made the captions
    device: str = "auto"
    settings: tuple[str, ...] = ()
    source: str | None = None  # the run with the first weights: fine-tuning
    fraction: float | None = None
    latents: tuple[str, ...] = ()  # of each set; empty: those under data/latents
    live: tuple[str, ...] = ()  # data sets that are drawn while training
    replayed: runs.Run | None = (
        None  # the run with the config and the live sets, in place of preset and options
    )


@dataclass(frozen=True)
class Prepared:
    """A checked request."""

    config: RunConfig
    sets: tuple[CaptionedSet, ...]
    live: live.Requested
    encoder: encoders.Encoder | None
    embedder: encoders.EncoderSource | None  # of the vectors of live sets
    source: Path | None  # checkpoint with the first weights
    metadata: Json  # the content of config.json
    run: Path
    latents: tuple[LatentSet, ...] = ()  # of each set, if the model reads them
    # Then these are entries of the survey: the autoencoder, and the scale of latents.
    surveyed: Json = field(default_factory=dict)

    def stream(self, wanted: Wanted) -> Stream:
        """Returns the run's stream of batches with the `wanted` content."""
        data, groups = self.config.data, self.config.groups
        text = Text.parse(data.text)
        seed, side = groups.training.seed, groups.model.resolution
        visit = Visit(side, seed, text, data.xi, data.caption_xi, wanted, data.mirror)
        cache = Cache(_fetched_files())
        live_sets, shares = self.live
        return Stream(
            self.sets,
            visit,
            cache=cache,
            fraction=data.fraction,
            latents=self.latents,
            live=live_sets,
            shares=shares,
            encoder=self.embedder,
        )

    def samples(self) -> Iterator[CaptionedPicture]:
        """Yields samples for a survey: those of the stored sets, or some of a mixture with live sets."""
        side, text = self.config.groups.model.resolution, Text.parse(self.config.data.text)
        stored = [captioned_sets.samples([each], side, text.required_columns) for each in self.sets]
        if not self.live.sets:
            counts = [len(shards) for shards, _ in self.sets]
            return mixture.interleaved(stored, counts, sum(counts))
        drawn = [each.samples(side, text.of_formula) for each in self.live.sets]
        return mixture.interleaved([*drawn, *stored], self.live.shares, _SURVEYED)

    def grid_texts(self) -> tuple[list[str], torch.Tensor | None]:
        """Returns the texts of the sample grids, from all sets in turn, and their stored vectors if all sets
        have some."""
        if not self.live.sets:
            if not self.sets[0].captions:
                return [], None
            vectors, captions = captioned_sets.stored_texts(self.sets, GRID)
            return captions, torch.from_numpy(vectors)
        if not self.config.needs.tables:
            return [], None
        side = self.config.groups.model.resolution
        texts = captioned_sets.first_texts(self.sets, self.live.sets, side, GRID)
        if not self.embedder:
            return texts, None
        encoder = encoders.load(self.embedder)
        return texts, torch.from_numpy(encoder.texts([encoder.cut(text) for text in texts]))

    def context(self, ranks: Ranks, survey: Json) -> Context:
        """Returns the surroundings of the run's model."""
        dtype = PRECISIONS[self.config.groups.training.precision]
        device, load = torch.device(ranks.device), autoencoders.load_any
        return Context(device, dtype, survey, self.encoder, load, gather=ranks.gather)


# Events, besides the loop's own.


class Started(NamedTuple):
    """An event: training begins."""

    images: int  # to be seen in the end
    images_seen: int  # already


class Note(NamedTuple):
    """An event: a line for a person."""

    text: str


class Ended(NamedTuple):
    """The last event."""

    signal: int  # number of the signal that ended the run; 0: it is finished


Event = Started | Step | Note | Ended


def prepare(request: TrainRequest, device: str, *, ranks: int = 1) -> Prepared:
    """Returns the checked inputs of a run. Writes nothing. Raises UserError if they do not fit together."""
    # Config and sets.
    preset = request.replayed.config if request.replayed else presets.get(request.preset).make()
    changes = live.split(request.settings)[1]
    tables = config.with_settings(preset, changes).needs.tables
    sets = captioned_sets.find(
        request.shards,
        request.captions,
        tables=tables,
        encoder=request.encoder,
        kind=Text.parse(_text(request, preset)).kind,
    )
    captions = sets[0].captions if sets else None
    embedder = _embedder(request, preset, captions)
    run_config = _configured(request, preset, captions, embedder, device)
    config.require_divisible(run_config, ranks)
    live_sets = _live(request, run_config, sets, embedder)
    captioned_sets.require_resolution(sets, run_config.groups.model.resolution)
    latents, surveyed = _latents(request, run_config, sets, drawn=bool(live_sets.sets))
    source = _source(request, run_config, captions, embedder) if request.source else None

    # The content of config.json.
    metadata: Json = {
        "preset": request.preset,
        "model": run_config.name,
        "config": config.to_json(run_config),
        **captioned_sets.describe(sets, *live_sets),
        "encoder": None,
        "from": None,
    }
    if captions:
        name = request.encoder or _recorded(captions)
        metadata["encoder"] = {"name": name, "digest": captions.identity["weights"]}
    elif embedder:
        metadata["encoder"] = {"name": request.encoder or embedder.name, "digest": embedder.sha256}
    if source:
        digest = checkpoint.digest(source)
        metadata["from"] = {"run": request.source, "checkpoint": source.name, "digest": digest}
    if latents:
        metadata["latents"] = captioned_sets.describe_latents(latents)
    log.require_same(Path(request.out), metadata)

    # Encoder and stream.
    encoder = None
    if captions and run_config.needs.encoder:
        encoder = _encoder(request, captions, device, run_config)
    elif embedder and run_config.needs.encoder:
        encoder = encoders.load(embedder, device, run_config.groups.training.precision)
    if network := run_config.needs.network:
        encoder = encoders.load(encoders.find(network), device, run_config.groups.training.precision)
    prepared = Prepared(
        run_config,
        sets,
        live_sets,
        encoder,
        embedder,
        source,
        metadata,
        Path(request.out),
        latents,
        surveyed,
    )
    # The model's tokeniser needs its survey, so another one stands for it.
    needs = run_config.needs
    wanted = Wanted() if needs.vectors else Wanted((), tokenise=_no_tokens)
    stream = prepared.stream(replace(wanted, group=needs.group, positives=needs.positives))
    stream.require_whole()
    samples = stream.order.samples
    if samples is not None and samples < ranks:
        raise UserError(f"{ranks} ranks are more than the {samples} samples of the set; start fewer ranks")
    return prepared


def train(request: TrainRequest) -> Generator[Event]:
    """Trains the run of a request, or resumes it. Yields its events, Ended last.

    Raises UserError. Of several ranks, one raises it and the others exit with code 2."""
    device = encoders.choose_device(request.device)
    if device == "cpu" and "OMP_NUM_THREADS" not in os.environ:
        # Sums depend on the number of threads, and more threads slow small models down.
        torch.set_num_threads(1)
    ranks = Ranks.join(device)
    with ExitStack() as stack:
        # Inputs.
        prepared = ranks.together(lambda: prepare(request, ranks.device, ranks=ranks.count))
        run, images = prepared.run, prepared.config.run.images
        newest, note = ranks.together(lambda: _open(prepared, ranks, stack))
        if note:
            yield Note(note)

        # A finished run.
        if newest and checkpoint.images_seen(newest) >= images:
            if ranks.rank == 0:
                seen = f"{checkpoint.images_seen(newest):,} of {images:,} images are seen"
                yield Note(f"finished: {seen}; nothing is left to do")
            yield Ended(0)
            return

        # The loop.
        trainer = ranks.together(lambda: _trainer(prepared, ranks, newest))
        for event in _train(prepared, ranks, trainer, run, stack):
            if ranks.rank == 0:
                yield event
        if trainer.ended_by and ranks.rank == 0:
            yield Note("stopped after a checkpoint; run the same command again to resume")
        yield Ended(trainer.ended_by)


def finish(events: Iterator[Event]) -> int:
    """Trains to the end without a display.

    Returns the number of the signal that ended the run, or 0 if the run is finished."""
    signal = 0
    for event in events:
        signal = event.signal if isinstance(event, Ended) else signal
    return signal


def _train(
    prepared: Prepared, ranks: Ranks, trainer: Trainer, run: Path, stack: ExitStack
) -> Iterator[Event]:
    """Runs the loop over the stream. Keeps the log on rank 0."""
    # Stream. One process per node fetches remote files.
    begin, wanted, loop = trainer.images_seen, trainer.model.wanted, prepared.config.run
    stream = ranks.together(lambda: prepared.stream(wanted))
    limit = int(loop.cache_gb * 1e9)
    fetcher = ranks.together(lambda: stream.fetcher(begin, limit) if ranks.local == 0 else None)
    if fetcher:
        fetcher.start()
        stack.callback(fetcher.end)
    batch = prepared.config.groups.training.batch
    batches = stream.batches(
        begin,
        batch,
        rank=ranks.rank,
        ranks=ranks.count,
        workers=loop.workers,
        stopped=lambda: bool(trainer.ended_by),
    )
    stack.callback(batches.close)

    # Log.
    records = ranks.together(
        lambda: Log(run, begin, *prepared.grid_texts(), ranks.device) if ranks.rank == 0 else None
    )
    if records:
        stack.callback(records.close)
    yield Started(loop.images, begin)

    def recorded(event: Tick | Grid) -> str:
        return records.record(event, trainer) if records else ""

    # Loop.
    if not begin:
        trainer.together(partial(recorded, Grid(0)), run)
    with closing(trainer.run(batches, run)) as events:
        for event in events:
            if isinstance(event, Step):
                yield event
            elif line := trainer.together(partial(recorded, event), run):
                yield Note(line)


def _configured(
    request: TrainRequest,
    preset: RunConfig,
    captions: CaptionSet | None,
    embedder: encoders.EncoderSource | None,
    device: str,
) -> RunConfig:
    """Returns the preset with the changes of the command."""
    _require_no_duplicates(request)

    # The width of the text vectors follows the tables, or the encoder of live sets.
    sizes = preset.groups.model
    if captions and hasattr(sizes, "text_dim"):
        preset = preset.replaced("model", replace(sizes, text_dim=captions.dimensions))
    elif embedder and hasattr(sizes, "text_dim"):
        dimensions = encoders.load(embedder).dimensions
        preset = preset.replaced("model", replace(sizes, text_dim=dimensions))
    run_config = config.with_settings(preset, live.split(request.settings)[1])
    width = getattr(run_config.groups.model, "text_dim", None)
    if captions and width not in (None, captions.dimensions):
        problem = f"{captions.storage.url} has embeddings of {captions.dimensions} dimensions"
        raise UserError(f"{problem}, and model.text_dim is {width}; leave model.text_dim out")

    # Options that stand for settings.
    if request.images is not None:
        run_config = config.with_settings(run_config, [f"run.images={request.images}"])
    if request.text is not None:
        run_config = run_config.replaced("data", replace(run_config.data, text=request.text))
    if request.fraction is not None:
        run_config = config.with_settings(run_config, [f"data.fraction={request.fraction}"])
    Text.parse(run_config.data.text)
    training = replace(run_config.groups.training, precision=_precision(request, run_config, device))
    return run_config.replaced("training", training)


def _embedder(
    request: TrainRequest, preset: RunConfig, captions: CaptionSet | None
) -> encoders.EncoderSource | None:
    """Returns the encoder of the vectors of live sets, or None if there are none.

    Raises UserError if it is another one than that of the tables."""
    # Live sets, and a model that reads vectors.
    replayed = live.recorded(request.replayed.metadata["shards"]).sets if request.replayed else ()
    needs = config.with_settings(preset, live.split(request.settings)[1]).needs
    name = request.encoder or (_recorded(captions) if captions else None)
    if not (request.live or replayed) or not (needs.tables and needs.vectors) or not name:
        return None

    # The encoder, which is that of the tables.
    source = encoders.find(name)
    if captions and source.sha256 != captions.identity["weights"]:
        problem = f"the encoder {name} has other weights than the one that made {captions.storage.url}"
        raise UserError(f"{problem}; give that one by --encoder")
    return source


def _latents(
    request: TrainRequest, run_config: RunConfig, sets: tuple[CaptionedSet, ...], *, drawn: bool
) -> tuple[tuple[LatentSet, ...], Json]:
    """Returns the latents of the sets, and the entries of the survey. Both are empty if the model reads
    pictures. `drawn`: there are live sets besides.

    Raises UserError if latents are missing or do not fit the model."""
    # Pictures.
    place, sizes = run_config.needs.latents, run_config.groups.model
    if not place:
        if request.latents:
            raise UserError("this model reads pictures; leave --latents out, or give --set model.latents=RUN")
        return (), {}
    if drawn:
        raise UserError("drawn pictures have no stored latents; give --on SET in place of --live")
    if run_config.data.mirror:
        raise UserError("latents of mirrored pictures are not stored; give --set data.mirror=false")

    # Latents by its autoencoder, of its shape.
    autoencoder = autoencoders.find(place)
    latents = captioned_sets.find_latents(sets, request.latents, autoencoder.weights, place)
    planes, factor = autoencoder.sizes.planes, autoencoder.sizes.factor
    if (planes, factor) != (sizes.planes, sizes.factor):
        problem = f"{place} has latents of {planes} planes and a side of 1 / {factor}"
        advice = "set model.planes and model.factor to those of the latents"
        raise UserError(f"{problem}, and the model is of {sizes.planes} and 1 / {sizes.factor}; {advice}")
    for tables in latents:
        if (resolution := tables.identity["resolution"]) != sizes.resolution:
            problem = f"{tables.storage.url} has latents of pictures with {resolution} pixels a side"
            raise UserError(f"{problem}; set model.resolution to that")
    scale = float(f"{1 / deviation(latents):.6g}")
    return latents, {"autoencoder": autoencoder.description, "latent_scale": scale}


def _live(
    request: TrainRequest,
    run_config: RunConfig,
    sets: Sequence[CaptionedSet],
    embedder: encoders.EncoderSource | None,
) -> live.Requested:
    """Returns the live sets of a command, with the shares of all sets.

    Raises UserError if their texts or vectors have no source."""
    if request.replayed:
        return live.recorded(request.replayed.metadata["shards"])

    # Settings of single sets need live ones.
    changes, _ = live.split(request.settings)
    if not request.live:
        if changes:
            raise UserError(f"--set {changes[0]} needs live sets; give --live NAME, or leave it out")
        return live.Requested((), ())
    names = [str(each.shards.manifest["identity"]["dataset"]) for each in sets]
    side = run_config.groups.model.resolution
    requested = live.find(request.live, names, changes, side)

    # Texts.
    needs, text = run_config.needs, Text.parse(run_config.data.text)
    vectors = needs.tables and needs.vectors
    if vectors and not embedder:
        problem = f"{request.preset} reads vectors of texts, and --live has no tables with any"
        advice = "give --encoder nano, or another one, which embeds every picture or text"
        if hasattr(run_config.groups.training, "drop_vector"):
            advice = f"{advice}, or --set training.drop_vector=1, which reads words alone"
        raise UserError(f"{problem}; {advice}")
    if text.stored and vectors:
        raise UserError("--text is stored, and --live has no tables; give --text pseudo")
    if text.synthetic:
        raise UserError("--text is synthetic, and drawn pictures have no captioner; give --text blend:1")
    return requested


def _text(request: TrainRequest, preset: RunConfig) -> str:
    """Returns the choice of texts: the option's, the setting's, or the preset's."""
    settings = [
        value for name, _, value in (s.partition("=") for s in request.settings) if name == "data.text"
    ]
    return request.text or next(reversed(settings), preset.data.text)


def _require_no_duplicates(request: TrainRequest) -> None:
    """Raises UserError if an option and --set give the same setting."""
    options = {
        "--images": (request.images, "run.images"),
        "--text": (request.text, "data.text"),
        "--fraction": (request.fraction, "data.fraction"),
        "--precision": (None if request.precision == "auto" else request.precision, "training.precision"),
    }
    changed = {setting.partition("=")[0] for setting in request.settings}
    for option, (value, setting) in options.items():
        if value is not None and setting in changed:
            raise UserError(f"{option} and --set {setting} are the same setting; give one of them")


def _precision(request: TrainRequest, run_config: RunConfig, device: str) -> str:
    """Returns the requested precision, else that of the existing run, else bf16 if the device supports it."""
    if any(s.startswith("training.precision=") for s in request.settings):
        return str(run_config.groups.training.precision)
    if request.precision != "auto":
        if request.precision not in PRECISIONS:
            raise UserError(f"unknown precision {request.precision!r}; known are auto, fp32, bf16")
        return request.precision

    # auto: a resumed run keeps its precision, because its numbers depend on it.
    if (Path(request.out) / runs.CONFIG).exists():
        return str(runs.describe(Path(request.out))["config"]["training"]["precision"])
    return "bf16" if encoders.has_bf16(device) else "fp32"


def _fetched_files() -> str | None:
    """Returns the folder of fetched files, or None if the user can write no cache."""
    if place := os.environ.get(_CACHE):
        return options.located(f"${_CACHE}", place)
    folder = caches.folder("exnihilo")
    return str(folder) if folder else None


def _recorded(captions: CaptionSet) -> str:
    return str(captions.identity["encoder"])


def _encoder(
    request: TrainRequest, captions: CaptionSet, device: str, run_config: RunConfig
) -> encoders.Encoder:
    """Returns the captions' encoder. Raises UserError if it is missing, or if --encoder names another one."""
    name = request.encoder or _recorded(captions)
    try:
        source = encoders.find(name)
    except UserError as error:
        reason, free = run_config.needs.encoder_reason
        advice = f"; or --set {free} does without" if free else ""
        raise UserError(f"{reason} needs the captions' encoder: {error}{advice}") from None
    if source.sha256 != captions.identity["weights"]:
        problem = f"the encoder {name} has other weights than the one that made {captions.storage.url}"
        raise UserError(f"{problem}; give that one by --encoder")
    return encoders.load(source, device, run_config.groups.training.precision)


def _source(
    request: TrainRequest,
    run_config: RunConfig,
    captions: CaptionSet | None,
    embedder: encoders.EncoderSource | None,
) -> Path:
    """Returns the checkpoint with the first weights: the newest, or that of the first start of this run.

    Raises UserError if there is none, if it is of another model, or if it reads another encoder's texts."""
    # Kind and model of the run.
    source, run = runs.find(str(request.source)), Path(request.out)
    if source.model != run_config.name:
        problem = f"{source.path} is a run of {source.model}, and this preset is of {run_config.name}"
        raise UserError(f"{problem}; give a run of {run_config.name}")
    if source.exported and (lacking := source.lacks()):
        problem = f"{source.path} is an export, which lacks the part {', '.join(lacking)}"
        raise UserError(f"{problem}; give the run directory that it is of")

    # Encoder of its captions, if both read vectors.
    encoder = source.metadata["encoder"]
    vectors = run_config.needs.vectors and source.config.needs.vectors
    if vectors and captions and encoder and encoder["digest"] != captions.identity["weights"]:
        tables, name = captions.storage.url, source.encoder_name
        raise UserError(
            f"{tables} was made by {_recorded(captions)}, and {source.path} was trained with {name}; "
            f"give captions of these shards by {name}"
        )
    if vectors and embedder and encoder and encoder["digest"] != embedder.sha256:
        name = source.encoder_name
        problem = f"{source.path} was trained with {name}, and --encoder is {embedder.name}"
        raise UserError(f"{problem}; give --encoder {name}")

    # Sizes of its networks. The minibatch deviation has no weights, so its groups may differ.
    free = {"mbstd_group": 0, "mbstd_order": ""}
    theirs, ours = ({**vars(c.groups.model), **free} for c in (source.config, run_config))
    changes = [
        f"model.{name} is {theirs.get(name)} there and {value} here"
        for name, value in ours.items()
        if theirs.get(name) != value
    ]
    grows = getattr(model.find(run_config.name), "grows", lambda base, config: False)
    if changes and not grows(source.config.groups, run_config.groups):
        problem = f"{source.path} is of another model: {'; '.join(changes)}"
        raise UserError(f"{problem}; give the preset that it was made by, or --set")

    # Its autoencoder.
    if run_config.needs.latents:
        weights = autoencoders.find(run_config.needs.latents).weights
        if source.survey["autoencoder"]["weights"] != weights:
            problem = f"{source.path} was trained on latents of another autoencoder"
            raise UserError(f"{problem} than {run_config.needs.latents}; give the one that it was trained on")

    # A restart takes the checkpoint of the first start, though the other run may have newer ones.
    existing = runs.describe(run) if (run / runs.CONFIG).exists() else {}
    origin = (request.replayed.metadata if request.replayed else existing).get("from") or {}
    first = source.path / "checkpoints" / str(origin.get("checkpoint"))
    same = origin.get("run") == request.source and first in source.checkpoints()
    chosen = first if same else source.checkpoint()

    # Parts that other settings of its losses leave out.
    there = checkpoint.modules(chosen).values()
    if missing := [part for part in run_config.needs.parts if part not in there]:
        problem = f"{source.path} has no part {', '.join(missing)}, which {request.preset} trains"
        raise UserError(f"{problem}; give a run with the same losses")
    return chosen


def _open(prepared: Prepared, ranks: Ranks, stack: ExitStack) -> tuple[Path | None, str | None]:
    """Writes the run's folder and config.json, and locks it, on rank 0.

    Returns the checkpoint to resume from, and a sentence if there are no locks."""
    run, note = prepared.run, None
    if ranks.rank == 0:
        survey = surveyed(prepared)
        log.write_config(run, {**prepared.metadata, "survey": survey}, machine.describe(ranks))
        note = stack.enter_context(log.locked(run))
    newest = checkpoint.newest(run)
    if ranks.rank == 0:
        log.cut_back(run, checkpoint.images_seen(newest) if newest else 0)
    return newest, note


def _no_tokens(text: str) -> list[int]:
    return []


def surveyed(prepared: Prepared) -> Json:
    """Returns the model's measurements of the set: the existing run's, else new ones.

    Empty if the model takes none."""
    if (prepared.run / runs.CONFIG).exists():
        return runs.find(prepared.run).survey
    module, groups = model.find(prepared.config.name), prepared.config.groups
    if not hasattr(module, "survey"):
        return prepared.surveyed
    base = runs.of_checkpoint(prepared.source).survey if prepared.source else {}
    measured = module.survey(groups, prepared.samples(), base, prepared.encoder)
    return {**measured, **prepared.surveyed}


def _trainer(prepared: Prepared, ranks: Ranks, newest: Path | None) -> Trainer:
    """Returns a trainer at a checkpoint of its run, with another run's weights, or with new ones."""
    trainer = Trainer(prepared.config, prepared.context(ranks, surveyed(prepared)), ranks)
    if ranks.rank == 0:
        _require_room(prepared, trainer, checkpoint.images_seen(newest) if newest else 0)
    if newest:
        trainer.restore(newest)
    elif prepared.source:
        trainer.start_from(prepared.source)
    return trainer


def _require_room(prepared: Prepared, trainer: Trainer, images_seen: int) -> None:
    """Raises UserError if the disk has no room for the checkpoints that the run will write."""
    # The last checkpoints are full, and one more while it is written.
    run, left = prepared.config.run, prepared.config.run.images - images_seen
    sizes, free = trainer.sizes(), Folder(str(prepared.run)).free_bytes()
    count = -(-left // run.checkpoint)
    full = min(count, checkpoint.FULL + 1)
    needed = full * sizes.full + (count - full) * sizes.lasting
    if free is None or needed <= free:
        return

    # Fewer checkpoints may fit.
    problem = f"the checkpoints of this run take {needed / 1e9:,.3g} GB"
    problem = f"{problem}, and {prepared.run} has {free / 1e9:,.3g} GB free"
    advice = "make room, or give another --out"
    if (spare := free - (checkpoint.FULL + 1) * sizes.full) >= 0:
        fits = checkpoint.FULL + 1 + spare // sizes.lasting
        advice = f"make room, or give --set run.checkpoint={-(-left // fits)}"
    raise UserError(f"{problem}; {advice}")
