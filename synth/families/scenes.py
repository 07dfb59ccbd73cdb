"""Scenes: one to six objects over a backdrop, with every fact known.

An object has a kind, a colour, a filling, a size and a place. Objects are drawn from back to front. The class
of a scene is kind and colour of its main object. `scenes_flat` is the small, exact world: one to three flat
objects of six kinds with gaps between them. Colours are those of a palette, changed by at most `shade`
levels. An object's colour differs from that of the backdrop and of every object that it may touch.

The picture comes with an instance mask: the number of the foremost object that covers half of a pixel, from 1
in drawing order, or 0. Lengths are sides of the picture. Pixels are sums of whole numbers over exact floats,
so they are the same on every machine.

Axes: S side of the picture, G of the grid of a fractal.
"""

import math
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from itertools import combinations
from typing import Any, ClassVar

import numpy as np

from synth import seeds
from synth.errors import UserError
from synth.families import scene_world
from synth.families.fractals import random_system
from synth.families.scene_world import KINDS, PALETTE, SIZES, Pair
from synth.images.pictures import Picture
from synth.kernels import clouds, ifs, shapes
from synth.kernels.fillings import FILLINGS, direction, paint
from synth.kernels.glyphs import LETTERS
from synth.seeds import Stream

LAW = 1  # raised when the golden pixels change

MASKS = True  # pictures have an instance mask, and measurements of their objects
BACKDROPS = ("flat", "gradient", "texture")
SPLITS = ("all", "train", "held_out")

_FAINT = 0.6  # strength of a backdrop's gradient or texture
_TRIES = 60  # places of an object
_LAYOUTS = 1000  # of a scene, before its settings are refused
_INSIDE = 0.15  # share of objects that are placed inside another
_TOUCH = 0.75  # least distance of overlapping objects, in sums of radii
_GAP = (1.25, 0.02)  # of objects that do not overlap: sums of radii, and sides of the picture
_GRID = 64  # G
_RAGGED = 10.0  # least outline of a fractal, in square roots of its area; a disc has 4.5, a ring 7.3
POOL = 256  # fractals that objects are drawn from
_PATTERNS = ("stripes", "dots")
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


@dataclass(frozen=True)
class Config:
    """The law's words and ranges, both ends included for integers."""

    ADDED: ClassVar = ("directed",)  # later settings, which older sets do not state

    classes: int = 1000  # at most one for each kind in each colour
    objects: tuple[int, int] = (1, 6)
    kinds: tuple[str, ...] = KINDS
    colours: tuple[str, ...] = tuple(PALETTE)
    sizes: tuple[str, ...] = tuple(SIZES)
    fillings: tuple[str, ...] = FILLINGS
    backdrops: tuple[str, ...] = BACKDROPS
    overlap: bool = True
    directed: bool = False  # every object lies in a clear direction of every other
    # One object is a text of one to four letters. The only object of a scene becomes one, whatever its class.
    letters: bool = False
    turn: tuple[float, float] = (-0.05, 0.05)  # of an object, in turns
    shade: int = 6  # largest change of a colour's levels
    split: str = "all"  # or train, held_out
    held: int = 0  # seed of the held-out combinations

    def __post_init__(self) -> None:
        # Words.
        allowed = {"kinds": KINDS, "colours": PALETTE, "sizes": SIZES, "fillings": FILLINGS}
        for name, words in (*allowed.items(), ("backdrops", BACKDROPS)):
            chosen = getattr(self, name)
            if not chosen or len(set(chosen)) < len(chosen) or not set(chosen) <= set(words):
                raise ValueError(f"{name} is {','.join(chosen)}; choose among {','.join(words)}, each once")
        if self.split not in SPLITS:
            raise ValueError(f"split is {self.split}; it must be {', '.join(SPLITS)}")

        # Numbers.
        if not 1 <= self.objects[0] <= self.objects[1] <= 6:
            raise ValueError(f"objects is {self.objects}; a scene has 1 to 6")
        if len(self.colours) < 3:
            raise ValueError("colours must be three or more: objects differ from the backdrop and each other")
        if not 0 <= self.shade <= 6:
            raise ValueError(f"shade is {self.shade}; it must lie in 0..6, so that words stay true")
        if not -1 <= self.turn[0] <= self.turn[1] <= 1:
            raise ValueError(f"turn is {self.turn}; it must lie in -1..1")
        if self.classes < 1:
            raise ValueError(f"classes is {self.classes}; it must be at least 1")

        # Classes: the kinds in their colours, without those that the split leaves out.
        mains = main_combinations(self)
        if not mains:
            raise ValueError(f"no kind in a colour of these settings is of the split {self.split}")
        object.__setattr__(self, "classes", min(self.classes, len(mains)))

    @property
    def channels(self) -> int:
        """The channels of the pictures: RGB."""
        return 3

    @property
    def stated(self) -> dict[str, Any]:
        """The settings as plain JSON. Later ones are stated if they are used, so older sets stay the same."""
        return {name: value for name, value in vars(self).items() if value or name not in self.ADDED}


