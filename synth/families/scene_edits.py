"""Edits of a scene: the same picture with one fact changed.

The objects that stay keep their places, so a picture and its edit differ in that fact alone.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

from synth.families import scene_world
from synth.families.scene_world import KINDS, PALETTE, SIZES
from synth.families.scenes import (
    PATTERNS,
    SOLID,
    Config,
    Params,
    SceneObject,
    apart,
    directed,
    fillings,
    frame,
    near,
    of_split,
    patterned,
)
from synth.kernels.fillings import FILLINGS

_DETAILS = {"star": 5, "wave": 32 * 4 + 7}  # of a changed kind
_ROUNDING = 1e-9  # of coordinates, in sides of the picture


@dataclass(frozen=True)
class Change:
    """One fact of a scene that an edit changes.

    fact: colour, kind, size, filling, direction (left of, right of, above or below the object `other`),
    backdrop, or count (the number of objects that stay, in drawing order)."""

    fact: str
    value: str | int
    subject: int = 0  # number of the object, from 0
    other: int = 0


def edited(params: Params, change: Change, config: Config | None = None) -> Params:
    """Returns the parameters of the same picture with one fact changed: the ground truth of an edit.

    Without a config, an object may end at the frame or on another one. With that of the scene's data set, the
    new scene obeys its law. Raises ValueError if the scene has no such object, the world no such word, or the
    new fact breaks the law."""
    count = len(params.objects)
    if not 0 <= change.subject < count or not 0 <= change.other < count:
        raise ValueError(f"a scene of {count} objects has no object {max(change.subject, change.other)}")
    if change.fact not in _EDITS:
        *names, last = _EDITS
        raise ValueError(f"fact {change.fact} cannot change; {', '.join(names)} and {last} can")
    after = _EDITS[change.fact](params, change)
    if config:
        _require_law(config, params, after)
    return after


def _colour(params: Params, change: Change) -> Params:
    thing, value = params.objects[change.subject], _word(change, PALETTE)
    if value in (params.backdrop, thing.second, *_neighbours(params, thing)):
        raise ValueError(f"{value} is the colour of the backdrop, the filling or a neighbour")
    return _with(params, change, replace(thing, colour=value, rgb=_moved(thing.colour, thing.rgb, value)))


def _kind(params: Params, change: Change) -> Params:
    thing, value = params.objects[change.subject], _word(change, KINDS)
    thing = replace(thing, kind=value, detail=_DETAILS.get(value, 0), text="")
    if thing.filling in PATTERNS and value not in SOLID:
        thing = replace(thing, filling="flat", second="")
    return _with(params, change, thing)


def _size(params: Params, change: Change) -> Params:
    thing, value = params.objects[change.subject], _word(change, SIZES)
    return _with(params, change, replace(thing, size=value, radius=sum(SIZES[value]) / 2))


def _filling(params: Params, change: Change) -> Params:
    if change.value in PATTERNS:
        raise ValueError("stripes and dots need a second colour; change to flat, gradient or texture")
    thing, value = params.objects[change.subject], _word(change, FILLINGS)
    return _with(params, change, replace(thing, filling=value, second=""))


def _direction(params: Params, change: Change) -> Params:
    """Returns the scene with two objects in each other's places."""
    objects = list(params.objects)
    first, second = objects[change.subject], objects[change.other]
    now = scene_world.direction(first.centre, second.centre)
    if first is second or not now:
        raise ValueError("the two objects stand in no clear direction")
    if change.value != (opposite := scene_world.OPPOSITES[now]):
        raise ValueError(f"the first object is {now} the second; it can be moved {opposite} it")
    objects[change.subject] = replace(first, centre=second.centre)
    objects[change.other] = replace(second, centre=first.centre)
    return replace(params, objects=tuple(objects))


def _backdrop(params: Params, change: Change) -> Params:
    value = _word(change, PALETTE)
    if any(o.colour == value for o in params.objects):
        raise ValueError(f"an object is {value}; the backdrop must differ from all objects")
    levels = _moved(params.backdrop, params.backdrop_rgb, value)
    return replace(params, backdrop=value, backdrop_rgb=levels)


def _count(params: Params, change: Change) -> Params:
    count, whole = int(change.value), len(params.objects)
    if not 1 <= count <= whole or params.main >= count:
        raise ValueError(f"{count} of {whole} objects cannot stay, as the main one is {params.main}")
    return replace(params, objects=params.objects[:count])


