"""One shard into its caption table: the task of a worker.

For a GPU, threads decode the pictures a batch ahead. On a CPU, the encoding thread decodes them itself.
Neither the tar nor the table is ever whole in memory.
"""

import functools
import json
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any, NamedTuple, TypeVar

import numpy as np

from caption import encoders
from caption.encoders import Encoder
from caption.pseudo import noise, pseudo_caption
from caption.sentences import attributes
from caption.table import Rows, TableWriter, metadata
from synth.errors import UserError
from synth.sets import ledger, shards
from synth.sets.records import Part, Record
from synth.sets.shards import Sample, Shard, ShardSet
from synth.sets.storage import open_storage
from synth.stopwatch import Stopwatch

BATCH = {"cpu": 32, "cuda": 256}  # pictures encoded at once

_DECODERS = 8  # threads that decode for a GPU
_REMEMBERED = 1 << 16  # sentences whose embeddings a worker keeps
_VERSIONED = ("torch", "open_clip_torch", "pyarrow", "numpy")

Json = dict[str, Any]
T = TypeVar("T")
U = TypeVar("U")


class CaptionJob(NamedTuple):
    """One table to make."""

    part: Part
    shard: Shard
    shards: str
    out: str
    encoder: str  # as the command names it
    device: str
    identity: Json
    manifest_digest: str  # of the set of shards


class Captioned(NamedTuple):
    """Rows of a table, and the number of their captions that were longer than the encoder's context."""

    rows: Rows
    cut: int


def caption_shard(job: CaptionJob) -> Iterator[int | Record]:
    """Encodes one shard, then publishes and records its table: the task of a worker.

    Yields the number of pictures done since the last yield, then the record. Raises UserError."""
    identity, storage, shard_set = job.identity, open_storage(job.out), ShardSet(job.shards)
    encoder = _encoder(job.encoder, job.device, identity["weights"], identity["precision"])
    watch, cut = Stopwatch.start(), 0
    about = metadata(identity, job.part.content["shard"], job.manifest_digest)
    with (
        storage.staged(job.part.file) as path,
        TableWriter(
            path, encoder.dimensions, text_embeddings=identity["text_embeddings"], metadata=about
        ) as writer,
    ):
        first = job.part.first
        for batch in _batched(
            _decoded(shard_set, job.shard, encoder.device.type), BATCH[encoder.device.type]
        ):
            made = caption(encoder, batch, first, identity)
            writer.add(made.rows)
            first, cut = first + len(batch), cut + made.cut
            yield len(batch)
    content, about = {**job.part.content, "cut": cut}, {"device": str(encoder.device)}
    record = Record.of(
        job.part,
        identity,
        content,
        watch,
        bytes=writer.size,
        sha256=writer.sha256,
        packages=_VERSIONED,
        entries=about,
    )
    ledger.write_record(storage, record)
    yield record


def caption(encoder: Encoder, samples: Sequence[Sample], first: int, identity: Json) -> Captioned:
    """Returns the rows of consecutive samples; `first` is the index of the first.

    Raises UserError if their sizes differ."""
    # Pseudo-captions start from the rounded embeddings, so that a reader of the table gets the same ones for any draw.
    image = encoder.images(stacked(samples)).astype(np.float16)
    eps = noise(identity["seed"], range(first, first + len(samples)), 0, encoder.dimensions)
    pseudo = pseudo_caption(image.astype(np.float32), eps, identity["xi"]).astype(np.float16)
    captions = [captions_of(sample) for sample in samples]
    embedded, cut = _texts(encoder, captions) if identity["text_embeddings"] else (None, 0)
    return Captioned(Rows([s.key for s in samples], first, image, pseudo, captions, embedded), cut)


def captions_of(sample: Sample) -> list[str]:
    """Returns the texts of a sample: people's captions if its shard has any, else its true sentences.

    Raises UserError if its JSON has something else in their place."""
    if own := sample.captions or sample.metadata.get("caption"):
        return _texts_alone(sample.key, [own] if isinstance(own, str) else own)
    if not is_formula(sample):
        return []
    try:
        return attributes.sentences(sample.metadata)
    except KeyError as error:
        raise UserError(
            f"sample {sample.key} has a JSON that this version of exnihilo makes no sentences of: {error} is unknown"
        ) from None


