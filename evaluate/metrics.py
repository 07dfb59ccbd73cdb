"""Metrics by name, from the features of generated pictures and of a reference to figures."""

from collections.abc import Sequence

from evaluate.features import Features
from evaluate.figures import Figure, Terms

METRICS = ("fid", "kid", "is", "pr", "dc", "fdinf", "cmmd")  # on a detector's features; the text scores stand in evaluate.scores
FEW = 10_000  # pictures below which FID is mostly bias


def measure(generated: Features, reference: Features, metrics: Sequence[str], terms: Terms, *, resamples: int = 0) -> list[Figure]:
    """The figures of those metrics, in order. FID below 10,000 pictures gets a note, and KID and FD-infinity beside it; with `resamples`
    an interval too. Raises UserError for an unknown metric, too few pictures, or a metric that the detector has not."""
    raise NotImplementedError
