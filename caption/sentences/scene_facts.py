"""Facts of scenes: a list, as a scene has several objects and relations between them.

    backdrop   colour word of the backdrop            value: the word
    texture    the backdrop's filling, unless flat    value: gradient, texture
    count      how many objects are seen              value: the number
    kind, colour, size, filling, second, place, points, text    of an object
    relation   between two objects                    relation: left of, right of, above, below, in front of,
               behind, inside, larger than, smaller than, same colour as

An object is named if at least half of it is visible and its box has a side of 7 pixels or more. Nothing is
stated of other objects, and no count if there are any. A gradient of a black object, and a texture of black
or white, change the levels too little to be seen, so they are not stated. Relations follow from parameters
and measurements with the margins of synth/families/scene_world.py.
"""

from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

from synth.families import scene_world

Json = dict[str, Any]

TYPES = (
    *("backdrop", "texture", "count", "kind", "colour", "size", "filling", "second", "place", "points"),
    *("text", "relation"),
)
LEAST_SIDE = 7  # pixels of the longer side of an object that is named
LEAST_DETAIL = 20  # pixels of the longer side of an object with a named filling, points or text
_LEAST_VISIBLE = 0.5
_LARGER = 1.15  # of the longer side of the larger object
_PATTERNED = ("stripes", "dots")
# Fillings and colours, of objects and of the backdrop, that few pixels show.
_UNSEEN = {("gradient", "black"), ("texture", "black"), ("texture", "white")}
_UNSEEN_BEHIND = {("texture", "black"), ("texture", "white")}
_LOW, _HIGH, _MIDDLE = 0.36, 0.64, 0.07  # of a centroid, in sides of the picture
_PLACES = (
    ("upper left", "top", "upper right"),
    ("left", "centre", "right"),
    ("lower left", "bottom", "lower right"),
)


class SceneFact(NamedTuple):
    """A fact of a scene. Numbers of objects count from 0 in drawing order; -1 is the scene itself."""

    type: str
    subject: int
    value: str | int
    relation: str = ""
    object: int = -1


def named(sample: Json) -> list[int]:
    """Returns the numbers of the objects that a sentence may name at the picture's size."""
    return [
        number
        for number, entry in enumerate(sample["objects"])
        if entry["box"] and entry["visible"] >= _LEAST_VISIBLE and _side(entry) >= LEAST_SIDE
    ]


def scene_facts(sample: Json) -> list[SceneFact]:
    """Returns all facts of a scene that its picture shows, from its sample's JSON. The main object, if it is
    named, comes first, then the others in drawing order, the relations, the count and the backdrop."""
    params, numbers = sample["params"], named(sample)
    numbers.sort(key=lambda number: number != params["main"])
    objects = [SimpleNamespace(**entry) for entry in params["objects"]]

    facts: list[SceneFact] = []
    for number in numbers:
        facts += _object_facts(number, objects[number], _side(sample["objects"][number]), sample["size"])
    for first in numbers:
        for second in numbers:
            if first != second:
                facts += [
                    SceneFact("relation", first, relation, relation, second)
                    for relation in _relations(first, second, objects, sample)
                ]
    if len(numbers) == len(objects):
        facts.append(SceneFact("count", -1, len(objects)))
    facts.append(SceneFact("backdrop", -1, params["backdrop"]))
    behind = params["backdrop_filling"], params["backdrop"]
    if behind[0] != "flat" and behind not in _UNSEEN_BEHIND:
        facts.append(SceneFact("texture", -1, params["backdrop_filling"]))
    return facts


def flat(facts: Sequence[SceneFact]) -> dict[str, str | int]:
    """Returns the facts of a scene as a whole, by the names of the other families' facts: the colour of the
    backdrop, and that of the objects if all have one colour and no patterns."""
    whole: dict[str, str | int] = {"family": "scene"}
    colours = {fact.value for fact in facts if fact.type == "colour"}
    counts = [fact.value for fact in facts if fact.type == "count"]
    coloured = sum(fact.type == "colour" for fact in facts)
    if len(colours) == 1 and counts == [coloured] and not any(fact.type == "second" for fact in facts):
        whole["colour"] = colours.pop()
    for fact in facts:
        if fact.type == "backdrop":
            whole["background"] = fact.value
    return whole


def _object_facts(number: int, thing: SimpleNamespace, side: int, size: int) -> Iterator[SceneFact]:
    yield SceneFact("kind", number, thing.kind)
    yield SceneFact("colour", number, thing.colour)
    yield SceneFact("size", number, thing.size)
    if place := _place(thing.centre):
        yield SceneFact("place", number, place)
    if thing.kind == "text" and side >= LEAST_DETAIL:
        yield SceneFact("text", number, thing.text)
    if side >= LEAST_DETAIL:
        if thing.kind == "star":
            yield SceneFact("points", number, thing.detail)
        if thing.filling != "flat" and (thing.filling, thing.colour) not in _UNSEEN:
            yield SceneFact("filling", number, thing.filling)
        if thing.filling in _PATTERNED:
            yield SceneFact("second", number, thing.second)


def _relations(first: int, second: int, objects: list[SimpleNamespace], sample: Json) -> Iterator[str]:
    """Yields the relations of one object to another."""
    one, other = objects[first], objects[second]
    if direction := scene_world.direction(one.centre, other.centre):
        yield direction

    # Depth. An object in another's hole is inside, though it hides nothing.
    if scene_world.fits(one, other) and (first > second or other.kind == "ring"):
        yield "inside"
    elif _hides(sample, first, second):
        yield "in front of"
    elif _hides(sample, second, first) and not scene_world.fits(other, one):
        yield "behind"

    # Size and colour. Parameters and the drawn boxes agree.
    sides = [_side(sample["objects"][number]) for number in (first, second)]
    if scene_world.larger(one.size, other.size) and sides[0] >= _LARGER * sides[1]:
        yield "larger than"
    if scene_world.larger(other.size, one.size) and sides[1] >= _LARGER * sides[0]:
        yield "smaller than"
    if one.colour == other.colour:
        yield "same colour as"


def _hides(sample: Json, front: int, back: int) -> bool:
    """Returns True if an object hides a clear part of another."""
    entry = sample["objects"][back]
    hidden = dict(entry["hidden_by"]).get(front + 1, 0)
    return bool(hidden >= scene_world.HIDES * entry["area"])


def _place(centre: tuple[float, float]) -> str:
    """Returns the place of a centroid in the frame, or an empty string if it is not clear."""
    thirds = []
    for share in centre:
        if share < _LOW or share > _HIGH:
            thirds.append(0 if share < _LOW else 2)
        elif abs(share - 0.5) < _MIDDLE:
            thirds.append(1)
        else:
            return ""
    return _PLACES[thirds[1]][thirds[0]]


def _side(entry: Json) -> int:
    left, top, right, bottom = entry["box"]
    return int(max(right - left, bottom - top))
