"""DOOR. Attribute sentences: from a formula sample's JSON to English that is exactly true, and back.

    sentences(about)      [short, long]: the subject; everything that is known
    facts(about)          what may be said of a sample, by its measured `stats` and its parameters
    state(facts, form)    the sentence, `short` or `long`, that states chosen facts: how prompts are made
    parse(sentence)       the facts that a sentence states
    colour_word(rgb)      the basic colour word of a colour, or None
    vocabulary(sentences) how rich a set of sentences is
    FAMILIES, COLOURS, BACKGROUNDS    the values of the facts `family`, `colour` and `background`

Facts, of which caption/phrases.py has all values and phrases:

    family                         what kind of picture it is
    colour, shade, mostly, thin    colour of what is drawn; of most of it, where there are several; where fewest points lie
    background, behind, backdrop, contrast    the colour behind, whether it is dark, clouds, what is drawn against it
    count, maps, cut               of fractals: how many, of how many copies of itself each is made, black lines
    size, place, cover, shape, edges    where what is drawn lies in the frame
    waves, lines, outline, hole    of a contour
    dots                           of a speckled fractal: few or many
    commonest                      the commonest colour of a shader's picture, where it is no background
    kind, motif, second, bend, finish   of a program of ours

Nothing is said where the evidence is not clear. A colour is said where mean and mode are clearly of one word, near each other, and the
mean not much less saturated: then most pixels are of that word or next to it.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

from caption.colour_words import COLOURS, clear_word, colour_word, lightness, saturation
from caption.grammar import FORMS, Facts, parse, state
from caption.phrases import BACKGROUNDS, COUNTS, EDGES, FAMILIES, MANY
from caption.shader_words import BENDS, FINISHES, KINDS, MOTIFS

__all__ = [
    "BACKGROUNDS",
    "COLOURS",
    "FAMILIES",
    "FORMS",
    "MANY",
    "Facts",
    "colour_word",
    "facts",
    "parse",
    "sentences",
    "state",
    "vocabulary",
]

LAW = 1  # raised when a sample gets other sentences

Json = dict[str, Any]

_WIDE = ("green", "blue", "purple")  # words of many hues
_EVIDENCE = {True: (50, 0.6), False: (36, 0.75)}  # of a wide word and another: levels of a channel that mean and mode may be apart,
# and the saturation that the mean must have in the mode's: it falls where hues are mixed
_MIXED = 0.45  # the saturation of the mean in the mode's, below which colours are many
_LEAST_COMMON = 0.15  # share of a picture that has the commonest colour, to be named
_LEAST_SEEN = 0.02  # share of a picture that has a colour worth naming
_CONTRAST = 0.12  # of lightness
_SHADES = {  # lightness below which a colour is dark, and above which it is light
    "red": (0.48, 0.69),
    "green": (0.50, 0.85),
    "blue": (0.42, 0.72),
    "purple": (0.42, 0.65),
    "grey": (0.45, 0.74),
}
_COVERS = (  # share of the picture from, to
    (0.0, 0.009, "less than a hundredth"),
    (0.01, 0.048, "less than a twentieth"),
    (0.05, 0.097, "less than a tenth"),
    (0.103, 0.2, "more than a tenth"),
    (0.22, 0.28, "about a quarter"),
    (0.3, 0.37, "about a third"),
    (0.45, 0.55, "about half"),
    (0.57, 0.74, "more than half"),
    (0.76, 1.1, "more than three quarters"),
)
_PLACES = (("upper left", "top", "upper right"), ("left", "centre", "right"), ("lower left", "bottom", "lower right"))


def sentences(about: Json) -> list[str]:
    """The short and the long sentence of a sample. Which of several phrases is taken follows from the sample's index."""
    known = facts(about)
    return [state(known, form, choice=_scrambled(2 * about["index"] + i)) for i, form in enumerate(FORMS)]


