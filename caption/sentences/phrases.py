"""The table of the grammar: the values of each fact, and the phrases that state each value.

A slot is a place in the sentence for one fact. Slots are in the order of the sentence. The first phrase of a
value is the plain one.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations

from caption.sentences.colour_words import COLOURS
from caption.sentences.shader_words import BENDS, FINISHES, MOTIFS

Value = str | int

MANY = "multicoloured"
BACKGROUNDS = COLOURS
COUNTS = range(2, 17)  # of fractals; the sentence begins with the count
EDGES = ("top", "bottom", "left", "right")

_NUMBERS = (
    *("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen"),
    *("nineteen", "twenty"),
)
_KINDS: dict[Value, tuple[str, ...]] = {
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
_PLACES: dict[Value, tuple[str, ...]] = {
    "centre": ("in the middle", "in the centre"),
    "left": ("on the left", "at the left"),
    "right": ("on the right", "at the right"),
    "top": ("at the top", "in the upper part"),
    "bottom": ("at the bottom", "in the lower part"),
    "upper left": ("in the upper left", "at the upper left"),
    "upper right": ("in the upper right", "at the upper right"),
    "lower left": ("in the lower left", "at the lower left"),
    "lower right": ("in the lower right", "at the lower right"),
}
_COVERS = (
    *("less than a hundredth", "less than a twentieth", "less than a tenth", "more than a tenth"),
    *("about a quarter", "about a third", "about half", "more than half", "more than three quarters"),
)
_NOUNS: dict[Value, tuple[str, ...]] = {
    "contour": ("contour", "contour picture", "contour drawing"),
    "fractal": ("fractal", "fractal figure"),
    "fractals": ("fractals", "fractal figures"),
    "speckled fractal": ("speckled fractal", "grainy fractal", "dotted fractal"),
    "noise": ("noise picture", "noise image", "picture of noise"),
    "shader": ("shader picture", "shader image"),
    "scene": ("scene of shapes", "picture of shapes"),
}
FAMILIES = tuple(map(str, _NOUNS))
_CONTRASTS: dict[Value, tuple[str, ...]] = {
    "lighter": ("lighter than what lies behind", "brighter than the surroundings"),
    "darker": ("darker than what lies behind", "dimmer than the surroundings"),
}


@dataclass(frozen=True, eq=False)
class Slot:
    """A place in the sentence for one fact."""

    fact: str
    glue: str  # between the phrase and the text before it
    phrases: Mapping[Value, tuple[str, ...]]  # by value; the first is the plain one
    short: bool = False  # True: the slot is in both forms


def number(count: int) -> str:
    """Returns a whole number, as a word up to twenty."""
    return _NUMBERS[count] if count < len(_NUMBERS) else str(count)


def article(text: str) -> str:
    """Returns the indefinite article before a text."""
    return "an" if text[0] in "aeiou" else "a"


def _each(values: Iterable[str], *templates: str) -> dict[Value, tuple[str, ...]]:
    return {v: tuple(t.format(v, a=article(v)) for t in templates) for v in values}


def _named(names: Mapping[str, str], *templates: str) -> dict[Value, tuple[str, ...]]:
    return {v: tuple(t.format(v) for t in templates) for v in names.values()}


def _counted(counts: Iterable[int], *templates: str) -> dict[Value, tuple[str, ...]]:
    return {n: tuple(t.format(number(n), s="" if n == 1 else "s") for t in templates) for n in counts}


def _waves() -> dict[Value, tuple[str, ...]]:
    pairs = {f"{m} and {n}": f"{number(m)} and {number(n)} waves" for m in range(3, 21) for n in range(2, m)}
    single = {str(n): f"{number(n)} waves" for n in range(2, 21)}
    return {v: (f"of {p}", f"with {p}") for v, p in {**single, **pairs}.items()}


def _edges() -> dict[Value, tuple[str, ...]]:
    texts = {" and ".join(EDGES): "all four edges"}

    # Every other subset of the edges, by the bits of a number.
    for bits in range(1, 15):
        *names, last = [name for i, name in enumerate(EDGES) if bits >> i & 1]
        text = f"the {', '.join(names)} and {last} edges" if names else f"the {last} edge"
        texts[" and ".join([*names, last])] = text
    return {v: (f"touching {t}", f"reaching {t}") for v, t in texts.items()}


def _backdrops() -> dict[Value, tuple[str, ...]]:
    names = ["clouds", *(f"{word} clouds" for word in COLOURS)]
    return {name: (f"with {name} behind", f"in front of {name}", f"before {name}") for name in names}


def _tones() -> dict[Value, tuple[str, ...]]:
    pairs = [f"{first} and {second}" for first, second in combinations(COLOURS, 2)]
    return _each(pairs, "in {}", "that mixes {}", "with {} in it")


def _lines() -> dict[Value, tuple[str, ...]]:
    # Exact numbers up to twenty, tens above.
    few = _counted(range(1, 21), "drawn in {} line{s}", "made of {} closed line{s}", "traced in {} line{s}")
    tens = ("drawn in about {} lines", "made of about {} closed lines", "traced in about {} lines")
    return few | _counted(range(30, 310, 10), *tens)


def _colours() -> dict[Value, tuple[str, ...]]:
    return {**_each(COLOURS, "{}"), "grey": ("grey", "gray"), MANY: (MANY, "many-coloured", "colourful")}


_BACKGROUNDS = _each(BACKGROUNDS, "on {a} {} background", "on {}", "against {a} {} background", "against {}")
_SHADES: dict[Value, tuple[str, ...]] = {
    "dark": ("the background dark", "the background dim"),
    "light": ("the background light", "the background pale"),
}
_MOSTLY = _each(COLOURS, "the figures mostly {}", "the figures {} for the most part")
_SHARES = _each(_COVERS, "covering {} of the picture", "filling {} of the frame", "taking up {} of the image")
_DOTS: dict[Value, tuple[str, ...]] = {
    "few": ("with few dots", "thinly strewn"),
    "many": ("with many dots", "thickly strewn"),
}
_SHAPES: dict[Value, tuple[str, ...]] = {
    "wide": ("wider than tall", "broader than high"),
    "tall": ("taller than wide", "higher than broad"),
}
_COPIES = ("made of {} copies of itself", "built from {} copies of itself", "a union of {} images of itself")

SLOTS = (
    Slot("size", " ", {"tiny": ("tiny",), "small": ("small", "little"), "large": ("large", "big")}),
    Slot("outline", " ", {"smooth": ("smooth", "clean"), "jagged": ("jagged", "ragged")}),
    Slot("shade", " ", {"dark": ("dark",), "light": ("light", "pale")}),
    Slot("colour", " ", _colours(), short=True),
    Slot("family", " ", _NOUNS, short=True),
    Slot("kind", " ", _KINDS, short=True),
    Slot("tones", " ", _tones(), short=True),
    Slot("waves", " ", _waves()),
    Slot("place", " ", _PLACES),
    Slot("background", " ", _BACKGROUNDS, short=True),
    Slot("behind", ", ", _SHADES),
    Slot("commonest", ", ", _each(COLOURS, "its commonest colour {}", "with {} as its commonest colour")),
    Slot("partly", ", ", _each(COLOURS, "partly {}", "{} in parts"), short=True),
    Slot("mostly", ", ", _MOSTLY, short=True),
    Slot("thin", ", ", _each(COLOURS, "its sparsest parts {}", "its thinnest parts {}")),
    Slot("backdrop", ", ", _backdrops()),
    Slot("contrast", ", ", _CONTRASTS),
    Slot("cut", ", ", {"lines": ("cut by black lines", "crossed by black lines")}),
    Slot("cover", ", ", _SHARES),
    Slot("dots", ", ", _DOTS),
    Slot("shape", ", ", _SHAPES),
    Slot("edges", ", ", _edges()),
    Slot("hole", ", ", {"hole": ("round an empty hole", "with an empty hole in it")}),
    Slot("lines", ", ", _lines()),
    Slot("maps", ", ", _counted(range(2, 17), *_COPIES)),
    Slot("motif", ", ", _named(MOTIFS, "made from {}", "composed of {}", "built from {}")),
    Slot("second", " and ", _named(MOTIFS, "{}")),
    Slot("bend", ", ", _named(BENDS, "{}")),
    Slot("finish", ", ", _named(FINISHES, "{}")),
)
