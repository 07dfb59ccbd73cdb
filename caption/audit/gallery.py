"""Pictures and their neighbours by key, from caption tables and their set of shards."""

from collections.abc import Mapping
from itertools import islice
from typing import NamedTuple

import numpy as np

from caption.table import VECTORS, CaptionSet, text_vectors, vectors
from synth.errors import UserError
from synth.sets import shards
from synth.sets.records import Part
from synth.sets.shards import ShardSet
from synth.sets.storage import open_storage

_PLACE = "data/shards"  # default folder of sets of shards


class Row(NamedTuple):
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
    """Returns the set of shards of the tables, from `url` or the default folder.

    Raises UserError if it is missing."""
    dataset = tables.manifest["shards"]["dataset"]
    if url is None:
        url = f"{_PLACE}/{dataset}"
        if not open_storage(url).sizes():
            raise UserError(
                f"the pictures of {dataset} are not in {url}, where they lie by default; say where they are with --shards DIR"
            )
    shard_set = ShardSet(url)
    tables.require_made_for(shard_set)
    return shard_set


def row_of(tables: CaptionSet, key: str) -> Row:
    """Returns the row of a key. Raises UserError if there is none."""
    for part in tables.parts:
        keys = tables.read(part, ["key"])["key"].to_pylist()
        if key in keys:
            return _row(tables, part, key, keys.index(key))
    first, last = (
        tables.read(part, ["key"])["key"][end].as_py()
        for part, end in ((tables.parts[0], 0), (tables.parts[-1], -1))
    )
    raise UserError(
        f"{tables.storage.url} has no picture {key}; its {len(tables):,} keys run from {first} to {last}"
    )


def neighbours(tables: CaptionSet, row: Row, most: int) -> list[Neighbour]:
    """Returns the other pictures with the largest cosines to a row's embedding, the nearest first."""
    found: list[Neighbour] = []
    for part in tables.parts:
        table = tables.read(part, ["key", VECTORS[0]])
        cosines = _unit(vectors(table[VECTORS[0]], tables.dimensions)) @ row.embedding
        best = np.argsort(-cosines, kind="stable")[: most + 1]
        found += [
            Neighbour(table["key"][i].as_py(), part.first + i, float(cosines[i])) for i in best.tolist()
        ]
        found = sorted((n for n in found if n.number != row.number), key=lambda n: (-n.cosine, n.number))[
            :most
        ]
    return found


def pictures(shard_set: ShardSet, keys: Mapping[int, str]) -> dict[str, np.ndarray]:
    """Returns pictures uint8 (H, W, 3) by key; `keys` has the key of each number.

    Raises UserError if a shard is damaged or has other keys."""
    found = {}
    for shard in shard_set.shards:
        wanted = sorted(n - shard.first for n in keys if shard.first <= n < shard.first + shard.count)
        if not wanted:
            continue
        name = shard_set.storage.join(shard.file)
        try:
            with shard_set.storage.open(shard.file) as file:
                members = islice(shards.read_members(file, name), wanted[-1] + 1)
                some = {i: member for i, member in enumerate(members) if i in wanted}
        except FileNotFoundError:
            raise UserError(
                f"{name} is missing though the manifest names it; give the command that made the set again"
            ) from None
        for i in wanted:
            key, files = some.get(i, ("nothing", {}))
            if key != keys[shard.first + i]:
                raise UserError(
                    f"{name} holds {key} where the tables have {keys[shard.first + i]}; `python -m synth verify` says what changed"
                )
            found[key] = shards.decode(key, files, name).pixels
    return found


def _row(tables: CaptionSet, part: Part, key: str, place: int) -> Row:
    stored = ["text_embedding"] if tables.identity["text_embeddings"] else []
    table = tables.read(part, [*VECTORS, "caption", *stored]).slice(place, 1)
    image, pseudo = (_unit(vectors(table[name], tables.dimensions))[0] for name in VECTORS)
    captions = table["caption"][0].as_py()
    cosines = (
        (_unit(text_vectors(table[stored[0]], tables.dimensions)[0]) @ image).tolist()
        if stored
        else [None] * len(captions)
    )
    return Row(
        key, part.first + place, list(zip(captions, cosines, strict=True)), image, float(pseudo @ image)
    )


def _unit(stored: np.ndarray) -> np.ndarray:
    """Returns the vectors as float32 (N, D) of unit length."""
    found = stored.astype(np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)