def facts(about: Json) -> Facts:
    """What may be said of a sample. Raises KeyError where its JSON is none that synth writes."""
    family, params, stats = about["family"], about["params"], about["stats"]
    if family == "visual_atoms":
        return {"family": "contour"} | _colours(stats) | _frame(stats, about["size"]) | _contour(params)
    if family == "fractaldb":
        found = _colours(stats) | _without(_frame(stats, about["size"]), "cover")
        return {"family": "speckled fractal"} | found | _dots(stats) | _maps(params)
    if family == "fractals":
        found = _colours(stats, mixed=_MIXED) | _frame(stats, about["size"]) | _behind(params, stats)
        return {"family": "fractal"} | found | _maps(params) | _thin(params, stats, found) | _cut(params, stats, about["size"])
    if family == "fractal_scenes":
        found = _colours(stats, mixed=_MIXED) | _frame(stats, about["size"]) | _behind(params, stats)
        return _scene(params["figures"], found, stats)
    if family == "shaders":
        return {"family": "shader"} | _shader(stats) | _program(params)
    if family == "imported_shaders":
        return {"family": "shader"} | _shader(stats)
    raise KeyError(f"family {family!r}")


def vocabulary(sentences: Iterable[str]) -> dict[str, float]:
    """How rich sentences are: their number, that of distinct ones and of distinct words, and distinct-1 and distinct-2, the shares of
    words and of pairs of neighbours that are distinct (Li et al. 2016)."""
    texts = list(sentences)
    words = [text.replace(",", " ").split() for text in texts]
    singles = [word for text in words for word in text]
    pairs = [pair for text in words for pair in pairwise(text)]
    return {
        "sentences": len(texts),
        "distinct_sentences": len(set(texts)),
        "words": len(set(singles)),
        "distinct_1": len(set(singles)) / max(1, len(singles)),
        "distinct_2": len(set(pairs)) / max(1, len(pairs)),
    }


def _colours(stats: Json, mixed: float = 0.0) -> Facts:
    """Colour and shade of what is drawn, and of what lies behind; below the ratio `mixed` of saturations the former is MANY."""
    found: Facts = {}
    front, back = stats["foreground"], stats["background"]
    word, behind = _word(front), _word(back)
    if word and not (mixed and word == "grey" and len(front["mean"]) == 3):  # grey is what coloured pixels may have on average
        found |= {"colour": word} | _shade(front, word, "shade")
    elif mixed and front["mean"] and stats["fill"] >= _LEAST_SEEN:
        pale, strong = saturation(front["mean"]), saturation(front["mode"])
        if strong > 0.3 and pale < mixed * strong:
            found["colour"] = MANY
    if behind and stats["fill"] < 0.95:
        found |= {"background": behind} | _shade(back, behind, "behind")
    return found


def _word(side: Json) -> str | None:
    """The colour word of a side of a picture. Of a grey picture the mean decides: its levels vary in nothing but lightness."""
    mean, mode = side["mean"], side["mode"]
    word = clear_word(mean) if mean else None
    if word is None or len(mean) == 1:
        return word
    most, least = _EVIDENCE[word in _WIDE]
    return word if word == clear_word(mode) and _near(mean, mode, most) and saturation(mean) >= least * saturation(mode) else None


def _near(first: Sequence[float], second: Sequence[float], most: float) -> bool:
    return all(abs(a - b) <= most for a, b in zip(first, second, strict=True))


def _shade(side: Json, word: str, fact: str) -> Facts:
    """Whether a side of a picture is a dark or light one of its colour."""
    if word not in _SHADES:
        return {}
    dark, light = _SHADES[word]
    lights = [lightness(side["mean"]), lightness(side["mode"] if len(side["mode"]) == 3 else side["mean"])]
    if max(lights) < dark or min(lights) > light:
        return {fact: "dark" if lights[0] < dark else "light"}
    return {}


