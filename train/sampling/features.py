"""Features of pictures by a run that learns them: the one path from uint8 pictures to a model's `features`.

Axes: N pictures, H and W pixels, R resolution, D dimensions of a feature.
"""

import numpy as np
import torch
from torch.nn import functional

from train import model
from train.model import Loaded
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
