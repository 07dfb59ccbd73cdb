from collections import Counter
from itertools import islice, pairwise

import pytest

from train.stream.order import BLOCK, Order, Place

COUNTS = [7, 3, 1, 5] * 6  # 24 shards, three blocks


def test_an_epoch_sees_every_sample_once_and_the_next_in_another_order() -> None:
    order = Order(COUNTS, seed=3)
    epochs = [order.places(e * order.samples, order.samples) for e in range(3)]
    for number, epoch in enumerate(epochs):
        assert Counter(epoch) == Counter(
            Place(number, s, r) for s, count in enumerate(COUNTS) for r in range(count)
        )
    assert [p[1:] for p in epochs[0]] != [p[1:] for p in epochs[1]]


def test_any_position_can_be_gone_on_from() -> None:
    order = Order(COUNTS, seed=3)
    together = order.places(0, 300)
    for start, count in ((0, 1), (95, 3), (37, 200), (96, 96), (250, 50)):
        assert order.places(start, count) == together[start : start + count]


def test_blocks_keep_few_shards_in_use_and_mix_them() -> None:
    order = Order(COUNTS, seed=0)
    blocks = list(islice(order.shards(0), 6))
    assert [len(shards) for _, shards in blocks] == [BLOCK] * 6
    assert sorted(s for _, shards in blocks[:3] for s in shards) == list(range(24))
    for (begins, shards), (ends, _) in pairwise(blocks):
        places = order.places(begins, ends - begins)
        assert {p.shard for p in places} == set(shards)
        assert [p.shard for p in places] != sorted((p.shard for p in places), key=shards.index)


def test_from_within_a_block_its_shards_come_first() -> None:
    order = Order(COUNTS, seed=0)
    blocks = iter(order.shards(0))
    (_, first), (begins, second) = next(blocks), next(blocks)
    assert next(iter(order.shards(begins - 1)))[1] == first
    assert next(iter(order.shards(begins))) == (begins, second)


def test_seeds_differ() -> None:
    assert Order(COUNTS, seed=0).places(0, 20) != Order(COUNTS, seed=1).places(0, 20)


@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.001])
def test_a_fraction_is_a_fixed_part_of_the_set(fraction: float) -> None:
    order, whole = Order(COUNTS, 5, fraction=fraction), Order(COUNTS, 5)
    part = {p[1:] for p in order.places(0, order.samples)}
    assert len(part) == order.samples == max(1, round(fraction * whole.samples))
    assert {p[1:] for p in order.places(7 * order.samples, order.samples)} == part
    assert part <= {p[1:] for p in whole.places(0, whole.samples)}
    assert (
        part != {p[1:] for p in Order(COUNTS, 6, fraction=fraction).places(0, order.samples)}
        or order.samples == 1
    )
