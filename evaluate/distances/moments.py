"""Mean and covariance of batches of features: float64, mergeable, independent of split and order.

Chan, Golub, LeVeque, Algorithms for computing the sample variance, American Statistician 1983: the pairwise
update. Axes: N pictures, D dimensions of a feature.
"""

from dataclasses import dataclass

import numpy as np

from synth.errors import UserError

_BLOCK = 4096  # rows per update; an update costs D x D even for a few rows


@dataclass(frozen=True)
class Moments:
    """Count, mean and scatter of features."""

    count: int
    mean: np.ndarray  # float64 (D,)
    scatter: np.ndarray  # float64 (D, D): sum of outer products of the deviations from the mean

    @property
    def covariance(self) -> np.ndarray:
        """The covariance, float64 (D, D), with the divisor N - 1."""
        return self.scatter / (self.count - 1)

    def merged(self, other: "Moments") -> "Moments":
        """Returns the moments of both sets together (Chan et al.)."""
        count = self.count + other.count
        step = other.mean - self.mean  # (D,)
        between = np.outer(step, step * (self.count * other.count / count))  # (D, D)
        mean = self.mean + step * (other.count / count)
        return Moments(count, mean, self.scatter + other.scatter + between)


def moments_of(features: np.ndarray) -> Moments:
    """Returns the moments of features (N, D).

    Raises UserError if one is not finite, or there are fewer than two."""
    gathering = Gathering()
    gathering.add(features)
    return gathering.moments()


class Gathering:
    """Moments of a stream."""

    def __init__(self) -> None:
        self._sum: Moments | None = None
        self._waiting: list[np.ndarray] = []

    def add(self, features: np.ndarray) -> None:
        """Adds features (N, D), any N. Raises UserError if one is not finite."""
        require_finite(features)
        for start in range(0, len(features), _BLOCK):
            self._waiting.append(features[start : start + _BLOCK].astype(np.float64))
            if sum(map(len, self._waiting)) >= _BLOCK:
                self._fold()

    def moments(self) -> Moments:
        """Returns the moments of all added features. Raises UserError for fewer than two."""
        self._fold()
        if self._sum is None or self._sum.count < 2:
            raise UserError("a covariance needs at least two pictures; give more")
        return self._sum

    def _fold(self) -> None:
        """Merges the waiting rows into the moments."""
        if not self._waiting:
            return
        rows = np.concatenate(self._waiting)
        self._waiting = []
        mean = rows.mean(axis=0)
        rows -= mean
        block = Moments(len(rows), mean, rows.T @ rows)
        self._sum = block if self._sum is None else self._sum.merged(block)


def require_finite(features: np.ndarray, first: int = 0) -> None:
    """Raises UserError if a feature (N, D) of the pictures from number `first` on is not finite."""
    if not np.isfinite(features).all():
        row = first + int(np.flatnonzero(~np.isfinite(features).all(axis=1))[0])
        problem = f"the features of picture {row} are not finite"
        raise UserError(f"{problem}; the detector's weights are damaged or of another net: give others")
