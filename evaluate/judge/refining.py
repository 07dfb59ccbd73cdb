"""Scenes refined by rendered outlines, after the network has seen them.

Each object is matched with outlines. Objects of one colour that are nearer than scenes allow are one object.
Pixels that no object explains become further objects. Depth, inclusion and fillings follow from the pixels.
An object that no outline explains keeps the network's words, as does every text.

Axes: S side of the picture, M objects.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from evaluate.judge import fillings, plain, tones
from evaluate.judge.matching import LEAST_RADIUS, MOST_RADIUS, Fitted, Thing, matched
from evaluate.judge.network import COLOUR_WORDS, KIND_WORDS
from evaluate.judge.sight import Seen, SeenObject
from evaluate.judge.tones import PURE, View
from synth.families import scene_world

_FITTING = 0.35  # misfit below which the outline is believed
_FILLED = 0.3  # misfit below which the filling of the pixels is believed
_NEW = 0.3  # misfit below which unexplained pixels are an object
_POOR, _BETTER = 0.15, 0.05  # misfit that is tried again, and gain of another try
_TWINS = 1.3  # sums of radii between objects of one colour
_NEAR = 0.45  # sides between parts of one object
_REACH = 0.4  # sides about an object, with all of its colour
_UNEXPLAINED = 45.0**2  # squared levels of a pixel
_LEAST_AREA = 0.0025  # of the picture, of unexplained pixels
_VISIBLE = 0.45  # share of a new object that is seen
_ROUNDS = 2  # of new objects
_HIDES = 0.06  # share of an object's area that another hides
_WHOLE = 0.9  # coverage of a pixel that shows which of two objects is in front
_BETWEEN = (0.1775, 0.2325)  # radii between the size words
_WITHIN = (0.125, 0.02)  # greatest radius of an object inside another, and slack in sides


def refined(picture: np.ndarray, seen: Seen, kinds: Sequence[np.ndarray]) -> Seen:
    """Returns a scene that the network sees in a picture float32 (S, S, 3), refined.

    `kinds` are the probabilities of the objects' kinds."""
    backdrop = COLOUR_WORDS.index(seen.backdrop)
    view = tones.view(picture, backdrop)
    things = []
    for known, shares in zip(seen.objects, kinds, strict=True):
        left, top, right, bottom = known.box
        radius = min(max(right - left, bottom - top, 2 * LEAST_RADIUS) / 2, MOST_RADIUS)
        colour = COLOUR_WORDS.index(known.colour)
        if colour != backdrop:
            things.append(Thing(colour, shares, *known.centre, radius, known))

    # Outlines of the seen objects, also of several parts as one.
    for thing in (*things, *(joined := _joined(view, things))):
        if not _is_text(thing):
            thing.fitted = matched(view, thing, things)
            _try_again(view, thing, things)
    things = _distinct([*things, *joined])

    # Objects that the network misses.
    for _ in range(_ROUNDS):
        new = list(_missing(view, things))
        if not new:
            break
        things = _distinct([*things, *new])
    return _scene(view, seen, things)


def _is_text(thing: Thing) -> bool:
    return thing.seen is not None and thing.seen.kind == "text"


def _anything() -> np.ndarray:
    """Returns equal probabilities of all kinds."""
    return np.full(len(KIND_WORDS), 1 / len(KIND_WORDS))


def _joined(view: View, things: Sequence[Thing]) -> list[Thing]:
    """Returns one object for several of one colour that are near each other."""
    joined: dict[int, Thing] = {}
    for thing in things:
        parts = [
            other
            for other in things
            if other.colour == thing.colour and np.hypot(other.x - thing.x, other.y - thing.y) < _NEAR
        ]
        if len(parts) > 1 and thing.colour not in joined:
            x, y = (float(np.mean(values)) for values in zip(*((p.x, p.y) for p in parts), strict=True))
            if whole := _whole(view, thing.colour, x, y):
                joined[thing.colour] = whole
    return list(joined.values())


def _whole(view: View, colour: int, x: float, y: float) -> Thing | None:
    """Returns an object of all pixels of a colour near a point, or None if there are none."""
    region = (view.far[..., colour] < PURE) & (view.words == colour) & view.near(x, y, _REACH)
    return _boxed(region, colour, 1.5) if region.sum() >= 8 else None


