"""The phrases of scenes: for each fact, its values and the words that state each value.

A phrase has one of four forms, which decide its places in a text:

    BEFORE   an adjective     a small star               the star is small
    AFTER    a complement     a star in the upper left   the star is in the upper left
    IS       a predicate                                 the star is small in size
    WITH     a part           a star with five points    the star has five points

The words of a text are stated by a verb: a label that reads "AB3", the label reads "AB3".

The first phrase of a value is the plain one. No phrase stands for two values, so reading inverts writing.
"""

import re
from collections.abc import Iterable
from functools import cache
from typing import NamedTuple

from caption.sentences.phrases import article, number
from caption.sentences.scene_facts import TYPES
from synth.errors import UserError
from synth.families.scene_world import PALETTE, SIZES

Value = str | int
Stated = tuple[tuple[str, Value], ...]  # types and values of an object's facts

BEFORE, AFTER, IS, WITH = "before", "after", "is", "with"
NOUNS: dict[str, tuple[str, ...]] = {
    "disc": ("disc", "circle", "disk", "disc shape", "round disc"),
    "square": ("square", "box", "square shape", "square block", "square figure"),
    "triangle": ("triangle", "triangular shape", "three-sided shape", "triangle shape", "triangle figure"),
    "star": ("star", "star shape", "star figure", "star symbol", "star form"),
    "ring": ("ring", "hoop", "round band", "circular band", "ring shape"),
    "cross": ("cross", "plus sign", "cross shape", "plus shape", "plus symbol"),
    "pentagon": ("pentagon", "five-sided shape", "pentagonal shape", "five-sided polygon", "pentagon shape"),
    "oval": ("oval", "ellipse", "oval shape", "elliptical shape", "oval disc"),
    "crescent": ("crescent", "crescent moon", "crescent shape", "sickle", "moon shape"),
    "heart": ("heart", "heart shape", "love heart", "heart symbol", "heart figure"),
    "semicircle": ("semicircle", "half circle", "half disc", "semicircular shape", "half disk"),
    "arrow": ("arrow", "arrow shape", "arrow sign", "arrow symbol", "arrow figure"),
    "wave": ("wavy ring", "rippled ring", "wavy hoop", "wavy band", "ring of waves"),
    "fractal": (
        "fractal shape",
        "fractal object",
        "fractal form",
        "self-similar shape",
        "fractal silhouette",
    ),
    "text": ("text", "label", "inscription", "piece of text", "piece of writing"),
}
UNNAMED = ("shape", "object", "figure", "form", "item")  # nouns of an object without a stated kind
ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth")
TEXT_VERBS = ("reads", "says", "spells")
TEXT_FORMS = ("that reads", "reading", "that says", "saying", "spelling")

RELATIONS = {
    "left of": ("left of", "to the left of", "on the left of", "on the left side of", "further left than"),
    "right of": (
        "right of",
        "to the right of",
        "on the right of",
        "on the right side of",
        "further right than",
    ),
    "above": ("above", "higher than", "higher up than", "further up than", "somewhere above"),
    "below": ("below", "lower than", "lower down than", "further down than", "somewhere below"),
    "in front of": ("in front of", "partly covering", "partly hiding", "covering part of", "hiding part of"),
    "behind": ("behind", "partly behind", "partly covered by", "partly hidden by", "partly hidden behind"),
    "inside": ("inside", "within", "enclosed by", "surrounded by", "contained in"),
    "around": ("around", "enclosing", "surrounding"),  # inside, from the other object
    "larger than": (
        "larger than",
        "bigger than",
        "larger in size than",
        "bigger in size than",
        "of larger size than",
    ),
    "smaller than": (
        *("smaller than", "smaller in size than", "of smaller size than", "not as large as"),
        *("not as big as", "less large than"),
    ),
    "same colour as": (
        *("of the same colour as", "the same colour as", "coloured like", "in the same colour as"),
        "equal in colour to",
    ),
}
SAME_COLOUR = ("have the same colour", "share a colour", "are of one colour", "are of the same colour")

