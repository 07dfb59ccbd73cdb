"""Prompts for drawing many pictures: the captions of the sets that a run has read, or of another set."""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain, islice
from typing import Any

from caption import blending
from caption.blending import Blend
from caption.sentences import names
from caption.sentences.attributes import sentences
from synth.errors import UserError
from synth.sets import shards
from synth.sets.shards import ShardSet
from train.runs import Run
from train.stream.live import LiveSet
from train.stream.visits import Text

Json = dict[str, Any]

_LOOKED_AT = 200  # samples of a live set for each wanted prompt, before it is given up


def of_run(run: Run, count: int, on: str | None = None) -> list[str]:
    """Returns different captions of the run's sets in turn, or of the set `on`.

    Formula pictures give a text such as the run has read: one of its blend, else their long sentence. Others
    give their first caption. Stored sets that are not here are left out beside live ones. Raises UserError if
    there are fewer captions, or if a set of a run without live sets has moved."""
    data, seed = run.config.data, int(run.config.groups.training.seed)
    written = partial(_written, Text.parse(data.text).blend, seed)
    if on:
        sources = [_stored(ShardSet(on), written)]
    else:
        recorded = run.metadata["shards"]
        rows = recorded.get("sets", [recorded])
        live = [islice(_live(row["live"], written), _LOOKED_AT * count) for row in rows if "live" in row]
        sources = [*live]
        for row in (row for row in rows if "live" not in row):
            try:
                sources.append(_stored(ShardSet(row["url"]), written))
            except UserError:
                # A shipped run has been trained elsewhere, and draws its live sets here.
                if not live:
                    raise

    # Each text once, the sets in turn.
    texts: dict[str, None] = {}
    waiting = list(sources)
    while waiting and len(texts) < count:
        for source in list(waiting):
            text = next(source, None)
            if text is None:
                waiting.remove(source)
            elif len(texts) < count:
                texts[text] = None
    if len(texts) < count:
        place = f"the set {on} has" if on else f"the sets of {run.path} have"
        raise UserError(f"{place} {len(texts):,} different captions; give --prompts {len(texts)} or less")
    return list(texts)


def _written(blend: Blend | None, seed: int, sample: Json) -> str:
    """Returns a text of a formula picture: one that its blend gives a visit, else its long sentence."""
    if blend is None:
        return sentences(sample)[-1]
    [chances] = blending.chances(seed, [int(sample["index"])], 0)
    text = blend.text(lambda: sample, sentences(sample), [names.name(sample)], chances)
    return str(text)


def _live(identity: Json, written: Callable[[Json], str]) -> Iterator[str]:
    """Yields the texts of a live set's pictures."""
    live = LiveSet.of(identity)
    samples = live.samples(live.size, lambda sample: (written(sample),))
    return (sample.captions[0] for sample in samples)


def _stored(shard_set: ShardSet, written: Callable[[Json], str]) -> Iterator[str]:
    """Yields a caption of each sample of a set."""
    url = shard_set.storage.url
    samples = chain.from_iterable(
        ((shard.file, *each) for each in shard_set.verified(shard)) for shard in shard_set.shards
    )
    for file, key, files in samples:
        sample = shards.describe(key, files, file)
        try:
            yield sample.captions[0] if sample.captions else written(sample.metadata)
        except KeyError:
            raise UserError(f"sample {key} of {url} has no caption; give --on SET with captions") from None
