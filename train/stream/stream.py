"""Shards and caption tables, of one set or several -> batches.

The sequence of batches is a pure function of (seed, images seen). train/stream/order.py gives the order of
samples. The random parts of a visit (noise, the choice of a caption) follow from (seed, index, epoch). Loader
workers map local files and decode. Their number, and the number of ranks, change nothing.

Axes: N samples of a rank's batch, D dimensions of an embedding, R resolution.
"""

import atexit
import functools
import itertools
import multiprocessing
import os
import signal
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import resource_tracker
from typing import Any, NamedTuple, Self, TypeVar

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from caption import pseudo
from caption.table import read_table, text_vectors, vectors
from synth.errors import UserError
from synth.sets.shards import MappedShard
from train.model import Wanted
from train.stream.cache import Cache, Fetcher, Needed, Remote, require_room
from train.stream.captioned_sets import CaptionedSet
from train.stream.order import BLOCK, Order, Place

T = TypeVar("T")

_OPEN = 2 * BLOCK  # shards that a reader keeps mapped
_VIEWS = 7  # use of random numbers: augmented views


@dataclass(frozen=True)
class Text:
    """The choice of the vector for a picture's text at a visit."""

    captions: float = 0.0  # share of visits that get a caption's embedding; the others get a pseudo-caption
    stored: bool = False  # pseudo-captions are the stored ones, not fresh
    required: bool = False  # a picture without a caption is an error

    @classmethod
    def parse(cls, text: str) -> Self:
        """Returns the choice of pseudo, stored, caption or mix:SHARE. Raises UserError for anything else."""
        named = {"pseudo": cls(), "stored": cls(stored=True), "caption": cls(captions=1.0, required=True)}
        try:
            share = float(text.removeprefix("mix:")) if text.startswith("mix:") else 2.0
        except ValueError:
            share = 2.0
        if text not in named and not 0 <= share <= 1:
            raise UserError(
                f"--text is {text!r}; give pseudo, stored, caption or mix:SHARE with a share of captions from 0 to 1"
            )
        return named.get(text) or cls(captions=share)


@dataclass(frozen=True)
class Visit:
    """The law of a visit of a sample."""

    resolution: int
    seed: int
    text: Text
    xi: float  # of pseudo-captions, equation 3
    caption_xi: float  # of captions
    wanted: Wanted


class Batch(NamedTuple):
    """A rank's part of a global batch."""

    pictures: torch.Tensor  # uint8 (N, V, 3, R, R)
    vectors: dict[
        str, torch.Tensor
    ]  # float32 (N, D) each, unit length: the model's draws of a caption vector, by name


class Failure(NamedTuple):
    """The error of a batch, as a value: an exception changes its type on its way through the loader."""

    sentence: str  # of the UserError


class StreamFiles(NamedTuple):
    """The files of all sets. It is sent to loader workers."""

    cache: Cache
    tars: Sequence[Remote]
    tables: Sequence[Remote]
    firsts: Sequence[int]  # number of each shard's first sample among those of all sets


