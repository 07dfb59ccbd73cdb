"""Groups of pictures of one class or caption: train/stream/groups.py and caption/labels.py."""

from collections import Counter
from dataclasses import replace
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from caption import labels
from synth.errors import UserError
from synth.sets.shards import ShardSet
from tests.kit import make_small, write_foreign
from tests.kit_train import PSEUDO, first
from train.model import Wanted
from train.stream import live
from train.stream.cache import Cache
from train.stream.captioned_sets import CaptionedSet
from train.stream.groups import LEFT_OUT, Groups
from train.stream.order import BLOCK
from train.stream.stream import Stream

LABELS = [np.arange(40) % 7, np.arange(25) % 7, np.array([7, 7, 3, LEFT_OUT])]
REMOTE = [np.arange(12) % 3 for _ in range(24)]


def groups(order: Groups, group: int, epoch: int = 0) -> list[tuple[tuple[int, int], ...]]:
    """The groups of an epoch, each as its shards and rows."""
    places = order.places(epoch * order.samples, order.samples)
    pairs = [(place.shard, place.row) for place in places]
    return [tuple(pairs[i : i + group]) for i in range(0, len(pairs), group)]


def test_a_group_has_one_label_and_an_epoch_shows_no_picture_twice() -> None:
    order = Groups(LABELS, seed=3, group=3)
    for epoch in range(3):
        shown = groups(order, 3, epoch)
        assert all(len({LABELS[shard][row] for shard, row in group}) == 1 for group in shown)
        assert max(Counter(pair for group in shown for pair in group).values()) == 1
    assert groups(order, 3, 0) != groups(order, 3, 1)


