"""Shards as readers open them: mapped pictures, and the columns of tables that visits read.

Axes: D dimensions of an embedding, K planes and S side of latents.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from caption.blending import Columns
from caption.table import read_table, text_vectors, vectors
from synth.sets.shards import MappedShard
from train.stream.latent_tables import LATENT
from train.stream.live import LiveShard
from train.stream.sources import Sources
from train.stream.visits import Visit


class Opened(NamedTuple):
    """A mapped shard and the vectors of its samples."""

    tar: MappedShard
    first: int  # number of its first sample among those of all sets
    image: np.ndarray  # float16 (samples, D)
    stored: np.ndarray  # float16 (samples, D)
    texts: Sequence[np.ndarray] = ()  # float16 (captions, D) per sample
    truths: Sequence[np.ndarray] = ()  # those of the ground truth of a blend
    captions: Sequence[Sequence[str] | None] = ()  # by sample
    true_captions: Sequence[Sequence[str] | None] = ()
    latents: np.ndarray = np.empty((0, 0))  # float16 (samples, K S S), if the model reads latents

    def picture(self, row: int, size: int) -> np.ndarray:
        """Returns the picture of a row, box-averaged: uint8 (size, size, C)."""
        return self.tar.picture(row, size)

    def metadata(self, row: int) -> dict[str, Any]:
        """Returns the JSON of a row."""
        return self.tar.metadata(row)

    def key(self, row: int) -> str:
        """Returns the key of a row."""
        return self.tar.keys[row]

    def captions_of(self, row: int) -> Sequence[str]:
        """Returns the captions of a row."""
        return self.captions[row] or ()

    def sources(self, row: int) -> tuple[Sequence[str], Sequence[str]]:
        """Returns the synthetic texts of a row, and the ground truth."""
        synthetic, truth = row_of(row, self.captions, self.true_captions)
        return synthetic, truth

    def forget(self) -> None:
        """Does nothing: all that is kept is mapped."""


Shard = Opened | LiveShard


def open_shard(sources: Sources, visit: Visit, shard: int) -> Shard:
    """Returns a shard with the columns of its table that visits read, or a live set."""
    # A live set.
    text, wanted, first = visit.text, visit.wanted, sources.firsts[shard]
    if shard >= len(sources.tars):
        return LiveShard(sources.live[shard - len(sources.tars)], first)

    # Pictures.
    tar = MappedShard(sources.cache.path(sources.tars[shard]), sources.tars[shard].name)
    none = np.empty((0, 0))
    latents = none
    if wanted.latents:
        file = sources.latents[shard]
        column = read_table(sources.cache.path(file), file.name, [LATENT], tar.keys)[LATENT]
        latents = vectors(column, column.type.list_size)
    if not wanted.vectors and not wanted.tokenise:
        return Opened(tar, first, none, none, latents=latents)

    # The columns that the model reads. A blend has two sources.
    words = Columns("synthetic_caption" if text.synthetic else "caption", "")
    embedded = Columns(text.column if text.captions else "", "")
    if text.blend:
        embedded, words = sources.columns[shard]
    embedded = embedded if wanted.vectors else Columns("", "")
    words = words if wanted.tokenise else Columns("", "")
    image_columns = ["image_embedding", *(["pseudo_caption"] if text.stored else [])]
    file = sources.tables[shard]
    names = [*(image_columns if wanted.vectors else []), *filter(None, (*embedded, *words))]
    columns = read_table(sources.cache.path(file), file.name, names, tar.keys)
    captions, true_captions = (columns[name].to_pylist() if name else [] for name in words)
    if not wanted.vectors:
        return Opened(tar, first, none, none, [], [], captions, true_captions, latents)

    # Text vectors.
    width = columns["image_embedding"].type.list_size
    image = vectors(columns["image_embedding"], width)
    stored = vectors(columns["pseudo_caption"], width) if text.stored else image
    texts, truths = (text_vectors(columns[name], width) if name else [] for name in embedded)
    return Opened(tar, first, image, stored, texts, truths, captions, true_captions, latents)


def row_of(row: int, *sources: Sequence[Any]) -> list[list[Any]]:
    """Returns the texts or vectors of a sample in each source. A source that the share never needs is
    empty."""
    return [list(source[row] if source[row] is not None else ()) if len(source) else [] for source in sources]
