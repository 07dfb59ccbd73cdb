"""Export of a run's newest model: one file, or a folder that is a RUN by itself."""

import hashlib
import json
from pathlib import Path
from typing import Any

from torch import nn

from synth.errors import UserError
from synth.sets.storage import Folder
from train import checkpoint, runs
from train.checkpoint import COMMITTED, Origin
from train.loop import parameters
from train.runs import CONFIG, Run

_SUFFIX = ".safetensors"

Json = dict[str, Any]


def export(run: str, out: str) -> Json:
    """Writes the newest model of a run, averages in place. Returns a row that describes the export.

    Raises UserError if OUT is of another kind or has other content. Raises UserError if OUT is one file and
    the model draws with several parts."""
    # The target, before the weights are read.
    target = Path(out)
    if target.suffix not in ("", _SUFFIX):
        raise UserError(f"--out is {out}; it must end in {_SUFFIX} or name a folder")
    Folder(str(target.parent)).require_writable()

    # The parts for drawing.
    source = runs.find(run)
    newest = source.checkpoint()
    model = source.load(newest)
    drawn = _drawn(model.parts, model.averages)

    # One file, or a folder.
    if target.suffix == _SUFFIX:
        if len(drawn) > 1:
            raise UserError(f"{run} has the parts {', '.join(drawn)}; give a folder as --out")
        [(part, module)] = drawn.items()
        _write_file(target, module, _origin(source, part))
    else:
        _write_folder(target, source, drawn, newest)
    return {"out": out, "images_seen": source.images_seen(newest), "parameters": parameters(*drawn.values())}


def _drawn(parts: dict[str, nn.Module], averages: dict[str, nn.Module]) -> dict[str, nn.Module]:
    """Returns the parts for drawing: those with an average, or all parts of a model without averages."""
    averaged = {name: part for name, part in parts.items() if any(part is a for a in averages.values())}
    return averaged or parts


def _origin(run: Run, part: str) -> Origin:
    return Origin(run.model, run.config.groups, run.survey, part)


def _write_file(target: Path, module: nn.Module, origin: Origin) -> None:
    """Writes one part. The file appears whole or not at all."""
    with Folder(str(target.parent)).staged(target.name) as path:
        checkpoint.save_part(Path(path), module, origin)


def _write_folder(target: Path, run: Run, parts: dict[str, nn.Module], newest: Path) -> None:
    """Writes config.json, the parts and their mark. The folder appears whole or not at all.

    Leaves an equal export alone."""
    # An equal export.
    digest, clock = checkpoint.digest(newest), run.images_seen(newest)
    if (target / CONFIG).exists() and runs.describe(target).get("exported") == digest:
        return

    # A new one, with the mark of a checkpoint.
    metadata = {**run.metadata, "model": run.model, "images_seen": clock, "exported": digest}
    with Folder(str(target)).filled() as folder:
        folder.write(CONFIG, (json.dumps(metadata, indent=1) + "\n").encode())
        for name, module in parts.items():
            _write_file(Path(folder.join(checkpoint.part_file(name))), module, _origin(run, name))
        digests = {name: hashlib.sha256(folder.read(name)).hexdigest() for name in sorted(folder.sizes())}
        folder.write(COMMITTED, json.dumps(digests).encode())
