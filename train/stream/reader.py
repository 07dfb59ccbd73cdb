"""The batches of a rank, read in any process.

Axes: N samples of a rank's batch, V views, D dimensions of an embedding, R resolution, T tokens.
"""

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from caption import blending, pseudo
from caption.blending import Blend, Chances
from synth.errors import UserError
from synth.images.codecs import rgb
from synth.sets.damage import UnreadableError, judged
from synth.sets.storage import reading
from train.models.randomness import mixed
from train.stream.batches import Arrays
from train.stream.embedding import Embedder
from train.stream.groups import Groups
from train.stream.live import LiveSample, LiveShard
from train.stream.mixture import Positions
from train.stream.opened import Opened, Shard, open_shard, row_of
from train.stream.order import Place
from train.stream.sources import Sources
from train.stream.visits import Visit

_OPEN = 256  # most shards that a reader keeps mapped: each takes some megabytes
_VIEWS, _MIRROR = 7, 8  # uses of random numbers: augmented views, mirrored pictures

# The vector of a visit, or the source that an embedder makes it from, and its amount of noise.
_Chosen = tuple[np.ndarray | str | LiveSample, float]


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

    def __init__(self, sources: Sources, visit: Visit, part: Slice) -> None:
        self._sources, self._visit, self._part = sources, visit, part
        # A batch may cross two blocks.
        kept = min(_OPEN, 2 * part.order.in_use)
        self._open = functools.lru_cache(maxsize=kept)(functools.partial(open_shard, sources, visit))
        self._embedder = Embedder(sources.encoder) if sources.encoder else None

    def __getstate__(self) -> tuple[Sources, Visit, Slice]:
        return self._sources, self._visit, self._part

    def __setstate__(self, state: tuple[Sources, Visit, Slice]) -> None:
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
        path = sources.cache.path(file)

        # A fetched file was as its manifest says when it came, so the copy alone is damaged.
        remedy = "remove it and run the command that made the set again"
        if "://" in file.url:
            remedy = f"remove its copy {path} and run the same command again, which fetches it"
        with reading(file.name), open(path, "rb") as content:
            return judged(error, content, file.sha256, remedy)

    def _pictures(self, places: Sequence[Place], opened: Sequence[Shard]) -> np.ndarray:
        """Returns pictures uint8 (N, V, 3, R, R), or latents float16 (N, 1, K, S, S). Grey pictures get three
        channels."""
        if shape := self._visit.wanted.latents:
            pairs = zip(places, opened, strict=True)
            # Live sets have no latents.
            rows = [shard.latents[place.row] for place, shard in pairs if isinstance(shard, Opened)]
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

    def _mirrored(self, place: Place, shard: Shard) -> bool:
        """Returns True for half of the visits, by random numbers of (seed, index, epoch).

        The text of a mirrored picture stays that of the picture in the shard."""
        return mixed(self._visit.seed, _MIRROR, place.epoch, shard.first + place.row) >= 1 << 63

    def _augmented(self, picture: np.ndarray, place: Place, shard: Shard, view: int) -> np.ndarray:
        """Returns a view of a picture, by random numbers of (seed, index, epoch, view)."""
        assert self._visit.wanted.augment is not None
        index = shard.first + place.row
        stream = np.random.Philox(
            key=np.array([self._visit.seed, _VIEWS], np.uint64),
            counter=np.array([0, view, place.epoch, index], np.uint64),
        )
        return self._visit.wanted.augment(picture, np.random.Generator(stream))

    def _vectors(self, places: Sequence[Place], opened: Sequence[Shard], k: int) -> np.ndarray:
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

    def _embedded(self, chosen: Sequence[_Chosen]) -> list[tuple[np.ndarray, float]]:
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
        opened: Sequence[Shard],
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

    def _blended(self, blend: Blend, places: Sequence[Place], opened: Sequence[Shard]) -> list[_Chosen]:
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
            synthetic, truth = row_of(place.row, shard.texts, shard.truths)
            vector = blend.choose(synthetic, truth, chances)
            if vector is None:
                raise self._without_caption(place, shard)
            chosen.append((vector, self._visit.caption_xi))
        return chosen

    def _chances(self, places: Sequence[Place], opened: Sequence[Shard]) -> Iterator[Chances]:
        """Yields the random numbers of the visits' texts."""
        visits = ((place.epoch, shard.first + place.row) for place, shard in zip(places, opened, strict=True))
        for epoch, part in itertools.groupby(visits, key=lambda visit: visit[0]):
            yield from blending.chances(self._visit.seed, [index for _, index in part], epoch)

    def _without_caption(self, place: Place, shard: Shard) -> UserError:
        key, file = shard.key(place.row), self._sources.tars[place.shard].name
        problem = f"sample {key} of {file} has no caption"
        return UserError(f"{problem}; begin again with --text mix:1 and another --out")

    def _tokens(self, places: Sequence[Place], opened: Sequence[Shard]) -> np.ndarray | None:
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

    def _texts(self, places: Sequence[Place], opened: Sequence[Shard]) -> list[str]:
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

    def _chosen(self, place: Place, shard: Shard, chance: float, which: float) -> _Chosen:
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


def _by_visit(
    draw: Callable[[int, list[int], int, int], np.ndarray],
    *,
    seed: int,
    places: Sequence[Place],
    opened: Sequence[Shard],
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
