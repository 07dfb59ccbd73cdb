"""Rates of right answers with intervals, raw and with the judge's own error removed.

A judge that calls right pictures right at a rate `sensitivity`, and wrong ones at a rate `false_accepts`,
gives the raw rate p = t sensitivity + (1 - t) false_accepts. The Rogan-Gladen estimator (Am. J. Epidemiol.
107, 1978) solves for the true rate t.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from evaluate.inference import Z, variance_by_group

_DRAWS = 4000


class Counted(NamedTuple):
    """Cases, and those with an answer `right`."""

    right: float
    n: float

    @property
    def rate(self) -> float:
        """The share of right answers."""
        return self.right / self.n


def wilson(counted: Counted) -> tuple[float, float]:
    """Returns Wilson's 95 % interval of a rate (JASA 22, 1927)."""
    p, n = counted.rate, counted.n
    middle, half = p + Z**2 / (2 * n), Z * float(np.sqrt(p * (1 - p) / n + Z**2 / (4 * n**2)))
    return max(0.0, (middle - half) / (1 + Z**2 / n)), min(1.0, (middle + half) / (1 + Z**2 / n))


def wilson_by_picture(rights: Sequence[Sequence[bool]]) -> tuple[float, float]:
    """Returns Wilson's 95 % interval of the rate of right facts, from the facts of each picture.

    Facts of one picture fail together. So they count as n / d independent ones, with the design effect d, the
    ratio of the rate's variance over pictures to that of independent facts (Kish, Survey Sampling, 1965).

    Few failures do not show how facts fail together. So the lower end is at most that of all pictures right,
    and the upper end at least that of all pictures wrong, where each picture counts as one fact. Pictures
    without facts do not count."""
    hits, counts = (np.array([f(each) for each in rights if each], float) for f in (sum, len))
    pictures, n, p = len(counts), counts.sum(), hits.sum() / counts.sum()
    effect = float(n / pictures)
    if pictures > 1 and 0 < p < 1:
        effect = max(1.0, variance_by_group(hits, counts) / float(p * (1 - p) / n))
    low, high = wilson(Counted(p * n / effect, n / effect))
    return min(low, wilson(Counted(pictures, pictures))[0]), max(high, wilson(Counted(0, pictures))[1])


def rogan_gladen(raw: float, sensitivity: float, false_accepts: float) -> float | None:
    """Returns the true rate behind a raw one, cut to 0..1, or None if the judge cannot tell right from
    wrong."""
    if sensitivity <= false_accepts:
        return None
    return min(1.0, max(0.0, (raw - false_accepts) / (sensitivity - false_accepts)))


def corrected_interval(raw: Counted, right: Counted, wrong: Counted, seed: int = 0) -> tuple[float, float]:
    """Returns the 95 % interval of the corrected rate. All three rates are uncertain.

    `right` counts accepted pictures among right ones, `wrong` among wrong ones. The rates are drawn from
    their posteriors under Jeffreys' prior. The interval means nothing if `rogan_gladen` returns None."""
    stream = np.random.Generator(np.random.Philox(key=seed))
    p, s, f = (stream.beta(c.right + 0.5, c.n - c.right + 0.5, _DRAWS) for c in (raw, right, wrong))
    draws = np.clip((p - f) / np.maximum(s - f, 1e-9), 0.0, 1.0)
    low, high = np.quantile(draws, [0.025, 0.975])
    return float(low), float(high)
