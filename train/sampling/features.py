"""Features of pictures by a run that learns them: the one path from uint8 pictures to a model's `features`.

Some runs learn a space of pictures and texts beside them.

Axes: N pictures or texts, H and W pixels, R resolution, D dimensions of a feature, E of the space.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional

from train import model
from train.model import Loaded
from train.models.words import padded
from train.runs import Run

_AT_ONCE = 256  # pictures in one pass


class RunFeatures:
    """The frozen features of a run, or of its first weights. Raises UserError if its model has none."""

    def __init__(self, run: Run, *, untrained: bool = False, device: str = "cpu") -> None:
        self._module = model.learner(run.model, str(run.path))
        self._loaded: Loaded = run.untrained(device) if untrained else run.load(device=device)
        self._device = torch.device(device)
        for part in self._loaded.parts.values():
            part.eval()
        self.side = int(self._loaded.config.model.resolution)  # R
        self.dimensions = int(self(np.zeros((1, self.side, self.side, 3), np.uint8)).shape[1])  # D

    @torch.inference_mode()
    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """Returns features float32 (N, D) of pictures uint8 (N, H, W, 3)."""
        parts = []
        for start in range(0, len(pixels), _AT_ONCE):
            rows = torch.from_numpy(np.ascontiguousarray(pixels[start : start + _AT_ONCE]))
            planes = rows.to(self._device).permute(0, 3, 1, 2).float()
            if planes.shape[2:] != (self.side, self.side):
                size = (self.side, self.side)
                planes = functional.interpolate(planes, size, mode="bicubic", antialias=True).clamp(0, 255)
            features = self._module.features(self._loaded.parts, planes / 127.5 - 1)
            parts.append(features.float().cpu())
        return torch.cat(parts).numpy()

    @property
    def texts(self) -> "RunTexts | None":
        """The space of pictures and texts that the run has learned, or None if it has learned none."""
        learned = hasattr(self._module, "embed_texts") and self._module.needs(self._loaded.config).tables
        return RunTexts(self._loaded, self._device) if learned else None


class RunTexts:
    """The frozen space of pictures and texts of a run, or of its first weights."""

    def __init__(self, loaded: Loaded, device: torch.device) -> None:
        self._module, self._loaded, self._device = model.find(loaded.name), loaded, device

    @torch.inference_mode()
    def pictures(self, features: np.ndarray) -> np.ndarray:
        """Returns unit embeddings float32 (N, E) of pictures with these features, (N, D)."""
        rows = torch.from_numpy(features.astype(np.float32, copy=False)).to(self._device)
        return np.asarray(self._module.embed_pictures(self._loaded.parts, rows).cpu())

    @torch.inference_mode()
    def texts(self, texts: Sequence[str]) -> np.ndarray:
        """Returns unit embeddings float32 (N, E) of texts."""
        tokenise = self._module.tokeniser(self._loaded.config, self._loaded.survey)
        parts = []
        for start in range(0, len(texts), _AT_ONCE):
            tokens = padded(map(tokenise, texts[start : start + _AT_ONCE])).to(self._device)
            parts.append(self._module.embed_texts(self._loaded.parts, tokens).cpu())
        return torch.cat(parts).numpy()
