"""Shards, caption tables and tables of latents, of one set or several -> batches.

The sequence of batches is a pure function of (seed, images seen). train/stream/ordering.py gives the order of
samples. The random parts of a visit (noise, the choice of a caption) follow from (seed, index, epoch). Reader
processes map local files and decode. Their number, and the number of ranks, change nothing.

Axes: N samples of a rank's batch, D dimensions of an embedding, R resolution.
"""

import functools
import itertools
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Self

import numpy as np
import torch

from caption import blending, pseudo
from caption.blending import Blend, Chances, Columns
from caption.encoders import EncoderSource
from caption.sentences import names
from caption.sentences.attributes import sentences
from caption.table import CaptionSet, read_table, text_vectors, vectors
from synth.errors import UserError
from synth.images.codecs import rgb
from synth.sets.damage import UnreadableError, judged
from synth.sets.shards import MappedShard
from synth.sets.storage import reading
from train.model import Wanted
from train.models.randomness import mixed
from train.stream import ordering, readers
from train.stream.cache import Cache, Fetcher, Needed, Remote, require_present, require_room
from train.stream.captioned_sets import CaptionedSet, Kind
from train.stream.embedding import Embedder
from train.stream.groups import Groups
from train.stream.latent_tables import LATENT, LatentSet
from train.stream.live import NUMBERS, LiveSample, LiveSet, LiveShard
from train.stream.mixture import Positions
from train.stream.order import BLOCK, Order, Place

Json = dict[str, Any]

_OPEN = 2 * BLOCK  # shards that a reader keeps mapped
_VIEWS, _MIRROR = 7, 8  # uses of random numbers: augmented views, mirrored pictures


@dataclass(frozen=True)
class Text:
    """The choice of the vector for a picture's text at a visit."""

    captions: float = 0.0  # share of visits that get a caption's embedding; the others get a pseudo-caption
    stored: bool = False  # pseudo-captions are the stored ones, not fresh
    required: bool = False  # a picture without a caption is an error
    synthetic: bool = False  # captions are those of a captioner
    blend: Blend | None = None  # every visit gets a synthetic caption or the ground truth

    @classmethod
    def parse(cls, text: str) -> Self:
        """Returns the choice for pseudo, stored, caption, synthetic, mix:SHARE or blend:SHARE.

        Raises UserError for other texts."""
        # Names.
        named = {
            "pseudo": cls(),
            "stored": cls(stored=True),
            "caption": cls(captions=1.0, required=True),
            "synthetic": cls(captions=1.0, required=True, synthetic=True),
        }
        if text in named:
            return named[text]

        # A share.
        if text.startswith(blending.START):
            return cls(required=True, blend=Blend.parse(text))
        try:
            share = float(text.removeprefix("mix:")) if text.startswith("mix:") else 2.0
        except ValueError:
            share = 2.0
        if not 0 <= share <= 1:
            allowed = "pseudo, stored, caption, synthetic, mix:SHARE or blend:SHARE with a SHARE of 0 to 1"
            raise UserError(f"--text is {text!r}; give {allowed}")
        return cls(captions=share)

    @property
    def column(self) -> str:
        """The column of the captions' vectors."""
        return "synthetic_embedding" if self.synthetic else "text_embedding"

    @property
    def kind(self) -> Kind:
        """The kind of tables that have its vectors."""
        if self.blend:
            return "blend"
        return "synthetic" if self.synthetic else "plain"

    def of_formula(self, sample: Json) -> list[str]:
        """Returns the texts of `required_columns` for a drawn picture, from its JSON."""
        share = self.blend.share if self.blend else 1.0
        return [*(sentences(sample) if share > 0 else ()), *([names.name(sample)] if share < 1 else ())]

    def required_columns(self, tables: CaptionSet) -> list[str]:
        """Returns the columns of a set's tables in which every sample must have a text."""
        if self.blend:
            return [name for name in self.blend.columns(tables, vectors=False) if name]
        return ["synthetic_caption" if self.synthetic else "caption"]


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

    pictures: torch.Tensor  # uint8 (N, V, 3, R, R), or latents float16 (N, 1, K, S, S)
    # The model's draws of a caption vector, by name: float32 (N, D) each, unit length.
    vectors: dict[str, torch.Tensor]
    tokens: torch.Tensor | None = None  # int64 (N, T), 0 behind the end of a caption
    embedding: float = 0.0  # CPU seconds of the vectors of drawn pictures
    labels: torch.Tensor | None = None  # int64 (N,) of samples in groups


