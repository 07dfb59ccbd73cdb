"""Labels of samples: samples with one label are positives of each other in a contrastive loss.

    class      the class of a formula picture, by its index; of other sets the entry `class` of the JSON
    caption    the first line of the .txt, else the short sentence of a formula picture

Classes of two sets differ. Equal captions are one label in all sets.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from caption.sentences.attributes import sentences
from synth.errors import UserError
from synth.sets import shards
from synth.sets.shards import Shard, ShardSet

CLASS, CAPTION = "class", "caption"
KINDS = (CLASS, CAPTION)

Json = dict[str, Any]


def of_sets(sets: Sequence[ShardSet], kind: str) -> list[np.ndarray]:
    """Returns the labels of all samples of the sets, int64 (samples,) for each shard, in order.

    Raises UserError if samples have no class or no caption, or if they lie in an object store and must be
    read."""
    labels: list[np.ndarray] = []
    known: dict[Any, int] = {}
    for number, shard_set in enumerate(sets):
        classes = _classes(shard_set) if kind == CLASS else None
        for shard in shard_set.shards:
            if classes:
                names: Sequence[Any] = [(number, index % classes) for index in _indices(shard)]
            else:
                names = list(_read(shard_set, shard, kind))
                names = [(number, name) for name in names] if kind == CLASS else names
            labels.append(np.array([known.setdefault(name, len(known)) for name in names], np.int64))
    return labels


def _indices(shard: Shard) -> range:
    return range(shard.first, shard.first + shard.count)


def _classes(shard_set: ShardSet) -> int | None:
    """Returns the number of classes of a formula set, or None for another set.

    Picture i of a formula set is of class i mod C."""
    identity = shard_set.manifest["identity"]
    drawn = "law" in identity and "family" in identity
    return int(identity["config"]["classes"]) if drawn else None


def _read(shard_set: ShardSet, shard: Shard, kind: str) -> Iterator[Any]:
    """Yields the class or the caption of each sample of a shard."""
    url = shard_set.storage.url
    if "://" in url:
        problem = f"the {kind} of each picture of {url} must be read before training"
        raise UserError(f"{problem}; copy the set to this machine and give its folder")
    for key, files in shard_set.verified(shard):
        sample = shards.describe(key, files, shard.file)
        name = sample.metadata.get("class") if kind == CLASS else _caption(sample)
        if name is None:
            other = CAPTION if kind == CLASS else CLASS
            advice = f"give --set training.positives={other}"
            raise UserError(f"sample {key} of {url} has no {kind}; {advice}, or another set")
        yield name


def _caption(sample: shards.Description) -> str | None:
    """Returns the caption of a sample, or None if it has none."""
    if sample.captions:
        return sample.captions[0]
    try:
        return sentences(sample.metadata)[0]
    except KeyError:
        return None
