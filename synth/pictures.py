"""What every family does with pixels: a picture with its foreground, box averaging, measuring, contact sheets.

Axes: H height, W width, C channels (1 grey or 3 RGB), S side of a square picture, K side of an averaging box.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from PIL import Image

Stats = dict[str, Any]


class UnfitError(Exception):
    """These parameters give no picture worth keeping: the next ones of the stream are to be drawn."""


class Picture(NamedTuple):
    """What a family's render gives back."""

    pixels: np.ndarray  # uint8 (H, W, C)
    foreground: np.ndarray  # bool (H, W): what was drawn, as against what lies behind it


def box_average(pixels: np.ndarray, size: int) -> np.ndarray:
    """Averages K x K boxes: uint8 (S K, S K) -> uint8 (S, S), rounded half up in integers. K = 1 gives the input back."""
    factor, rest = divmod(pixels.shape[0], size)
    if rest:
        raise ValueError(f"a canvas of {pixels.shape[0]} is no multiple of {size}")
    return pixels if factor == 1 else _box_average(pixels, factor)


def measure(picture: Picture) -> Stats:
    """The `stats` of a sample: fill (share of foreground), bounding box [left, top, right, bottom) in pixels or None, and mean
    and modal colour of foreground and background (a list of C numbers, None where there is no such pixel).

    The modal colour is the most frequent grey value, or the mean colour of the fullest of 16 x 16 x 16 RGB boxes."""
    height, width, channels = picture.pixels.shape
    sides = picture.foreground.view(np.uint8)
    tallies = _tallies(picture.pixels.reshape(-1), sides.reshape(-1), channels).tolist()
    left, top, right, bottom = _box(sides)
    stats: Stats = {"fill": tallies[1][0][0] / (height * width), "box": [left, top, right, bottom] if right else None}
    for side, name in ((1, "foreground"), (0, "background")):
        (count, *sums), (modal_count, *modal_sums) = (tally[: 1 + channels] for tally in tallies[side])
        mean = [round(s / count, 2) for s in sums] if count else None
        stats[name] = {"mean": mean, "mode": [round(s / modal_count) for s in modal_sums] if count else None}
    return stats


def contact_sheet(pictures: Iterable[np.ndarray], *, columns: int = 8, thumb: int = 128, gap: int = 4) -> Image.Image:
    """Pictures (uint8 (S, S, C) each) side by side on grey, row by row, box-averaged to `thumb` pixels where larger."""
    thumbs = [_thumbnail(p, thumb) for p in pictures]
    side = max(t.width for t in thumbs)
    columns = min(columns, len(thumbs))
    rows = -(-len(thumbs) // columns)
    sheet = Image.new("RGB", (columns * (side + gap) + gap, rows * (side + gap) + gap), (64, 64, 64))
    for i, picture in enumerate(thumbs):
        row, column = divmod(i, columns)
        sheet.paste(picture, (gap + column * (side + gap), gap + row * (side + gap)))
    return sheet


def _thumbnail(pixels: np.ndarray, side: int) -> Image.Image:
    picture = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).convert("RGB")
    return picture if picture.width <= side else picture.resize((side, side), Image.Resampling.BOX)


