"""Export of a run's newest model: one file, or a folder that is a RUN and works without a checkout.

config.json             the run's config, the data that it saw, its time and its figures
PART.safetensors        each part that draws, averages in place
COMMITTED               their sha256: the mark of a checkpoint
model.py                opens the folder and draws, with torch, safetensors and numpy alone
model.onnx              the same from vectors and noise to pictures, if requested
encoder/                the encoder of its texts, if it is a shipped one
samples.png  README.md  pictures of texts, and the model card
SHA256SUMS              checksums for sha256sum -c, written last
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from caption.encoders import MERGES, NANO
from caption.lean_imports import import_open_clip
from synth.checkout import ROOT
from synth.errors import UserError
from synth.sets import front_matter, targets
from synth.sets.storage import Folder
from train import checkpoint, config, handover, model_card, onnx_file, provenance, runs
from train.checkpoint import COMMITTED, Origin
from train.loop import parameters
from train.model import learner as find_learner
from train.models.features import open_clip_names
from train.models.features.backbones import VIT, BackboneSizes
from train.runs import CONFIG, Run

CONFIG_OF_ENCODER, WEIGHTS_OF_ENCODER = "open_clip_config.json", "open_clip_model.safetensors"
BACKBONE = "backbone"  # the part of every model that learns features

_SUFFIX = ".safetensors"

Json = dict[str, Any]


def export(
    run: str, out: str, *, onnx: bool = False, encoder: str | None = None, notes: str | None = None
) -> Json:
    """Writes the newest model of a run, averages in place. Returns a row that describes the export.

    `notes` is a file of Markdown for the card. Without it, an export of an export keeps its notes. Raises
    UserError if OUT is of another kind or has other content. Raises UserError if OUT is one file and the
    model draws with several parts."""
    # The target, before the weights are read.
    target = Path(out)
    if target.suffix not in ("", _SUFFIX):
        raise UserError(f"--out is {out}; it must end in {_SUFFIX} or name a folder without a dot")
    for option, value in (("--onnx", onnx), ("--notes", notes), ("--encoder", encoder)):
        if value and target.suffix:
            raise UserError(f"--out is {out}, and {option} needs a folder; give a folder as --out")
    text = model_card.notes(notes) if notes else ""
    (targets.file if target.suffix else targets.folder)(out)

    # The parts for drawing.
    source = runs.find(run)
    if encoder and not handover.reads_vectors(source):
        raise UserError(f"--encoder is {encoder}, and no pictures of {run} follow vectors; leave it out")
    if onnx:
        onnx_file.require(run, source.model)
    newest = source.checkpoint()
    if not notes and source.exported and not (target / model_card.CARD).exists():
        text = model_card.kept_notes(source.path)
    if not target.suffix and not _equal(target, newest):
        Folder(out).require_empty()
    model = source.load(newest)
    drawn = _drawn(model.parts, model.averages, source.config.needs.frozen)

    # One file, or a folder.
    if target.suffix == _SUFFIX:
        if len(drawn) > 1:
            raise UserError(f"{run} has the parts {', '.join(drawn)}; give a folder as --out")
        [(part, module)] = drawn.items()
        _write_file(target, module, _origin(source, part))
    else:
        _write_folder(target, source, drawn, newest, encoder, text, onnx=onnx)
    return {"out": out, "images_seen": source.images_seen(newest), "parameters": parameters(*drawn.values())}


def export_encoder(run: str, out: str) -> Json:
    """Writes the backbone of a run as an encoder's folder, which caption and open_clip read. Returns a row
    that describes it.

    The text side is not trained. Raises UserError if the run learns no features, if its backbone is no vision
    transformer, or if OUT has other content."""
    # The backbone.
    targets.folder(out, "--as-encoder")
    source = runs.find(run)
    find_learner(source.model, run)
    sizes, newest = source.config.groups.model, source.checkpoint()
    if sizes.backbone != VIT:
        raise UserError(f"{run} has the backbone {sizes.backbone}; an encoder's folder needs a {VIT}")
    weights = source.load(newest).parts[BACKBONE].state_dict()

    # The folder.
    contents = {
        CONFIG_OF_ENCODER: json.dumps(open_clip_names.config(sizes), indent=1).encode() + b"\n",
        MERGES: (ROOT / "data" / NANO / MERGES).read_bytes(),
        WEIGHTS_OF_ENCODER: _encoder_weights(open_clip_names.vision(weights, sizes), sizes),
        "README.md": _encoder_card(source, newest).encode(),
    }
    if Folder(out).sizes():
        if any(not (Path(out) / name).is_file() for name in contents) or any(
            (Path(out) / name).read_bytes() != data for name, data in contents.items()
        ):
            raise UserError(f"{out} holds something else; give another --as-encoder")
    else:
        with Folder(out).filled() as folder:
            for name, data in contents.items():
                folder.write(name, data)
    return {"encoder": out, "images_seen": source.images_seen(newest), "dimensions": sizes.width}


def _encoder_weights(vision: dict[str, Tensor], sizes: BackboneSizes) -> bytes:
    """Returns the file of weights: those of the picture side, and first weights of the text side."""
    open_clip = import_open_clip()
    settings = open_clip_names.config(sizes)["model_cfg"]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        whole = open_clip.CLIP(**settings)
    whole.visual.load_state_dict(vision)
    return save({name: tensor.contiguous() for name, tensor in whole.state_dict().items()})


def _encoder_card(run: Run, newest: Path) -> str:
    """Returns the text of the encoder's README.md."""
    sizes, rows = run.config.groups.model, provenance.data_of(run)
    data = ", ".join(str(row["name"]) for row in rows)
    licence = provenance.licence_of(rows)
    head = front_matter.of_model(
        run.path.name,
        f"features by {run.model}",
        licence,
        library="open_clip",
        task="image-feature-extraction",
        tags=("clip",),
    )
    return f"""{head}# {run.path.name}: features by {run.model}

A vision transformer of {sizes.layers} layers and width {sizes.width}, with patches of {sizes.patch} pixels.
Pictures have {sizes.resolution} pixels a side. Trained by exnihilo on {data}.
Pictures seen: {run.images_seen(newest):,}. Licence: {licence}.

The picture side is trained, and the text side is not: embeddings of texts mean nothing. Caption tables by
this encoder are for `--text pseudo`.

```python
import open_clip
model, preprocess = open_clip.create_model_from_pretrained("local-dir:FOLDER")
features = model.encode_image(pictures)
```
"""


