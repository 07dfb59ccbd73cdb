"""Pictures that an autoencoder encodes and decodes: those of a RUN, or of a folder of diffusers.

Axes: N pictures, R resolution.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from train import autoencoders
from train.models.autoencoder import DECODER, ENCODER, reconstruct
from train.runs import Run
from train.sampling.draw import levels


@dataclass(frozen=True)
class Reconstructor:
    """An opened autoencoder."""

    run: Run | None  # None: a folder of diffusers
    side: int  # R
    weights: str  # sha256
    reconstruct: Callable[[np.ndarray], np.ndarray]  # from and to uint8 (N, R, R, 3)


def reconstructor(place: str, device: str) -> Reconstructor:
    """Returns the autoencoder of a RUN or of a folder of diffusers. Raises UserError if there is none."""
    run, opened = autoencoders.run_of(place), autoencoders.find(place, device)
    parts = {ENCODER: opened.encoder, DECODER: opened.decoder}

    def by_means(pictures: np.ndarray) -> np.ndarray:
        x = torch.from_numpy(pictures).to(device).permute(0, 3, 1, 2) / 127.5 - 1
        with torch.inference_mode():
            return levels(reconstruct(parts, x))

    return Reconstructor(run, opened.sizes.resolution, opened.weights, by_means)
