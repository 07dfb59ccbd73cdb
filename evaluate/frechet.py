"""Frechet distance of two Gaussians: |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)).

Dowson and Landau, J. Multivariate Analysis 1982; Heusel et al., NeurIPS 2017 (FID); Chong and Forsyth, CVPR 2020 (its limit).
Axes: N pictures, D dimensions of a feature.
"""

from typing import NamedTuple

import numpy as np

from evaluate.moments import Moments


class Interval(NamedTuple):
    """Where a figure lies with a stated confidence."""

    low: float
    high: float


def distance(a: Moments, b: Moments) -> float:
    """The distance of two sets by their moments, torch-fidelity's formula. Raises UserError where dimensions differ."""
    raise NotImplementedError


def distance_of_features(a: np.ndarray, b: np.ndarray) -> float:
    """The same from features (N, D) and (M, D): where both N and M are below D without a square root of D x D matrices."""
    raise NotImplementedError


def limit(generated: np.ndarray, reference: np.ndarray, *, seed: int = 0, points: int = 15) -> float:
    """FD-infinity: the intercept of the distance against 1/N, over subsets of the generated features (N, D)."""
    raise NotImplementedError


def bootstrap(generated: np.ndarray, reference: np.ndarray, *, seed: int = 0, resamples: int = 200, confidence: float = 0.95) -> Interval:
    """An interval of the distance of two sets of features, from resampled pictures of both; the bias of finite N stays in it."""
    raise NotImplementedError
