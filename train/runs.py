"""DOOR. Runs: their configs, their checkpoints, and their models. No other code opens them.

A RUN is one of

    a run directory          config.json and checkpoints/, from `pretrain`, `finetune` and `import`
    an export folder         config.json and the parts for drawing, from `python -m train export --out FOLDER`
    a shipped model's name   such a folder data/NAME of this checkout
"""

import copy
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from caption import encoders
from synth.checkout import ROOT
from synth.errors import UserError
from synth.sets.storage import reading
from train import checkpoint, config, model, presets
from train.checkpoint import COMMITTED
from train.config import RunConfig
from train.model import Context, Loaded

CONFIG = "config.json"
LAW = 1  # increased when the same command gives other weights

_NEEDED = {"config", "shards", "captions", "encoder"}  # in config.json

Json = dict[str, Any]


def law(preset: str, changes: Iterable[str]) -> Json:
    """Returns what decides a run's weights besides its data and options: the law, and the resolved config.

    `changes` are settings GROUP.KEY=VALUE. Settings of `run` are left out, as they change rounding alone."""
    resolved = config.to_json(config.with_settings(presets.get(preset).make(), changes))
    return {"law": LAW, "config": {group: values for group, values in resolved.items() if group != "run"}}


@dataclass(frozen=True)
class Run:
    """A run and its folder."""

    path: Path
    metadata: Json  # the content of config.json

    @property
    def model(self) -> str:
        """The name of the model's module."""
        return str(self.metadata.get("model", config.ADDED["model"]))

    @property
    def config(self) -> RunConfig:
        """The run's config. Raises UserError if this version has other settings."""
        return config.from_json(self.metadata["config"], self.model)

    @property
    def survey(self) -> Json:
        """The measurements of the set before the first step."""
        return dict(self.metadata.get("survey") or {})

    @property
    def exported(self) -> bool:
        """True for an export folder."""
        # The mark of a damaged one may be missing.
        return (self.path / COMMITTED).exists() or "exported" in self.metadata

    def checkpoint(self, images_seen: int | None = None) -> Path:
        """Returns the checkpoint at these images, by default the newest.

        Raises UserError if there is none."""
        if self.exported:
            clock = self.metadata["images_seen"]
            if images_seen not in (None, clock):
                raise UserError(f"{self.path} has no checkpoint at {images_seen} images; it has {clock}")
            return self.path
        return checkpoint.require(self.path, images_seen)

    def checkpoints(self) -> list[Path]:
        """Returns all checkpoints, oldest first."""
        return [self.path] if self.exported else checkpoint.committed(self.path)

    def lacks(self) -> list[str]:
        """Returns the parts of the model that the newest checkpoint does not hold."""
        context, folder = Context(torch.device("cpu"), torch.float32, self.survey), self.checkpoint()
        files = checkpoint.modules(folder)
        return [part for part in _bare(self.model, self.config.groups, context) if part not in files]

    def images_seen(self, folder: Path) -> int:
        """Returns the clock of a checkpoint of this run."""
        return int(self.metadata["images_seen"]) if self.exported else checkpoint.images_seen(folder)

    def encoder(self, name: str | None = None, device: str = "cpu") -> encoders.Encoder:
        """Returns the encoder of the run's captions.

        Raises UserError if it is missing or another one is given, or if the run names none."""
        recorded = self.encoder_name
        source = encoders.find(name or recorded)
        if source.sha256 != self.metadata["encoder"]["digest"]:
            problem = f"the encoder {source.name} has other weights than the one of {self.path}"
            raise UserError(f"{problem}; give that one by --encoder")
        return encoders.load(source, device, "fp32")

    @property
    def encoder_name(self) -> str:
        """The recorded name of the captions' encoder. Raises UserError if the run has none."""
        if not self.metadata["encoder"]:
            problem = f"{self.path} names no encoder, as it has learned no vectors of captions"
            raise UserError(f"{problem}; give another run")
        return str(self.metadata["encoder"]["name"])

    def load(self, folder: Path | None = None, device: str = "cpu") -> Loaded:
        """Returns a checkpoint's model, averages in place, frozen. Leaves out parts that thinning removed.

        Raises UserError if a file is damaged or of another version."""
        # Networks with first weights, and the part that each file fills.
        folder, groups = folder or self.checkpoint(), self.config.groups
        context = Context(torch.device(device), torch.float32, self.survey)
        bare, files = _bare(self.model, groups, context), checkpoint.modules(folder)
        averages = {name: copy.deepcopy(bare[part]) for name, part in files.items() if name != part}

        # Of several averages of a part, the first stands in for it.
        stand_ins = {part: name for name, part in reversed(files.items()) if name != part}
        parts = {
            part: averages[stand_ins[part]] if part in stand_ins else module
            for part, module in bare.items()
            if part in files.values()
        }
        for name, module in {**parts, **averages}.items():
            _fill(module, folder, stand_ins.get(name, name))
        return Loaded(self.model, groups, self.survey, parts, averages)

    def untrained(self, device: str = "cpu") -> Loaded:
        """Returns the model with the first weights of the run, frozen."""
        groups = self.config.groups
        context = Context(torch.device(device), torch.float32, self.survey)
        parts = _bare(self.model, groups, context, seed=groups.training.seed)
        for part in parts.values():
            part.requires_grad_(False)
        return Loaded(self.model, groups, self.survey, parts, {})