_EDITS: dict[str, Callable[[Params, Change], Params]] = {
    "colour": _colour,
    "kind": _kind,
    "size": _size,
    "filling": _filling,
    "direction": _direction,
    "backdrop": _backdrop,
    "count": _count,
}


def _word(change: Change, words: Collection[str]) -> str:
    """Returns the new word. Raises ValueError if it is not among the words of its fact."""
    if change.value not in words:
        raise ValueError(f"{change.fact} cannot be {change.value}; it may be {', '.join(words)}")
    return str(change.value)


def _with(params: Params, change: Change, thing: SceneObject) -> Params:
    """Returns the scene with another object in the place of the changed one."""
    objects = list(params.objects)
    objects[change.subject] = thing
    return replace(params, objects=tuple(objects))


def _moved(before: str, rgb: tuple[int, int, int], after: str) -> tuple[int, int, int]:
    """Returns the levels of another word, changed as the first word's levels are."""
    red, green, blue = (
        new + level - old for new, level, old in zip(PALETTE[after], rgb, PALETTE[before], strict=True)
    )
    return red, green, blue


def _neighbours(params: Params, thing: SceneObject) -> list[str]:
    """Returns the colours of the objects that an object may touch."""
    return [o.colour for o in params.objects if o is not thing and near(thing.centre, thing.radius, o)]


def _require_law(config: Config, before: Params, after: Params) -> None:
    """Raises ValueError if the new scene breaks the law of a data set's scenes."""
    for old, new in zip(before.objects, after.objects, strict=False):
        if new != old:
            _require_words(config, new)
            _require_filling(config, new)
        if (new.kind, new.radius, new.centre) != (old.kind, old.radius, old.centre):
            _require_place(config, after, new)
    if after.backdrop not in config.colours:
        raise ValueError(f"backdrop cannot be {after.backdrop} in this world")
    if len(after.objects) < config.objects[0]:
        raise ValueError(f"{len(after.objects)} objects are fewer than the {config.objects[0]} of this world")
    if any(thing.second == after.backdrop for thing in after.objects):
        raise ValueError(f"an object has a {after.backdrop} pattern; the backdrop must differ from it")
    if config.directed and not directed(after.objects):
        raise ValueError("two objects would stand in no clear direction")
    if not of_split(config, after.objects, after.objects[after.main]):
        raise ValueError(f"the new scene would not be of the split {config.split}")


def _require_words(config: Config, thing: SceneObject) -> None:
    """Raises ValueError if the kind, colour or size of an object is not of the data set."""
    kinds = (*config.kinds, "text") if config.letters else config.kinds
    known = {"kind": kinds, "colour": config.colours, "size": config.sizes}
    for fact, words in known.items():
        if (word := getattr(thing, fact)) not in words:
            raise ValueError(f"{fact} cannot be {word} in this world, which has {', '.join(words)}")


def _require_filling(config: Config, thing: SceneObject) -> None:
    """Raises ValueError if the filling of an object is not of the data set, or would not show."""
    if thing.filling in PATTERNS and not patterned(thing.kind, thing.size):
        raise ValueError(f"a {thing.size} {thing.kind} shows no {thing.filling}")
    if thing.filling not in (words := fillings(config, thing.kind, thing.size)):
        raise ValueError(f"filling cannot be {thing.filling} in this world, which has {', '.join(words)}")


def _require_place(config: Config, after: Params, thing: SceneObject) -> None:
    """Raises ValueError if an object leaves the frame, comes too near to another, or touches its colour."""
    x, y = thing.centre
    (left, right), (top, bottom) = frame(thing.kind, thing.detail, thing.text, thing.radius)
    if not (left - _ROUNDING <= x <= right + _ROUNDING and top - _ROUNDING <= y <= bottom + _ROUNDING):
        raise ValueError(f"the frame would cut the {thing.kind}")
    for other in after.objects:
        inside = config.overlap and (scene_world.fits(thing, other) or scene_world.fits(other, thing))
        if other is not thing and not inside and not apart(config, thing.centre, thing.radius, other):
            raise ValueError(f"the {thing.kind} would come too near to the {other.kind}")
    if thing.colour in _neighbours(after, thing):
        raise ValueError(f"the {thing.kind} would touch another {thing.colour} object")
