"""DOOR. Checkpoints: a folder a checkpoint, written whole, then marked; only marked ones are read.

    checkpoints/000200000/   named by the images seen
        ema.safetensors, generator.safetensors     each with its config: train.models.stylegan2.load_generator reads them
        discriminator.safetensors  optimisers.safetensors  state.json
        COMMITTED                                  sha256 of every file, written last

The last two keep their full state; of older ones the averaged generator stays, for curves.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from synth.errors import UserError
from train.models.stylegan2 import Generator, load_generator

EMA, GENERATOR, DISCRIMINATOR, OPTIMISERS, STATE = (
    *(f"{name}.safetensors" for name in ("ema", "generator", "discriminator", "optimisers")),
    "state.json",
)
_MARK = "COMMITTED"
_FULL = 2  # checkpoints that keep everything
_FOLDER = "checkpoints"

Json = dict[str, Any]


def write(run: Path, images_seen: int, files: dict[str, Callable[[Path], None]]) -> Path:
    """Writes a checkpoint, each file by its writer, and thins out older ones. One that is there already is left alone.

    Raises UserError where a file cannot be written."""
    final = run / _FOLDER / f"{images_seen:09d}"
    if (final / _MARK).exists():
        return final
    for left_over in final.parent.glob(".*.tmp"):
        shutil.rmtree(left_over)  # by a run that was killed
    made = final.with_name(f".{final.name}.tmp")
    made.mkdir(parents=True)
    try:
        digests = {name: _written(made / name, writer) for name, writer in files.items()}
        _sync(made)
        shutil.rmtree(final, ignore_errors=True)  # unmarked, so never read
        made.rename(final)
    except SafetensorError as error:
        raise UserError(f"{final} cannot be written: {error}; the same command goes on from the checkpoint before") from None
    finally:
        shutil.rmtree(made, ignore_errors=True)
    part = final / f".{_MARK}.part"
    part.write_text(json.dumps(digests))
    _sync(part)
    part.rename(final / _MARK)  # whole or not there
    _sync(final)
    _sync(final.parent)
    _thin(run)
    return final


def committed(run: Path) -> list[Path]:
    """The marked checkpoints of a run, oldest first: each has at least the averaged generator."""
    return sorted((mark.parent for mark in (run / _FOLDER).glob(f"*/{_MARK}") if mark.parent.name.isdigit()), key=images_seen)


def newest(run: Path) -> Path | None:
    """The checkpoint to go on from; None where there is none."""
    found = committed(run)
    return found[-1] if found else None


def require(run: Path) -> Path:
    """The newest checkpoint. Raises UserError where there is none."""
    if not run.is_dir():
        raise UserError(f"{run} is no run; `python -m train pretrain` makes one")
    found = newest(run)
    if found is None:
        raise UserError(f"{run} holds no committed checkpoint; let it train further, or give another run")
    return found


def images_seen(checkpoint: Path) -> int:
    """The clock of a checkpoint."""
    return int(checkpoint.name)


def average(checkpoint: Path) -> Generator:
    """The averaged generator. Raises UserError where it is damaged."""
    return generator(checkpoint, EMA)


def generator(checkpoint: Path, name: str = GENERATOR) -> Generator:
    """A generator of a checkpoint. Raises UserError where it is damaged."""
    _require_whole(checkpoint, name)
    return load_generator(checkpoint / name)


def tensors(checkpoint: Path, name: str) -> dict[str, Tensor]:
    """The tensors of a file. Raises UserError where it is damaged."""
    _require_whole(checkpoint, name)
    try:
        return load_file(checkpoint / name)
    except SafetensorError as error:
        raise UserError(f"{checkpoint / name} is damaged ({error}); remove the folder to go on from the checkpoint before") from None


def state(checkpoint: Path) -> Json:
    """What state.json holds. Raises UserError where it is damaged."""
    _require_whole(checkpoint, STATE)
    return dict(json.loads((checkpoint / STATE).read_text()))


def optimiser_tensors(network: torch.nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """An optimiser's state by parameter name."""
    return {f"{name}:{key}": value for name, p in network.named_parameters() for key, value in optimiser.state[p].items()}


def restore_optimiser(network: torch.nn.Module, optimiser: torch.optim.Optimizer, saved: dict[str, Tensor]) -> None:
    """Puts such a state back."""
    parameters = dict(network.named_parameters())
    for name, value in saved.items():
        parameter, _, key = name.rpartition(":")
        target = value if key == "step" else value.to(parameters[parameter].device, memory_format=torch.preserve_format)
        optimiser.state[parameters[parameter]][key] = target


def save_tensors(path: Path, values: dict[str, Tensor]) -> None:
    """Writes tensors."""
    save_file({name: value.detach().cpu().contiguous() for name, value in values.items()}, path)


def save_state(path: Path, values: Json) -> None:
    """Writes state.json."""
    path.write_text(json.dumps(values) + "\n")


def _thin(run: Path) -> None:
    """Leaves the averaged generator and the clock of all but the last two."""
    for checkpoint in committed(run)[:-_FULL]:
        for name in (GENERATOR, DISCRIMINATOR, OPTIMISERS):
            (checkpoint / name).unlink(missing_ok=True)


def _require_whole(checkpoint: Path, name: str) -> None:
    try:
        digests = json.loads((checkpoint / _MARK).read_text())
    except (OSError, ValueError):
        raise UserError(f"{checkpoint} has no readable mark, {_MARK}: it was not written to its end; remove it") from None
    path = checkpoint / name
    if not path.exists():
        raise UserError(f"{path} is missing: older checkpoints keep the averaged generator only; give a newer one")
    if _sha256(path) != digests.get(name):
        raise UserError(f"{path} is damaged: it differs from its mark; remove the folder to go on from the checkpoint before")


def _written(path: Path, writer: Callable[[Path], None]) -> str:
    """sha256 of a file, once it has been written and lies on the disk."""
    writer(path)
    _sync(path)
    return _sha256(path)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
