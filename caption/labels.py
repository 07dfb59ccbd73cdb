"""DOOR. Labels of samples: positives of each other in contrastive learning, and classes of a probe.

    class      the class of a formula picture, by its index; of other sets the entry `class` or `class_name`
    caption    the first line of the .txt, else the short sentence of a formula picture
    others     the entry of this name in the JSON

Classes of two formula sets differ. Equal names are one label in all sets.
"""

from collections.abc import Hashable, Iterator, Sequence
from typing import Any

import numpy as np

from caption.sentences.attributes import sentences
from synth.errors import UserError
from synth.sets import shards
from synth.sets.shards import Shard, ShardSet
from synth.settings import digest

CLASS, CAPTION = "class", "caption"
KINDS = (CLASS, CAPTION)

_LAW = ("dataset", "family", "law", "stream", "config", "seed")  # of the classes of a formula set

Json = dict[str, Any]


def of_sets(sets: Sequence[ShardSet], kind: str) -> list[np.ndarray]:
    """Returns the labels of all samples of the sets, int64 (samples,) for each shard, in order.

    Raises UserError if samples have no such label, or if they lie in an object store and must be read."""
    known: dict[Hashable, int] = {}
    labels: list[np.ndarray] = []
    for shard_set in sets:
        law = _law(shard_set) if kind == CLASS else None
        for shard in shard_set.shards:
            indices = range(shard.first, shard.first + shard.count)
            names = [(law[0], index % law[1]) for index in indices] if law else _read(shard_set, shard, kind)
            labels.append(np.array([known.setdefault(name, len(known)) for name in names], np.int64))
    return labels


def _law(shard_set: ShardSet) -> tuple[str, int] | None:
    """Returns the digest and the number of the classes of a formula set, or None for another set.

    Picture i of a formula set is of class i mod C. Sets of one law and seed have the same classes."""
    identity = shard_set.manifest["identity"]
    if not set(_LAW) <= identity.keys():
        return None
    return digest({key: identity[key] for key in _LAW}), int(identity["config"]["classes"])


def _read(shard_set: ShardSet, shard: Shard, kind: str) -> Iterator[Hashable]:
    """Yields the label of each sample of a shard."""
    url = shard_set.storage.url
    if "://" in url:
        problem = f"the {kind} of each picture of {url} must be read first"
        raise UserError(f"{problem}; copy the set to this machine and give its folder")
    for key, files in shard_set.verified(shard):
        sample = shards.describe(key, files, shard.file)
        name = _caption(sample) if kind == CAPTION else sample.metadata.get(kind)
        if kind == CLASS and name is None:
            name = sample.metadata.get("class_name")
        if name is None:
            raise UserError(f"sample {key} of {url} has no {kind}; give another set, or another label")
        yield name


def _caption(sample: shards.Description) -> str | None:
    """Returns the caption of a sample, or None if it has none."""
    if sample.captions:
        return sample.captions[0]
    try:
        return sentences(sample.metadata)[0]
    except KeyError:
        return None
