"""Words for concepts, learned from a few pictures: `train invert`.

Axes: N pictures, R resolution, M texts, T tokens of a text.
"""

import dataclasses
import hashlib
import itertools
import json
import re
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import save
from torch import Tensor

from caption import encoders
from synth.errors import UserError
from synth.images import codecs
from synth.sets import targets
from synth.sets.completion import Progress
from synth.sets.shards import ShardSet
from synth.sets.storage import Folder
from synth.settings import with_settings
from train import runs
from train.model import Loaded
from train.models import textual_inversion
from train.models.textual_inversion import Inversion, Settings
from train.models.words import UNKNOWN, padded
from train.sampling import given, maps, unread
from train.sampling.learned import (
    CONFIG,
    TENSORS,
    config_of,
    denoiser_of,
    fingerprint,
    is_word,
    survey_with,
)

METHODS = textual_inversion.METHODS

# Neutral texts. Those with words that a run does not know are left out.
TEMPLATES = ("a {}", "one {}", "the {}", "{}", "a picture of {}", "there is a {}")

_WORD = re.compile(r"<[a-z0-9_-]+>|[a-z0-9]+")

Json = dict[str, Any]
Events = Generator[Progress | Json, None, None]  # finished steps, and last the row


@dataclass(frozen=True)
class InvertRequest:
    """The options of `invert`."""

    run: str
    pictures: str  # a folder of pictures or a finished set
    word: str
    init: str  # the word that the new one begins at
    out: str
    n: int = 5  # pictures of the folder, at most
    texts: tuple[str, ...] = TEMPLATES  # {} stands for the word
    images_seen: int | None = None
    device: str = "auto"
    settings: Settings = field(default_factory=Settings)


class WordTexts(NamedTuple):
    """The texts that a word is learned with, and its beginning."""

    first: int  # the token with its first vector
    known: tuple[str, ...]  # the texts, with {} in its place
    tokens: Tensor  # int64 (M, T), of M texts
    layers: int  # of cross-attention with vectors of their own


class LearnedWord(NamedTuple):
    """A learned word: its tensors by name, and the loss on its pictures before and after."""

    tensors: dict[str, Tensor]
    loss_before: float
    loss_after: float


def invert(request: InvertRequest) -> Events:
    """Learns a word from pictures, and writes its folder whole or not at all.

    Yields finished steps, and at the end the row of the word. A finished word of the same request is left
    alone. Raises UserError if the word is taken, a text has unknown words, the pictures do not fit, or
    another word is at the place."""
    # The run, its words, and the pictures.
    _require_place(request.out)
    run, device = runs.find(request.run), encoders.choose_device(request.device)
    maps.require_attention(run, {})
    model = run.load(run.checkpoint(request.images_seen), device)
    texts = texts_of(model, request.run, request.word, request.init, request.settings, request.texts)
    pictures = read(request.pictures, request.n, model.config.model.resolution, device)
    config: Json = {
        "word": request.word,
        "init": request.init,
        "run": request.run,
        "weights": fingerprint(denoiser_of(model, request.run)),
        "pictures": hashlib.sha256(pictures.cpu().numpy().tobytes()).hexdigest(),
        "texts": list(texts.known),
        "layers": texts.layers,
        "settings": dataclasses.asdict(request.settings),
    }
    row = _finished(Path(request.out), config)
    if row is None:
        # One command at a time learns a word there, and another may have just finished it.
        with Folder(request.out).exclusive() as note:
            if note:
                yield Progress(0, note=note)
            row = _finished(Path(request.out), config)
            if row is None:
                row = yield from _written(request, model, texts, pictures, config)
    yield row


def _written(
    request: InvertRequest, model: Loaded, texts: WordTexts, pictures: Tensor, config: Json
) -> Generator[Progress, None, Json]:
    """Yields finished steps. Writes the folder of the word, config.json last. Returns its row."""
    sizes = {request.word: (request.settings.tokens, texts.layers)}
    named = dataclasses.replace(model, survey=survey_with(model.survey, sizes))
    whole = [text.replace("{}", request.word) for text in texts.known]
    for note in unread.cut(maps.tokeniser(named), whole, request.run):
        yield Progress(0, note=note)
    word = yield from learn(model, texts, pictures, request.settings)
    tensors = {name: value.cpu().contiguous() for name, value in word.tensors.items()}
    losses = {
        "loss_before": round(word.loss_before, 5),
        "loss_after": round(word.loss_after, 5),
    }
    row = {**config, "n": len(pictures), **losses}
    folder = Folder(request.out)
    folder.write(TENSORS, save(tensors))
    folder.write(CONFIG, json.dumps(row, indent=1).encode() + b"\n")
    return _row(row)


def settings_of(changes: Sequence[str], **fixed: Any) -> Settings:
    """Returns settings in their command-line form, KEY=VALUE, with other values fixed.

    Raises UserError for unknown ones."""
    return dataclasses.replace(with_settings(Settings(), changes), **fixed)


