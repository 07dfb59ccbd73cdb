"""Colours of a picture: palettes from hue, saturation and value bytes, their application, blur and grey.

A picture in progress is uint32 (S, S). A pixel is red + 256 green + 65536 blue. Its highest byte is ignored.
HSV bytes become RGB as by the 8-bit conversion of image libraries, in which a hue byte counts steps of two
degrees. Bytes 180..255 repeat 0..75, so that 0 to 150 degrees are twice as likely as the rest ("byte-wrap").
"uniform" spreads the 256 bytes once round the wheel.

Axes: S side of a picture, G of a grid of heights.
"""

import numpy as np

from synth.compilation import cached_jit
from synth.kernels.trigonometry import exponential

HUE_MODES = {"byte-wrap": 2.0, "uniform": 360.0 / 256.0}  # degrees that a hue byte stands for


@cached_jit()
def pixel(hue: int, saturation: int, value: int, degrees: float) -> np.uint32:
    """Returns the packed colour of three bytes. A unit of hue is `degrees` degrees."""
    # Sector 0..6 of the wheel, and the chroma.
    angle = hue * degrees
    sector = (angle - 360.0 if angle >= 360.0 else angle) / 60.0
    chroma = value * saturation / 255.0

    # Red, green and blue have one formula, shifted by a third of the wheel.
    packed = np.uint32(0)
    for channel, turned in enumerate((5.0, 3.0, 1.0)):
        place = turned + sector - (6.0 if turned + sector >= 6.0 else 0.0)
        level = value - chroma * max(0.0, min(1.0, min(place, 4.0 - place)))
        packed |= np.uint32(np.int32(level + 0.5)) << np.uint32(8 * channel)
    return packed


@cached_jit()
def hues(saturation: int, value: int, degrees: float) -> np.ndarray:
    """Returns the 256 hues of one saturation and value: uint32 (256,)."""
    palette = np.empty(256, np.uint32)
    for hue in range(256):
        palette[hue] = pixel(hue, saturation, value, degrees)
    return palette


@cached_jit()
def paint_counts(counts: np.ndarray, start: float, palette: np.ndarray, picture: np.ndarray) -> np.ndarray:
    """Paints the pixels of a picture, uint32 (S, S), at which counts (S, S) are not zero. Returns their mask:
    bool (S, S). The hue byte is (255 count / greatest count + start) mod 256."""
    # The greatest count. Vector units compare signed integers side by side.
    flat, most = counts.reshape(-1).view(np.int32), np.int32(1)
    for i in range(flat.size):
        most = max(most, flat[i])

    # Hues of a row first, without branches, then the colours of its lit pixels.
    scale, offset, lit = np.float32(255.0 / most), np.float32(start), np.empty(counts.shape, np.bool_)
    hue = np.empty(counts.shape[1], np.int32)
    for i in range(counts.shape[0]):
        row, out, mask = counts[i], picture[i], lit[i]
        for j in range(row.size):
            hue[j] = np.int32(np.float32(np.int32(row[j])) * scale + offset) & np.int32(255)
            mask[j] = row[j] > 0
        for j in range(row.size):
            if row[j] > 0:
                out[j] = palette[np.uint32(hue[j])]
    return lit


@cached_jit()
def paint_heights(heights: np.ndarray, size: int, law: np.ndarray, degrees: float) -> np.ndarray:
    """Colours the upper left of a cloud of heights, int32 (G, G), 65,536 to the unit: uint32 (S, S).

    `law` is (3, 2). At height x the hue byte is law[0, 0] x + law[0, 1] mod 256. Saturation and value follow
    rows 1 and 2, cut at 0 and 255. Heights are taken in steps of 1/1024, finer than a byte, from -4 to 4. The
    colour of a step is computed at its first use."""
    palette, picture = np.zeros(8192, np.uint32), np.empty((size, size), np.uint32)
    steps = np.empty(size, np.int32)
    for i in range(size):
        row, out = heights[i], picture[i]

        # Steps of 1/1024, clamped to 0..8191.
        for j in range(size):
            step = np.int32((row[j] >> np.int32(6)) + np.int32(4096))
            steps[j] = min(np.int32(8191), max(np.int32(0), step))

        # Colours. The highest byte marks those that are computed, so none is 0.
        for j in range(size):
            cell = np.uint32(steps[j])
            if palette[cell] == 0:
                x = (steps[j] - 4096) / 1024.0
                hue = int(np.floor(law[0, 0] * x + law[0, 1])) & 255
                saturation = min(255, max(0, int(law[1, 0] * x + law[1, 1])))
                value = min(255, max(0, int(law[2, 0] * x + law[2, 1])))
                palette[cell] = pixel(hue, saturation, value, degrees) | np.uint32(1 << 24)
            out[j] = palette[cell]
    return picture


@cached_jit()
def blur(picture: np.ndarray, sigma: float) -> np.ndarray:
    """Blurs a picture, uint32 (S, S), by a 3 x 3 Gaussian, mirrored about its outermost pixels: columns, then
    rows, in whole levels."""
    # Weights, of 256: exp(-1 / (2 sigma^2)) for a neighbour and 1 for the middle, over their sum.
    side = np.uint16(256.0 / (2.0 + exponential(0.5 / (sigma * sigma))) + 0.5)
    middle, half, eight = np.uint16(256 - 2 * side), np.uint16(128), np.uint16(8)
    height = picture.shape[0]
    levels = picture.view(np.uint8).reshape(height, -1)  # four a pixel
    out, width = np.empty_like(levels), levels.shape[1]
    sums = np.empty(width + 8, np.uint16)
    for i in range(height):
        # Columns. The rows above the first and below the last are mirrored.
        row, above = levels[i], levels[min(abs(i - 1), height - 1)]
        below = levels[min(i + 1, max(0, 2 * height - 3 - i))]
        for j in range(width):
            sums[j + 4] = np.uint16(side * np.uint16(above[j] + below[j]) + middle * row[j] + half) >> eight

        # Rows, mirrored in the same way by one pixel of four bytes at each end.
        for j in range(4):
            sums[j], sums[width + 4 + j] = sums[min(8, width) + j], sums[max(width - 4, 4) + j]
        line = out[i]
        for j in range(width):
            line[j] = (
                np.uint16(side * np.uint16(sums[j] + sums[j + 8]) + middle * sums[j + 4] + half) >> eight
            )
    return out.view(np.uint32)


@cached_jit()
def rgb(picture: np.ndarray) -> np.ndarray:
    """Returns a picture uint32 (S, S) as uint8 (S, S, 3)."""
    packed = picture.reshape(-1)
    levels = np.empty(3 * packed.size, np.uint8)
    for i in range(packed.size):
        levels[3 * i] = np.uint8(packed[i])
        levels[3 * i + 1] = np.uint8(packed[i] >> np.uint32(8))
        levels[3 * i + 2] = np.uint8(packed[i] >> np.uint32(16))
    return levels.reshape(picture.shape[0], picture.shape[1], 3)


@cached_jit()
def grey(picture: np.ndarray) -> np.ndarray:
    """Returns the luma (ITU-R BT.601) of a picture uint32 (S, S): uint8 (S, S, 1)."""
    out = np.empty((picture.shape[0], picture.shape[1], 1), np.uint8)
    for i in range(picture.shape[0]):
        for j in range(picture.shape[1]):
            levels = picture[i, j]
            red, green, blue = levels & 255, (levels >> 8) & 255, (levels >> 16) & 255
            out[i, j, 0] = (19595 * red + 38470 * green + 7471 * blue + 32768) >> 16
    return out
