"""Figures: values with the conditions that make them comparable."""

from dataclasses import asdict, dataclass
from typing import Any

from evaluate.detectors import INCEPTION

CMMD_ENCODER = "ViT-L-14-336/openai"  # the only encoder of a figure named CMMD

# The name on inception, and the name of the same formula on another detector.
_NAMES = {
    "fid": ("FID", "FD"),
    "fdinf": ("FID-infinity", "FD-infinity"),
    "kid": ("KID", "KD"),
    "is": ("IS", "class score"),
}
# The names of metrics that always carry their detector.
_OTHERS = {name: name for name in ("precision", "recall", "density", "coverage")}
_OTHERS.update(cmmd="MMD", clip="CLIP score", rprecision="R-precision", named="named right among 10")

Json = dict[str, Any]


@dataclass(frozen=True)
class Conditions:
    """The conditions of a figure, apart from the model. Figures compare only if these agree."""

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
    """A metric's value, with its conditions."""

    name: str  # by `named`
    value: float
    conditions: Conditions
    error: float | None = None  # standard error
    interval: tuple[float, float] | None = None  # 95 %
    details: tuple[tuple[str, Any], ...] = ()  # settings of the metric: k, subsets, formula
    notes: tuple[str, ...] = ()  # warnings for the reader

    def row(self) -> Json:
        """Returns the figure and its conditions as one flat JSON object, without empty fields."""
        interval = list(self.interval) if self.interval else None
        row: Json = {"metric": self.name, "value": self.value, "error": self.error, "interval": interval}
        row = {**row, **dict(self.details), **asdict(self.conditions), "notes": list(self.notes)}
        return {key: value for key, value in row.items() if value not in (None, [])}


def named(metric: str, detector: str) -> str:
    """Returns the name of a metric on a detector.

    FID, KID and IS are names for inception alone. Another detector has "FD (detector)" and the like. CMMD is
    the name for CMMD_ENCODER alone."""
    if metric == "cmmd" and detector == CMMD_ENCODER:
        return "CMMD"
    if metric in _NAMES:
        on_inception, elsewhere = _NAMES[metric]
        return on_inception if detector == INCEPTION else f"{elsewhere} ({detector})"
    return f"{_OTHERS[metric]} ({detector})"
