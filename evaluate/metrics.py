"""Metrics by name: from the features of generated pictures and of a reference to figures."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np

from evaluate import naming
from evaluate.detectors import INCEPTION
from evaluate.distances import frechet, kernels, scores
from evaluate.distances.neighbours import neighbours
from evaluate.features import Features
from evaluate.figures import Conditions, Figure, named
from synth.errors import UserError

METRICS = ("fid", "kid", "is", "pr", "dc", "fdinf", "cmmd")  # on a detector's features
TEXT_METRICS = ("clip", "rprecision")  # on an encoder's embeddings of pictures and texts
NAMED = "named"  # on a detector's features and the prompts' vectors
FEW = 10_000  # FID of fewer pictures is mostly bias
CANDIDATES = 100  # texts of R-precision

_K, _K_DENSITY = 3, 5
_BESIDE_FID = (("kid", 4), ("fdinf", frechet.FEWEST))  # metrics added to FID, with their least pictures


def parse(text: str) -> list[str]:
    """Returns the metrics in a comma-separated text, once each. Raises UserError for an unknown one."""
    names = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    every = (*METRICS, *TEXT_METRICS, NAMED)
    unknown = [name for name in names if name not in every]
    if unknown or not names:
        raise UserError(f"unknown metric {', '.join(unknown) or text!r}; known are {', '.join(every)}")
    return names


def require_measurable(metrics: Sequence[str], detector: str, generated: int, reference: int) -> None:
    """Raises UserError if a metric needs more pictures than these sets have, or another detector."""
    fewest = min(generated, reference)
    needed = {
        "fid": (2, fewest),
        "kid": (kernels.FEWEST, fewest),
        "pr": (_K + 1, fewest),
        "dc": (_K_DENSITY + 1, fewest),
        "is": (scores.SPLITS, generated),
        "fdinf": (frechet.FEWEST, generated),
        NAMED: (naming.FEWEST, generated),
    }
    for name in metrics:
        least, count = needed.get(name, (0, 0))
        if count < least:
            problem = f"the metric {name} needs at least {least} pictures of a set, not {count}"
            raise UserError(f"{problem}; give more, or leave {name} out")
    if "is" in metrics and detector != INCEPTION:
        problem = f"the detector {detector} has none"
        raise UserError(f"IS is defined on the classes of {INCEPTION}; {problem}: leave is out")


def conditions(
    generated: Features, reference: Features, *, split: str, seed: int, captions: str
) -> Conditions:
    """Returns the conditions of figures of these two sets.

    `split` names the reference, `seed` is that of the generated pictures, `captions` is the policy."""
    detector = {key: str(generated.key[key]) for key in ("detector", "weights", "resize")}
    return Conditions(
        generated.count,
        reference=split,
        reference_n=reference.count,
        reference_digest=reference.digest,
        **detector,
        seed=seed,
        captions=captions,
    )


def measure(
    generated: Features,
    reference: Features,
    metrics: Sequence[str],
    conditions: Conditions,
    *,
    resamples: int = 0,
) -> list[Figure]:
    """Returns the figures of those METRICS, in order. FID has an interval if `resamples` is not 0.

    FID of fewer than 10,000 pictures gets a note, and KID and FD-infinity as further figures. Raises
    UserError for too few pictures, or for a metric that the detector does not have."""
    _require_same_detector(generated, reference)
    names, fewest = list(dict.fromkeys(metrics)), min(generated.count, reference.count)
    if "fid" in names and fewest < FEW:
        names += [name for name, least in _BESIDE_FID if name not in names and fewest >= least]
    pair = _Pair(generated, reference, conditions, resamples)
    return [figure for name in names for figure in _MEASURES[name](pair)]


def measure_texts(
    images: np.ndarray, texts: np.ndarray, metrics: Sequence[str], conditions: Conditions
) -> list[Figure]:
    """Returns the figures of those TEXT_METRICS, in order, from unit embeddings float32 (N, D).

    `images` are pictures and `texts` their prompts. Raises UserError for too few different texts."""
    return [_TEXT_MEASURES[metric](images, texts, conditions) for metric in metrics]


def measure_naming(
    generated: Features, reference: Features, vectors: np.ndarray, conditions: Conditions
) -> Figure:
    """Returns the share of pictures that are named right among ten, with the head's own accuracy.

    `vectors`, float32 (N, D), are the prompts', which are captions of the reference's first N pictures.
    Raises UserError for too few different prompts."""
    _require_same_detector(generated, reference)
    count = len(vectors)
    drawn, real = generated.matrix()[:count], reference.matrix()[:count]
    shares = naming.named_right(drawn, real, vectors, seed=conditions.seed)
    details = (("candidates", naming.CANDIDATES), ("of_real_pictures", round(shares.real.value, 4)))
    return Figure(
        named("named", conditions.detector),
        shares.drawn.value,
        replace(conditions, n=shares.n),
        error=shares.drawn.deviation,
        details=details,
    )


class _Pair:
    """Two sets of features. It computes shared intermediate results once."""

    def __init__(
        self, generated: Features, reference: Features, conditions: Conditions, resamples: int
    ) -> None:
        self.generated, self.reference, self.resamples = generated, reference, resamples
        self.conditions = conditions

    @cached_property
    def matrices(self) -> tuple[np.ndarray, np.ndarray]:
        """Both sets of features, float32 (N, D)."""
        return self.generated.matrix(), self.reference.matrix()

    @cached_property
    def neighbours(self) -> Any:
        """Precision, recall, density, coverage."""
        return neighbours(*self.matrices, k=_K, k_density=_K_DENSITY)

    def figure(self, metric: str, value: float, **more: Any) -> Figure:
        """Returns a figure under its name."""
        return Figure(named(metric, self.conditions.detector), value, self.conditions, **more)


def _fid(pair: _Pair) -> Iterator[Figure]:
    # Distance. Moments are cached, and enough unless a covariance is singular.
    sets = (pair.generated, pair.reference)
    if any(features.count < features.dimensions for features in sets):
        value = frechet.distance_of_features(*pair.matrices)
    else:
        value = frechet.distance(*(features.moments() for features in sets))

    # Bias and interval.
    fewest = min(features.count for features in sets)
    bias = f"of {fewest:,} pictures it is mostly bias: compare it at equal N only"
    notes = (f"{bias}, or see the kernel distance and the limit",) if fewest < FEW else ()
    interval = frechet.bootstrap(*pair.matrices, resamples=pair.resamples) if pair.resamples else None
    details = (("resamples", pair.resamples),) if interval else ()
    yield pair.figure("fid", value, interval=interval and tuple(interval), details=details, notes=notes)


def _fdinf(pair: _Pair) -> Iterator[Figure]:
    yield pair.figure("fdinf", frechet.limit(*pair.matrices), details=(("points", frechet.POINTS),))


def _kid(pair: _Pair) -> Iterator[Figure]:
    kid = kernels.kid(*pair.matrices)
    details = (("subsets", kid.subsets), ("subset_size", kid.subset_size))
    yield pair.figure("kid", kid.value, error=kid.error, details=details)


def _cmmd(pair: _Pair) -> Iterator[Figure]:
    yield pair.figure("cmmd", kernels.cmmd(*pair.matrices), details=(("sigma", 10.0), ("scale", 1000)))


def _is(pair: _Pair) -> Iterator[Figure]:
    score = pair.generated.inception_score()
    yield pair.figure("is", score.value, details=(("splits", 10), ("deviation", score.deviation)))


def _precision_recall(pair: _Pair) -> Iterator[Figure]:
    yield pair.figure("precision", pair.neighbours.precision, details=(("k", _K),))
    yield pair.figure("recall", pair.neighbours.recall, details=(("k", _K),))


def _density_coverage(pair: _Pair) -> Iterator[Figure]:
    yield pair.figure("density", pair.neighbours.density, details=(("k", _K_DENSITY),))
    yield pair.figure("coverage", pair.neighbours.coverage, details=(("k", _K_DENSITY),))


def _clip_score(images: np.ndarray, texts: np.ndarray, conditions: Conditions) -> Figure:
    score, name = scores.clip_score(images, texts), named("clip", conditions.detector)
    details = (("formula", scores.CLIP_SCORE),)
    return Figure(name, score.value, conditions, error=score.deviation, details=details)


def _r_precision(images: np.ndarray, texts: np.ndarray, conditions: Conditions) -> Figure:
    score = scores.r_precision(images, texts, candidates=CANDIDATES)
    name, details = named("rprecision", conditions.detector), (("candidates", CANDIDATES),)
    return Figure(name, score.value, conditions, error=score.deviation, details=details)


_MEASURES: dict[str, Callable[[_Pair], Iterator[Figure]]] = {
    "fid": _fid,
    "kid": _kid,
    "is": _is,
    "pr": _precision_recall,
    "dc": _density_coverage,
    "fdinf": _fdinf,
    "cmmd": _cmmd,
}
_TEXT_MEASURES: dict[str, Callable[[np.ndarray, np.ndarray, Conditions], Figure]] = {
    "clip": _clip_score,
    "rprecision": _r_precision,
}


def _require_same_detector(a: Features, b: Features) -> None:
    for key in ("detector", "weights", "resize"):
        one, other = a.key[key], b.key[key]
        if one != other:
            problem = f"the features are of two detectors: {key} is {one} and {other}"
            raise UserError(f"{problem}; take both from one detector")
