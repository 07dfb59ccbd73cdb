"""Frechet distance of two Gaussians: |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)).

Dowson and Landau, J. Multivariate Analysis 1982; Heusel et al., NeurIPS 2017 (FID); Chong and Forsyth, CVPR
2020 (its limit). Axes: N and M pictures of the two sets, D dimensions of a feature.
"""

from typing import NamedTuple

import numpy as np

from evaluate.distances.moments import Moments, moments_of, require_finite
from evaluate.inference import LEVEL
from synth.errors import UserError

POINTS = 15  # subsets of FD-infinity
FEWEST = 20  # pictures that FD-infinity needs
_LEAST = 5000  # pictures of FD-infinity's smallest subset, or a tenth of all if that is less


class Bounds(NamedTuple):
    """The ends of a figure's 95 % interval."""

    low: float
    high: float


def distance(a: Moments, b: Moments) -> float:
    """Returns the distance of two sets by their moments: torch-fidelity's formula.

    Raises UserError if dimensions differ."""
    from caption.lean_imports import import_torchvision

    import_torchvision()
    from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_statistics_to_metric

    # torch-fidelity's own function, so that the value is its FID.
    _require_same_dimensions(a.mean, b.mean)
    first, second = ({"mu": m.mean, "sigma": m.covariance} for m in (a, b))
    return float(fid_statistics_to_metric(first, second, verbose=False)[KEY_METRIC_FID])


def distance_of_features(a: np.ndarray, b: np.ndarray) -> float:
    """Returns the distance of features (N, D) and (M, D), by the cheapest formula.

    Let X and Y be the centred features over sqrt(N - 1) and sqrt(M - 1). Then tr (S1 S2)^(1/2) is the nuclear
    norm of X Y^T. If N and M are below D, that problem is smaller and takes no root of a singular product."""
    _require_same_dimensions(a[0], b[0])
    few_a, few_b = (len(features) < features.shape[1] for features in (a, b))

    # Two small sets: the nuclear norm.
    if few_a and few_b:
        (mean_a, x), (mean_b, y) = _centred(a), _centred(b)
        root = np.linalg.svd(x @ y.T, compute_uv=False).sum()
        return _sum(mean_a - mean_b, np.vdot(x, x) + np.vdot(y, y), root)

    # One small set, or none: moments.
    if few_a or few_b:
        return _few_and_many(a, moments_of(b)) if few_a else _few_and_many(b, moments_of(a))
    return distance(moments_of(a), moments_of(b))


