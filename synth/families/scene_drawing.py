"""Drawing a scene: its backdrop, its objects from back to front, and the instance mask.

Axes: S side of the picture, G of the grid of a fractal.
"""

import math
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from synth import seeds
from synth.families.fractals import random_system
from synth.images.pictures import Picture
from synth.kernels import clouds, ifs, shapes
from synth.kernels.fillings import FILLINGS, direction, paint

if TYPE_CHECKING:
    from synth.families.scenes import Params

POOL = 256  # fractals that objects are drawn from

_FAINT = 0.6  # strength of a backdrop's gradient or texture
_GRID = 64  # G
_RAGGED = 10.0  # least outline of a fractal, in square roots of its area; a disc has 4.5, a ring 7.3
_NO_LAW, _NO_HEIGHTS = np.zeros(4), np.zeros((2, 2), np.int32)


def render(params: "Params", size: int) -> Picture:
    """Draws a picture: pixels uint8 (S, S, 3) and its instance mask. The foreground is the objects."""
    canvas, mask = np.empty((size, size, 3), np.uint8), np.zeros((size, size), np.uint8)
    units = np.full((size, size), shapes.FULL, np.int32)

    # Backdrop: an object of full coverage, with number 0.
    rgb, filling = params.backdrop_rgb, params.backdrop_filling
    _paint(
        canvas, mask, units, (0, 0, size, size), 0, (0.5, 0.5, 0.5), rgb, rgb, filling, params.backdrop_key
    )

    # Objects, from back to front.
    measured: list[np.ndarray] = []
    for number, thing in enumerate(params.objects, 1):
        x, y = thing.centre
        if thing.kind == "fractal":
            area = shapes.cover_cells(fractal_cells(thing.detail), x, y, thing.radius, thing.turn, units)
        else:
            shape = shapes.edges(thing.kind, thing.detail, thing.text)
            area = shapes.cover(shapes.placed(shape, thing.centre, thing.radius, thing.turn), units)
        place = (x, y, thing.radius)
        measured.append(
            _paint(
                canvas,
                mask,
                units,
                area,
                number,
                place,
                thing.rgb,
                thing.second_rgb,
                thing.filling,
                thing.fill_key,
            )
        )
    return Picture(canvas, mask > 0, mask, _objects(measured))


def _paint(
    canvas: np.ndarray,
    mask: np.ndarray,
    units: np.ndarray,
    area: tuple[int, int, int, int],
    number: int,
    place: tuple[float, float, float],
    rgb: tuple[int, int, int],
    second: tuple[int, int, int],
    filling: str,
    key: int,
) -> np.ndarray:
    """Paints an object with its filling. Its direction and phase follow from its key."""
    code, strength = FILLINGS.index(filling), 1.0 if number else _FAINT
    law = (
        direction((key & 255) / 256, 2.0 + (key >> 8 & 255) / 256, (key >> 16 & 255) / 256)
        if code
        else _NO_LAW
    )
    heights = clouds.heights(np.uint64(key), 16, 0.4) if filling == "texture" else _NO_HEIGHTS
    colours = np.array((rgb, second), np.uint8)
    return paint(canvas, mask, units, area, number, place, colours, code, strength, law, heights)


def _objects(measured: list[np.ndarray]) -> list[dict[str, object]]:
    """Returns box, area and visible share of each object, and which objects hide how much of it."""
    rows = [seen.tolist() for seen in measured]
    entries: list[dict[str, object]] = []
    for i, (left, top, right, bottom, area, *_) in enumerate(rows):
        # An object hides the foremost one at a pixel. Column 6 + i counts pixels of object i.
        hidden = {j + 1: rows[j][6 + i] for j in range(i + 1, len(rows)) if rows[j][6 + i]}
        visible = area - sum(hidden.values())
        entries.append(
            {
                "box": [left, top, right, bottom] if area else None,
                "area": area,
                "visible": visible / area if area else 0.0,
                "hidden_by": [[j, count] for j, count in hidden.items()],
            }
        )
    return entries


@lru_cache(maxsize=POOL)
def fractal_cells(number: int) -> np.ndarray:
    """Returns a fractal of the pool: bool (G, G).

    Between .2 and .6 of its cells are lit. Its dense parts reach across the grid, so that it keeps its size
    in small pictures. Its outline is ragged, so that nobody takes it for a ring or a triangle."""
    stream = seeds.stream(0, "fractals of scenes", number)
    while True:
        # A system, its points in their box, and each point's four neighbours.
        system = ifs.array(random_system(stream.integer(2, 4), stream.key()))
        start, key = ifs.fixed_point(system[0]), stream.key()
        points = ifs.points(system, start=start, key=key, count=20_000)
        bounds = ifs.bounds(points)
        spans = bounds[:, 1] - bounds[:, 0]
        if not all(math.isfinite(span) and span > 0 for span in spans.tolist()):
            continue
        side = float(spans.max()) * 1.04
        window = np.stack([bounds.mean(axis=1) - side / 2, np.full(2, side)], axis=1)
        counts = ifs.histogram(points, window, _GRID, ifs.strides(0, _GRID))[1:-1, 1:-1] > 0
        lit = counts[1:-1, 1:-1] | counts[:-2, 1:-1] | counts[2:, 1:-1] | counts[1:-1, :-2] | counts[1:-1, 2:]
        # Blocks of 8 x 8 cells with at least half of them lit.
        dense = np.argwhere(lit.reshape(8, 8, 8, 8).mean(axis=(1, 3)) >= 0.5)
        reach = int((dense.max(axis=0) - dense.min(axis=0) + 1).max()) if len(dense) else 0
        outline = int((lit[1:] != lit[:-1]).sum() + (lit[:, 1:] != lit[:, :-1]).sum())
        ragged = outline >= _RAGGED * math.sqrt(lit.sum())
        if 0.2 <= float(lit.mean()) <= 0.6 and reach == 8 and ragged:
            return np.ascontiguousarray(lit)
