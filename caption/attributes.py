"""DOOR. Attribute sentences: from a formula sample's JSON to English that is exactly true, and back.

    sentences(about)     [short, long]: the subject; everything that is known
    facts(about)         what may be said of a sample, as its measured `stats` and its parameters support it
    state(facts, form)   the sentence, short or long, that states chosen facts: how prompts are made
    parse(sentence)      the facts that a sentence states
    colour_word(rgb)     the basic colour word of a colour, or None
    FAMILIES, COLOURS, BACKGROUNDS   the words of the facts `family`, `colour` and `background`

The facts, whose phrases stand in caption/phrases.py:

    family      FAMILIES: the kind of picture          background  BACKGROUNDS: the colour behind
    colour      COLOURS, or MANY: of what is drawn     shade       dark or light: of that colour
    count       of fractals                            maps        that a fractal is made of
    size, place, cover, shape, edges                   of what is drawn, in the frame
    backdrop    clouds                                 contrast    lighter or darker than what lies behind
    cut         by black lines                         waves, lines, hole   of a contour
    kind, motif, second, bend, finish                  of a shader program

Nothing is said where the evidence is not clear.
"""

from typing import Any

from caption.colour_words import COLOURS, colour_word, lightness
from caption.grammar import FORMS, Facts, parse, state
from caption.phrases import BACKGROUNDS, BENDS, EDGES, FAMILIES, FINISHES, MANY, MOTIFS

__all__ = ["BACKGROUNDS", "COLOURS", "FAMILIES", "FORMS", "MANY", "colour_word", "facts", "parse", "sentences", "state"]

LAW = 1  # raised when a sample gets other sentences

Json = dict[str, Any]

_PLANS = {
    "fields": "texture",
    "cells": "cells",
    "fractals": "self-similar pattern",
    "mirrors": "warped pattern",
    "tilings": "tiling",
    "tunnels": "depth",
    "shapes": "strewn shapes",
    "layers": "layers",
    "solids": "solid",
    "spaces": "endless space",
    "lights": "lights",
    "views": "view",
}
_SHADES = {"red": (0.50, 0.75), "green": (0.55, 0.85), "blue": (0.42, 0.72), "purple": (0.42, 0.65), "grey": (0.45, 0.74)}
_COVERS = (  # from, to, word
    *((0.0, 0.009, "less than a hundredth"), (0.01, 0.048, "less than a twentieth"), (0.05, 0.097, "less than a tenth")),
    *((0.103, 0.2, "more than a tenth"), (0.22, 0.28, "about a quarter"), (0.3, 0.37, "about a third"), (0.45, 0.55, "about half")),
    *((0.57, 0.74, "more than half"), (0.76, 1.0, "more than three quarters")),
)


def sentences(about: Json) -> list[str]:
    """The short and the long sentence of a sample. Which of several phrases is taken follows from the sample's index."""
    known = facts(about)
    return [state(known, form, choice=_mixed(2 * about["index"] + i)) for i, form in enumerate(FORMS)]


def facts(about: Json) -> Facts:
    """What may be said of a sample. Raises KeyError where its JSON is not one that synth writes."""
    family, params, stats = about["family"], about["params"], about["stats"]
    found: Facts = {}
    word = _colour(stats["foreground"])
    if word:
        found["colour"] = word
    behind = _colour(stats["background"])
    if behind:
        found["background"] = behind
    if word in _SHADES:
        _shade(found, word, stats["foreground"])
    if family in ("shaders", "imported_shaders"):
        found["family"] = "shader"
        if family == "shaders":
            _program(found, params)
        return found
    _frame(found, stats, about["size"])
    if family == "visual_atoms":
        found["family"] = "contour"
        _contour(found, params)
    elif family == "fractaldb":
        found["family"] = "speckled fractal"
        found["maps"] = len(params["maps"])
    elif family == "fractals":
        found["family"] = "fractal"
        found["maps"] = len(params["maps"])
        if params["lines"]:
            found["cut"] = "lines"
        _backdrop(found, params, stats)
    elif family == "fractal_scenes":
        _scene(found, params)
        _backdrop(found, params, stats)
    return found


