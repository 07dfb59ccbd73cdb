"""Prompts for drawing many pictures: the captions of the sets that a run has read, or of another set."""

from collections.abc import Iterator
from itertools import chain

from caption.sentences.attributes import sentences
from synth.errors import UserError
from synth.sets import shards
from synth.sets.shards import ShardSet
from train.runs import Run
from train.stream.live import LiveSet

_LOOKED_AT = 200  # samples for each wanted prompt, before a live set is given up


def of_run(run: Run, count: int, on: str | None = None) -> list[str]:
    """Returns different captions of the run's sets in turn, or of the set `on`.

    Formula pictures give their long sentence, others their first caption. Raises UserError if there are
    fewer, or a set has moved."""
    if on:
        sources = [_stored(ShardSet(on))]
    else:
        recorded = run.metadata["shards"]
        rows = recorded.get("sets", [recorded])
        sources = [_live(row["live"]) if "live" in row else _stored(ShardSet(row["url"])) for row in rows]

    # Each text once, the sets in turn.
    texts: dict[str, None] = {}
    looked, waiting = 0, list(sources)
    while waiting and len(texts) < count and looked < _LOOKED_AT * count:
        for source in list(waiting):
            text = next(source, None)
            if text is None:
                waiting.remove(source)
            elif len(texts) < count:
                texts[text] = None
            looked += 1
    if len(texts) < count:
        place = on or f"the sets of {run.path}"
        raise UserError(f"{place} have {len(texts):,} different captions; give --prompts of at most that")
    return list(texts)


def _live(identity: dict[str, object]) -> Iterator[str]:
    """Yields the long sentences of a live set's pictures."""
    live = LiveSet.of(identity)
    size = live.size
    return (sample.captions[-1] for sample in live.samples(size, sentences))


def _stored(shard_set: ShardSet) -> Iterator[str]:
    """Yields a caption of each sample of a set."""
    url = shard_set.storage.url
    samples = chain.from_iterable(
        ((shard.file, *each) for each in shard_set.verified(shard)) for shard in shard_set.shards
    )
    for file, key, files in samples:
        sample = shards.describe(key, files, file)
        try:
            yield sample.captions[0] if sample.captions else sentences(sample.metadata)[-1]
        except KeyError:
            raise UserError(f"sample {key} of {url} has no caption; give --on SET with captions") from None
