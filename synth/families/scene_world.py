"""The world of scenes: words, places, relations, and combinations that training never shows.

A relation holds with a margin, so no stated relation is a matter of opinion:

    left of, right of, above, below   the way between the centroids is .15 of the side or more, and at least
                                      1.5 times as long as across
    inside                            the object is in front, or in a hole, and wholly within the other
    in front of, behind               the front object hides 8 % of the other's area or more
    larger than, smaller than         the size words differ
    same colour as                    both have one colour word

Held-out combinations are a function of a seed. For each kind, one colour is held out, and one colour with one
direction: an object of that kind and colour in that direction of any other object.
"""

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, NamedTuple

from synth import seeds

KINDS = (
    *("disc", "square", "triangle", "star", "ring", "cross", "pentagon", "oval", "crescent", "heart"),
    *("semicircle", "arrow", "wave", "fractal"),
)
PALETTE = {
    "red": (215, 35, 40),
    "orange": (245, 145, 40),
    "yellow": (245, 215, 50),
    "green": (40, 165, 60),
    "blue": (45, 85, 220),
    "purple": (140, 60, 185),
    "pink": (245, 150, 190),
    "brown": (115, 72, 38),
    "black": (20, 20, 20),
    "white": (245, 245, 245),
    "grey": (128, 128, 128),
}
SIZES = {"small": (0.14, 0.165), "medium": (0.19, 0.215), "large": (0.25, 0.30)}  # half of the longer side
DIRECTIONS = ("left of", "right of", "above", "below")
OPPOSITES = {
    "left of": "right of",
    "above": "below",
    "in front of": "behind",
    "larger than": "smaller than",
}
OPPOSITES |= {second: first for first, second in OPPOSITES.items()}

_APART = 0.15  # sides of the picture
_STEEP = 1.5  # of the longer way over the shorter
HIDES = 0.08  # share of an object's area that another hides, to be in front of it
# Radius of the disc about the centroid that lies within a shape, or within its hole, in radii.
_ROOM = {"disc": 1.0, "square": 1.0, "pentagon": 0.8, "ring": 0.62, "heart": 0.6, "triangle": 0.5}


class Pair(NamedTuple):
    """A kind in a colour, and maybe its relation to another object."""

    kind: str
    colour: str
    relation: str = ""


def direction(first: tuple[float, float], second: tuple[float, float]) -> str:
    """Returns the direction from the second centroid to the first, or an empty string if it is not clear."""
    across, down = first[0] - second[0], first[1] - second[1]
    if abs(across) >= max(_APART, _STEEP * abs(down)):
        return "left of" if across < 0 else "right of"
    if abs(down) >= max(_APART, _STEEP * abs(across)):
        return "above" if down < 0 else "below"
    return ""


def fits(first: Any, second: Any) -> bool:
    """Returns True if the first object lies wholly within the second, or in its hole."""
    across, down = first.centre[0] - second.centre[0], first.centre[1] - second.centre[1]
    room = _ROOM.get(second.kind, 0.0) * second.radius - 1.42 * first.radius
    return room > 0 and across * across + down * down <= room * room


def room(kind: str) -> float:
    """Returns the radius of the disc within a shape, in radii, or 0 if nothing is placed inside this kind."""
    return _ROOM.get(kind, 0.0)


def larger(first: str, second: str) -> bool:
    """Returns True if the first size word is above the second: the radius is 1.15 times as long or more."""
    order = list(SIZES)
    return order.index(first) > order.index(second)


@cache
def held_out(seed: int) -> frozenset[Pair]:
    """Returns the combinations that training pictures of this seed never show."""
    # A column of a Latin square each: every kind loses one colour, no colour more than two kinds.
    stream = seeds.stream(seed, "held-out combinations")
    colours = list(PALETTE)
    pairs, triples = stream.integer(0, len(colours) - 1), stream.integer(1, len(colours) - 1)
    held = []
    for i, kind in enumerate(KINDS):
        held.append(Pair(kind, colours[(pairs + 4 * i) % len(colours)]))
        relation = DIRECTIONS[(pairs + i) % len(DIRECTIONS)]
        held.append(Pair(kind, colours[(pairs + triples + 4 * i) % len(colours)], relation))
    return frozenset(held)


def combinations(objects: Sequence[Any]) -> Iterator[Pair]:
    """Yields the combinations that a scene's objects show: each kind in its colour, with its directions."""
    for thing in objects:
        yield Pair(thing.kind, thing.colour)
        for other in objects:
            if other is not thing and (relation := direction(thing.centre, other.centre)):
                yield Pair(thing.kind, thing.colour, relation)