def _boxed(region: np.ndarray, colour: int, edge: float) -> Thing:
    """Returns an object in the box of a region bool (S, S), with `edge` pixels more."""
    size, spans = len(region), []
    for axis in (0, 1):
        places = np.flatnonzero(region.any(axis))
        spans.append((float(places[0]) / size, float(places[-1] + 1) / size))
    (left, right), (top, bottom) = spans
    radius = (max(right - left, bottom - top) + (edge - 0.5) / size) / 2
    radius = min(max(radius, LEAST_RADIUS), MOST_RADIUS)
    return Thing(colour, _anything(), (left + right) / 2, (top + bottom) / 2, radius)


def _try_again(view: View, thing: Thing, others: Sequence[Thing]) -> None:
    """Matches a badly matched object again, in the box of its colour."""
    if thing.fitted is None or thing.fitted.misfit < _POOR:
        return
    whole = _whole(view, thing.colour, thing.x, thing.y)
    if whole is None:
        return
    whole.kinds = thing.kinds
    fitted = matched(view, whole, [other for other in others if other is not thing])
    if fitted and fitted.price < thing.fitted.price - _BETTER:
        thing.x, thing.y, thing.radius, thing.fitted = whole.x, whole.y, whole.radius, fitted


def _distinct(things: Sequence[Thing]) -> list[Thing]:
    """Returns the objects, from the best fitted, without those that are parts of others."""
    kept: list[Thing] = []
    for thing in sorted(things, key=lambda t: t.fitted.price if t.fitted else -1.0):
        if thing.fitted is None and not _is_text(thing):
            continue
        colour = thing.fitted.colour if thing.fitted else thing.colour
        x, y, radius, _ = thing.place
        for other in kept:
            fitted, place = other.fitted, other.place
            way = float(np.hypot(x - place.x, y - place.y))
            same = colour == (fitted.colour if fitted else other.colour)
            if same and way < _TWINS * (radius + place.radius):
                break
            if thing.fitted and fitted and colour == fitted.second and way < place.radius:
                break
        else:
            kept.append(thing)
    return kept


def _fitted(things: Sequence[Thing]) -> Iterator[tuple[int, Fitted]]:
    """Yields the numbers of the objects that have outlines, and these."""
    for number, thing in enumerate(things):
        if thing.fitted:
            yield number, thing.fitted


def _tops(view: View, things: Sequence[Thing]) -> tuple[np.ndarray, np.ndarray]:
    """Returns which object each pixel shows, or the number of objects for the backdrop, and its misfit."""
    rests = np.full((len(things) + 1, view.side, view.side), np.inf)
    rests[-1] = tones.apart(view.picture, view.behind)
    for number, fitted in _fitted(things):
        rests[number] = np.where(fitted.shown, tones.apart(view.picture, fitted.ends), np.inf)
        rests[-1][fitted.shown] = np.inf
    return rests.argmin(0), rests.min(0)


def _missing(view: View, things: Sequence[Thing]) -> Iterator[Thing]:
    """Yields objects in connected regions that no object explains."""
    # Regions away from edges and texts.
    _, rests = _tops(view, things)
    unexplained = rests > _UNEXPLAINED
    for thing in things:
        if thing.fitted:
            unexplained &= ~tones.grown(thing.fitted.edges)
        else:
            unexplained &= ~view.near(thing.x, thing.y, 1.5 * thing.radius)
    labels = plain.components(unexplained[None])[0]

    # Each region's commonest colour.
    for label in np.unique(labels[labels > 0]):
        region = labels == label
        counts = np.bincount(view.words[region], minlength=len(COLOUR_WORDS))
        counts[view.backdrop] = 0
        colour = int(counts.argmax())
        if region.sum() < _LEAST_AREA * region.size or counts[colour] < 0.5 * region.sum():
            continue
        new = _boxed(region & (view.words == colour), colour, 2.5)
        if any(_part(new, thing) for thing in things):
            continue
        new.fitted = matched(view, new, things)
        if new.fitted and new.fitted.misfit < _NEW:
            shown = new.fitted.shown
            seen = (shown & (view.far[..., colour] < PURE + 8)).sum()
            if seen > _VISIBLE * shown.sum() or new.fitted.second >= 0:
                yield new


def _part(new: Thing, thing: Thing) -> bool:
    """Returns True if a region is part of an object that is matched well."""
    place = thing.place
    way = np.hypot(new.x - place.x, new.y - place.y)
    well = thing.fitted is not None and thing.fitted.misfit < _NEW
    return bool(well and thing.colour == new.colour and way < _TWINS * (new.radius + place.radius))