def _frame(stats: Json, size: int) -> Facts:
    """Where what is drawn lies in the frame."""
    found: Facts = {}
    if stats["box"] is None:
        return found
    left, top, right, bottom = (edge / size for edge in stats["box"])
    wide, high = right - left, bottom - top
    if max(wide, high) < 0.38:
        found["size"] = "tiny" if max(wide, high) < 0.15 else "small"
    elif min(wide, high) > 0.8:
        found["size"] = "large"
    across, down = _third(left, right), _third(top, bottom)
    if across is not None and down is not None:
        found["place"] = _PLACES[down][across]
    for least, most, share in _COVERS:
        if least <= stats["fill"] < most:
            found["cover"] = share
    if max(wide, high) > 1.4 * min(wide, high):
        found["shape"] = "wide" if wide > high else "tall"
    touched = [name for name, reached in zip(EDGES, (top == 0, bottom == 1, left == 0, right == 1), strict=True) if reached]
    if touched:
        found["edges"] = " and ".join(touched)
    return found


def _third(low: float, high: float) -> int | None:
    """0 for the left or upper side, 1 for the middle, 2 for the right or lower side, None where it is not clear."""
    middle = (low + high) / 2
    if middle < 0.35 and high < 0.52:
        return 0
    if middle > 0.65 and low > 0.48:
        return 2
    return 1 if abs(middle - 0.5) < 0.07 and high - low < 0.75 else None


def _maps(params: Json) -> Facts:
    count = len(params["maps"])
    return {"maps": count} if 2 <= count <= 16 else {}


def _dots(stats: Json) -> Facts:
    """Whether dots are few or many."""
    return {"dots": "few" if stats["fill"] < 0.06 else "many"} if not 0.06 <= stats["fill"] <= 0.24 else {}


def _behind(params: Json, stats: Json) -> Facts:
    """Clouds, their commonest colour, and whether what is drawn is lighter or darker."""
    found: Facts = {}
    front, back = stats["foreground"], stats["background"]
    if not params["clouds"] or not front["mean"] or not back["mean"]:
        return found
    word = clear_word(back["mode"]) if len(back["mode"]) == 3 else None
    found["backdrop"] = f"{word} clouds" if word and word != _word(back) else "clouds"
    gaps = [lightness(front[key]) - lightness(back[key]) for key in ("mean", "mode")]
    if min(gaps) > _CONTRAST or max(gaps) < -_CONTRAST:
        found["contrast"] = "lighter" if gaps[0] > 0 else "darker"
    return found


def _thin(figure: Json, stats: Json, found: Facts) -> Facts:
    """The colour of a fractal's rarest points, where most pixels bear it and it is not said already."""
    mean, mode = stats["foreground"]["mean"], stats["foreground"]["mode"]
    if not mode or len(mode) == 1 or saturation(mean) < 0.6 * saturation(mode):
        return {}
    start = _rgb(figure["hue"], figure["saturation"], figure["value"], figure["hue_mode"])
    word = clear_word(start)
    likely = word and word == clear_word(mode) and colour_word(mean) in (word, None) and _near(start, mode, 25)
    return {"thin": word} if word and likely and word != found.get("colour") else {}


def _rgb(hue: float, saturation: float, value: float, hue_mode: str) -> tuple[float, ...]:
    """RGB levels of hue, saturation and value bytes, as synth paints them."""
    sector = int(hue) * (2 if hue_mode == "byte-wrap" else 360 / 256) / 60
    chroma = value * saturation / 255
    return tuple(value - chroma * max(0.0, min(1.0, place, 4 - place)) for place in ((turn + sector) % 6 for turn in (5, 3, 1)))


def _cut(params: Json, stats: Json, size: int) -> Facts:
    """Black lines, where so many meet the fractal that some are sure to show."""
    met = params["lines"] * sum(params["line_length"]) / 2 * stats["fill"] * size  # pixels that lines cut out, about
    return {"cut": "lines"} if met > 32 else {}


