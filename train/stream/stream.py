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
from synth.sets.damage import UnreadableError, judged
from synth.sets.shards import MappedShard
from synth.sets.storage import reading
from train.model import Wanted
from train.models.randomness import mixed
from train.stream.cache import Cache, Fetcher, Needed, Remote, require_room
from train.stream.captioned_sets import CaptionedSet
from train.stream.order import BLOCK, Order, Place

T = TypeVar("T")

_OPEN = 2 * BLOCK  # shards that a reader keeps mapped
_VIEWS, _MIRROR = 7, 8  # uses of random numbers: augmented views, mirrored pictures


@dataclass(frozen=True)
class Text:
    """The choice of the vector for a picture's text at a visit."""

    captions: float = 0.0  # share of visits that get a caption's embedding; the others get a pseudo-caption
    stored: bool = False  # pseudo-captions are the stored ones, not fresh
    required: bool = False  # a picture without a caption is an error

    @classmethod
    def parse(cls, text: str) -> Self:
        """Returns the choice for pseudo, stored, caption or mix:SHARE. Raises UserError for other texts."""
        # Names.
        named = {"pseudo": cls(), "stored": cls(stored=True), "caption": cls(captions=1.0, required=True)}
        if text in named:
            return named[text]

        # A share.
        try:
            share = float(text.removeprefix("mix:")) if text.startswith("mix:") else 2.0
        except ValueError:
            share = 2.0
        if not 0 <= share <= 1:
            allowed = "pseudo, stored, caption or mix:SHARE with a share of captions from 0 to 1"
            raise UserError(f"--text is {text!r}; give {allowed}")
        return cls(captions=share)


@dataclass(frozen=True)
class Visit:
    """The settings of a visit: one use of a sample in one epoch."""

    resolution: int
    seed: int
    text: Text
    xi: float  # of pseudo-captions, equation 3
    caption_xi: float  # of captions
    wanted: Wanted
    mirror: bool = False  # half of the visits see the picture mirrored