def _drawn(
    parts: dict[str, nn.Module], averages: dict[str, nn.Module], frozen: Sequence[str]
) -> dict[str, nn.Module]:
    """Returns the parts for drawing: those with an average and frozen ones, or all without averages."""
    averaged = [name for name, part in parts.items() if any(part is a for a in averages.values())]
    kept = {*averaged, *frozen} if averaged else parts
    return {name: part for name, part in parts.items() if name in kept}


def _origin(run: Run, part: str) -> Origin:
    return Origin(run.model, run.config.groups, run.survey, part)


def _equal(target: Path, newest: Path) -> bool:
    """Returns True if a folder is the export of a checkpoint."""
    try:
        exported = runs.describe(target).get("exported")
    except UserError:
        # Another folder, or none.
        return False
    return bool(exported == checkpoint.digest(newest))


def _write_file(target: Path, module: nn.Module, origin: Origin) -> None:
    """Writes one part. The file appears whole or not at all."""
    with Folder(str(target.parent)).staged(target.name) as path:
        checkpoint.save_part(Path(path), module, origin)


def _write_folder(
    target: Path,
    run: Run,
    parts: dict[str, nn.Module],
    newest: Path,
    encoder: str | None,
    notes: str,
    *,
    onnx: bool,
) -> None:
    """Writes all files of an export. A new folder appears whole or not at all.

    Of an equal export, writes only the files that it lacks."""
    # An equal export.
    digest, clock = checkpoint.digest(newest), run.images_seen(newest)
    if _equal(target, newest):
        handover.complete(target, target.name, encoder, notes, onnx=onnx)
        return

    # A new one, with the mark of a checkpoint.
    settings = {"config": config.to_json(run.config), "data": provenance.data_of(run)}
    origin = {**provenance.portable(run.metadata), **provenance.measured(run, clock)}
    metadata = {**origin, **settings, "model": run.model, "images_seen": clock, "exported": digest}
    with Folder(str(target)).filled() as folder:
        folder.write(CONFIG, (json.dumps(metadata, indent=1) + "\n").encode())
        for name, module in parts.items():
            _write_file(Path(folder.join(checkpoint.part_file(name))), module, _origin(run, name))
        digests = {name: hashlib.sha256(folder.read(name)).hexdigest() for name in sorted(folder.sizes())}
        folder.write(COMMITTED, json.dumps(digests).encode())
        handover.complete(Path(folder.url), target.name, encoder, notes, onnx=onnx)
