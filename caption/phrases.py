"""The table of the grammar: for each fact the values that it can take, and for each value the phrases that state it.

A slot is a place in the sentence for one fact; slots stand in the order of the sentence. The first phrase of a value is the plain one.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from caption.colour_words import COLOURS

Value = str | int

MANY = "multicoloured"
FAMILIES = ("contour", "fractal", "fractals", "speckled fractal", "shader")
BACKGROUNDS = COLOURS
COUNTS = range(2, 17)  # of fractals that are counted; the sentence begins with it
EDGES = ("top", "bottom", "left", "right")

_NUMBERS = (
    *("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen"),
    *("fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty"),
)
_KINDS = {
    "texture": ("of a texture", "of a pattern"),
    "cells": ("of cells", "of a cellular pattern"),
    "self-similar pattern": ("of a self-similar pattern", "of a pattern within patterns"),
    "warped pattern": ("of a warped pattern", "of a bent pattern"),
    "tiling": ("of a tiling", "of tiles"),
    "depth": ("of a view into the depth", "of a space that recedes"),
    "strewn shapes": ("of strewn shapes", "of scattered shapes"),
    "layers": ("of two layers", "of one picture within another"),
    "solid": ("of a solid form", "of something solid"),
    "endless space": ("of an endless space", "of a space without end"),
    "lights": ("of lights", "of glowing lights"),
    "view": ("of a view", "of scenery"),
}
_MOTIFS = {  # by block of a shader program
    "round_tunnel": "a round tunnel",
    "square_tunnel": "a square shaft",
    "whirlpool": "a whirlpool",
    "hall": "a floor and a ceiling",
    "soft_clouds": "soft clouds",
    "smoke": "smoke",
    "blotches": "blotches",
    "ridges": "ridges",
    "stirred": "stirred clouds",
    "marble": "marble",
    "wood": "tree rings",
    "crystal": "a quasicrystal",
    "stones": "circular waves",
    "plasma": "plasma",
    "chequers": "chequers",
    "arms": "spiral arms",
    "truchet": "joined quarter circles",
    "maze": "a maze",
    "caustics": "caustics",
    "moire": "a moire",
    "labyrinth": "a labyrinth",
    "weave": "woven threads",
    "dunes": "dunes",
    "veins": "veins",
    "contours": "level lines",
    "banners": "waving bands",
    "cell_distance": "round cells",
    "cell_walls": "cell walls",
    "cell_numbers": "flat cells",
    "tissue": "tissue",
    "bubbles": "bubbles",
    "cracks": "cracked mud",
    "pebbles": "pebbles",
    "pulses": "beating cells",
    "rosettes": "leopard spots",
    "fish_scales": "fish scales",
    "mandelbrot": "a Mandelbrot set",
    "julia": "a Julia set",
    "ship": "a burning ship",
    "newton": "basins of Newton's method",
    "orbit_trap": "orbit traps",
    "web": "a glowing web",
    "gasket": "circles in circles",
    "carpet": "a carpet of squares",
    "frost": "frost",
    "tide": "fed-back sines",
    "squares": "squares",
    "bricks": "bricks",
    "hexagons": "hexagons",
    "triangles": "triangles",
    "sectors": "sectors of rings",
    "quarters": "quartered squares",
    "lozenges": "lozenges",
    "patches": "patches",
    "disc": "discs",
    "ring": "rings",
    "slab": "slabs",
    "polygon": "polygons",
    "star": "stars",
    "flower": "flowers",
    "cross_": "crosses",
    "moon": "crescent moons",
    "heart": "hearts",
    "cog": "cogwheels",
    "drop": "drops",
    "eye": "eyes",
    "worm": "worms",
    "ball": "a ball",
    "box": "a box",
    "torus": "a torus",
    "rings": "nested rings",
    "drops": "quicksilver",
    "gyroid": "a gyroid",
    "schwarz": "a Schwarz surface",
    "sponge": "a sponge",
    "column": "a fluted column",
    "crystal_": "a caged crystal",
    "helix": "a spiral shell",
    "lattice": "a lattice of balls and bars",
    "town": "a town of towers",
    "hills": "hills",
    "swell": "a swell at sea",
    "garden": "pillars and cones",
    "cave": "a cave",
    "bulwark": "folded boxes",
    "sparks": "sparks",
    "strings": "swinging strings",
    "stars": "a starry sky",
    "beams": "beams of light",
    "aurora": "northern lights",
    "lissajous": "Lissajous curves",
    "fireworks": "fireworks",
    "mountains": "mountains",
    "skyline": "a skyline at night",
    "planet": "a planet with a ring",
    "sea_sunset": "the sun over a sea",
    "meadow": "a meadow",
}
_BENDS = {
    "kaleidoscope": "mirrored in a kaleidoscope",
    "log_polar": "wound into rings and spokes",
    "swirl": "stirred by a whirl",
    "spiral": "wound into a spiral",
    "ripple": "rippled",
    "sine_bend": "bent by sines",
    "noise_bend": "bent by noise",
    "moebius": "bent by a Moebius map",
    "inversion": "turned inside out",
    "folds": "folded like paper",
    "mirror_tiles": "mirrored in tiles",
    "honeycomb": "mirrored in a honeycomb",
    "mosaic": "set in a mosaic",
    "lens": "seen through a lens",
    "power": "raised to a complex power",
    "complex_sine": "bent by a complex sine",
    "splinters": "broken into splinters",
    "strips": "cut into strips",
    "roll": "rolled on a cylinder",
}
_FINISHES = {
    "vignette": "with darker corners",
    "scan_lines": "with scan lines",
    "posterise": "in few levels",
    "halftone": "printed in dots",
    "solarise": "solarised",
    "veil": "under a veil",
}
_PLACES = {
    "centre": ("in the middle", "in the centre"),
    "left": ("on the left", "at the left"),
    "right": ("on the right", "at the right"),
    "top": ("at the top", "in the upper part"),
    "bottom": ("at the bottom", "in the lower part"),
    **{
        f"{v} {h}": (f"in the {v} {h}", f"in the {w} {h} corner")
        for v, w in (("upper", "upper"), ("lower", "lower"))
        for h in ("left", "right")
    },
}
_COVERS = (
    *("less than a hundredth", "less than a twentieth", "less than a tenth", "more than a tenth", "about a quarter", "about a third"),
    *("about half", "more than half", "more than three quarters"),
)


@dataclass(frozen=True, eq=False)
class Slot:
    """A place in the sentence for one fact."""

    fact: str
    glue: str  # between it and what stands before
    phrases: Mapping[Value, tuple[str, ...]]  # by value; the first is the plain one
    short: bool = False  # whether the short form has it, too


def number(count: int) -> str:
    """A whole number, as a word up to twenty."""
    return _NUMBERS[count] if count < len(_NUMBERS) else str(count)


def article(text: str) -> str:
    """The indefinite article before a text."""
    return "an" if text[0] in "aeiou" else "a"


def _each(values: Iterable[str], *templates: str) -> dict[Value, tuple[str, ...]]:
    return {v: tuple(t.format(v, a=article(v)) for t in templates) for v in values}


def _named(names: Mapping[str, str], *templates: str) -> dict[Value, tuple[str, ...]]:
    return {v: tuple(t.format(v) for t in templates) for v in names.values()}


def _counted(counts: Iterable[int], *templates: str) -> dict[Value, tuple[str, ...]]:
    return {n: tuple(t.format(number(n), s="" if n == 1 else "s") for t in templates) for n in counts}


def _waves() -> dict[Value, tuple[str, ...]]:
    pairs = {f"{m} and {n}": f"{number(m)} and {number(n)} waves" for m in range(2, 21) for n in range(1, m)}
    single = {str(n): f"{number(n)} wave{'s' if n > 1 else ''}" for n in range(1, 21)}
    return {v: (f"of {p}", f"with {p}") for v, p in {**single, **pairs}.items()}


def _edges() -> dict[Value, tuple[str, ...]]:
    texts = {}
    for bits in range(1, 15):
        names = [name for i, name in enumerate(EDGES) if bits >> i & 1]
        texts[" and ".join(names)] = f"the {' and '.join(names)} edge{'s' if len(names) > 1 else ''}"
    return {v: (f"touching {t}", f"reaching {t}") for v, t in texts.items()} | {
        "all": ("touching all four edges", "reaching all four edges")
    }


SLOTS = (
    Slot("size", " ", {"tiny": ("tiny",), "small": ("small", "little"), "large": ("large", "big")}),
    Slot("shade", " ", {"dark": ("dark", "deep"), "light": ("light", "pale")}),
    Slot(
        "colour", " ", {**_each(COLOURS, "{}"), "grey": ("grey", "gray"), MANY: ("multicoloured", "many-coloured", "colourful")}, short=True
    ),
    Slot(
        "family",
        " ",
        {
            "contour": ("contour", "contour picture", "contour drawing"),
            "fractal": ("fractal", "fractal figure"),
            "fractals": ("fractals", "fractal figures"),
            "speckled fractal": ("speckled fractal", "grainy fractal", "dotted fractal"),
            "shader": ("shader picture", "shader image"),
        },
        short=True,
    ),
    Slot("kind", " ", {v: p for v, p in _KINDS.items()}, short=True),
    Slot("waves", " ", _waves()),
    Slot("place", " ", {v: p for v, p in _PLACES.items()}),
    Slot("background", " ", _each(BACKGROUNDS, "on {a} {} background", "on {}", "against {a} {} background", "against {}"), short=True),
    Slot("backdrop", ", ", {"clouds": ("in front of clouds", "before clouds")}),
    Slot("contrast", ", ", {"lighter": ("lighter than what lies behind",), "darker": ("darker than what lies behind",)}),
    Slot("cover", ", ", _each(_COVERS, "covering {} of the picture", "filling {} of the frame")),
    Slot("shape", ", ", {"wide": ("wider than tall",), "tall": ("taller than wide",)}),
    Slot("edges", ", ", _edges()),
    Slot("maps", ", ", _counted(range(2, 17), "made of {} copies of itself", "the union of {} images of itself")),
    Slot(
        "lines",
        ", ",
        {
            **_counted(range(1, 21), "drawn in {} line{s}", "made of {} closed line{s}"),
            **_counted(range(30, 310, 10), "drawn in about {} lines", "made of about {} closed lines"),
        },
    ),
    Slot("hole", ", ", {"hole": ("round an empty hole", "with an empty hole in it")}),
    Slot("motif", ", ", _named(_MOTIFS, "made from {}", "composed of {}")),
    Slot("second", " and ", _named(_MOTIFS, "{}")),
    Slot("bend", ", ", _named(_BENDS, "{}")),
    Slot("finish", ", ", _named(_FINISHES, "{}")),
    Slot("cut", ", ", {"lines": ("cut by black lines", "crossed by black lines")}),
)
MOTIFS, BENDS, FINISHES = _MOTIFS, _BENDS, _FINISHES
