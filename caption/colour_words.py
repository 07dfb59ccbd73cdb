"""The basic colour words of English, and which colours bear them.

The words are the eleven basic colour terms (Berlin & Kay, Basic Color Terms, 1969). Their regions are boxes in OKLCh, the polar form of
OKLab (Ottosson 2020): lightness L from 0 to 1, chroma C, hue h in degrees. They leave gaps, for cyan, magenta or lime have no
basic word and neighbours are disputed; a colour in a gap has none. Regions lie about the colours' foci and common CSS examples.

A colour is named by the middle of its box of 4 x 4 x 4 levels, so that all 262,144 names are worked out once.
"""

from collections.abc import Sequence
from functools import cache

import numpy as np

COLOURS = ("black", "white", "grey", "red", "orange", "yellow", "green", "blue", "purple", "pink", "brown")

# Word, then least and greatest lightness, chroma, hue; a hue range may pass 360.
_REGIONS = (
    ("black", (0.00, 0.28), (0.000, 0.035), (0, 360)),
    ("white", (0.93, 1.01), (0.000, 0.025), (0, 360)),
    ("grey", (0.32, 0.88), (0.000, 0.027), (0, 360)),
    ("red", (0.34, 0.70), (0.120, 0.400), (8, 40)),
    ("orange", (0.64, 0.87), (0.105, 0.400), (46, 82)),
    ("yellow", (0.76, 1.01), (0.080, 0.400), (90, 119)),
    ("green", (0.32, 0.96), (0.050, 0.400), (126, 170)),
    ("blue", (0.25, 0.88), (0.055, 0.400), (222, 286)),
    ("purple", (0.25, 0.72), (0.060, 0.400), (293, 333)),
    ("pink", (0.70, 0.95), (0.050, 0.400), (338, 380)),
    ("pink", (0.60, 0.70), (0.100, 0.400), (340, 366)),
    ("brown", (0.26, 0.60), (0.035, 0.125), (32, 88)),
)
_FROM_LINEAR = np.array(
    [[0.4122214708, 0.5363325363, 0.0514459929], [0.2119034982, 0.6806995451, 0.1073969566], [0.0883024619, 0.2817188376, 0.6299787005]]
)
_TO_LAB = np.array(
    [[0.2104542553, 0.7936177850, -0.0040720468], [1.9779984951, -2.4285922050, 0.4505937099], [0.0259040371, 0.7827717662, -0.8086757660]]
)


def colour_word(rgb: Sequence[float]) -> str | None:
    """The basic word of a colour (three levels 0 to 255, or one grey one), None where it has no clear one."""
    red, green, blue = rgb if len(rgb) == 3 else (rgb[0],) * 3
    number = _names()[int(red) >> 2 << 12 | int(green) >> 2 << 6 | int(blue) >> 2]
    return COLOURS[number - 1] if number else None


def colour_numbers(pixels: np.ndarray) -> np.ndarray:
    """The word of every pixel of uint8 (..., 3) as its place in COLOURS, -1 where it has none: int8 (...)."""
    box = pixels.astype(np.int32) >> 2
    return np.frombuffer(_names(), np.int8)[box[..., 0] << 12 | box[..., 1] << 6 | box[..., 2]] - np.int8(1)


def lightness(rgb: Sequence[float]) -> float:
    """OKLab's L of a colour, 0 to 1, in steps of 1/255."""
    red, green, blue = rgb if len(rgb) == 3 else (rgb[0],) * 3
    return _lightnesses()[int(red) >> 2 << 12 | int(green) >> 2 << 6 | int(blue) >> 2] / 255


def oklab(rgb: np.ndarray) -> np.ndarray:
    """OKLab of sRGB levels 0 to 255: float64 (..., 3) -> float64 (..., 3)."""
    share = rgb / 255.0
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    return np.cbrt(linear @ _FROM_LINEAR.T) @ _TO_LAB.T


@cache
def _boxes() -> np.ndarray:
    """OKLab at the middle of each box, red slowest: float64 (262144, 3)."""
    middles = np.arange(64) * 4 + 1.5
    return oklab(np.stack(np.meshgrid(middles, middles, middles, indexing="ij"), axis=-1).reshape(-1, 3))


@cache
def _names() -> bytes:
    """By box, the number of its word in COLOURS, from 1; 0 for none."""
    light, a, b = _boxes().T
    chroma, hue = np.hypot(a, b), np.degrees(np.arctan2(b, a)) % 360
    names = np.zeros(light.size, np.uint8)
    for word, (dark, bright), (pale, vivid), (first, last) in _REGIONS:
        inside = (light >= dark) & (light < bright) & (chroma >= pale) & (chroma < vivid) & ((hue - first) % 360 <= last - first)
        names[inside] = COLOURS.index(word) + 1
    return names.tobytes()


@cache
def _lightnesses() -> bytes:
    return np.round(_boxes()[:, 0] * 255).astype(np.uint8).tobytes()
