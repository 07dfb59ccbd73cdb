"""Attribute sentences: from a formula sample's JSON to English that is exactly true, and back.

    sentences(sample)     [short, long]: the subject; all certain facts
    facts(sample)         the certain facts of a sample, by its measured `stats` and its parameters
    state(facts, form)    the sentence, `short` or `long`, that states chosen facts; prompts use it
    parse(sentence)       the facts that a sentence states
    law(family)           the number of the law of a family's sentences
    colour_word(rgb)      the basic colour word of a colour, or None
    FAMILIES, COLOURS, BACKGROUNDS    the values of the facts `family`, `colour` and `background`

Facts (caption/sentences/phrases.py has all values and phrases):

    family                         the kind of picture
    colour, shade, mostly, thin    colour of the drawing, of most of it, or of its sparsest parts
    background, behind, backdrop, contrast    the colour behind, dark or light, clouds, the drawing against it
    count, maps, cut               of fractals: their number, the number of copies in each, black lines
    size, place, cover, shape, edges    the drawing in the frame
    waves, lines, outline, hole    of a contour
    dots                           of a speckled fractal: few or many
    tones, partly                  of noise: its two commonest colours, or the only one with a word
    commonest                      the commonest colour of a shader's picture, if it is no background
    kind, motif, second, bend, finish   of a shader program of exnihilo

Scenes have texts of any length (scene_sentences.py). Their facts here are those of the scene as a whole.

A fact is left out if the evidence is not clear. A colour is stated if mean and mode are clearly of one word
and near each other, and the mean is not much less saturated. Then most pixels are of that word or next to it.
"""

from typing import Any

from caption.sentences import grammar, scene_facts, scene_sentences
from caption.sentences.colour_words import (
    COLOURS,
    clear_word,
    colour_numbers,
    colour_word,
    lightness,
    saturation,
)
from caption.sentences.evidence import LEAST_SEEN, colours, frame, near, word_of
from caption.sentences.grammar import FORMS, Facts, state
from caption.sentences.noise_words import tones
from caption.sentences.phrases import BACKGROUNDS, COUNTS, FAMILIES, MANY
from caption.sentences.shader_words import BENDS, FINISHES, KINDS, MOTIFS
from synth.errors import UserError

__all__ = [
    "BACKGROUNDS",
    "COLOURS",
    "FAMILIES",
    "FORMS",
    "MANY",
    "Facts",
    "colour_numbers",
    "colour_word",
    "facts",
    "law",
    "parse",
    "sentences",
    "state",
]

LAW = 1  # increased when a sample gets other sentences; scenes have a law of their own

Json = dict[str, Any]

_SCENES = "scenes"
_MIXED = 0.45  # saturation of the mean over that of the mode, below which colours are many
_LEAST_COMMON = 0.15  # share of a picture that has the commonest colour, to be named
_CONTRAST = 0.12  # of lightness


def sentences(sample: Json) -> list[str]:
    """Returns the short and the long sentence of a sample.

    The sample's index chooses among equivalent phrases."""
    if sample["family"] == _SCENES:
        return scene_sentences.pair(sample)
    certain = facts(sample)
    return [state(certain, form, choice=_scrambled(2 * sample["index"] + i)) for i, form in enumerate(FORMS)]


def facts(sample: Json) -> Facts:
    """Returns the certain facts of a sample. Raises KeyError if synth did not write its JSON."""
    family, params, stats = sample["family"], sample["params"], sample["stats"]

    # Contours and speckled fractals.
    if family == "visual_atoms":
        return {"family": "contour"} | colours(stats) | frame(stats, sample["size"]) | _contour(params)
    if family == "fractaldb":
        evidence = colours(stats) | _without(frame(stats, sample["size"]), "cover")
        return {"family": "speckled fractal"} | evidence | _dots(stats) | _maps(params)

    # Coloured fractals, one or several.
    if family == "fractals":
        evidence = colours(stats, mixed=_MIXED) | frame(stats, sample["size"]) | _behind(params, stats)
        extras = _maps(params) | _thin(params, stats, evidence) | _cut(params, stats, sample["size"])
        return {"family": "fractal"} | evidence | extras
    if family == "fractal_scenes":
        evidence = colours(stats, mixed=_MIXED) | frame(stats, sample["size"]) | _behind(params, stats)
        return _scene(params["figures"], evidence, stats)

    # Several objects.
    if family == _SCENES:
        return scene_facts.flat(scene_facts.scene_facts(sample))

    # Noise: colours alone.
    if family == "noise":
        return {"family": "noise"} | tones(params)

    # Shaders.
    if family == "shaders":
        return {"family": "shader"} | _shader(stats) | _program(params)
    if family == "imported_shaders":
        return {"family": "shader"} | _shader(stats)
    raise KeyError(f"family {family!r}")


