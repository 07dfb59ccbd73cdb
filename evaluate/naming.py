"""Named right among ten: does a picture show what its prompt names, for real captioned sets?

A ridge head maps a detector's features to the vectors of captions. It is fitted to one half of the held-out
real pictures. The other half gives its own accuracy, and the prompts of the drawn pictures. A picture is
named right if its predicted vector is nearer to its prompt than to nine others. The head sees no drawn
picture, and the share on real pictures is the bound that drawn ones can reach.

Axes: N pictures, F features, D dimensions of a caption's vector.
"""

from typing import NamedTuple

import numpy as np

from evaluate.distances.scores import Score, r_precision

CANDIDATES = 10
FEWEST = 4 * CANDIDATES  # pictures: a quarter of them must have ten prompts

_STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0, 10.0)  # of the ridge, in mean squared singular values


class Naming(NamedTuple):
    """Shares of pictures that are named right among ten."""

    drawn: Score
    real: Score  # the head's own accuracy, on held-out real pictures
    n: int  # pictures of each


def named_right(drawn: np.ndarray, real: np.ndarray, texts: np.ndarray, *, seed: int) -> Naming:
    """Returns the shares for features (N, F) of drawn and of real pictures, which share the prompts `texts`
    (N, D).

    A quarter of the pictures chooses the strength of the ridge. Raises UserError if this quarter has fewer
    than ten different prompts."""
    random = np.random.Generator(np.random.Philox(key=np.array([seed, 2], np.uint64)))
    fitted, held = np.array_split(random.permutation(len(texts)), 2)

    # The strength of the ridge, by one half of the fitted pictures on the other.
    first, second = np.array_split(fitted, 2)
    shares = [
        _share(_predicted(real[first], texts[first], real[second], strength), texts[second]).value
        for strength in _STRENGTHS
    ]
    strength = _STRENGTHS[int(np.argmax(shares))]

    # Held-out real pictures, and drawn ones of the same prompts.
    both = np.concatenate([real[held], drawn[held]])
    predicted = _predicted(real[fitted], texts[fitted], both, strength)
    scores = [_share(rows, texts[held]) for rows in np.split(predicted, 2)]
    return Naming(drawn=scores[1], real=scores[0], n=len(held))


def _predicted(features: np.ndarray, texts: np.ndarray, others: np.ndarray, strength: float) -> np.ndarray:
    """Returns unit vectors (M, D) of other pictures (M, F), by the ridge head of pictures and texts."""
    # Standardised features, centred vectors.
    mean, spread, middle = features.mean(axis=0), features.std(axis=0) + 1e-6, texts.mean(axis=0)
    x, y = (features - mean) / spread, texts - middle

    # W = (X'X + l I)^-1 X'Y by the singular values of X, which may have more columns than rows.
    u, s, vt = np.linalg.svd(x.astype(np.float64), full_matrices=False)
    ridge = strength * float((s**2).mean())
    weights = vt.T @ ((s / (s**2 + ridge))[:, None] * (u.T @ y))
    rows = ((others - mean) / spread) @ weights + middle
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def _share(predicted: np.ndarray, texts: np.ndarray) -> Score:
    # Cosines favour prompts near the mean of all, so both sides are taken from it.
    centred = [rows - texts.mean(axis=0) for rows in (predicted, texts)]
    unit = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in centred]
    return r_precision(unit[0], unit[1], candidates=CANDIDATES)