@njit(cache=True)
def _box_average(pixels: np.ndarray, factor: int) -> np.ndarray:
    size = pixels.shape[0] // factor
    area = factor * factor
    out = np.empty((size, size), np.uint8)
    column = np.empty(size * factor, np.int32)
    for i in range(size):
        # Add the K rows of this strip, then K neighbours within the sum.
        column[:] = 0
        for k in range(factor):
            row = pixels[i * factor + k]
            for j in range(column.size):
                column[j] += row[j]
        for j in range(size):
            total = 0
            for k in range(factor):
                total += column[j * factor + k]
            out[i, j] = (total + area // 2) // area
    return out


@njit(cache=True)
def _tallies(levels: np.ndarray, sides: np.ndarray, channels: int) -> np.ndarray:
    """By side (0 background, 1 foreground), of all its pixels and of those in its fullest bin, their number and the sums of their
    channels: int64 (2, 2, 4). Levels are uint8 (H W C,), sides uint8 (H W,)."""
    width = 256 if channels == 1 else 4096
    bins = _grey_bins(levels, sides) if channels == 1 else _rgb_bins(levels, sides)
    counts = _count(bins)[: 2 * width].reshape(2, width)
    fullest = np.array([counts[0].argmax(), counts[1].argmax()])
    tallies = np.zeros((2, 2, 4), np.int64)
    for side in range(2):
        tallies[side, 0, 0], tallies[side, 1, 0] = counts[side].sum(), counts[side, fullest[side]]
    if channels == 1:
        for side in range(2):
            tallies[side, 0, 1] = (counts[side] * np.arange(256)).sum()
            tallies[side, 1, 1] = fullest[side] * tallies[side, 1, 0]
    else:
        _sum_rgb(levels, sides, bins, fullest[0], fullest[1] + width, tallies[:, :, 1:])
    return tallies


@njit(cache=True)
def _grey_bins(levels: np.ndarray, sides: np.ndarray) -> np.ndarray:
    """The bin of each pixel: its level, the foreground's after the background's. uint16 (H W,)."""
    bins = np.empty(sides.size, np.uint16)
    for i in range(sides.size):
        bins[i] = np.uint16(levels[i]) | np.uint16(sides[i]) << np.uint16(8)
    return bins


@njit(cache=True)
def _rgb_bins(levels: np.ndarray, sides: np.ndarray) -> np.ndarray:
    """The bin of each pixel: the upper four bits of its channels, the foreground's after the background's. uint16 (H W,)."""
    bins = np.empty(sides.size, np.uint16)
    for i in range(sides.size):
        red, green, blue = np.uint16(levels[3 * i] >> 4), np.uint16(levels[3 * i + 1] >> 4), np.uint16(levels[3 * i + 2] >> 4)
        bins[i] = np.uint16(sides[i]) << np.uint16(12) | red << np.uint16(8) | green << np.uint16(4) | blue
    return bins


@njit(cache=True)
def _count(bins: np.ndarray) -> np.ndarray:
    """How many pixels each bin has: int64 (8192,). Neighbours are often alike; each of four counts in a table of its own, so that
    none waits for the one before it."""
    counts = np.zeros((4, 8192), np.uint32)
    for i in range(0, bins.size - 3, 4):
        for k in range(4):
            counts[k, bins[i + k]] += np.uint32(1)
    for i in range(bins.size // 4 * 4, bins.size):
        counts[0, bins[i]] += np.uint32(1)
    total = np.zeros(8192, np.int64)
    for k in range(4):
        for i in range(8192):
            total[i] += counts[k, i]
    return total


@njit(cache=True)
def _sum_rgb(levels: np.ndarray, sides: np.ndarray, bins: np.ndarray, behind: int, before: int, sums: np.ndarray) -> None:
    """Sums of RGB levels into (2, 2, 3): of either side, and of its one bin (`behind` or `before`). 32 bits hold them up to 4096 x 4096."""
    all_r = all_g = all_b = fore_r = fore_g = fore_b = np.uint32(0)
    far_r = far_g = far_b = near_r = near_g = near_b = np.uint32(0)
    for i in range(sides.size):
        r, g, b = np.uint32(levels[3 * i]), np.uint32(levels[3 * i + 1]), np.uint32(levels[3 * i + 2])
        fore, far, near = np.uint32(sides[i]), np.uint32(bins[i] == behind), np.uint32(bins[i] == before)
        all_r, all_g, all_b = np.uint32(all_r + r), np.uint32(all_g + g), np.uint32(all_b + b)
        fore_r, fore_g, fore_b = np.uint32(fore_r + fore * r), np.uint32(fore_g + fore * g), np.uint32(fore_b + fore * b)
        far_r, far_g, far_b = np.uint32(far_r + far * r), np.uint32(far_g + far * g), np.uint32(far_b + far * b)
        near_r, near_g, near_b = np.uint32(near_r + near * r), np.uint32(near_g + near * g), np.uint32(near_b + near * b)
    sums[0, 0] = all_r - fore_r, all_g - fore_g, all_b - fore_b
    sums[1, 0] = fore_r, fore_g, fore_b
    sums[0, 1] = far_r, far_g, far_b
    sums[1, 1] = near_r, near_g, near_b


@njit(cache=True)
def _box(sides: np.ndarray) -> tuple[int, int, int, int]:
    """Left, top, right and bottom (the last two exclusive) of what is not zero in uint8 (H, W); right is 0 where there is nothing."""
    columns = np.zeros(sides.shape[1], np.uint8)
    top, bottom = sides.shape[0], 0
    for i in range(sides.shape[0]):
        row, lit = sides[i], np.uint8(0)
        for j in range(row.size):
            columns[j] |= row[j]
            lit |= row[j]
        if lit:
            top, bottom = min(top, i), i + 1
    lit_columns = columns.nonzero()[0]
    return (lit_columns[0], top, lit_columns[-1] + 1, bottom) if bottom else (0, 0, 0, 0)
