"""Shapes as closed contours, and their coverage of pixels.

A shape is float64 (E, 4): edges x0, y0, x1, y1, with y downwards. A point is inside if a ray from it crosses
an odd number of edges, so a ring is two circles. The centroid of a shape is the origin. The longer side of
its box is 2. Curves are polygons of 64 to 128 edges.

Coverage is exact across and sampled down: each pixel row has four scanlines, and the ends of their spans are
rounded to 1/64 pixel. So a pixel has 0 to 256 units of coverage, and all sums are whole numbers.

Axes: E edges, S side of the picture.
"""

import math
from functools import cache

import numpy as np

from synth.compilation import cached_jit
from synth.kernels.glyphs import rectangles
from synth.kernels.trigonometry import circle, sine

FULL = 256  # units of a covered pixel
_LINES = 4  # scanlines of a pixel row
_UNITS = 64  # units of a scanline in a pixel

Contour = list[tuple[float, float]]


@cache
def edges(kind: str, detail: int = 0, text: str = "") -> np.ndarray:
    """Returns a shape: float64 (E, 4), read-only by convention.

    `detail` is the number of points of a star, or 32 times the first frequency of a wave plus the second.
    `text` holds the letters of a text. Raises KeyError if the kind is unknown."""
    contours = rectangles(text) if kind == "text" else _CONTOURS[kind](detail)

    # Edges of all contours.
    pairs = [
        (*point, *contour[(i + 1) % len(contour)]) for contour in contours for i, point in enumerate(contour)
    ]
    shape = np.array(pairs, np.float64)

    # The centroid goes to the origin, and the longer side of the box becomes 2.
    x, y = _centroid(shape)
    shape -= np.array([x, y, x, y])
    xs, ys = shape[:, 0], shape[:, 1]
    return shape * (2 / max(xs.max() - xs.min(), ys.max() - ys.min()))


@cache
def box(kind: str, detail: int = 0, text: str = "") -> tuple[float, float, float, float]:
    """Returns the box of a shape: left, top, right, bottom."""
    shape = edges(kind, detail, text)
    xs, ys = shape[:, 0], shape[:, 1]
    return float(xs.min()), float(ys.min()), float(xs.max()), float(ys.max())


def placed(shape: np.ndarray, centre: tuple[float, float], radius: float, turns: float) -> np.ndarray:
    """Returns a shape turned, scaled and moved, in sides of the picture: float64 (E, 4)."""
    return _placed(shape, centre[0], centre[1], radius, turns)


@cached_jit()
def _placed(shape: np.ndarray, x: float, y: float, radius: float, turns: float) -> np.ndarray:
    cosine, sinus = radius * sine(turns + 0.25), radius * sine(turns)
    out = np.empty_like(shape)
    for i in range(shape.shape[0]):
        for end in (0, 2):
            across, down = shape[i, end], shape[i, end + 1]
            out[i, end] = x + cosine * across - sinus * down
            out[i, end + 1] = y + sinus * across + cosine * down
    return out


