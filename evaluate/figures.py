"""Figures: a value with everything that makes it comparable with another one."""

from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]


@dataclass(frozen=True)
class Terms:
    """What a figure depends on beside the model. Figures compare only where these agree."""

    n: int  # generated pictures
    reference: str  # name of the reference split
    reference_n: int
    reference_digest: str  # of its manifest, or of its files
    detector: str
    weights: str  # sha256
    resize: str
    seed: int
    captions: str  # policy: which captions, how many pictures of each


@dataclass(frozen=True)
class Figure:
    """One number."""

    name: str  # as it may be called: see `named`
    value: float
    terms: Terms
    error: float | None = None  # standard error
    interval: tuple[float, float] | None = None  # 95 %
    details: tuple[tuple[str, Any], ...] = ()  # of the metric: k, subsets, formula
    notes: tuple[str, ...] = ()  # what a reader must know

    def row(self) -> Json:
        """The figure as one flat JSON object, terms and all."""
        raise NotImplementedError


def named(metric: str, detector: str) -> str:
    """What a metric on a detector is called: FID, KID and IS on inception, else "FD (detector)" and the like."""
    raise NotImplementedError
