"""The first weights of a run: a checkpoint of another one."""

from pathlib import Path
from typing import Any

from caption.encoders import EncoderSource
from caption.table import CaptionSet
from synth.errors import UserError
from train import autoencoders, checkpoint, model, runs
from train.config import RunConfig
from train.runs import Run
from train.start.inputs import encoder_name
from train.start.request import TrainRequest

Json = dict[str, Any]


def find(
    request: TrainRequest,
    run_config: RunConfig,
    captions: CaptionSet | None,
    embedder: EncoderSource | None,
) -> Path:
    """Returns the checkpoint with the first weights: the newest, or that of the first start of this run.

    Raises UserError if there is none, if it is of another model, or if it reads another encoder's texts."""
    source = runs.find(str(request.source))
    _require_model(source, run_config)
    _require_texts(source, run_config, captions, embedder)
    _require_sizes(source, run_config)

    # A restart takes the checkpoint of the first start, though the other run may have newer ones. --from may
    # spell the run in another way.
    run = Path(request.out)
    existing = runs.describe(run) if (run / runs.CONFIG).exists() else {}
    origin = (request.replayed.metadata if request.replayed else existing).get("from") or {}
    first = _first(source, origin)
    same = first in source.checkpoints() and checkpoint.digest(first) == origin.get("digest")
    # A run with a checkpoint of its own reads no weights of the other one, which thinning may have removed.
    usable = same and (checkpoint.newest(run) is not None or checkpoint.has_all_weights(first))
    chosen = first if usable else source.checkpoint()

    # Parts that other settings of its losses leave out.
    there = checkpoint.modules(chosen).values()
    if missing := [part for part in run_config.needs.parts if part not in there]:
        problem = f"{source.path} has no part {', '.join(missing)}, which {request.preset} trains"
        raise UserError(f"{problem}; give a run with the same losses")
    return chosen


def entry(request: TrainRequest, source: Path) -> Json:
    """Returns the entry `from` of config.json: the run of the first weights, and its checkpoint."""
    return {"run": request.source, "checkpoint": source.name, "digest": checkpoint.digest(source)}


def without_base(request: TrainRequest) -> Json | None:
    """Returns the entry `from` of the run in --out if it can be resumed, and its base is gone, or the base's
    checkpoint. Else returns None: the base is needed, or compared."""
    run = Path(request.out)
    if not (run / runs.CONFIG).exists() or checkpoint.newest(run) is None:
        return None
    recorded: Json = runs.describe(run).get("from") or {}
    try:
        source = runs.find(str(request.source))
        gone = not source.exported and not _first(source, recorded).exists()
    except UserError:
        gone = True
    return recorded if gone and Path(str(recorded.get("run"))) == Path(str(request.source)) else None


def _first(source: Run, recorded: Json) -> Path:
    """Returns the place of the checkpoint that an entry `from` names."""
    return source.path / "checkpoints" / str(recorded.get("checkpoint"))


def _require_model(source: Run, run_config: RunConfig) -> None:
    """Raises UserError for a run of another model, or an export without all parts."""
    if source.model != run_config.name:
        problem = f"{source.path} is a run of {source.model}, and this preset is of {run_config.name}"
        raise UserError(f"{problem}; give a run of {run_config.name}")
    if source.exported and (lacking := source.lacks()):
        problem = f"{source.path} is an export, which lacks the part {', '.join(lacking)}"
        raise UserError(f"{problem}; give the run directory that it is of")


def _require_texts(
    source: Run, run_config: RunConfig, captions: CaptionSet | None, embedder: EncoderSource | None
) -> None:
    """Raises UserError if both runs read vectors, of two encoders."""
    encoder = source.metadata["encoder"]
    if not (encoder and run_config.needs.vectors and source.config.needs.vectors):
        return
    if captions and encoder["digest"] != captions.identity["weights"]:
        tables, name = captions.storage.url, source.encoder_name
        raise UserError(
            f"{tables} was made by {encoder_name(captions)}, and {source.path} was trained with {name}; "
            f"give captions of these shards by {name}"
        )
    if embedder and encoder["digest"] != embedder.sha256:
        name = source.encoder_name
        problem = f"{source.path} was trained with {name}, and --encoder is {embedder.name}"
        raise UserError(f"{problem}; give --encoder {name}")


def _require_sizes(source: Run, run_config: RunConfig) -> None:
    """Raises UserError if the networks of both runs have other sizes, and do not grow from each other, or if
    they read latents of two autoencoders."""
    # The minibatch deviation has no weights, so its groups may differ. An autoencoder may have another place,
    # and is compared by its weights.
    free = {"mbstd_group": 0, "mbstd_order": "", "latents": ""}
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
        if source.survey.get("autoencoder", {}).get("weights") != weights:
            problem = f"{source.path} was trained on latents of another autoencoder"
            raise UserError(f"{problem} than {run_config.needs.latents}; give the one that it was trained on")
