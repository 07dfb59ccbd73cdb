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

_LAFITE = 3.0  # LAFITE's code mixes 0.25 of the image and 0.75 of the noise, both of unit length: 0.75 / 0.25
_FORMS = "a number, lafite (3, what LAFITE's code mixes) or cos:C (the xi whose mean cosine is C)"
_MOST = 1_000_000  # of xi: more leaves nothing of the image in float32
_KEY_BITS = 64
_UNIFORM = 1  # a second use of randomness; noise is use 0


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

    Each depends on its (seed, index, draw) alone. Draw 0 is the stored column; a training visit uses draw 1 +
    2 epoch + {0 for D, 1 for G}."""
    return np.stack(
        [stream.standard_normal(dimensions, dtype=np.float32) for stream in _streams(seed, indices, draw)]
    )


def uniform(seed: int, indices: Iterable[int], draw: int, count: int) -> np.ndarray:
    """Returns numbers in [0, 1) of the same visits, independent of their noise: float64 (N, count)."""
    return np.stack([stream.random(count) for stream in _streams(seed, indices, draw, _UNIFORM)])


def pseudo_caption(image: Any, eps: Any, xi: Any) -> Any:
    """Returns unit vectors (N, D) by equation 3, in the library (NumPy or torch), dtype and device of
    `image`.

    `image` is (N, D), `eps` (N, D) normal noise, and `xi` a number or (N, 1), one per row. With xi = 0 the
    result is the normalised image embedding."""
    length = _length(image)
    moved = image + xi * eps * (length / _length(eps))
    return moved / _length(moved)


def _streams(seed: int, indices: Iterable[int], draw: int, use: int = 0) -> Iterator[np.random.Generator]:
    """Yields a stream of random numbers for each index.

    All are one object, reset for each index: a new object takes longer than 256 numbers."""
    bits = np.random.Philox(key=np.array([seed % (1 << _KEY_BITS), draw], dtype=np.uint64))
    state, stream = bits.state, np.random.Generator(bits)
    for index in indices:
        # A counter of 256 bits counts blocks of four words: the index in its upper half leaves 2^128 blocks to each picture.
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
        raise UserError(f"--xi is cos:{cosine:g}; a mean cosine lies above 0 and is at most 1")
    return math.sqrt(1 / cosine / cosine - 1)
