"""The order of samples: a pure function of (seed, images seen).

An epoch sees every sample once. Its shards are permuted and cut into blocks of eight. The samples of a block
are permuted, so that few shards are in use at any time. The infinite sequence of epochs is cut into batches,
which may cross the end of an epoch. Its position is the only state.
"""

import functools
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple

import numpy as np

BLOCK = 8  # shards with mixed samples

_KEPT = 32  # blocks in memory: those of several sets that are read in turn

_SHARDS, _SAMPLES, _FRACTION = range(3)  # uses of random numbers


class Place(NamedTuple):
    """The shard and row of a position's sample."""

    epoch: int
    shard: int  # its number in the set
    row: int


class Order:
    """The order of a set with `counts` samples in its shards, or of a seeded `fraction` of them."""

    def __init__(self, counts: Sequence[int], seed: int, *, fraction: float = 1.0) -> None:
        self._seed = seed
        self._rows = None if fraction == 1 else chosen(counts, seed, fraction)
        self._counts = tuple(counts) if self._rows is None else tuple(map(len, self._rows))
        self.samples = sum(self._counts)  # N, of an epoch
        self.in_use = BLOCK  # shards of a block

    def places(self, start: int, count: int) -> list[Place]:
        """Returns the places of consecutive positions, from `start` images seen."""
        places: list[Place] = []
        while len(places) < count:
            # Block of the next position.
            epoch, within = divmod(start + len(places), self.samples)
            _, ends = self._blocks(epoch)
            number = bisect_right(ends, within)
            first = ends[number - 1] if number else 0

            # Its samples from there on. Rows of a fraction count its chosen samples only.
            rows = self._mixed(epoch, number)[within - first :][: count - len(places)]
            for shard, row in rows.tolist():
                places.append(Place(epoch, shard, row if self._rows is None else int(self._rows[shard][row])))
        return places

    def rows(self, shard: int) -> np.ndarray:
        """Returns the rows of a shard that an epoch shows: int64, ascending."""
        return np.arange(self._counts[shard]) if self._rows is None else self._rows[shard]

    def shards(self, start: int) -> Iterator[tuple[int, list[int]]]:
        """Yields the first position of each block and its shards, from `start` images seen on, endlessly."""
        epoch = start // self.samples
        while True:
            blocks, ends = self._blocks(epoch)
            for begins, ends_at, block in zip([0, *ends], ends, blocks, strict=False):
                if epoch * self.samples + ends_at > start:
                    yield epoch * self.samples + begins, list(block)
            epoch += 1

    def _blocks(self, epoch: int) -> tuple[list[tuple[int, ...]], list[int]]:
        """Returns the blocks of an epoch, each as its shards, and their end positions within the epoch."""
        return _blocks(self._counts, self._seed, epoch)

    def _mixed(self, epoch: int, number: int) -> np.ndarray:
        """Returns (shard, row) of a block's samples in their order: int64 (samples, 2)."""
        return _mixed(self._counts, self._seed, epoch, number)


@functools.lru_cache(maxsize=_KEPT)
def _blocks(counts: tuple[int, ...], seed: int, epoch: int) -> tuple[list[tuple[int, ...]], list[int]]:
    shards = random_numbers(seed, _SHARDS, epoch, 0).permutation(len(counts)).tolist()
    blocks = [tuple(shards[i : i + BLOCK]) for i in range(0, len(shards), BLOCK)]
    return blocks, list(accumulate(sum(counts[s] for s in block) for block in blocks))


@functools.lru_cache(maxsize=_KEPT)
def _mixed(counts: tuple[int, ...], seed: int, epoch: int, number: int) -> np.ndarray:
    shards = _blocks(counts, seed, epoch)[0][number]
    rows = np.concatenate([np.stack([np.full(counts[s], s), np.arange(counts[s])], axis=1) for s in shards])
    return rows[random_numbers(seed, _SAMPLES, epoch, number).permutation(len(rows))]


def chosen(counts: Sequence[int], seed: int, fraction: float) -> list[np.ndarray]:
    """Returns the rows of each shard in a random fraction of the set, which has at least one sample."""
    total = sum(counts)
    shown = np.zeros(total, bool)
    shown[random_numbers(seed, _FRACTION, 0, 0).permutation(total)[: max(1, round(total * fraction))]] = True
    return [np.flatnonzero(part) for part in np.split(shown, np.cumsum(counts)[:-1])]


def random_numbers(seed: int, use: int, epoch: int, number: int) -> np.random.Generator:
    """Returns the random numbers of one use in one epoch, of a block or of the whole set."""
    key, counter = np.array([seed, use], np.uint64), np.array([0, 0, epoch, number], np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter))
