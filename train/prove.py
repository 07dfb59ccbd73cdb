"""The proof of a run: it is trained again from its config, and its weights are compared by sha256.

The replay is a run of its own, so it can be killed and resumed. A run gives the same bytes on the same type
of machine. Elsewhere sums may round otherwise, so the proof names every difference of the machines.
"""

import tempfile
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file

from caption import encoders
from synth.checkout import ROOT
from synth.errors import UserError
from synth.sets.ledger import MANIFEST
from synth.sets.storage import sha256_of
from train import checkpoint, export, log, machine, runs
from train.distributed import Ranks
from train.runs import Run
from train.start import training
from train.start.prepared import prepare as prepare_inputs
from train.start.request import TrainRequest

_SHIPPED = ROOT / "data" / "formula-32"
_FILES = "*.safetensors"

Json = dict[str, Any]


class Compared(NamedTuple):
    """The last event: the outcome of a proof."""

    images_seen: int
    files: int
    difference: str  # the first one; empty: all files are equal


Event = training.Event | Compared


@dataclass(frozen=True)
class Proof:
    """A run to be trained again."""

    run: Run
    folder: Path  # of its checkpoint, or of the export
    request: TrainRequest


def prepare(run: str, images_seen: int | None, out: str | None, device: str) -> Proof:
    """Returns the proof of a run up to a checkpoint, by default its newest.

    Raises UserError if its data are missing, if they or this checkout have changed, or if it was imported."""
    source = runs.find(run)
    if "imported" in source.metadata:
        raise UserError(
            f"{run} was imported, and its file does not name its data; give a run of this program"
        )
    folder = source.checkpoint(images_seen)

    # The request of the run's first start, up to the checkpoint.
    shards, captions = source.metadata["shards"], source.metadata["captions"] or {}
    origin = source.metadata.get("from") or {}
    stored = [row["url"] for row in shards.get("sets", [shards]) if "live" not in row]
    coded = source.metadata.get("latents") or {}
    tables = [row["url"] for row in captions.get("sets", [captions]) if row]
    images = source.images_seen(folder)
    request = TrainRequest(
        preset=str(source.metadata.get("preset")),
        shards=tuple(stored),
        captions=tuple(tables),
        latents=tuple(row["url"] for row in coded.get("sets", [coded]) if row),
        out=out or f"runs/{source.path.resolve().name}-proof",
        images=images,
        precision=source.config.groups.training.precision,
        encoder=source.encoder_name if source.metadata["encoder"] else None,
        device=device,
        source=origin.get("run"),
        replayed=source,
    )
    if Path(request.out).resolve() == source.path.resolve():
        raise UserError(f"--out is {request.out}, the run itself; give a new folder")
    # The newest checkpoint of a replay is exported for the comparison.
    newest = checkpoint.newest(Path(request.out))
    if source.exported and newest and checkpoint.images_seen(newest) > images:
        raise UserError(f"{request.out} has seen more images than {run}; give another --out")

    # The same data.
    missing = [place for place in (*stored, *tables) if not (Path(place) / MANIFEST).exists()]
    if missing and source.path.resolve() == _SHIPPED:
        problem = f"{run} was trained on {missing[0]}, which is not here"
        raise UserError(f"{problem}; run `make formula-32`, which makes it and trains for hours, first")
    inputs = prepare_inputs(request, encoders.choose_device(device))
    if changes := log.differences(source.metadata, inputs.metadata):
        raise UserError(f"{run} cannot be trained again: {'; '.join(changes)}; restore its data")
    return Proof(source, folder, request)


def prove(proof: Proof) -> Generator[Event]:
    """Trains the run again, and compares. Yields the events of training, then notes, then Compared.

    Of several ranks, the first compares. Raises UserError if a file cannot be read. Ends after Ended if a
    signal ends the training."""
    # Training.
    for event in training.train(proof.request):
        if not isinstance(event, training.Ended) or event.signal:
            yield event
        if isinstance(event, training.Ended) and event.signal:
            return
    ranks = Ranks.join(encoders.choose_device(proof.request.device))
    if ranks.rank:
        return

    # Machines.
    recorded = proof.run.metadata.get("made_by", {}).get("machine")
    here = machine.describe(ranks)
    if recorded is None:
        yield training.Note("the run does not name its machine; weights may differ on another one")
    elif odd := machine.differences(recorded, here):
        yield training.Note(f"the machine differs, so weights may differ: {', '.join(odd)}")

    # Weights.
    replay = runs.find(proof.request.out)
    images = proof.run.images_seen(proof.folder)
    with tempfile.TemporaryDirectory() as place:
        other = replay.checkpoint(images)
        if proof.run.exported:
            other = Path(place) / "export"
            export.export(str(replay.path), str(other))
        names = sorted(path.name for path in proof.folder.glob(_FILES))
        if thinned := [n for n in names if checkpoint.holds(other, n) and not (other / n).exists()]:
            problem = f"{other} is an older checkpoint of the replay, which no longer has {thinned[0]}"
            raise UserError(f"{problem}; give another --out")
        difference = next(filter(None, _differences(proof.folder, other, names)), "")
    yield Compared(images, len(names), difference)


def _differences(there: Path, here: Path, names: list[str]) -> Iterator[str]:
    """Yields a sentence for each file, empty if both are equal."""
    for name in names:
        if not (here / name).exists():
            yield f"{name} is missing in the replay"
        elif sha256_of(there / name) == sha256_of(here / name):
            yield ""
        else:
            yield f"{name}: {_first_tensor(there / name, here / name)}"


def _first_tensor(there: Path, here: Path) -> str:
    """Returns a phrase about the first tensor that differs between two files."""
    before, now = load_file(there), load_file(here)
    if before.keys() != now.keys():
        return f"the tensors {' '.join(sorted(before.keys() ^ now.keys()))} are in one file alone"
    for name, tensor in before.items():
        if tensor.shape != now[name].shape:
            return f"{name} has the shape {tuple(tensor.shape)}, in the replay {tuple(now[name].shape)}"
        if not torch.equal(tensor, now[name]):
            change = (tensor.double() - now[name].double()).abs()
            values = int((change != 0).sum())
            return f"{name} differs in {values:,} of {tensor.numel():,} values, by at most {change.max():.3g}"
    return "the tensors are equal, and the metadata differs"
