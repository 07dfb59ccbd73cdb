"""Objects matched with rendered outlines: kind, place, size and turn, by the pixels that they explain.

The network says where an object is, and which kind and colour it has. Outlines of this kind, else of all
kinds, are moved until their coverage explains the pixels nearby. A pixel of the object lies between the ends
of its colour, or between the two colours of a pattern. Pixels of other colours may belong to an object in
front, so covering them costs little.

Axes: S side of the picture.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from evaluate.judge import fillings, tones
from evaluate.judge.network import KIND_WORDS
from evaluate.judge.sight import SeenObject
from evaluate.judge.tones import PALETTE, PURE, View
from synth.families import scene_matching
from synth.families.scene_matching import LIMIT, VEIL, Evidence, Match, Outline, Start

GOOD = 0.07  # misfit at which the network's kind is believed without trying others
LEAST_RADIUS, MOST_RADIUS = 0.1, 0.3

_SURE = 0.9  # probability of a kind
_SOLID = (
    "disc",
    "square",
    "triangle",
    "pentagon",
    "oval",
    "heart",
    "semicircle",
    "star",
)  # they show patterns
_SHAPES = tuple(kind for kind in KIND_WORDS if kind not in ("text", "fractal"))
_ROUND = ("disc", "ring", "wave", "fractal")  # their boxes hardly turn
_TURNS = (-0.035, 0.0, 0.035)
_WINDOW = (1.5, 0.03)  # radii and sides about an object, with the pixels that count
_CORE, _BODY = 0.7, 1.25  # radii about an object, with pixels that are its own, and all of them
_LOOSE = PURE + 8  # levels of a pixel from a neighbour's colour
_PATTERNED = 0.12  # share of the core, of each colour of a pattern
_LIKE = 0.55  # correlation of a pattern with its pixels
_LEAST = 6  # pixels of an object's colour
_RELUCTANCE = 0.02  # misfit by which an object must fit better behind others than in front of them
_OF_PATTERN = 0.03  # misfit by which a pattern must fit better than one colour
_OF_KIND = 0.02  # misfit of a kind that is e times less probable
_FRACTALS, _GRID = 6, 16  # fractals that are tried, of the most alike on a grid of cells


class Fitted(NamedTuple):
    """The outline of an object."""

    price: float  # the misfit, and that of an improbable kind
    match: Match
    colour: int  # number of the word
    second: int  # number of the word of a pattern's other colour, or -1
    misfit: float  # of the pixels, as a share of the object's
    ends: np.ndarray  # (2, 3), of its colour
    coverage: np.ndarray  # float32 (S, S)

    @property
    def shown(self) -> np.ndarray:
        """The pixels that are covered at least half: bool (S, S)."""
        return np.asarray(self.coverage >= 0.5)

    @property
    def edges(self) -> np.ndarray:
        """The pixels that are covered in part: bool (S, S)."""
        return np.asarray((self.coverage > 0) & (self.coverage < 1))


@dataclass(eq=False)
class Thing:
    """An object that may be in a picture."""

    colour: int  # number of the word
    kinds: np.ndarray  # probabilities
    x: float
    y: float
    radius: float
    seen: SeenObject | None = None  # as the network sees it
    fitted: Fitted | None = None

    @property
    def place(self) -> Start:
        """Its place, that of its outline if there is one."""
        return self.fitted.match.place if self.fitted else Start(self.x, self.y, self.radius)


class _Neighbours(NamedTuple):
    """Pixels near an object that are not its own."""

    seen: np.ndarray  # bool (S, S) of objects that are seen
    foreign: np.ndarray  # bool (S, S) of any other colour
    ring: np.ndarray  # bool (S, S) around these
    ground: np.ndarray  # (S, S, 3) the colour behind the object
    bare: np.ndarray  # (S, S) misfits of pixels that the object does not cover


def matched(view: View, thing: Thing, others: Sequence[Thing]) -> Fitted | None:
    """Returns the outline that explains an object's pixels best, or None if few pixels have its colour."""
    near = _neighbours(view, thing, others)
    window = view.near(thing.x, thing.y, _WINDOW[0] * thing.radius + _WINDOW[1])
    core = view.near(thing.x, thing.y, _CORE * thing.radius) & ~near.seen
    best: Fitted | None = None
    for first, second in _colours(view, thing, core):
        # Pixels of the object's colours, and all others.
        lit, foreign = (view.far[..., first] < PURE) & (view.words == first), near.foreign
        ends = tones.ends(
            view.picture[
                (view.far[..., first] < PURE) & window & view.near(thing.x, thing.y, 1.1 * thing.radius)
            ],
            first,
        )
        if second >= 0:
            both = [view.picture[(view.far[..., word] < PURE) & core] for word in (first, second)]
            ends = np.stack([pixels.mean(0) for pixels in both])
            lit = lit | (view.far[..., second] < PURE) & view.near(thing.x, thing.y, thing.radius)
            wide = view.near(thing.x, thing.y, 1.05 * thing.radius)
            foreign = foreign & ~((view.words == second) & wide) & (view.words != first)
        lit = lit & window & ~foreign
        if lit.sum() < _LEAST:
            continue

        # Misfits of covered and of bare pixels.
        covered = tones.apart(view.picture, ends)
        covered[foreign] = LIMIT
        bare = np.where(lit, np.maximum(near.bare, tones.apart(view.picture, view.behind)), near.bare)
        rests = np.stack([covered, bare]).astype(np.float32)
        rests[:, ~window] = -1
        evidence = Evidence(view.picture, ends.astype(np.float32), near.ground.astype(np.float32), rests)
        veiled = (foreign | near.ring) & window
        price, match = _placed(_Search(thing, evidence, lit, second >= 0), veiled)
        price += _OF_PATTERN if second >= 0 else 0.0
        if best is None or price < best.price:
            misfit = match.misfit / (LIMIT * float(lit.sum()))
            best = Fitted(
                price, match, first, second, misfit, ends, scene_matching.coverage(match, view.side)
            )
    return best


