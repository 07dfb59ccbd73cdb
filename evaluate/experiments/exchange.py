"""The exchange rate: the number of real pictures that another arm needs for the same loss.

Losses fall along a curve in x = log2 n. The rate is the horizontal distance between the point of an arm at m
pictures and the curve of the arm that it is compared with, as a factor on m.

Axes: S seeds, K sizes of the curve.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from evaluate.inference import Interval, jackknife


class _NoFallError(ValueError):
    """The error of a curve that does not fall."""


class ExchangeRate(NamedTuple):
    """The pictures that m pictures are worth, with a 95 % interval."""

    m: int
    pictures: Interval
    least: int  # sizes of the curve
    most: int

    @property
    def beyond(self) -> bool:
        """True if the estimate lies beyond the curve's sizes, on the line of its nearest falling piece."""
        return not self.least <= self.pictures.value <= self.most


def rate(sizes: Sequence[int], curve: np.ndarray, m: int, values: np.ndarray) -> ExchangeRate:
    """Returns the exchange rate of an arm with values (S,) at m pictures, on a curve (S, K).

    Row s of both is one seed. The curve is that of the mean logarithms over seeds, straight between its
    sizes. The interval is a jackknife over seeds, in log2 n, so it contains the uncertainty of the curve. It
    has no ends if the curve does not fall without one of the seeds.
    Raises ValueError for fewer than three seeds or two sizes, or if the curve of all seeds does not fall."""
    order = np.argsort(sizes)
    x, y, at = np.log2(np.asarray(sizes, np.float64))[order], np.log(curve)[:, order], np.log(values)
    if len(x) < 2:
        raise ValueError("a curve needs at least two sizes")

    def estimate(seeds: np.ndarray) -> float:
        return _inverse(x, y[seeds].mean(0), float(at[seeds].mean()))

    try:
        shift = jackknife(estimate, len(at))
    except _NoFallError:
        # The pseudo-value of that seed is infinite, and Student's interval is symmetric.
        shift = Interval(estimate(np.arange(len(at))), -math.inf, math.inf)
    # A nearly flat end of the curve gives an end of the interval beyond all floats: 0 or inf.
    with np.errstate(over="ignore"):
        pictures = Interval(*(float(np.exp2(each)) for each in shift))
    return ExchangeRate(m, pictures, int(min(sizes)), int(max(sizes)))


def _inverse(x: np.ndarray, y: np.ndarray, value: float) -> float:
    """Returns the x at which a falling curve, made of straight pieces, has a value.

    Beyond an end the curve goes on from there as steep as its nearest falling piece. Raises _NoFallError if
    it does not fall."""
    falling = _falling(y)
    if not falling[0] > falling[-1]:
        raise _NoFallError("the curve does not fall, so no exchange rate can be read from it")
    # The piece that holds the value, or the first or last one that falls.
    pieces = [i for i in range(len(x) - 1) if falling[i] > falling[i + 1]]
    i = next((i for i in pieces if value >= falling[i + 1]), pieces[-1])
    # Beyond an end, the line begins at that end, as steep as the nearest piece that falls.
    start = 0 if value > falling[0] else len(x) - 1 if value < falling[-1] else i
    return float(x[start] + (falling[start] - value) / (falling[i] - falling[i + 1]) * (x[i + 1] - x[i]))


def _falling(y: np.ndarray) -> np.ndarray:
    """Returns the nearest curve that never rises, by pooling neighbours (Ayer et al. 1955)."""
    pools: list[tuple[float, int]] = []
    for value in y:
        pools.append((float(value), 1))
        while len(pools) > 1 and pools[-2][0] < pools[-1][0]:
            (a, m), (b, n) = pools[-2:]
            pools[-2:] = [((a * m + b * n) / (m + n), m + n)]
    return np.concatenate([np.full(count, value) for value, count in pools])
