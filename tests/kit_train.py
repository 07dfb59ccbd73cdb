"""Helpers for tests of training: the stream of a small set, and short runs in this process."""

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
from train.start.prepared import prepare
from train.start.request import TrainRequest
from train.start.training import finish, train
from train.stream.batches import Batch
from train.stream.cache import Cache
from train.stream.captioned_sets import CaptionedSet
from train.stream.stream import Stream
from train.stream.visits import Text, Visit

SIZES = (
    *("resolution=16", "channel_base=128", "channel_max=16", "mapping_layers=1"),
    *("z_dim=16", "w_dim=16", "text_width=16"),
)
SETTINGS = (
    *(f"model.{size}" for size in SIZES),
    *(f"training.{value}" for value in ("batch=8", "path_every=2", "r1_every=3", "precision=fp32")),
    *("loss.contrastive_group=4", "loss.cong_weight=0"),
    *("run.tick=16", "run.checkpoint=40", "run.samples=80", "run.workers=0"),
)
DENOISER = (
    *("model.resolution=16", "model.itself=8", "model.reads=8", "model.channels=32,48"),
    *("model.text_width=32", "training.batch=8", "training.warm_up=80", "training.precision=fp32"),
    *("training.decay_from=200", "training.decay_to=400"),
    *("run.tick=16", "run.checkpoint=40", "run.samples=480", "run.workers=0"),
)
OPTIONS = [part for setting in SETTINGS for part in ("--set", setting)]
LOSSES = ("g/", "d/", "path/", "r1/", "denoise/")
GAN = Wanted(vectors=("d", "g"))
PSEUDO = Visit(resolution=16, seed=4, text=Text(), xi=0.25, caption_xi=0.0, wanted=GAN)


def stream(
    shards: object, tables: object, visit: Visit = PSEUDO, *, cache: str = "unused", fraction: float = 1.0
) -> Stream:
    """Opens the stream of one set."""
    captioned = CaptionedSet(ShardSet(str(shards)), CaptionSet(str(tables)))
    return Stream([captioned], visit, cache=Cache(cache), fraction=fraction)


def joined(parts: list[Batch]) -> list[bytes]:
    """Returns every tensor of a global batch, from its ranks' parts."""
    rows = [[part.pictures, *part.vectors.values()] for part in parts]
    return [torch.cat(tensors).numpy().tobytes() for tensors in zip(*rows, strict=True)]


def first(batches: Iterator[Batch], count: int) -> list[Batch]:
    """Returns the first batches of a stream and closes it."""
    head = list(islice(batches, count))
    batches.close()  # type: ignore[attr-defined]
    return head


def quiet(request: TrainRequest) -> int:
    """Trains without a display. Returns the number of the signal that ended the run."""
    return finish(train(request))


def losses(run: Path) -> list[dict[str, float]]:
    """Returns the rows of a run's log without the values that depend on time."""
    kept = ("images_seen", "skipped", *LOSSES)
    return [{k: v for k, v in row.items() if k.startswith(kept)} for row in json_lines(run / log.LOG)]


def weights(run: Path) -> dict[str, bytes]:
    """Returns the files of a run's newest checkpoint."""
    return {p.name: p.read_bytes() for p in sorted(checkpoint.require(run).iterdir())}


def refused(request: TrainRequest, sentence: str, *, ranks: int = 1) -> None:
    """Asserts that a request is refused in one sentence, and that it writes nothing."""
    existed = Path(request.out).exists()
    with pytest.raises(UserError, match=sentence) as error:
        if ranks == 1:
            quiet(request)
        else:
            prepare(request, "cpu", ranks=ranks)
    assert "\n" not in str(error.value)
    assert Path(request.out).exists() == existed
