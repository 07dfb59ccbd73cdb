"""The caption table of one shard: the task of a worker.

For a GPU, threads decode the pictures a batch ahead. On a CPU, the encoding thread decodes them itself. The
memory never holds a whole tar or table.
"""

import functools
import json
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any, NamedTuple, TypeVar

import numpy as np

from caption import drafts, encoders, table_folder
from caption.captioners import Captioner
from caption.encoders import Encoder
from caption.pseudo import noise, pseudo_caption
from caption.sentences import attributes, names
from caption.table import Rows, TableWriter, metadata
from synth.errors import UserError
from synth.sets import ledger, shards
from synth.sets.records import Part, Record
from synth.sets.shards import Sample, Shard, ShardSet
from synth.stopwatch import Stopwatch

BATCH = {"cpu": 32, "cuda": 256}  # pictures encoded at once

_DECODERS = 8  # threads that decode for a GPU
_REMEMBERED = 1 << 16  # embeddings of sentences that a worker keeps
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
    apart: bool  # True: the tables have a folder of their own
    encoder: str  # name, with the whole path of a folder or file
    device: str
    identity: Json
    manifest_digest: str  # of the set of shards
    captioner: Captioner | None = None  # of the synthetic captions


class CaptionedRows(NamedTuple):
    """Rows of a table, and the number of their captions that were longer than the encoder's context."""

    rows: Rows
    cut: int


def caption_shard(job: CaptionJob) -> Iterator[int | Record]:
    """Encodes one shard, then publishes and records its table: the task of a worker.

    Yields the number of pictures done since the last yield, then the record. Raises UserError."""
    identity, shard_set = job.identity, ShardSet(job.shards)
    storage = table_folder.to_resume(job.out, apart=job.apart)
    encoder = _encoder(job.encoder, job.device, identity["weights"], identity["precision"])
    watch, cut = Stopwatch.start(), 0

    # Table.
    fields = metadata(identity, job.part.content["shard"], job.manifest_digest)
    texts = identity["text_embeddings"]
    synthetic, named = job.captioner is not None, "names" in identity
    with (
        storage.staged(job.part.file) as path,
        TableWriter(
            path,
            encoder.dimensions,
            text_embeddings=texts,
            metadata=fields,
            synthetic=synthetic,
            names=named,
        ) as writer,
    ):
        first, device = job.part.first, encoder.device.type
        samples = _decoded(shard_set, job.shard, device)
        pairs: Iterator[tuple[Sample, str]] = ((sample, "") for sample in samples)
        if job.captioner:
            pairs = drafts.captions(job.captioner, samples, storage, job.part)
        for pairs_of_batch in _batched(pairs, BATCH[device]):
            batch, answers = (list(column) for column in zip(*pairs_of_batch, strict=True))
            captioned = caption(encoder, batch, first, identity, answers if synthetic else None)
            writer.add(captioned.rows)
            first, cut = first + len(batch), cut + captioned.cut
            yield len(batch)

    # Record.
    record = Record.of(
        job.part,
        identity,
        {**job.part.content, "cut": cut},
        watch,
        bytes=writer.size,
        sha256=writer.sha256,
        packages=_VERSIONED,
        entries={"device": str(encoder.device)},
    )
    ledger.write_record(storage, record)
    yield record


def caption(
    encoder: Encoder,
    samples: Sequence[Sample],
    first: int,
    identity: Json,
    synthetic: Sequence[str] | None = None,
) -> CaptionedRows:
    """Returns the rows of consecutive samples. `first` is the index of the first, and `synthetic` has their
    captions by a captioner.

    Raises UserError if their sizes differ."""
    # Pseudo-captions start from the rounded embeddings, so that a reader of the table gets the same ones.
    image = encoder.images(stacked(samples)).astype(np.float16)
    eps = noise(identity["seed"], range(first, first + len(samples)), 0, encoder.dimensions)
    pseudo = pseudo_caption(image.astype(np.float32), eps, identity["xi"]).astype(np.float16)

    # Texts.
    captions = [captions_of(sample) for sample in samples]
    embedded, cut = _texts(encoder, captions) if identity["text_embeddings"] else (None, 0)
    rows = Rows([s.key for s in samples], first, image, pseudo, captions, embedded)
    if "names" in identity:
        bare = [[bare_name(sample)] for sample in samples]
        rows = rows._replace(name=bare, name_embedding=_texts(encoder, bare)[0])
    if synthetic is None:
        return CaptionedRows(rows, cut)

    # Texts of the captioner.
    texts = [[text] for text in synthetic]
    vectors, more = _texts(encoder, texts)
    return CaptionedRows(rows._replace(synthetic_caption=texts, synthetic_embedding=vectors), cut + more)


def captions_of(sample: Sample) -> list[str]:
    """Returns the texts of a sample: human captions if its shard has any, else its true sentences.

    Raises UserError if its JSON has captions of another type, or unknown parameters."""
    # Human captions.
    if texts := sample.captions or sample.metadata.get("caption"):
        return _texts_alone(sample.key, [texts] if isinstance(texts, str) else texts)
    if not is_formula(sample):
        return []

    # Sentences.
    try:
        return attributes.sentences(sample.metadata)
    except KeyError as error:
        raise _unknown(sample, error) from None


