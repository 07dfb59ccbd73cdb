"""Measures of embeddings: pure functions of arrays, and two tallies that take any number of rows.

Axes: N rows, D dimensions of the embedding, Q queries, R results. All vectors are float32 of unit length
unless a docstring names another type.
"""

from typing import NamedTuple, Self

import numpy as np

from caption.pseudo import mean_cosine, pseudo_caption

BINS = 20000  # of a histogram of cosines, over -1..1

_AT_ONCE = 1024  # rows of a matrix of cosines
_TIE = 1e-6  # smaller differences of cosines are ties: the rounding of a float32 sum of D products


class Retrieval(NamedTuple):
    """Shares of queries with their target first, or among the first five, of `among` targets."""

    top_1: float
    top_5: float
    among: int

    @classmethod
    def of(cls, queries: np.ndarray, targets: np.ndarray) -> Self:
        """Returns the retrieval of query i (N, D) for target i (N, D)."""
        places = ranks(queries, targets)
        return cls(float((places < 1).mean()), float((places < 5).mean()), len(places))


class Sweep(NamedTuple):
    """The effect of noise: float64 (R,) each, for R amounts of it."""

    xi: np.ndarray
    cosine: np.ndarray  # mean of cos(pseudo-caption, image)
    law: np.ndarray  # the mean by caption.pseudo.mean_cosine
    top_1: np.ndarray  # share of pictures that are the nearest of their pseudo-caption


class Cosines:
    """A histogram of cosines with their mean and standard deviation."""

    def __init__(self) -> None:
        self.counts = np.zeros(BINS, np.int64)  # of equal bins over -1..1
        self._sum = self._squares = 0.0

    def add(self, cosines: np.ndarray) -> None:
        """Counts cosines (N,)."""
        bins = ((cosines.astype(np.float64) + 1) * (BINS / 2)).astype(np.int64).clip(0, BINS - 1)
        self.counts += np.bincount(bins, minlength=BINS)
        self._sum += float(cosines.sum(dtype=np.float64))
        self._squares += float(np.square(cosines, dtype=np.float64).sum())

    @property
    def total(self) -> int:
        return int(self.counts.sum())

    @property
    def mean(self) -> float:
        return self._sum / self.total

    @property
    def deviation(self) -> float:
        return max(0.0, self._squares / self.total - self.mean**2) ** 0.5


class Spread:
    """Mean and covariance of any number of vectors, which need not be of unit length."""

    def __init__(self, dimensions: int) -> None:
        self.count = 0
        self._shift: np.ndarray | None = None
        self._sum, self._products = np.zeros(dimensions), np.zeros((dimensions, dimensions))

    def add(self, vectors: np.ndarray) -> None:
        """Counts vectors (N, D)."""
        # A shift to near the mean keeps the digits of float32 products.
        if self._shift is None:
            self._shift = vectors.mean(axis=0)
        moved = vectors - self._shift

        # Sums.
        self.count += len(vectors)
        self._sum += moved.sum(axis=0, dtype=np.float64)
        self._products += moved.T @ moved

    @property
    def mean(self) -> np.ndarray:
        """float64 (D,)"""
        return self._sum / self.count + (0 if self._shift is None else self._shift)

    @property
    def covariance(self) -> np.ndarray:
        """float64 (D, D)"""
        offset = self._sum / self.count
        return self._products / self.count - np.outer(offset, offset)

    @property
    def pair_cosine(self) -> float:
        """The mean cosine of two different unit vectors, (N |m|^2 - 1) / (N - 1) for the mean m."""
        return float((self.count * (self.mean @ self.mean) - 1) / (self.count - 1))


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Returns cos(a_i, b_i), float32 (N,), of vectors (N, D)."""
    return np.einsum("nd,nd->n", a, b)


def spectrum(covariance: np.ndarray) -> np.ndarray:
    """Returns singular values of the centred vectors divided by sqrt(N), float64 (D,), the largest first.

    They are the roots of the covariance's eigenvalues."""
    return np.sqrt(np.linalg.eigvalsh(covariance).clip(0))[::-1]


def effective_rank(singular: np.ndarray) -> float:
    """Returns exp(-sum p log p), p = singular values / their sum (Roy & Vetterli 2007, definition 1).

    The rank is D for an isotropic cloud, 1 for a line and 0 for a point."""
    positive = singular[singular > 0]
    if not len(positive):
        return 0.0
    p = positive / singular.sum()
    return float(np.exp(-(p * np.log(p)).sum()))


def gap(a: Spread, b: Spread) -> float:
    """Returns |mean(a) - mean(b)|, the modality gap of two kinds of unit vectors.

    Liang et al. 2022, section 4.2."""
    return float(np.linalg.norm(a.mean - b.mean))


def nearest(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns each row's largest cosine to another row, float32 (N,), and that row's number, int64 (N,).

    The vectors are (N, D)."""
    best, which = np.empty(len(vectors), np.float32), np.empty(len(vectors), np.int64)
    for start in range(0, len(vectors), _AT_ONCE):
        # A row is not its own neighbour.
        rows = slice(start, start + _AT_ONCE)
        matrix = vectors[rows] @ vectors.T  # at once x N
        row = np.arange(len(matrix))
        matrix[row, start + row] = -np.inf

        # Largest cosines.
        which[rows] = matrix.argmax(axis=1)
        best[rows] = matrix[row, which[rows]]
    return best, which


def ranks(queries: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Returns the number of other targets nearer to query i than target i: int64 (N,), 0 if none.

    Queries and targets are (N, D)."""
    nearer = np.empty(len(queries), np.int64)
    for start in range(0, len(queries), _AT_ONCE):
        rows = slice(start, start + _AT_ONCE)
        matrix = queries[rows] @ targets.T  # at once x N
        row = np.arange(len(matrix))
        nearer[rows] = (matrix > matrix[row, start + row, None] + _TIE).sum(axis=1)
    return nearer


def sweep(image: np.ndarray, eps: np.ndarray, amounts: np.ndarray) -> Sweep:
    """Returns the effect of equation 3 at each amount of noise (R,).

    All amounts share the same eps (N, D) for image embeddings (N, D)."""
    cosine, top_1 = np.empty(len(amounts)), np.empty(len(amounts))
    for i, xi in enumerate(amounts):
        pseudo = pseudo_caption(image, eps, float(xi))
        cosine[i] = cosines(pseudo, image).mean(dtype=np.float64)
        top_1[i] = (ranks(pseudo, image) == 0).mean()
    law = np.array([mean_cosine(float(xi), image.shape[1]) for xi in amounts])
    return Sweep(np.asarray(amounts, np.float64), cosine, law, top_1)


def principal_plane(clouds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns each cloud (N, D) in the two principal directions of all clouds: float32 (N, 2)."""
    # Two widest directions of the centred vectors.
    every = np.concatenate(list(clouds.values()))
    centre = every.mean(axis=0)
    axes = np.linalg.eigh(np.cov((every - centre).T))[1][:, :-3:-1].astype(np.float32)  # D 2

    # The sign of an eigenvector is arbitrary; its largest component is made positive.
    axes *= np.sign(axes[np.abs(axes).argmax(axis=0), [0, 1]])
    return {name: (cloud - centre) @ axes for name, cloud in clouds.items()}