@cached_jit()
def cover(shape: np.ndarray, units: np.ndarray) -> tuple[int, int, int, int]:
    """Adds the coverage of a shape to units, int32 (S, S). Coordinates are sides of the picture.

    Returns the rows and columns that it may touch: left, top, right, bottom."""
    size = units.shape[0]
    low_x, low_y, high_x, high_y = 1e9, 1e9, -1e9, -1e9
    for i in range(shape.shape[0]):
        low_x, high_x = min(low_x, shape[i, 0]), max(high_x, shape[i, 0])
        low_y, high_y = min(low_y, shape[i, 1]), max(high_y, shape[i, 1])
    left, right = max(0, int(low_x * size)), min(size, int(high_x * size) + 1)
    top, bottom = max(0, int(low_y * size)), min(size, int(high_y * size) + 1)

    crossings = np.empty(shape.shape[0], np.int64)
    most = size * _UNITS
    for line in range(top * _LINES, bottom * _LINES):
        # Crossings of the scanline, in units, in ascending order.
        y, count = (line + 0.5) / (_LINES * size), 0
        for i in range(shape.shape[0]):
            y0, y1 = shape[i, 1], shape[i, 3]
            if (y0 <= y) != (y1 <= y):
                x = shape[i, 0] + (y - y0) / (y1 - y0) * (shape[i, 2] - shape[i, 0])
                unit = min(most, max(0, int(np.floor(x * most + 0.5))))
                j = count
                while j > 0 and crossings[j - 1] > unit:
                    crossings[j] = crossings[j - 1]
                    j -= 1
                crossings[j] = unit
                count += 1

        # Spans between crossings: part of the first and last pixel, all of those between.
        row = units[line // _LINES]
        for k in range(0, count - 1, 2):
            first, last = crossings[k], crossings[k + 1]
            column, end = first // _UNITS, last // _UNITS
            if column == end:
                if last > first:
                    row[column] += last - first
                continue
            row[column] += (column + 1) * _UNITS - first
            for j in range(column + 1, end):
                row[j] += _UNITS
            if last > end * _UNITS:
                row[end] += last - end * _UNITS
    return left, top, right, bottom


@cached_jit()
def cover_cells(
    cells: np.ndarray, x: float, y: float, radius: float, turns: float, units: np.ndarray
) -> tuple[int, int, int, int]:
    """Adds the coverage of lit cells, bool (G, G), to units, int32 (S, S): 4 x 4 samples a pixel.

    The grid is the square of side 2 about the origin, turned, scaled by `radius` and moved to x, y. Returns
    the rows and columns that it may touch: left, top, right, bottom."""
    size, grid = units.shape[0], cells.shape[0]
    reach = 1.4143 * radius
    left, right = max(0, int((x - reach) * size)), min(size, int((x + reach) * size) + 1)
    top, bottom = max(0, int((y - reach) * size)), min(size, int((y + reach) * size) + 1)
    scale = 0.5 * grid / radius
    cosine, sinus = scale * sine(turns + 0.25), scale * sine(turns)
    for row in range(top, bottom):
        for column in range(left, right):
            lit = 0
            for sample in range(16):
                across = (column + (sample % 4 + 0.5) / 4) / size - x
                down = (row + (sample // 4 + 0.5) / 4) / size - y
                i = int(np.floor(cosine * down - sinus * across + 0.5 * grid))
                j = int(np.floor(cosine * across + sinus * down + 0.5 * grid))
                if 0 <= i < grid and 0 <= j < grid and cells[i, j]:
                    lit += 1
            units[row, column] += 16 * lit
    return left, top, right, bottom


def _centroid(shape: np.ndarray) -> tuple[float, float]:
    """Returns the centroid of a shape's area. Holes run against their outlines, as their signed area is
    negative."""
    area = x = y = 0.0
    for x0, y0, x1, y1 in shape.tolist():
        cross = x0 * y1 - x1 * y0
        area += cross
        x += (x0 + x1) * cross
        y += (y0 + y1) * cross
    return x / (3 * area), y / (3 * area)


def _round(count: int = 64, radius: float = 1.0, across: float = 0.0, flat: float = 1.0) -> Contour:
    """Returns an ellipse about (across, 0)."""
    cosines, sines = circle(count)
    points = zip(cosines.tolist(), sines.tolist(), strict=True)
    return [(across + radius * x, flat * radius * y) for x, y in points]


def _regular(count: int, inner: float = 0.0) -> Contour:
    """Returns a regular polygon with a corner at the top, or a star with inner corners at a radius."""
    corners = 2 * count if inner else count
    cosines, sines = circle(corners)
    radii = [inner if inner and v % 2 else 1.0 for v in range(corners)]
    return [(r * s, -r * c) for r, s, c in zip(radii, sines.tolist(), cosines.tolist(), strict=True)]


def _star(points: int) -> list[Contour]:
    return [_regular(points, {4: 0.38, 5: 0.42}.get(points, 0.55))]


def _cross() -> Contour:
    near, far = 0.34, 1.0
    quarter = [(near, -far), (near, -near), (far, -near)]
    # Each quarter is the one before it, turned.
    corners: Contour = []
    for _ in range(4):
        corners += quarter
        quarter = [(-y, x) for x, y in quarter]
    return corners


def _crescent() -> Contour:
    """Returns a disc of radius 1 without the disc of radius .8 about (.45, 0)."""
    outer = [p for p in _round(96) if (p[0] - 0.45) ** 2 + p[1] ** 2 >= 0.64]
    inner = [p for p in _round(96, 0.8, 0.45) if p[0] ** 2 + p[1] ** 2 <= 1]
    outer.sort(key=lambda p: math.copysign(1 + p[0], p[1]))
    inner.sort(key=lambda p: -p[1] if p[0] < 0.45 else math.copysign(2, -p[1]))
    return outer + inner


def _heart() -> Contour:
    """Returns the curve x = 16 sin^3 t, y = 13 cos t - 5 cos 2t - 2 cos 3t - cos 4t."""
    corners = []
    for v in range(64):
        s, c1, c2, c3, c4 = (
            sine(n * v / 64 + q) for n, q in ((1, 0), (1, 0.25), (2, 0.25), (3, 0.25), (4, 0.25))
        )
        corners.append((16 * s * s * s, -(13 * c1 - 5 * c2 - 2 * c3 - c4)))
    return corners


def _arrow() -> Contour:
    upper = [(-1.0, -0.3), (0.1, -0.3), (0.1, -0.8), (1.0, 0.0)]
    return upper + [(x, -y) for x, y in reversed(upper[:3])]


def _wave(detail: int) -> list[Contour]:
    """Returns a band along a ring of two sine waves: the outline of a visual atom."""
    first, second = divmod(detail, 32)
    cosines, sines = circle(128)
    reach = [1 + 0.14 * sine(first * v / 128) + 0.1 * sine(second * v / 128) for v in range(128)]
    points = list(zip(cosines.tolist(), sines.tolist(), reach, strict=True))
    return [
        [(r * x, r * y) for x, y, r in points],
        [(0.66 * r * x, 0.66 * r * y) for x, y, r in points][::-1],
    ]


_CONTOURS = {
    "disc": lambda _: [_round()],
    "square": lambda _: [[(-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0)]],
    "triangle": lambda _: [_regular(3)],
    "star": _star,
    "ring": lambda _: [_round(), _round(radius=0.62)[::-1]],
    "cross": lambda _: [_cross()],
    "pentagon": lambda _: [_regular(5)],
    "oval": lambda _: [_round(flat=0.5)],
    "crescent": lambda _: [_crescent()],
    "heart": lambda _: [_heart()],
    "semicircle": lambda _: [[p for p in _round() if p[1] <= 1e-9]],
    "arrow": lambda _: [_arrow()],
    "wave": _wave,
}
