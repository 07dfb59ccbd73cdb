"""Kernel distances of two sets of features.

Binkowski et al., ICLR 2018 (KID); Jayasumana et al., CVPR 2024 (CMMD). Axes: N pictures, D dimensions of a
feature.
"""

from typing import NamedTuple

import numpy as np

from evaluate.distances.moments import require_finite
from synth.errors import UserError

FEWEST = 4  # pictures of each set that KID needs

_BLOCK = 2048  # rows


class Kid(NamedTuple):
    """A kernel distance."""

    value: float  # mean over the subsets
    error: float  # standard error, from the pictures and from the choice of subsets
    subsets: int
    subset_size: int


def kid(
    generated: np.ndarray,
    reference: np.ndarray,
    *,
    subsets: int = 100,
    subset_size: int = 1000,
    seed: int = 2020,
) -> Kid:
    """Returns the unbiased MMD^2 with the kernel (x.y / D + 1)^3. Draws subsets as torch-fidelity does.

    A subset has at most half of the smaller set. Raises UserError for fewer than four pictures.

    The error is that of an incomplete U-statistic. Let s^2 be the variance between subsets of m of n
    pictures. The complete statistic has at most s^2 r / (1 - r), r = m / n (Hoeffding, Annals of Mathematical
    Statistics 1948, section 5). The choice of subsets adds s^2 / subsets."""
    smaller = min(len(generated), len(reference))
    if smaller < FEWEST:
        raise UserError(f"KID needs at least {FEWEST} pictures of each set, not {smaller}; give more")
    for features in (generated, reference):
        require_finite(features)

    # Subsets.
    size = min(subset_size, smaller // 2)
    random = np.random.RandomState(seed)
    values = []
    for _ in range(subsets):
        x = generated[random.choice(len(generated), size, replace=False)]
        y = reference[random.choice(len(reference), size, replace=False)]
        values.append(_mmd2(x, y))

    # Standard error.
    ratio, deviation = size / smaller, float(np.std(values, ddof=1)) if subsets > 1 else float("nan")
    error = deviation * float(np.sqrt(ratio / (1 - ratio) + 1 / subsets))
    return Kid(float(np.mean(values)), error, subsets, size)


def cmmd(generated: np.ndarray, reference: np.ndarray, *, sigma: float = 10.0) -> float:
    """Returns 1000 x the biased MMD^2 with the kernel exp(-|x - y|^2 / (2 sigma^2)), of embeddings (N, D).

    Computes it in blocks."""

    def mean(a: np.ndarray, b: np.ndarray) -> float:
        # -|x - y|^2 / 2 = x.y - |x|^2 / 2 - |y|^2 / 2.
        a, b = a.astype(np.float64), b.astype(np.float64)
        halves_a, halves_b = ((m**2).sum(axis=1) / 2 for m in (a, b))
        total = 0.0
        for start in range(0, len(a), _BLOCK):
            rows = slice(start, start + _BLOCK)
            inner = a[rows] @ b.T
            total += float(np.exp((inner - halves_a[rows, None] - halves_b) / sigma**2).sum())
        return total / (len(a) * len(b))

    return 1000 * (mean(generated, generated) + mean(reference, reference) - 2 * mean(generated, reference))


def _mmd2(x: np.ndarray, y: np.ndarray) -> float:
    """Returns the unbiased MMD^2 of two sets of m features: Gretton et al., JMLR 2012, lemma 6."""
    m = len(x)
    within = sum(total - diagonal for total, diagonal in (_cubes(x, x), _cubes(y, y)))
    across, _ = _cubes(x, y)
    return within / (m * (m - 1)) - 2 * across / (m * m)


def _cubes(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Returns the sum of (x.y / D + 1)^3 over all pairs, and over the diagonal, summed in float64."""
    # If x is y, the product takes half the work.
    k = x @ y.T
    k /= x.shape[1]
    k += 1
    cubes = k * k
    cubes *= k
    return float(cubes.sum(dtype=np.float64)), float(cubes.trace(dtype=np.float64))