def _scene(view: View, seen: Seen, things: Sequence[Thing]) -> Seen:
    """Returns the scene of objects with their outlines."""
    tops, _ = _tops(view, things)
    objects = tuple(_object(view, things, number, tops == number) for number in range(len(things)))
    places = {id(thing): i for i, thing in enumerate(seen.objects)}
    depths = {}
    for i, one in enumerate(things):
        for j, other in enumerate(things):
            if i == j:
                continue
            if one.fitted and other.fitted:
                relation = _depth(view, things, one.fitted, other.fitted)
            else:
                relation = seen.depths.get((places.get(id(one.seen), -1), places.get(id(other.seen), -1)), "")
            if relation:
                depths[i, j] = relation
    return replace(seen, objects=objects, depths=depths)


def _object(view: View, things: Sequence[Thing], number: int, shown: np.ndarray) -> SeenObject:
    """Returns an object as it is seen. `shown` are the pixels that show it: bool (S, S)."""
    thing, fitted = things[number], things[number].fitted
    if fitted is None:
        assert thing.seen is not None
        return thing.seen
    for _, other in _fitted(things):
        if other is not fitted:
            shown = shown & ~other.edges
    filling, second = _filling(view, fitted, shown)
    if thing.seen and (not filling or fitted.misfit > _FILLED):
        filling, second = thing.seen.filling, thing.seen.second
    colour = COLOUR_WORDS[fitted.colour]
    if thing.seen and fitted.misfit > _FITTING:
        return replace(thing.seen, colour=colour, filling=filling, second=second)

    match, size = fitted.match, view.side
    rows, columns = (np.flatnonzero(fitted.shown.any(axis)) for axis in (1, 0))
    box = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1) if len(rows) else (0, 0, 0, 0)
    left, top, right, bottom = (float(side) / size for side in box)
    return SeenObject(
        kind=match.outline.kind,
        colour=colour,
        size=tuple(scene_world.SIZES)[sum(match.radius >= radius for radius in _BETWEEN)],
        centre=(match.x, match.y),
        box=(left, top, right, bottom),
        filling=filling or "flat",
        second=second,
        points=match.outline.detail if match.outline.kind == "star" else 0,
        text="",
        confidence=thing.seen.confidence if thing.seen else 1 - fitted.misfit,
    )


def _filling(view: View, fitted: Fitted, shown: np.ndarray) -> tuple[str, str]:
    """Returns filling and second colour of the pixels that show an object, bool (S, S)."""
    inside = (fitted.coverage >= 0.995) & shown
    match = fitted.match
    place = match.x, match.y, match.radius
    if fitted.second < 0:
        return fillings.tone(view, place, inside & (view.far[..., fitted.colour] < PURE + 8)), ""
    words = fitted.colour, fitted.second
    return fillings.pattern(view, place, words, inside)[0], COLOUR_WORDS[fitted.second]


def _depth(view: View, things: Sequence[Thing], one: Fitted, other: Fitted) -> str:
    """Returns the depth of one object to another: in front of, behind, inside, or an empty string."""
    # Pixels that both cover, and no third object hides.
    both = (one.coverage >= _WHOLE) & (other.coverage >= _WHOLE)
    for _, third in _fitted(things):
        if third is not one and third is not other:
            words = [word for word in (third.colour, third.second) if word >= 0]
            both &= ~((third.coverage > 0.1) & (view.far[..., words].min(-1) < PURE))
    count = int(both.sum())
    nearer = tones.apart(view.picture, one.ends) < tones.apart(view.picture, other.ends)
    front = count > 0 and int((nearer & both).sum()) > count / 2
    if _within(one, other) and (front or other.match.outline.kind == "ring"):
        return "inside"
    if not count or _within(other, one):
        return ""
    shared = float((one.shown & other.shown).sum())
    if front:
        return "in front of" if shared >= _HIDES * other.shown.sum() else ""
    return "behind" if shared >= _HIDES * one.shown.sum() else ""


def _within(one: Fitted, other: Fitted) -> bool:
    """Returns True if one object is wholly within another, or in its hole."""
    inner, outer = one.match, other.match
    room = scene_world.room(outer.outline.kind)
    spare = room * outer.radius - 1.42 * inner.radius + _WITHIN[1]
    way = float(np.hypot(inner.x - outer.x, inner.y - outer.y))
    return room > 0 and inner.radius < _WITHIN[0] and way < spare
