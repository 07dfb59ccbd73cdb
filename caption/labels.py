"""DOOR. Labels of samples: positives of each other in contrastive learning, and classes of a probe.

    class      the class of a formula picture, by its index; of other sets the entry `class` or `class_name`
    caption    the first line of the .txt, else the short sentence of a formula picture
    others     the entry of this name in the JSON

Classes of two formula sets differ. Equal names are one label in all sets. A label may have words, for a probe
by names.
"""

from collections.abc import Hashable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from caption.sentences import names
from caption.sentences.attributes import sentences
from synth.errors import UserError
from synth.sets import shards
from synth.sets.shards import Shard, ShardSet
from synth.settings import digest

CLASS, CAPTION = "class", "caption"
KINDS = (CLASS, CAPTION)

_LAW = ("dataset", "family", "law", "stream", "config", "seed")  # of the classes of a formula set

Json = dict[str, Any]


class Labels(NamedTuple):
    """The labels of all samples of some sets."""

    of_samples: list[np.ndarray]  # int64 (samples,) for each shard, in order
    words: list[str | None]  # of each label, by its number: a text that names it, or None


def of_sets(sets: Sequence[ShardSet], kind: str) -> list[np.ndarray]:
    """Returns the labels of all samples of the sets, int64 (samples,) for each shard, in order.

    Raises UserError if samples have no such label, or one that is neither text nor number, or if they lie in
    an object store and must be read."""
    return named(sets, kind).of_samples


def named(sets: Sequence[ShardSet], kind: str) -> Labels:
    """Returns the labels of all samples of the sets, with their words.

    Classes of scenes have the names of their main objects, other formula classes have none. Raises UserError
    as `of_sets`."""
    known: dict[Hashable, int] = {}
    words: list[str | None] = []
    labels: list[np.ndarray] = []
    for shard_set in sets:
        law = _law(shard_set) if kind == CLASS else None
        for shard in shard_set.shards:
            numbers = []
            for name, text in _of_law(shard, *law) if law else _read(shard_set, shard, kind):
                if name not in known:
                    known[name] = len(known)
                    words.append(text)
                numbers.append(known[name])
            labels.append(np.array(numbers, np.int64))
    return Labels(labels, words)


def _law(shard_set: ShardSet) -> tuple[str, int, Sequence[str] | None] | None:
    """Returns the digest, the number and the words of the classes of a formula set, or None for another set.

    Picture i of a formula set is of class i mod C. Sets of one law and seed have the same classes."""
    identity = shard_set.manifest["identity"]
    if not set(_LAW) <= identity.keys():
        return None
    config = identity["config"]
    words = names.of_classes(identity["family"], config)
    return digest({key: identity[key] for key in _LAW}), int(config["classes"]), words


def _of_law(
    shard: Shard, law: str, classes: int, words: Sequence[str] | None
) -> Iterator[tuple[Hashable, str | None]]:
    """Yields the class of each sample of a shard, with its words."""
    for index in range(shard.first, shard.first + shard.count):
        number = index % classes
        yield (law, number), words[number] if words else None


def _read(shard_set: ShardSet, shard: Shard, kind: str) -> Iterator[tuple[Hashable, str | None]]:
    """Yields the label of each sample of a shard, with its words."""
    url = shard_set.storage.url
    if "://" in url:
        problem = f"the {kind} of each picture of {url} must be read first"
        raise UserError(f"{problem}; copy the set to this machine and give its folder")
    for key, files in shard_set.verified(shard):
        sample = shards.describe(key, files, shard.file)
        name = words = _caption(sample) if kind == CAPTION else sample.metadata.get(kind)
        if kind == CLASS:
            words = sample.metadata.get("class_name", name)
            name = words if name is None else name
        if name is None:
            raise UserError(f"sample {key} of {url} has no {kind}; give another set, or another label")
        if isinstance(name, list | dict):
            problem = f"the {kind} of sample {key} of {url} is neither a text nor a number"
            raise UserError(f"{problem}; give another label")
        yield name, words if isinstance(words, str) else None


def _caption(sample: shards.Description) -> str | None:
    """Returns the caption of a sample, or None if it has none."""
    if sample.captions:
        return sample.captions[0]
    try:
        return sentences(sample.metadata)[0]
    except KeyError:
        return None
