"""Captioned sets: finished shards, each set with its caption tables. Several are read as one, in order."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice, repeat, zip_longest
from typing import Any, NamedTuple

import numpy as np

from caption.sentences.attributes import sentences
from caption.table import CaptionSet
from synth.errors import UserError
from synth.images.pictures import box_average
from synth.sets import places
from synth.sets.shards import ShardSet
from synth.settings import digest
from train.model import CaptionedPicture
from train.stream.latent_tables import LatentSet
from train.stream.live import LiveSet
from train.stream.visits import Kind

_ENCODER = ("weights", "dimensions", "preprocessing")  # must be equal in tables that are read as one

Json = dict[str, Any]


class CaptionedSet(NamedTuple):
    """A set of shards and its caption tables."""

    shards: ShardSet
    captions: CaptionSet | None  # None: the model reads no texts


def find(
    shards: Sequence[str],
    captions: Sequence[str],
    *,
    tables: bool = True,
    encoder: str | None = None,
    kind: Kind = "plain",
) -> tuple[CaptionedSet, ...]:
    """Returns the sets at these places.

    If `captions` is empty, takes each set's only tables under data/captions, or those of `encoder`. Of these,
    prefers those of a kind: "synthetic" have the captions of a captioner, "blend" such captions or bare
    names, "plain" neither. Takes no tables if `tables` is False. Raises UserError if shards and tables do not
    belong together, or if they are of two encoders."""
    # Shards.
    if not tables and (captions or encoder):
        raise UserError("this model reads no captions; leave --captions and --encoder out")
    if captions and len(captions) != len(shards):
        counts = f"{len(shards)} sets of shards and {len(captions)} of caption tables are given"
        raise UserError(f"{counts}; give --captions once for each --on, in the same order, or not at all")
    shard_sets = [ShardSet(url) for url in shards]
    if not tables:
        return tuple(CaptionedSet(shard_set, None) for shard_set in shard_sets)

    # Tables of these shards, by one encoder.
    urls = captions or [_captions_of(shard_set, encoder, kind) for shard_set in shard_sets]
    caption_sets = [CaptionSet(url) for url in urls]
    for shard_set, caption_set in zip(shard_sets, caption_sets, strict=True):
        caption_set.require_made_for(shard_set)
        _require_same_encoder(caption_sets[0], caption_set)
    return tuple(map(CaptionedSet, shard_sets, caption_sets))


def find_latents(
    sets: Sequence[CaptionedSet], urls: Sequence[str], weights: str, autoencoder: str
) -> tuple[LatentSet, ...]:
    """Returns the latents of each set at these places. Without places, returns those in data/latents by the
    autoencoder with these weights.

    Raises UserError if latents are missing, or belong to other shards or to another autoencoder."""
    if urls and len(urls) != len(sets):
        counts = f"{len(sets)} sets of shards and {len(urls)} of latents are given"
        raise UserError(f"{counts}; give --latents once for each --on, in the same order, or not at all")
    urls = urls or [_latents_of(each.shards, weights, autoencoder) for each in sets]
    latents = tuple(LatentSet(url) for url in urls)
    for each, tables in zip(sets, latents, strict=True):
        tables.require_made_for(each.shards)
        tables.require_made_by(weights, autoencoder)
    return latents


def describe_latents(latents: Sequence[LatentSet]) -> Json:
    """Returns the entry `latents` of config.json."""
    rows = [{"url": t.storage.url, "digest": t.digest, "autoencoder": t.weights} for t in latents]
    return _as_one(rows, "autoencoder")


def require_resolution(sets: Sequence[CaptionedSet], resolution: int) -> None:
    """Raises UserError if the pictures of a set are no power-of-two multiple of the model's resolution.

    All pictures of a set have one size."""
    for shards, _ in sets:
        side, width = next(iter(shards.read(shards.shards[0]))).pixels.shape[:2]
        if side != width:
            problem = f"the pictures of {shards.storage.url} have {width} x {side} pixels, and not a square"
            raise UserError(f"{problem}; give another set")
        factor, rest = divmod(side, resolution)
        if rest or factor & (factor - 1) or not factor:
            problem = f"the pictures of {shards.storage.url} have {side} pixels a side"
            allowed = f"no power-of-two multiple of model.resolution = {resolution}"
            raise UserError(f"{problem}, {allowed}; give another preset or another set")


def describe(
    sets: Sequence[CaptionedSet], live: Sequence[LiveSet] = (), shares: Sequence[float] = ()
) -> Json:
    """Returns the entries `shards` and `captions` of config.json. `shares` are those of live sets, then of
    the stored ones."""
    # A row per set.
    shards, captions = [each.row for each in live], []
    for pictures, tables in sets:
        dataset = pictures.manifest["identity"].get("dataset")
        shards.append({"url": pictures.storage.url, "digest": pictures.digest, "dataset": dataset})
        if tables:
            encoder = tables.identity["encoder"]
            captions.append({"url": tables.storage.url, "digest": tables.digest, "encoder": encoder})

    # Shares of a mixture.
    for row, share in zip(shards, shares, strict=bool(shares)):
        row["share"] = share

    # One row for all.
    joined = _as_one(captions, "encoder") if captions else None
    return {"shards": _as_one(shards, "dataset"), "captions": joined}


def samples(
    sets: Sequence[CaptionedSet], resolution: int, names: Callable[[CaptionSet], Sequence[str]]
) -> Iterator[CaptionedPicture]:
    """Yields the samples of the sets in order, each with the texts of its table if there is one.

    `names` returns the columns of the texts."""
    for shards, tables in sets:
        for number, shard in enumerate(shards.shards):
            rows: Iterable[Sequence[Sequence[str] | None]] = repeat(())
            if tables:
                table = tables.read(tables.parts[number], list(names(tables)))
                rows = zip(*(table[name].to_pylist() for name in names(tables)), strict=True)
            for sample, lists in zip(shards.read(shard), rows, strict=bool(tables)):
                texts = tuple(text for captions in lists for text in captions or ())
                yield CaptionedPicture(box_average(sample.pixels, resolution), texts)


def stored_texts(sets: Sequence[CaptionedSet], count: int) -> tuple[np.ndarray, list[str]]:
    """Returns stored vectors float32 (N, D) and captions of the first samples, from the sets in turn.

    Takes the first caption of each sample. N is at most `count`."""
    turns = zip_longest(*(_first_texts(captions, count) for _, captions in sets if captions))
    rows = list(islice((row for row in chain.from_iterable(turns) if row is not None), count))
    return np.stack([vector for vector, _ in rows]), [caption for _, caption in rows]


def first_texts(
    sets: Sequence[CaptionedSet], live: Sequence[LiveSet], resolution: int, count: int
) -> list[str]:
    """Returns the first captions of the first samples, from the live sets and the stored ones in turn.

    Their number is at most `count`."""
    drawn = [islice(each.samples(resolution, sentences), count) for each in live]
    firsts = [[sample.captions[0] for sample in samples] for samples in drawn]
    firsts += [[text for _, text in _first_texts(captions, count)] for _, captions in sets if captions]
    return list(islice((text for turn in zip_longest(*firsts) for text in turn if text is not None), count))


def _first_texts(captions: CaptionSet, count: int) -> list[tuple[np.ndarray, str]]:
    """Returns the stored vectors and first captions of the first samples of a set's first shard."""
    table = captions.read(captions.parts[0], ["pseudo_caption", "caption"]).slice(0, count)
    vectors = np.array(table["pseudo_caption"].to_pylist(), np.float32)
    return list(zip(vectors, [(texts or [""])[0] for texts in table["caption"].to_pylist()], strict=True))


