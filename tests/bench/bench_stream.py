"""Speed of the stream and of the join: pictures per CPU-second, beside webdataset's own pipeline."""

import tempfile
import time
from itertools import islice
from pathlib import Path

import numpy as np

from caption.join import dataset
from caption.table import CaptionSet
from synth.sets.shards import ShardSet
from tests.kit import make_small, make_tables
from train.model import Wanted
from train.stream.cache import Cache
from train.stream.captioned_sets import CaptionedSet
from train.stream.reader import Reader, Slice
from train.stream.stream import Stream
from train.stream.visits import Text, Visit

PICTURES, BATCH, ROUNDS = 1024, 64, 3


def ours(shards: Path, tables: Path, resolution: int) -> float:
    """Returns pictures per CPU-second, with their texts, in batches of the stream's order."""
    # Stream.
    visit = Visit(resolution, 0, Text(), 0.25, 0.0, Wanted(vectors=("d", "g")))
    captioned = CaptionedSet(ShardSet(str(shards)), CaptionSet(str(tables)))
    stream = Stream([captioned], visit, cache=Cache("unused"))

    # Rounds.
    best = 0.0
    for _ in range(ROUNDS):
        reader = Reader(stream._sources, visit, Slice(stream.order, 0, BATCH))
        begun = time.process_time()
        for start in range(0, PICTURES, BATCH):
            reader(start)
        best = max(best, PICTURES / (time.process_time() - begun))
    return best


def joined(shards: Path, tables: Path, *columns: str) -> float:
    """Returns pictures a CPU-second of caption.join, batched, with these columns of the tables."""
    best = 0.0
    for _ in range(ROUNDS):
        begun = time.process_time()
        count = sum(len(b["key"]) for b in dataset(str(shards), str(tables), columns).batched(BATCH))
        best = max(best, count / (time.process_time() - begun))
    return best


def webdatasets(shards: Path) -> float:
    """Returns pictures per CPU-second of WebDataset(...).decode("rgb8"), batched, without texts."""
    import webdataset as wds

    [tar] = shards.glob("*.tar")
    best = 0.0
    for _ in range(ROUNDS):
        begun = time.process_time()
        samples = iter(wds.WebDataset(str(tar), shardshuffle=False).decode("rgb8").to_tuple("png"))
        count = 0
        while batch := [pixels for (pixels,) in islice(samples, BATCH)]:
            count += len(np.stack(batch))
        best = max(best, count / (time.process_time() - begun))
    return best


def main() -> None:
    """Prints the speed of both for two sets and two resolutions."""
    with tempfile.TemporaryDirectory() as folder:
        for dataset_name in ("visual_atoms", "fractals"):
            shards, tables = Path(folder) / dataset_name, Path(folder) / f"{dataset_name}-tables"
            make_small(
                shards, dataset=dataset_name, samples=PICTURES, shard_size=PICTURES, size=256, settings=()
            )
            make_tables(shards, tables, "nano")
            theirs = webdatasets(shards)
            for resolution in (256, 32):
                rate = ours(shards, tables, resolution)
                print(f"{dataset_name:<14} {resolution:>4} px  {rate:8,.0f} pictures a CPU-second", end="")
                print(f"  webdataset {theirs:,.0f}  ratio {rate / theirs:.1f}")
            rate, alone = joined(shards, tables, "pseudo_caption", "caption"), joined(shards, tables)
            print(f"{dataset_name:<14}    join  {rate:8,.0f} pictures a CPU-second", end="")
            print(f"  webdataset {theirs:,.0f}  ratio {rate / theirs:.1f}  without columns {alone:,.0f}")


if __name__ == "__main__":
    main()
