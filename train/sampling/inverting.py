"""Words for concepts, learned from a few pictures: `train invert`.

Axes: N pictures, R resolution.
"""

import dataclasses
import hashlib
import itertools
import json
import re
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from caption import encoders
from synth.errors import UserError
from synth.images import codecs
from synth.sets.completion import Progress
from synth.sets.shards import ShardSet
from synth.sets.storage import Folder
from train import runs
from train.model import Loaded
from train.models import textual_inversion
from train.models.textual_inversion import Inversion, Settings
from train.models.words import UNKNOWN, padded
from train.sampling import given, maps
from train.sampling.learned import CONFIG, TENSORS, config_of, denoiser_of, fingerprint, with_learned

MOST = 64  # pictures of a concept

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


def invert(request: InvertRequest) -> Events:
    """Learns a word from pictures, and writes its folder whole or not at all.

    Yields finished steps, and at the end the row of the word. A finished word of the same request is left
    alone. Raises UserError if the word is taken, a text has unknown words, the pictures do not fit, or
    another word is at the place."""
    # The run and its words.
    run, device = runs.find(request.run), encoders.choose_device(request.device)
    maps.require_attention(run, {})
    model = run.load(run.checkpoint(request.images_seen), device)
    denoiser = denoiser_of(model, request.run)
    first = _require_words(model, request)
    Folder(request.out).require_writable()

    # Pictures and texts.
    pictures = read(request.pictures, request.n, model.config.model.resolution, device)
    layers = textual_inversion.layers_of(denoiser) if request.settings.per_layer else 1
    sizes = {request.word: (request.settings.tokens, layers)}
    named = dataclasses.replace(model, survey=with_learned(model, sizes))
    texts = [text for text in request.texts if _known(named, text.replace("{}", request.word))]
    if request.texts != TEMPLATES and len(texts) < len(request.texts):
        strange = next(text for text in request.texts if text not in texts)
        problem = f"--text {strange!r} has words that {request.run} does not know"
        raise UserError(f"{problem}; use words of its training texts")
    rows = map(maps.tokeniser(named), (text.replace("{}", request.word) for text in texts))
    tokens = padded(rows).to(device)
    config: Json = {
        "word": request.word,
        "init": request.init,
        "run": request.run,
        "weights": fingerprint(denoiser),
        "pictures": hashlib.sha256(pictures.cpu().numpy().tobytes()).hexdigest(),
        "texts": texts,
        "layers": layers,
        "settings": dataclasses.asdict(request.settings),
    }
    finished = _finished(Path(request.out), config)
    if finished:
        yield finished
        return

    # Steps.
    inversion = Inversion(denoiser, first, request.settings)
    before = inversion.held_loss(pictures, tokens)
    for steps in textual_inversion.invert(inversion, pictures, tokens, request.settings):
        yield Progress(steps)
    after = inversion.held_loss(pictures, tokens)

    # Its folder, config.json last.
    tensors = {name: value.cpu().contiguous() for name, value in inversion.learned.items()}
    row = {**config, "n": len(pictures), "loss_before": round(before, 5), "loss_after": round(after, 5)}
    folder = Folder(request.out)
    folder.write(TENSORS, save(tensors))
    folder.write(CONFIG, json.dumps(row, indent=1).encode() + b"\n")
    yield _row(row)


def read(place: str, n: int, resolution: int, device: str) -> Tensor:
    """Returns the first n pictures of a folder or a finished set: (N, 3, R, R) in -1..1.

    Raises UserError if there are none, or one is unreadable or has another size."""
    path = Path(place)
    if (path / "manifest.json").exists() or "://" in place:
        samples = ShardSet(place)
        stored = (sample.pixels for shard in samples.shards for sample in samples.read(shard))
        planes = [given.scaled(codecs.rgb(pixels), device) for pixels in itertools.islice(stored, n)]
        if {plane.shape[-1] for plane in planes} != {resolution}:
            raise UserError(f"--pictures {place} has no pictures of {resolution} px; give a set of that size")
        return torch.stack(planes)
    if not path.is_dir():
        raise UserError(f"--pictures is {place}, which is no folder; give a folder of pictures or a set")
    names = {f".{extension}" for extension in codecs.EXTENSIONS}
    files = sorted(file for file in path.iterdir() if file.suffix.lower() in names)[:n]
    if not files:
        raise UserError(f"--pictures {place} holds no pictures; give .png, .webp or .jpg files")
    return torch.stack([given.whole("--pictures", str(file), resolution, device) for file in files])


def _require_words(model: Loaded, request: InvertRequest) -> int:
    """Returns the token of the first word. Raises UserError if it is unknown, or the new one is taken."""
    if not _WORD.fullmatch(request.word):
        problem = f"--word is {request.word!r}"
        raise UserError(f"{problem}; give letters and digits, best in angle brackets, such as '<thing>'")
    if request.word in model.survey["words"]:
        problem = f"--word is {request.word!r}, a word that {request.run} knows"
        raise UserError(f"{problem}; give a new one, such as '<{request.word.strip('<>')}>'")
    tokens = maps.tokeniser(model)(request.init)
    if len(tokens) != 2 or tokens[1] == UNKNOWN:
        known = ", ".join(model.survey["words"][:10])
        problem = f"--init is {request.init!r}, which is no word of {request.run}"
        raise UserError(f"{problem}; give one that it knows, such as {known}")
    return tokens[1]


def _known(model: Loaded, text: str) -> bool:
    return UNKNOWN not in maps.tokeniser(model)(text)


def _finished(place: Path, config: Json) -> Json | None:
    """Returns the row of a finished word of this request, or None.

    Raises UserError if another word is at the place."""
    if not (place / CONFIG).exists():
        return None
    other = config_of(place)
    if any(other.get(name) != value for name, value in config.items()):
        raise UserError(f"{place} holds the word {other['word']!r} of another request; give another --out")
    return _row(other)


def _row(config: Json) -> Json:
    return {name: config[name] for name in ("word", "init", "n", "loss_before", "loss_after")}