def _as_one(rows: Sequence[Json], name: str) -> Json:
    """Returns the row of a single set, or one row for several: names, a digest of digests, and all rows."""
    if len(rows) == 1:
        return rows[0]
    names = dict.fromkeys(str(row[name]) for row in rows)
    parts = [[row["digest"], row["share"]] if "share" in row else row["digest"] for row in rows]
    return {name: " + ".join(names), "digest": digest(parts), "sets": rows}


def _require_same_encoder(one: CaptionSet, other: CaptionSet) -> None:
    keys = [key for key in _ENCODER if one.identity[key] != other.identity[key]]
    if keys:
        first, second = (f"{c.storage.url} was made by {c.identity['encoder']}" for c in (one, other))
        advice = "give tables of one encoder for all sets"
        raise UserError(f"{first} and {second}, which differ in {' and '.join(keys)}; {advice}")


def _captions_of(shards: ShardSet, encoder: str | None, kind: Kind) -> str:
    """Returns the only finished tables of these shards in the usual place. Of several, takes the encoder's,
    and those of the kind.

    Raises UserError if there are none, or still several."""
    # Tables of these shards.
    dataset, url = str(shards.manifest["identity"].get("dataset", "")), shards.storage.url
    tables = [CaptionSet(place) for place in places.all_tables(dataset)]
    tables = [table for table in tables if table.manifest["shards"]["digest"] == shards.digest]
    if not tables:
        problem = f"no caption tables of {url} are in {places.CAPTIONS}/{dataset}"
        raise UserError(f"{problem}; `make captions` makes them, or give --captions")

    # Those with more columns have all columns of the others.
    alike = [table for table in tables if _is_of(table.identity, kind)]
    if kind == "synthetic" and not alike:
        problem = f"no tables of {url} in {places.CAPTIONS}/{dataset} have synthetic captions"
        raise UserError(f"{problem}; `python -m caption recaption {url}` makes them, or give --captions")
    tables = alike or tables

    # Exactly one.
    if len(tables) > 1 and encoder:
        tables = [table for table in tables if table.identity["encoder"] == encoder] or tables
    if len(tables) > 1:
        urls = ", ".join(table.storage.url for table in tables)
        raise UserError(f"{url} has several caption tables; choose by --encoder, or by --captions: {urls}")
    return tables[0].storage.url


def _latents_of(shards: ShardSet, weights: str, autoencoder: str) -> str:
    """Returns the finished latents of these shards by an autoencoder in the usual place. Raises UserError if
    there are none."""
    dataset, url = str(shards.manifest["identity"].get("dataset", "")), shards.storage.url
    for place in places.all_latents(dataset):
        tables = LatentSet(place)
        if (tables.manifest["shards"]["digest"], tables.weights) == (shards.digest, weights):
            return place
    problem = f"no latents of {url} by {autoencoder} are in {places.LATENTS}/{dataset}"
    advice = f"`python -m train latents {url} --autoencoder {autoencoder}` makes them, or give --latents"
    raise UserError(f"{problem}; {advice}")


def _is_of(identity: Json, kind: Kind) -> bool:
    """Returns True if tables of this identity are made for a kind of texts."""
    captioner, names = "captioner" in identity, "names" in identity
    return {"plain": not captioner and not names, "synthetic": captioner, "blend": captioner or names}[kind]