BACKGROUNDS = ("background", "backdrop", "ground")
TEXTURES = {
    "gradient": ("shaded", "softly shaded", "gently shaded", "faintly shaded", "graded"),
    "texture": ("mottled", "faintly mottled", "blotchy", "cloudy", "textured"),
}
# {x} is a colour, a texture or both, {a} its article.
ON_COLOUR = ("on {x}", "against {x}", "over {x}")
ON_BACKGROUND = (
    *("on {a} {x} background", "against {a} {x} background", "over {a} {x} backdrop"),
    *("with {a} {x} background", "in front of {a} {x} backdrop", "on {a} {x} ground"),
)
BACKGROUND_IS = ("the background is {x}", "the backdrop is {x}", "behind it all is {a} {x} ground")
COUNTED = (
    *("there are {things}", "the picture shows {things}", "there are {things} in all"),
    *("the picture has {things}", "{things} can be seen"),
)
COUNTED_ONE = (
    *("there is one {thing}", "there is only one {thing}", "the picture shows one {thing}"),
    *("there is just one {thing}", "the picture has a single {thing}"),
)
_PLACES: dict[str, tuple[str, ...]] = {
    "centre": ("in the centre", "in the middle", "at the centre", "in the middle of the picture"),
    "left": ("on the left", "at the left", "on the left side", "on the left-hand side"),
    "right": ("on the right", "at the right", "on the right side", "on the right-hand side"),
    "top": ("at the top", "in the upper part", "in the top part", "near the top"),
    "bottom": ("at the bottom", "in the lower part", "in the bottom part", "near the bottom"),
}
_PLACES |= {
    f"{row} {side}": (
        f"in the {row} {side}",
        f"at the {row} {side}",
        f"in the {other} {side}",
        f"at the {other} {side}",
    )
    for row, other in (("upper", "top"), ("lower", "bottom"))
    for side in ("left", "right")
}
_PLACES = {
    place: (*phrases, f"in the {place} of the frame" if " " in place else f"towards the {place}")
    for place, phrases in _PLACES.items()
}
_SIZES = {"small": ("small", "little"), "medium": ("medium-sized", "middle-sized"), "large": ("large", "big")}
_FILLINGS = {
    "gradient": (("shaded", "softly shaded"), ("filled with a gradient",), ("a gradient", "soft shading")),
    "texture": (("textured", "mottled"), ("filled with a texture",), ("a texture", "a mottled surface")),
    "stripes": (("striped", "stripy"), ("covered in stripes",), ("stripes", "a pattern of stripes")),
    "dots": (("dotted", "spotted"), ("covered in dots",), ("dots", "a pattern of dots")),
}
_PATTERNS = {"stripes": (("striped",), ("stripes",)), "dots": (("dotted", "spotted"), ("dots", "spots"))}


class Phrase(NamedTuple):
    """Words that state facts of an object."""

    form: str  # BEFORE, AFTER, IS or WITH
    words: str


def _all(
    before: tuple[str, ...],
    after: tuple[str, ...] = (),
    parts: tuple[str, ...] = (),
    predicates: tuple[str, ...] = (),
) -> tuple[Phrase, ...]:
    forms = ((BEFORE, before), (AFTER, after), (WITH, parts), (IS, predicates))
    return tuple(Phrase(form, words) for form, phrases in forms for words in phrases)


def _phrases() -> dict[Stated, tuple[Phrase, ...]]:
    table: dict[Stated, tuple[Phrase, ...]] = {}
    for size in SIZES:
        table[("size", size),] = _all(
            _SIZES[size], (f"of {size} size",), (), (f"{size} in size", f"{size} in extent")
        )
    for place, phrases in _PLACES.items():
        table[("place", place),] = _all((), phrases)
    for filling, (before, after, parts) in _FILLINGS.items():
        table[("filling", filling),] = _all(before, after, parts)
    for points in range(3, 13):
        n = number(points)
        tips: tuple[str, ...] = (f"{n} points", f"{n} tips", f"{n} spikes", f"{n} arms")
        table[("points", points),] = _all((f"{n}-pointed", f"{n}-point"), (), tips)

    # Colours, and patterns of a second colour.
    for colour in PALETTE:
        words = (colour, "gray") if colour == "grey" else (colour,)
        coloured = (f"in {colour}", f"of {colour} colour")
        table[("colour", colour),] = _all(
            (*words, f"{colour}-coloured"), coloured, (), (f"{colour} in colour",)
        )
        marks = (f"{article(colour)} {colour} pattern", f"a pattern in {colour}", f"{colour} in its pattern")
        table[("second", colour),] = _all((f"{colour}-patterned",), (f"patterned in {colour}",), marks)
        for filling, (adjectives, nouns) in _PATTERNS.items():
            table[("filling", filling), ("second", colour)] = _all(
                tuple(f"{colour}-{word}" for word in adjectives),
                (f"{adjectives[0]} in {colour}", f"covered in {colour} {nouns[0]}"),
                (*(f"{colour} {noun}" for noun in nouns), f"{nouns[0]} of {colour}"),
            )
    return table


PHRASES = _phrases()


def plural(noun: str) -> str:
    """Returns the plural of a noun of these tables."""
    head, of, rest = noun.partition(" of ")
    return head + ("es" if head.endswith(("s", "x")) else "s") + of + rest


def background(colour: str, texture: str, template: str) -> str:
    """Returns words on the backdrop: its colour, its texture's word, or both."""
    x = f"{texture} {colour}".strip()
    return template.format(x=x, a=article(x))


def unnamed(count: int, noun: str) -> str:
    """Returns a number of objects."""
    return f"one {noun}" if count == 1 else f"{number(count)} {plural(noun)}"


@cache
def require_phrase(name: str, value: Value) -> None:
    """Raises UserError if a type of fact is unknown, or its value has no phrase."""
    if name not in TYPES:
        raise UserError(f"unknown fact {name!r}; facts of scenes are {', '.join(TYPES)}")
    tables: dict[str, Iterable[Value]] = {
        "kind": NOUNS,
        "backdrop": PALETTE,
        "texture": TEXTURES,
        "count": range(1, len(ORDINALS) + 1),
        "relation": [relation for relation in RELATIONS if relation != "around"],
    }
    values = tables.get(name, [known for ((first, known), *more) in PHRASES if first == name and not more])
    if name == "text" and not re.fullmatch("[A-Z0-9]+", str(value)):
        raise UserError(f"text cannot be {value!r}; it must be capital letters and digits")
    if name != "text" and value not in values:
        raise UserError(f"{name} cannot be {value!r}; it may be {', '.join(map(str, values))}")
