"""The one path from texts to pictures. Grids, `train sample`, evaluate and reports draw by it.

A picture depends on its text, the seed and its number alone. A model's `start` draws its random numbers, from
Philox by picture number, equal on every device. LAW is the version of this rule. It is part of the digest of
drawn pictures, and so of the key of their cached features.

Axes: N pictures, R resolution.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from synth import settings
from synth.errors import UserError
from train.model import Context, Loaded, Texts, find, require_drawing
from train.runs import Run

LAW = 1  # increased when the same model, texts and seed give other pictures

_AT_ONCE = 16  # pictures drawn together


@dataclass(frozen=True)
class Drawing:
    """Pictures to draw: number i of the i-th text."""

    model: Loaded
    texts: Texts
    seed: int
    options: Any  # the model's Options

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def identity(self) -> dict[str, Any]:
        """Everything that determines the pictures, except weights and texts, as plain JSON."""
        return {"law": LAW, "seed": self.seed, "options": dataclasses.asdict(self.options)}

    def batches(self, first: int = 0) -> Iterator[np.ndarray]:
        """Yields the pictures from number `first` on: uint8 (n, R, R, 3)."""
        for start in range(first, len(self), _AT_ONCE):
            yield self._pictures(range(start, min(start + _AT_ONCE, len(self))))

    @torch.no_grad()
    def images(self, numbers: range) -> torch.Tensor:
        """Returns the pictures of these numbers before rounding: float32 (n, 3, R, R), about -1..1."""
        module, device = find(self.model.name), self.texts.device
        context = Context(device, torch.float32, self.model.survey)
        texts = self.texts[numbers.start : numbers.stop]
        noise = module.start(self.model.config, numbers, self.seed).to(device)
        return module.draw(self.model.parts, noise, texts, self.options, context)

    def _pictures(self, numbers: range) -> np.ndarray:
        """Returns the pictures of these numbers: uint8 (n, R, R, 3)."""
        levels = ((self.images(numbers) + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
        return np.asarray(levels.permute(0, 2, 3, 1).cpu().numpy())


def drawing(
    model: Loaded, texts: Texts, *, seed: int, options: Mapping[str, str] | None = None, run: str = "this run"
) -> Drawing:
    """Returns the drawing of these texts by a model. `options` are in their command-line form.

    Raises UserError if the model draws no pictures, or does not know an option."""
    require_drawing(model.name, run)
    return Drawing(model, texts, seed, options_of(model.name, options or {}))


def pictures(drawing: Drawing) -> np.ndarray:
    """Returns all pictures of a drawing at once: uint8 (N, R, R, 3)."""
    return np.concatenate(list(drawing.batches()))


def sample(
    run: Run,
    texts: Sequence[str],
    *,
    n: int,
    seed: int,
    options: Mapping[str, str] | None = None,
    images_seen: int | None = None,
    encoder: str | None = None,
    device: str = "cpu",
) -> np.ndarray:
    """Returns n pictures of each text: uint8 (texts n, R, R, 3).

    Raises UserError if the run draws none, or if its checkpoint or its encoder is missing."""
    require_drawing(run.model, str(run.path))
    model = run.load(run.checkpoint(images_seen), device)
    rows = [text for text in texts for _ in range(n)]

    # Vectors, unless the options do without.
    vectors = None
    if "vectors" in reads(model.name, options or {}):
        vectors = torch.from_numpy(run.encoder(encoder, device).texts(rows))
    return pictures(drawing(model, texts_of(model, rows, vectors, device), seed=seed, options=options))


def texts_of(
    model: Loaded, captions: Sequence[str], vectors: torch.Tensor | None, device: str | torch.device
) -> Texts:
    """Returns texts in all forms that a model reads. `vectors` (N, D) are those of the captions."""
    module, tokens = find(model.name), None
    if hasattr(module, "tokeniser"):
        tokenise = module.tokeniser(model.config, model.survey)
        rows = [torch.tensor(tokenise(caption)) for caption in captions]
        tokens = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True).to(device)
    return Texts(None if vectors is None else vectors.to(device), tokens)


def reads(name: str, options: Mapping[str, str]) -> frozenset[str]:
    """Returns the forms of a text that a model reads with these options: vectors, tokens, or both.

    Raises UserError if the model has no such option."""
    module = find(name)
    values = options_of(name, options)
    return frozenset(module.reads(values) if hasattr(module, "reads") else {"vectors"})


def options_of(name: str, options: Mapping[str, str]) -> Any:
    """Returns the model's Options with these values. Raises UserError if it has no such option."""
    defaults = find(name).Options()
    fields = [field.name for field in dataclasses.fields(defaults)]
    for option in options:
        if option not in fields:
            names = ", ".join(f"--{field.replace('_', '-')}" for field in fields) or "none"
            raise UserError(f"{name} has no drawing option --{option.replace('_', '-')}; it has {names}")
    return settings.with_settings(defaults, [f"{option}={value}" for option, value in options.items()])