@dataclass(frozen=True)
class SceneObject:
    """An object of a scene."""

    kind: str
    colour: str
    rgb: tuple[int, int, int]
    size: str
    radius: float  # half of the longer side of its box
    centre: tuple[float, float]  # its centroid
    turn: float  # in turns
    filling: str
    second: str  # colour of stripes or dots, else empty
    second_rgb: tuple[int, int, int]
    fill_key: int
    detail: int  # points of a star, frequencies of a wave, number of a fractal
    text: str


@dataclass(frozen=True)
class Params:
    """Everything that a picture is drawn from."""

    objects: tuple[SceneObject, ...]  # later ones cover earlier ones
    main: int  # the object of the class
    backdrop: str
    backdrop_rgb: tuple[int, int, int]
    backdrop_filling: str
    backdrop_key: int
    redraws: int = 0


@cache
def main_combinations(config: Config) -> tuple[Pair, ...]:
    """Returns the combinations of main objects, by class."""
    held = scene_world.held_out(config.held)
    pairs = [Pair(kind, colour) for colour in config.colours for kind in config.kinds]
    if config.split == "train":
        return tuple(pair for pair in pairs if pair not in held)
    if config.split == "held_out":
        possible = (pair for pair in held if not pair.relation or config.objects[1] > 1)
        return tuple(sorted(pair for pair in possible if Pair(pair.kind, pair.colour) in pairs))
    return tuple(pairs)


def sample_class(config: Config, stream: Stream) -> Pair:
    """Returns kind and colour of the main object, and in the held-out split maybe its relation."""
    return main_combinations(config)[stream.path[0]]


def sample_instance(config: Config, main: Pair, stream: Stream) -> Params:
    """Returns the Params of a picture of a class. Raises UserError if its objects find no places."""
    for _ in range(_LAYOUTS):
        objects, backdrop = _layout(config, main, stream)
        if (
            len(objects) >= config.objects[0]
            and _belongs(config, main, objects)
            and (not config.directed or _directed(objects))
        ):
            break
    else:
        fault = (
            f"{_LAYOUTS} layouts of {main.colour} {main.kind} hold too few objects or are of another split"
        )
        advice = "allow fewer or smaller objects, or overlap=true"
        if config.directed:
            fault, advice = f"{fault}, or not every two in a clear direction", f"{advice}, or directed=false"
        raise UserError(f"{fault}; {advice}")

    # Depth: the main object gets a random place in the drawing order, objects inside others stay in front.
    depth = stream.integer(0, len(objects) - 1)
    order = [*objects[1 : 1 + depth], objects[0], *objects[1 + depth :]] if config.overlap else objects
    if any(scene_world.fits(a, b) for i, b in enumerate(order) for a in order[:i]):
        order = objects
    filling = config.backdrops[stream.integer(0, len(config.backdrops) - 1)]
    rgb = _shaded(config, backdrop, stream)
    return Params(tuple(order), order.index(objects[0]), backdrop, rgb, filling, stream.key())


