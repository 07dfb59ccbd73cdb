"""The captioners of `recaption`: a folder of fit-captioner or of transformers, or an endpoint.

A captioner is sent to workers. It opens its model, or its connections, when it captions.
"""

import functools
import math
import unicodedata
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from caption.audit import captioner as transformers_captioner
from caption.endpoint import Endpoint, message, without_thoughts
from caption.scene_captioner import folder as fitted
from synth.errors import UserError
from synth.images import codecs
from synth.sets.shards import Sample
from synth.sets.storage import sha256_of
from synth.settings import digest

LAW = 1  # increased when the same captioner and picture give another caption

# Prompts by name. The paper's captioner, too, names the main subject or everything.
PROMPTS = {
    "short": "Describe the main subject of this picture in one sentence of at most 15 words."
    " Answer with the sentence alone.",
    "long": "Describe this picture in at most 60 words: the main subject, its colours, its surroundings,"
    " the background, any text in it, and the style. Answer with the description alone.",
}

_TOKENS = {"short": 20, "long": 80}  # of a caption
_CHARACTERS = 4  # of a token
# OpenAI's rule for pictures in high detail. Larger squares are scaled down before they are cut into tiles.
_SIDE, _TILE, _TOKENS_OF_PICTURE, _TOKENS_OF_TILE = 768, 512, 85, 170

_QUOTES = ('""', "''", "“”", "\u2018\u2019", "**", "``")
_NO_TEXT = ("Cc", "Cs", "Co", "Cn")  # Unicode's control characters, surrogates, private ones and gaps

Json = dict[str, Any]


class Captioner(Protocol):
    """A model that describes pictures."""

    @property
    def name(self) -> str:
        """A name for the folder of the tables."""

    @property
    def identity(self) -> Json:
        """Everything that decides the captions."""

    @property
    def at_once(self) -> int:
        """Pictures of a batch. A caption may depend on the others of its batch by rounding."""

    def answers(self, samples: Iterable[Sample]) -> Iterator[tuple[Sample, str]]:
        """Yields each sample and the model's text, in order. Raises UserError."""

    def trial(self, samples: Sequence[Sample]) -> Iterator[tuple[Sample, str]]:
        """Yields texts as `answers` does, for the preflight. Sends nothing to an endpoint."""

    def cost(self, pictures: int, side: int) -> Json:
        """Returns the cost of captions for square pictures: a row for a person."""


@dataclass(frozen=True)
class FolderCaptioner:
    """An image-to-text model of transformers in a local folder."""

    folder: str
    device: str
    digest: str  # of its files
    prompt: str | None  # short, long or a text; None: the model reads none

    @classmethod
    def find(cls, folder: str, device: str, prompt: str | None = None) -> "FolderCaptioner":
        """Returns the captioner of a folder.

        Raises UserError if it holds no captioner, or one that reads no prompt although one is given."""
        chats = _load(folder, device).chats
        if prompt and not chats:
            raise UserError(f"the captioner {folder} has no chat template; leave --prompt out")
        return cls(folder, device, _digest_of(folder), (prompt or "long") if chats else None)

    @property
    def name(self) -> str:
        return Path(self.folder).resolve().name

    @property
    def identity(self) -> Json:
        identity: Json = {"law": LAW, "model": self.name, "weights": self.digest}
        if self.prompt is None:
            return {**identity, "most_tokens": transformers_captioner.MOST_WORDS}
        return {**identity, "most_tokens": transformers_captioner.MOST_OF_CHAT, "prompt": _text(self.prompt)}

    @property
    def at_once(self) -> int:
        return transformers_captioner.AT_ONCE

    def answers(self, samples: Iterable[Sample]) -> Iterator[tuple[Sample, str]]:
        _require_digest(self.folder, self.digest)

        # Batches of one size from the first sample on, so that the captions do not depend on workers.
        model, coming = _load(self.folder, self.device), iter(samples)
        while batch := list(islice(coming, self.at_once)):
            pictures = [(sample.key, sample.pixels) for sample in batch]
            texts = transformers_captioner.described(model, pictures, _text(self.prompt or ""))
            yield from ((sample, text) for sample, (_, text) in zip(batch, texts, strict=True))

    def trial(self, samples: Sequence[Sample]) -> Iterator[tuple[Sample, str]]:
        return self.answers(samples)

    def cost(self, pictures: int, side: int) -> Json:
        return {"captioner": self.name, "pictures": pictures, "pixels": pictures * side * side}