def _contour(params: Json) -> Facts:
    """Waves, lines, outline and hole. Lengths are pixels of a 512 canvas, in which each orbit adds half a sine of each frequency."""
    found: Facts = {}
    orbits, noise = params["orbits"], params["noise"]
    if orbits <= 20 or 25 <= orbits < 305:
        found["lines"] = orbits if orbits <= 20 else 10 * ((orbits + 5) // 10)
    rough = 0.33 * noise * orbits**0.5  # how far neighbours are apart, in the last orbit
    if rough < 1 or rough > 16:
        found["outline"] = "smooth" if rough < 1 else "jagged"
    growth = noise + params["spacing"]
    radius = params["radius"] * sum(params["stretch"]) / 2 + orbits * growth
    frequencies = sorted({n for n in params["frequencies"] if n}, reverse=True)
    if frequencies and frequencies[0] <= 20 and params["vertices"] >= 8 * frequencies[0] and orbits / 2 > max(0.1 * radius, 2 * rough, 6):
        found["waves"] = " and ".join(map(str, frequencies))
    empty = params["radius"] * min(params["stretch"]) + orbits * min(0, growth - 1) - 2 * noise * max(1, 2 - growth)
    nearest = min(min(c, 512 - c) for c in params["centre"])
    if empty > 24 and nearest > empty:
        found["hole"] = "hole"
    return found


def _scene(figures: list[Json], found: Facts, stats: Json) -> Facts:
    """A scene's count, where no figure hides another, and the colour that most of it has."""
    hidden = [max([_covered(a["box"], b["box"]) for b in figures[i + 1 :]], default=0.0) for i, a in enumerate(figures)]
    single: Facts = {"family": "fractal"}
    if len(figures) == 1:
        return single | found | _maps(figures[0]) | _thin(figures[0], stats, found)
    if sum(share < 0.85 for share in hidden) == 1:
        return single | _without(found, "colour", "shade")
    several: Facts = {"family": "fractals"}
    if max(hidden) < 0.65 and len(figures) in COUNTS:
        several["count"] = len(figures)
    if found.get("colour", MANY) != MANY:
        if found["colour"] not in ("grey", "brown"):  # which several hues have on average
            several["mostly"] = found["colour"]
        found = _without(found, "colour", "shade")
    if found.get("size") == "large":  # together, not each
        found = _without(found, "size")
    return several | _without(found, "shape")


def _covered(box: list[float], over: list[float]) -> float:
    """The share of a box, within the frame, that lies under another."""
    left, top, right, bottom = max(0.0, box[0]), max(0.0, box[1]), min(1.0, box[2]), min(1.0, box[3])
    wide, high = min(right, over[2]) - max(left, over[0]), min(bottom, over[3]) - max(top, over[1])
    return max(0.0, wide) * max(0.0, high) / max(1e-9, (right - left) * (bottom - top))


def _shader(stats: Json) -> Facts:
    """Colours of a shader's picture, whose foreground is what differs from its commonest colour."""
    found, rest = _colours(stats), 1 - stats["fill"]
    if rest < 0.5:
        found = _without(found, "background", "behind")
        word = _word(stats["background"])
        if word and rest >= _LEAST_COMMON:
            found["commonest"] = word
    return found if stats["fill"] >= _LEAST_SEEN else _without(found, "colour", "shade")


def _program(params: Json) -> Facts:
    """What kind of program it is, and which of its blocks can be told from a picture."""
    found: Facts = {"kind": KINDS[params["plan"]]} if params["plan"] in KINDS else {}
    blocks = params["blocks"]
    for fact, motif in zip(("motif", "second"), dict.fromkeys(MOTIFS[name] for name in blocks if name in MOTIFS), strict=False):
        found[fact] = motif
    for fact, words in (("bend", BENDS), ("finish", FINISHES)):
        for name in reversed(blocks):
            if name in words:
                found[fact] = words[name]
    return found


def _without(found: Facts, *names: str) -> Facts:
    return {name: value for name, value in found.items() if name not in names}


def _scrambled(number: int) -> int:
    """A hash of a whole number, 64 bits: SplitMix64's finaliser."""
    z = (number + 1) * 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & 0xFFFFFFFFFFFFFFFF
    z = (z ^ z >> 27) * 0x94D049BB133111EB & 0xFFFFFFFFFFFFFFFF
    return z ^ z >> 31
