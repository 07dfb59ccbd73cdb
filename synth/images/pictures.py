"""Pixels: a picture with its foreground, box averaging, measuring, contact sheets.

Axes: H height, W width, C channels (1 grey or 3 RGB), S side of a square picture, K side of an averaging box.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from synth.compilation import cached_jit

Stats = dict[str, Any]


class UnfitError(Exception):
    """Parameters that give no picture worth keeping. The caller draws the next ones of the stream."""


class Picture(NamedTuple):
    """The result of a family's render."""

    pixels: np.ndarray  # uint8 (H, W, C)
    foreground: np.ndarray  # bool (H, W): the drawn figure, without the background
    mask: np.ndarray | None = None  # uint8 (H, W): number of the visible object, 0 for the background
    objects: list[dict[str, Any]] | None = None  # measurements of each object, for `stats`


def box_average(pixels: np.ndarray, size: int) -> np.ndarray:
    """Averages K x K boxes: uint8 (S K, S K) or (S K, S K, C) -> uint8 (S, S) or (S, S, C). Rounds half up in
    integers. Returns the input for K = 1. Raises ValueError if the side is no multiple of `size`."""
    factor, rest = divmod(pixels.shape[0], size)
    if rest:
        raise ValueError(f"a canvas of {pixels.shape[0]} is no multiple of {size}")
    if factor == 1:
        return pixels
    if pixels.ndim == 2:
        return _box_average(pixels, factor)
    channels = [np.ascontiguousarray(pixels[..., c]) for c in range(pixels.shape[2])]
    return np.stack([_box_average(channel, factor) for channel in channels], axis=2)


def measure(picture: Picture) -> Stats:
    """Returns the `stats` of a sample. They are fill (share of foreground), bounding box [left, top, right,
    bottom) in pixels or None, and mean and modal colour of foreground and background. A colour is a list of C
    numbers, or None if there is no such pixel.

    The modal colour is the most frequent grey value, or the mean colour of the fullest of 16 x 16 x 16 RGB
    boxes."""
    # Counts and sums, in one pass over the pixels.
    sides, levels = picture.foreground.view(np.uint8), picture.pixels.reshape(-1)
    tally = _grey_tallies if picture.pixels.shape[2] == 1 else _rgb_tallies
    tallies = tally(levels, sides.reshape(-1)).tolist()

    # The foreground's share and box.
    left, top, right, bottom = _box(sides)
    stats: Stats = {
        "fill": tallies[1][0][0] / sides.size,
        "box": [left, top, right, bottom] if right else None,
    }

    # Colours of both sides.
    for side, name in ((1, "foreground"), (0, "background")):
        (count, *sums), (modal_count, *modal_sums) = tallies[side]
        mean = [round(s / count, 2) for s in sums] if count else None
        stats[name] = {"mean": mean, "mode": [round(s / modal_count) for s in modal_sums] if count else None}
    return stats


