"""DOOR. Checkpoints: one folder each, written whole, then marked. Only marked folders are read.

    checkpoints/000200000/   named by the images seen
        PART.safetensors               a part of the model: generator, discriminator
        AVERAGE.safetensors            a moving average of a part: ema
        PART.optimiser.safetensors     the optimiser's state by parameter name
        state.safetensors              further tensors of the model, if it has any
        state.json                     clock, counters, loss terms since the last line of the log
        COMMITTED                      sha256 of every file, written last

Parts and averages name their model and its config in their metadata, so that train.runs.load_part builds the
module of one file. The last two checkpoints keep their full state. Older ones keep their averages, for
curves, or their parts if the model has no averages.

Until November 2026 both optimisers were in one file, optimisers.safetensors, and the path mean in state.json.
Such checkpoints are still read.
"""

import json
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn

from synth.errors import UserError
from synth.sets.storage import Folder, plain_errors, reading, sha256_of, sync
from synth.settings import canonical

COMMITTED = "COMMITTED"
STATE, STATE_TENSORS = "state.json", "state.safetensors"
FULL = 2  # last checkpoints with all their files

_FOLDER = "checkpoints"
_METADATA = "exnihilo"  # the one key of a part's metadata: several keys have no fixed order
_ENDING, _OPTIMISER = ".safetensors", ".optimiser.safetensors"
_OPTIMISERS = "optimisers.safetensors"  # of all parts, until November 2026
_OLD_AVERAGES = {"ema": "generator"}  # average -> part, of files without metadata
_REMOVE = "remove the folder to go on from the checkpoint before"
_COPY = "export the run to a new folder, or copy the folder again from its source, such as the repository"

Json = dict[str, Any]
Writers = Mapping[str, Callable[[Path], None]]  # by file name


@dataclass(frozen=True)
class Origin:
    """The metadata of a part's file, sufficient to build its module again."""

    model: str
    config: Any
    survey: Json
    part: str

    def dumps(self) -> dict[str, str]:
        """Returns the origin as safetensors metadata."""
        return {_METADATA: canonical(vars(self)).decode()}


def write(run: Path, images_seen: int, files: Writers, lasting: Iterable[str]) -> Path:
    """Writes a checkpoint, each file by its writer. Leaves a marked checkpoint alone.

    Thins out older checkpoints to their `lasting` files and state.json. Raises UserError if writing fails."""
    final = run / _FOLDER / f"{images_seen:09d}"
    if (final / COMMITTED).exists():
        return final

    with plain_errors(str(final)):
        # Remains of a killed run.
        for leftover in final.parent.glob(".*.tmp"):
            shutil.rmtree(leftover)

        # All files in a staging folder, then one rename.
        staged = final.with_name(f".{final.name}.tmp")
        staged.mkdir(parents=True)
        try:
            digests = {name: _written(staged, name, writer) for name, writer in files.items()}
            sync(staged)
            # An older folder of this name has no mark, so nothing reads it.
            shutil.rmtree(final, ignore_errors=True)
            staged.rename(final)
        finally:
            shutil.rmtree(staged, ignore_errors=True)

        # The mark.
        Folder(str(final)).write(COMMITTED, json.dumps(digests).encode())
        sync(final.parent)
        _thin(run, {*lasting, STATE, COMMITTED})
    return final


def committed(run: Path) -> list[Path]:
    """Returns the marked checkpoints of a run, oldest first."""
    marks = (run / _FOLDER).glob(f"*/{COMMITTED}")
    return sorted((mark.parent for mark in marks if mark.parent.name.isdigit()), key=images_seen)


def newest(run: Path) -> Path | None:
    """Returns the checkpoint to resume from, or None if there is none."""
    checkpoints = committed(run)
    return checkpoints[-1] if checkpoints else None


def require(run: Path, images_seen_: int | None = None) -> Path:
    """Returns the checkpoint at these images, by default the newest.

    Raises UserError if there is none, and lists the others."""
    # All checkpoints.
    if not run.is_dir():
        raise UserError(f"{run} is no run; `python -m train pretrain` makes one")
    checkpoints = {images_seen(c): c for c in committed(run)}
    if not checkpoints:
        raise UserError(f"{run} holds no committed checkpoint; let it train further, or give another run")

    # The requested one, or the newest.
    if images_seen_ is not None and images_seen_ not in checkpoints:
        clocks = ", ".join(map(str, checkpoints))
        raise UserError(f"{run} has no checkpoint at {images_seen_} images; it has {clocks}")
    return checkpoints[max(checkpoints) if images_seen_ is None else images_seen_]


