"""Statistics of paired arms: intervals, exact tests, and corrections for several hypotheses.

Axes: S seeds, N pictures, B resamples, G groups.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

LEVEL = 0.95  # of every interval
Z = 1.959964  # standard deviations of a normal interval of this level
MOST_PAIRS = 24  # of an exact test: 2^24 sums

_RESAMPLES = 2_000
_PERMUTATIONS = 10_000
_AT_ONCE = 2**20  # values that a bootstrap holds together
_ROUNDING = 1e-12  # below which two sums are equal


class Interval(NamedTuple):
    """An estimate with its 95 % interval."""

    value: float
    low: float
    high: float


def t_interval(values: Sequence[float] | np.ndarray) -> Interval:
    """Returns the mean of values (S,) with Student's interval. Raises ValueError for fewer than two."""
    array = np.asarray(values, np.float64)
    if len(array) < 2:
        raise ValueError("an interval needs at least two values")
    half = _quantile(len(array) - 1) * array.std(ddof=1) / math.sqrt(len(array))
    return Interval(float(array.mean()), float(array.mean() - half), float(array.mean() + half))


def variance_by_group(sums: np.ndarray, counts: np.ndarray) -> float:
    """Returns the variance of the mean of all values, from their sum and count in each group (G,).

    Values of one group may depend on each other. The mean is a ratio of sums over groups (Cochran, Sampling
    Techniques, 1977, section 6.3). Raises ValueError for fewer than two groups."""
    if len(sums) < 2:
        raise ValueError("a variance over groups needs at least two of them")
    deviations = sums - sums.sum() / counts.sum() * counts
    return float((deviations**2).sum()) / float(counts.sum()) ** 2 * len(sums) / (len(sums) - 1)


def sign_flip(differences: Sequence[float] | np.ndarray) -> float:
    """Returns the exact one-sided p-value of differences (S,) against a mean of at least 0.

    Raises ValueError for more than MOST_PAIRS, or if one is no finite number."""
    return float(sign_flips(np.asarray(differences, np.float64)[None])[0])


def sign_flips(differences: np.ndarray) -> np.ndarray:
    """Returns the p-values of T experiments with differences (T, S): float64 (T,).

    A p-value is the share of all 2^S sign patterns with a sum at or below the observed one (Fisher, The
    Design of Experiments, 1935). Raises ValueError for more than MOST_PAIRS, or for values that are not
    finite."""
    if not np.isfinite(differences).all():
        raise ValueError("differences must be finite numbers")
    if differences.shape[1] > MOST_PAIRS:
        raise ValueError(f"an exact test takes at most {MOST_PAIRS} pairs")
    sums = np.zeros((len(differences), 1))
    for value in differences.T[:, :, None]:
        sums = np.concatenate([sums + value, sums - value], axis=1)
    observed = differences.sum(axis=1, keepdims=True)
    scale = np.maximum(np.abs(differences).sum(axis=1, keepdims=True), 1.0)
    return (sums <= observed + _ROUNDING * scale).mean(axis=1)


def least_p(pairs: int) -> float:
    """Returns the least p-value that the sign-flip test can reach."""
    return float(2.0**-pairs)


def holm(p_values: Sequence[float]) -> list[float]:
    """Returns p-values adjusted for their number (Holm, Scandinavian Journal of Statistics 1979)."""
    order = np.argsort(p_values, kind="stable")
    adjusted, highest = [0.0] * len(order), 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * p_values[i]))
        adjusted[i] = highest
    return adjusted


def bootstrap(
    values: np.ndarray, *, groups: np.ndarray | None = None, seed: int = 0, resamples: int = _RESAMPLES
) -> Interval:
    """Returns the mean of values (N,) of pictures with its percentile interval (Efron, Annals 1979).

    With `groups` (N,), such as noise levels, each group is resampled by itself. Resamples of k values vary
    by (k - 1) / k of what they should, so their deviations from the group's mean are scaled. Raises
    ValueError if a group has fewer than two values, as a resample of one value is that value."""
    rng = np.random.default_rng(seed)
    groups = np.zeros(len(values), np.int64) if groups is None else groups
    if np.unique(groups, return_counts=True)[1].min() < 2:
        raise ValueError("an interval needs at least two values of each group")
    sums = np.zeros(resamples)
    for group in np.unique(groups):
        members = values[groups == group]
        k, mean = len(members), members.mean()
        at_once = max(1, _AT_ONCE // k)
        for first in range(0, resamples, at_once):
            part = sums[first : first + at_once]
            resampled = members[rng.integers(0, k, (len(part), k))].sum(axis=1) - k * mean
            part += k * mean + resampled * math.sqrt(k / (k - 1))
    low, high = np.quantile(sums / len(values), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(values.mean()), float(low), float(high))


def jackknife(estimate: Callable[[np.ndarray], float], seeds: int) -> Interval:
    """Returns an estimate from seeds with its interval, from the estimates without one seed each.

    `estimate` receives the numbers of the seeds to use. The interval has the estimate in its middle, and the
    width of Student's interval of the pseudo-values S e - (S - 1) e_i (Tukey 1958). Raises ValueError for
    fewer than three seeds."""
    if seeds < 3:
        raise ValueError("a jackknife needs at least three seeds")
    every = np.arange(seeds)
    whole = estimate(every)
    pseudo = [seeds * whole - (seeds - 1) * estimate(np.delete(every, i)) for i in every]
    half = _quantile(seeds - 1) * np.std(pseudo, ddof=1) / math.sqrt(seeds)
    return Interval(whole, float(whole - half), float(whole + half))


def rank_correlation(x: np.ndarray, y: np.ndarray) -> Interval:
    """Returns Spearman's rank correlation of x (N,) and y (N,) with a jackknife interval over the pairs.

    The interval is cut at -1 and 1. Raises ValueError for fewer than three pairs."""
    # scipy is slow to import.
    from scipy.stats import rankdata

    def correlation(kept: np.ndarray) -> float:
        ranks = [rankdata(values[kept]) for values in (x, y)]
        if any(np.ptp(each) == 0 for each in ranks):
            return 0.0
        return float(np.corrcoef(*ranks)[0, 1])

    value, low, high = jackknife(correlation, len(x))
    return Interval(value, max(-1.0, low), min(1.0, high))


def rank_test(x: np.ndarray, y: np.ndarray, seed: int = 0) -> float:
    """Returns the two-sided p-value of the rank correlation of x (N,) and y (N,) under permutations.

    All permutations count up to N = 7, else 10,000 random ones and the observed order."""
    from scipy.stats import rankdata

    a, b = (rank - rank.mean() for rank in map(rankdata, (x, y)))
    if len(x) <= 7:
        orders = np.array(list(itertools.permutations(range(len(x)))))
    else:
        rng = np.random.default_rng(seed)
        orders = np.stack([np.arange(len(x)), *(rng.permutation(len(x)) for _ in range(_PERMUTATIONS))])
    return float((np.abs(b[orders] @ a) >= abs(b @ a) - _ROUNDING).mean())


def _quantile(freedom: int) -> float:
    """Returns the quantile of Student's t for a two-sided interval."""
    # scipy is slow to import.
    from scipy.special import stdtrit

    return float(stdtrit(freedom, (1 + LEVEL) / 2))
