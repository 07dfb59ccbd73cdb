"""The pictures of the report: stored pictures, and pictures that checkpoints draw from texts.

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
from train.sampling import draw as sampling

_GAP = 2  # pixels between two pictures of a sheet
_SEED = 7  # of the latents; equal for all checkpoints


class Shown(NamedTuple):
    """A picture with its caption."""

    picture: str  # data: URL
    text: str


def of_formulas(place: Path, count: int) -> list[Shown]:
    """Returns the first pictures of a family, each with its longest sentence."""
    samples = islice(_samples(place), count)
    return [Shown(url(s.pixels), attributes.sentences(s.metadata)[-1]) for s in samples]


def of_people(place: Path, count: int) -> list[Sample]:
    """Returns evenly spaced samples of a set with people's captions."""
    every = max(1, len(ShardSet(str(place))) // count)
    return list(islice(_samples(place), every // 2, None, every))[:count]


def draw(folder: Path, texts: Sequence[str], encoder: encoders.Encoder, *, each: int = 1) -> np.ndarray:
    """Returns the pictures that a checkpoint draws from texts: uint8 (texts each, R, R, 3)."""
    rows = [text for text in texts for _ in range(each)]
    model = runs.find(folder.parent.parent).load(folder)
    prompts = sampling.texts_of(model, rows, torch.from_numpy(encoder.texts(rows)), "cpu")
    return sampling.pictures(sampling.drawing(model, prompts, seed=_SEED))


def sheet(pictures: Sequence[np.ndarray] | np.ndarray, columns: int) -> str:
    """Returns pictures (N, R, R, 3) in a grid, as a data: URL."""
    side, rows = len(pictures[0]), -(-len(pictures) // columns)
    step = side + _GAP
    paper = np.full((rows * step - _GAP, columns * step - _GAP, 3), 255, np.uint8)
    for i, picture in enumerate(pictures):
        top, left = step * (i // columns), step * (i % columns)
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
