"""The cost of the metrics: CPU seconds on one core for features of 2,048 dimensions, without the net.

For two nets, also the share of the bare net's speed that remains from files to features.
"""

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from evaluate import detectors, sources
from evaluate import features as extraction
from evaluate.distances import frechet, kernels
from evaluate.distances.moments import Gathering
from evaluate.distances.neighbours import neighbours
from evaluate.distances.scores import InceptionScore
from tests.kit_evaluate import write_random_inception

DIMENSIONS, MANY, FEW, CLASSES = 2048, 30_000, 1000, 1008
AT_ONCE = 512  # pictures


def features(seed: int, count: int) -> np.ndarray:
    """Returns features float32 (N, D) like those of a net: not negative, of many scales, correlated."""
    random = np.random.default_rng(seed)
    scales = np.geomspace(1, 0.05, DIMENSIONS, dtype=np.float32)
    mixing = random.standard_normal((64, DIMENSIONS), np.float32) * scales
    noise = random.standard_normal((count, DIMENSIONS), np.float32)
    return np.maximum(random.standard_normal((count, 64), np.float32) @ mixing / 8 + 0.3 * noise + 0.3, 0)


def fid(a: np.ndarray, b: np.ndarray) -> float:
    """Returns FID from streams, as the command computes it."""
    gatherings = Gathering(), Gathering()
    for gathering, rows in zip(gatherings, (a, b), strict=True):
        for start in range(0, len(rows), AT_ONCE):
            gathering.add(rows[start : start + AT_ONCE])
    return frechet.distance(*(gathering.moments() for gathering in gatherings))


def inception_score(logits: np.ndarray) -> float:
    """Returns IS from a stream."""
    score = InceptionScore(len(logits))
    for start in range(0, len(logits), AT_ONCE):
        score.add(logits[start : start + AT_ONCE], start)
    return score.score().value


def seconds(work: Callable[[], object]) -> float:
    """Returns the CPU seconds of a call."""
    start = time.process_time()
    work()
    return time.process_time() - start


def share_of_bare(name: str, count: int) -> tuple[float, float]:
    """Returns the speed of a bare detector, and the share of it that remains from files to features.

    The speed is in pictures of 256 px per CPU second."""
    from PIL import Image

    cells = np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), np.uint8)
    pictures = cells.repeat(8, axis=1).repeat(8, axis=2)
    with tempfile.TemporaryDirectory() as place:
        # Detector and files.
        folder = Path(place)
        weights = str(write_random_inception(folder / "weights.pth")) if name == detectors.INCEPTION else None
        detector = detectors.load(name, weights=weights)
        for number, picture in enumerate(pictures):
            Image.fromarray(picture).save(folder / f"{number:04d}.png")

        # Both times, after a warm-up.
        detector(pictures[:64])
        files, cache = sources.of_folder(place), folder / "cache"
        bare = seconds(lambda: [detector(pictures[start : start + 64]) for start in range(0, count, 64)])
        whole = seconds(lambda: list(extraction.extract([detector], files, cache=cache)))
    return count / bare, bare / whole


def main() -> None:
    """Prints one line per metric. The limits are for one thread."""
    import torch

    # One thread.
    if os.environ.get("OMP_NUM_THREADS") != "1":
        print("note: not one thread; for comparable numbers give OMP_NUM_THREADS=1")
    torch.set_num_threads(1)
    frechet.distance_of_features(features(0, 8)[:, :4], features(1, 8)[:, :4])  # imports

    # Metrics.
    a, b = features(0, MANY), features(1, MANY)
    rows: list[tuple[str, int, float, Callable[[], object]]] = [
        ("FID", MANY, 12, lambda: fid(a, b)),
        ("KID", MANY, 15, lambda: kernels.kid(a, b)),
        ("precision, recall, density, coverage", MANY, 120, lambda: neighbours(a, b)),
        ("FID, N < d", FEW, 2, lambda: frechet.distance_of_features(a[:FEW], b[:FEW])),
        ("FID, 200 resamples, N < d", FEW, float("inf"), lambda: frechet.bootstrap(a[:FEW], b[:FEW])),
        ("FD-infinity", MANY, float("inf"), lambda: frechet.limit(a, b)),
        ("IS", MANY, float("inf"), lambda: inception_score(a[:, :CLASSES])),
    ]
    print(f"{'metric':<38}{'N':>8}{'CPU s':>9}{'at most':>9}")
    for name, count, most, work in rows:
        print(f"{name:<38}{count:>8,}{seconds(work):>9.2f}{most:>9}", flush=True)

    # Nets.
    for name, count in ((detectors.INCEPTION, 128), (detectors.LITE, 512)):
        pace, share = share_of_bare(name, count)
        print(f"{name}: {pace:.0f} pictures a CPU second, {share:.1%} of it from files to features")


if __name__ == "__main__":
    main()
