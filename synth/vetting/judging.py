"""Judgements on pictures: faults, for vetting and for drawing again, and the foreground.

A picture has a fault if it is black or white, flat, or static noise. Black or white: mean level below 8 or
above 249. Flat: every channel's standard deviation below 11 levels, or 97 % of its pixels in one of 16 x 16 x
16 boxes. Static noise: neighbours to the right and below correlate by less than 0.35. Levels are uint8 (H, W,
3).
"""

import numpy as np

from synth.compilation import cached_jit

_BLACK, _WHITE, _FLAT, _ALIKE, _NOISE = 8.0, 249.0, 11.0, 0.97, 0.35


def fault(pixels: np.ndarray) -> str | None:
    """Returns the fault of a picture, or None."""
    return blank(pixels) or ("static noise" if max(_likeness(pixels)) < _NOISE else None)


def blank(pixels: np.ndarray) -> str | None:
    """Returns black, white or flat, the faults that hardly depend on a picture's size, or None."""
    # Thresholds are those of the module's docstring.
    mean, deviation, alike = _levels(pixels)
    if mean < _BLACK:
        return "black"
    if mean > _WHITE:
        return "white"
    return "flat" if deviation < _FLAT or alike > _ALIKE else None


@cached_jit()
def _boxes(pixels: np.ndarray) -> np.ndarray:
    """Counts the pixels of each box of colours: int64 (4096,)."""
    counts = np.zeros(4096, np.int64)
    for i in range(pixels.shape[0]):
        for j in range(pixels.shape[1]):
            r, g, b = pixels[i, j]
            counts[(np.int64(r) >> 4) << 8 | (np.int64(g) >> 4) << 4 | np.int64(b) >> 4] += 1
    return counts


@cached_jit()
def foreground(pixels: np.ndarray) -> np.ndarray:
    """Returns the pixels that differ from the picture's modal colour: bool (H, W). One channel differs by
    more than 32 levels from the mean colour of the fullest of 16 x 16 x 16 boxes."""
    # The mean colour of the fullest box.
    height, width, _ = pixels.shape
    mode = _boxes(pixels).argmax()
    red = green = blue = count = np.int64(0)
    for i in range(height):
        for j in range(width):
            r, g, b = np.int64(pixels[i, j, 0]), np.int64(pixels[i, j, 1]), np.int64(pixels[i, j, 2])
            modal = np.int64((r >> 4) << 8 | (g >> 4) << 4 | b >> 4 == mode)
            red, green, blue = red + modal * r, green + modal * g, blue + modal * b
            count += modal
    red, green, blue = red // count, green // count, blue // count

    # Pixels far from it in any channel.
    out = np.empty((height, width), np.bool_)
    for i in range(height):
        for j in range(width):
            r, g, b = np.int64(pixels[i, j, 0]), np.int64(pixels[i, j, 1]), np.int64(pixels[i, j, 2])
            out[i, j] = max(abs(r - red), max(abs(g - green), abs(b - blue))) > 32
    return out


@cached_jit()
def _levels(pixels: np.ndarray) -> tuple[float, float, float]:
    """Returns the mean level, the largest standard deviation of a channel, and the share of the fullest
    box."""
    # Whole numbers, so that the order of the pixels does not matter.
    height, width, _ = pixels.shape
    sums, squares = np.zeros(3, np.int64), np.zeros(3, np.int64)
    for i in range(height):
        for j in range(width):
            for c in range(3):
                level = np.int64(pixels[i, j, c])
                sums[c] += level
                squares[c] += level * level
    area = height * width
    variances = squares / area - (sums / area) ** 2
    return sums.sum() / area / 3, np.sqrt(max(variances.max(), 0.0)), _boxes(pixels).max() / area


@cached_jit()
def _likeness(pixels: np.ndarray) -> tuple[float, float]:
    """Returns the correlations of the sum of channels with its neighbour's to the right and below. Both are 1
    if nothing varies."""
    # Deviations of the sum of channels from its mean.
    height, width, _ = pixels.shape
    light = np.empty((height, width))
    for i in range(height):
        for j in range(width):
            light[i, j] = float(pixels[i, j, 0]) + float(pixels[i, j, 1]) + float(pixels[i, j, 2])
    light -= light.mean()

    variance = (light * light).mean()
    if variance < 1e-6:
        return 1.0, 1.0
    return (light[:, 1:] * light[:, :-1]).mean() / variance, (light[1:] * light[:-1]).mean() / variance
