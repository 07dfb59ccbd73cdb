"""Scores of one set: IS on logits, and agreement of pictures and texts in an encoder's space.

Salimans et al., NeurIPS 2016 (IS); Hessel et al., EMNLP 2021 (CLIP score); Xu et al., CVPR 2018 (R-precision).
Axes: N pictures, C classes, D dimensions of an embedding.
"""

from typing import NamedTuple

import numpy as np


class Score(NamedTuple):
    """A mean and its spread."""

    value: float
    deviation: float


class InceptionScore:
    """IS of a stream of logits whose length is known: exp(mean KL(p(y|x) || p(y))), mean over the splits."""

    def __init__(self, count: int, *, splits: int = 10, seed: int = 2020) -> None:
        raise NotImplementedError

    def add(self, logits: np.ndarray, first: int) -> None:
        """Takes in logits (N, C) of the pictures from number `first` on."""
        raise NotImplementedError

    def score(self) -> Score:
        """Mean and standard deviation over the splits, as torch-fidelity has them. Raises UserError where pictures are missing."""
        raise NotImplementedError


def clip_score(images: np.ndarray, texts: np.ndarray) -> Score:
    """100 x the mean of max(cos, 0) over pairs of unit embeddings (N, D), and its standard error."""
    raise NotImplementedError


def r_precision(images: np.ndarray, texts: np.ndarray, *, candidates: int = 100, seed: int = 0) -> Score:
    """Share of pictures whose own text is the nearest of so many, the others drawn from the set, and its standard error.
    A text that is equal to the right one is no wrong one. Raises UserError where there are fewer different texts."""
    raise NotImplementedError