def parse(sentence: str) -> Facts:
    """Returns the facts that a sentence states; of a text on a scene, those of the scene as a whole.

    Raises UserError if no grammar has the sentence."""
    try:
        return grammar.parse(sentence)
    except UserError as error:
        try:
            return scene_facts.flat(scene_sentences.parse(sentence))
        except UserError:
            raise error from None


def law(family: str) -> int:
    """Returns the number of the law of a family's sentences. It is part of the identity of caption tables."""
    return scene_sentences.LAW if family == _SCENES else LAW


def _maps(params: Json) -> Facts:
    count = len(params["maps"])
    return {"maps": count} if 2 <= count <= 16 else {}


def _dots(stats: Json) -> Facts:
    """Returns the fact that dots are few or many, if clear."""
    return {"dots": "few" if stats["fill"] < 0.06 else "many"} if not 0.06 <= stats["fill"] <= 0.24 else {}


def _behind(params: Json, stats: Json) -> Facts:
    """Returns clouds, their commonest colour, and the contrast of the drawing to them."""
    front, back = stats["foreground"], stats["background"]
    if not params["clouds"] or not front["mean"] or not back["mean"]:
        return {}

    # Clouds, with their colour if it is not the background's.
    word = clear_word(back["mode"]) if len(back["mode"]) == 3 else None
    certain: Facts = {"backdrop": f"{word} clouds" if word and word != word_of(back) else "clouds"}

    # Contrast.
    gaps = [lightness(front[key]) - lightness(back[key]) for key in ("mean", "mode")]
    if min(gaps) > _CONTRAST or max(gaps) < -_CONTRAST:
        certain["contrast"] = "lighter" if gaps[0] > 0 else "darker"
    return certain


def _thin(figure: Json, stats: Json, others: Facts) -> Facts:
    """Returns the colour of a fractal's rarest points, if most pixels have it and `others` do not."""
    mean, mode = stats["foreground"]["mean"], stats["foreground"]["mode"]
    if not mode or len(mode) == 1 or saturation(mean) < 0.6 * saturation(mode):
        return {}

    # The colour of the rarest points is the start of the figure's colours.
    start = _rgb(figure["hue"], figure["saturation"], figure["value"], figure["hue_mode"])
    word = clear_word(start)
    likely = word and word == clear_word(mode) and colour_word(mean) in (word, None) and near(start, mode, 25)
    return {"thin": word} if word and likely and word != others.get("colour") else {}


def _rgb(hue: float, saturation: float, value: float, hue_mode: str) -> tuple[float, ...]:
    """Returns RGB levels of hue, saturation and value bytes, as synth paints them."""
    sector = int(hue) * (2 if hue_mode == "byte-wrap" else 360 / 256) / 60
    chroma = value * saturation / 255
    places = ((turn + sector) % 6 for turn in (5, 3, 1))
    return tuple(value - chroma * max(0.0, min(1.0, place, 4 - place)) for place in places)


def _cut(params: Json, stats: Json, size: int) -> Facts:
    """Returns the fact of black lines, if enough of them meet the fractal to be visible."""
    # An estimate of the pixels that the lines cut out.
    pixels = params["lines"] * sum(params["line_length"]) / 2 * stats["fill"] * size
    return {"cut": "lines"} if pixels > 32 else {}