def images_seen(checkpoint: Path) -> int:
    """Returns the clock of a checkpoint."""
    return int(checkpoint.name)


def digest(checkpoint: Path) -> str:
    """Returns the sha256 of a checkpoint's mark, which covers every file.

    Raises UserError if it has none."""
    _digests(checkpoint)
    return sha256_of(checkpoint / COMMITTED)


def holds(checkpoint: Path, name: str) -> bool:
    """Returns True if a checkpoint was written with this file. Thinning may have removed the file since."""
    return name in _digests(checkpoint)


def tensors(checkpoint: Path, name: str) -> dict[str, Tensor]:
    """Returns the tensors of a file. Raises UserError if it is damaged or was thinned out."""
    _require_whole(checkpoint, name)
    try:
        with reading(str(checkpoint / name)):
            return load_file(checkpoint / name)
    except SafetensorError as error:
        # The checksum is right, so the file is as it was written.
        fault = f"{checkpoint / name} could not be read ({error}), though its checksum is right"
        raise UserError(f"{fault}; run the command again") from None


def optimiser(checkpoint: Path, part: str) -> dict[str, Tensor]:
    """Returns the state of a part's optimiser, by PARAMETER:KEY.

    Raises UserError if it is damaged or was thinned out."""
    if not holds(checkpoint, _OPTIMISERS):
        return tensors(checkpoint, optimiser_file(part))
    rows, prefix = tensors(checkpoint, _OPTIMISERS), f"{part}."
    return {key.removeprefix(prefix): value for key, value in rows.items() if key.startswith(prefix)}


def state(checkpoint: Path) -> tuple[Json, dict[str, Tensor]]:
    """Returns state.json and the further tensors of the model. Raises UserError if one is damaged."""
    _require_whole(checkpoint, STATE)
    with reading(str(checkpoint / STATE)):
        values = dict(json.loads((checkpoint / STATE).read_text(encoding="utf-8")))
    if "path_mean" in values:  # a checkpoint from before November 2026
        return {**values, "terms": values["untold"]}, {"path_mean": torch.tensor(values["path_mean"])}
    return values, tensors(checkpoint, STATE_TENSORS) if holds(checkpoint, STATE_TENSORS) else {}


def modules(checkpoint: Path) -> dict[str, str]:
    """Returns the part of the model that each file fills, by the file's name without its ending.

    An average fills the part that it averages. The order is that of writing. Leaves out the files that
    thinning removed. Raises UserError if another file is missing or one is not readable."""
    # Existing files of parts and averages.
    digests = _digests(checkpoint)
    names = _weights(digests)
    for name in names:
        if not (checkpoint / name).exists() and _lasts(checkpoint, name, digests):
            raise UserError(f"{checkpoint / name} is missing; {_advice(checkpoint)}")

    # Their parts, by their metadata.
    origins: dict[str, Json | None] = {}
    for name in names:
        if (checkpoint / name).exists():
            try:
                origins[name.removesuffix(_ENDING)] = origin_of(checkpoint / name)
            except UserError:
                # The checksum decides, unless the disk itself fails.
                _require_whole(checkpoint, name)
                raise
    return {n: origin["part"] if origin else _OLD_AVERAGES.get(n, n) for n, origin in origins.items()}


def has_all_weights(checkpoint: Path) -> bool:
    """Returns True if thinning has removed no part and no average, so that training can start from them."""
    return all((checkpoint / name).exists() for name in _weights(_digests(checkpoint)))


def part_file(name: str) -> str:
    """Returns the file name of a part or an average."""
    return name + _ENDING


def optimiser_file(part: str) -> str:
    """Returns the file name of a part's optimiser."""
    return part + _OPTIMISER


def save_part(path: Path, module: nn.Module, origin: Origin) -> None:
    """Writes a part or an average, with its origin."""
    save_tensors(path, module.state_dict(), origin.dumps())


