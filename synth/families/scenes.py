"""Scenes: one to six objects over a backdrop, with every fact known.

An object has a kind, a colour, a filling, a size and a place. Objects are drawn from back to front. The class
of a scene is kind and colour of its main object. `scenes_flat` is the small, exact world: one to three flat
objects of six kinds with gaps between them. Colours are those of a palette, changed by at most `shade`
levels. An object's colour differs from that of the backdrop and of every object that it may touch.

The picture comes with an instance mask: the number of the foremost object that covers half of a pixel, from 1
in drawing order, or 0. Lengths are sides of the picture. Pixels are sums of whole numbers over exact floats,
so they are the same on every machine. `scene_drawing` draws, `scene_edits` changes a fact of a scene.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from typing import Any, ClassVar, NamedTuple

from synth import settings
from synth.errors import UserError
from synth.families import scene_world
from synth.families.scene_drawing import POOL
from synth.families.scene_drawing import render as render
from synth.families.scene_world import KINDS, PALETTE, SIZES, Pair
from synth.kernels import shapes
from synth.kernels.fillings import FILLINGS
from synth.kernels.glyphs import LETTERS
from synth.seeds import Stream

LAW = 1  # raised when the golden pixels change

MASKS = True  # pictures have an instance mask, and measurements of their objects
BACKDROPS = ("flat", "gradient", "texture")
SPLITS = ("all", "train", "held_out")
PATTERNS = ("stripes", "dots")
SOLID = ("disc", "square", "triangle", "pentagon", "oval", "heart", "semicircle", "star")  # show patterns

_TRIES = 60  # places of an object
_LAYOUTS = 1000  # of a scene, before its settings are refused
_INSIDE = 0.15  # share of objects that are placed inside another
_TOUCH = 0.75  # least distance of overlapping objects, in sums of radii
_GAP = (1.25, 0.02)  # of objects that do not overlap: sums of radii, and sides of the picture
_FRAME = (0.02, 0.98)  # least and greatest coordinate of an object's box


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
        settings.require_within(self, -1, 1, "turn")
        settings.require_within(self, 1, 10**9, "classes")

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


class Place(NamedTuple):
    """The place of an object, and the numbers of its outline."""

    size: str
    radius: float
    centre: tuple[float, float]
    detail: int
    text: str


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
            and (not config.directed or directed(objects))
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
        place = _placed(config, kind, size, objects, stream)
        if place is None:
            continue

        # A colour unlike the backdrop's and those of its neighbours.
        neighbours = {backdrop} | {o.colour for o in objects if near(place.centre, place.radius, o)}
        free = [colour for colour in config.colours if colour not in neighbours]
        if config.split == "train" and kind in KINDS:
            held = scene_world.held_out(config.held)
            free = [colour for colour in free if Pair(kind, colour) not in held]
        if not free:
            continue
        colour = free[stream.integer(0, len(free) - 1)] if number or kind == "text" else main.colour
        objects.append(_filled(config, kind, colour, backdrop, place, stream))
    return objects, backdrop


def _placed(config: Config, kind: str, size: str, objects: list[SceneObject], stream: Stream) -> Place | None:
    """Returns a free place for an object, or None if none is left."""
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
        if all(o is host or apart(config, centre, radius, o) for o in objects):
            return Place("small", radius, centre, detail, text)

    # A place inside the frame, at a distance from all others.
    radius = stream.uniform(*SIZES[size])
    columns, rows = frame(kind, detail, text, radius)
    for _ in range(_TRIES):
        centre = (stream.uniform(*columns), stream.uniform(*rows))
        if all(apart(config, centre, radius, o) for o in objects):
            return Place(size, radius, centre, detail, text)
    return None


def frame(
    kind: str, detail: int, text: str, radius: float
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Returns the least and greatest column and row of an object's centroid within the frame."""
    left, top, right, bottom = (-1.0, -1.0, 1.0, 1.0) if kind == "fractal" else shapes.box(kind, detail, text)
    least, greatest = _FRAME
    columns = least - left * radius, greatest - right * radius
    return columns, (least - top * radius, greatest - bottom * radius)


def apart(config: Config, centre: tuple[float, float], radius: float, other: SceneObject) -> bool:
    """Returns True if an object keeps the least distance from another."""
    across, down = centre[0] - other.centre[0], centre[1] - other.centre[1]
    reach = radius + other.radius
    least = _TOUCH * reach if config.overlap else _GAP[0] * reach + _GAP[1]
    return across * across + down * down >= least * least


def near(centre: tuple[float, float], radius: float, other: SceneObject) -> bool:
    """Returns True if an object may touch another, so that their colours must differ."""
    across, down = centre[0] - other.centre[0], centre[1] - other.centre[1]
    reach = 1.42 * (radius + other.radius)
    return across * across + down * down < reach * reach


def _filled(
    config: Config, kind: str, colour: str, backdrop: str, place: Place, stream: Stream
) -> SceneObject:
    """Returns an object with its filling, colours and turn."""
    size, radius, centre, detail, text = place
    words = fillings(config, kind, size)
    # The one filling that stands in for none takes no number of the stream.
    filling = words[stream.integer(0, len(words) - 1)] if words[0] in config.fillings else words[0]
    second, second_rgb = "", (0, 0, 0)
    if filling in PATTERNS:
        others = [word for word in config.colours if word not in (colour, backdrop)]
        second = others[stream.integer(0, len(others) - 1)]
        second_rgb = _shaded(config, second, stream)
    rgb, turn = _shaded(config, colour, stream), stream.uniform(*config.turn)
    return SceneObject(
        kind, colour, rgb, size, radius, centre, turn, filling, second, second_rgb, stream.key(), detail, text
    )


def fillings(config: Config, kind: str, size: str) -> list[str]:
    """Returns the fillings that an object may have: those of the settings that it shows, else flat alone."""
    shown = [f for f in config.fillings if f not in PATTERNS or patterned(kind, size)]
    return shown or ["flat"]


def patterned(kind: str, size: str) -> bool:
    """Returns True if an object shows stripes and dots."""
    return kind in SOLID and size != "small"


def _shaded(config: Config, colour: str, stream: Stream) -> tuple[int, int, int]:
    """Returns the levels of a colour word, changed by at most `shade` together."""
    red, green, blue = PALETTE[colour]
    step = stream.integer(-config.shade, config.shade)
    return red + step, green + step, blue + step


def directed(objects: Sequence[SceneObject]) -> bool:
    """Returns True if every two objects lie in a clear direction of each other."""
    return all(scene_world.direction(a.centre, b.centre) for a, b in combinations(objects, 2))


def of_split(config: Config, objects: Sequence[SceneObject], main: SceneObject) -> bool:
    """Returns True if a scene with this main object is of the split."""
    if config.split == "all" or main.kind not in KINDS:
        return True
    pairs = [pair for pair in main_combinations(config) if pair[:2] == (main.kind, main.colour)]
    return any(_belongs(config, pair, objects) for pair in pairs)


def _belongs(config: Config, main: Pair, objects: Sequence[SceneObject]) -> bool:
    """Returns True if a scene is of the split, and shows its main object's relation."""
    if config.split == "all" or not objects:
        return bool(objects)
    shown = set(scene_world.combinations(objects))
    if config.split == "train":
        return not shown & scene_world.held_out(config.held)
    return main in shown
