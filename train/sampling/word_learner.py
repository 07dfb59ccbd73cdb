"""A model of a run that learns words from pictures, and draws with them.

Axes: N pictures, R resolution.
"""

from collections.abc import Generator, Mapping, Sequence

import numpy as np
import torch

from synth.sets.completion import Progress
from train.model import Loaded
from train.models.textual_inversion import Settings
from train.models.words import UNKNOWN
from train.runs import Run
from train.sampling import draw, given, inverting, learned, maps


class WordLearner:
    """A model of a run, maybe with learned words."""

    def __init__(self, run: Run, model: Loaded, options: Mapping[str, str], device: str) -> None:
        """Takes options of drawing in their command-line form.

        Raises UserError if the model has no attention to words, or learns none."""
        maps.require_attention(run, options)
        learned.denoiser_of(model, str(run.path))
        self._run, self._model, self._options, self._device = run, model, options, device
        self._tokenise = maps.tokeniser(model)

    @property
    def side(self) -> int:
        """R."""
        return int(self._model.config.model.resolution)

    def knows(self, text: str) -> bool:
        """Returns True if the model knows all words of a text."""
        return UNKNOWN not in self._tokenise(text)

    def drawn(self, prompts: Sequence[str], seed: int, first: int = 0) -> np.ndarray:
        """Returns a picture of each prompt: uint8 (N, R, R, 3). They have numbers from `first` on."""
        texts = draw.texts_of(self._model, prompts, None, self._device)
        drawing = draw.drawing(self._model, texts, seed=seed, options=self._options, run=self._run)
        return drawing.numbered(range(first, first + len(prompts)))

    def learned(
        self, word: str, init: str, pictures: np.ndarray, settings: Settings
    ) -> Generator[Progress, None, "WordLearner"]:
        """Yields finished steps. Returns a learner that knows a new word for pictures uint8 (N, R, R, 3)."""
        texts = inverting.texts_of(self._model, str(self._run.path), word, init, settings)
        planes = torch.stack([given.scaled(pixels, self._device) for pixels in pictures])
        new = yield from inverting.learn(self._model, texts, planes, settings)
        sizes = {word: (settings.tokens, texts.layers)}
        model = learned.with_tensors(self._model, sizes, [new.tensors])
        return WordLearner(self._run, model, self._options, self._device)