def _layout(config: Config, main: Pair, stream: Stream) -> tuple[list[SceneObject], str]:
    """Draws objects and the backdrop's colour. Objects that find no place are left out."""
    count = stream.integer(max(config.objects[0], 2 if main.relation else 1), config.objects[1])
    behind = [colour for colour in config.colours if colour != main.colour]
    backdrop = behind[stream.integer(0, len(behind) - 1)]
    objects: list[SceneObject] = []
    lettered = stream.integer(1, count - 1) if config.letters and count > 1 else 0
    for number in range(count):
        # Kind and size. Many objects are smaller.
        kind = main.kind if not number else config.kinds[stream.integer(0, len(config.kinds) - 1)]
        if config.letters and number == lettered and (number or count == 1):
            kind = "text"
        sizes = [word for word in SIZES if word in config.sizes]
        sizes = sizes[: max(1, len(sizes) + 1 - max(1, count - 1))]
        size = sizes[stream.integer(0, len(sizes) - 1)]
        placed = _placed(config, kind, size, objects, stream)
        if placed is None:
            continue
        size, radius, centre, detail, text = placed

        # A colour unlike the backdrop's and those of its neighbours.
        neighbours = {backdrop} | {o.colour for o in objects if _near(centre, radius, o)}
        free = [colour for colour in config.colours if colour not in neighbours]
        if config.split == "train" and kind in KINDS:
            held = scene_world.held_out(config.held)
            free = [colour for colour in free if Pair(kind, colour) not in held]
        if not free:
            continue
        colour = free[stream.integer(0, len(free) - 1)] if number or kind == "text" else main.colour
        objects.append(_filled(config, kind, colour, backdrop, size, radius, centre, detail, text, stream))
    return objects, backdrop


def _placed(
    config: Config, kind: str, size: str, objects: list[SceneObject], stream: Stream
) -> tuple[str, float, tuple[float, float], int, str] | None:
    """Returns size, radius, centre, detail and text of an object at a free place, or None if none is left."""
    detail, text = 0, ""
    if kind == "star":
        detail = stream.integer(4, 7) if config.overlap else 5
    elif kind == "wave":
        detail = 32 * stream.integer(3, 5) + stream.integer(6, 9)
    elif kind == "fractal":
        detail = stream.integer(0, POOL - 1)
    elif kind == "text":
        text = "".join(LETTERS[stream.integer(0, len(LETTERS) - 1)] for _ in range(stream.integer(1, 4)))

    # An object inside another is small.
    hosts = [o for o in objects if scene_world.room(o.kind) * o.radius >= 0.15]
    inside = config.overlap and "small" in config.sizes and kind != "text"
    if inside and hosts and stream.uniform(0, 1) < _INSIDE:
        host = hosts[stream.integer(0, len(hosts) - 1)]
        radius = SIZES["small"][0] * stream.uniform(0.75, 0.8)
        spare = max(0.0, scene_world.room(host.kind) * host.radius - 1.45 * radius) * 0.7
        centre = (
            host.centre[0] + stream.uniform(-spare, spare),
            host.centre[1] + stream.uniform(-spare, spare),
        )
        if all(o is host or _apart(config, centre, radius, o) for o in objects):
            return "small", radius, centre, detail, text

    # A place inside the frame, at a distance from all others.
    radius = stream.uniform(*SIZES[size])
    left, top, right, bottom = (-1.0, -1.0, 1.0, 1.0) if kind == "fractal" else shapes.box(kind, detail, text)
    for _ in range(_TRIES):
        centre = (
            stream.uniform(0.02 - left * radius, 0.98 - right * radius),
            stream.uniform(0.02 - top * radius, 0.98 - bottom * radius),
        )
        if all(_apart(config, centre, radius, o) for o in objects):
            return size, radius, centre, detail, text
    return None