def texts_of(
    model: Loaded, place: str, word: str, init: str, settings: Settings, texts: Sequence[str] = TEMPLATES
) -> WordTexts:
    """Returns the texts of a word, and its beginning. `texts` have {} in its place.

    Leaves out TEMPLATES with words that the model does not know. Raises UserError for other texts with such
    words, if `init` is one or the word is taken, or if the model of `place` learns no words."""
    denoiser, first = denoiser_of(model, place), _first_token(model, place, word, init)
    layers = textual_inversion.layers_of(denoiser) if settings.per_layer else 1
    survey = survey_with(model.survey, {word: (settings.tokens, layers)})
    tokenise = maps.tokeniser(dataclasses.replace(model, survey=survey))
    known = tuple(text for text in texts if UNKNOWN not in tokenise(text.replace("{}", word)))
    if texts != TEMPLATES and len(known) < len(texts):
        strange = next(text for text in texts if text not in known)
        problem = f"--text {strange!r} has words that {place} does not know"
        raise UserError(f"{problem}; use words of its training texts")
    rows = padded(tokenise(text.replace("{}", word)) for text in known)
    return WordTexts(first, known, rows, layers)


def learn(
    model: Loaded, texts: WordTexts, pictures: Tensor, settings: Settings
) -> Generator[Progress, None, LearnedWord]:
    """Yields finished steps. Returns the tensors that a word learns from pictures (N, 3, R, R)."""
    tokens = texts.tokens.to(pictures.device)
    inversion = Inversion(denoiser_of(model, "this run"), texts.first, settings)
    before = inversion.held_loss(pictures, tokens)
    for steps in textual_inversion.invert(inversion, pictures, tokens, settings):
        yield Progress(steps)
    return LearnedWord(inversion.learned, before, inversion.held_loss(pictures, tokens))


def read(place: str, n: int, resolution: int, device: str) -> Tensor:
    """Returns the first n pictures of a folder or a finished set: (N, 3, R, R) in -1..1.

    Raises UserError if there are none, or one is unreadable or has another size."""
    path = Path(place)
    if (path / "manifest.json").exists() or "://" in place:
        samples = ShardSet(place)
        stored = (sample.pixels for shard in samples.shards for sample in samples.read(shard))
        planes = [given.scaled(codecs.rgb(pixels), device) for pixels in itertools.islice(stored, n)]
        if any(plane.shape[-2:] != (resolution, resolution) for plane in planes):
            raise UserError(f"--pictures {place} has no pictures of {resolution} px; give a set of that size")
        return torch.stack(planes)
    if not path.is_dir():
        raise UserError(f"--pictures is {place}, which is no folder; give a folder of pictures or a set")
    names = {f".{extension}" for extension in codecs.EXTENSIONS}
    files = sorted(file for file in path.iterdir() if file.suffix.lower() in names)[:n]
    if not files:
        raise UserError(f"--pictures {place} holds no pictures; give .png, .webp or .jpg files")
    return torch.stack([given.whole("--pictures", str(file), resolution, device) for file in files])


def _first_token(model: Loaded, place: str, word: str, init: str) -> int:
    """Returns the token of the first word. Raises UserError if it is unknown, or the new one is taken."""
    if not _WORD.fullmatch(word):
        problem = f"--word is {word!r}"
        advice = "give lower-case letters and digits, best in angle brackets, such as '<thing>'"
        raise UserError(f"{problem}; {advice}")
    if word in model.survey["words"]:
        problem = f"--word is {word!r}, a word that {place} knows"
        raise UserError(f"{problem}; give a new one, such as '<{word.strip('<>')}>'")
    tokens = maps.tokeniser(model)(init)
    if len(tokens) != 2 or tokens[1] == UNKNOWN:
        known = ", ".join(model.survey["words"][:10])
        problem = f"--init is {init!r}, which is no word of {place}"
        raise UserError(f"{problem}; give one that it knows, such as {known}")
    return tokens[1]


def _require_place(out: str) -> None:
    """Raises UserError if a word cannot be written there: to a URL, or to a folder with other content.

    An interrupted command may have left the tensors of a word."""
    place = targets.folder(out)
    if not (place / CONFIG).exists():
        names = [name for name in Folder(out).sizes() if name != TENSORS]
    else:
        names = [] if is_word(place) else [CONFIG]
    if names:
        problem = f"--out is {out}, which holds something else, such as {min(names)}"
        raise UserError(f"{problem}; give a new folder")


def _finished(place: Path, config: Json) -> Json | None:
    """Returns the row of a finished word of this request, or None.

    Raises UserError if another word is at the place."""
    if not (place / CONFIG).exists():
        return None
    other = config_of(place)
    # The weights are compared, so the run may have another path.
    if any(other.get(name) != value for name, value in config.items() if name != "run"):
        raise UserError(f"{place} holds the word {other['word']!r} of another request; give another --out")
    return _row(other)


def _row(config: Json) -> Json:
    return {name: config[name] for name in ("word", "init", "n", "loss_before", "loss_after")}
