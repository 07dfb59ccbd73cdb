"""Texts -> pictures, by the averaged generator of a run."""

from pathlib import Path

import numpy as np
import torch

from caption import encoders
from synth.errors import UserError
from train import checkpoint, runs
from train.sampling import grid


def sample(
    run: Path,
    texts: list[str],
    *,
    n: int,
    seed: int,
    truncation: float,
    device: str,
    images_seen: int | None = None,
    encoder: str | None = None,
) -> np.ndarray:
    """n pictures of each text: uint8 (texts n, R, R, 3). Raises UserError where run, checkpoint or encoder are not to be had."""
    about = runs.describe(run)["encoder"]
    found = checkpoint.require(run) if images_seen is None else run / "checkpoints" / f"{images_seen:09d}"
    if images_seen is not None and found not in checkpoint.committed(run):
        there = ", ".join(str(checkpoint.images_seen(c)) for c in checkpoint.committed(run))
        raise UserError(f"{run} has no checkpoint at {images_seen} images; it has {there or 'none'}")
    source = encoders.find(encoder or about["name"])
    if source.sha256 != about["digest"]:
        raise UserError(f"the encoder {source.name} has other weights than the one of {run}; give that one by --encoder")
    generator = checkpoint.average(found).to(device)
    h = torch.from_numpy(encoders.load(source, device, "fp32").texts(texts)).to(device)
    return grid.generate(generator, h.repeat_interleave(n, 0), seed=seed, truncation=truncation)