def _apart(config: Config, centre: tuple[float, float], radius: float, other: SceneObject) -> bool:
    across, down = centre[0] - other.centre[0], centre[1] - other.centre[1]
    reach = radius + other.radius
    least = _TOUCH * reach if config.overlap else _GAP[0] * reach + _GAP[1]
    return across * across + down * down >= least * least


def _near(centre: tuple[float, float], radius: float, other: SceneObject) -> bool:
    across, down = centre[0] - other.centre[0], centre[1] - other.centre[1]
    reach = 1.42 * (radius + other.radius)
    return across * across + down * down < reach * reach


def _filled(
    config: Config,
    kind: str,
    colour: str,
    backdrop: str,
    size: str,
    radius: float,
    centre: tuple[float, float],
    detail: int,
    text: str,
    stream: Stream,
) -> SceneObject:
    """Returns an object with its filling, colours and turn."""
    fillings = [f for f in config.fillings if f not in _PATTERNS or (kind in _SOLID and size != "small")]
    filling = fillings[stream.integer(0, len(fillings) - 1)] if fillings else "flat"
    second, second_rgb = "", (0, 0, 0)
    if filling in _PATTERNS:
        others = [word for word in config.colours if word not in (colour, backdrop)]
        second = others[stream.integer(0, len(others) - 1)]
        second_rgb = _shaded(config, second, stream)
    rgb, turn = _shaded(config, colour, stream), stream.uniform(*config.turn)
    return SceneObject(
        kind, colour, rgb, size, radius, centre, turn, filling, second, second_rgb, stream.key(), detail, text
    )


def _shaded(config: Config, colour: str, stream: Stream) -> tuple[int, int, int]:
    """Returns the levels of a colour word, changed by at most `shade` together."""
    red, green, blue = PALETTE[colour]
    step = stream.integer(-config.shade, config.shade)
    return red + step, green + step, blue + step


def _directed(objects: list[SceneObject]) -> bool:
    """Returns True if every two objects lie in a clear direction of each other."""
    return all(scene_world.direction(a.centre, b.centre) for a, b in combinations(objects, 2))


def _belongs(config: Config, main: Pair, objects: list[SceneObject]) -> bool:
    """Returns True if a scene is of the split, and shows its main object's relation."""
    if config.split == "all" or not objects:
        return bool(objects)
    shown = set(scene_world.combinations(objects))
    if config.split == "train":
        return not shown & scene_world.held_out(config.held)
    return main in shown


def render(params: Params, size: int) -> Picture:
    """Draws a picture: pixels uint8 (S, S, 3) and its instance mask. The foreground is the objects."""
    canvas, mask = np.empty((size, size, 3), np.uint8), np.zeros((size, size), np.uint8)
    units = np.full((size, size), shapes.FULL, np.int32)

    # Backdrop: an object of full coverage, with number 0.
    rgb, filling = params.backdrop_rgb, params.backdrop_filling
    _paint(
        canvas, mask, units, (0, 0, size, size), 0, (0.5, 0.5, 0.5), rgb, rgb, filling, params.backdrop_key
    )

    # Objects, from back to front.
    measured: list[np.ndarray] = []
    for number, thing in enumerate(params.objects, 1):
        x, y = thing.centre
        if thing.kind == "fractal":
            area = shapes.cover_cells(fractal_cells(thing.detail), x, y, thing.radius, thing.turn, units)
        else:
            shape = shapes.edges(thing.kind, thing.detail, thing.text)
            area = shapes.cover(shapes.placed(shape, thing.centre, thing.radius, thing.turn), units)
        place = (x, y, thing.radius)
        measured.append(
            _paint(
                canvas,
                mask,
                units,
                area,
                number,
                place,
                thing.rgb,
                thing.second_rgb,
                thing.filling,
                thing.fill_key,
            )
        )
    return Picture(canvas, mask > 0, mask, _objects(measured))


