"""Figures: a value with everything that makes it comparable with another one."""

from dataclasses import asdict, dataclass
from typing import Any

from evaluate.detectors import INCEPTION

CMMD_ENCODER = "ViT-L-14-336/openai"  # whose name CMMD is

# The name on inception, and what the same formula is called on another detector.
_NAMES = {
    "fid": ("FID", "FD"),
    "fdinf": ("FID-infinity", "FD-infinity"),
    "kid": ("KID", "KD"),
    "is": ("IS", "class score"),
}
_ELSEWHERE = {
    "precision": "precision",
    "recall": "recall",
    "density": "density",
    "coverage": "coverage",
    "cmmd": "MMD",
    "clip": "CLIP score",
    "rprecision": "R-precision",
}

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
    seed: int  # of the generated pictures
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
        """The figure as one flat JSON object, terms and all; what it has not is left out."""
        own = {"metric": self.name, "value": self.value, "error": self.error, "interval": self.interval, **dict(self.details)}
        row = {**own, **asdict(self.terms), "notes": list(self.notes)}
        return {key: list(value) if isinstance(value, tuple) else value for key, value in row.items() if value not in (None, [])}


def named(metric: str, detector: str) -> str:
    """What a metric on a detector is called: FID, KID and IS on inception, else "FD (detector)" and the like; CMMD on its own encoder."""
    if metric == "cmmd" and detector == CMMD_ENCODER:
        return "CMMD"
    if metric in _NAMES:
        own, other = _NAMES[metric]
        return own if detector == INCEPTION else f"{other} ({detector})"
    return f"{_ELSEWHERE[metric]} ({detector})"
