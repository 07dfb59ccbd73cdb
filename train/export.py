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
    """Writes the newest model of a run, averages in place. Returns a row about it.

    Raises UserError if OUT is of another kind or has other content. Raises UserError if it is one file and
    the model draws with several parts."""
    source = runs.find(run)
    newest, target = source.checkpoint(), Path(out)
    model = source.load(newest)
    drawn = _drawn(model.parts, model.averages)
    if target.suffix == _SUFFIX:
        if len(drawn) > 1:
            raise UserError(f"{run} has the parts {', '.join(drawn)}; give a folder as --out")
        [(part, module)] = drawn.items()
        _write_file(target, module, _origin(source, part))
    elif target.suffix:
        raise UserError(f"--out is {out}; it must end in {_SUFFIX} or name a folder")
    else:
        _write_folder(target, source, drawn, newest)
    return {"out": out, "images_seen": source.images_seen(newest), "parameters": parameters(*drawn.values())}


def _drawn(parts: dict[str, nn.Module], averages: dict[str, nn.Module]) -> dict[str, nn.Module]:
    """Returns the parts for drawing: those with an average, or all parts of a model without averages."""
    kept = {
        name: part for name, part in parts.items() if any(part is average for average in averages.values())
    }
    return kept or parts


def _origin(run: Run, part: str) -> Origin:
    return Origin(run.model, run.config.groups, run.survey, part)


def _write_file(target: Path, module: nn.Module, origin: Origin) -> None:
    """Writes one part. The file appears whole or not at all."""
    with Folder(str(target.parent)).staged(target.name) as path:
        checkpoint.save_part(Path(path), module, origin)


def _write_folder(target: Path, run: Run, parts: dict[str, nn.Module], newest: Path) -> None:
    """Writes config.json, the parts and their mark. The folder appears whole or not at all.

    Leaves an equal export alone."""
    about = {
        **run.about,
        "model": run.model,
        "images_seen": run.images_seen(newest),
        "exported": checkpoint.digest(newest),
    }
    if (target / CONFIG).exists() and runs.describe(target).get("exported") == about["exported"]:
        return
    with Folder(str(target)).filled() as folder:
        folder.write(CONFIG, (json.dumps(about, indent=1) + "\n").encode())
        for name, module in parts.items():
            _write_file(Path(folder.join(checkpoint.part_file(name))), module, _origin(run, name))
        digests = {name: hashlib.sha256(folder.read(name)).hexdigest() for name in sorted(folder.sizes())}
        folder.write(COMMITTED, json.dumps(digests).encode())
