"""Mean and covariance of features that come in batches: float64, mergeable, the same whatever the split and the order.

Chan, Golub, LeVeque, Algorithms for computing the sample variance, American Statistician 1983: the pairwise update.
Axes: N pictures, D dimensions of a feature.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Moments:
    """Count, mean and scatter of features."""

    count: int
    mean: np.ndarray  # float64 (D,)
    scatter: np.ndarray  # float64 (D, D): sum of outer products of the deviations from the mean

    @property
    def covariance(self) -> np.ndarray:
        """float64 (D, D), with N - 1 below."""
        raise NotImplementedError

    def merged(self, other: "Moments") -> "Moments":
        """Those of both together."""
        raise NotImplementedError


def moments_of(features: np.ndarray) -> Moments:
    """The moments of features (N, D), taken in blocks. Raises UserError where one is not finite."""
    raise NotImplementedError


class Gathering:
    """Moments of a stream."""

    def add(self, features: np.ndarray) -> None:
        """Takes in features (N, D), any N. Raises UserError where one is not finite."""
        raise NotImplementedError

    def moments(self) -> Moments:
        """Of all that was added. Raises UserError where that are fewer than two."""
        raise NotImplementedError