class Arrays(NamedTuple):
    """A batch on its way from a reader process."""

    pictures: np.ndarray  # uint8 (N, V, 3, R, R), or latents float16 (N, 1, K, S, S)
    vectors: dict[str, np.ndarray]  # float32 (N, D) each
    tokens: np.ndarray | None = None  # int64 (N, T)
    embedding: float = 0.0  # CPU seconds of the vectors of drawn pictures
    labels: np.ndarray | None = None  # int64 (N,) of samples in groups

    def batch(self) -> Batch:
        """Returns the batch as tensors, in pinned memory if there is a GPU."""
        pictures, vectors = torch.from_numpy(self.pictures), _tensors(self.vectors)
        tokens, labels = (None if x is None else torch.from_numpy(x) for x in (self.tokens, self.labels))
        if not torch.cuda.is_available():
            return Batch(pictures, vectors, tokens, self.embedding, labels)
        pinned = {name: v.pin_memory() for name, v in vectors.items()}
        tokens, labels = (None if x is None else x.pin_memory() for x in (tokens, labels))
        return Batch(pictures.pin_memory(), pinned, tokens, self.embedding, labels)


class StreamFiles(NamedTuple):
    """The files of all sets, and the live sets. It is sent to reader processes."""

    cache: Cache
    tars: Sequence[Remote]
    tables: Sequence[Remote]
    # Number of each shard's first sample among those of all sets. Live sets are the last shards.
    firsts: Sequence[int]
    # Columns of vectors and of texts that visits of each shard blend. Empty: they blend none.
    columns: Sequence[tuple[Columns, Columns]] = ()
    latents: Sequence[Remote] = ()  # one for each shard, if the model reads latents
    live: Sequence[LiveSet] = ()
    encoder: EncoderSource | None = None  # of the vectors of live sets


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
        self._sources = StreamFiles(cache, tars, tables, firsts, columns, coded, live, encoder)

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
        coming = readers.ahead(read, itertools.count(start, batch), workers, stopped)

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

    def fetcher(self, start: int, limit: int) -> Fetcher | None:
        """Returns the thread that fetches these sets' files for a node, from `start` images seen on.

        Returns None if all files are local. Raises UserError if the files of a block exceed `limit` bytes."""
        sources = self._sources
        if not any("://" in file.url for file in (*sources.tars, *sources.tables, *sources.latents)):
            return None
        require_room(self._needed(start), limit, -(-len(self._sources.tars) // BLOCK))
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


class Slice(NamedTuple):
    """A rank's part of every global batch."""

    order: Positions
    offset: int
    samples: int

    def places(self, position: int) -> list[Place]:
        """Returns the places of the rank's samples in the batch at a position."""
        return self.order.places(position + self.offset, self.samples)


class Reader:
    """The batches of a rank by their positions, in any process."""

    def __init__(self, sources: StreamFiles, visit: Visit, part: Slice) -> None:
        self._sources, self._visit, self._part = sources, visit, part
        self._open = functools.lru_cache(maxsize=_OPEN)(self._opened)
        self._embedder = Embedder(sources.encoder) if sources.encoder else None

    def __getstate__(self) -> tuple[StreamFiles, Visit, Slice]:
        return self._sources, self._visit, self._part

    def __setstate__(self, state: tuple[StreamFiles, Visit, Slice]) -> None:
        self.__init__(*state)  # type: ignore[misc]

    def __call__(self, position: int) -> Arrays:
        """Returns the rank's part of the batch at a position. Raises UserError if a file is damaged."""
        places, names = self._part.places(position), self._visit.wanted.vectors
        try:
            opened = [self._open(place.shard) for place in places]
            vectors = {name: self._vectors(places, opened, k) for k, name in enumerate(names)}
            arrays = Arrays(self._pictures(places, opened), vectors, self._tokens(places, opened))
            if isinstance(self._part.order, Groups):
                arrays = arrays._replace(labels=np.array(list(map(self._part.order.label, places))))
            for shard in opened:
                shard.forget()
            return arrays._replace(embedding=self._embedder.forget()) if self._embedder else arrays
        except UnreadableError as error:
            raise UserError(str(self._judged(error))) from None

    def _judged(self, error: UnreadableError) -> UserError:
        """Returns the error about a file that does not parse, by its checksum."""
        sources = self._sources
        files = (*sources.tars, *sources.tables, *sources.latents)
        file = next(f for f in files if f.name == error.name)
        with reading(file.name), open(self._sources.cache.path(file), "rb") as content:
            return judged(
                error, content, file.sha256, "remove it and give the command that made the set again"
            )

    def _pictures(self, places: Sequence[Place], opened: Sequence["_Shard"]) -> np.ndarray:
        """Returns pictures uint8 (N, V, 3, R, R), or latents float16 (N, 1, K, S, S). Grey pictures get three
        channels."""
        if shape := self._visit.wanted.latents:
            pairs = zip(places, opened, strict=True)
            # Live sets have no latents.
            rows = [shard.latents[place.row] for place, shard in pairs if isinstance(shard, _Opened)]
            return np.stack(rows).reshape(-1, 1, *shape)
        side, wanted = self._visit.resolution, self._visit.wanted
        planes = np.empty((len(places), wanted.views, 3, side, side), np.uint8)
        for views, place, shard in zip(planes, places, opened, strict=True):
            picture = shard.picture(place.row, side)  # (R, R, 3)
            if self._visit.mirror and self._mirrored(place, shard):
                picture = np.ascontiguousarray(picture[:, ::-1])
            for v in range(wanted.views):
                view = self._augmented(picture, place, shard, v) if wanted.augment else picture
                views[v] = view.transpose(2, 0, 1)
        return planes

    def _mirrored(self, place: Place, shard: "_Shard") -> bool:
        """Returns True for half of the visits, by random numbers of (seed, index, epoch).

        The text of a mirrored picture stays that of the picture in the shard."""
        return mixed(self._visit.seed, _MIRROR, place.epoch, shard.first + place.row) >= 1 << 63

    def _augmented(self, picture: np.ndarray, place: Place, shard: "_Shard", view: int) -> np.ndarray:
        """Returns a view of a picture, by random numbers of (seed, index, epoch, view)."""
        assert self._visit.wanted.augment is not None
        index = shard.first + place.row
        stream = np.random.Philox(
            key=np.array([self._visit.seed, _VIEWS], np.uint64),
            counter=np.array([0, view, place.epoch, index], np.uint64),
        )
        return self._visit.wanted.augment(picture, np.random.Generator(stream))

    def _vectors(self, places: Sequence[Place], opened: Sequence["_Shard"], k: int) -> np.ndarray:
        """Returns the k-th draws of the text vectors of the visits: float32 (N, D)."""
        # A blend has one text for all draws of a visit.
        visit = self._visit
        if visit.text.blend:
            chosen = self._blended(visit.text.blend, places, opened)
            return self._noised(self._embedded(chosen), places, opened, k)

        # A caption, or the picture's embedding.
        draws = functools.partial(
            _by_visit, seed=visit.seed, places=places, opened=opened, k=k, of=len(visit.wanted.vectors)
        )
        chances = draws(pseudo.uniform, count=2) if visit.text.captions else np.ones((len(places), 2))
        if visit.text.captions and visit.wanted.one_caption:
            chances[:, 1] = draws(pseudo.uniform, k=0, count=2)[:, 1]
        chosen = [self._chosen(p, o, *c) for p, o, c in zip(places, opened, chances.tolist(), strict=True)]
        return self._noised(self._embedded(chosen), places, opened, k)

    def _embedded(self, chosen: Sequence["_Chosen"]) -> list[tuple[np.ndarray, float]]:
        """Returns the vectors (D,) of visits. Embeds the texts and pictures of live sets."""
        if not self._embedder:
            return [(source, xi) for source, xi in chosen if isinstance(source, np.ndarray)]
        texts = [source for source, _ in chosen if isinstance(source, str)]
        drawn = {id(source): source for source, _ in chosen if isinstance(source, LiveSample)}
        vectors: dict[str | int, np.ndarray] = dict(zip(texts, self._embedder.texts(texts), strict=True))
        images = self._embedder.images(list(drawn), lambda number: rgb(drawn[number].pixels))
        vectors |= zip(drawn, images, strict=True)
        rows = []
        for source, xi in chosen:
            key = id(source) if isinstance(source, LiveSample) else source
            rows.append((key if isinstance(key, np.ndarray) else vectors[key], xi))
        return rows

    def _noised(
        self,
        chosen: Sequence[tuple[np.ndarray, float]],
        places: Sequence[Place],
        opened: Sequence["_Shard"],
        k: int,
    ) -> np.ndarray:
        """Returns the k-th draws of vectors (D,), each with its amount of noise: float32 (N, D)."""
        vectors = np.stack([vector for vector, _ in chosen]).astype(np.float32)  # (N, D)
        xi = np.array([[amount] for _, amount in chosen], np.float32)  # (N, 1)

        # Noise, by the paper's equation 3.
        eps = np.ones_like(vectors)
        if xi.any():
            visit, count = self._visit, vectors.shape[1]
            of = len(visit.wanted.vectors)
            eps = _by_visit(
                pseudo.noise, seed=visit.seed, places=places, opened=opened, k=k, of=of, count=count
            )
        return np.asarray(pseudo.pseudo_caption(vectors, eps, xi))

    def _blended(self, blend: Blend, places: Sequence[Place], opened: Sequence["_Shard"]) -> list["_Chosen"]:
        """Returns the vectors (D,) of the visits, or the texts of live sets, each with its amount of noise.

        Raises UserError if a source has no text for a sample."""
        chosen: list[_Chosen] = []
        visits = zip(places, opened, self._chances(places, opened), strict=True)
        for place, shard, chances in visits:
            if isinstance(shard, LiveShard):
                text = blend.text(
                    functools.partial(shard.metadata, place.row), *shard.sources(place.row), chances
                )
                chosen.append((str(text), self._visit.caption_xi))
                continue
            synthetic, truth = _row(place.row, shard.texts, shard.truths)
            vector = blend.choose(synthetic, truth, chances)
            if vector is None:
                raise self._without_caption(place, shard)
            chosen.append((vector, self._visit.caption_xi))
        return chosen

    def _chances(self, places: Sequence[Place], opened: Sequence["_Shard"]) -> Iterator[Chances]:
        """Yields the random numbers of the visits' texts."""
        visits = ((place.epoch, shard.first + place.row) for place, shard in zip(places, opened, strict=True))
        for epoch, part in itertools.groupby(visits, key=lambda visit: visit[0]):
            yield from blending.chances(self._visit.seed, [index for _, index in part], epoch)

    def _without_caption(self, place: Place, shard: "_Shard") -> UserError:
        key, file = shard.key(place.row), self._sources.tars[place.shard].name
        problem = f"sample {key} of {file} has no caption"
        return UserError(f"{problem}; begin again with --text mix:1 and another --out")

    def _tokens(self, places: Sequence[Place], opened: Sequence["_Shard"]) -> np.ndarray | None:
        """Returns the tokens of the text of each visit, int64 (N, T), or None if the model reads none.

        It is the text of the first draw of a vector, if that is a caption's. A picture without captions has
        the tokens of an empty text, unless a blend needs one."""
        tokenise = self._visit.wanted.tokenise
        if tokenise is None:
            return None
        rows = list(map(tokenise, self._texts(places, opened)))

        # Padding.
        tokens = np.zeros((len(rows), max(map(len, rows))), np.int64)
        for row, values in zip(tokens, rows, strict=True):
            row[: len(values)] = values
        return tokens

    def _texts(self, places: Sequence[Place], opened: Sequence["_Shard"]) -> list[str]:
        """Returns the texts of the visits. Raises UserError if the source of a blend has none."""
        # Blended texts.
        visit, texts = self._visit, []
        if blend := visit.text.blend:
            for place, shard, chances in zip(places, opened, self._chances(places, opened), strict=True):
                sample = functools.partial(shard.metadata, place.row)
                synthetic, truth = shard.sources(place.row)
                text = blend.text(sample, synthetic, truth, chances)
                if text is None:
                    raise self._without_caption(place, shard)
                texts.append(text)
            return texts

        # One of the sample's captions.
        of = max(1, len(visit.wanted.vectors))
        random = _by_visit(pseudo.uniform, seed=visit.seed, places=places, opened=opened, k=0, of=of, count=2)
        for place, shard, which in zip(places, opened, random[:, 1].tolist(), strict=True):
            captions = shard.captions_of(place.row) or [""]
            texts.append(captions[int(which * len(captions))])
        return texts

    def _chosen(self, place: Place, shard: "_Shard", chance: float, which: float) -> "_Chosen":
        """Returns the vector (D,) of a visit, or the text or sample of a live set, and its amount of noise.

        Raises UserError if a required caption is missing."""
        # A live set.
        text = self._visit.text
        if isinstance(shard, LiveShard):
            sentences = shard.captions_of(place.row)
            if chance < text.captions:
                return sentences[int(which * len(sentences))], self._visit.caption_xi
            return shard.metadata(place.row), self._visit.xi

        # One of the sample's captions.
        captions = shard.texts[place.row] if chance < text.captions else ()
        if len(captions):
            return captions[int(which * len(captions))], self._visit.caption_xi
        if text.required:
            raise self._without_caption(place, shard)

        # The stored pseudo-caption, or the picture's embedding with fresh noise.
        return (shard.stored[place.row], 0.0) if text.stored else (shard.image[place.row], self._visit.xi)

    def _opened(self, shard: int) -> "_Shard":
        """Returns a shard with the columns of its table that visits read, or a live set."""
        # A live set.
        sources, text, wanted = self._sources, self._visit.text, self._visit.wanted
        if shard >= len(sources.tars):
            return LiveShard(sources.live[shard - len(sources.tars)], sources.firsts[shard])

        # Pictures.
        tar = MappedShard(sources.cache.path(sources.tars[shard]), sources.tars[shard].name)
        none = np.empty((0, 0))
        latents = none
        if wanted.latents:
            file = sources.latents[shard]
            column = read_table(sources.cache.path(file), file.name, [LATENT], tar.keys)[LATENT]
            latents = vectors(column, column.type.list_size)
        if not wanted.vectors and not wanted.tokenise:
            return _Opened(tar, sources.firsts[shard], none, none, latents=latents)

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
        captions = [columns[name].to_pylist() if name else [] for name in words]
        if not wanted.vectors:
            return _Opened(tar, sources.firsts[shard], none, none, [], [], *captions)._replace(
                latents=latents
            )

        # Text vectors.
        width = columns["image_embedding"].type.list_size
        image = vectors(columns["image_embedding"], width)
        stored = vectors(columns["pseudo_caption"], width) if text.stored else image
        texts, truths = (text_vectors(columns[name], width) if name else [] for name in embedded)
        opened = _Opened(tar, sources.firsts[shard], image, stored, texts, truths, *captions)
        return opened._replace(latents=latents)


class _Opened(NamedTuple):
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
        synthetic, truth = _row(row, self.captions, self.true_captions)
        return synthetic, truth

    def forget(self) -> None:
        """Does nothing: all that is kept is mapped."""


_Shard = _Opened | LiveShard
# The vector of a visit, or what an embedder makes it from, and its amount of noise.
_Chosen = tuple[np.ndarray | str | LiveSample, float]


def _blended(visit: Visit, tables: CaptionSet) -> tuple[Columns, Columns]:
    """Returns the columns of vectors and of texts that visits blend. Raises UserError if the tables have
    none."""
    blend, none = visit.text.blend, Columns("", "")
    embedded = blend.columns(tables, vectors=True) if blend and visit.wanted.vectors else none
    words = blend.columns(tables, vectors=False) if blend and visit.wanted.tokenise else none
    return embedded, words


def _row(row: int, *sources: Sequence[Any]) -> list[list[Any]]:
    """Returns the texts or vectors of a sample in each source. A source that the share never needs is
    empty."""
    return [list(source[row] if source[row] is not None else ()) if len(source) else [] for source in sources]


def _by_visit(
    draw: Callable[[int, list[int], int, int], np.ndarray],
    *,
    seed: int,
    places: Sequence[Place],
    opened: Sequence["_Shard"],
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


def _tensors(arrays: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(array) for name, array in arrays.items()}