def _paint(
    canvas: np.ndarray,
    mask: np.ndarray,
    units: np.ndarray,
    area: tuple[int, int, int, int],
    number: int,
    place: tuple[float, float, float],
    rgb: tuple[int, int, int],
    second: tuple[int, int, int],
    filling: str,
    key: int,
) -> np.ndarray:
    """Paints an object with its filling. Its direction and phase follow from its key."""
    code, strength = FILLINGS.index(filling), 1.0 if number else _FAINT
    law = (
        direction((key & 255) / 256, 2.0 + (key >> 8 & 255) / 256, (key >> 16 & 255) / 256)
        if code
        else _NO_LAW
    )
    heights = clouds.heights(np.uint64(key), 16, 0.4) if filling == "texture" else _NO_HEIGHTS
    colours = np.array((rgb, second), np.uint8)
    return paint(canvas, mask, units, area, number, place, colours, code, strength, law, heights)


_NO_LAW, _NO_HEIGHTS = np.zeros(4), np.zeros((2, 2), np.int32)


def _objects(measured: list[np.ndarray]) -> list[dict[str, object]]:
    """Returns box, area and visible share of each object, and which objects hide how much of it."""
    rows = [seen.tolist() for seen in measured]
    entries: list[dict[str, object]] = []
    for i, (left, top, right, bottom, area, *_) in enumerate(rows):
        # An object hides the foremost one at a pixel. Column 6 + i counts pixels of object i.
        hidden = {j + 1: rows[j][6 + i] for j in range(i + 1, len(rows)) if rows[j][6 + i]}
        visible = area - sum(hidden.values())
        entries.append(
            {
                "box": [left, top, right, bottom] if area else None,
                "area": area,
                "visible": visible / area if area else 0.0,
                "hidden_by": [[j, count] for j, count in hidden.items()],
            }
        )
    return entries


@lru_cache(maxsize=POOL)
def fractal_cells(number: int) -> np.ndarray:
    """Returns a fractal of the pool: bool (G, G).

    Between .2 and .6 of its cells are lit. Its dense parts reach across the grid, so that it keeps its size
    in small pictures. Its outline is ragged, so that nobody takes it for a ring or a triangle."""
    stream = seeds.stream(0, "fractals of scenes", number)
    while True:
        # A system, its points in their box, and each point's four neighbours.
        system = ifs.array(random_system(stream.integer(2, 4), stream.key()))
        start, key = ifs.fixed_point(system[0]), stream.key()
        points = ifs.points(system, start=start, key=key, count=20_000)
        bounds = ifs.bounds(points)
        spans = bounds[:, 1] - bounds[:, 0]
        if not all(math.isfinite(span) and span > 0 for span in spans.tolist()):
            continue
        side = float(spans.max()) * 1.04
        window = np.stack([bounds.mean(axis=1) - side / 2, np.full(2, side)], axis=1)
        counts = ifs.histogram(points, window, _GRID, ifs.strides(0, _GRID))[1:-1, 1:-1] > 0
        lit = counts[1:-1, 1:-1] | counts[:-2, 1:-1] | counts[2:, 1:-1] | counts[1:-1, :-2] | counts[1:-1, 2:]
        # Blocks of 8 x 8 cells with at least half of them lit.
        dense = np.argwhere(lit.reshape(8, 8, 8, 8).mean(axis=(1, 3)) >= 0.5)
        reach = int((dense.max(axis=0) - dense.min(axis=0) + 1).max()) if len(dense) else 0
        outline = int((lit[1:] != lit[:-1]).sum() + (lit[:, 1:] != lit[:, :-1]).sum())
        ragged = outline >= _RAGGED * math.sqrt(lit.sum())
        if 0.2 <= float(lit.mean()) <= 0.6 and reach == 8 and ragged:
            return np.ascontiguousarray(lit)


