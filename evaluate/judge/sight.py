"""Scenes as a judge sees them."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class SeenObject:
    """An object that the judge sees. Lengths are sides of the picture."""

    kind: str
    colour: str
    size: str
    centre: tuple[float, float]  # the centroid
    box: tuple[float, float, float, float]  # left, top, right, bottom
    filling: str
    second: str  # colour of stripes or dots, else empty
    points: int  # of a star, else 0
    text: str  # of block letters, else empty
    confidence: float  # the least probability of presence, kind and colour


@dataclass(frozen=True)
class Seen:
    """A picture as the judge sees it."""

    backdrop: str
    texture: str
    objects: tuple[SeenObject, ...]  # from the surest to the least sure
    depths: dict[tuple[int, int], str] = field(default_factory=dict)  # in front of, behind, inside; or absent
