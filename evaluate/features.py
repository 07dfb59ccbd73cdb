"""Features of pictures, kept on disk: what was seen once is not seen again, and a run that was cut goes on where it stopped.

A place in the cache is named by detector, weights, resize rule and the digest of the pictures:

    KEY/about.json                  what the key is of
    KEY/000000512.safetensors       features float32 (n, D), and logits float32 (n, C) where there are; named by the first picture
    KEY/moments.safetensors         count, mean and scatter of all, once they were asked for

Axes: N pictures, D dimensions of a feature, C classes.
"""

import json
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from evaluate.detectors import Detector, Output
from evaluate.moments import Gathering, Moments, require_finite
from evaluate.scores import InceptionScore, Score
from evaluate.sources import Pictures
from synth.errors import UserError
from synth.settings import digest

CACHE = Path("data/features")

_PART = 512  # pictures of a file
_AT_ONCE = 64  # pictures that the net sees together; divides _PART, so that a resumed run sees the same batches
_MOMENTS = "moments.safetensors"

Json = dict[str, Any]
Tensors = dict[str, np.ndarray]


class Features:
    """The features of a set of pictures, in the cache."""

    def __init__(self, place: Path, about: Json) -> None:
        self._place = place
        self.about = about  # detector, weights, resize, pictures (their digest), count
        self.count, self.digest = int(about["count"]), str(about["pictures"])

    @property
    def dimensions(self) -> int:
        """D."""
        return int(self.about["dimensions"])

    def blocks(self) -> Iterator[Output]:
        """Features and logits, some hundreds of pictures at a time, in order."""
        for first in range(0, self.count, _PART):
            tensors = _loaded(self._place / _part(first))
            if tensors is None:
                raise UserError(f"{self._place / _part(first)} is damaged or was removed; give the command again")
            yield Output(tensors["features"], tensors.get("logits"))

    def moments(self) -> Moments:
        """Mean and covariance, streamed. Raises UserError for fewer than two pictures."""
        kept = _loaded(self._place / _MOMENTS)
        if kept is not None:
            return Moments(self.count, kept["mean"], kept["scatter"])
        gathering = Gathering()
        for block in self.blocks():
            gathering.add(block.features)
        moments = gathering.moments()
        _save(self._place / _MOMENTS, {"mean": moments.mean, "scatter": moments.scatter})
        return moments

    def matrix(self) -> np.ndarray:
        """All features: float32 (N, D)."""
        features = np.empty((self.count, self.dimensions), np.float32)
        for block, first in zip(self.blocks(), range(0, self.count, _PART), strict=True):
            features[first : first + _PART] = block.features
        return features

    def inception_score(self) -> Score:
        """IS, streamed. Raises UserError where the detector gives no logits."""
        score = InceptionScore(self.count)
        for block, first in zip(self.blocks(), range(0, self.count, _PART), strict=True):
            if block.logits is None:
                raise UserError(f"IS is defined on the classes of inception; the detector {self.about['detector']} has none")
            score.add(block.logits, first)
        return score.score()


def extract(
    detector: Detector, pictures: Pictures, *, cache: Path | None = None, advance: Callable[[int], None] = lambda n: None
) -> Features:
    """The features of pictures, from the cache as far as it goes; `advance` is told of every batch. Raises UserError where pictures are
    fewer than they said, or of two sizes, or where a feature is not finite."""
    cache = cache or CACHE
    key: Json = {"detector": detector.name, "weights": detector.weights, "resize": detector.resize, "dimensions": detector.dimensions}
    key |= {"pictures": pictures.digest, "count": pictures.count}
    place = cache / digest(key)[:32]
    place.mkdir(parents=True, exist_ok=True)
    first = _kept(place, pictures.count)
    advance(first)
    waiting: list[Output] = []
    if first < pictures.count:
        (place / _MOMENTS).unlink(missing_ok=True)  # of parts that are no longer there
        for batch in _ahead(_rebatched(pictures.batches(first), pictures.name)):
            output = detector(batch)
            require_finite(output.features, first + sum(len(o.features) for o in waiting))
            waiting.append(output)
            advance(len(batch))
            if sum(len(o.features) for o in waiting) == _PART:
                first = _write_part(place, first, waiting)
    if waiting:
        first = _write_part(place, first, waiting)
    if first != pictures.count:
        raise UserError(f"{pictures.name} gave {first:,} pictures where {pictures.count:,} were to come; make it again")
    (place / "about.json").write_text(json.dumps({**key, "name": pictures.name}, indent=1) + "\n")
    return Features(place, key)


def _kept(place: Path, count: int) -> int:
    """How many of the first pictures are in the cache, whole."""
    for first in range(0, count, _PART):
        tensors = _loaded(place / _part(first))
        if tensors is None or len(tensors["features"]) != min(_PART, count - first):
            return first
    return count


def _write_part(place: Path, first: int, waiting: list[Output]) -> int:
    """Writes a part and empties `waiting`; the number of the next picture."""
    tensors = {"features": np.concatenate([o.features for o in waiting])}
    if all(o.logits is not None for o in waiting):
        tensors["logits"] = np.concatenate([o.logits for o in waiting if o.logits is not None])
    waiting.clear()
    _save(place / _part(first), tensors)
    return first + len(tensors["features"])


def _rebatched(batches: Iterable[np.ndarray], name: str) -> Iterator[np.ndarray]:
    """The same pictures in batches of one length, but for the last. Raises UserError where two sizes meet."""
    rest: np.ndarray | None = None
    for batch in batches:
        if rest is not None and rest.shape[1:] != batch.shape[1:]:
            sizes = " and ".join(f"{b.shape[2]} x {b.shape[1]}" for b in (rest, batch))
            raise UserError(f"{name} holds pictures of several sizes ({sizes} pixels); bring them to one size first")
        rest = batch if rest is None else np.concatenate((rest, batch))
        while len(rest) >= _AT_ONCE:
            yield rest[:_AT_ONCE]
            rest = rest[_AT_ONCE:]
    if rest is not None and len(rest):
        yield rest


def _ahead(batches: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """The same, the next one made by a thread of its own while the reader works."""
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, batches, None)
        while (batch := coming.result()) is not None:
            coming = pool.submit(next, batches, None)
            yield batch


def _part(first: int) -> str:
    return f"{first:09d}.safetensors"


def _loaded(path: Path) -> Tensors | None:
    """The tensors of a file; None where there is none, or it is damaged."""
    try:
        return dict(load_file(path))
    except (FileNotFoundError, SafetensorError):
        return None


def _save(path: Path, tensors: Tensors) -> None:
    """Writes tensors, whole or not at all."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    save_file(tensors, part)
    part.replace(path)