def test_every_label_gives_as_many_groups_as_it_fills() -> None:
    counts = Counter(int(label) for part in LABELS for label in part if label != LEFT_OUT)
    order = Groups(LABELS, seed=0, group=4)
    shown = Counter(int(LABELS[group[0][0]][group[0][1]]) for group in groups(order, 4))
    assert shown == {label: count // 4 for label, count in counts.items() if count >= 4}
    # Other pictures of a label wait in another epoch.
    assert len({pair for epoch in range(6) for group in groups(order, 4, epoch) for pair in group}) == 66


@pytest.mark.parametrize("local", [True, False])
def test_any_position_can_be_gone_on_from(local: bool) -> None:
    order = Groups(REMOTE, seed=3, group=3, local=local)
    together = order.places(0, 700)
    for start, count in ((0, 1), (95, 3), (37, 200), (287, 2), (250, 450)):
        assert order.places(start, count) == together[start : start + count]


def test_groups_of_remote_sets_stay_within_a_block_of_shards() -> None:
    order = Groups(REMOTE, seed=1, group=3, local=False)
    blocks = list(islice(order.shards(0), 6))
    assert [len(block) for _, block in blocks] == [BLOCK] * 6
    assert sorted(shard for _, block in blocks[:3] for shard in block) == list(range(24))
    for (begins, block), (ends, _) in pairwise(blocks):
        places = order.places(begins, ends - begins)
        assert {place.shard for place in places} <= set(block)
        named = [REMOTE[place.shard][place.row] for place in places]
        assert all(len(set(named[i : i + 3])) == 1 for i in range(0, len(named), 3))


def test_a_last_remote_block_without_groups_is_part_of_the_one_before() -> None:
    labels = [np.arange(5)] * 9
    order = Groups(labels, seed=1, group=3, local=False)
    assert order.in_use == 9 and order.samples == 45


def test_too_few_pictures_of_a_label_are_refused() -> None:
    with pytest.raises(UserError, match=r"no class or caption of these sets has 70 pictures"):
        Groups(LABELS, seed=0, group=70)
    rare = [np.arange(i * 4, i * 4 + 4) for i in range(20)]
    with pytest.raises(UserError, match=r"8 shards of these remote sets have no 2 .*with fewer classes"):
        Groups(rare, seed=0, group=2, local=False)


def stream(shards: Path, *, group: int = 4, positives: str = "class", fraction: float = 1.0) -> Stream:
    """The stream of a set's pictures in groups, two views each."""
    wanted = Wanted((), views=2, group=group, positives=positives)
    captioned = CaptionedSet(ShardSet(str(shards)), None)
    return Stream([captioned], replace(PSEUDO, wanted=wanted), cache=Cache("unused"), fraction=fraction)


@pytest.fixture(scope="module")
def few_classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small set with five classes of eight pictures."""
    out = tmp_path_factory.mktemp("few") / "set"
    make_small(out, settings=("classes=5",))
    return out


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_ranks_and_starts_change_no_batch_of_groups(few_classes: Path, ranks: int) -> None:
    def batches(start: int, count: int, rank: int, ranks: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
        read = first(stream(few_classes).batches(start, 12, rank=rank, ranks=ranks), count)
        return [(batch.pictures, batch.labels) for batch in read if batch.labels is not None]

    whole = batches(0, 6, 0, 1)
    for start in (0, 1, 4):
        parts = [batches(12 * start, 2, rank, ranks) for rank in range(ranks)]
        for number, rows in enumerate(zip(*parts, strict=True)):
            pictures, named = (torch.cat(tensors) for tensors in zip(*rows, strict=True))
            assert torch.equal(pictures, whole[start + number][0])
            assert torch.equal(named, whole[start + number][1])
    for _, named in whole:
        assert all(len(set(part)) == 1 for part in named.view(3, 4).tolist())


def live_stream(*changes: str, on: tuple[CaptionedSet, ...] = (), positives: str = "class") -> Stream:
    """The stream of drawn pictures in groups of four, two views each."""
    settings = [f"live.visual_atoms.{change}" for change in changes]
    requested = live.find(["visual_atoms"], ["toy"] * len(on), settings, 32)
    wanted = Wanted((), views=2, group=4, positives=positives)
    visit = replace(PSEUDO, wanted=wanted, resolution=32)
    return Stream(on, visit, cache=Cache("unused"), live=requested.sets, shares=requested.shares)


def test_groups_of_a_live_set_are_those_of_the_stored_one(few_classes: Path) -> None:
    stored = Stream(
        [CaptionedSet(ShardSet(str(few_classes)), None)],
        replace(PSEUDO, wanted=Wanted((), views=2, group=4), resolution=32),
        cache=Cache("unused"),
    )
    drawn = live_stream("classes=5", "pictures=40")
    for ours, theirs in zip(first(drawn.batches(24, 12), 2), first(stored.batches(24, 12), 2), strict=True):
        assert torch.equal(ours.pictures, theirs.pictures)
        assert ours.labels is not None and theirs.labels is not None
        assert torch.equal(ours.labels, theirs.labels)


def test_live_sets_without_groups_are_refused(few_classes: Path) -> None:
    with pytest.raises(UserError, match=r"need an epoch .*set live.visual_atoms.pictures to its number"):
        live_stream("classes=5")
    with pytest.raises(UserError, match=r"one live set; give one --live NAME without --on"):
        live_stream("pictures=40", on=(CaptionedSet(ShardSet(str(few_classes)), None),))
    with pytest.raises(UserError, match=r"not known before .*training.positives=class"):
        live_stream("pictures=40", positives="caption")


def test_the_label_of_a_formula_picture_is_its_class(few_classes: Path, tmp_path: Path) -> None:
    shard_set = ShardSet(str(few_classes))
    named = labels.of_sets([shard_set], "class")
    classes = [sample.metadata["class"] for shard in shard_set.shards for sample in shard_set.read(shard)]
    assert np.concatenate(named).tolist() == classes
    make_small(tmp_path / "other", settings=("classes=5",), seed=1, samples=8)
    both = labels.of_sets([shard_set, shard_set, ShardSet(str(tmp_path / "other"))], "class")
    assert np.array_equal(both[0], both[3]) and set(both[0]).isdisjoint(both[6])


def test_pictures_with_one_caption_are_a_group(tmp_path: Path, few_classes: Path) -> None:
    texts = [{"txt": f"text {i % 3}\nmore {i}".encode()} for i in range(12)]
    foreign = ShardSet(str(write_foreign(tmp_path / "s", texts)))
    [named] = labels.of_sets([foreign], "caption")
    assert named.tolist() == [0, 1, 2] * 4
    assert labels.of_sets([foreign, foreign], "caption")[1].tolist() == named.tolist()
    assert len(set(np.concatenate(labels.of_sets([ShardSet(str(few_classes))], "caption")))) > 1
    with pytest.raises(UserError, match=r"photo_0 of .* has no class; give another set"):
        labels.of_sets([foreign], "class")


def test_a_label_that_is_a_list_or_an_object_is_refused(tmp_path: Path) -> None:
    for number, label in enumerate(('["a"]', '{"a": 1}')):
        place = write_foreign(tmp_path / str(number), [{"json": f'{{"tags": {label}}}'.encode()}] * 2)
        with pytest.raises(
            UserError, match=r"the tags of sample photo_0 of .* is neither a text nor a number"
        ):
            labels.of_sets([ShardSet(str(place))], "tags")


def test_a_fraction_leaves_pictures_out_of_all_groups(few_classes: Path) -> None:
    order = stream(few_classes, group=2, fraction=0.5).order
    shown = {place[1:] for place in order.places(0, 40 * (order.samples or 0))}
    assert len(shown) <= 20 and len(order.rows(0)) + len(order.rows(1)) + len(order.rows(2)) == 20
