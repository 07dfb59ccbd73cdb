"""Attention maps: where a network that draws reads each word of its prompts.

Axes: N pictures, H heads, P = S S pixels of a layer, L states of a text, T tokens, R resolution.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from synth.errors import UserError
from train.model import AttentionLayer, Loaded, Tokeniser, find
from train.runs import Run
from train.sampling import draw, learned
from train.sampling.alignment import Word, worded

WORDS_ALONE = frozenset({"tokens"})
_COARSE = 4  # pixels of a picture to one of a layer, at most, for a map


@dataclass
class Maps:
    """A Control that changes nothing, and keeps the mean weights of cross-attention, by side of a layer."""

    pictures: int  # N; further rows are predictions without the texts
    tokens: int  # T
    sums: dict[int, Tensor] = field(default_factory=dict)  # (N, T, S, S), over heads, layers and calls
    counts: dict[int, int] = field(default_factory=dict)

    def __call__(self, weights: Tensor, layer: AttentionLayer) -> Tensor:
        """Adds the weights (N, H, P, L) of a layer, and returns them."""
        if layer.crosses:
            side = round(weights.shape[2] ** 0.5)
            words = weights[: self.pictures, :, :, -self.tokens :].mean(dim=1)  # (N, P, T)
            planes = words.mT.unflatten(2, (side, side))
            self.sums[side] = self.sums[side] + planes if side in self.sums else planes.clone()
            self.counts[side] = self.counts.get(side, 0) + 1
        return weights

    def at(self, side: int) -> Tensor:
        """Returns the mean maps (N, T, S, S) of the layers with this side."""
        return self.sums[side] / self.counts[side]

    def whole(self, side: int) -> Tensor:
        """Returns the maps (N, T, side, side): means over layers, each enlarged.

        Layers below a quarter of the side are left out: on 4 x 4 pixels, words are not where their objects
        are."""
        fine = [each for each in self.sums if _COARSE * each >= side] or [max(self.sums)]
        planes = [functional.interpolate(self.sums[each], (side, side), mode="bilinear") for each in fine]
        return torch.stack(planes).sum(dim=0) / sum(self.counts[each] for each in fine)


@dataclass(frozen=True)
class Seen:
    """A drawn picture with the words of its prompt and their maps."""

    pixels: np.ndarray  # uint8 (R, R, 3)
    words: tuple[Word, ...]
    maps: np.ndarray  # float32 (words, R, R), of all steps and layers


def attention(
    run: Run,
    text: str,
    *,
    seed: int,
    options: Mapping[str, str] | None = None,
    images_seen: int | None = None,
    learned_words: Sequence[str] = (),
    device: str = "cpu",
) -> Seen:
    """Draws picture 0 of a text, with the maps of its words. `learned_words` are folders of `invert`.

    Raises UserError if the run's model has no attention to words."""
    require_attention(run, options or {})
    model = learned.added(run.load(run.checkpoint(images_seen), device), learned_words)
    texts = draw.texts_of(model, [text], None, device)
    drawing = draw.drawing(model, texts, seed=seed, options=options, run=run)
    maps = maps_of(texts.tokens)
    with find(model.name).attention(model.parts, maps):
        pixels = draw.pictures(drawing)[0]
    words = worded(tokeniser(model), text)
    return Seen(pixels, words, of_words(maps.whole(pixels.shape[0])[0], words))


def maps_of(tokens: Tensor | None) -> Maps:
    """Returns empty maps of texts with these tokens (N, T)."""
    assert tokens is not None
    return Maps(*tokens.shape)


def of_words(maps: Tensor, words: Sequence[Word]) -> np.ndarray:
    """Returns the map of each word, the sum over its tokens, from those of the tokens (T, R, R)."""
    planes = [maps[list(word.columns)].sum(dim=0) for word in words]
    return torch.stack(planes).cpu().numpy() if planes else np.empty((0, *maps.shape[1:]), np.float32)


def shown(plane: np.ndarray) -> np.ndarray:
    """Returns a map (R, R) as grey levels uint8 (R, R, 3), white at its maximum.

    A map with a negative weight is white where it is most negative."""
    sizes = np.abs(plane)
    levels = np.rint(255 * sizes / max(float(sizes.max()), 1e-9)).astype(np.uint8)
    return np.repeat(levels[:, :, None], 3, axis=2)


def tokeniser(model: Loaded) -> Tokeniser:
    """Returns the tokeniser of a model that reads words."""
    tokenise: Tokeniser = find(model.name).tokeniser(model.config, model.survey)
    return tokenise


def require_attention(run: Run, options: Mapping[str, str]) -> Any:
    """Returns the module of a run's model.

    Raises UserError if it has no attention to words or has learned none, or if the options let it read other
    forms of a text or no text."""
    module = draw.require_drawing(run.model, str(run.path))
    if not hasattr(module, "attention"):
        problem = f"{run.path} is a run of {run.model}, which offers no attention maps"
        raise UserError(f"{problem}; give a run of diffusion")
    if draw.reads(run.model, options) != WORDS_ALONE:
        raise UserError("maps are those of words, and --text makes drawing read vectors; leave --text out")
    if not run.config.needs.words:
        raise UserError(f"{run.path} has learned vectors alone; give a run that reads words")
    if getattr(draw.options_of(run.model, options), "guidance", 1) == 0:
        raise UserError(
            "maps are those of words, and --guidance 0 draws without them; give --guidance 1 or more"
        )
    return module
