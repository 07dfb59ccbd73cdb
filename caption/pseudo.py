"""DOOR. Pseudo-captions: an image embedding, moved by noise, that stands for the embedding of a text (Nakao et al., equation 3).

    h' = h / |h|,  h = f + xi * eps * |f| / |eps|,  eps ~ N(0, I)

f is the image's embedding. In many dimensions eps is nearly orthogonal to it, so cos(h', f) is close to 1 / sqrt(1 + xi^2).
Axes: N pictures, D dimensions of the embedding.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from synth.errors import UserError

_LAFITE = 3.0  # LAFITE's code mixes 0.25 of the image and 0.75 of the noise, both of unit length: 0.75 / 0.25
_FORMS = "a number, lafite (3, what LAFITE's code mixes) or cos:C (the xi whose mean cosine is C)"
_MOST = 1_000_000  # of xi: more leaves nothing of the image in float32
_KEY_BITS = 64
_UNIFORM = 1  # a use of randomness beside noise


@dataclass(frozen=True)
class Xi:
    """The amount of noise, by number or name."""

    value: float

    @classmethod
    def parse(cls, text: str) -> Self:
        """From `0.25`, `lafite` or `cos:0.32`. Raises UserError for anything else."""
        try:
            if text == "lafite":
                return cls(_LAFITE)
            if text.startswith("cos:"):
                return cls(_of_cosine(float(text[4:])))
            return cls(float(text))
        except ValueError:
            raise UserError(f"--xi is {text!r}; give {_FORMS}") from None

    def __post_init__(self) -> None:
        if not 0 <= self.value <= _MOST:
            raise UserError(f"--xi is {self.value:g}; it must be finite, at least 0 and at most {_MOST:,}: {_FORMS}")


def mean_cosine(xi: float, dimensions: int) -> float:
    """The mean of cos(h', f), to second order in the cosine of eps and f, whose mean is 0 and whose variance is 1 / D."""
    a = 1 + xi * xi
    return (1 + (1.5 * xi * xi / (a * a) - xi * xi / a) / dimensions) / math.sqrt(a)


def noise(seed: int, indices: Iterable[int], draw: int, dimensions: int) -> np.ndarray:
    """Standard normal vectors, float32 (N, D): one for each (seed, index, draw), whatever the others are (Philox, counter-based).

    Draw 0 is the stored column; a training visit uses draw 1 + 2 epoch + {0 for D, 1 for G}."""
    return np.stack([_stream(seed, int(i), draw).standard_normal(dimensions, dtype=np.float32) for i in indices])


def uniform(seed: int, indices: Iterable[int], draw: int, count: int) -> np.ndarray:
    """Numbers in [0, 1) of the same visits, independent of their noise: float64 (N, count)."""
    return np.stack([_stream(seed, int(i), draw, _UNIFORM).random(count) for i in indices])


def pseudo_caption(image: Any, eps: Any, xi: float) -> Any:
    """Equation 3: unit vectors (N, D) in the arithmetic (NumPy or torch), dtype and device of `image` (N, D); eps is (N, D) normal noise.

    xi = 0 gives the normalised image embedding itself."""
    length = _length(image)
    moved = image + xi * eps * (length / _length(eps))
    return moved / _length(moved)


def _stream(seed: int, index: int, draw: int, use: int = 0) -> np.random.Generator:
    key = np.array([seed % (1 << _KEY_BITS), draw], dtype=np.uint64)
    # A counter of 256 bits counts blocks of four words: the index in its upper half leaves 2^128 blocks to each picture.
    counter = np.array([0, 0, index, use], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter))


def _length(vectors: Any) -> Any:
    """Euclidean lengths (N, 1)."""
    if isinstance(vectors, np.ndarray):
        return np.sqrt((vectors * vectors).sum(axis=-1, keepdims=True))
    return vectors.norm(dim=-1, keepdim=True)


def _of_cosine(cosine: float) -> float:
    """The xi whose mean cosine is given: the solution of 1 / sqrt(1 + xi^2) = c."""
    if not 0 < cosine <= 1:
        raise UserError(f"--xi is cos:{cosine:g}; a mean cosine lies above 0 and is at most 1")
    return math.sqrt(1 / cosine / cosine - 1)
