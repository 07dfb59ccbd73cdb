"""The config of a run: the model's own groups, and the loop's `data` and `run`.

The model's groups and `data` determine every number of a run. `run` may change at every start. Of its
settings, only micro_batch changes numbers, as sums round otherwise. `--set GROUP.KEY=VALUE` changes a
setting. config.json keeps all.
"""

import dataclasses
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self, TypeVar

from synth import settings
from synth.errors import UserError
from train import model
from train.model import Needs

Json = dict[str, Any]
T = TypeVar("T")

# Settings that older config.json files lack, each with the value that reproduces those runs.
# "model" is the name of the model's module; the others are "MODEL GROUP.KEY", or "loop GROUP.KEY" for the
# loop's groups.
ADDED: dict[str, Any] = {
    "model": "stylegan2",
    "stylegan2 model.mbstd_order": "consecutive",
    "stylegan2 loss.view": "whole",
    "stylegan2 loss.path_mean": "before",
    "stylegan2 training.mixing_cutoff": "sample",
    "stylegan2 training.texts": "network",
    "stylegan2 training.path_samples": "even",
    "stylegan2 training.unreached": "skip",
    "stylegan2 training.ema_clock": "after",
    "diffusion model.latents": "",
    "diffusion model.factor": 1,
    "diffusion model.planes": 3,
    "diffusion model.blocks": 1,
    "diffusion model.words": "own",
    "diffusion model.positions": False,
    "contrastive model.text_width": 128,
    "contrastive model.text_layers": 2,
    "contrastive model.tokens": 64,
    "contrastive loss.picture_weight": 1.0,
    "contrastive loss.text_weight": 0.0,
    "contrastive loss.text_temperature": 0.07,
    "loop data.mirror": False,
}


@dataclass(frozen=True)
class Data:
    """The samples of a run, and the vectors of their texts."""

    text: str = "pseudo"  # or stored, caption, synthetic, mix:SHARE, blend:SHARE
    xi: float = 0.25  # of pseudo-captions, equation 3
    caption_xi: float = 0.0  # the same noise on captions; LAFITE's program has 1/9
    fraction: float = 1.0  # of the set, chosen by the seed
    mirror: bool = False  # half of the visits see the picture mirrored; its embedding stays

    def __post_init__(self) -> None:
        settings.require_within(self, 0, 10**6, "xi", "caption_xi")
        if not 0 < self.fraction <= 1:
            raise ValueError(f"fraction is {self.fraction}; it must be above 0 and at most 1")


@dataclass(frozen=True)
class RunSettings:
    """Length, memory and outputs of a run. Only micro_batch changes numbers: sums round otherwise."""

    images: int = 10_000_000  # seen in the end
    micro_batch: int = 0  # samples of a rank in one pass; 0: its whole part of the batch
    tick: int = 4_000  # images between two lines of the log
    checkpoint: int = 200_000  # images between two checkpoints
    samples: int = 200_000  # images between two grids
    workers: int = 1  # processes that read, a rank
    cache_gb: float = 50.0  # of fetched files, a node

    def __post_init__(self) -> None:
        settings.require_within(self, 1, model.MOST_IMAGES, "images", "tick", "checkpoint", "samples")
        settings.require_within(self, 0, model.MOST_SIZE, "micro_batch", "cache_gb")
        settings.require_within(self, 0, 1024, "workers")


@dataclass(frozen=True)
class RunConfig:
    """The config of a run, without the paths that it reads and writes."""

    name: str  # of the model's module
    groups: Any  # the model's Config
    data: Data = field(default_factory=Data)
    run: RunSettings = field(default_factory=RunSettings)

    @classmethod
    def of(cls, name: str, changes: Mapping[str, Any] | None = None) -> Self:
        """Returns a model's config with the values of `changes`, by GROUP.KEY, in place of its defaults."""
        config = cls(name, model.find(name).Config())
        for group in config.by_group:
            values = {k.partition(".")[2]: v for k, v in (changes or {}).items() if k.startswith(f"{group}.")}
            config = config.replaced(group, dataclasses.replace(config.by_group[group], **values))
        return config

    @property
    def by_group(self) -> dict[str, Any]:
        """Every group by its name: the model's own, then `data` and `run`."""
        groups = {f.name: getattr(self.groups, f.name) for f in dataclasses.fields(self.groups)}
        return {**groups, "data": self.data, "run": self.run}

    @property
    def needs(self) -> Needs:
        """The needs of the model before it is built."""
        return model.needs(self.name, self.groups)

    def replaced(self, group: str, values: Any) -> Self:
        """Returns the config with `values` as the group of this name."""
        if group in ("data", "run"):
            return dataclasses.replace(self, **{group: values})
        return dataclasses.replace(self, groups=dataclasses.replace(self.groups, **{group: values}))


