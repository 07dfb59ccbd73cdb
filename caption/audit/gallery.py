"""Pictures and their neighbours by key, from caption tables and their set of shards."""

from collections.abc import Mapping
from itertools import islice
from typing import NamedTuple

import numpy as np

from caption.table import VECTORS, CaptionSet, text_vectors, vectors
from synth.errors import UserError
from synth.sets import places, shards
from synth.sets.records import Part
from synth.sets.shards import ShardSet
from synth.sets.storage import open_storage

CAPTIONS = 1000  # of a captioner to count words of, as in the paper's table 4


class TableRow(NamedTuple):
    """One row of a table."""

    key: str
    number: int  # in the set
    captions: list[tuple[str, float | None]]  # with their cosine to the image, if their embeddings are stored
    embedding: np.ndarray  # float32 (D,), unit length
    pseudo_cosine: float


class Neighbour(NamedTuple):
    """A picture near another one."""

    key: str
    number: int  # in the set
    cosine: float


def shards_of(tables: CaptionSet, url: str | None) -> ShardSet:
    """Returns the set of shards of the tables, from `url` or the usual folder of the set.

    Raises UserError if it is missing."""
    # A usual folder has no manifest if it is missing, and its error would not name the option.
    dataset = tables.manifest["shards"]["dataset"]
    if url is None:
        folders = places.folders(dataset)
        url = next((folder for folder in folders if open_storage(folder).sizes()), None)
        if url is None:
            raise UserError(
                f"there are no pictures of {dataset} in {' or '.join(folders)};"
                " give their folder as --shards DIR"
            )

    # The tables must have been made for these shards.
    shard_set = ShardSet(url)
    tables.require_made_for(shard_set)
    return shard_set


def row_of(tables: CaptionSet, key: str) -> TableRow:
    """Returns the row of a key. Raises UserError if there is none."""
    for part in tables.parts:
        keys = tables.read(part, ["key"])["key"].to_pylist()
        if key in keys:
            return _row(tables, part, key, keys.index(key))

    # The error names the range of keys.
    first = tables.read(tables.parts[0], ["key"])["key"][0].as_py()
    last = tables.read(tables.parts[-1], ["key"])["key"][-1].as_py()
    raise UserError(
        f"{tables.storage.url} has no picture {key}; its {len(tables):,} keys run from {first} to {last}"
    )


def neighbours(tables: CaptionSet, row: TableRow, most: int) -> list[Neighbour]:
    """Returns the other pictures with the largest cosines to a row's embedding, the nearest first."""
    nearest: list[Neighbour] = []
    for part in tables.parts:
        # Nearest rows of the part; one more, as the row itself may be among them.
        table = tables.read(part, ["key", VECTORS[0]])
        cosines = _unit(vectors(table[VECTORS[0]], tables.dimensions)) @ row.embedding
        best = np.argsort(-cosines, kind="stable")[: most + 1].tolist()
        nearest += [Neighbour(table["key"][i].as_py(), part.first + i, float(cosines[i])) for i in best]

        # Nearest rows so far.
        others = (n for n in nearest if n.number != row.number)
        nearest = sorted(others, key=lambda n: (-n.cosine, n.number))[:most]
    return nearest


def pictures(shard_set: ShardSet, keys: Mapping[int, str]) -> dict[str, np.ndarray]:
    """Returns pictures uint8 (H, W, 3) by key. `keys` has the key of each number.

    Raises UserError if a shard is damaged or has other keys."""
    pixels = {}
    for shard in shard_set.shards:
        places = sorted(n - shard.first for n in keys if shard.first <= n < shard.first + shard.count)
        if not places:
            continue

        # Members at these places.
        name = shard_set.storage.join(shard.file)
        try:
            with shard_set.storage.open(shard.file) as file:
                members = islice(shards.read_members(file, name), places[-1] + 1)
                chosen = {i: member for i, member in enumerate(members) if i in places}
        except FileNotFoundError:
            raise UserError(
                f"{name} is missing though the manifest names it; run the command that made the set again"
            ) from None

        # Their pixels.
        for i in places:
            key, files = chosen.get(i, ("nothing", {}))
            if key != keys[shard.first + i]:
                raise UserError(
                    f"{name} holds {key}, but the tables have {keys[shard.first + i]} there;"
                    f" `python -m synth verify {shard_set.storage.url}` shows the changed shards"
                )
            pixels[key] = shards.decode(key, files, name).pixels
    return pixels


def synthetic_captions(tables: CaptionSet) -> dict[str, str]:
    """Returns the first captions of the tables' captioner by key. They are none if it has no captioner."""
    texts: dict[str, str] = {}
    for part in tables.parts if "captioner" in tables.identity else ():
        table = tables.read(part, ["key", "synthetic_caption"]).slice(0, CAPTIONS - len(texts))
        keys, captions = table["key"].to_pylist(), table["synthetic_caption"].to_pylist()
        texts.update((key, row[0]) for key, row in zip(keys, captions, strict=True) if row)
        if len(texts) >= CAPTIONS:
            break
    return texts


def _row(tables: CaptionSet, part: Part, key: str, place: int) -> TableRow:
    # One row of the columns.
    text_columns = ["text_embedding"] if tables.identity["text_embeddings"] else []
    table = tables.read(part, [*VECTORS, "caption", *text_columns]).slice(place, 1)
    image, pseudo = (_unit(vectors(table[name], tables.dimensions))[0] for name in VECTORS)

    # Captions and their cosines.
    captions = table["caption"][0].as_py()
    cosines: list[float | None] = [None] * len(captions)
    if text_columns:
        cosines = (_unit(text_vectors(table["text_embedding"], tables.dimensions)[0]) @ image).tolist()
    pairs = list(zip(captions, cosines, strict=True))
    return TableRow(key, part.first + place, pairs, image, float(pseudo @ image))


def _unit(stored: np.ndarray) -> np.ndarray:
    """Returns the vectors as float32 (N, D) of unit length."""
    floats = stored.astype(np.float32)
    return floats / np.linalg.norm(floats, axis=1, keepdims=True)
