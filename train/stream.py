"""Shards and caption tables -> batches.

The sequence of batches is a pure function of (seed, images seen): train/order.py says which sample stands where, and what is random about
a visit (noise, the choice of a caption) follows from (seed, index, epoch). Loader workers map local files and decode; their number, and the
number of ranks, change nothing.

Axes: N samples of a rank's batch, D dimensions of an embedding, R resolution.
"""

import functools
import itertools
import multiprocessing
import signal
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import resource_tracker
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from caption import pseudo
from caption.table import CaptionSet, read_table, text_vectors, vectors
from synth.errors import UserError
from synth.shards import MappedShard, ShardSet
from train.cache import Cache, Fetcher, Needed, Remote, require_room
from train.order import BLOCK, Order, Place

_OPEN = 2 * BLOCK  # shards that a reader keeps mapped


@dataclass(frozen=True)
class Text:
    """Which vector stands for a picture's text at a visit."""

    captions: float = 0.0  # share of visits that get a caption's embedding; the others get a pseudo-caption
    stored: bool = False  # pseudo-captions are the stored ones, not fresh
    required: bool = False  # a picture without a caption is an error

    @classmethod
    def parse(cls, text: str) -> Self:
        """From pseudo, stored, caption or mix:SHARE. Raises UserError for anything else."""
        named = {"pseudo": cls(), "stored": cls(stored=True), "caption": cls(captions=1.0, required=True)}
        try:
            share = float(text.removeprefix("mix:")) if text.startswith("mix:") else 2.0
        except ValueError:
            share = 2.0
        if text not in named and not 0 <= share <= 1:
            raise UserError(f"--text is {text!r}; give pseudo, stored, caption or mix:SHARE with a share of captions from 0 to 1")
        return named.get(text) or cls(captions=share)


@dataclass(frozen=True)
class Visit:
    """What a visit of a sample is made of."""

    resolution: int
    seed: int
    text: Text
    xi: float  # of pseudo-captions, equation 3
    caption_xi: float  # of captions


class Batch(NamedTuple):
    """A rank's part of a global batch."""

    pictures: torch.Tensor  # uint8 (N, 3, R, R)
    for_d: torch.Tensor  # float32 (N, D), unit length: the texts of the discriminator's phase
    for_g: torch.Tensor  # and of the generator's


class Sources(NamedTuple):
    """Where the parts of a set come from; it travels to loader workers."""

    cache: Cache
    tars: Sequence[Remote]
    tables: Sequence[Remote]
    firsts: Sequence[int]  # index of each shard's first sample
    caption_url: str