class Stream:
    """The batches of sets that are read as one, from any number of images seen.

    Raises UserError if a set's tables belong to other shards."""

    def __init__(
        self, sets: Sequence[CaptionedSet], visit: Visit, *, cache: Cache, fraction: float = 1.0
    ) -> None:
        for shards, captions in sets:
            if captions:
                captions.require_made_for(shards)
        if not 0 < fraction <= 1:
            raise UserError(f"--fraction is {fraction:g}; it must be above 0 and at most 1")
        self._visit, self.position = visit, 0
        self.order = Order(
            [shard.count for shards, _ in sets for shard in shards.shards], visit.seed, fraction=fraction
        )
        tars = [file for shards, _ in sets for file in _files(shards.storage.url, shards.manifest)]
        tables = [
            file
            for _, captions in sets
            if captions
            for file in _files(captions.storage.url, captions.manifest)
        ]
        self._sources = StreamFiles(cache, tars, tables, _firsts(sets))
        for _, captions in sets if visit.text.captions else ():
            if captions:
                captions.read(captions.parts[0], ["text_embedding"])  # raises if the tables have none

    def batches(
        self, start: int, batch: int, *, rank: int = 0, ranks: int = 1, workers: int = 0
    ) -> Generator[Batch, None, None]:
        """Yields this rank's part of every global batch from `start` images seen on, without end.

        Raises UserError if a file is damaged."""
        ended = multiprocessing.get_context("spawn").Event() if workers else None
        loader = DataLoader(
            Reader(self._sources._replace(cache=replace(self._sources.cache, ended=ended)), self._visit),
            batch_sampler=_Slices(self.order, start, batch, rank, ranks),
            collate_fn=_as_it_is,  # type: ignore[arg-type]
            num_workers=workers,
            multiprocessing_context="spawn" if workers else None,
            worker_init_fn=_begin_worker if workers else None,
            pin_memory=torch.cuda.is_available(),
        )
        self.position = start
        others = multiprocessing.active_children()
        with _signals_kept_from_workers():
            iterator = iter(loader)
        coming = _ahead(iterator) if workers else iterator
        try:
            for batch_or_failure in coming:
                if isinstance(batch_or_failure, Failure):
                    raise UserError(batch_or_failure.sentence)
                yield batch_or_failure
                self.position += batch
        finally:
            if ended and isinstance(coming, Generator):
                ended.set()  # so that no worker waits for a file that will not be fetched
                coming.close()
            del iterator, coming  # asks the workers to end
            for worker in multiprocessing.active_children():
                if worker not in others:
                    worker.kill()  # a starting worker does not see the request

    def fetcher(self, start: int, limit: int) -> Fetcher | None:
        """Returns the thread that fetches these sets' files for a node, from `start` images seen on.

        Returns None if all are local. Raises UserError if the files of a block do not fit into `limit`
        bytes."""
        if not any("://" in file.url for file in (*self._sources.tars, *self._sources.tables)):
            return None
        require_room(self._needed(start), limit, -(-len(self._sources.tars) // BLOCK))
        self._sources.cache.forget_failures()
        return Fetcher(self._sources.cache, self._needed(start), limit, lambda: self.position)

    def _needed(self, start: int) -> Iterator[Needed]:
        """Yields the remote files of the blocks from a position on."""
        for position, shards in self.order.shards(start):
            files = [
                files[s] for s in shards for files in (self._sources.tables, self._sources.tars) if files
            ]
            files = [file for file in files if "://" in file.url]
            yield Needed(position, files)


class Reader(Dataset):
    """Batches by the places of their samples, in any process."""

    def __init__(self, sources: StreamFiles, visit: Visit) -> None:
        self._sources, self._visit = sources, visit
        self._open = functools.lru_cache(maxsize=_OPEN)(self._opened)

    def __getstate__(self) -> tuple[StreamFiles, Visit]:
        return self._sources, self._visit

    def __setstate__(self, state: tuple[StreamFiles, Visit]) -> None:
        self.__init__(*state)  # type: ignore[misc]

    def __getitems__(self, places: Sequence[Place]) -> Batch | Failure:
        """Returns the batch of these places, or its failure."""
        try:
            opened = [self._open(place.shard) for place in places]
            pictures = torch.from_numpy(self._pictures(places, opened))
            vectors = {
                name: torch.from_numpy(self._vectors(places, opened, k))
                for k, name in enumerate(self._visit.wanted.vectors)
            }
        except UserError as error:
            return Failure(str(error))
        return Batch(pictures, vectors)

    def _pictures(self, places: Sequence[Place], opened: Sequence["_Opened"]) -> np.ndarray:
        """Returns pictures uint8 (N, V, 3, R, R). Grey ones get three channels."""
        side, wanted = self._visit.resolution, self._visit.wanted
        planes = np.empty((len(places), wanted.views, 3, side, side), np.uint8)
        for views, place, shard in zip(planes, places, opened, strict=True):
            picture = shard.tar.picture(place.row, side)
            for v in range(wanted.views):
                views[v] = (
                    self._augmented(picture, place, shard, v) if wanted.augment else picture
                ).transpose(2, 0, 1)
        return planes

    def _augmented(self, picture: np.ndarray, place: Place, shard: "_Opened", view: int) -> np.ndarray:
        """Returns a view of a picture, by random numbers of (seed, index, epoch, view)."""
        assert self._visit.wanted.augment is not None
        index = shard.first + place.row
        stream = np.random.Philox(
            key=np.array([self._visit.seed, _VIEWS], np.uint64),
            counter=np.array([0, view, place.epoch, index], np.uint64),
        )
        return self._visit.wanted.augment(picture, np.random.Generator(stream))

    def _vectors(self, places: Sequence[Place], opened: Sequence["_Opened"], k: int) -> np.ndarray:
        """Returns the k-th draws of the text vectors of the visits: float32 (N, D)."""
        visit = self._visit
        draws = functools.partial(
            _by_visit, seed=visit.seed, places=places, opened=opened, k=k, of=len(visit.wanted.vectors)
        )
        chances = draws(pseudo.uniform, count=2) if visit.text.captions else np.ones((len(places), 2))
        chosen = [self._chosen(p, o, *c) for p, o, c in zip(places, opened, chances.tolist(), strict=True)]
        vectors, xi = (
            np.stack([v for v, _ in chosen]).astype(np.float32),
            np.array([[x] for _, x in chosen], np.float32),
        )
        eps = draws(pseudo.noise, count=vectors.shape[1]) if xi.any() else np.ones_like(vectors)
        return np.asarray(pseudo.pseudo_caption(vectors, eps, xi))

    def _chosen(
        self, place: Place, shard: "_Opened", chance: float, which: float
    ) -> tuple[np.ndarray, float]:
        """Returns the vector (D,) of a visit, and its amount of noise.

        Raises UserError if a required caption is missing."""
        text = self._visit.text
        own = shard.texts[place.row] if chance < text.captions else ()
        if len(own):
            return own[int(which * len(own))], self._visit.caption_xi
        if text.required:
            name = self._sources.tars[place.shard].name
            raise UserError(
                f"sample {shard.tar.keys[place.row]} of {name} has no caption; --text mix:0.5 gives such ones a pseudo-caption"
            )
        return (shard.stored[place.row], 0.0) if text.stored else (shard.image[place.row], self._visit.xi)

    def _opened(self, shard: int) -> "_Opened":
        sources, text = self._sources, self._visit.text
        tar = MappedShard(sources.cache.path(sources.tars[shard]), sources.tars[shard].name)
        if not self._visit.wanted.vectors:
            return _Opened(tar, sources.firsts[shard], np.empty((0, 0)), np.empty((0, 0)), [])
        table = sources.tables[shard]
        columns = [
            "image_embedding",
            *(["pseudo_caption"] if text.stored else []),
            *(["text_embedding"] if text.captions else []),
        ]
        read = read_table(sources.cache.path(table), table.name, columns, tar.keys)
        width = read["image_embedding"].type.list_size
        image = vectors(read["image_embedding"], width)
        stored = vectors(read["pseudo_caption"], width) if text.stored else image
        texts = text_vectors(read["text_embedding"], width) if text.captions else []
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


def _by_visit(
    draw: Callable[[int, list[int], int, int], np.ndarray],
    *,
    seed: int,
    places: Sequence[Place],
    opened: Sequence[_Opened],
    k: int,
    of: int,
    count: int,
) -> np.ndarray:
    """Returns random numbers (N, count) of the k-th `of` draws of these visits.

    Draws those of an epoch together."""
    visits = [(place.epoch, shard.first + place.row) for place, shard in zip(places, opened, strict=True)]
    epochs = itertools.groupby(visits, key=lambda visit: visit[0])
    return np.concatenate(
        [draw(seed, [index for _, index in part], 1 + of * epoch + k, count) for epoch, part in epochs]
    )


def _firsts(sets: Sequence[CaptionedSet]) -> list[int]:
    """Returns the number of each shard's first sample: its index in its set, after all earlier sets."""
    before = itertools.accumulate((len(shards) for shards, _ in sets), initial=0)
    return [
        offset + shard.first
        for offset, (shards, _) in zip(before, sets, strict=False)
        for shard in shards.shards
    ]


def _files(url: str, manifest: dict[str, Any]) -> list[Remote]:
    return [Remote(url, p["file"], p["sha256"], p["bytes"]) for p in manifest["parts"]]


def _ahead(items: Iterator[T]) -> Generator[T]:
    """Yields the same items without end, one ahead in a thread.

    Receiving an item from a worker is little work, but takes milliseconds of waiting."""
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, items)
        while True:
            item = coming.result()
            coming = pool.submit(next, items)
            yield item


def _as_it_is(batch: Batch | Failure) -> Batch | Failure:
    return batch


@contextmanager
def _signals_kept_from_workers() -> Iterator[None]:
    """Blocks signals within the block.

    Workers that start there inherit this; signals to this process are delayed."""
    resource_tracker.ensure_running()  # its start would unblock them
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGINT))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin_worker(_: int) -> None:
    """Leaves signals to the run, and lets the worker exit without unloading libraries.

    A worker that ended by itself on SIGTERM would end the run before its checkpoint. Unloading libraries
    sometimes aborts a process, because of their threads."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    atexit.register(os._exit, 0)
    torch.set_num_threads(1)