def bare_name(sample: Sample) -> str:
    """Returns the bare name of a formula picture.

    Raises UserError if it is none, or its JSON has unknown parameters."""
    if not is_formula(sample):
        raise UserError(f"sample {sample.key} is no formula picture and has no bare name; leave --names out")
    try:
        return names.name(sample.metadata)
    except KeyError as error:
        raise _unknown(sample, error) from None


def _unknown(sample: Sample, error: KeyError) -> UserError:
    return UserError(
        f"the JSON of sample {sample.key} has {error}, but this version of exnihilo has no sentences"
        " of it; use the version that drew the shards, or a newer one"
    )


def is_formula(sample: Sample) -> bool:
    """Returns True if exnihilo drew the sample."""
    return {"family", "params", "stats"} <= sample.metadata.keys()


def _texts_alone(key: str, captions: object) -> list[str]:
    """Returns the captions without blank ones.

    Raises UserError unless they are a list of texts that can be stored."""
    if not isinstance(captions, list) or not all(isinstance(c, str) for c in captions):
        raise UserError(
            f"the caption of sample {key} is {json.dumps(captions)[:60]};"
            " its JSON may have a text or a list of texts"
        )

    # JSON may contain half a surrogate pair, which UTF-8 cannot store.
    try:
        "".join(captions).encode()
    except UnicodeEncodeError as error:
        raise UserError(f"a caption of sample {key} cannot be stored: {error}") from None
    return [caption for caption in captions if caption.strip()]


def stacked(samples: Sequence[Sample]) -> np.ndarray:
    """Returns the pictures as one array, uint8 (N, H, W, 3).

    Raises UserError if one is not square or sizes differ."""
    side = samples[0].pixels.shape[0]
    for sample in samples:
        if sample.pixels.shape != (side, side, 3):
            height, width, _ = sample.pixels.shape
            raise UserError(
                f"sample {sample.key} has {width} x {height} pixels, but those before it {side} x {side};"
                " a set has one square size"
            )
    return np.stack([sample.pixels for sample in samples])


def _texts(encoder: Encoder, captions: Sequence[Sequence[str]]) -> tuple[list[np.ndarray], int]:
    """Returns each sample's embeddings, float16 (its captions, D), and the number of cut captions.

    Captions are cut at words."""
    # Sentences that the worker remembers.
    remembered, texts = _memory(encoder), dict.fromkeys(c for row in captions for c in row)
    for text in texts.keys() & remembered.keys():
        remembered.move_to_end(text)

    # New sentences, each cut to the context and encoded once.
    fitting = {text: encoder.cut(text) for text in texts if text not in remembered}
    new = list(dict.fromkeys(fitting.values()))
    vectors = dict(zip(new, encoder.texts(new).astype(np.float16), strict=True))
    remembered.update({text: (vectors[part], part != text) for text, part in fitting.items()})

    # Rows, before the memory forgets its oldest sentences.
    rows = [[remembered[c] for c in row] for row in captions]
    while len(remembered) > _REMEMBERED:
        remembered.popitem(last=False)
    none = np.zeros((0, encoder.dimensions), np.float16)
    embedded = [np.stack([vector for vector, _ in row]) if row else none for row in rows]
    return embedded, sum(was_cut for row in rows for _, was_cut in row)


@functools.lru_cache(maxsize=2)
def _memory(encoder: Encoder) -> OrderedDict[str, tuple[np.ndarray, bool]]:
    """Returns the encoder's cache: an embedding and True for a cut sentence, by sentence."""
    return OrderedDict()


@functools.lru_cache(maxsize=2)
def _encoder(name: str, device: str, weights: str, precision: str) -> Encoder:
    """Returns the worker's encoder. Raises UserError if this node has other weights than the driver."""
    source = encoders.find(name)
    if source.sha256 != weights:
        raise UserError(
            f"{source.weights} holds other weights on this node than on the node of the command;"
            " copy the same file to all nodes"
        )
    return encoders.load(source, device, precision)


def _decoded(shard_set: ShardSet, shard: Shard, device: str) -> Iterator[Sample]:
    """Yields the samples of a verified shard."""
    name = shard_set.storage.join(shard.file)
    members = shard_set.verified(shard)
    if device == "cpu":
        yield from (shards.decode(key, files, name) for key, files in members)
        return

    # Threads for a GPU.
    with ThreadPoolExecutor(_DECODERS) as pool:
        yield from _ahead(pool, lambda member: shards.decode(*member, name), members, 2 * BATCH[device])


def _ahead(
    pool: ThreadPoolExecutor, function: Callable[[T], U], items: Iterable[T], most: int
) -> Iterator[U]:
    """Yields function(item) for each item, in order. At most `most` calls run ahead."""
    # The first calls, then a new one for each result.
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
