"""What decides a run: frozen dataclasses, changed by `--set group.key=value`, kept as JSON.

`model`, `loss`, `training` and `data` decide every number of a run; `run`, how it is carried out, may change from one start to the next.
"""

import dataclasses
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from synth import settings as plain
from synth.errors import UserError
from train.models.losses import LossConfig
from train.models.stylegan2 import Config as ModelConfig

Json = dict[str, Any]

PRECISIONS = ("fp32", "bf16")


@dataclass(frozen=True)
class Training:
    """Steps, optimisers, averages."""

    batch: int = 64  # of all ranks together
    g_lr: float = 2.5e-3
    d_lr: float = 2.5e-3
    beta2: float = 0.99  # of Adam; its first is 0
    path_every: int = 4  # steps between two of the path length; 0: never
    r1_every: int = 16
    mixing: float = 0.9  # share of pictures with two latents
    ema_half_life: int = 20_000  # images
    ema_ramp_up: float = 0.05
    precision: str = "fp32"  # of features; statistics are fp32 always
    seed: int = 0

    def __post_init__(self) -> None:
        _require_least(self, 1, "batch")
        _require_least(self, 0, "path_every", "r1_every", "seed", "ema_half_life", "ema_ramp_up", "g_lr", "d_lr")
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision is {self.precision}; it must be fp32 or bf16")
        for name in ("mixing", "beta2"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must lie in 0..1")


@dataclass(frozen=True)
class Data:
    """Which samples are seen, and what stands for their texts."""

    text: str = "pseudo"  # or stored, caption, mix:SHARE
    xi: float = 0.25  # of pseudo-captions, equation 3
    caption_xi: float = 0.0  # the same noise on captions; LAFITE's program has 1/9
    fraction: float = 1.0  # of the set, chosen by the seed

    def __post_init__(self) -> None:
        _require_least(self, 0, "xi", "caption_xi")
        if not 0 < self.fraction <= 1:
            raise ValueError(f"fraction is {self.fraction}; it must be above 0 and at most 1")


@dataclass(frozen=True)
class Run:
    """How a run is carried out; none of it changes a number."""

    images: int = 10_000_000  # seen in the end
    micro_batch: int = 0  # samples of a rank at once; 0: all of its part of the batch
    tick: int = 4_000  # images between two lines of the log
    checkpoint: int = 200_000  # images between two checkpoints
    samples: int = 200_000  # images between two grids
    workers: int = 1  # processes that read, a rank
    cache_gb: float = 50.0  # of fetched files, a node

    def __post_init__(self) -> None:
        _require_least(self, 1, "images", "tick", "checkpoint", "samples")
        _require_least(self, 0, "micro_batch", "workers", "cache_gb")


@dataclass(frozen=True)
class Config:
    """Everything about a run but where it reads and writes."""

    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    training: Training = field(default_factory=Training)
    data: Data = field(default_factory=Data)
    run: Run = field(default_factory=Run)


def with_settings(settled: Config, settings: Iterable[str]) -> Config:
    """The config with each `group.key=value` put in. Raises UserError for an unknown key, listing the known, and for a refused value."""
    groups = [f.name for f in dataclasses.fields(Config)]
    for setting in settings:
        group, dot, rest = setting.partition(".")
        if group not in groups or not dot:
            keys = [f"{g}.{f.name}" for g in groups for f in dataclasses.fields(getattr(settled, g))]
            raise UserError(f"unknown setting {setting!r}; known are {', '.join(keys)}")
        settled = dataclasses.replace(settled, **{group: plain.with_settings(getattr(settled, group), [rest])})
    return settled


def to_json(settled: Config) -> Json:
    """The config as plain JSON."""
    return dict(json.loads(plain.canonical(settled)))


def from_json(values: Json) -> Config:
    """A config back from its JSON. Raises UserError where this version has other settings."""
    try:
        return plain.from_json(Config, values)
    except (ValueError, TypeError) as error:
        raise UserError(f"this run was made by another version of exnihilo: {error}") from None


def differences(there: Json, here: Json) -> list[str]:
    """What differs between two configs in JSON, but for `run`."""
    old, new = ({f"{g}.{k}": v for g, group in c.items() if g != "run" for k, v in group.items()} for c in (there, here))
    rows = [(key, old.get(key, "not set"), new.get(key, "not set")) for key in {**old, **new}]
    return [f"{key} is {before} there and {now} here" for key, before, now in rows if before != now]


def require_divisible(settled: Config, ranks: int) -> int:
    """The samples of a rank at once. Raises UserError where ranks, micro-batches and groups do not divide the batch."""
    batch, groups = settled.training.batch, (settled.loss.contrastive_group, settled.model.mbstd_group)
    part, rest = divmod(batch, ranks)
    micro = settled.run.micro_batch or part
    if rest or not part:
        raise UserError(f"a batch of {batch} is not divided by {ranks} ranks; give another training.batch")
    if part % micro:
        raise UserError(f"the {part} samples of a rank are not divided by run.micro_batch = {micro}")
    if settled.training.path_every and settled.loss.path_weight and micro % 2:
        raise UserError(f"{micro} samples at once are not divided by 2, and the path length is taken of every other; give more")
    for group in groups:
        if micro % group and micro != batch:
            raise UserError(f"{micro} samples at once are not divided by groups of {group}, which act on consecutive samples; give more")
        if batch % min(group, batch):
            raise UserError(f"a batch of {batch} is not divided by groups of {group}; give another training.batch")
    return micro


def _require_least(values: Any, least: float, *names: str) -> None:
    for name in names:
        if getattr(values, name) < least:
            raise ValueError(f"{name} is {getattr(values, name)}; it must be at least {least}")
