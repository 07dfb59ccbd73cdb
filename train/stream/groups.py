"""The order of samples in groups of one label: pictures of one class, or with one caption, side by side.

Sets on this machine are one block. Otherwise the seed cuts the shards into blocks of eight, and groups are
drawn within a block, so few shards are in use at any time. Shards that are left over and have no group belong
to the last block. In an epoch the samples of a label are permuted and cut into groups. Those that fill no
group wait for another epoch. The groups of a block are permuted, and so are the blocks. The order is a pure
function of (seed, images seen).
"""

import functools
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any

import numpy as np

from synth.errors import UserError
from train.stream.order import BLOCK, Place, random_numbers

LEFT_OUT = -1  # the label of samples that no epoch shows

_BLOCKS, _GROUPS = 4, 5  # uses of random numbers; 0 to 3 are those of order.py and mixture.py


class Groups:
    """The order of a set with these labels, int64, of the samples in each of its shards.

    Raises UserError if a block has no `group` samples of one label."""

    def __init__(self, labels: Sequence[np.ndarray], seed: int, group: int, *, local: bool = True) -> None:
        self._labels, self._seed, self._group = tuple(labels), seed, group
        numbers = range(len(labels))
        if not local:
            numbers = random_numbers(seed, _BLOCKS, 0, 0).permutation(len(labels)).tolist()
        size = len(labels) if local else BLOCK
        self._blocks = [tuple(numbers[i : i + size]) for i in range(0, len(labels), size)]
        if len(self._blocks) > 1 and not self._groups_in(self._blocks[-1]):
            self._blocks[-2:] = [self._blocks[-2] + self._blocks[-1]]
        self.in_use = max(map(len, self._blocks))  # shards of a block
        self._sizes = [self._groups_in(block) * group for block in self._blocks]
        for block, samples in zip(self._blocks, self._sizes, strict=True):
            if not samples:
                raise self._too_few(block)
        self.samples = sum(self._sizes)  # of an epoch
        self._cached()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("_ordered", "_mixed")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._cached()

    def _cached(self) -> None:
        """Keeps the last blocks in memory."""
        self._mixed = functools.lru_cache(maxsize=2)(self._mixed_block)
        self._ordered = functools.lru_cache(maxsize=2)(self._ordered_blocks)

    def places(self, start: int, count: int) -> list[Place]:
        """Returns the places of consecutive positions, from `start` images seen."""
        places: list[Place] = []
        while len(places) < count:
            # Block of the next position.
            epoch, within = divmod(start + len(places), self.samples)
            order, ends = self._ordered(epoch)
            number = bisect_right(ends, within)
            first = ends[number - 1] if number else 0

            # Its samples from there on.
            rows = self._mixed(epoch, order[number])[within - first :][: count - len(places)]
            places += [Place(epoch, shard, row) for shard, row in rows.tolist()]
        return places

    def rows(self, shard: int) -> np.ndarray:
        """Returns the rows of a shard that epochs may show: int64, ascending."""
        return np.flatnonzero(self._labels[shard] != LEFT_OUT)

    def label(self, place: Place) -> int:
        """Returns the label of a sample."""
        return int(self._labels[place.shard][place.row])

    def shards(self, start: int) -> Iterator[tuple[int, list[int]]]:
        """Yields the first position of each block and its shards, from `start` images seen on, endlessly."""
        epoch = start // self.samples
        while True:
            order, ends = self._ordered(epoch)
            for begins, ends_at, number in zip([0, *ends], ends, order, strict=False):
                if epoch * self.samples + ends_at > start:
                    yield epoch * self.samples + begins, list(self._blocks[number])
            epoch += 1

    def _groups_in(self, block: Sequence[int]) -> int:
        """Returns the number of groups in a block."""
        labels = np.concatenate([self._labels[shard] for shard in block])
        _, counts = np.unique(labels[labels != LEFT_OUT], return_counts=True)
        return int((counts // self._group).sum())

    def _too_few(self, block: Sequence[int]) -> UserError:
        if len(self._blocks) == 1:
            problem = f"no class or caption of these sets has {self._group} pictures"
            return UserError(f"{problem}; give sets with more pictures of each, or a smaller group")
        problem = f"{len(block)} shards of these remote sets have no {self._group} pictures of one class"
        advice = "render the set with fewer classes, or copy it to this machine"
        return UserError(f"{problem}, and groups are drawn from so few at once; {advice}")

    def _ordered_blocks(self, epoch: int) -> tuple[list[int], list[int]]:
        """Returns the order of the blocks in an epoch, and their end positions."""
        order = random_numbers(self._seed, _BLOCKS, epoch, 1).permutation(len(self._blocks)).tolist()
        return order, list(accumulate(self._sizes[number] for number in order))

    def _mixed_block(self, epoch: int, number: int) -> np.ndarray:
        """Returns (shard, row) of a block's samples in their order: int64 (samples, 2)."""
        # Permuted samples, sorted by label.
        block, numbers = self._blocks[number], random_numbers(self._seed, _GROUPS, epoch, number)
        labels = np.concatenate([self._labels[shard] for shard in block])
        shown = np.flatnonzero(labels != LEFT_OUT)
        mixed = numbers.permutation(shown)
        by_label = mixed[np.argsort(labels[mixed], kind="stable")]

        # Whole groups of each label.
        _, counts = np.unique(labels[shown], return_counts=True)
        within = np.arange(len(by_label)) - np.repeat(np.cumsum(counts) - counts, counts)
        whole = within < np.repeat(counts // self._group * self._group, counts)
        groups = by_label[whole].reshape(-1, self._group)
        chosen = groups[numbers.permutation(len(groups))].ravel()

        # Their shards and rows.
        sizes = [len(self._labels[shard]) for shard in block]
        shards = np.repeat(np.array(block), sizes)
        rows = np.concatenate([np.arange(size) for size in sizes])
        return np.stack([shards[chosen], rows[chosen]], axis=1)
