"""A checked request: the config of a run, its inputs, and their stream."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from caption import encoders
from caption.table import CaptionSet
from synth.errors import UserError
from synth.sets import targets
from train import autoencoders, config, log, model, presets, runs
from train.config import RunConfig
from train.distributed import Ranks
from train.log import GRID
from train.model import PRECISIONS, CaptionedPicture, Context, Wanted
from train.start import configs, inputs, origin
from train.start.request import TrainRequest
from train.stream import captioned_sets, live, mixture
from train.stream.cache import Cache, fetched_files, this_run
from train.stream.captioned_sets import CaptionedSet
from train.stream.latent_tables import LatentSet
from train.stream.stream import Stream
from train.stream.visits import Text, Visit

_SURVEYED = 4096  # samples of a mixture with live sets

Json = dict[str, Any]


@dataclass(frozen=True)
class Prepared:
    """A checked request."""

    config: RunConfig
    sets: tuple[CaptionedSet, ...]
    live: live.Requested
    encoder: encoders.Encoder | None
    embedder: encoders.EncoderSource | None  # of the vectors of live sets
    source: Path | None  # checkpoint with the first weights; None: there is none, or its run is gone
    metadata: Json  # the content of config.json
    run: Path
    latents: tuple[LatentSet, ...] = ()  # of each set, if the model reads them
    # Entries of the survey if the model reads latents: the autoencoder, and the scale of latents.
    latent_survey: Json = field(default_factory=dict)

    def stream(self, wanted: Wanted) -> Stream:
        """Returns the run's stream of batches with the `wanted` content."""
        data, groups = self.config.data, self.config.groups
        text = Text.parse(data.text)
        seed, side = groups.training.seed, groups.model.resolution
        visit = Visit(side, seed, text, data.xi, data.caption_xi, wanted, data.mirror)
        cache = Cache(fetched_files(), this_run())
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

    @property
    def note(self) -> str:
        """A sentence about a run that goes on after its learning rates have reached 0, or nothing."""
        images, end = self.config.run.images, getattr(self.config.groups.training, "decay_to", 0)
        if not 0 < end < images:
            return ""
        problem = f"the learning rates are 0 from {end:,} images on, and the run has {images:,}"
        return f"{problem}; give --set training.decay_to={images} to use them all"

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


def prepare(request: TrainRequest, device: str, *, ranks: int = 1) -> Prepared:
    """Returns the checked inputs of a run. Writes nothing. Raises UserError if they do not fit together."""
    # Config and sets.
    targets.folder(request.out)
    preset = request.replayed.config if request.replayed else presets.get(request.preset).make()
    sets = _stored_sets(request, preset)
    captions = sets[0].captions if sets else None
    embedder = inputs.embedding_source(request, preset, captions)
    run_config = configs.configured(request, preset, captions, embedder, device)
    config.require_divisible(run_config, ranks)
    if captions and not run_config.needs.encoder:
        inputs.require_encoder(request, captions)
    live_sets = inputs.live_sets(request, run_config, sets, embedder)
    captioned_sets.require_resolution(sets, run_config.groups.model.resolution)
    latents, latent_survey = inputs.latent_sets(request, run_config, sets, drawn=bool(live_sets.sets))
    source, first = _first_weights(request, run_config, captions, embedder)

    # The same run, or a new one.
    run = Path(request.out)
    metadata = _metadata(request, run_config, sets, live_sets, embedder, first, latents)
    log.require_same(run, metadata)

    # Encoder and stream.
    encoder = _encoder(request, run_config, captions, embedder, device)
    prepared = Prepared(
        run_config, sets, live_sets, encoder, embedder, source, metadata, run, latents, latent_survey
    )
    _require_samples(prepared, ranks)
    return prepared


def _stored_sets(request: TrainRequest, preset: RunConfig) -> tuple[CaptionedSet, ...]:
    """Returns the stored sets of a request, with tables if the model reads some."""
    changes = live.split(request.settings)[1]
    return captioned_sets.find(
        request.shards,
        request.captions,
        tables=config.with_settings(preset, changes).needs.tables,
        encoder=request.encoder,
        kind=Text.parse(configs.text_of(request, preset)).kind,
    )


def _first_weights(
    request: TrainRequest,
    run_config: RunConfig,
    captions: CaptionSet | None,
    embedder: encoders.EncoderSource | None,
) -> tuple[Path | None, Json | None]:
    """Returns the checkpoint with the first weights, and the entry `from` of config.json, if there are any.

    A run with a checkpoint of its own no longer reads them, so it needs no checkpoint here."""
    if not request.source:
        return None, None
    if recorded := origin.without_base(request):
        return None, recorded
    source = origin.find(request, run_config, captions, embedder)
    return source, origin.entry(request, source)


def _require_samples(prepared: Prepared, ranks: int) -> None:
    """Raises UserError if the stream is not whole, or has fewer samples than ranks."""
    # The model's tokeniser needs its survey, so another one stands for it.
    needs = prepared.config.needs
    wanted = Wanted() if needs.vectors else Wanted((), tokenise=_no_tokens)
    stream = prepared.stream(replace(wanted, group=needs.group, positives=needs.positives))
    stream.require_whole()
    samples = stream.order.samples
    if samples is not None and samples < ranks:
        raise UserError(f"{ranks} ranks are more than the {samples} samples of the set; start fewer ranks")


def _metadata(
    request: TrainRequest,
    run_config: RunConfig,
    sets: tuple[CaptionedSet, ...],
    live_sets: live.Requested,
    embedder: encoders.EncoderSource | None,
    first: Json | None,
    latents: tuple[LatentSet, ...],
) -> Json:
    """Returns the content of config.json: the config, and the digests of all inputs.

    `first` is the entry `from`, of the first weights."""
    metadata: Json = {
        "preset": request.preset,
        "model": run_config.name,
        "config": config.to_json(run_config),
        **captioned_sets.describe(sets, *live_sets),
        "encoder": None,
        "from": first,
    }
    if sets and (captions := sets[0].captions):
        name = request.encoder or inputs.encoder_name(captions)
        metadata["encoder"] = {"name": name, "digest": captions.identity["weights"]}
    elif embedder:
        metadata["encoder"] = {"name": request.encoder or embedder.name, "digest": embedder.sha256}
    if latents:
        metadata["latents"] = captioned_sets.describe_latents(latents)
    return metadata


def _encoder(
    request: TrainRequest,
    run_config: RunConfig,
    captions: CaptionSet | None,
    embedder: encoders.EncoderSource | None,
    device: str,
) -> encoders.Encoder | None:
    """Returns the encoder or network that the model's losses need, or None."""
    precision = run_config.groups.training.precision
    if network := run_config.needs.network:
        return encoders.load(encoders.find(network), device, precision)
    if captions and run_config.needs.encoder:
        return inputs.loaded_encoder(request, captions, device, run_config)
    if embedder and run_config.needs.encoder:
        return encoders.load(embedder, device, precision)
    return None


def survey_of(prepared: Prepared) -> Json:
    """Returns the model's measurements of the set: the existing run's, else new ones.

    Empty if the model takes none."""
    if (prepared.run / runs.CONFIG).exists():
        return runs.find(prepared.run).survey
    module, groups = model.find(prepared.config.name), prepared.config.groups
    if not hasattr(module, "survey"):
        return prepared.latent_survey
    base = runs.of_checkpoint(prepared.source).survey if prepared.source else {}
    measured = module.survey(groups, prepared.samples(), base, prepared.encoder)
    return {**measured, **prepared.latent_survey}


def _no_tokens(text: str) -> list[int]:
    return []