def origin_of(path: Path) -> Json | None:
    """Returns the metadata of a part's file as JSON, or None if it has none.

    Raises UserError if the file is not readable."""
    try:
        with reading(str(path)), safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(_METADATA)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is no readable safetensors file: {error}; give another") from None
    return dict(json.loads(text)) if text else None


def save_optimiser(path: Path, module: nn.Module, optimiser: torch.optim.Optimizer) -> None:
    """Writes an optimiser's state by parameter name."""
    rows = {f"{n}:{key}": v for n, p in module.named_parameters() for key, v in optimiser.state[p].items()}
    save_tensors(path, rows)


def restore_optimiser(
    module: nn.Module, optimiser: torch.optim.Optimizer, saved: Mapping[str, Tensor]
) -> None:
    """Restores an optimiser's state."""
    parameters = dict(module.named_parameters())
    for name, value in saved.items():
        parameter_name, _, key = name.rpartition(":")
        parameter = parameters[parameter_name]
        # Steps are counted on the CPU, also those of a parameter that is a single number.
        if key != "step" and value.shape == parameter.shape:
            # The order in memory decides the last bits of sums on a CPU.
            value = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
        elif key != "step":
            value = value.to(parameter.device)
        optimiser.state[parameter][key] = value


def save_tensors(path: Path, values: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Writes tensors."""
    # The errors of safetensors' own writer have no number, and its files have rights of their own.
    path.write_bytes(save({n: value.detach().cpu().contiguous() for n, value in values.items()}, metadata))


def save_state(path: Path, values: Json) -> None:
    """Writes state.json."""
    path.write_text(json.dumps(values) + "\n", encoding="utf-8")


def _thin(run: Path, lasting: set[str]) -> None:
    """Removes the files that only resuming needs. Keeps the last checkpoints whole."""
    for checkpoint in committed(run)[:-FULL]:
        for name in _digests(checkpoint).keys() - lasting:
            (checkpoint / name).unlink(missing_ok=True)


def _digests(checkpoint: Path) -> dict[str, str]:
    try:
        with reading(str(checkpoint / COMMITTED)):
            return dict(json.loads((checkpoint / COMMITTED).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        problem = f"{checkpoint} has no readable mark {COMMITTED}"
        if _exported(checkpoint):
            raise UserError(f"{problem}, so it is damaged; {_COPY}") from None
        raise UserError(f"{problem}, so its writing was interrupted; remove it") from None


def _weights(digests: Mapping[str, str]) -> list[str]:
    """Returns the files of parts and averages among those of a checkpoint."""
    names = [n for n in digests if n.endswith(_ENDING) and not n.endswith(_OPTIMISER)]
    return [n for n in names if n not in (STATE_TENSORS, _OPTIMISERS)]


def _require_whole(checkpoint: Path, name: str) -> None:
    expected, path = _digests(checkpoint).get(name), checkpoint / name
    if not path.exists():
        if _exported(checkpoint):
            raise UserError(f"{path} is missing; {_COPY}")
        problem = f"{path} is missing: older checkpoints keep only the files for drawing"
        raise UserError(f"{problem}; give a newer checkpoint")
    if sha256_of(path) != expected:
        raise UserError(f"{path} is damaged: it differs from its mark; {_advice(checkpoint)}")


def _exported(checkpoint: Path) -> bool:
    """Returns True for an export, which holds the config of its run."""
    return (checkpoint / "config.json").exists()


def _advice(checkpoint: Path) -> str:
    """Returns the remedy for a damaged or missing file."""
    return _COPY if _exported(checkpoint) else _REMOVE


def _lasts(checkpoint: Path, name: str, digests: Mapping[str, str]) -> bool:
    """Returns True if thinning keeps a file: any file of an export, an average, or a part never trained."""
    trained = [n.removesuffix(_OPTIMISER) for n in digests if n.endswith(_OPTIMISER)]
    return _exported(checkpoint) or (bool(trained) and name.removesuffix(_ENDING) not in trained)


def _written(folder: Path, name: str, writer: Callable[[Path], None]) -> str:
    """Writes a file, waits until it is on the disk, and returns its sha256."""
    with Folder(str(folder)).staged(name) as path:
        writer(Path(path))
    return sha256_of(folder / name)