def is_formula(sample: Sample) -> bool:
    """Returns True if exnihilo drew the sample."""
    return {"family", "params", "stats"} <= sample.metadata.keys()


def _texts_alone(key: str, captions: object) -> list[str]:
    """Returns the captions without blank ones.

    Raises UserError unless they are a list of texts that can be stored."""
    if not isinstance(captions, list) or not all(isinstance(c, str) for c in captions):
        raise UserError(
            f"the caption of sample {key} is {json.dumps(captions)[:60]}; its JSON may have a text or a list of texts"
        )
    try:
        "".join(captions).encode()
    except UnicodeEncodeError as error:
        raise UserError(f"a caption of sample {key} cannot be stored: {error}") from None
    return [c for c in captions if c.strip()]


def stacked(samples: Sequence[Sample]) -> np.ndarray:
    """Returns the pictures as one array, uint8 (N, H, W, 3).

    Raises UserError if one is not square or sizes differ."""
    side = samples[0].pixels.shape[0]
    for sample in samples:
        if sample.pixels.shape != (side, side, 3):
            height, width, _ = sample.pixels.shape
            raise UserError(
                f"sample {sample.key} is {width} x {height} where {side} x {side} pixels came before; a set has one square size"
            )
    return np.stack([sample.pixels for sample in samples])


def _texts(encoder: Encoder, captions: Sequence[Sequence[str]]) -> tuple[list[np.ndarray], int]:
    """Returns each sample's embeddings, float16 (its captions, D), and the number of cut captions.

    Captions are cut at words."""
    remembered, wanted = _memory(encoder), dict.fromkeys(c for row in captions for c in row)
    for text in wanted.keys() & remembered.keys():
        remembered.move_to_end(text)
    fitting = {text: encoder.cut(text) for text in wanted if text not in remembered}
    new = list(dict.fromkeys(fitting.values()))
    vectors = dict(zip(new, encoder.texts(new).astype(np.float16), strict=True))
    remembered.update({text: (vectors[part], part != text) for text, part in fitting.items()})
    found = [[remembered[c] for c in row] for row in captions]
    while len(remembered) > _REMEMBERED:
        remembered.popitem(last=False)
    rows = [
        np.stack([v for v, _ in row]) if row else np.zeros((0, encoder.dimensions), np.float16)
        for row in found
    ]
    return rows, sum(was_cut for row in found for _, was_cut in row)


@functools.lru_cache(maxsize=2)
def _memory(encoder: Encoder) -> OrderedDict[str, tuple[np.ndarray, bool]]:
    """Returns the encoder's cache: the latest sentences, their embeddings, and whether they were cut."""
    return OrderedDict()


@functools.lru_cache(maxsize=2)
def _encoder(name: str, device: str, weights: str, precision: str) -> Encoder:
    """Returns the worker's encoder. Raises UserError if this node has other weights than the driver."""
    source = encoders.find(name)
    if source.sha256 != weights:
        raise UserError(
            f"{source.weights} holds other weights on this node than where the command was given; give all nodes the same file"
        )
    return encoders.load(source, device, precision)


def _decoded(shard_set: ShardSet, shard: Shard, device: str) -> Iterator[Sample]:
    """Yields the samples of a verified shard."""
    name = shard_set.storage.join(shard.file)
    members = shard_set.verified(shard)
    if device == "cpu":
        yield from (shards.decode(key, files, name) for key, files in members)
        return
    with ThreadPoolExecutor(_DECODERS) as pool:
        yield from _ahead(pool, lambda member: shards.decode(*member, name), members, 2 * BATCH[device])


def _ahead(
    pool: ThreadPoolExecutor, function: Callable[[T], U], items: Iterable[T], most: int
) -> Iterator[U]:
    """Yields function(item) for each item, in order. At most `most` calls run ahead."""
    items = iter(items)
    waiting = deque(pool.submit(function, item) for item in islice(items, most))
    while waiting:
        result = waiting.popleft().result()
        waiting.extend(pool.submit(function, item) for item in islice(items, 1))
        yield result


def _batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    items = iter(items)
    while batch := list(islice(items, size)):
        yield batch
