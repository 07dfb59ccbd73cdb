"""The inputs of a run besides its stored sets: live sets, latents, and encoders."""

from collections.abc import Sequence
from typing import Any

from caption import encoders
from caption.table import CaptionSet
from synth.errors import UserError
from train import autoencoders, config
from train.config import RunConfig
from train.start.request import TrainRequest
from train.stream import captioned_sets, live
from train.stream.captioned_sets import CaptionedSet
from train.stream.latent_tables import LatentSet, deviation
from train.stream.visits import Text

Json = dict[str, Any]


def live_sets(
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
    if request.encoder and not vectors and not sets:
        raise UserError(
            f"--encoder is {request.encoder}, and {request.preset} reads no vectors; leave it out"
        )
    return requested


def latent_sets(
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


def embedding_source(
    request: TrainRequest, preset: RunConfig, captions: CaptionSet | None
) -> encoders.EncoderSource | None:
    """Returns the encoder of the vectors of live sets, or None if there are none.

    Raises UserError if it is another one than that of the tables."""
    # Live sets, and a model that reads vectors.
    replayed = live.recorded(request.replayed.metadata["shards"]).sets if request.replayed else ()
    needs = config.with_settings(preset, live.split(request.settings)[1]).needs
    name = request.encoder or (encoder_name(captions) if captions else None)
    if not (request.live or replayed) or not (needs.tables and needs.vectors) or not name:
        return None

    # The encoder, which is that of the tables.
    source = encoders.find(name)
    if captions:
        _require_same(source, name, captions)
    return source


def require_encoder(request: TrainRequest, captions: CaptionSet) -> None:
    """Raises UserError if --encoder names another encoder than that of the tables, for a model that does not
    load it.

    The name in the tables needs no weights, which may be elsewhere."""
    name = request.encoder
    if not name or request.replayed or name == encoder_name(captions):
        return
    try:
        source = encoders.find(name)
    except UserError as error:
        raise UserError(f"{error}; or leave --encoder out") from None
    _require_same(source, name, captions)


def loaded_encoder(
    request: TrainRequest, captions: CaptionSet, device: str, run_config: RunConfig
) -> encoders.Encoder:
    """Returns the captions' encoder. Raises UserError if it is missing, or if --encoder names another one."""
    name = request.encoder or encoder_name(captions)
    try:
        source = encoders.find(name)
    except UserError as error:
        reason, free = run_config.needs.encoder_reason
        advice = f"; or --set {free} does without" if free else ""
        raise UserError(f"{reason} needs the captions' encoder: {error}{advice}") from None
    _require_same(source, name, captions)
    return encoders.load(source, device, run_config.groups.training.precision)


def encoder_name(captions: CaptionSet) -> str:
    """Returns the name of the encoder that made tables."""
    return str(captions.identity["encoder"])


def _require_same(source: encoders.EncoderSource, name: str, captions: CaptionSet) -> None:
    """Raises UserError if the encoder of this name is another one than that of the tables."""
    if source.sha256 != captions.identity["weights"]:
        problem = f"the encoder {name} has other weights than the one that made {captions.storage.url}"
        raise UserError(f"{problem}; give that one by --encoder")
