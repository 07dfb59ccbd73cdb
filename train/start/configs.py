"""Preset and options -> the config of a run."""

from dataclasses import replace
from pathlib import Path

from caption import encoders
from caption.table import CaptionSet
from synth.errors import UserError
from train import config, runs
from train.config import RunConfig
from train.model import PRECISIONS
from train.start.request import TrainRequest
from train.stream import live
from train.stream.visits import Text


def configured(
    request: TrainRequest,
    preset: RunConfig,
    captions: CaptionSet | None,
    embedder: encoders.EncoderSource | None,
    device: str,
) -> RunConfig:
    """Returns the preset with the changes of the command. Raises UserError if they do not fit together."""
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
    if getattr(training, "drop_words", 0) == getattr(training, "drop_vector", 0) == 1:
        problem = "training.drop_words and training.drop_vector are 1, so the model would read no texts"
        raise UserError(f"{problem}; give one of them below 1")
    return run_config.replaced("training", training)


def text_of(request: TrainRequest, preset: RunConfig) -> str:
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
