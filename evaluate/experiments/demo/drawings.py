"""The pictures of the report: stored ones, and those that checkpoints draw of texts.

Axes: N pictures, D dimensions of an embedding, R pixels a side.
"""

import base64
import io
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from caption import encoders
from caption.sentences import attributes
from synth.sets.shards import Sample, ShardSet
from train import runs
from train.sampling import draw

_GAP = 2  # pixels between two of a sheet
_SEED = 7  # of the latents: the same for every checkpoint


class Shown(NamedTuple):
    """A picture with its caption."""

    picture: str  # data: URL
    text: str


def of_formulas(place: Path, count: int) -> list[Shown]:
    """Returns the first pictures of a family, each with the longest of its sentences."""
    samples = islice(_samples(place), count)
    return [Shown(url(s.pixels), attributes.sentences(s.metadata)[-1]) for s in samples]


def of_people(place: Path, count: int) -> list[Sample]:
    """Returns samples spread over a set with people's captions."""
    every = max(1, len(ShardSet(str(place))) // count)
    return list(islice(_samples(place), every // 2, None, every))[:count]


def drawn(found: Path, texts: Sequence[str], encoder: encoders.Encoder, *, each: int = 1) -> np.ndarray:
    """Returns the pictures that a checkpoint draws of texts: uint8 (texts each, R, R, 3)."""
    vectors = torch.from_numpy(encoder.texts(list(texts))).repeat_interleave(each, 0)  # N D
    run = runs.find(found.parent.parent)
    return draw.pictures(draw.drawing(run.load(found), draw.Texts(vectors), seed=_SEED))


def sheet(pictures: Sequence[np.ndarray] | np.ndarray, columns: int) -> str:
    """Returns pictures (N, R, R, 3) in a grid, as a data: URL."""
    side = len(pictures[0])
    rows = -(-len(pictures) // columns)
    paper = np.full((rows * (side + _GAP) - _GAP, columns * (side + _GAP) - _GAP, 3), 255, np.uint8)
    for i, picture in enumerate(pictures):
        top, left = (side + _GAP) * (i // columns), (side + _GAP) * (i % columns)
        paper[top : top + side, left : left + side] = picture
    return url(paper)


def url(pixels: np.ndarray) -> str:
    """Returns a picture uint8 (H, W, 3) as a data: URL."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png", optimize=True)
    return data_url(file.getvalue())


def data_url(png: bytes) -> str:
    """Returns the bytes of a PNG as a data: URL."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def _samples(place: Path) -> Iterator[Sample]:
    shards = ShardSet(str(place))
    return (sample for shard in shards.shards for sample in shards.read(shard))
