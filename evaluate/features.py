"""Features of pictures, kept on disk: what was seen once is not seen again, and a run that was cut goes on where it stopped.

A place in the cache is named by detector, weights, resize rule and the digest of the pictures:

    KEY/about.json                  what the key is of
    KEY/000004096.safetensors       features float32 (n, D), and logits float32 (n, C) where there are; named by the first picture
    KEY/moments.safetensors         of all, written last

Axes: N pictures, D dimensions of a feature, C classes.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from evaluate.detectors import Detector, Output
from evaluate.moments import Moments
from evaluate.scores import Score
from evaluate.sources import Pictures

CACHE = Path("data/features")


class Features:
    """The features of a set of pictures, in the cache."""

    count: int  # N
    dimensions: int  # D
    digest: str  # of the pictures
    name: str  # of the pictures

    def blocks(self) -> Iterator[Output]:
        """Features and logits, some thousands of pictures at a time, in order."""
        raise NotImplementedError

    def moments(self) -> Moments:
        """Mean and covariance, streamed."""
        raise NotImplementedError

    def matrix(self) -> np.ndarray:
        """All features: float32 (N, D)."""
        raise NotImplementedError

    def inception_score(self) -> Score:
        """IS, streamed. Raises UserError where the detector gives no logits."""
        raise NotImplementedError


def extract(detector: Detector, pictures: Pictures, *, cache: Path = CACHE, advance: Callable[[int], None] = lambda n: None) -> Features:
    """The features of pictures, from the cache as far as it goes; `advance` is told of every batch. Raises UserError where pictures are
    fewer than they said, or of two sizes, or where a feature is not finite."""
    raise NotImplementedError
