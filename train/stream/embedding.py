"""Vectors of drawn pictures and of their texts, by an encoder in the reader's process."""

import multiprocessing
import time
from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np
import torch

from caption import encoders
from caption.encoders import Encoder, EncoderSource


class Embedder:
    """The vectors of a batch, float16 as in tables. Each text and picture of a batch is embedded once.

    The vectors of a batch are embedded together, so that a resumed run gets the same bits."""

    def __init__(self, source: EncoderSource) -> None:
        self.seconds = 0.0  # CPU time since `forget`
        self._source = source
        self._vectors: dict[str | int, np.ndarray] = {}

    def texts(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Returns the vectors (D,) of texts, each cut to the encoder's context."""
        new = [text for text in dict.fromkeys(texts) if text not in self._vectors]
        cut = [self._encoder.cut(text) for text in new]
        self._vectors.update(zip(new, self._timed(self._encoder.texts, cut), strict=True))
        return [self._vectors[text] for text in texts]

    def images(self, numbers: Sequence[int], pixels: Callable[[int], np.ndarray]) -> list[np.ndarray]:
        """Returns the vectors (D,) of pictures by number. `pixels` returns one, uint8 (S, S, 3).

        Pictures of one size are embedded together."""
        new = [number for number in dict.fromkeys(numbers) if number not in self._vectors]
        by_size: dict[int, list[tuple[int, np.ndarray]]] = {}
        for number in new:
            picture = pixels(number)
            by_size.setdefault(len(picture), []).append((number, picture))
        for rows in by_size.values():
            vectors = self._timed(self._encoder.images, np.stack([picture for _, picture in rows]))
            self._vectors.update(zip([number for number, _ in rows], vectors, strict=True))
        return [self._vectors[number] for number in numbers]

    def forget(self) -> float:
        """Drops the vectors of the batch. Returns the CPU seconds that they took."""
        seconds, self.seconds = self.seconds, 0.0
        self._vectors.clear()
        return seconds

    @cached_property
    def _encoder(self) -> Encoder:
        if multiprocessing.parent_process() is not None:
            # Sums depend on the number of threads, and a reader has one core.
            torch.set_num_threads(1)
        return encoders.load(self._source)

    def _timed(self, embed: Callable[..., np.ndarray], content: Sequence[str] | np.ndarray) -> np.ndarray:
        """Returns vectors float16 (N, D). Adds their time."""
        if not len(content):
            return np.empty((0, 0), np.float16)
        begun = time.thread_time()
        vectors = embed(content).astype(np.float16)
        self.seconds += time.thread_time() - begun
        return vectors
