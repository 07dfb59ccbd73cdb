"""The order of several sources with stated shares: a pure function of (seed, images seen).

Positions are cut into blocks of 1,024. The shares give the number of positions of each source in a block, and
the positions of a block are permuted. Each source keeps its own order. A live source is endless, and its
n-th position is the picture with index n. One with a number of pictures has epochs, in the order of shards.
"""

import functools
import math
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import pairwise
from typing import Protocol, TypeVar

import numpy as np

from train.stream.order import Order, Place, random_numbers

LEAST = 0.01  # share of a source, so that every block has some of its samples

T = TypeVar("T")

_BLOCK = 1024  # positions
_MIXED = 3  # use of random numbers; 0 to 2 are those of order.py
_SHARD = 4096  # pictures of a tar, if `synth shards` is given no other number


class Positions(Protocol):
    """The order of one source, or of all."""

    @property
    def samples(self) -> int | None:
        """The samples of an epoch, or None if the source is endless."""

    @property
    def in_use(self) -> int:
        """The shards of a block: those that are read in turn."""

    def places(self, start: int, count: int) -> list[Place]:
        """Returns the places of consecutive positions, from `start` on."""

    def rows(self, shard: int) -> np.ndarray:
        """Returns the rows of a stored shard that an epoch shows: int64, ascending."""


class Stored:
    """The order of a stored set. Its first shard has the number `first` among those of all sets."""

    def __init__(self, counts: Sequence[int], seed: int, first: int) -> None:
        self._order, self.numbers = Order(counts, seed), range(first, first + len(counts))
        self.samples, self.in_use = self._order.samples, self._order.in_use

    def places(self, start: int, count: int) -> list[Place]:
        """Returns the places of consecutive positions of this set."""
        places = self._order.places(start, count)
        return [Place(epoch, self.numbers[shard], row) for epoch, shard, row in places]

    def rows(self, shard: int) -> np.ndarray:
        """Returns the rows of a shard, given its number among those of all sets."""
        return self._order.rows(shard - self.numbers[0])


class Live:
    """The order of a live set: one shard of that number, with the indices of pictures as rows."""

    def __init__(self, shard: int, pictures: int | None, seed: int) -> None:
        self._shard, self.samples, self.in_use = shard, pictures, 1
        whole, rest = divmod(pictures or 0, _SHARD)
        # The order is that of shards with these pictures.
        self._order = Order([_SHARD] * whole + [rest] * (rest > 0), seed) if pictures else None

    def places(self, start: int, count: int) -> list[Place]:
        """Returns the places of consecutive positions of this set."""
        if self._order is None:
            return [Place(0, self._shard, index) for index in range(start, start + count)]
        places = self._order.places(start, count)
        return [Place(epoch, self._shard, _SHARD * shard + row) for epoch, shard, row in places]


def interleaved(sources: Sequence[Iterator[T]], shares: Sequence[float], most: int) -> Iterator[T]:
    """Yields at most `most` items of the sources by their shares, of each in its order.

    A source that ends leaves its place to the others."""
    taken, left = [0.0] * len(sources), set(range(len(sources)))
    while left and most:
        # The source that is furthest behind its share.
        number = min(left, key=lambda source: ((taken[source] + 1) / shares[source], source))
        try:
            item = next(sources[number])
        except StopIteration:
            left.remove(number)
            continue
        taken[number] += 1
        most -= 1
        yield item


class Mixture:
    """The order of sources with shares, which sum to 1."""

    def __init__(self, sources: Sequence[Stored | Live], shares: Sequence[float], seed: int) -> None:
        self._sources, self._seed = tuple(sources), seed
        parts = [Fraction(share).limit_denominator(10**6) for share in shares]
        # The ends of the shares on 0..1. The last end is 1 in spite of rounding.
        ends = [sum(parts[:n], Fraction(0)) for n in range(len(parts))]
        self._ends = (*ends, Fraction(1))
        self.in_use = sum(source.in_use for source in self._sources)
        counts = [source.samples for source in self._sources]
        self.samples = None if None in counts else sum(count or 0 for count in counts)

    def places(self, start: int, count: int) -> list[Place]:
        """Returns the places of consecutive positions, from `start` images seen."""
        places: list[Place] = []
        while len(places) < count:
            number, within = divmod(start + len(places), _BLOCK)
            mixed, firsts = _block(self._ends, self._seed, number)
            part = mixed[within : within + count - len(places)]

            # Each source's positions in this part are consecutive.
            rows: list[Place | None] = [None] * len(part)
            for source, first in enumerate(firsts):
                chosen = np.flatnonzero(part == source)
                earlier = int(np.count_nonzero(mixed[:within] == source))
                ordered = self._sources[source].places(first + earlier, len(chosen))
                for row, place in zip(chosen.tolist(), ordered, strict=True):
                    rows[row] = place
            places += [place for place in rows if place is not None]
        return places

    def rows(self, shard: int) -> np.ndarray:
        """Returns the rows of a stored shard: int64, ascending."""
        stored = [source for source in self._sources if isinstance(source, Stored)]
        return next(source.rows(shard) for source in stored if shard in source.numbers)


@functools.lru_cache(maxsize=4)
def _block(ends: tuple[Fraction, ...], seed: int, number: int) -> tuple[np.ndarray, list[int]]:
    """Returns the source of each position in a block (1024,), and each source's first own position."""
    begins, later = (_counts(ends, n * _BLOCK) for n in (number, number + 1))
    sizes = [after - before for before, after in zip(begins, later, strict=True)]
    random = random_numbers(seed, _MIXED, 0, number)
    return random.permutation(np.repeat(np.arange(len(sizes)), sizes)), begins


def _counts(ends: tuple[Fraction, ...], positions: int) -> list[int]:
    """Returns the number of each source's samples in the first `positions`, a multiple of a block."""
    return [after - before for before, after in pairwise(math.floor(positions * end) for end in ends)]
