"""The one path from texts to pictures. Grids, `train sample`, evaluate and reports draw by it.

A picture depends on its text, the seed and its number alone. The other texts of its batch may change it by a
level, through rounding. A model's `start` draws its random numbers, from Philox by picture number, equal on
every device. LAW is the version of this rule. It is part of the digest of drawn pictures, and so of the key
of their cached features.

Axes: N pictures, R resolution.
"""

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import numpy as np
import torch

from synth import settings
from synth.errors import UserError
from train import checkpoint, runs
from train.model import Context, Known, Loaded, Texts, find, needs, require_drawing
from train.models.words import padded
from train.runs import Run
from train.sampling import learned
from train.sampling.given import Given

LAW = 2  # increased when the same model, texts and seed give other pictures

_AT_ONCE = 16  # pictures drawn together


@dataclass(frozen=True)
class Drawing:
    """Pictures to draw: number i of the i-th text."""

    model: Loaded
    texts: Texts
    seed: int
    options: Any  # the model's Options
    context: Context
    opened: tuple[str, ...] = ()  # digests of other checkpoints that the options name
    known: Known | None = None  # parts of every picture
    noise: torch.Tensor | None = None  # (1, ...), the start of every picture; None: each has its own

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def identity(self) -> dict[str, Any]:
        """Everything that determines the pictures, except weights and texts, as plain JSON.

        Options of None are left out, so an option that is added later changes nothing."""
        options = {k: v for k, v in dataclasses.asdict(self.options).items() if v is not None}
        known = () if self.known is None else (self.known.picture, self.known.pixels)
        tensors = [tensor for tensor in (*known, self.noise) if tensor is not None]
        hashes = [hashlib.sha256(tensor.cpu().numpy().tobytes()).hexdigest() for tensor in tensors]
        further = {"opened": list(self.opened), "given": hashes}
        identity = {"law": LAW, "seed": self.seed, "options": options}
        return {**identity, **{name: values for name, values in further.items() if values}}

    def batches(self, first: int = 0) -> Iterator[np.ndarray]:
        """Yields the pictures from number `first` on: uint8 (n, R, R, 3)."""
        for start in range(first, len(self), _AT_ONCE):
            yield levels(self.images(range(start, min(start + _AT_ONCE, len(self)))))

    def images(self, numbers: range) -> torch.Tensor:
        """Returns the pictures of these numbers before rounding: float32 (n, 3, R, R), about -1..1."""
        return self._drawn(numbers, self.texts[numbers.start : numbers.stop])

    def numbered(self, numbers: Sequence[int]) -> np.ndarray:
        """Returns the pictures of all texts with these numbers in place of 0, 1, ...: uint8 (N, R, R, 3)."""
        parts = []
        for start in range(0, len(numbers), _AT_ONCE):
            rows = slice(start, start + _AT_ONCE)
            parts.append(levels(self._drawn(numbers[rows], self.texts[rows])))
        return np.concatenate(parts)

    @torch.no_grad()
    def _drawn(self, numbers: Sequence[int], texts: Texts) -> torch.Tensor:
        """Returns the pictures with these numbers of these texts before rounding."""
        module = find(self.model.name)
        if self.noise is None:
            noise = module.start(self.model.config, numbers, self.seed).to(texts.device)
        else:
            noise = self.noise.expand(len(texts), *self.noise.shape[1:])
        if self.known is None:
            return cast(torch.Tensor, module.draw(self.model.parts, noise, texts, self.options, self.context))
        return cast(
            torch.Tensor,
            module.complete(self.model.parts, noise, texts, self.known, self.options, self.context),
        )

    @torch.no_grad()
    def inverted(self, picture: torch.Tensor, texts: Texts) -> torch.Tensor:
        """Returns the noise (1, ...) from which the model draws a picture (3, R, R) of one text."""
        invert = find(self.model.name).invert
        noise: torch.Tensor = invert(self.model.parts, picture[None], texts, self.options, self.context)
        return noise


def drawing(
    model: Loaded,
    texts: Texts,
    *,
    seed: int,
    options: Mapping[str, str] | None = None,
    run: Run | None = None,
) -> Drawing:
    """Returns the drawing of these texts by a model. `options` are in their command-line form.

    `run` is the model's, for options that name an earlier checkpoint. Raises UserError if the model draws no
    pictures, does not know an option, has not learned such texts, or finds no checkpoint of that name."""
    module = require_drawing(model.name, str(run.path) if run else "this run")
    values = options_of(model.name, options or {})
    forms, learns = reads(model.name, options or {}), needs(model.name, model.config)
    if "vectors" in forms and not learns.vectors:
        raise UserError("this run has learned words alone, and no vectors; draw with --text words")

    if "tokens" in forms and not learns.words and hasattr(module, "tokeniser"):
        raise UserError("this run has learned vectors alone, and no words; draw with --text vector")
    opened = opened_by(module, values, run)
    return Drawing(model, texts, seed, values, surroundings(model, texts.device, run), opened)


