"""A run's newest model for other people: one file, or a folder that is a RUN by itself."""

import contextlib
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

from torch import nn

from synth.errors import UserError
from train import checkpoint, runs
from train.checkpoint import COMMITTED, Origin
from train.loop import parameters
from train.runs import CONFIG, Run

_SUFFIX = ".safetensors"

Json = dict[str, Any]


def export(run: str, out: str) -> Json:
    """Writes the newest model of a run, averages in place; returns a row about it.

    Raises UserError if OUT is a file of another kind or exists as something else, or if the model has several averaged parts
    and OUT is one file."""
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
        _write_folder(target, source, drawn, source.images_seen(newest))
    return {"out": out, "images_seen": source.images_seen(newest), "parameters": parameters(*drawn.values())}


def _drawn(parts: dict[str, nn.Module], averages: dict[str, nn.Module]) -> dict[str, nn.Module]:
    """Returns the parts that drawing needs: those with an average, or all parts of a model without averages."""
    kept = {name: part for name, part in parts.items() if any(part is average for average in averages.values())}
    return kept or parts


def _origin(run: Run, part: str) -> Origin:
    return Origin(run.model, run.config.groups, run.survey, part)


def _write_file(target: Path, module: nn.Module, origin: Origin) -> None:
    """Writes one part; the file appears whole or not at all."""
    staged = target.with_name(f".{target.name}.part")
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        checkpoint.save_part(staged, module, origin)
        staged.replace(target)
    finally:
        staged.unlink(missing_ok=True)


def _write_folder(target: Path, run: Run, parts: dict[str, nn.Module], images_seen: int) -> None:
    """Writes config.json, the parts and their mark; the folder appears whole or not at all."""
    if target.exists() and not (target / COMMITTED).exists() and any(target.iterdir()):
        raise UserError(f"{target} is not empty and holds no export; give another --out")
    staged = target.with_name(f".{target.name}.part")
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir(parents=True)
    try:
        about = {**run.about, "model": run.model, "images_seen": images_seen}
        (staged / CONFIG).write_text(json.dumps(about, indent=1) + "\n")
        for name, module in parts.items():
            checkpoint.save_part(staged / checkpoint.part_file(name), module, _origin(run, name))
        digests = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(staged.iterdir())}
        (staged / COMMITTED).write_text(json.dumps(digests))
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(target)
        staged.rename(target)
    finally:
        shutil.rmtree(staged, ignore_errors=True)
