"""Features of pictures, cached on disk: no picture is processed twice, and an interrupted run resumes.

A folder of the cache is named by detector, weights, resize rule and the digest of the pictures:

    KEY/about.json                  the content of the key
    KEY/000000512.safetensors       features float32 (n, D), any logits float32 (n, C); named by first picture
    KEY/moments.safetensors         count, mean and scatter of all, after their first use

Axes: N pictures, D dimensions of a feature, C classes.
"""

import json
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from evaluate.detectors import Detector, Output
from evaluate.distances.moments import Gathering, Moments, require_finite
from evaluate.distances.scores import InceptionScore, Score
from evaluate.sources import Pictures
from synth import caches
from synth.errors import UserError
from synth.sets.completion import Progress
from synth.sets.storage import Folder
from synth.settings import digest

CACHE = Path("data/features")

_PART = 512  # pictures of a file
_AT_ONCE = 64  # pictures in a batch; divides _PART, so that a resumed run has the same batches
_MOMENTS = "moments.safetensors"

Json = dict[str, Any]
Tensors = dict[str, np.ndarray]


class Features:
    """The features of a set of pictures, in the cache."""

    def __init__(self, place: Path, key: Json) -> None:
        self._place = place
        self.key = key  # detector, weights, resize, dimensions, pictures (their digest), count
        self.count, self.digest = int(key["count"]), str(key["pictures"])

    @property
    def dimensions(self) -> int:
        """D."""
        return int(self.key["dimensions"])

    def blocks(self) -> Iterator[Output]:
        """Yields features and logits, some hundreds of pictures at a time, in order."""
        for first in range(0, self.count, _PART):
            tensors = _load(self._place / _part(first))
            if tensors is None:
                problem = f"{self._place / _part(first)} is damaged or was removed"
                raise UserError(f"{problem}; run the command again")
            yield Output(tensors["features"], tensors.get("logits"))

    def moments(self) -> Moments:
        """Returns mean and covariance, streamed. Raises UserError for fewer than two pictures."""
        # Cached moments.
        tensors = _load(self._place / _MOMENTS)
        if tensors is not None:
            return Moments(self.count, tensors["mean"], tensors["scatter"])

        # First use.
        gathering = Gathering()
        for block in self.blocks():
            gathering.add(block.features)
        moments = gathering.moments()
        _save(self._place / _MOMENTS, {"mean": moments.mean, "scatter": moments.scatter})
        return moments

    def matrix(self) -> np.ndarray:
        """Returns all features: float32 (N, D)."""
        features = np.empty((self.count, self.dimensions), np.float32)
        for block, first in zip(self.blocks(), range(0, self.count, _PART), strict=True):
            features[first : first + _PART] = block.features
        return features

    def inception_score(self) -> Score:
        """Returns IS, streamed. Raises UserError if the detector has no logits."""
        score = InceptionScore(self.count)
        for block, first in zip(self.blocks(), range(0, self.count, _PART), strict=True):
            if block.logits is None:
                problem = f"the detector {self.key['detector']} has none"
                raise UserError(f"IS is defined on the classes of inception; {problem}: leave is out")
            score.add(block.logits, first)
        return score.score()


def extract(
    detectors: Sequence[Detector], pictures: Pictures, *, cache: Path | None = None
) -> Generator[Progress, None, list[Features]]:
    """Yields the number of processed pictures. Returns the features of each detector.

    All detectors share one pass over the pictures. It begins at the first picture that a cache lacks. Raises
    UserError for too few pictures, two sizes, or a feature that is not finite."""
    # Incomplete entries of the cache.
    entries = [_Entry(detector, pictures, cache or _cache()) for detector in detectors]
    filling = list({entry.place: entry for entry in entries if entry.kept < pictures.count}.values())
    number = min((entry.kept for entry in filling), default=pictures.count)
    yield Progress(number)

    # One pass.
    for batch in _ahead(_rebatched(pictures.batches(number), pictures.name)) if filling else ():
        for entry in filling:
            entry.add(batch, number)
        number += len(batch)
        yield Progress(len(batch))
    if number != pictures.count:
        problem = f"{pictures.name} gave {number:,} pictures where {pictures.count:,} were to come"
        raise UserError(f"{problem}; make it again")
    return [entry.finish(pictures.name) for entry in entries]


