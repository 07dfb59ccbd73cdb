"""Figures of an autoencoder: PSNR of its reconstructions, and their FID against the originals.

The second one is rFID of Rombach et al. (CVPR 2022, table 8). A latent diffusion model draws no better
pictures than its autoencoder reconstructs.

Axes: N pictures, R resolution.
"""

from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from caption import encoders
from evaluate import detectors, results, sources
from evaluate.distances.psnr import psnr
from evaluate.features import extract
from evaluate.inference import t_interval
from evaluate.metrics import conditions, measure, require_measurable
from evaluate.sources import Pictures
from synth.errors import UserError
from synth.sets.completion import Progress
from synth.sets.shards import ShardSet
from synth.settings import digest
from train.sampling import grid
from train.sampling.reconstructing import reconstructor

SHOWN = 16  # pictures of a sheet

_AT_ONCE = 32

Json = dict[str, Any]


@dataclass(frozen=True)
class ReconstructionRequest:
    """The options of `reconstruction`."""

    autoencoder: str  # a RUN, or a folder of diffusers
    reference: str  # a finished set
    n: int = 1000
    skip: int = 0  # pictures that are left out first, as training read them
    detector: str = detectors.INCEPTION
    weights: str | None = None  # a file, for inception
    device: str = "auto"


class Reconstruction(NamedTuple):
    """Figures, and pictures beside their reconstructions."""

    rows: list[Json]
    sheet: Image.Image


def reconstruction(request: ReconstructionRequest) -> Generator[Progress | Reconstruction]:
    """Measures an autoencoder. Appends the rows to the figures of its run, if it has one.

    Yields the number of processed pictures, and at the end the figures. Raises UserError if the set has fewer
    pictures, or pictures of another side than the autoencoder's."""
    # Autoencoder, detector and pictures.
    device = encoders.choose_device(request.device)
    autoencoder = reconstructor(request.autoencoder, device)
    run = autoencoder.run
    if run:
        results.require_place(run.path)
    detector = detectors.load(request.detector, weights=request.weights, device=device)
    require_measurable(["fid"], detector.name, request.n, request.n)
    originals = _read(request, autoencoder.side)
    yield Progress(0)

    # Reconstructions, by the means of their latents.
    blocks = []
    for block in _batches(originals):
        blocks.append(autoencoder.reconstruct(block))
        yield Progress(len(block))
    reconstructions = np.concatenate(blocks)

    # Figures.
    identity = {"manifest": ShardSet(request.reference).digest, "first": request.skip, "n": request.n}
    names = (request.reference, f"{request.autoencoder} of {request.reference}")
    digests = (digest(identity), digest({**identity, "autoencoder": autoencoder.weights}))
    [reference] = yield from extract([detector], _in_memory(names[0], digests[0], originals))
    [generated] = yield from extract([detector], _in_memory(names[1], digests[1], reconstructions))
    shared = conditions(generated, reference, split=request.reference, seed=0, captions="none")
    interval = t_interval([psnr(*pair) for pair in zip(originals, reconstructions, strict=True)])
    row: Json = {"metric": "reconstruction PSNR", "value": interval.value, "interval": list(interval[1:])}
    row |= {"n": request.n, "reference": request.reference, "reference_digest": reference.digest}
    distances = measure(generated, reference, ["fid"], shared)
    rows = [row, *(replace(figure, name=f"r{figure.name}").row() for figure in distances)]
    if run:
        rows = [{"images_seen": run.images_seen(run.checkpoint()), **each} for each in rows]
        results.append(run.path, *rows)
    yield Reconstruction(rows, _sheet(originals[:SHOWN], reconstructions[:SHOWN]))


def _read(request: ReconstructionRequest, side: int) -> np.ndarray:
    """Returns the pictures of the request: uint8 (N, R, R, 3)."""
    shards = ShardSet(request.reference)
    if request.skip + request.n > len(shards):
        problem = f"{request.reference} holds {len(shards):,} pictures"
        raise UserError(
            f"{problem}, so {request.n:,} after {request.skip:,} cannot be taken; give another --n or --skip"
        )
    batches = sources.of_shards(request.reference, limit=request.skip + request.n).batches(request.skip)
    pictures = np.concatenate(list(batches))
    if pictures.shape[1:3] != (side, side):
        problem = f"the pictures of {request.reference} have {pictures.shape[1]} pixels a side"
        raise UserError(f"{problem}, and those of {request.autoencoder} {side}; give a set of that size")
    return pictures


def _in_memory(name: str, identity: str, pictures: np.ndarray) -> Pictures:
    """Returns the stream of pictures in memory."""
    return Pictures(name, identity, len(pictures), lambda first: _batches(pictures[first:]))


def _batches(pictures: np.ndarray) -> Iterator[np.ndarray]:
    """Yields some pictures at a time."""
    return (pictures[first : first + _AT_ONCE] for first in range(0, len(pictures), _AT_ONCE))


def _sheet(originals: np.ndarray, reconstructions: np.ndarray) -> Image.Image:
    """Returns each picture beside its reconstruction."""
    pairs = np.stack([originals, reconstructions], 1).reshape(-1, *originals.shape[1:])
    return grid.captioned(pairs, ["original", "reconstruction"] * len(originals), columns=8)