def opened_by(module: ModuleType, values: Any, run: Run | None) -> tuple[str, ...]:
    """Returns the digests of the checkpoints that drawing options name, such as that of a weaker guide."""
    names = module.opens(values) if hasattr(module, "opens") else ()
    return tuple(checkpoint.digest(_checkpoint(name, run)) for name in names)


def _checkpoint(name: int | str, run: Run | None) -> Path:
    """Returns the checkpoint of a run at these images, or the newest of the RUN of this name."""
    if isinstance(name, str):
        return runs.find(name).checkpoint()
    assert run is not None
    return run.checkpoint(name)


def surroundings(model: Loaded, device: torch.device, run: Run | None) -> Context:
    """Returns the surroundings of a drawing. Other models are opened once.

    `run` is the model's, for options that name an earlier checkpoint."""

    @cache
    def load(place: str) -> Loaded:
        return runs.find(place).load(device=str(device))

    @cache
    def earlier(images_seen: int) -> Loaded:
        assert run is not None
        return run.load(_checkpoint(images_seen, run), str(device))

    return Context(device, torch.float32, model.survey, load=load, earlier=earlier if run else None)


def levels(pictures: torch.Tensor) -> np.ndarray:
    """Returns pictures (N, 3, R, R) in -1..1 as uint8 (N, R, R, 3)."""
    rounded = ((pictures + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return np.asarray(rounded.permute(0, 2, 3, 1).cpu().numpy())


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
    given: Given | None = None,
    words: Sequence[str] = (),
) -> np.ndarray:
    """Returns n pictures of each text: uint8 (texts n, R, R, 3).

    `words` are folders of learned words. Raises UserError if the run draws none, or if its checkpoint, its
    encoder or a word is missing. Raises UserError if the given picture does not fit, or if the model makes no
    use of one."""
    require_drawing(run.model, str(run.path))
    if given:
        _require_use(run, given)
    if words and "tokens" not in reads(run.model, options or {}):
        raise UserError(f"--word is {words[0]}, and the pictures of {run.path} follow vectors; leave it out")
    model = learned.added(run.load(run.checkpoint(images_seen), device), words)

    def prompts(rows: Sequence[str]) -> Texts:
        # Vectors, unless the options do without.
        vectors = None
        if "vectors" in reads(model.name, options or {}):
            vectors = torch.from_numpy(run.encoder(encoder, device).texts(rows))
        return texts_of(model, rows, vectors, device)

    # Drawing, around known parts or from the noise of a picture.
    rows = [text for text in texts for _ in range(n)]
    whole = drawing(model, prompts(rows), seed=seed, options=options, run=run)
    if given and given.text is None:
        whole = dataclasses.replace(whole, known=given.known(model.config.model.resolution, device))
    elif given and given.text is not None:
        picture = given.whole(model.config.model.resolution, device)
        whole = dataclasses.replace(whole, noise=whole.inverted(picture, prompts([given.text])))
    return pictures(whole)


def _require_use(run: Run, given: Given) -> None:
    """Raises UserError if a model cannot draw from a given picture."""
    function, place = ("complete", "around") if given.text is None else ("invert", "from the noise of")
    if not hasattr(find(run.model), function):
        problem = f"{run.path} is a run of {run.model}, which does not draw {place} a picture"
        raise UserError(f"{problem}; leave --picture out")


def texts_of(
    model: Loaded, captions: Sequence[str], vectors: torch.Tensor | None, device: str | torch.device
) -> Texts:
    """Returns texts in all forms that a model reads. `vectors` (N, D) are those of the captions."""
    module, tokens = find(model.name), None
    if hasattr(module, "tokeniser"):
        tokens = padded(map(module.tokeniser(model.config, model.survey), captions)).to(device)
    return Texts(None if vectors is None else vectors.to(device), tokens, tuple(captions))


def reads(name: str, options: Mapping[str, str]) -> frozenset[str]:
    """Returns the forms of a text that a model reads with these options: vectors, tokens, or both.

    Raises UserError if the model has no such option."""
    module = find(name)
    values = options_of(name, options)
    return frozenset(module.reads(values) if hasattr(module, "reads") else {"vectors"})


def usual_options(name: str, config: Any) -> dict[str, str]:
    """Returns the options of grids and cards: none, or those of vectors for a model that learned no words."""
    alone = hasattr(find(name).Options(), "text") and not needs(name, config).words
    return {"text": "vector"} if alone else {}


def options_of(name: str, options: Mapping[str, str]) -> Any:
    """Returns the model's Options with these values. Raises UserError if it has no such option."""
    defaults = find(name).Options()
    fields = [field.name for field in dataclasses.fields(defaults)]
    for option in options:
        if option not in fields:
            names = ", ".join(f"--{field.replace('_', '-')}" for field in fields) or "none"
            raise UserError(f"{name} has no drawing option --{option.replace('_', '-')}; it has {names}")
    return settings.with_settings(defaults, [f"{option}={value}" for option, value in options.items()])
