"""Captioned sets: finished shards, each set with its caption tables. Several are read as one, in the order in which they are given."""

import json
from collections.abc import Sequence
from itertools import chain, islice, zip_longest
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from caption.table import CaptionSet
from synth.errors import UserError
from synth.sets.shards import ShardSet
from synth.settings import digest

_ENCODER = ("weights", "dimensions", "preprocessing")  # what tables that are read as one have in common

Json = dict[str, Any]


class CaptionedSet(NamedTuple):
    """A set of shards and the tables that were made for it."""

    shards: ShardSet
    captions: CaptionSet


def find(shards: Sequence[str], captions: Sequence[str]) -> tuple[CaptionedSet, ...]:
    """The sets at these places; where no tables are named, each set's only ones under data/captions. Raises UserError where shards and
    tables do not belong together, or the tables of two encoders are to be read as one."""
    if captions and len(captions) != len(shards):
        given = f"{len(shards)} sets of shards and {len(captions)} of caption tables are given"
        raise UserError(f"{given}; give --captions once for each --shards, in the same order, or not at all")
    found = [ShardSet(url) for url in shards]
    tables = [CaptionSet(url) for url in captions or map(_only_captions, found)]
    sets = tuple(map(CaptionedSet, found, tables))
    for each in sets:
        each.captions.require_made_for(each.shards)
        _require_same_encoder(sets[0].captions, each.captions)
    return sets


def require_resolution(sets: Sequence[CaptionedSet], resolution: int) -> None:
    """Raises UserError where the pictures of a set are no power-of-two multiple of what the model draws."""
    for shards, _ in sets:
        side = next(iter(shards.read(shards.shards[0]))).pixels.shape[0]
        factor, rest = divmod(side, resolution)
        if rest or factor & (factor - 1) or not factor:
            what = f"the pictures of {shards.storage.url} have {side} pixels a side"
            raise UserError(f"{what}, no power-of-two multiple of model.resolution = {resolution}")


def about(sets: Sequence[CaptionedSet]) -> Json:
    """What config.json says of a run's shards and captions."""
    shards = [{"url": s.storage.url, "digest": s.digest, "dataset": s.manifest["identity"].get("dataset")} for s, _ in sets]
    captions = [{"url": c.storage.url, "digest": c.digest, "encoder": c.identity["encoder"]} for _, c in sets]
    return {"shards": _as_one(shards, "dataset"), "captions": _as_one(captions, "encoder")}


def stored_texts(sets: Sequence[CaptionedSet], count: int) -> tuple[np.ndarray, list[str]]:
    """Stored vectors float32 (N, D) of the first samples of the sets by turns, and the first caption of each; N at most `count`."""
    turns = zip_longest(*(_first_texts(captions, count) for _, captions in sets))
    found = list(islice((text for text in chain.from_iterable(turns) if text is not None), count))
    return np.stack([vector for vector, _ in found]), [caption for _, caption in found]


def _first_texts(captions: CaptionSet, count: int) -> list[tuple[np.ndarray, str]]:
    """Those of the first samples of a set's first shard."""
    table = captions.read(captions.parts[0], ["pseudo_caption", "caption"]).slice(0, count)
    vectors = np.array(table["pseudo_caption"].to_pylist(), np.float32)
    return list(zip(vectors, [(texts or [""])[0] for texts in table["caption"].to_pylist()], strict=True))


def _as_one(rows: Sequence[Json], name: str) -> Json:
    """The row of one set as it is; of several their names, a digest of their digests, and the rows."""
    if len(rows) == 1:
        return rows[0]
    names = dict.fromkeys(str(row[name]) for row in rows)
    return {name: " + ".join(names), "digest": digest([row["digest"] for row in rows]), "sets": rows}


def _require_same_encoder(one: CaptionSet, other: CaptionSet) -> None:
    differ = [key for key in _ENCODER if one.identity[key] != other.identity[key]]
    if differ:
        made = f"{one.storage.url} was made by {one.identity['encoder']} and {other.storage.url} by {other.identity['encoder']}"
        raise UserError(f"{made}, which differ in {' and '.join(differ)}; sets that are read as one need tables of one encoder")


def _only_captions(shards: ShardSet) -> str:
    """The only finished tables of these shards at the default place. Raises UserError, listing them, where there are several or none."""
    dataset = shards.manifest["identity"].get("dataset", "")
    found = []
    for manifest in sorted(Path("data/captions", str(dataset)).glob("*/manifest.json")):
        made_for = json.loads(manifest.read_text()).get("shards", {})
        found += [str(manifest.parent)] if made_for.get("digest") == shards.digest else []
    if not found:
        raise UserError(
            f"no caption tables of {shards.storage.url} are in data/captions/{dataset}; `make captions` makes them, or --captions"
        )
    if len(found) > 1:
        raise UserError(f"{shards.storage.url} has several caption tables; choose by --captions: {', '.join(found)}")
    return found[0]