def _colour(side: Json) -> str | None:
    if side["mean"] is None:
        return None
    word = colour_word(side["mean"])
    return word if word and (len(side["mean"]) == 1 or word == colour_word(side["mode"])) else None


def _shade(found: Facts, word: str, side: Json) -> None:
    dark, light = _SHADES[word]
    mean, mode = lightness(side["mean"]), lightness(side["mode"])
    if max(mean, mode) < dark:
        found["shade"] = "dark"
    elif min(mean, mode) > light:
        found["shade"] = "light"


def _frame(found: Facts, stats: Json, size: int) -> None:
    """Size, place, cover, shape and edges of what is drawn."""
    if stats["box"] is None:
        return
    left, top, right, bottom = (edge / size for edge in stats["box"])
    wide, high = right - left, bottom - top
    longer = max(wide, high)
    if longer < 0.38:
        found["size"] = "tiny" if longer < 0.15 else "small"
    elif min(wide, high) > 0.8:
        found["size"] = "large"
    across, down = _side(left, right), _side(top, bottom)
    if across and down:
        found["place"] = _PLACE[down, across]
    for low, high_, word in _COVERS:
        if low <= stats["fill"] < high_:
            found["cover"] = word
    if wide > 1.4 * high or high > 1.4 * wide:
        found["shape"] = "wide" if wide > high else "tall"
    touched = [name for name, is_ in zip(EDGES, (top == 0, bottom == 1, left == 0, right == 1), strict=True) if is_]
    if touched:
        found["edges"] = " and ".join(touched) if len(touched) < 4 else "all"


_PLACE = {
    (1, 1): "upper left",
    (1, 2): "top",
    (1, 3): "upper right",
    (2, 1): "left",
    (2, 2): "centre",
    (2, 3): "right",
    (3, 1): "lower left",
    (3, 2): "bottom",
    (3, 3): "lower right",
}


def _side(low: float, high: float) -> int:
    """1 for the left or upper side, 2 for the middle, 3 for the right or lower side, 0 where that is not clear."""
    middle = (low + high) / 2
    if high < 0.6 and middle < 0.4:
        return 1
    if low > 0.4 and middle > 0.6:
        return 3
    return 2 if 0.42 < middle < 0.58 and low > 0.05 and high < 0.95 else 0


def _contour(found: Facts, params: Json) -> None:
    orbits = params["orbits"]
    rounded = orbits if orbits <= 20 else max(30, round(orbits, -1))
    if 1 <= rounded <= 300 and (orbits <= 20 or orbits >= 25):
        found["lines"] = rounded


def _backdrop(found: Facts, params: Json, stats: Json) -> None:
    if params["clouds"]:
        found["backdrop"] = "clouds"
        gaps = [lightness(stats["foreground"][k]) - lightness(stats["background"][k]) for k in ("mean", "mode")]
        if min(gaps) > 0.12:
            found["contrast"] = "lighter"
        elif max(gaps) < -0.12:
            found["contrast"] = "darker"


def _scene(found: Facts, params: Json) -> None:
    count = len(params["figures"])
    found["family"] = "fractals" if count > 1 else "fractal"
    if count > 1:
        found["count"] = count


def _program(found: Facts, params: Json) -> None:
    if params["plan"] in _PLANS:
        found["kind"] = _PLANS[params["plan"]]
    motifs = list(dict.fromkeys(MOTIFS[b] for b in params["blocks"] if b in MOTIFS))
    for fact, value in zip(("motif", "second"), motifs, strict=False):
        found[fact] = value
    for fact, table in (("bend", BENDS), ("finish", FINISHES)):
        for block in params["blocks"]:
            if block in table:
                found[fact] = table[block]
                break


def _mixed(number: int) -> int:
    """A hash of a whole number, 64 bits (SplitMix64's finaliser)."""
    z = (number * 0x9E3779B97F4A7C15 + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
    z = ((z ^ z >> 30) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
    z = ((z ^ z >> 27) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
    return z ^ z >> 31