@dataclass(frozen=True)
class SceneCaptioner:
    """A captioner that fit-captioner wrote. `prompt` is short or long."""

    folder: str
    device: str
    digest: str  # of its files
    prompt: str

    @classmethod
    def find(cls, folder: str, device: str, prompt: str | None = None) -> "SceneCaptioner":
        """Returns the captioner of a folder. Raises UserError if it is damaged, or the prompt is a text."""
        tuning = prompt or "long"
        if tuning not in fitted.TUNINGS:
            problem = f"the captioner {folder} reads no text"
            raise UserError(f"{problem}; give --prompt {' or --prompt '.join(fitted.TUNINGS)}")
        _describer(folder, tuning, device)
        return cls(folder, device, _digest_of(folder), tuning)

    @property
    def name(self) -> str:
        return Path(self.folder).resolve().name

    @property
    def identity(self) -> Json:
        return {"law": LAW, "model": self.name, "weights": self.digest, "prompt": self.prompt}

    @property
    def at_once(self) -> int:
        return fitted.AT_ONCE

    def answers(self, samples: Iterable[Sample]) -> Iterator[tuple[Sample, str]]:
        _require_digest(self.folder, self.digest)
        describer, coming = _describer(self.folder, self.prompt, self.device), iter(samples)
        while batch := list(islice(coming, self.at_once)):
            texts = describer.captions([sample.pixels for sample in batch])
            yield from zip(batch, texts, strict=True)

    def trial(self, samples: Sequence[Sample]) -> Iterator[tuple[Sample, str]]:
        return self.answers(samples)

    def cost(self, pictures: int, side: int) -> Json:
        return {"captioner": self.name, "pictures": pictures, "pixels": pictures * side * side}


@dataclass(frozen=True)
class EndpointCaptioner:
    """A model at an OpenAI-compatible endpoint. `prompt` is short, long, or a text."""

    endpoint: Endpoint
    prompt: str

    @property
    def name(self) -> str:
        return self.endpoint.model

    @property
    def identity(self) -> Json:
        # The address is no part of it: a server may move while a set is made.
        return {
            "law": LAW,
            "model": self.endpoint.model,
            "prompt": _text(self.prompt),
            "temperature": self.endpoint.temperature,
            "most_tokens": self.endpoint.most_tokens,
        }

    @property
    def at_once(self) -> int:
        # Each request has one picture.
        return 1

    def answers(self, samples: Iterable[Sample]) -> Iterator[tuple[Sample, str]]:
        waiting: deque[Sample] = deque()

        def conversations() -> Iterator[list[Json]]:
            for sample in samples:
                waiting.append(sample)
                yield [message("user", _text(self.prompt), codecs.encode_png(sample.pixels))]

        for answer in self.endpoint.answers(conversations()):
            yield waiting.popleft(), answer

    def trial(self, samples: Sequence[Sample]) -> Iterator[tuple[Sample, str]]:
        text = " ".join(["word"] * self._tokens_of_caption)
        return ((sample, text) for sample in samples)

    def cost(self, pictures: int, side: int) -> Json:
        tiles = math.ceil(min(side, _SIDE) / _TILE) ** 2
        prompt = math.ceil(len(_text(self.prompt)) / _CHARACTERS)
        tokens = prompt + _TOKENS_OF_PICTURE + _TOKENS_OF_TILE * tiles
        return {
            "captioner": self.name,
            "pictures": pictures,
            "pixels": pictures * side * side,
            "requests": pictures,
            "tokens_sent": pictures * tokens,
            "tokens_received": pictures * self._tokens_of_caption,
        }

    @property
    def _tokens_of_caption(self) -> int:
        return _TOKENS.get(self.prompt, _TOKENS["long"])


def in_folder(folder: str, device: str, prompt: str | None = None) -> Captioner:
    """Returns the captioner of a folder: of fit-captioner, else of transformers.

    Raises UserError if it holds neither, or a captioner that does not read this prompt."""
    if fitted.is_captioner(folder):
        return SceneCaptioner.find(folder, device, prompt)
    return FolderCaptioner.find(folder, device, prompt)


def captions(captioner: Captioner, samples: Iterable[Sample]) -> Iterator[tuple[Sample, str]]:
    """Yields each sample and its caption, cleaned. Raises UserError if a caption is empty."""
    for sample, answer in captioner.answers(samples):
        text = cleaned(answer)
        if not any(character.isalnum() for character in text):
            problem = f"the caption of sample {sample.key} by {captioner.name} is empty"
            raise UserError(
                f"{problem}; finished batches stay: run the command again, or give another --prompt and --out"
            )
        yield sample, text


def cleaned(text: str) -> str:
    """Returns a model's answer as a caption: one line, without thoughts, control characters and quotes
    around it."""
    text = without_thoughts(text)
    printable = "".join(" " if unicodedata.category(c) in _NO_TEXT else c for c in text)
    line = " ".join(printable.split())
    while len(line) > 1 and line[0] + line[-1] in _QUOTES:
        line = line[1:-1].strip()
    return line


def _text(prompt: str) -> str:
    """Returns the text of a prompt, which may be a name."""
    return PROMPTS.get(prompt, prompt)


@functools.lru_cache(maxsize=1)
def _load(folder: str, device: str) -> transformers_captioner.Captioner:
    return transformers_captioner.load(folder, device)


@functools.lru_cache(maxsize=1)
def _describer(folder: str, tuning: str, device: str) -> fitted.Describer:
    return fitted.load(folder, tuning, device)


def _require_digest(folder: str, digest: str) -> None:
    """Raises UserError if this node has other files of a captioner at the same path."""
    if _digest_of(folder) != digest:
        problem = f"{folder} holds another captioner on this node than on the node of the command"
        raise UserError(f"{problem}; copy the same folder to all nodes")


@functools.lru_cache(maxsize=1)
def _digest_of(folder: str) -> str:
    """Returns a digest of a folder's files."""
    hashes = {}
    for path in sorted(Path(folder).iterdir()):
        if path.is_file() and not path.name.startswith("."):
            hashes[path.name] = sha256_of(path)
    return digest(hashes)
