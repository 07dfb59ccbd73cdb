"""Helpers of several test modules about training: the stream of a small set, and runs of a few steps in this process."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest
import torch

from caption.table import CaptionSet
from synth.errors import UserError
from synth.sets.shards import ShardSet
from tests.kit import json_lines
from train import checkpoint, log
from train.model import Wanted
from train.start import TrainRequest, finish, prepare, train
from train.stream.cache import Cache
from train.stream.captioned_sets import CaptionedSet
from train.stream.stream import Batch, Stream, Text, Visit

SIZES = (
    "resolution=16",
    "channel_base=128",
    "channel_max=16",
    "z_dim=16",
    "w_dim=16",
    "text_width=16",
    "mapping_layers=1",
)
SETTINGS = (
    *(f"model.{size}" for size in SIZES),
    *(
        "training.batch=8",
        "training.path_every=2",
        "training.r1_every=3",
        "loss.contrastive_group=4",
        "loss.cong_weight=0",
    ),
    *("run.tick=16", "run.checkpoint=40", "run.samples=80", "run.workers=0", "training.precision=fp32"),
)
OPTIONS = [part for setting in SETTINGS for part in ("--set", setting)]
LOSSES = ("g/", "d/", "path/", "r1/")
GAN = Wanted(vectors=("d", "g"))
PSEUDO = Visit(resolution=16, seed=4, text=Text(), xi=0.25, caption_xi=0.0, wanted=GAN)


def stream(
    shards: object, tables: object, visit: Visit = PSEUDO, *, cache: str = "unused", fraction: float = 1.0
) -> Stream:
    """Opens the stream of one set."""
    return Stream(
        [CaptionedSet(ShardSet(str(shards)), CaptionSet(str(tables)))],
        visit,
        cache=Cache(cache),
        fraction=fraction,
    )


def joined(parts: list[Batch]) -> list[bytes]:
    """Returns every tensor of a global batch, from its ranks' parts."""
    rows = [[part.pictures, *part.vectors.values()] for part in parts]
    return [torch.cat(tensors).numpy().tobytes() for tensors in zip(*rows, strict=True)]


def first(batches: Iterator[Batch], count: int) -> list[Batch]:
    """Takes the first batches of a stream and closes it."""
    taken = list(islice(batches, count))
    batches.close()  # type: ignore[attr-defined]
    return taken


def quiet(request: TrainRequest) -> int:
    """Trains without telling anybody."""
    return finish(train(request))


def losses(run: Path) -> list[dict[str, float]]:
    """Returns what a run's log contains that does not depend on the clock."""
    rows = json_lines(run / log.LOG)
    return [
        {k: v for k, v in row.items() if k in ("images_seen", "skipped") or k.startswith(LOSSES)}
        for row in rows
    ]


def weights(run: Path) -> dict[str, bytes]:
    """Returns the files of a run's newest checkpoint."""
    return {p.name: p.read_bytes() for p in sorted(checkpoint.require(run).iterdir())}


def refused(request: TrainRequest, sentence: str, *, ranks: int = 1) -> None:
    """Asserts that a request is refused in one sentence and leaves nothing."""
    there = Path(request.out).exists()
    with pytest.raises(UserError, match=sentence) as error:
        if ranks == 1:
            quiet(request)
        else:
            prepare(request, "cpu", ranks=ranks)
    assert "\n" not in str(error.value)
    assert Path(request.out).exists() == there