def find(place: str | Path) -> Run:
    """Returns the run in a folder, or the shipped model of that name. Raises UserError if there is none."""
    path = Path(place)
    if not path.exists() and (ROOT / "data" / str(place) / CONFIG).exists():
        path = ROOT / "data" / str(place)
    return Run(path, describe(path))


def of_checkpoint(folder: Path) -> Run:
    """Returns the run of a checkpoint, or the export in a folder."""
    return find(folder if (folder / CONFIG).exists() else folder.parent.parent)


def load(place: str) -> Loaded:
    """Returns the newest model of a RUN. Raises UserError if there is none."""
    return find(place).load()


def load_part(path: str | Path) -> nn.Module:
    """Returns the module of one file of a checkpoint, with its weights.

    Raises UserError if it is no part of a model."""
    origin = checkpoint.origin_of(Path(path))
    if origin is None:
        raise UserError(
            f"{path} is no part of a model: its metadata names none; give PART.safetensors of a run"
        )
    context = Context(torch.device("cpu"), torch.float32, origin["survey"])
    groups = config.groups_from_json(origin["config"], origin["model"])
    part = _bare(origin["model"], groups, context)[origin["part"]]
    with reading(str(path)):
        part.load_state_dict(load_file(path))
    return part.requires_grad_(False)


def describe(run: Path) -> Json:
    """Returns config.json. Raises UserError if the folder is no run."""
    if encoders.is_folder(run):
        raise UserError(f"{run} is an encoder, and no run; give a run, such as formula-32")

    # A missing file is another error than a damaged one.
    try:
        with reading(str(run / CONFIG)):
            metadata = json.loads((run / CONFIG).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        fault = f"it has no {CONFIG}" if run.exists() else "there is no such folder"
        advice = "give one that `python -m train pretrain` made, or formula-32, the shipped one"
        raise UserError(f"{run} is no run: {fault}; {advice}") from None
    except ValueError:
        raise UserError(f"{run / CONFIG} is damaged; give another run") from None
    if not isinstance(metadata, dict) or not metadata.keys() >= _NEEDED:
        raise UserError(f"{run} is no run: its {CONFIG} describes something else; give a run")
    groups = metadata["config"]
    if not isinstance(groups, dict) or not all(isinstance(rows, dict) for rows in groups.values()):
        raise UserError(f"{run / CONFIG} is damaged; give another run")
    return metadata


def _bare(name: str, groups: Any, context: Context, *, seed: int | None = None) -> dict[str, nn.Module]:
    """Returns a model's parts with first weights, those of a seed if it is given. Leaves torch's random state
    as it was."""
    with torch.random.fork_rng(devices=[]):
        if seed is not None:
            torch.manual_seed(seed)
        return dict(model.find(name).parts(groups, context))


def _fill(module: nn.Module, folder: Path, name: str) -> None:
    """Loads the weights of a file, frozen. Raises UserError if they are of another model."""
    file = checkpoint.part_file(name)
    try:
        module.load_state_dict(checkpoint.tensors(folder, file))
    except RuntimeError:
        raise UserError(
            f"{folder / file} is of another model than its config says; give another run"
        ) from None
    module.requires_grad_(False)
