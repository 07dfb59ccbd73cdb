"""DOOR. Runs: their configs, their checkpoints, and their models. No other code opens them.

A RUN is one of

    a run directory          config.json and checkpoints/, from `pretrain` and `finetune`
    an export folder         config.json and the parts for drawing, from `python -m train export --out FOLDER`
    a shipped model's name   such a folder data/NAME of this checkout
"""

import copy
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from caption import encoders
from synth.checkout import ROOT
from synth.errors import UserError
from train import checkpoint, config, model
from train.checkpoint import COMMITTED
from train.config import RunConfig
from train.model import Context, Loaded

CONFIG = "config.json"

_NEEDED = {"config", "shards", "captions", "encoder"}  # in config.json

Json = dict[str, Any]


@dataclass(frozen=True)
class Run:
    """A run and its folder."""

    path: Path
    about: Json  # its config.json

    @property
    def model(self) -> str:
        """The name of the model's module."""
        return str(self.about.get("model", config.ADDED["model"]))

    @property
    def config(self) -> RunConfig:
        """Its config. Raises UserError if this version has other settings."""
        return config.from_json(self.about["config"], self.model)

    @property
    def survey(self) -> Json:
        """The measurements of the set before the first step."""
        return dict(self.about.get("survey") or {})

    @property
    def exported(self) -> bool:
        """True for an export folder."""
        return (self.path / COMMITTED).exists()

    def checkpoint(self, images_seen: int | None = None) -> Path:
        """Returns the checkpoint at these images, by default the newest.

        Raises UserError if there is none."""
        if self.exported:
            if images_seen not in (None, self.about["images_seen"]):
                raise UserError(
                    f"{self.path} has no checkpoint at {images_seen} images; it has {self.about['images_seen']}"
                )
            return self.path
        return checkpoint.require(self.path, images_seen)

    def checkpoints(self) -> list[Path]:
        """Returns all checkpoints, oldest first."""
        return [self.path] if self.exported else checkpoint.committed(self.path)

    def images_seen(self, found: Path) -> int:
        """Returns the clock of a checkpoint of this run."""
        return int(self.about["images_seen"]) if self.exported else checkpoint.images_seen(found)

    def encoder(self, name: str | None = None, device: str = "cpu") -> encoders.Encoder:
        """Returns the encoder of the run's captions.

        Raises UserError if it is missing or another one is given."""
        source = encoders.find(name or self.encoder_name)
        if source.sha256 != self.about["encoder"]["digest"]:
            raise UserError(
                f"the encoder {source.name} has other weights than the one of {self.path}; give that one by --encoder"
            )
        return encoders.load(source, device, "fp32")

    @property
    def encoder_name(self) -> str:
        """The recorded name of the captions' encoder. Raises UserError if the run reads no captions."""
        if not self.about["encoder"]:
            raise UserError(f"{self.path} is a run of {self.model}, which reads no captions")
        return str(self.about["encoder"]["name"])

    def load(self, found: Path | None = None, device: str = "cpu") -> Loaded:
        """Returns a checkpoint's model, averages in place, frozen. Parts that thinning has removed are left
        out.

        Raises UserError if a file is damaged or of another version."""
        found, groups = found or self.checkpoint(), self.config.groups
        context = Context(torch.device(device), torch.float32, self.survey)
        bare, files = _bare(self.model, groups, context), checkpoint.modules(found)
        averages = {name: copy.deepcopy(bare[part]) for name, part in files.items() if name != part}
        standing = {
            part: name for name, part in reversed(files.items()) if name != part
        }  # of several averages the first
        parts = {
            part: averages[standing[part]] if part in standing else bare[part]
            for part in bare
            if part in files.values()
        }
        for name, module in {**parts, **averages}.items():
            _fill(module, found, standing.get(name, name))
        return Loaded(self.model, groups, self.survey, parts, averages)


def find(place: str | Path) -> Run:
    """Returns the run in a folder, or the shipped one of that name. Raises UserError if there is none."""
    path = Path(place)
    if not path.exists() and (ROOT / "data" / str(place) / CONFIG).exists():
        path = ROOT / "data" / str(place)
    return Run(path, describe(path))


def load(place: str) -> Loaded:
    """Returns the newest model of a RUN. Raises UserError if there is none."""
    return find(place).load()


def load_part(path: str | Path) -> nn.Module:
    """Returns the module of one file of a checkpoint, with its weights.

    Raises UserError if it is no part of a model."""
    origin = checkpoint.origin_of(Path(path))
    if origin is None:
        raise UserError(f"{path} is no part of a model: its metadata names none")
    context = Context(torch.device("cpu"), torch.float32, origin["survey"])
    part = _bare(origin["model"], config.groups_from_json(origin["config"], origin["model"]), context)[
        origin["part"]
    ]
    part.load_state_dict(load_file(path))
    return part.requires_grad_(False)


def describe(run: Path) -> Json:
    """Returns config.json. Raises UserError if the folder is no run."""
    try:
        about = json.loads((run / CONFIG).read_text())
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(
            f"{run} is no run: it has no {CONFIG}; `python -m train pretrain` makes one"
        ) from None
    except ValueError:
        about = None
    if not isinstance(about, dict) or not about.keys() >= _NEEDED:
        raise UserError(f"{run / CONFIG} is damaged; give another run")
    return about


def _bare(name: str, groups: Any, context: Context) -> dict[str, nn.Module]:
    """Returns a model's parts with first weights. Leaves torch's random state as it was."""
    with torch.random.fork_rng(devices=[]):
        return dict(model.find(name).parts(groups, context))


def _fill(module: nn.Module, found: Path, name: str) -> None:
    """Loads the weights of a file, frozen. Raises UserError if they are of another model."""
    try:
        module.load_state_dict(checkpoint.tensors(found, checkpoint.part_file(name)))
    except RuntimeError:
        raise UserError(
            f"{found / checkpoint.part_file(name)} is of another model than its config says"
        ) from None
    module.requires_grad_(False)
