"""Facts that follow with certainty from a picture's measured `stats`: colours, and place in the frame."""

from collections.abc import Sequence
from typing import Any

from caption.sentences.colour_words import clear_word, lightness, saturation
from caption.sentences.grammar import Facts
from caption.sentences.phrases import EDGES, MANY

Json = dict[str, Any]

LEAST_SEEN = 0.02  # share of a picture that has a colour worth naming
# By word: the largest distance of mean and mode in a channel, and the least saturation of the mean over that
# of the mode. Mixed hues lower the mean's saturation, so words of many hues need less of it. Greys have
# almost none, but mixed hues are grey on average.
_EVIDENCE = {
    **dict.fromkeys(("green", "blue", "purple"), (50, 0.6)),
    **dict.fromkeys(("black", "white"), (36, 0.0)),
    "grey": (20, 0.0),
}
_NARROW = (36, 0.75)  # of all other words
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
_PLACES = (
    ("upper left", "top", "upper right"),
    ("left", "centre", "right"),
    ("lower left", "bottom", "lower right"),
)


def colours(stats: Json, mixed: float = 0.0) -> Facts:
    """Returns colour and shade of the drawing and of the background.

    The colour is MANY if the ratio of saturations is below `mixed`."""
    facts: Facts = {}
    front, back = stats["foreground"], stats["background"]
    word, behind = word_of(front), word_of(back)

    # The drawing. Pixels of many hues may be grey on average.
    average = mixed and word == "grey" and len(front["mean"]) == 3
    if word and not average:
        facts |= {"colour": word} | _shade(front, word, "shade")
    elif mixed and front["mean"] and stats["fill"] >= LEAST_SEEN:
        pale, strong = saturation(front["mean"]), saturation(front["mode"])
        if strong > 0.3 and pale < mixed * strong:
            facts["colour"] = MANY

    # The background.
    if behind and stats["fill"] < 0.95:
        facts |= {"background": behind} | _shade(back, behind, "behind")
    return facts


def word_of(side: Json) -> str | None:
    """Returns the colour word of a side of a picture.

    The mean decides for a grey picture, because its levels vary in lightness alone."""
    mean, mode = side["mean"], side["mode"]
    word = clear_word(mean) if mean else None
    if word is None or len(mean) == 1:
        return word

    # Mean and mode agree.
    most, least = _EVIDENCE.get(word, _NARROW)
    same = word == clear_word(mode) and near(mean, mode, most)
    return word if same and saturation(mean) >= least * saturation(mode) else None


def near(first: Sequence[float], second: Sequence[float], most: float) -> bool:
    """Returns True if no channel of two colours differs by more than `most`."""
    return all(abs(a - b) <= most for a, b in zip(first, second, strict=True))


def _shade(side: Json, word: str, fact: str) -> Facts:
    """Returns the fact that a side of a picture has a dark or light tone of its colour, if clear."""
    if word not in _SHADES:
        return {}

    # Mean and mode agree. A grey mode has the mean's hue.
    dark, light = _SHADES[word]
    lights = [lightness(side["mean"]), lightness(side["mode"] if len(side["mode"]) == 3 else side["mean"])]
    if max(lights) < dark or min(lights) > light:
        return {fact: "dark" if lights[0] < dark else "light"}
    return {}


def frame(stats: Json, size: int) -> Facts:
    """Returns size, place, cover, shape and touched edges of the drawing in the frame."""
    facts: Facts = {}
    if stats["box"] is None:
        return facts

    # Size.
    left, top, right, bottom = (edge / size for edge in stats["box"])
    wide, high = right - left, bottom - top
    if max(wide, high) < 0.38:
        facts["size"] = "tiny" if max(wide, high) < 0.15 else "small"
    elif min(wide, high) > 0.8:
        facts["size"] = "large"

    # Place.
    across, down = _third(left, right), _third(top, bottom)
    if across is not None and down is not None:
        facts["place"] = _PLACES[down][across]

    # Cover and shape.
    for least, most, share in _COVERS:
        if least <= stats["fill"] < most:
            facts["cover"] = share
    if max(wide, high) > 1.4 * min(wide, high):
        facts["shape"] = "wide" if wide > high else "tall"

    # Touched edges.
    at_edge = (top == 0, bottom == 1, left == 0, right == 1)
    touched = [name for name, touches in zip(EDGES, at_edge, strict=True) if touches]
    if touched:
        facts["edges"] = " and ".join(touched)
    return facts


def _third(low: float, high: float) -> int | None:
    """Returns 0 for the left or upper side, 1 for the middle, 2 for the right or lower side, else None."""
    middle = (low + high) / 2
    if middle < 0.35 and high < 0.52:
        return 0
    if middle > 0.65 and low > 0.48:
        return 2
    return 1 if abs(middle - 0.5) < 0.07 and high - low < 0.75 else None