def contact_sheet(
    pictures: Iterable[np.ndarray], *, columns: int = 8, thumb: int = 128, gap: int = 4
) -> np.ndarray:
    """Returns pictures (uint8 (S, S, C) each, one C) side by side on grey, row by row: uint8 (H, W, C).
    Pictures larger than `thumb` pixels are box-averaged to that size."""
    # Layout.
    thumbs = [_thumbnail(p, thumb) for p in pictures]
    side, channels = thumbs[0].shape[1:]
    columns = min(columns, len(thumbs))
    rows = -(-len(thumbs) // columns)
    sheet = np.full((rows * (side + gap) + gap, columns * (side + gap) + gap, channels), 64, np.uint8)

    # Thumbnails, row by row.
    for i, picture in enumerate(thumbs):
        top, left = gap + i // columns * (side + gap), gap + i % columns * (side + gap)
        sheet[top : top + side, left : left + side] = picture
    return sheet


def _thumbnail(pixels: np.ndarray, side: int) -> np.ndarray:
    # A small picture stays as it is. Pillow resizes any other side, multiple or not.
    if pixels.shape[0] <= side:
        return pixels
    picture = Image.fromarray(pixels.squeeze()).resize((side, side), Image.Resampling.BOX)
    return np.asarray(picture).reshape(side, side, -1)


@cached_jit()
def _box_average(pixels: np.ndarray, factor: int) -> np.ndarray:
    """Averages K x K boxes of one channel: uint8 (S K, S K) -> (S, S)."""
    size, area = pixels.shape[0] // factor, factor * factor
    inverse = 1.0 / area
    out = np.empty((size, size), np.uint8)
    columns, boxes = np.empty(size * factor, np.int32), np.empty(size, np.int64)
    for i in range(size):
        # Sums of the K rows of this strip.
        columns[:] = 0
        for k in range(factor):
            row = pixels[i * factor + k]
            for j in range(row.size):
                columns[j] += row[j]

        # Sums of K neighbours within them, with half a box for rounding.
        boxes[:] = area // 2
        for k in range(factor):
            for j in range(size):
                boxes[j] += columns[j * factor + k]

        # A product is faster than a division. The quarter keeps whole quotients whole.
        for j in range(size):
            out[i, j] = np.uint8((boxes[j] + 0.25) * inverse)
    return out


@cached_jit()
def _grey_tallies(levels: np.ndarray, sides: np.ndarray) -> np.ndarray:
    """Returns two tallies by side (0 background, 1 foreground): int64 (2, 2, 2). The first covers all pixels
    of the side, the second those of its most frequent level. A tally is the number of pixels and the sum of
    their levels. Levels and sides are uint8 (H W,)."""
    tallies = np.empty((2, 2, 2), np.int64)
    counts = _count(levels, sides, 256)
    for side in range(2):
        histogram = counts[side]
        mode = int(histogram.argmax())
        tallies[side, 0] = histogram.sum(), (histogram * np.arange(256)).sum()
        tallies[side, 1] = histogram[mode], histogram[mode] * mode
    return tallies


@cached_jit()
def _rgb_tallies(levels: np.ndarray, sides: np.ndarray) -> np.ndarray:
    """Returns two tallies by side: int64 (2, 2, 4). The first covers all pixels of the side, the second those
    in its fullest box. A tally is the number of pixels and the sums of their channels. Levels are uint8 (H W
    3,), sides uint8 (H W,)."""
    tallies = np.empty((2, 2, 4), np.int64)
    boxes = _rgb_boxes(levels)
    counts = _count(boxes, sides, 4096)

    # Numbers of pixels, and the fullest box of either side.
    behind, before = counts[0].argmax(), counts[1].argmax()
    tallies[0, 0, 0], tallies[0, 1, 0] = counts[0].sum(), counts[0, behind]
    tallies[1, 0, 0], tallies[1, 1, 0] = counts[1].sum(), counts[1, before]

    # Sums of channels.
    _sum_rgb(levels, sides, boxes, behind, before, tallies[:, :, 1:])
    return tallies


@cached_jit()
def _rgb_boxes(levels: np.ndarray) -> np.ndarray:
    """Returns the box of each pixel, the upper four bits of its channels: uint16 (H W,)."""
    boxes = np.empty(levels.size // 3, np.uint16)
    for i in range(boxes.size):
        red, green = np.uint16(levels[3 * i] >> 4), np.uint16(levels[3 * i + 1] >> 4)
        blue = np.uint16(levels[3 * i + 2] >> 4)
        boxes[i] = red << np.uint16(8) | green << np.uint16(4) | blue
    return boxes


@cached_jit()
def _count(values: np.ndarray, sides: np.ndarray, width: int) -> np.ndarray:
    """Counts the pixels of each side and value: int64 (2, width). Neighbours are often alike. So four tables
    take turns, and no count waits for the one before it."""
    # Values of the foreground follow those of the background in each table.
    tables = np.zeros((4, 2 * width), np.uint32)
    first, second, third, fourth = tables
    whole = values.size // 4
    for i in range(whole):
        first[values[4 * i] + width * sides[4 * i]] += np.uint32(1)
        second[values[4 * i + 1] + width * sides[4 * i + 1]] += np.uint32(1)
        third[values[4 * i + 2] + width * sides[4 * i + 2]] += np.uint32(1)
        fourth[values[4 * i + 3] + width * sides[4 * i + 3]] += np.uint32(1)
    for i in range(4 * whole, values.size):
        first[values[i] + width * sides[i]] += np.uint32(1)
    return tables.sum(axis=0).astype(np.int64).reshape(2, width)


@cached_jit()
def _sum_rgb(
    levels: np.ndarray, sides: np.ndarray, boxes: np.ndarray, behind: int, before: int, sums: np.ndarray
) -> None:
    """Sums RGB levels into (2, 2, 3): of either side, and of its one box (`behind` or `before`). 32 bits hold
    the sums up to 4096 x 4096."""
    # Sums of all pixels, of the foreground, and of the box of either side (far: behind, near: before).
    all_r = all_g = all_b = fore_r = fore_g = fore_b = np.uint32(0)
    far_r = far_g = far_b = near_r = near_g = near_b = np.uint32(0)
    for i in range(sides.size):
        # Factors 0 or 1 instead of branches, so that vector units can add the pixels.
        r, g, b = np.uint32(levels[3 * i]), np.uint32(levels[3 * i + 1]), np.uint32(levels[3 * i + 2])
        fore = np.uint32(sides[i])
        far = np.uint32((boxes[i] == behind) & (sides[i] == 0))
        near = np.uint32((boxes[i] == before) & (sides[i] != 0))

        all_r, fore_r = np.uint32(all_r + r), np.uint32(fore_r + fore * r)
        all_g, fore_g = np.uint32(all_g + g), np.uint32(fore_g + fore * g)
        all_b, fore_b = np.uint32(all_b + b), np.uint32(fore_b + fore * b)
        far_r, near_r = np.uint32(far_r + far * r), np.uint32(near_r + near * r)
        far_g, near_g = np.uint32(far_g + far * g), np.uint32(near_g + near * g)
        far_b, near_b = np.uint32(far_b + far * b), np.uint32(near_b + near * b)

    # The background is the rest.
    sums[0, 0] = all_r - fore_r, all_g - fore_g, all_b - fore_b
    sums[1, 0] = fore_r, fore_g, fore_b
    sums[0, 1] = far_r, far_g, far_b
    sums[1, 1] = near_r, near_g, near_b


@cached_jit()
def _box(sides: np.ndarray) -> tuple[int, int, int, int]:
    """Returns left, top, right and bottom [ , ) of the nonzero area of uint8 (H, W). All are 0 if there is
    none."""
    # Rows and columns with a lit pixel.
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
