"""Words of textual inversion: their folders, and models with these words.

A word's folder has config.json and word.safetensors. It belongs to the weights that it was learned with.
"""

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from synth.errors import UserError
from synth.sets.storage import reading
from synth.settings import digest
from train.model import Loaded
from train.models import textual_inversion
from train.models.denoiser import Denoiser
from train.models.diffusion import DECODER, DENOISER
from train.models.textual_inversion import ROWS
from train.models.words import TextStates

CONFIG, TENSORS = "config.json", "word.safetensors"

_KEYS = {"word", "run", "weights", "settings", "layers"}  # of config.json

Json = dict[str, Any]


def added(model: Loaded, places: Sequence[str]) -> Loaded:
    """Returns a model with the words of these folders.

    Raises UserError if a folder is none of a word, the word is taken, or it belongs to other weights."""
    if not places:
        return model
    words, tensors = dict[str, tuple[int, int]](), list[Mapping[str, Tensor]]()
    denoiser = denoiser_of(model, "this run")
    weights = fingerprint(denoiser)
    for place in places:
        config = config_of(Path(place))
        word = str(config["word"])
        if config["weights"] != weights:
            problem = f"{place} holds a word of {config['run']}, and this run has other weights"
            raise UserError(f"{problem}; give the run and the checkpoint that the word was learned with")
        if word in words or word in model.survey["words"]:
            raise UserError(f"--word {place} is {word!r}, a word that this run has already; leave it out")
        words |= [sizes_of(place)]
        tensors.append(_tensors(Path(place) / TENSORS, denoiser, words[word]))
    return with_tensors(model, words, tensors)


def with_tensors(
    model: Loaded, words: Mapping[str, tuple[int, int]], tensors: Sequence[Mapping[str, Tensor]]
) -> Loaded:
    """Returns a model with learned words, each with its number of tokens and of layers, and its tensors."""
    sized = list(zip(tensors, words.values(), strict=True))
    grown = textual_inversion.with_words(denoiser_of(model, "this run"), sized)
    parts = {**model.parts, DENOISER: grown}
    return dataclasses.replace(model, survey=survey_with(model.survey, words), parts=parts)


def denoiser_of(model: Loaded, place: str) -> Denoiser:
    """Returns a model's denoiser. Raises UserError if it cannot learn words."""
    denoiser = model.parts.get(DENOISER)
    if not isinstance(denoiser, Denoiser):
        raise UserError(f"{place} is a run of {model.name}, which learns no words; give a run of diffusion")
    if not isinstance(denoiser.text, TextStates):
        problem = f"{place} reads a frozen text tower, which takes no new words"
        raise UserError(f"{problem}; give a run with words of its own")
    if DECODER in model.parts:
        raise UserError(f"{place} draws latents, which pictures must become first; give a run on pixels")
    return denoiser


def fingerprint(denoiser: Denoiser) -> str:
    """Returns the sha256 of a denoiser's weights: equal for a run and for its export."""
    hashes = [
        [name, hashlib.sha256(value.cpu().float().numpy().tobytes()).hexdigest()]
        for name, value in sorted(denoiser.state_dict().items())
    ]
    return digest(hashes)


def survey_with(survey: Json, words: Mapping[str, tuple[int, int]]) -> Json:
    """Returns a survey with learned words, each with its number of tokens and of layers."""
    return {**survey, "learned": {**survey.get("learned", {}), **words}}


def sizes_of(place: str) -> tuple[str, tuple[int, int]]:
    """Returns the word of a folder with its number of tokens and of layers.

    Raises UserError if the folder is none of a word."""
    config = config_of(Path(place))
    return str(config["word"]), (config["settings"]["tokens"], config["layers"])


def _tensors(file: Path, denoiser: Denoiser, sizes: tuple[int, int]) -> dict[str, Tensor]:
    """Returns the tensors of a word with these numbers of tokens and of layers, which change a denoiser.

    Raises UserError if the file is missing or damaged."""
    width = cast(TextStates, denoiser.text).word.embedding_dim
    shapes = {name: tuple(weight.shape) for name, weight in denoiser.state_dict().items()}
    shapes[ROWS] = (math.prod(sizes), width)
    try:
        with reading(str(file)):
            tensors = load_file(file)
        if ROWS in tensors and all(shapes.get(n) == tuple(t.shape) for n, t in tensors.items()):
            return tensors
    except (FileNotFoundError, SafetensorError):
        pass
    problem = f"{file} is {'damaged' if file.exists() else 'missing'}"
    raise UserError(f"{problem}; learn the word again by `python -m train invert`")


def config_of(place: Path) -> Json:
    """Returns the config.json of a word's folder. Raises UserError if it is none."""
    config = _read(place)
    if config is None:
        raise UserError(f"{place} holds no word; `python -m train invert` learns one")
    return config


def is_word(place: Path) -> bool:
    """Returns True for a word's folder."""
    return _read(place) is not None


def _read(place: Path) -> Json | None:
    """Returns the config.json of a word's folder, or None if it is none."""
    try:
        config = json.loads((place / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(config, dict) or not config.keys() >= _KEYS:
        return None
    settings = config["settings"]
    sizes = (settings.get("tokens") if isinstance(settings, dict) else None, config["layers"])
    return config if all(type(size) is int and size > 0 for size in sizes) else None
