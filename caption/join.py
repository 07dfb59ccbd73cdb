"""DOOR. Pictures and their caption tables, joined by key: a webdataset pipeline for any training loop.

    samples = dataset("data/shards/fractals", "data/captions/fractals/nano")
    for sample in samples.shuffle(100):
        sample["key"], sample["picture"], sample["pseudo_caption"], sample["caption"]

The stages of the pipeline: shards in the order of an epoch, split by node, split by worker, opened beside
their tables, mixed, decoded. A shard and its table are opened when their turn comes. Remote ones are fetched
whole, the shard to a file without a name.
"""

import copy
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
import webdataset as wds

from caption import blending
from caption.blending import Blend, Columns
from caption.table import CaptionSet, text_vectors, vectors
from synth.errors import UserError
from synth.images.codecs import rgb
from synth.sets.shards import MappedShard, ShardSet
from synth.sets.storage import open_storage

Json = dict[str, Any]
Splitter = Callable[[Iterable[Json]], Iterator[Json]]
T = TypeVar("T", ShardSet, CaptionSet)


class JoinedDataset(wds.WebDataset):
    """A webdataset pipeline over the joined samples of a set."""

    def __init__(self, join: "_Join", nodesplitter: Splitter | None, workersplitter: Splitter | None) -> None:
        # The constructor of WebDataset would open URLs by its own means, and knows no tables.
        stages = [join.shards, nodesplitter, join.require_shards, workersplitter, join.rows, join.samples]
        wds.DataPipeline.__init__(self, *stages)
        self._join = join

    def set_epoch(self, epoch: int) -> None:
        """Sets the epoch of the next iteration, also for pipelines that were composed from this one.

        Without it a process counts its own iterations. DataLoader workers that are not persistent count from
        the epoch of the dataset that they receive."""
        self._join.epoch = epoch


def dataset(
    shards: str,
    captions: str,
    columns: Sequence[str] = ("pseudo_caption", "caption"),
    *,
    size: int | None = None,
    shuffle: int = 1000,
    seed: int = 0,
    blend: str | None = None,
    nodesplitter: Splitter | None = wds.split_by_node,
    workersplitter: Splitter | None = wds.split_by_worker,
) -> JoinedDataset:
    """Returns a webdataset pipeline over a finished set and its caption tables, which are folders or URLs.

    A sample is a dict of `key`, `picture` (uint8 (H, W, 3)) and the named columns of the table. Vectors are
    float32 (D,), `caption` is a list of texts, and `text_embedding` a list of their vectors. `size` averages
    pictures down to that many pixels a side.

    `shuffle` permutes the shards, and mixes that many samples in a buffer; 0 keeps the order of the set. The
    order of an epoch is a function of the seed. Nodes and workers share the shards of an epoch, so each
    sample comes once, but their numbers of samples may differ.

    `blend`, such as "blend:0.95,long", adds `text`: a synthetic caption or the ground truth, by (seed, index,
    epoch). caption/blending.py describes its forms.

    Raises UserError if a set is not finished, if the tables belong to other shards, if a column is unknown,
    or if a number is out of range. Iteration raises UserError if a file is missing or damaged, or a table has
    other keys than its shard."""
    shard_set, caption_set = ShardSet(shards), CaptionSet(captions)
    caption_set.require_made_for(shard_set)
    names = (columns,) if isinstance(columns, str) else tuple(columns)
    for name in names:
        if name not in caption_set.columns:
            known = ", ".join(caption_set.columns)
            raise UserError(f"the tables of {captions} have no column {name!r}; known are {known}")
    if size is not None and size < 1:
        raise UserError(f"size is {size}; give pixels a side, at least 1, or None for those of the set")
    if shuffle < 0:
        raise UserError(f"shuffle is {shuffle}; give the samples of the buffer, or 0 for the set's order")
    blended = Blend.parse(blend) if blend is not None else None
    sources = blended.columns(caption_set, vectors=False) if blended else None
    join = _Join(shard_set, caption_set, names, size, shuffle, seed, blended, sources)
    return JoinedDataset(join, nodesplitter, workersplitter)


class _Opened(NamedTuple):
    """A shard with the columns of its table."""

    epoch: int
    number: int
    url: str
    tar: MappedShard
    columns: dict[str, np.ndarray | list[Any]]  # by name, a value for each row
    synthetic: list[list[str]]  # captions of each row, or empty
    truth: list[list[str]]