def _contour(params: Json) -> Facts:
    """Returns waves, lines, outline and hole.

    Lengths are pixels of a 512 canvas. Each orbit adds half a sine of each frequency."""
    certain: Facts = {}
    orbits, noise = params["orbits"], params["noise"]
    if orbits < 1:
        return certain

    # Number of lines.
    if orbits <= 20 or 25 <= orbits < 305:
        certain["lines"] = orbits if orbits <= 20 else 10 * ((orbits + 5) // 10)

    # Roughness: the distance of neighbouring vertices in the last orbit.
    rough = 0.33 * noise * orbits**0.5
    if rough < 1 or rough > 16:
        certain["outline"] = "smooth" if rough < 1 else "jagged"

    # Waves. A single wave only moves the ring.
    growth = noise + params["spacing"]
    radius = params["radius"] * sum(params["stretch"]) / 2 + orbits * growth
    frequencies = sorted({n for n in params["frequencies"] if n > 1}, reverse=True)
    high = orbits / 2 > max(0.1 * radius, 2 * rough, 6)
    if frequencies and frequencies[0] <= 20 and params["vertices"] >= 8 * frequencies[0] and high:
        certain["waves"] = " and ".join(map(str, frequencies))

    # Hole: a disc within the innermost orbit and within the frame.
    inner = params["radius"] * min(params["stretch"]) + orbits * min(0, growth - 1)
    empty = inner - 2 * noise * max(1, 2 - growth)
    nearest = min(min(c, 512 - c) for c in params["centre"])
    if empty > 24 and nearest > empty:
        certain["hole"] = "hole"
    return certain


def _scene(figures: list[Json], evidence: Facts, stats: Json) -> Facts:
    """Returns a scene's facts: its count, if no figure hides another, and the colour of most of it.

    `evidence` has the facts of the whole picture."""
    # Share of each figure that a later one covers.
    hidden = [
        max([_covered(a["box"], b["box"]) for b in figures[i + 1 :]], default=0.0)
        for i, a in enumerate(figures)
    ]

    # One visible figure.
    single: Facts = {"family": "fractal"}
    if len(figures) == 1:
        return single | evidence | _maps(figures[0]) | _thin(figures[0], stats, evidence)
    if sum(share < 0.85 for share in hidden) == 1:
        return single | _without(evidence, "colour", "shade")

    # Several figures. A grey or brown average may come from several hues.
    several: Facts = {"family": "fractals"}
    if max(hidden) < 0.65 and len(figures) in COUNTS:
        several["count"] = len(figures)
    if evidence.get("colour", MANY) != MANY:
        if evidence["colour"] not in ("grey", "brown"):
            several["mostly"] = evidence["colour"]
        evidence = _without(evidence, "colour", "shade")

    # They are large together, but not each of them.
    if evidence.get("size") == "large":
        evidence = _without(evidence, "size")
    return several | _without(evidence, "shape")


def _covered(box: list[float], over: list[float]) -> float:
    """Returns the share of a box, within the frame, that another box covers."""
    # The part of the box within the frame, and its overlap.
    left, top, right, bottom = max(0.0, box[0]), max(0.0, box[1]), min(1.0, box[2]), min(1.0, box[3])
    wide, high = min(right, over[2]) - max(left, over[0]), min(bottom, over[3]) - max(top, over[1])
    return max(0.0, wide) * max(0.0, high) / max(1e-9, (right - left) * (bottom - top))


def _shader(stats: Json) -> Facts:
    """Returns the colours of a shader's picture.

    Its foreground is all that differs from its commonest colour."""
    certain, rest = colours(stats), 1 - stats["fill"]

    # The commonest colour is a background only if it fills half of the picture.
    if rest < 0.5:
        certain = _without(certain, "background", "behind")
        word = word_of(stats["background"])
        if word and rest >= _LEAST_COMMON:
            certain["commonest"] = word
    return certain if stats["fill"] >= LEAST_SEEN else _without(certain, "colour", "shade")


def _program(params: Json) -> Facts:
    """Returns the kind of a shader program, and those of its blocks that a picture shows."""
    # Kind and motifs.
    certain: Facts = {"kind": KINDS[params["plan"]]} if params["plan"] in KINDS else {}
    blocks = params["blocks"]
    motifs = dict.fromkeys(MOTIFS[name] for name in blocks if name in MOTIFS)
    certain |= dict(zip(("motif", "second"), motifs, strict=False))

    # The first bend and the first finish.
    for fact, words in (("bend", BENDS), ("finish", FINISHES)):
        for name in reversed(blocks):
            if name in words:
                certain[fact] = words[name]
    return certain


def _without(facts: Facts, *names: str) -> Facts:
    return {name: value for name, value in facts.items() if name not in names}


def _scrambled(number: int) -> int:
    """Returns a 64-bit hash of a whole number: SplitMix64's finaliser."""
    z = (number + 1) * 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & 0xFFFFFFFFFFFFFFFF
    z = (z ^ z >> 27) * 0x94D049BB133111EB & 0xFFFFFFFFFFFFFFFF
    return z ^ z >> 31