@dataclass(frozen=True)
class Change:
    """One fact of a scene that an edit changes.

    fact: colour, kind, size, filling, direction (left of, right of, above or below the object `other`),
    backdrop, or count (the number of objects that stay, in drawing order)."""

    fact: str
    value: str | int
    subject: int = 0  # number of the object, from 0
    other: int = 0


def edited(params: Params, change: Change) -> Params:
    """Returns the parameters of the same picture with one fact changed: the ground truth of an edit.

    Raises ValueError if the scene has no such object, or the new fact breaks the law of scenes."""
    objects = list(params.objects)
    if not 0 <= change.subject < len(objects) or not 0 <= change.other < len(objects):
        raise ValueError(
            f"a scene of {len(objects)} objects has no object {max(change.subject, change.other)}"
        )
    thing, value = objects[change.subject], str(change.value)

    if change.fact == "backdrop":
        if any(o.colour == value for o in objects):
            raise ValueError(f"an object is {value}; the backdrop must differ from all objects")
        return replace(
            params, backdrop=value, backdrop_rgb=_moved(params.backdrop, params.backdrop_rgb, value)
        )
    if change.fact == "count":
        count = int(change.value)
        if not 1 <= count <= len(objects) or params.main >= count:
            raise ValueError(
                f"{count} of {len(objects)} objects cannot stay, as the main one is {params.main}"
            )
        return replace(params, objects=tuple(objects[:count]))
    if change.fact == "direction":
        objects = _turned(objects, change)
        return replace(params, objects=tuple(objects))

    if change.fact == "colour":
        touching = [o.colour for o in objects if o is not thing and _near(thing.centre, thing.radius, o)]
        if value in (params.backdrop, thing.second, *touching):
            raise ValueError(f"{value} is the colour of the backdrop, the filling or a neighbour")
        thing = replace(thing, colour=value, rgb=_moved(thing.colour, thing.rgb, value))
    elif change.fact == "kind":
        # Patterns need a solid kind.
        detail = {"star": 5, "wave": 32 * 4 + 7}.get(value, 0)
        filling = "flat" if thing.filling in _PATTERNS and value not in _SOLID else thing.filling
        second = thing.second if filling == thing.filling else ""
        thing = replace(thing, kind=value, detail=detail, text="", filling=filling, second=second)
        if value not in KINDS:
            raise ValueError(f"kind cannot be {value}; it may be {', '.join(KINDS)}")
    elif change.fact == "size":
        thing = replace(thing, size=value, radius=sum(SIZES[value]) / 2)
    elif change.fact == "filling":
        if value in _PATTERNS:
            raise ValueError("stripes and dots need a second colour; change to flat, gradient or texture")
        thing = replace(thing, filling=value, second="")
    else:
        raise ValueError(
            f"fact {change.fact} cannot change; colour, kind, size, filling, direction, backdrop"
            " and count can"
        )
    objects[change.subject] = thing
    return replace(params, objects=tuple(objects))


def _moved(before: str, rgb: tuple[int, int, int], after: str) -> tuple[int, int, int]:
    """Returns the levels of another word, changed as the first word's levels are."""
    red, green, blue = (
        new + level - old for new, level, old in zip(PALETTE[after], rgb, PALETTE[before], strict=True)
    )
    return red, green, blue


def _turned(objects: list[SceneObject], change: Change) -> list[SceneObject]:
    """Returns the objects with the first one in another direction of the second: they swap or turn."""
    first, second = objects[change.subject], objects[change.other]
    now = scene_world.direction(first.centre, second.centre)
    if first is second or not now:
        raise ValueError("the two objects stand in no clear direction")
    if change.value == scene_world.OPPOSITES[now]:
        objects[change.subject] = replace(first, centre=second.centre)
        objects[change.other] = replace(second, centre=first.centre)
        return objects
    raise ValueError(f"the first object is {now} the second; it can be moved {scene_world.OPPOSITES[now]} it")
