"""The table of named experiments, one a line: what it is, hours and disk it takes, and what came of it once measured.

Hours are for one A100 unless said otherwise, by the published 12.5 s/kimg of plain StyleGAN2 at 256 px and half these channels, times 3 for
channels, text and CLIP: none of the large ones has been run by exnihilo yet. Disk is that of the run, at one checkpoint in 200,000 images:
0.2 GB each at 256 px, and twice 1.3 GB of full state.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from synth.errors import UserError
from train.config import Config, Data, Run, Training
from train.models.losses import LossConfig
from train.models.stylegan2 import Config as ModelConfig


@dataclass(frozen=True)
class Preset:
    """A named experiment."""

    name: str
    make: Callable[[], Config]
    what: str
    hours: str
    disk: str
    result: str = "not run yet"


def _config(model: dict[str, Any], training: dict[str, Any], run: dict[str, Any], loss: dict[str, Any], data: dict[str, Any]) -> Config:
    return Config(ModelConfig(**model), LossConfig(**loss), Training(**training), Data(**data), Run(**run))


def _of(
    model: dict[str, Any] | None = None,
    training: dict[str, Any] | None = None,
    run: dict[str, Any] | None = None,
    loss: dict[str, Any] | None = None,
    data: dict[str, Any] | None = None,
) -> Callable[[], Config]:
    return partial(_config, model or {}, training or {}, run or {}, loss or {}, data or {})


_LAFITE = {"projection": "batch_sum", "contrast": "sharpened"}
_NOISED = {"xi": 3.0, "caption_xi": 1 / 9}
_SMALL = {"resolution": 64, "channel_base": 8192, "channel_max": 256, "z_dim": 256, "w_dim": 256, "text_width": 256, "mapping_layers": 4}
_TINY = {"resolution": 32, "channel_base": 1024, "channel_max": 64, "z_dim": 128, "w_dim": 128, "text_width": 128, "mapping_layers": 2}
_TINY_RUN = {"images": 30_000, "tick": 1_000, "checkpoint": 10_000, "samples": 5_000}
_TOLD = {"text": "caption"}
_TENTH = {**_TOLD, "fraction": 0.1}  # the part of its sets that the paper fine-tunes on
_BOTH = {"g_lr": 1e-3, "d_lr": 1e-3}

_COCO = {"d_lr": 1e-3}
_SHORT, _SHORTER = ({"images": n, "checkpoint": 100_000, "samples": 100_000} for n in (1_000_000, 500_000))
_TINY_SHORT = {**_TINY_RUN, "images": 20_000}
_TINY_BATCH = {"batch": 32}
_HOURS = "0.1 on 2 cores"
_EMOJI = "KD (efficientnet-lite0) 0.43 in the demo, scratch 0.49"

PRESETS = {
    p.name: p
    for p in [
        Preset("paper-256", _of(), "the paper's pre-training: 10 epochs of a million, plain equations", "100", "13 GB"),
        Preset("lafite-256", _of({"style": "w"}, loss=_LAFITE, data=_NOISED), "the same as LAFITE's program has it", "100", "13 GB"),
        Preset("small-64", _of(_SMALL, run={"images": 2_000_000}), "a quarter of the side and of the channels", "5", "1.5 GB"),
        Preset("tiny-32", _of(_TINY, _TINY_BATCH, _TINY_RUN), "for a laptop", _HOURS, "0.1 GB", "6.6 s/kimg a core; cond 6.94 -> 5.46"),
        Preset("coco-256", _of(training=_COCO, run=_SHORT, data=_TENTH), "fine-tuning on 10 % of MSCOCO", "10", "5 GB"),
        Preset("cub-256", _of(training=_BOTH, run=_SHORTER, data=_TENTH), "fine-tuning on 10 % of CUB", "5", "4 GB"),
        Preset("celeba_hq-256", _of(training=_BOTH, run=_SHORTER, data=_TENTH), "fine-tuning on 10 % of CelebA-HQ", "5", "4 GB"),
        Preset("emoji-32", _of(_TINY, {**_TINY_BATCH, **_BOTH}, _TINY_SHORT, data=_TOLD), "fine-tuning on emoji", _HOURS, "0.1 GB", _EMOJI),
    ]
}


def get(name: str) -> Preset:
    """The preset of that name. Raises UserError, listing the known."""
    if name not in PRESETS:
        raise UserError(f"unknown preset {name!r}; known are {', '.join(PRESETS)}")
    return PRESETS[name]