@dataclass
class _Join:
    """The stages of the pipeline. It is sent to loader workers."""

    shard_set: ShardSet
    caption_set: CaptionSet
    columns: tuple[str, ...]
    size: int | None
    buffer: int
    seed: int
    blend: Blend | None = None
    sources: Columns | None = None  # of the blend
    epoch: int = 0  # of the next iteration

    def shards(self) -> Iterator[Json]:
        """Yields the shards in the order of an epoch, equal on all nodes and workers."""
        epoch, self.epoch = self.epoch, self.epoch + 1
        numbers = list(range(len(self.shard_set.shards)))
        if self.buffer:
            random.Random(f"{self.seed} {epoch}").shuffle(numbers)
        for number in numbers:
            url = self.shard_set.storage.join(self.shard_set.shards[number].file)
            yield {"url": url, "number": number, "epoch": epoch}

    def require_shards(self, shards: Iterable[Json]) -> Iterator[Json]:
        """Yields the shards of this node. Raises UserError if there are none."""
        empty = True
        for shard in shards:
            empty = False
            yield shard
        if empty:
            place, count = self.shard_set.storage.url, len(self.shard_set.shards)
            raise UserError(f"{place} has {count} shards, fewer than nodes; use at most {count} nodes")

    def rows(self, shards: Iterable[Json]) -> Iterator[tuple[_Opened, int]]:
        """Yields the rows of the shards, mixed if there is a buffer."""
        rows = ((opened, row) for opened in map(self._open, shards) for row in range(len(opened.tar)))
        if not self.buffer:
            yield from rows
            return
        for first in rows:
            # The buffer holds row numbers, so filling it costs next to nothing.
            rng = random.Random(f"{self.seed} {first[0].epoch} {first[0].number}")
            yield from wds.shuffle(self.buffer, initial=self.buffer, rng=rng)(chain((first,), rows))

    def samples(self, rows: Iterable[tuple[_Opened, int]]) -> Iterator[Json]:
        """Yields a sample for each row, decoded."""
        for opened, row in rows:
            key = opened.tar.keys[row]
            sample: Json = {"__key__": key, "__url__": opened.url, "key": key}
            sample["picture"] = rgb(opened.tar.picture(row, self.size))
            for name, values in opened.columns.items():
                value = values[row]
                sample[name] = value.astype(np.float32) if isinstance(value, np.ndarray) else value
            if self.blend:
                sample["text"] = self._text(self.blend, opened, row)
            yield sample

    def _text(self, blend: Blend, opened: _Opened, row: int) -> str:
        """Returns the text of a visit. Raises UserError if its source has none."""
        first = self.shard_set.shards[opened.number].first
        [chances] = blending.chances(self.seed, [first + row], opened.epoch)
        synthetic, truth = (rows[row] if rows else [] for rows in (opened.synthetic, opened.truth))
        text = blend.text(lambda: opened.tar.metadata(row), synthetic, truth, chances)
        if text is None:
            problem = f"sample {opened.tar.keys[row]} of {opened.url} has no caption"
            raise UserError(f"{problem}; leave blend out, or select the samples that have both texts")
        return text

    def _open(self, shard: Json) -> _Opened:
        """Opens a shard and the named columns of its table, and compares their keys."""
        number, tables = shard["number"], _in_this_process(self.caption_set)
        tar = _in_this_process(self.shard_set).mapped(self.shard_set.shards[number])
        sources = self.sources or Columns("", "")
        names = dict.fromkeys((*self.columns, *filter(None, sources)))
        table = tables.read(tables.parts[number], list(names), tar.keys)
        columns = {name: _values(table[name], tables.dimensions) for name in self.columns}
        texts = [table[name].to_pylist() if name else [] for name in sources]
        return _Opened(shard["epoch"], number, shard["url"], tar, columns, *texts)


def _values(column: pa.ChunkedArray, dimensions: int) -> np.ndarray | list[Any]:
    """Returns the values of a column by row."""
    if pa.types.is_fixed_size_list(column.type):
        return vectors(column, dimensions)
    if pa.types.is_list(column.type) and pa.types.is_fixed_size_list(column.type.value_type):
        return [list(rows.astype(np.float32)) for rows in text_vectors(column, dimensions)]
    return column.to_pylist()


def _in_this_process(kept: T) -> T:
    """Returns a set with its storage opened again: a client of an object store does not survive a fork."""
    opened = copy.copy(kept)
    opened.storage = open_storage(kept.storage.url)
    if isinstance(opened, CaptionSet):
        opened.place = open_storage(opened.place.url)
    return opened
