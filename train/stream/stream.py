"""Shards, caption tables and tables of latents, of one set or several -> batches.

The sequence of batches is a pure function of (seed, images seen). train/stream/ordering.py gives the order of
samples. The random parts of a visit (noise, the choice of a caption) follow from (seed, index, epoch). Reader
processes map local files and decode. Their number, and the number of ranks, change nothing.

Axes: N samples of a rank's batch, D dimensions of an embedding, R resolution.
"""

import itertools
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from caption.blending import Columns
from caption.encoders import EncoderSource
from caption.table import CaptionSet
from synth.errors import UserError
from train.stream import ordering, processes
from train.stream.batches import Batch
from train.stream.cache import Cache, Fetcher, Needed, Remote, require_present, require_room
from train.stream.captioned_sets import CaptionedSet
from train.stream.groups import Groups
from train.stream.latent_tables import LatentSet
from train.stream.live import NUMBERS, LiveSet
from train.stream.order import Order
from train.stream.reader import Reader, Slice
from train.stream.sources import Sources
from train.stream.visits import Visit


class Stream:
    """The batches of sets that are read as one, from any number of images seen.

    `shares` are those of the live sets, then of the stored ones. `encoder` embeds drawn pictures and their
    texts. Raises UserError if a set's tables belong to other shards, or if a set beside live ones is not on
    this machine."""

    def __init__(
        self,
        sets: Sequence[CaptionedSet],
        visit: Visit,
        *,
        cache: Cache,
        fraction: float = 1.0,
        latents: Sequence[LatentSet] = (),
        live: Sequence[LiveSet] = (),
        shares: Sequence[float] = (),
        encoder: EncoderSource | None = None,
    ) -> None:
        # Tables that fit.
        for shards, captions in sets:
            if captions:
                captions.require_made_for(shards)
        caption_sets = [captions for _, captions in sets if captions]
        for captions in caption_sets if visit.text.captions and visit.wanted.vectors else ():
            captions.read(captions.parts[0], [visit.text.column])  # raises if the tables have none
        columns = [_blended(visit, tables) for tables in caption_sets for _ in tables.parts]

        self._visit, self._sets, self.position = visit, sets, 0
        self.order = ordering.positions(
            sets, live, visit.wanted, shares=shares, seed=visit.seed, fraction=fraction
        )

        # Files.
        tars = [file for shards, _ in sets for file in _files(shards.storage.url, shards.manifest)]
        tables = [file for each in caption_sets for file in _files(each.place.url, each.manifest)]
        coded = [file for each in latents for file in _files(each.storage.url, each.manifest)]
        firsts = [len(live) * NUMBERS + first for first in _firsts(sets)]
        firsts += [number * NUMBERS for number in range(len(live))]
        self._sources = Sources(cache, tars, tables, firsts, columns, coded, live, encoder)

    def batches(
        self,
        start: int,
        batch: int,
        *,
        rank: int = 0,
        ranks: int = 1,
        workers: int = 0,
        stopped: Callable[[], bool] = lambda: False,
    ) -> Generator[Batch, None, None]:
        """Yields this rank's part of every global batch from `start` images seen on.

        Ends only if `stopped` returns True while a batch is awaited. Raises UserError if a file is damaged,
        or a reader process has ended."""
        # Positions of this rank. A thread must not wait for a file that will not be fetched.
        ended = None if workers else threading.Event()
        sources = self._sources._replace(cache=replace(self._sources.cache, ended=ended))
        part = Slice(self.order, rank * batch // ranks, batch // ranks)
        self.position = start
        read = Reader(sources, self._visit, part)
        coming = processes.ahead(read, itertools.count(start, batch), workers, stopped)

        # Batches.
        try:
            for arrays in coming:
                yield arrays.batch()
                self.position += batch
        finally:
            if ended:
                ended.set()
            coming.close()

    def require_whole(self) -> None:
        """Raises UserError if a file is missing or cut, or a sample lacks a caption that `text` requires."""
        require_present((*self._sources.tars, *self._sources.tables, *self._sources.latents))
        if self._visit.text.required and (self._visit.wanted.vectors or self._visit.wanted.tokenise):
            self._require_captions()

    def _require_captions(self) -> None:
        """Raises UserError if a sample of an epoch has no caption, and names one."""
        missing, shown, example, shard = 0, 0, "", 0
        for captions in [captions for _, captions in self._sets if captions]:
            names = self._visit.text.required_columns(captions)
            for part in captions.parts:
                # Samples without a caption among those that are shown.
                table = captions.read(part, ["key", *names])
                lists = [table[name].combine_chunks().value_lengths() for name in names]
                counts = np.min([lengths.to_numpy(zero_copy_only=False) for lengths in lists], axis=0)
                rows = self.order.rows(shard)
                bare = rows[counts[rows] == 0]
                missing, shown, shard = missing + len(bare), shown + len(rows), shard + 1
                if len(bare) and not example:
                    example = f"{table['key'][int(bare[0])]} of {self._sources.tars[shard - 1].name}"
        if missing:
            problem = f"{missing:,} of {shown:,} samples have no caption, such as {example}"
            raise UserError(f"{problem}; give --text mix:1, which gives them a pseudo-caption")

    def fetcher(self, start: int, end: int, batch: int, limit: int) -> Fetcher | None:
        """Returns the thread that fetches these sets' files for a node, for batches from `start` images seen
        on.

        Returns None if all files are local. Raises UserError if the files of a batch before `end` images seen
        exceed `limit` bytes."""
        sources = self._sources
        if not any("://" in file.url for file in (*sources.tars, *sources.tables, *sources.latents)):
            return None
        before_end = itertools.takewhile(lambda block: block.position < end, self._needed(start))
        require_room(before_end, limit, batch)
        self._sources.cache.forget_failures()
        return Fetcher(self._sources.cache, self._needed(start), limit, lambda: self.position)

    def _needed(self, start: int) -> Iterator[Needed]:
        """Yields the remote files of the blocks from a position on."""
        # A mixture has local files alone.
        assert isinstance(self.order, Order | Groups)
        sources = self._sources
        kinds = [files for files in (sources.tables, sources.latents, sources.tars) if files]
        for position, shards in self.order.shards(start):
            block = [files[shard] for shard in shards for files in kinds]
            yield Needed(position, [file for file in block if "://" in file.url])


def _blended(visit: Visit, tables: CaptionSet) -> tuple[Columns, Columns]:
    """Returns the columns of vectors and of texts that visits blend. Raises UserError if the tables have
    none."""
    blend, none = visit.text.blend, Columns("", "")
    embedded = blend.columns(tables, vectors=True) if blend and visit.wanted.vectors else none
    words = blend.columns(tables, vectors=False) if blend and visit.wanted.tokenise else none
    return embedded, words


def _firsts(sets: Sequence[CaptionedSet]) -> list[int]:
    """Returns the number of each shard's first sample: its index in its set, after all earlier sets."""
    offsets = itertools.accumulate((len(shards) for shards, _ in sets), initial=0)
    pairs = zip(offsets, sets, strict=False)
    return [offset + shard.first for offset, (shards, _) in pairs for shard in shards.shards]


def _files(url: str, manifest: dict[str, Any]) -> list[Remote]:
    return [Remote(url, p["file"], p["sha256"], p["bytes"]) for p in manifest["parts"]]