def _neighbours(view: View, thing: Thing, others: Sequence[Thing]) -> _Neighbours:
    """Returns the pixels near an object that are not its own."""
    unlike = view.words != thing.colour
    mixed = view.far[..., thing.colour] >= PURE
    foreign = view.clear & unlike & (view.words != view.backdrop)
    seen, ring = np.zeros_like(foreign), tones.grown(foreign) & mixed
    ground = np.broadcast_to(view.behind.mean(0), view.picture.shape).copy()
    bare = tones.apart(view.picture, view.behind)
    for other in others:
        if other is thing or other.colour == thing.colour:
            continue
        there, words = view.near(other.x, other.y, _BODY * other.radius), [other.colour]
        mean = PALETTE[other.colour]
        if other.fitted:
            there &= tones.grown(other.fitted.coverage > 0)
            words = [word for word in (other.fitted.colour, other.fitted.second) if word >= 0]
            mean = other.fitted.ends.mean(0) if len(words) == 1 else mean
        theirs = there & unlike & (view.far[..., words].min(-1) < _LOOSE)
        seen |= there & unlike & (view.far[..., other.colour] < _LOOSE)
        around = tones.grown(theirs) & mixed
        ground[around] = mean
        edge = tones.apart(view.picture, np.stack([mean, view.behind.mean(0)]))
        bare[around] = np.minimum(bare, edge)[around]
        ring |= around
        foreign |= theirs
    bare[foreign] = 0
    return _Neighbours(seen, foreign, ring, ground, bare)


def _colours(view: View, thing: Thing, core: np.ndarray) -> list[tuple[int, int]]:
    """Returns the colours that an object may have: its word alone, and maybe a pattern of two words."""
    counts = np.bincount(view.words[core & view.clear], minlength=len(PALETTE))
    counts[view.backdrop] = 0
    mine = int(counts[thing.colour])
    counts[thing.colour] = 0
    options, least = [(thing.colour, -1)], max(3.0, _PATTERNED * float(core.sum()))
    # The commonest other word may be that of an object inside.
    for other in np.argsort(-counts, kind="stable")[:2].tolist():
        if min(mine, int(counts[other])) < least:
            continue
        words = (thing.colour, other) if mine >= counts[other] else (other, thing.colour)
        x, y, radius, _ = thing.place
        if fillings.pattern(view, (x, y, radius), words, core)[1] > _LIKE:
            options.append(words)
    return options


def _placed(front: "_Search", veiled: np.ndarray) -> tuple[float, Match]:
    """Returns price and match of an object in front of its neighbours, or behind some of them."""
    likely = front.likely()
    if likely and likely[1].misfit < GOOD * front.norm and front.thing.kinds.max() > _SURE:
        return likely

    # Behind: pixels of other colours may be covered.
    rests = front.evidence.rests.copy()
    rests[0][veiled] = np.minimum(rests[0], rests[1] + VEIL)[veiled]
    behind = _Search(front.thing, front.evidence._replace(rests=rests), front.lit, front.patterned)
    price, match = behind.best()
    again = scene_matching.match(match.outline, match.place, 4, front.evidence)
    more = (again.misfit - match.misfit) / front.norm
    if more < _RELUCTANCE + 0.01:
        return price + more, again
    ahead = front.best()
    return (price, match) if price < ahead[0] - _RELUCTANCE else ahead


