"""DOOR. Pseudo-captions: image embeddings moved by noise, in place of text embeddings.

    h' = h / |h|,  h = f + xi * eps * |f| / |eps|,  eps ~ N(0, I)      (Nakao et al., equation 3)

f is the image's embedding. In many dimensions eps is nearly orthogonal to it, so cos(h', f) is close to 1 /
sqrt(1 + xi^2). Axes: N pictures, D dimensions of the embedding.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from synth.errors import UserError

# LAFITE's code mixes 0.25 of the image and 0.75 of the noise, both of unit length: 0.75 / 0.25.
_LAFITE = 3.0
_FORMS = "a number, lafite (3, the mixture of LAFITE's code) or cos:C (the xi with the mean cosine C)"
# A larger xi leaves nothing of the image in float32.
_MOST = 1_000_000
_KEY_BITS = 64
# Uses of randomness; noise is use 0.
UNIFORM, BLENDING = 1, 2


@dataclass(frozen=True)
class Xi:
    """The amount of noise, by number or name."""

    value: float

    @classmethod
    def parse(cls, text: str) -> Self:
        """Returns the xi of `0.25`, `lafite` or `cos:0.32`. Raises UserError for anything else."""
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
            raise UserError(
                f"--xi is {self.value:g}; it must be finite, at least 0 and at most {_MOST:,}: {_FORMS}"
            )


def mean_cosine(xi: float, dimensions: int) -> float:
    """Returns the mean of cos(h', f), to second order in the cosine of eps and f.

    That cosine has mean 0 and variance 1 / D."""
    a = 1 + xi * xi
    return (1 + (1.5 * xi * xi / (a * a) - xi * xi / a) / dimensions) / math.sqrt(a)


def noise(seed: int, indices: Iterable[int], draw: int, dimensions: int) -> np.ndarray:
    """Returns standard normal vectors, float32 (N, D), by the counter-based Philox.

    Each depends on its (seed, index, draw) alone. Draw 0 is the stored column. A training visit takes K
    vectors, and vector k has draw 1 + K epoch + k."""
    streams = _streams(seed, indices, draw)
    return np.stack([stream.standard_normal(dimensions, dtype=np.float32) for stream in streams])


def uniform(seed: int, indices: Iterable[int], draw: int, count: int, use: int = UNIFORM) -> np.ndarray:
    """Returns numbers in [0, 1) of the same visits, independent of their noise: float64 (N, count)."""
    return np.stack([stream.random(count) for stream in _streams(seed, indices, draw, use)])


def pseudo_caption(image: Any, eps: Any, xi: Any) -> Any:
    """Returns unit vectors (N, D) by equation 3.

    `image` is (N, D), `eps` (N, D) normal noise, and `xi` a number or (N, 1), one per row. The result has
    the library (NumPy or torch), dtype and device of `image`. With xi = 0 it is the normalised image."""
    # Equation 3: h = f + xi eps |f| / |eps|, then h / |h|.
    length = _length(image)
    moved = image + xi * eps * (length / _length(eps))
    return moved / _length(moved)


def _streams(seed: int, indices: Iterable[int], draw: int, use: int = 0) -> Iterator[np.random.Generator]:
    """Yields a stream of random numbers for each index.

    All are one object, reset for each index: a new object takes longer than 256 numbers."""
    bits = np.random.Philox(key=np.array([seed % (1 << _KEY_BITS), draw], dtype=np.uint64))
    state, stream = bits.state, np.random.Generator(bits)

    # The counter of 256 bits counts blocks of four words. The index in its upper half leaves 2^128 blocks to
    # each picture.
    for index in indices:
        state["state"]["counter"][:] = 0, 0, index, use
        bits.state = state
        yield stream


def _length(vectors: Any) -> Any:
    """Returns Euclidean lengths (N, 1)."""
    if isinstance(vectors, np.ndarray):
        return np.sqrt((vectors * vectors).sum(axis=-1, keepdims=True))
    return vectors.norm(dim=-1, keepdim=True)


def _of_cosine(cosine: float) -> float:
    """Returns the xi with a given mean cosine c: the solution of 1 / sqrt(1 + xi^2) = c."""
    if not 0 < cosine <= 1:
        raise UserError(f"--xi is cos:{cosine:g}; the mean cosine must be above 0 and at most 1")
    return math.sqrt(1 / cosine / cosine - 1)
