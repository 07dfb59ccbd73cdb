"""Fillings of covered pixels: flat, gradients, stripes, dots and textures of two colours.

A filling is a function of a point in the object's own coordinates (-1..1 across its box), so it keeps its
look at every size. Its result is a share of the second colour and a tone, by which a colour is darkened or
lightened. Stripes and dots are sampled four times a pixel. Levels are mixed in whole numbers.

Axes: S side of the picture, N objects, G of a grid of heights.
"""

import numpy as np

from synth.compilation import cached_jit
from synth.kernels.clouds import UNIT
from synth.kernels.trigonometry import sine

FILLINGS = ("flat", "gradient", "texture", "stripes", "dots")
_FLAT, _GRADIENT, _TEXTURE, _STRIPES, _DOTS = range(5)
_DARKEST, _LIGHTEST = -0.14, 0.1  # tones of a gradient and of a texture


@cached_jit()
def paint(
    canvas: np.ndarray,
    mask: np.ndarray,
    units: np.ndarray,
    area: tuple[int, int, int, int],
    number: int,
    place: tuple[float, float, float],
    colours: np.ndarray,
    filling: int,
    strength: float,
    law: np.ndarray,
    heights: np.ndarray,
) -> np.ndarray:
    """Paints one object over a canvas, uint8 (S, S, 3), by its units of coverage, int32 (S, S), of 256.

    Sets the units of `area` back to 0, and writes `number` to the mask, uint8 (S, S), at pixels of half
    coverage or more. `place` is centre and radius in sides of the picture. `colours` uint8 (2, 3) are first
    and second colour. `law` (4,) is a direction's cosine and sine, the stripes' frequency and their phase.
    `heights` int32 (G, G) is the cloud of a texture. Returns int64 (5 + 256,): left, top, right, bottom,
    area, and how many pixels of each earlier number the object hides."""
    size = canvas.shape[0]
    left, top, right, bottom = area
    x, y, radius = place
    seen = np.zeros(5 + 256, np.int64)
    seen[0], seen[1] = size, size
    scale = 1.0 / (size * radius)
    for row in range(top, bottom):
        for column in range(left, right):
            alpha = units[row, column]
            if alpha == 0:
                continue
            units[row, column] = 0
            alpha = min(alpha, 256)

            # Share of the second colour, of 256, and tone.
            across, down = (column + 0.5) * scale - x / radius, (row + 0.5) * scale - y / radius
            share, tone = 0, 0.0
            if filling == _GRADIENT:
                t = 0.5 + 0.35 * (across * law[0] + down * law[1])
                tone = strength * (_DARKEST + (_LIGHTEST - _DARKEST) * min(1.0, max(0.0, t)))
            elif filling == _TEXTURE:
                t = 0.5 + 1.6 * (_height(heights, 0.5 + 0.45 * down, 0.5 + 0.45 * across) - 0.5)
                tone = strength * (_DARKEST + (_LIGHTEST - _DARKEST) * min(1.0, max(0.0, t)))
            elif filling >= _STRIPES:
                for sample in range(4):
                    u = across + (sample % 2 - 0.5) * 0.5 * scale
                    v = down + (sample // 2 - 0.5) * 0.5 * scale
                    share += 64 if _second(u, v, filling, law) else 0

            # Levels.
            for c in range(3):
                level = (int(colours[0, c]) * (256 - share) + int(colours[1, c]) * share + 128) >> 8
                if tone > 0.0:
                    level = int(level + tone * (255 - level) + 0.5)
                elif tone < 0.0:
                    level = int(level + tone * level + 0.5)
                canvas[row, column, c] = (
                    int(canvas[row, column, c]) * (256 - alpha) + level * alpha + 128
                ) >> 8

            # The mask.
            if alpha >= 128 and number > 0:
                seen[5 + mask[row, column]] += 1
                mask[row, column] = number
                seen[0], seen[1] = min(seen[0], column), min(seen[1], row)
                seen[2], seen[3] = max(seen[2], column + 1), max(seen[3], row + 1)
                seen[4] += 1
    return seen


@cached_jit()
def _height(heights: np.ndarray, down: float, across: float) -> float:
    """Returns the bilinear height of a cloud at a point given in its sides."""
    last = heights.shape[0] - 1
    y, x = min(max(down, 0.0), 0.9999) * last, min(max(across, 0.0), 0.9999) * last
    i, j = int(y), int(x)
    upper = (1.0 - (x - j)) * heights[i, j] + (x - j) * heights[i, j + 1]
    lower = (1.0 - (x - j)) * heights[i + 1, j] + (x - j) * heights[i + 1, j + 1]
    return ((1.0 - (y - i)) * upper + (y - i) * lower) / UNIT


@cached_jit()
def _second(u: float, v: float, filling: int, law: np.ndarray) -> bool:
    """Returns True if a point has the second colour: about a third of all points of stripes and dots."""
    along = (u * law[0] + v * law[1]) * law[2] + law[3]
    if filling == _STRIPES:
        return along - np.floor(along) < 0.36
    across = (v * law[0] - u * law[1]) * law[2] + law[3]
    p, q = along - np.floor(along) - 0.5, across - np.floor(across) - 0.5
    return p * p + q * q < 0.105


@cached_jit()
def direction(turns: float, frequency: float, phase: float) -> np.ndarray:
    """Returns the law of a filling: cosine and sine of its direction, frequency and phase, float64 (4,)."""
    return np.array([sine(turns + 0.25), sine(turns), frequency, phase])