class Batch(NamedTuple):
    """A rank's part of a global batch."""

    pictures: torch.Tensor  # uint8 (N, V, 3, R, R)
    # The model's draws of a caption vector, by name: float32 (N, D) each, unit length.
    vectors: dict[str, torch.Tensor]


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
        # Tables that fit.
        for shards, captions in sets:
            if captions:
                captions.require_made_for(shards)
        caption_sets = [captions for _, captions in sets if captions]
        for captions in caption_sets if visit.text.captions else ():
            captions.read(captions.parts[0], ["text_embedding"])  # raises if the tables have none

        # Order.
        if not 0 < fraction <= 1:
            raise UserError(f"--fraction is {fraction:g}; it must be above 0 and at most 1")
        self._visit, self.position = visit, 0
        counts = [shard.count for shards, _ in sets for shard in shards.shards]
        self.order = Order(counts, visit.seed, fraction=fraction)

        # Files.
        tars = [file for shards, _ in sets for file in _files(shards.storage.url, shards.manifest)]
        tables = [file for each in caption_sets for file in _files(each.storage.url, each.manifest)]
        self._sources = StreamFiles(cache, tars, tables, _firsts(sets))

    def batches(
        self, start: int, batch: int, *, rank: int = 0, ranks: int = 1, workers: int = 0
    ) -> Generator[Batch, None, None]:
        """Yields this rank's part of every global batch from `start` images seen on, without end.

        Raises UserError if a file is damaged."""
        # Loader.
        ended = multiprocessing.get_context("spawn").Event() if workers else None
        sources = self._sources._replace(cache=replace(self._sources.cache, ended=ended))
        loader = DataLoader(
            Reader(sources, self._visit),
            batch_sampler=_Slices(self.order, start, batch, rank, ranks),
            collate_fn=_as_it_is,  # type: ignore[arg-type]
            num_workers=workers,
            multiprocessing_context="spawn" if workers else None,
            worker_init_fn=_begin_worker if workers else None,
            pin_memory=torch.cuda.is_available(),
        )

        # Workers.
        self.position = start
        others = multiprocessing.active_children()
        with _signals_kept_from_workers():
            iterator = iter(loader)
        coming = _ahead(iterator) if workers else iterator

        # Batches.
        try:
            for batch_or_failure in coming:
                if isinstance(batch_or_failure, Failure):
                    raise UserError(batch_or_failure.sentence)
                yield batch_or_failure
                self.position += batch
        finally:
            # A worker must not wait for a file that will not be fetched.
            if ended and isinstance(coming, Generator):
                ended.set()
                coming.close()

            # The loader asks its workers to end, but a worker that still starts does not see the request.
            del iterator, coming
            for worker in multiprocessing.active_children():
                if worker not in others:
                    worker.kill()

    def fetcher(self, start: int, limit: int) -> Fetcher | None:
        """Returns the thread that fetches these sets' files for a node, from `start` images seen on.

        Returns None if all files are local. Raises UserError if the files of a block exceed `limit` bytes."""
        if not any("://" in file.url for file in (*self._sources.tars, *self._sources.tables)):
            return None
        require_room(self._needed(start), limit, -(-len(self._sources.tars) // BLOCK))
        self._sources.cache.forget_failures()
        return Fetcher(self._sources.cache, self._needed(start), limit, lambda: self.position)

    def _needed(self, start: int) -> Iterator[Needed]:
        """Yields the remote files of the blocks from a position on."""
        kinds = [files for files in (self._sources.tables, self._sources.tars) if files]
        for position, shards in self.order.shards(start):
            block = [files[shard] for shard in shards for files in kinds]
            yield Needed(position, [file for file in block if "://" in file.url])


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
        names = self._visit.wanted.vectors
        try:
            opened = [self._open(place.shard) for place in places]
            pictures = torch.from_numpy(self._pictures(places, opened))
            vectors = {n: torch.from_numpy(self._vectors(places, opened, k)) for k, n in enumerate(names)}
        except UnreadableError as error:
            return Failure(str(self._judged(error)))
        except UserError as error:
            return Failure(str(error))
        return Batch(pictures, vectors)

    def _judged(self, error: UnreadableError) -> UserError:
        """Returns the error about a file that does not parse, by its checksum."""
        file = next(f for f in (*self._sources.tars, *self._sources.tables) if f.name == error.name)
        with reading(file.name), open(self._sources.cache.path(file), "rb") as content:
            return judged(
                error, content, file.sha256, "remove it and give the command that made the set again"
            )

    def _pictures(self, places: Sequence[Place], opened: Sequence["_Opened"]) -> np.ndarray:
        """Returns pictures uint8 (N, V, 3, R, R). Grey ones get three channels."""
        side, wanted = self._visit.resolution, self._visit.wanted
        planes = np.empty((len(places), wanted.views, 3, side, side), np.uint8)
        for views, place, shard in zip(planes, places, opened, strict=True):
            picture = shard.tar.picture(place.row, side)  # (R, R, 3)
            if self._visit.mirror and self._mirrored(place, shard):
                picture = np.ascontiguousarray(picture[:, ::-1])
            for v in range(wanted.views):
                view = self._augmented(picture, place, shard, v) if wanted.augment else picture
                views[v] = view.transpose(2, 0, 1)
        return planes

    def _mirrored(self, place: Place, shard: "_Opened") -> bool:
        """Returns True for half of the visits, by random numbers of (seed, index, epoch).

        The text of a mirrored picture stays that of the picture in the shard."""
        return mixed(self._visit.seed, _MIRROR, place.epoch, shard.first + place.row) >= 1 << 63

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
        # A caption, or the picture's embedding.
        visit = self._visit
        draws = functools.partial(
            _by_visit, seed=visit.seed, places=places, opened=opened, k=k, of=len(visit.wanted.vectors)
        )
        chances = draws(pseudo.uniform, count=2) if visit.text.captions else np.ones((len(places), 2))
        if visit.text.captions and visit.wanted.one_caption:
            chances[:, 1] = draws(pseudo.uniform, k=0, count=2)[:, 1]
        chosen = [self._chosen(p, o, *c) for p, o, c in zip(places, opened, chances.tolist(), strict=True)]
        vectors = np.stack([vector for vector, _ in chosen]).astype(np.float32)  # (N, D)
        xi = np.array([[amount] for _, amount in chosen], np.float32)  # (N, 1)

        # Noise, by the paper's equation 3.
        eps = draws(pseudo.noise, count=vectors.shape[1]) if xi.any() else np.ones_like(vectors)
        return np.asarray(pseudo.pseudo_caption(vectors, eps, xi))

    def _chosen(
        self, place: Place, shard: "_Opened", chance: float, which: float
    ) -> tuple[np.ndarray, float]:
        """Returns the vector (D,) of a visit, and its amount of noise.

        Raises UserError if a required caption is missing."""
        # One of the sample's captions.
        text = self._visit.text
        captions = shard.texts[place.row] if chance < text.captions else ()
        if len(captions):
            return captions[int(which * len(captions))], self._visit.caption_xi
        if text.required:
            key, file = shard.tar.keys[place.row], self._sources.tars[place.shard].name
            problem = f"sample {key} of {file} has no caption"
            raise UserError(f"{problem}; --text mix:0.5 gives such samples a pseudo-caption")

        # The stored pseudo-caption, or the picture's embedding with fresh noise.
        return (shard.stored[place.row], 0.0) if text.stored else (shard.image[place.row], self._visit.xi)

    def _opened(self, shard: int) -> "_Opened":
        """Returns a shard with the columns of its table that visits read."""
        # Pictures.
        sources, text = self._sources, self._visit.text
        tar = MappedShard(sources.cache.path(sources.tars[shard]), sources.tars[shard].name)
        if not self._visit.wanted.vectors:
            return _Opened(tar, sources.firsts[shard], np.empty((0, 0)), np.empty((0, 0)), [])

        # Text vectors.
        file = sources.tables[shard]
        optional = {"pseudo_caption": text.stored, "text_embedding": text.captions}
        names = ["image_embedding", *(name for name, needed in optional.items() if needed)]
        columns = read_table(sources.cache.path(file), file.name, names, tar.keys)
        width = columns["image_embedding"].type.list_size
        image = vectors(columns["image_embedding"], width)
        stored = vectors(columns["pseudo_caption"], width) if text.stored else image
        texts = text_vectors(columns["text_embedding"], width) if text.captions else []
        return _Opened(tar, sources.firsts[shard], image, stored, texts)


class _Opened(NamedTuple):
    """A mapped shard and the vectors of its samples."""

    tar: MappedShard
    first: int  # number of its first sample among those of all sets
    image: np.ndarray  # float16 (samples, D)
    stored: np.ndarray  # float16 (samples, D)
    texts: Sequence[np.ndarray]  # float16 (captions, D) per sample


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
    """Returns the random numbers (N, count) of draw `k` out of `of` draws per visit.

    Draws the visits of an epoch together."""
    visits = [(place.epoch, shard.first + place.row) for place, shard in zip(places, opened, strict=True)]
    epochs = itertools.groupby(visits, key=lambda visit: visit[0])
    return np.concatenate(
        [draw(seed, [index for _, index in part], 1 + of * epoch + k, count) for epoch, part in epochs]
    )


def _firsts(sets: Sequence[CaptionedSet]) -> list[int]:
    """Returns the number of each shard's first sample: its index in its set, after all earlier sets."""
    offsets = itertools.accumulate((len(shards) for shards, _ in sets), initial=0)
    pairs = zip(offsets, sets, strict=False)
    return [offset + shard.first for offset, (shards, _) in pairs for shard in shards.shards]


def _files(url: str, manifest: dict[str, Any]) -> list[Remote]:
    return [Remote(url, p["file"], p["sha256"], p["bytes"]) for p in manifest["parts"]]


def _ahead(items: Iterator[T]) -> Generator[T]:
    """Yields the same items without end. A thread fetches one item ahead.

    It is little work to receive an item from a worker, but it takes milliseconds of waiting."""
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
    """Blocks SIGTERM and SIGINT within the `with` block.

    Workers that start within it inherit this. Signals to this process are delayed."""
    # Python starts its resource tracker with the first worker, and that would unblock the signals.
    resource_tracker.ensure_running()
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
