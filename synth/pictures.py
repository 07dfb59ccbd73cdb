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
    counts, sums, box = _histograms(picture.pixels, picture.foreground, channels)
    stats: Stats = {"fill": int(counts[1].sum()) / (height * width), "box": [int(b) for b in box] if box[2] else None}
    for side, name in ((1, "foreground"), (0, "background")):
        stats[name] = _colours(counts[side], sums[side])
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


def _colours(counts: np.ndarray, sums: np.ndarray) -> dict[str, list[float] | None]:
    total = int(counts.sum())
    if total == 0:
        return {"mean": None, "mode": None}
    fullest = int(counts.argmax())
    mean = [round(int(s) / total, 2) for s in sums.sum(axis=0)]
    return {"mean": mean, "mode": [round(int(s) / int(counts[fullest])) for s in sums[fullest]]}


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
def _histograms(pixels: np.ndarray, foreground: np.ndarray, channels: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Counts (2, bins), colour sums (2, bins, C) by side (0 background, 1 foreground), and the foreground's box (4,)."""
    height, width = foreground.shape
    bins = 256 if channels == 1 else 4096
    counts, sums = np.zeros((2, bins), np.int64), np.zeros((2, bins, channels), np.int64)
    left, top, right, bottom = width, height, 0, 0
    for i in range(height):
        first, last = width, -1
        for j in range(width):
            side = 1 if foreground[i, j] else 0
            if side:
                first, last = min(first, j), j
            if channels == 1:
                counts[side, pixels[i, j, 0]] += 1
            else:
                red, green, blue = pixels[i, j, 0], pixels[i, j, 1], pixels[i, j, 2]
                box = (red >> 4) << 8 | (green >> 4) << 4 | blue >> 4
                counts[side, box] += 1
                sums[side, box, 0] += red
                sums[side, box, 1] += green
                sums[side, box, 2] += blue
        if last >= 0:
            left, right = min(left, first), max(right, last + 1)
            top, bottom = min(top, i), i + 1
    if channels == 1:
        for side in range(2):
            for value in range(256):
                sums[side, value, 0] = counts[side, value] * value
    return counts, sums, np.array([left, top, right, bottom])
