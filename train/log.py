"""The records of a run, written by rank 0: config.json, log.jsonl, TensorBoard, sample grids."""

import contextlib
import json
import math
import platform
import resource
import sys
import time
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from synth import checkout
from synth.errors import UserError
from synth.sets import locks
from synth.sets.storage import Folder, plain_errors
from train import config, runs
from train.loop import Grid, Tick, Trainer
from train.model import find
from train.runs import CONFIG
from train.sampling import draw, grid

LOG, SAMPLES = "log.jsonl", "samples"

GRID = 16  # pictures of a sample grid
_VERSIONED = ("torch", "open_clip_torch", "numpy", "safetensors")

Json = dict[str, Any]


class Log:
    """The log of a run from `images_seen` on. Its grids show `texts`, with their vectors if there are any."""

    def __init__(
        self, run: Path, images_seen: int, texts: Sequence[str], vectors: torch.Tensor | None, device: str
    ) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._run, self._device, self._last = run, device, images_seen
        # A resumed run writes the later points again, and without a checkpoint also the first grid.
        first = images_seen + 1 if images_seen else 0
        with plain_errors(str(run)):
            self._writer = SummaryWriter(str(run / "tensorboard"), purge_step=first)
        self._captions, self._vectors = texts, vectors

    def record(self, event: Tick | Grid, trainer: Trainer) -> str:
        """Records an event. Returns a line for a person, empty after a grid.

        Raises UserError if the run's folder cannot be written."""
        with plain_errors(str(self._run)):
            if isinstance(event, Tick):
                return self._tick(event, trainer.ranks.count)
            self._grid(trainer)
            return ""

    def _tick(self, tick: Tick, ranks: int) -> str:
        """Adds a line to log.jsonl and points to TensorBoard. Returns the line for a person.

        CPU seconds and the share of waiting are those of rank 0."""
        # Row.
        images, self._last = tick.images_seen - self._last, tick.images_seen
        row = {
            "images_seen": tick.images_seen,
            **{name: round(mean, 6) if math.isfinite(mean) else None for name, mean in tick.losses.items()},
            "seconds_per_kimg": round(1000 * tick.seconds / max(images, 1), 3),
            "cpu_seconds": round(tick.cpu_seconds, 3),
            "waited": round(tick.waited / tick.seconds, 4),
            **_embedding(tick.embedding, images // ranks),
            "memory_mb": _memory(self._device),
            "skipped": tick.skipped,
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }

        # log.jsonl and TensorBoard.
        with (self._run / LOG).open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        for name, value in row.items():
            if isinstance(value, int | float) and name != "images_seen":
                self._writer.add_scalar(name, value, tick.images_seen)
        self._writer.flush()

        # Line.
        losses = "  ".join(f"{name} {value:.3f}" for name, value in tick.losses.items())
        return f"{tick.images_seen:>11,} images  {row['seconds_per_kimg']:.1f} s/kimg  {losses}"

    def _grid(self, trainer: Trainer) -> None:
        """Writes a grid of pictures of the texts, if the model draws pictures of texts in that form.

        TensorBoard shows the pixels of the PNG."""
        model = trainer.loaded()
        if not self._captions or not hasattr(find(model.name), "draw"):
            return
        options = draw.usual_options(model.name, model.config)
        if self._vectors is None and "vectors" in draw.reads(model.name, options):
            return
        texts = draw.texts_of(model, self._captions, self._vectors, self._device)
        seed = trainer.config.groups.training.seed
        pictures = draw.pictures(draw.drawing(model, texts, seed=seed, options=options))
        file = self._run / SAMPLES / f"{trainer.images_seen:09d}.png"
        sheet = grid.captioned(pictures, self._captions)
        grid.save(file, sheet)
        self._writer.add_image("grid", np.asarray(sheet), trainer.images_seen, dataformats="HWC")
        self._writer.flush()

    def close(self) -> None:
        """Closes TensorBoard's file."""
        # A full disk has ended the run already.
        with contextlib.suppress(OSError):
            self._writer.close()


def write_config(run: Path, metadata: Json, machine: Json) -> None:
    """Writes config.json, with a description of the machine, unless the run already has one."""
    if not (run / CONFIG).exists():
        made_by = {**_made_by(), "machine": machine}
        text = json.dumps({**metadata, "made_by": made_by}, indent=1) + "\n"
        Folder(str(run)).write(CONFIG, text.encode())


def require_same(run: Path, metadata: Json) -> None:
    """Raises UserError if the folder holds anything but this run, and lists the differences."""
    # A new folder.
    if not (run / CONFIG).exists():
        if run.exists() and any(not path.name.startswith(".") for path in run.iterdir()):
            raise UserError(f"{run} is not empty and holds no run; give another --out")
        return

    # An export, or another model.
    existing, name = runs.find(run), metadata["model"]
    if existing.exported:
        raise UserError(f"{run} holds an export, which no training resumes; give another --out")
    if existing.model != name:
        raise UserError(
            f"{run} holds a run of {existing.model}, and this preset is of {name}; give another --out"
        )

    # Other settings or inputs.
    if changes := differences(existing.metadata, metadata):
        advice = "give another --out, or the same settings as before"
        raise UserError(f"{run} holds another run: {'; '.join(changes)}; {advice}")


def differences(there: Json, here: Json) -> list[str]:
    """Returns a sentence for each setting or input that differs between the config.json of two runs of a
    model, except settings of `run`."""
    changes = config.differences(config.with_added(there["config"], here["model"]), here["config"])
    for kind in ("shards", "captions", "latents", "encoder", "from"):
        old, new = (str((m.get(kind) or {}).get("digest")) for m in (there, here))
        if old != new:
            changes.append(f"the digest of {kind} is {old[:12]} there and {new[:12]} here")
    return changes


def cut_back(run: Path, images_seen: int) -> None:
    """Removes the lines from the log that a resumed run will write again."""
    log = run / LOG
    if log.exists():
        lines = [
            line for line in log.read_text(encoding="utf-8").splitlines() if _images(line) <= images_seen
        ]
        Folder(str(run)).write(LOG, "".join(f"{line}\n" for line in lines).encode())


@contextlib.contextmanager
def locked(run: Path) -> Iterator[str | None]:
    """Makes the folder of a run, and locks it within the `with` block. Yields a sentence if its file system
    has no locks.

    Raises UserError if another process group has locked it, or if it cannot be written."""
    with plain_errors(str(run)):
        run.mkdir(parents=True, exist_ok=True)
        opened = (run / ".lock").open("wb")
    with opened as file:
        try:
            held = locks.lock(file.fileno())
        except BlockingIOError:
            raise UserError(f"another process trains in {run}; wait for it, or give another --out") from None
        yield None if held else locks.note(str(run))


def _images(line: str) -> float:
    """Returns the images seen of a log line, or infinity if a crash cut the line short."""
    try:
        return float(json.loads(line)["images_seen"])
    except (ValueError, KeyError):
        return float("inf")


def _embedding(seconds: float, images: int) -> Json:
    """Returns the entry of the time in which readers made vectors of a rank's drawn pictures, if they did."""
    return {"embedding_seconds_per_kimg": round(1000 * seconds / max(images, 1), 3)} if seconds else {}


def _memory(device: str) -> int:
    """Returns the peak memory in MB: of the GPU, or of this process."""
    if device.startswith("cuda"):
        return round(torch.cuda.max_memory_allocated(device) / 1e6)
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3)


def _made_by() -> Json:
    """Returns the command, commit and versions at the first start of a run."""
    versions = {"python": platform.python_version(), **{name: version(name) for name in _VERSIONED}}
    return {"argv": sys.argv[1:], "commit": checkout.commit(), "versions": versions}
