"""Batches: as arrays on their way from a reader process, and as tensors.

Axes: N samples of a rank's batch, V views, D dimensions of an embedding, R resolution, T tokens.
"""

from typing import NamedTuple

import numpy as np
import torch


class Batch(NamedTuple):
    """A rank's part of a global batch."""

    pictures: torch.Tensor  # uint8 (N, V, 3, R, R), or latents float16 (N, 1, K, S, S)
    # The model's draws of a caption vector, by name: float32 (N, D) each, unit length.
    vectors: dict[str, torch.Tensor]
    tokens: torch.Tensor | None = None  # int64 (N, T), 0 behind the end of a caption
    embedding: float = 0.0  # CPU seconds of the vectors of drawn pictures
    labels: torch.Tensor | None = None  # int64 (N,) of samples in groups


class Arrays(NamedTuple):
    """A batch on its way from a reader process."""

    pictures: np.ndarray  # uint8 (N, V, 3, R, R), or latents float16 (N, 1, K, S, S)
    vectors: dict[str, np.ndarray]  # float32 (N, D) each
    tokens: np.ndarray | None = None  # int64 (N, T)
    embedding: float = 0.0  # CPU seconds of the vectors of drawn pictures
    labels: np.ndarray | None = None  # int64 (N,) of samples in groups

    def batch(self) -> Batch:
        """Returns the batch as tensors, in pinned memory if there is a GPU."""
        pictures = torch.from_numpy(self.pictures)
        vectors = {name: torch.from_numpy(array) for name, array in self.vectors.items()}
        tokens, labels = (None if x is None else torch.from_numpy(x) for x in (self.tokens, self.labels))
        if not torch.cuda.is_available():
            return Batch(pictures, vectors, tokens, self.embedding, labels)
        pinned = {name: v.pin_memory() for name, v in vectors.items()}
        tokens, labels = (None if x is None else x.pin_memory() for x in (tokens, labels))
        return Batch(pictures.pin_memory(), pinned, tokens, self.embedding, labels)
