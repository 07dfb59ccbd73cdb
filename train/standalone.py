"""The part of an exported model.py that all models share: opens the folder and draws from it.

Axes: N pictures, R resolution.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from synth.settings import from_json
from train.model import Context, Texts


@dataclass(frozen=True)
class Drawer:
    """An opened model."""

    module: Any  # Config, parts, Options, start and draw, as train/model.py describes them
    config: Any
    parts: dict[str, nn.Module]
    context: Context

    def texts(self, captions: Sequence[str]) -> Texts:
        """Returns captions as a model that reads words takes them."""
        tokenise = self.module.tokeniser(self.config, self.context.survey)
        rows = [torch.tensor(tokenise(caption)) for caption in captions]
        return Texts(tokens=nn.utils.rnn.pad_sequence(rows, batch_first=True).to(self.context.device))

    @torch.no_grad()
    def draw(self, texts: Texts, *, seed: int = 0, first: int = 0, **options: Any) -> Tensor:
        """Returns one picture of each text: float32 (N, 3, R, R), about -1..1.

        Picture i depends on its text, the seed and the number first + i alone. `options` are fields of
        Options."""
        count = len(texts)
        noise = self.module.start(self.config, range(first, first + count), seed).to(self.context.device)
        pictures = self.module.draw(self.parts, noise, texts, self.module.Options(**options), self.context)
        return pictures.contiguous()


def opened(folder: Path, device: str, **contents: Any) -> Drawer:
    """Returns the model of an exported folder, ready to draw. `contents` are those of the model's module.

    Leaves torch's random state as it was. Raises FileNotFoundError if the weights of a part are missing."""
    # Config.
    module = SimpleNamespace(**contents)
    metadata = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    groups = {name: values for name, values in metadata["config"].items() if name not in ("data", "run")}
    config = from_json(module.Config, groups)

    # Networks. The folder holds only those that draw, and its mark lists their files.
    context = Context(torch.device(device), torch.float32, dict(metadata.get("survey") or {}))
    with torch.random.fork_rng(devices=[]):
        networks = module.parts(config, context)
    files = {name: folder / f"{name}.safetensors" for name in networks}
    mark = folder / "COMMITTED"
    listed = json.loads(mark.read_text(encoding="utf-8")) if mark.exists() else ()
    present = {name for name, file in files.items() if file.exists() or file.name in listed}
    parts = {name: network for name, network in networks.items() if name in present or not present}
    for name, network in parts.items():
        network.load_state_dict(load_file(files[name], device=device))
        network.requires_grad_(False)
    return Drawer(module, config, parts, context)