def limit(generated: np.ndarray, reference: np.ndarray, *, seed: int = 0, points: int = POINTS) -> float:
    """Returns FD-infinity: the intercept of the distance against 1 / N.

    N are sizes of random subsets of the generated features (N, D), from a tenth of them (5,000 at most) to
    all. Raises UserError for fewer than FEWEST pictures."""
    if len(generated) < FEWEST:
        problem = f"FD-infinity needs at least {FEWEST} generated pictures, not {len(generated)}"
        raise UserError(f"{problem}; give more, or leave fdinf out")
    _require_same_dimensions(generated[0], reference[0])

    # Sizes of the subsets.
    random = np.random.default_rng(seed)
    smallest = max(2, min(len(generated) // 10, _LEAST))
    sizes = np.unique(np.linspace(smallest, len(generated), points).astype(int))
    mean, root = _root(reference)

    # The root's product is symmetric, so it takes a sixth of the time of `distance`.
    def to_reference(subset: Moments) -> float:
        values = np.linalg.eigvalsh(root.T @ subset.covariance @ root)
        traces = np.trace(subset.covariance) + np.vdot(root, root)
        return _sum(subset.mean - mean, traces, np.sqrt(values.clip(min=0)).sum())

    # A line through the subsets' distances.
    subsets = (generated[random.choice(len(generated), size, replace=False)] for size in sizes)
    distances = [to_reference(moments_of(subset)) for subset in subsets]
    return float(np.polynomial.polynomial.polyfit(1 / sizes, distances, 1)[0])


def bootstrap(generated: np.ndarray, reference: np.ndarray, *, seed: int = 0, resamples: int = 200) -> Bounds:
    """Returns the 95 % interval of the distance of two sets of features, by resampled pictures (Efron 1979).

    Resampling adds the bias of finite N once more. So the resampled distances are centred, and the interval
    covers spread, not bias."""
    few = max(len(generated), len(reference)) < generated.shape[1]
    resample = _resampled_by_rows if few else _resampled_by_moments
    value, distances = resample(generated, reference, np.random.default_rng(seed), resamples)
    low, high = np.quantile(distances - distances.mean(), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Bounds(value + float(low), value + float(high))


def _few_and_many(few: np.ndarray, many: Moments) -> float:
    """Returns the distance of fewer than D features (N, D) from moments.

    Takes the root of an N x N matrix: tr (S1 S2)^(1/2) = tr (X S2 X^T)^(1/2)."""
    mean, x = _centred(few)
    root = np.sqrt(np.linalg.eigvalsh(x @ many.covariance @ x.T).clip(min=0)).sum()
    return _sum(mean - many.mean, np.vdot(x, x) + np.trace(many.covariance), root)


def _centred(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the mean (D,), and deviations from it over sqrt(N - 1), both float64.

    Raises UserError as Gathering does."""
    require_finite(features)
    if len(features) < 2:
        raise UserError("a covariance needs at least two pictures; give more")
    mean = features.mean(axis=0, dtype=np.float64)
    return mean, (features - mean) / np.sqrt(len(features) - 1)


def _root(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the mean (D,), and a root R (D, K) of the covariance R R^T."""
    if len(features) < features.shape[1]:
        mean, x = _centred(features)
        return mean, x.T
    moments = moments_of(features)
    values, vectors = np.linalg.eigh(moments.covariance)
    return moments.mean, vectors * np.sqrt(values.clip(min=0))


def _sum(step: np.ndarray, traces: float, root: float) -> float:
    """Returns |m1 - m2|^2 + tr(S1 + S2) - 2 tr (S1 S2)^(1/2), from the three terms."""
    return float(step @ step + traces - 2 * root)


def _resampled_by_moments(
    a: np.ndarray, b: np.ndarray, random: np.random.Generator, resamples: int
) -> tuple[float, np.ndarray]:
    """Returns the distance, and those of resampled features."""

    def resampled(features: np.ndarray) -> Moments:
        return moments_of(features[np.sort(random.integers(len(features), size=len(features)))])

    distances = [distance(resampled(a), resampled(b)) for _ in range(resamples)]
    return distance_of_features(a, b), np.array(distances)


def _resampled_by_rows(
    a: np.ndarray, b: np.ndarray, random: np.random.Generator, resamples: int
) -> tuple[float, np.ndarray]:
    """Returns the distance, and those of resampled features, for fewer than D pictures.

    A resample needs only inner products of rows, which are computed once."""
    # Inner products. Near the origin they keep their digits.
    middle = a.mean(axis=0, dtype=np.float64)
    a, b = a - middle, b - middle
    aa, bb, ab = a @ a.T, b @ b.T, a @ b.T  # (N, N), (M, M), (N, M)
    n, m = len(a), len(b)
    distances = []
    for _ in range(resamples):
        # Weight of each row: how often the resample has it.
        i, j = (np.sort(random.integers(size, size=size)) for size in (n, m))
        p, q = np.bincount(i, minlength=n) / n, np.bincount(j, minlength=m) / m  # (N,), (M,)

        # |m1 - m2|^2 and tr(S1 + S2).
        step = p @ aa @ p + q @ bb @ q - 2 * (p @ ab @ q)
        trace_a = (p @ aa.diagonal() - p @ aa @ p) * n / (n - 1)
        trace_b = (q @ bb.diagonal() - q @ bb @ q) * m / (m - 1)

        # tr (S1 S2)^(1/2), the nuclear norm of X Y^T: rows less the resample's means, by their weights.
        rows, columns = np.flatnonzero(p), np.flatnonzero(q)
        cross = ab - (p @ ab) - (ab @ q)[:, None] + p @ ab @ q
        cross = cross[np.ix_(rows, columns)] * np.sqrt(p[rows])[:, None] * np.sqrt(q[columns])
        root = np.linalg.svd(cross, compute_uv=False).sum() * np.sqrt(n / (n - 1) * m / (m - 1))
        distances.append(step + (trace_a + trace_b) - 2 * root)
    return distance_of_features(a, b), np.array(distances)


def _require_same_dimensions(a: np.ndarray, b: np.ndarray) -> None:
    if a.shape != b.shape:
        problem = f"features of {len(a)} and of {len(b)} dimensions do not compare"
        raise UserError(f"{problem}; take both from one detector")
