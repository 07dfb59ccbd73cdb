"""The order of the samples of a run's sets: plain, in groups of one label, or a mixture with live sets."""

import itertools
from collections.abc import Sequence

import numpy as np

from caption import labels
from synth.errors import UserError
from train.model import Wanted
from train.stream import order
from train.stream.captioned_sets import CaptionedSet
from train.stream.groups import LEFT_OUT, Groups
from train.stream.live import LiveSet
from train.stream.mixture import Live, Mixture, Positions, Stored
from train.stream.order import Order


def positions(
    sets: Sequence[CaptionedSet],
    live: Sequence[LiveSet],
    wanted: Wanted,
    *,
    shares: Sequence[float] = (),
    seed: int,
    fraction: float = 1.0,
) -> Positions:
    """Returns the order of stored sets and live ones, which have the first shares.

    A fraction below 1 takes a part of each stored set. Raises UserError if it is not in (0, 1], and for sets
    that cannot be read in such groups, or together."""
    if not 0 < fraction <= 1:
        raise UserError(f"--fraction is {fraction:g}; it must be above 0 and at most 1")
    if live and fraction < 1:
        problem = f"data.fraction is {fraction:g}, and drawn sets have no parts"
        raise UserError(f"{problem}; give --set data.fraction=1 in place of --fraction, or leave --live out")
    if wanted.group > 1:
        return _live_groups(sets, live, wanted, seed) if live else _groups(sets, wanted, seed, fraction)
    if live:
        return _mixture(sets, live, shares, seed)
    return Order([shard.count for shards, _ in sets for shard in shards.shards], seed, fraction=fraction)


def _mixture(
    sets: Sequence[CaptionedSet], live: Sequence[LiveSet], shares: Sequence[float], seed: int
) -> Mixture:
    """Returns the order of live sets and stored ones. Raises UserError for sets in an object store."""
    if remote := next((shards.storage.url for shards, _ in sets if "://" in shards.storage.url), None):
        raise UserError(f"{remote} cannot be read beside --live; copy it to this machine and give its folder")
    counts = [[shard.count for shard in shards.shards] for shards, _ in sets]
    firsts = list(itertools.accumulate(map(len, counts), initial=0))
    orders: list[Live | Stored] = [Live(firsts[-1] + n, each.pictures, seed) for n, each in enumerate(live)]
    orders += [Stored(each, seed, first) for each, first in zip(counts, firsts, strict=False)]
    return Mixture(orders, shares, seed)


def _groups(sets: Sequence[CaptionedSet], wanted: Wanted, seed: int, fraction: float) -> Groups:
    """Returns the order of stored sets in groups. Raises UserError for too few pictures of each label."""
    named = labels.of_sets([shards for shards, _ in sets], wanted.positives)
    if fraction < 1:
        parts = order.chosen([len(part) for part in named], seed, fraction)
        for part, rows in zip(named, parts, strict=True):
            part[np.setdiff1d(np.arange(len(part)), rows)] = LEFT_OUT
    local = not any("://" in shards.storage.url for shards, _ in sets)
    return Groups(named, seed, wanted.group, local=local)


def _live_groups(sets: Sequence[CaptionedSet], live: Sequence[LiveSet], wanted: Wanted, seed: int) -> Groups:
    """Returns the order of a live set in groups of one class: that of an equal stored set.

    Raises UserError if the set is not alone, or has no epoch, or if captions are the labels."""
    if sets or len(live) > 1:
        problem = f"groups of {wanted.group} pictures are drawn from stored sets, or from one live set"
        raise UserError(f"{problem}; give one --live NAME without --on, or --set training.group=1")
    if wanted.positives != labels.CLASS:
        problem = f"drawn pictures with one {wanted.positives} are not known before they are drawn"
        raise UserError(f"{problem}; give --set training.positives=class, or --on SET in place of --live")
    one = live[0]
    if one.pictures is None:
        problem = f"groups of one class need an epoch of {one.dataset.name}"
        raise UserError(f"{problem}; set live.{one.dataset.name}.pictures to its number of pictures")
    return Groups([np.arange(one.pictures) % int(one.config.classes)], seed, wanted.group)
