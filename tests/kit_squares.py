"""A model of squares on backdrops, trained for seconds: for identities of editing, inversion and naming."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from train import runs
from train.config import RunConfig, RunSettings, to_json
from train.distributed import Ranks
from train.loop import Trainer
from train.model import Context
from train.models.denoiser import Noise, Sizes
from train.models.diffusion import Config, Training
from train.models.words import Vocabulary
from train.runs import Run
from train.stream.batches import Batch

SIZES = Sizes(
    resolution=8, channels=(32, 48), reads=(4, 8), itself=(4, 8), text_width=32, text_dim=8, tokens=12
)
COLOURS = {"red": (230, 25, 25), "green": (25, 230, 25), "blue": (25, 25, 230)}
WORDS = ("a", *COLOURS, "square", "on")
SURVEY = {"words": WORDS, "sigma_data": 0.8}
VOCABULARY = Vocabulary(WORDS)


def batch() -> Batch:
    """Returns squares on backdrops, with their words."""
    pixels, tokens = np.empty((12, 1, 3, 8, 8), np.uint8), []
    for i in range(12):
        names = list(COLOURS)
        one, other = names[i % 3], names[(i + 1 + i // 6) % 3]
        pixels[i] = np.array(COLOURS[other])[:, None, None]
        pixels[i, :, :, 2:6, 2:6] = np.array(COLOURS[one])[:, None, None]
        tokens.append(VOCABULARY(f"a {one} square on {other}"))
    return Batch(torch.from_numpy(pixels), {}, torch.tensor(tokens))


def trained(
    place: Path,
    model: str = "diffusion",
    groups: Any = None,
    steps: int = 15,
    survey: Sequence[str] = WORDS,
) -> Run:
    """Returns a run of a model in a new folder, by default of a denoiser. `survey` has its words."""
    place.mkdir()
    groups = groups or Config(SIZES, Noise(), Training(batch=12, warm_up=0, drop_vector=1.0))
    surveyed = {**SURVEY, "words": tuple(survey)}
    context = Context(torch.device("cpu"), torch.float32, surveyed)
    with torch.random.fork_rng(devices=[]):
        trainer = Trainer(RunConfig(model, groups, run=RunSettings()), context, Ranks.join("cpu"))
        for _ in range(steps):
            trainer.step(batch())
    metadata = {"model": model, "config": to_json(trainer.config), "survey": surveyed}
    (place / "config.json").write_text(json.dumps({**metadata, "shards": {}, "captions": {}, "encoder": {}}))
    trainer.save(place)
    return runs.find(place)
