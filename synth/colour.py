"""What colours a picture: palettes from hue, saturation and value bytes, their application, blur and grey.

While it is being drawn a picture is uint32 (S, S), a pixel being red + 256 green + 65536 blue. HSV bytes become RGB as by the 8-bit
conversion of image libraries, in which a hue byte counts steps of two degrees: bytes 180..255 repeat 0..75, so that 0 to 150 degrees
are twice as likely as the rest ("byte-wrap"). "uniform" lets the 256 bytes go once round the circle.

Axes: S side of a picture, K colours of a palette.
"""

import numpy as np
from numba import njit

from synth.trigonometry import exponential

HUE_MODES = {"byte-wrap": 2.0, "uniform": 360.0 / 256.0}  # degrees that a hue byte stands for


@njit(cache=True)
def pixel(hue: int, saturation: int, value: int, degrees: float) -> np.uint32:
    """The colour of three bytes, a hue byte being so many degrees."""
    sector = (hue * degrees % 360.0) / 60.0
    chroma = value * saturation / 255.0
    packed = np.uint32(0)
    for channel, turned in enumerate((5.0, 3.0, 1.0)):  # red, green, blue: one formula, shifted
        place = (turned + sector) % 6.0
        level = value - chroma * max(0.0, min(1.0, min(place, 4.0 - place)))
        packed |= np.uint32(level + 0.5) << np.uint32(8 * channel)
    return packed


@njit(cache=True)
def hues(saturation: int, value: int, degrees: float) -> np.ndarray:
    """The 256 hues of one saturation and value: uint32 (256,)."""
    palette = np.empty(256, np.uint32)
    for hue in range(256):
        palette[hue] = pixel(hue, saturation, value, degrees)
    return palette


@njit(cache=True)
def paint_counts(counts: np.ndarray, most: int, start: float, palette: np.ndarray, picture: np.ndarray) -> None:
    """Paints a picture, uint32 (S, S), where counts (S, S) are not zero: the hue byte is (255 count / most + start) mod 256."""
    scale = 255.0 / most
    hue = np.empty(counts.shape[1], np.int32)
    for i in range(counts.shape[0]):
        row, out = counts[i], picture[i]
        for j in range(row.size):
            hue[j] = np.int32(row[j] * scale + start) & np.int32(255)
        for j in range(row.size):
            out[j] = palette[hue[j]] if row[j] > 0 else out[j]


@njit(cache=True)
def paint_heights(heights: np.ndarray, law: np.ndarray, degrees: float) -> np.ndarray:
    """Colours a cloud of heights int32 (S, S), 65,536 to the unit: uint32 (S, S).

    `law` (3, 2): at height x the hue byte is law[0, 0] x + law[0, 1] mod 256, saturation and value alike but cut at 0 and 255. Heights are
    taken in steps of 1/1024, finer than a byte."""
    steps = heights >> np.int32(6)
    low, high = steps.min(), steps.max()
    palette = np.empty(high - low + 1, np.uint32)
    for k in range(palette.size):
        x = (low + k) / 1024.0
        hue = int(np.floor(law[0, 0] * x + law[0, 1])) & 255
        saturation = min(255, max(0, int(law[1, 0] * x + law[1, 1])))
        value = min(255, max(0, int(law[2, 0] * x + law[2, 1])))
        palette[k] = pixel(hue, saturation, value, degrees)
    picture = np.empty(heights.shape, np.uint32)
    for i in range(heights.shape[0]):
        for j in range(heights.shape[1]):
            picture[i, j] = palette[steps[i, j] - low]
    return picture


@njit(cache=True)
def blur(picture: np.ndarray, sigma: float) -> np.ndarray:
    """A 3 x 3 Gaussian blur of a picture, uint32 (S, S), mirrored about its outermost pixels; weights are rounded to 1/256."""
    side, height = np.int32(256.0 / (2.0 + exponential(0.5 / (sigma * sigma))) + 0.5), picture.shape[0]
    middle = np.int32(256) - side - side
    levels = picture.view(np.uint8).reshape(height, -1)  # four a pixel
    out, width = np.empty_like(levels), levels.shape[1]
    sums = np.empty(width + 8, np.int32)
    for i in range(height):
        above, row, below = levels[abs(i - 1)], levels[i], levels[i + 1 if i + 1 < height else max(0, height - 2)]
        for j in range(width):
            sums[j + 4] = side * (np.int32(above[j]) + np.int32(below[j])) + middle * np.int32(row[j])
        for j in range(4):
            sums[j] = sums[min(8 + j, width + j)]
            sums[width + 4 + j] = sums[max(width - 4, 4) + j]
        for j in range(width):
            out[i, j] = (side * (sums[j] + sums[j + 8]) + middle * sums[j + 4] + np.int32(32768)) >> np.int32(16)
    return out.view(np.uint32)


@njit(cache=True)
def rgb(picture: np.ndarray) -> np.ndarray:
    """A picture uint32 (S, S) as uint8 (S, S, 3)."""
    levels = picture.view(np.uint8).reshape(-1, 4)
    out = np.empty((levels.shape[0], 3), np.uint8)
    for i in range(levels.shape[0]):
        for channel in range(3):
            out[i, channel] = levels[i, channel]
    return out.reshape(picture.shape[0], picture.shape[1], 3)


@njit(cache=True)
def grey(picture: np.ndarray) -> np.ndarray:
    """The luma (ITU-R BT.601) of a picture uint32 (S, S): uint8 (S, S, 1)."""
    out = np.empty((picture.shape[0], picture.shape[1], 1), np.uint8)
    for i in range(picture.shape[0]):
        for j in range(picture.shape[1]):
            levels = picture[i, j]
            red, green, blue = levels & 255, (levels >> 8) & 255, (levels >> 16) & 255
            out[i, j, 0] = (19595 * red + 38470 * green + 7471 * blue + 32768) >> 16
    return out
