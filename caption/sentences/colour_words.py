"""The basic colour words of English, and their regions of colours.

The words are the eleven basic colour terms (Berlin & Kay, Basic Color Terms, 1969). Their regions are boxes
in OKLCh, the polar form of OKLab (Ottosson 2020): lightness L from 0 to 1, chroma C, hue h in degrees.
Regions contain the colours' foci and common CSS examples. They leave gaps: cyan, magenta or lime have no
basic word, and neighbours are disputed. A colour in a gap has no word.

A colour takes the word of the middle of its box of 4 x 4 x 4 levels, so all 262,144 names are computed once.
"""

from collections.abc import Sequence
from functools import cache

import numpy as np

COLOURS = ("black", "white", "grey", "red", "orange", "yellow", "green", "blue", "purple", "pink", "brown")

# Word, then least and greatest lightness, chroma, hue.
# Hues may pass 360. Bounds outside of all colours are open.
_REGIONS = (
    ("black", (-0.1, 0.28), (-0.10, 0.035), (0, 360)),
    ("black", (-0.1, 0.19), (-0.10, 0.080), (0, 360)),
    ("white", (0.93, 1.10), (-0.10, 0.025), (0, 360)),
    ("grey", (0.32, 0.88), (-0.10, 0.027), (0, 360)),
    ("red", (0.34, 0.68), (0.110, 0.500), (8, 41)),
    ("orange", (0.64, 0.87), (0.100, 0.500), (45, 83)),
    ("yellow", (0.76, 1.10), (0.075, 0.500), (88, 113)),
    ("green", (0.30, 0.96), (0.050, 0.500), (117, 174)),
    ("green", (0.30, 0.70), (0.050, 0.500), (109, 117)),  # olive
    ("blue", (0.25, 0.90), (0.050, 0.500), (218, 287)),
    ("purple", (0.25, 0.72), (0.055, 0.500), (292, 318)),
    ("purple", (0.25, 0.58), (0.055, 0.500), (318, 334)),
    ("pink", (0.68, 0.95), (0.050, 0.500), (338, 384)),
    ("pink", (0.60, 0.68), (0.080, 0.500), (338, 366)),
    ("brown", (0.26, 0.62), (0.035, 0.105), (32, 95)),
    ("brown", (0.26, 0.55), (0.105, 0.130), (43, 95)),
)
_MARGIN = 0.006  # of OKLab; a colour nearer to a face of its region is not clearly of its word
_FROM_LINEAR = (
    (0.4122214708, 0.5363325363, 0.0514459929),
    (0.2119034982, 0.6806995451, 0.1073969566),
    (0.0883024619, 0.2817188376, 0.6299787005),
)
_TO_LAB = (
    (0.2104542553, 0.7936177850, -0.0040720468),
    (1.9779984951, -2.4285922050, 0.4505937099),
    (0.0259040371, 0.7827717662, -0.8086757660),
)


def colour_word(rgb: Sequence[float]) -> str | None:
    """Returns the basic word of a colour (three levels 0 to 255, or one grey one), or None if it has none."""
    number = _names(0.0)[_box(rgb)]
    return COLOURS[number - 1] if number else None


def clear_word(rgb: Sequence[float]) -> str | None:
    """Returns the basic word of a colour well within its region, or None for other colours."""
    number = _names(_MARGIN)[_box(rgb)]
    return COLOURS[number - 1] if number else None


def colour_numbers(pixels: np.ndarray) -> np.ndarray:
    """Returns the index in COLOURS of the word of every pixel, -1 for none: uint8 (..., 3) -> int8 (...)."""
    levels = pixels.astype(np.int32) >> 2
    boxes = levels[..., 0] << 12 | levels[..., 1] << 6 | levels[..., 2]
    return np.frombuffer(_names(0.0), np.int8)[boxes] - np.int8(1)


def lightness(rgb: Sequence[float]) -> float:
    """Returns OKLab's L of a colour, 0 to 1, in steps of 1/255."""
    return _lightnesses()[_box(rgb)] / 255


def saturation(rgb: Sequence[float]) -> float:
    """Returns HSV's saturation of a colour, 0 to 1; 0 for black."""
    most = max(rgb)
    return 1 - min(rgb) / most if most else 0.0


def oklab(rgb: np.ndarray) -> np.ndarray:
    """Returns OKLab of sRGB levels 0 to 255: float64 (..., 3) -> float64 (..., 3)."""
    # Linear light, then the two matrices of Ottosson 2020.
    share = rgb / 255.0
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    return np.cbrt(linear @ np.array(_FROM_LINEAR).T) @ np.array(_TO_LAB).T


def _box(rgb: Sequence[float]) -> int:
    """Returns the number of the box of a colour."""
    red, green, blue = rgb if len(rgb) == 3 else (rgb[0], rgb[0], rgb[0])
    return int(red) >> 2 << 12 | int(green) >> 2 << 6 | int(blue) >> 2


@cache
def _middles() -> np.ndarray:
    """Returns OKLab at the middle of each box, red slowest: float64 (262144, 3)."""
    levels = np.arange(64) * 4 + 1.5
    return oklab(np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1).reshape(-1, 3))


@cache
def _names(margin: float) -> bytes:
    """Returns by box the number of its word in COLOURS, from 1.

    The number is 0 if the box is in no region, or nearer than the margin to the region's faces."""
    # OKLCh, with the margin as an angle.
    light, a, b = _middles().T
    chroma, hue = np.hypot(a, b), np.degrees(np.arctan2(b, a)) % 360
    gap = np.degrees(margin / np.maximum(chroma, 1e-3))  # degrees

    # Boxes within each region.
    names = np.zeros(light.size, np.uint8)
    for word, (dark, bright), (pale, vivid), (first, last) in _REGIONS:
        inside = (light >= dark + margin) & (light < bright - margin)
        inside &= (chroma >= pale + margin) & (chroma < vivid - margin)
        inside &= ((hue - first - gap) % 360 <= last - first - 2 * gap) | (last - first == 360)
        names[inside] = COLOURS.index(word) + 1
    return names.tobytes()


@cache
def _lightnesses() -> bytes:
    return np.round(_middles()[:, 0] * 255).astype(np.uint8).tobytes()