@dataclass(frozen=True)
class _Search:
    """A search for the outline that explains the evidence best."""

    thing: Thing
    evidence: Evidence
    lit: np.ndarray  # bool (S, S) pixels of the object's colour
    patterned: bool

    @cached_property
    def norm(self) -> float:
        """The misfit of an object that explains none of its pixels."""
        return LIMIT * float(self.lit.sum())

    @cached_property
    def reach(self) -> tuple[float, float, float, float]:
        """The box of the object's colour, without single pixels: left, top, right, bottom."""
        size, ends = len(self.lit), []
        for axis in (0, 1):
            counts = self.lit.sum(axis)
            places = np.flatnonzero(counts >= min(1 + size // 41, int(counts.max())))
            ends.append((places[0] / size, (places[-1] + 1) / size))
        (left, right), (top, bottom) = ends
        return float(left), float(top), float(right), float(bottom)

    def likely(self) -> tuple[float, Match] | None:
        """Returns price and match of the network's kind, or None if the object has a pattern that the kind
        never shows."""
        kind = KIND_WORDS[int(self.thing.kinds.argmax())]
        if kind == "text" or (self.patterned and kind not in _SOLID):
            return None
        tried = (
            self._fractals() if kind == "fractal" else [self._begun(o) for o in scene_matching.outlines(kind)]
        )
        tried = self._further(tried, 4, 1) if len(tried) > 3 else tried
        return self._cheapest(self._further(tried, 2, 4))

    def best(self) -> tuple[float, Match]:
        """Returns price and match of the best of all kinds."""
        likely = self.likely()
        if likely and likely[1].misfit < GOOD * self.norm and self.thing.kinds.max() > _SURE:
            return likely
        kinds = _SOLID if self.patterned else _SHAPES
        tried = [self._begun(outline) for kind in kinds for outline in scene_matching.outlines(kind)]
        tried += [] if self.patterned else self._fractals()
        tried = self._further(self._further(tried, 5, 1), 2, 4)
        return self._cheapest([*tried, likely[1]] if likely else tried)

    def _price(self, match: Match) -> float:
        share = float(self.thing.kinds[KIND_WORDS.index(match.outline.kind)])
        return match.misfit / self.norm - _OF_KIND * float(np.log(share + 1e-3))

    def _cheapest(self, matches: Sequence[Match]) -> tuple[float, Match]:
        best = min(matches, key=self._price)
        return self._price(best), best

    def _further(self, matches: Sequence[Match], count: int, rounds: int) -> list[Match]:
        """Returns the cheapest matches, searched further."""
        chosen = sorted(matches, key=self._price)[:count]
        return [scene_matching.match(m.outline, m.place, rounds, self.evidence) for m in chosen]

    def _begun(self, outline: Outline) -> Match:
        """Returns the best start of an outline."""
        matches = [scene_matching.match(outline, start, 0, self.evidence) for start in self._starts(outline)]
        return min(matches, key=lambda match: match.misfit)

    def _starts(self, outline: Outline) -> list[Start]:
        """Returns the network's place, and places at which the outline fills the box of the colour."""
        left, top, right, bottom = self.reach
        starts = [Start(self.thing.x, self.thing.y, self.thing.radius)]
        for turn in (0.0,) if outline.kind in _ROUND else _TURNS:
            box = scene_matching.box(outline, turn)
            radius = max(right - left, bottom - top) / max(box[2] - box[0], box[3] - box[1])
            radius = min(max(radius, LEAST_RADIUS), MOST_RADIUS)
            x, y = (
                (left + right - radius * (box[0] + box[2])) / 2,
                (top + bottom - radius * (box[1] + box[3])) / 2,
            )
            starts.append(Start(x, y, radius, turn))
        return starts

    def _fractals(self) -> list[Match]:
        """Returns the fractals that are most alike on a coarse grid."""
        outlines, size = scene_matching.outlines("fractal"), len(self.lit)
        grids, steps = scene_matching.cells("fractal", _GRID), 2 * (np.arange(_GRID) + 0.5) / _GRID - 1
        chosen: set[int] = set()
        for start in self._starts(outlines[0]):
            rows, columns = (
                np.clip(((middle + start.radius * steps) * size).astype(int), 0, size - 1)
                for middle in (start.y, start.x)
            )
            here, counted = (
                self.lit[np.ix_(rows, columns)],
                self.evidence.rests[1][np.ix_(rows, columns)] >= 0,
            )
            errors = ((grids - here) ** 2 * counted).sum((1, 2))
            chosen |= set(np.argsort(errors, kind="stable")[:_FRACTALS].tolist())
        return [self._begun(outlines[number]) for number in sorted(chosen)]