class _Entry:
    """A folder of the cache that is being filled with a detector's features."""

    def __init__(self, detector: Detector, pictures: Pictures, cache: Path) -> None:
        self._detector = detector
        self._key: Json = {
            "detector": detector.name,
            **{key: getattr(detector, key) for key in ("weights", "resize", "dimensions")},
            "pictures": pictures.digest,
            "count": pictures.count,
        }
        self.place = cache / digest(self._key)[:32]
        self.kept = _kept(self.place, pictures.count)  # pictures in whole parts
        self._waiting: list[Output] = []
        if self.kept < pictures.count:
            # The moments belong to parts that are gone.
            (self.place / _MOMENTS).unlink(missing_ok=True)

    def add(self, batch: np.ndarray, number: int) -> None:
        """Adds the batch with that first picture, unless its features are in the cache."""
        if number < self.kept:
            return
        output = self._detector(batch)
        require_finite(output.features, number)
        self._waiting.append(output)
        if sum(len(o.features) for o in self._waiting) == _PART:
            self._write()

    def finish(self, name: str) -> Features:
        """Writes the last part and about.json. Returns the features."""
        if self._waiting:
            self._write()
        text = json.dumps({**self._key, "name": name}, indent=1) + "\n"
        Folder(str(self.place)).write("about.json", text.encode())
        return Features(self.place, self._key)

    def _write(self) -> None:
        """Writes the waiting outputs as one part."""
        tensors = {"features": np.concatenate([o.features for o in self._waiting])}
        if all(o.logits is not None for o in self._waiting):
            tensors["logits"] = np.concatenate([o.logits for o in self._waiting if o.logits is not None])
        self._waiting.clear()
        _save(self.place / _part(self.kept), tensors)
        self.kept += len(tensors["features"])


def _cache() -> Path:
    """Returns the folder of features: below the working directory, else in the user's cache."""
    spare = None if caches.can_hold(CACHE.absolute()) else caches.folder("exnihilo")
    return spare / "features" if spare else CACHE


def _kept(place: Path, count: int) -> int:
    """Returns the number of leading pictures that the cache has in whole parts."""
    for first in range(0, count, _PART):
        tensors = _load(place / _part(first))
        if tensors is None or len(tensors["features"]) != min(_PART, count - first):
            return first
    return count


def _rebatched(batches: Iterable[np.ndarray], name: str) -> Iterator[np.ndarray]:
    """Yields the same pictures in batches of one length; the last may be shorter.

    Raises UserError if sizes differ."""
    rest: np.ndarray | None = None
    for batch in batches:
        # One size.
        if rest is not None and rest.shape[1:] != batch.shape[1:]:
            sizes = " and ".join(f"{b.shape[2]} x {b.shape[1]}" for b in (rest, batch))
            problem = f"{name} holds pictures of several sizes ({sizes} pixels)"
            raise UserError(f"{problem}; resize them to one size first")

        # Full batches.
        rest = batch if rest is None else np.concatenate((rest, batch))
        while len(rest) >= _AT_ONCE:
            yield rest[:_AT_ONCE]
            rest = rest[_AT_ONCE:]
    if rest is not None and len(rest):
        yield rest


def _ahead(batches: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """Yields the same batches. A thread computes the next one while the reader works."""
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, batches, None)
        while (batch := coming.result()) is not None:
            coming = pool.submit(next, batches, None)
            yield batch


def _part(first: int) -> str:
    return f"{first:09d}.safetensors"


def _load(path: Path) -> Tensors | None:
    """Returns the tensors of a file, or None if it is missing or damaged."""
    try:
        return dict(load_file(path))
    except (FileNotFoundError, SafetensorError):
        return None


def _save(path: Path, tensors: Tensors) -> None:
    """Writes tensors. The file appears whole or not at all."""
    Folder(str(path.parent)).write(path.name, save(tensors))