class Stream:
    """The batches of a set, from any number of images seen. Raises UserError where shards and tables do not belong together."""

    def __init__(self, shards: ShardSet, captions: CaptionSet, visit: Visit, *, cache: Cache, fraction: float = 1.0) -> None:
        captions.require_made_for(shards)
        if not 0 < fraction <= 1:
            raise UserError(f"--fraction is {fraction:g}; it must be above 0 and at most 1")
        self._visit, self.dimensions, self.position = visit, captions.dimensions, 0
        self.order = Order([s.count for s in shards.shards], visit.seed, fraction=fraction)
        tars, tables = _files(shards.storage.url, shards.manifest), _files(captions.storage.url, captions.manifest)
        self._sources = Sources(cache, tars, tables, [s.first for s in shards.shards], captions.storage.url)
        if visit.text.captions:
            captions.read(captions.parts[0], ["text_embedding"])  # refuses tables that have none

    def batches(self, start: int, batch: int, *, rank: int = 0, ranks: int = 1, workers: int = 0) -> Generator[Batch, None, None]:
        """This rank's part of every global batch from `start` images seen on, without end. Raises UserError where a file is damaged."""
        loader = DataLoader(
            Reader(self._sources, self._visit),
            batch_sampler=_Slices(self.order, start, batch, rank, ranks),
            collate_fn=_as_it_is,  # type: ignore[arg-type]
            num_workers=workers,
            multiprocessing_context="spawn" if workers else None,
            worker_init_fn=_leave_signals_to_the_run if workers else None,
            pin_memory=torch.cuda.is_available(),
        )
        self.position = start
        others = multiprocessing.active_children()
        with _signals_kept_from_workers():
            iterator = iter(loader)
        try:
            for made in iterator:
                if isinstance(made, str):
                    raise UserError(made)
                yield made
                self.position += batch
        finally:
            del iterator  # asks the workers to end
            for worker in multiprocessing.active_children():
                if worker not in others:
                    worker.kill()  # one that waits for a file hears nothing

    def fetcher(self, start: int, limit: int) -> Fetcher | None:
        """The thread that fetches this set's files for a node, from `start` images seen on; none where they are local already.

        Raises UserError where the files of a block do not fit into `limit` bytes."""
        if not any("://" in files[0].url for files in (self._sources.tars, self._sources.tables)):
            return None
        require_room(self._needed(start), limit, -(-len(self._sources.tars) // BLOCK))
        self._sources.cache.forget_failures()
        return Fetcher(self._sources.cache, self._needed(start), limit, lambda: self.position)

    def _needed(self, start: int) -> Iterator[Needed]:
        """The remote files of the blocks from a position on."""
        for position, shards in self.order.shards(start):
            files = [f for s in shards for f in (self._sources.tables[s], self._sources.tars[s]) if "://" in f.url]
            yield Needed(position, files)


class Reader(Dataset):
    """Batches by the places of their samples, in whatever process it is."""

    def __init__(self, sources: Sources, visit: Visit) -> None:
        self._sources, self._visit = sources, visit
        self._open = functools.lru_cache(maxsize=_OPEN)(self._opened)

    def __getstate__(self) -> tuple[Sources, Visit]:
        return self._sources, self._visit

    def __setstate__(self, state: tuple[Sources, Visit]) -> None:
        self.__init__(*state)  # type: ignore[misc]

    def __getitems__(self, places: Sequence[Place]) -> Batch | str:
        """The samples of these places; the sentence of what is wrong with them, as a worker's error would lose its kind."""
        try:
            opened = [self._open(place.shard) for place in places]
            pictures = np.stack([o.tar.picture(p.row, self._visit.resolution) for o, p in zip(opened, places, strict=True)])
            for_d, for_g = (self._texts(places, opened, phase) for phase in (0, 1))
        except UserError as error:
            return str(error)
        planes = torch.from_numpy(pictures.transpose(0, 3, 1, 2).copy())  # N 3 R R
        return Batch(planes, torch.from_numpy(for_d), torch.from_numpy(for_g))

    def _texts(self, places: Sequence[Place], opened: Sequence["_Opened"], phase: int) -> np.ndarray:
        """The vectors that stand for the texts of a phase's visits: float32 (N, D)."""
        visit, texts = self._visit, []
        for place, shard in zip(places, opened, strict=True):
            index, draw = shard.first + place.row, 1 + 2 * place.epoch + phase
            chance, which = pseudo.uniform(visit.seed, [index], draw, 2)[0] if visit.text.captions else (1.0, 0.0)
            own = shard.texts[place.row] if chance < visit.text.captions else None
            if own is not None and not len(own) and visit.text.required:
                raise UserError(f"sample {shard.tar.keys[place.row]} has no caption; --text mix:0.5 gives such ones a pseudo-caption")
            if own is not None and len(own):
                vector, xi = own[int(which * len(own))], visit.caption_xi
            elif visit.text.stored:
                vector, xi = shard.stored[place.row], 0.0
            else:
                vector, xi = shard.image[place.row], visit.xi
            eps = pseudo.noise(visit.seed, [index], draw, len(vector)) if xi else np.ones((1, len(vector)), np.float32)
            texts.append(pseudo.pseudo_caption(vector[None].astype(np.float32), eps, xi)[0])
        return np.stack(texts)

    def _opened(self, shard: int) -> "_Opened":
        sources, table = self._sources, self._sources.tables[shard]
        tar = MappedShard(sources.cache.path(sources.tars[shard]), sources.tars[shard].name)
        columns = ["image_embedding", *(["pseudo_caption"] if self._visit.text.stored else [])]
        columns += ["text_embedding"] if self._visit.text.captions else []
        read = read_table(sources.cache.path(table), table.name, columns, tar.keys)
        width = read["image_embedding"].type.list_size
        image = vectors(read["image_embedding"], width)
        stored = vectors(read["pseudo_caption"], width) if self._visit.text.stored else image
        texts = text_vectors(read["text_embedding"], width) if self._visit.text.captions else []
        return _Opened(tar, sources.firsts[shard], image, stored, texts)


class _Opened(NamedTuple):
    tar: MappedShard
    first: int
    image: np.ndarray  # float16 (samples, D)
    stored: np.ndarray
    texts: Sequence[np.ndarray]


class _Slices:
    """The places of a rank's part of every global batch."""

    def __init__(self, order: Order, start: int, batch: int, rank: int, ranks: int) -> None:
        self._order, self._start, self._batch = order, start, batch
        self._offset, self._count = rank * batch // ranks, batch // ranks

    def __iter__(self) -> Iterator[list[Place]]:
        for start in itertools.count(self._start, self._batch):
            yield self._order.places(start + self._offset, self._count)


def _files(url: str, manifest: dict[str, Any]) -> list[Remote]:
    return [Remote(url, p["file"], p["sha256"], p["bytes"]) for p in manifest["parts"]]


def _as_it_is(made: Batch | str) -> Batch | str:
    return made


@contextmanager
def _signals_kept_from_workers() -> Iterator[None]:
    """Workers that start meanwhile inherit that signals are blocked; those that come to this process come a little later."""
    resource_tracker.ensure_running()  # whose start would unblock them
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGINT))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _leave_signals_to_the_run(_: int) -> None:
    """A loader worker that ended by itself on SIGTERM would take the run down before its checkpoint."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
