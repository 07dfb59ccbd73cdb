"""Grids for the eye: pictures of a set beside those that a run draws of the same captions.

Axes: N pictures, R pixels a side.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
from PIL import Image

from evaluate.loss import text_of
from synth.errors import UserError
from synth.sets.shards import Sample, ShardSet
from train.runs import find
from train.sampling import draw, grid

_COLUMNS = 8  # pairs are never torn
_SIDE = 96  # pixels of an enlarged picture, at least

DRAWN = "drawn"  # under the pictures of the run


@dataclass(frozen=True)
class GridRequest:
    """The options of `grid`."""

    run: str
    reference: str  # a finished set with captions
    n: int = 16
    seed: int = 0  # of the latents
    images_seen: int | None = None
    encoder: str | None = None
    device: str = "cpu"
    drawing: Mapping[str, str] = field(default_factory=dict)  # options, in their command-line form


def pairs(request: GridRequest) -> Image.Image:
    """Returns pictures from all over a set with their first captions, each with what a run draws of it.

    The caption is the first one, or the first sentence of a formula picture. Two runs have the same captions
    and latents at the same places. Raises UserError if the set is too small, has no captions, or has pictures
    of another side than the run's."""
    run = find(request.run)
    draw.require_drawing(run.model, request.run)
    samples = spread(request.reference, request.n)
    captions = [text_of(sample, request.reference, "short") for sample in samples]
    drawn = draw.sample(
        run,
        captions,
        n=1,
        seed=request.seed,
        images_seen=request.images_seen,
        encoder=request.encoder,
        options=request.drawing,
        device=request.device,
    )
    sides = (samples[0].pixels.shape[0], drawn.shape[1])
    if len(set(sides)) > 1:
        problem = (
            f"the pictures of {request.reference} have {sides[0]} pixels a side, and the run's {sides[1]}"
        )
        raise UserError(f"{problem}; give a set of that size")
    both = np.stack([np.stack([sample.pixels for sample in samples]), drawn], axis=1)  # (N, 2, R, R, 3)
    texts = [text for caption in captions for text in (caption, DRAWN)]
    return grid.captioned(both.reshape(-1, *both.shape[2:]), texts, columns=_COLUMNS, least=_SIDE)


def spread(place: str, n: int) -> list[Sample]:
    """Returns n samples of a set, evenly spaced. Raises UserError if it has fewer."""
    shards = ShardSet(place)
    if n > len(shards):
        raise UserError(f"{place} holds {len(shards):,} pictures, so {n:,} cannot be shown; give another --n")
    every = len(shards) // n
    stored = (sample for shard in shards.shards for sample in shards.read(shard))
    return list(islice(stored, every // 2, None, every))[:n]