def with_settings(config: RunConfig, changes: Iterable[str]) -> RunConfig:
    """Returns the config with all `GROUP.KEY=VALUE` applied. Their order does not matter.

    Raises UserError for an unknown key, and lists the known ones. Raises UserError for values that their
    group refuses."""
    # Changes by group.
    groups, assignments = config.by_group, dict[str, list[str]]()
    for setting in changes:
        group, dot, assignment = setting.partition(".")
        if group not in groups or not dot:
            keys = [f"{name}.{f.name}" for name, values in groups.items() for f in dataclasses.fields(values)]
            raise UserError(f"unknown setting {setting!r}; known are {', '.join(keys)}")
        assignments.setdefault(group, []).append(assignment)

    # Each group at once.
    for group, rows in assignments.items():
        config = config.replaced(group, settings.with_settings(groups[group], rows, f"{group}."))
    return config


def to_json(config: RunConfig) -> Json:
    """Returns the groups as plain JSON."""
    return dict(json.loads(settings.canonical(config.by_group)))


def from_json(values: Json, name: str | None = None) -> RunConfig:
    """Returns a config from its JSON and its model's name.

    Raises UserError if this version has other settings."""
    name = name or ADDED["model"]
    groups = groups_from_json({k: v for k, v in values.items() if k not in ("data", "run")}, name)
    values = with_added(values, name)
    return RunConfig(
        name, groups, _from_json(Data, values.get("data")), _from_json(RunSettings, values.get("run"))
    )


def groups_from_json(values: Json, name: str) -> Any:
    """Returns a model's Config from its JSON. Raises UserError if this version has other settings."""
    return _from_json(model.find(name).Config, with_added(values, name))


def with_added(values: Json, name: str) -> Json:
    """Returns a config's JSON with later settings added, at the values that reproduce older runs."""
    values = {group: dict(rows) for group, rows in values.items()}
    for key, value in ADDED.items():
        owner, _, setting = key.partition(" ")
        group, _, setting = setting.partition(".")
        if owner in (name, "loop") and group in values:
            values[group].setdefault(setting, value)
    return values


def differences(there: Json, here: Json) -> list[str]:
    """Returns one sentence per setting that differs between two configs in JSON, except settings of `run`."""
    old, new = _flat(there), _flat(here)
    rows = [(key, old.get(key, "not set"), new.get(key, "not set")) for key in {**old, **new}]
    return [f"{key} is {before} there and {now} here" for key, before, now in rows if before != now]


def require_divisible(config: RunConfig, ranks: int) -> int:
    """Returns the samples of a rank in one pass.

    Raises UserError if ranks, micro-batches and groups do not divide the batch."""
    batch, needs = config.groups.training.batch, config.needs
    part, rest = divmod(batch, ranks)
    micro = config.run.micro_batch or part

    # The next batch that every rank can divide, as advice.
    unit = ranks * math.lcm(needs.multiple, *needs.groups)
    other_batch = f"give --set training.batch={-(-batch // unit) * unit}"
    larger = "give --set run.micro_batch=0" if config.run.micro_batch else other_batch

    # Ranks and micro-batches.
    if rest or not part:
        raise UserError(f"a batch of {batch} is not divided by {ranks} ranks; {other_batch}")
    if part % micro:
        problem = f"the {part} samples of a rank are not divided by run.micro_batch = {micro}"
        raise UserError(f"{problem}; give --set run.micro_batch=0, or a divisor")
    if needs.whole and micro != part:
        raise UserError(f"the loss of {config.name} couples the whole batch; give --set run.micro_batch=0")

    # Settings that couple the whole batch.
    if needs.coupling and (ranks > 1 or micro != part):
        sets = " ".join(f"--set {free}" for free in needs.coupling.values())
        problem = f"{' and '.join(needs.coupling)} need the whole batch in one pass"
        raise UserError(f"{problem}; give one rank and --set run.micro_batch=0, or {sets}")

    # Samples that the model couples.
    if micro % needs.multiple:
        problem = f"{micro} samples at once are not divided by {needs.multiple}, as {config.name} needs"
        raise UserError(f"{problem}; {larger}")
    for group in needs.groups:
        if micro % group and micro != batch:
            problem = f"{micro} samples at once are not divided by groups of {group} consecutive samples"
            raise UserError(f"{problem}; {larger}")
        if batch % min(group, batch):
            raise UserError(f"a batch of {batch} is not divided by groups of {group}; {other_batch}")
    return micro


def _flat(groups: Json) -> Json:
    """Returns the settings of a config in JSON by GROUP.KEY, without those of `run`."""
    return {f"{group}.{k}": v for group, rows in groups.items() if group != "run" for k, v in rows.items()}


def _from_json(kind: type[T], values: Any) -> T:
    try:
        return settings.from_json(kind, values)
    except (AttributeError, ValueError, TypeError) as error:
        problem = f"this run was made by another version of exnihilo: {error}"
        advice = "use that version, the commit in made_by of its config.json"
        raise UserError(f"{problem}; {advice}") from None
