"""Outlines of objects of scenes, matched with pictures.

An outline is a kind with its detail: the points of a star, the frequencies of a wave, or the number of a
fractal.

Axes: S side of the picture, E edges, G of the grid of a fractal.
"""

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np

from synth.families.scene_drawing import POOL, fractal_cells
from synth.kernels import matching, shapes

LIMIT = matching.LIMIT  # squared levels, of a pixel's misfit
VEIL = matching.VEIL * LIMIT  # misfit of a covered pixel that an object in front may hide

_STEPS = np.array([0.02, 0.02, 0.06, 0.02])  # of x, y, radius (as a share) and turn
_NO_SHAPE, _NO_CELLS = np.empty((0, 4)), np.zeros((1, 1), bool)


class Outline(NamedTuple):
    """A kind with its detail."""

    kind: str
    detail: int = 0


class Start(NamedTuple):
    """A place where a search begins. Lengths are sides of the picture."""

    x: float
    y: float
    radius: float
    turn: float = 0.0


class Match(NamedTuple):
    """An outline at a place, with the misfit of its pixels."""

    outline: Outline
    x: float
    y: float
    radius: float
    turn: float
    misfit: float

    @property
    def place(self) -> Start:
        """Its place."""
        return Start(self.x, self.y, self.radius, self.turn)


class Evidence(NamedTuple):
    """The pixels that an outline must explain."""

    picture: np.ndarray  # float32 (S, S, 3)
    ends: np.ndarray  # float32 (2, 3) ends of the object's colour
    ground: np.ndarray  # float32 (S, S, 3) the colour behind the object
    rests: (
        np.ndarray
    )  # float32 (2, S, S) misfits of covered and bare pixels; below 0: the pixel does not count


@cache
def outlines(kind: str) -> tuple[Outline, ...]:
    """Returns the outlines of a kind that scenes draw."""
    details: Sequence[int] = (0,)
    if kind == "star":
        details = range(4, 8)
    elif kind == "wave":
        details = [32 * first + second for first in range(3, 6) for second in range(6, 10)]
    elif kind == "fractal":
        details = range(POOL)
    return tuple(Outline(kind, detail) for detail in details)


@cache
def box(outline: Outline, turn: float = 0.0) -> tuple[float, float, float, float]:
    """Returns the box of a turned outline, in radii: left, top, right, bottom."""
    shape, cells = _geometry(outline)
    points = shape[:, :2]
    if not len(shape):
        # Corners of the lit cells.
        rows, columns = np.nonzero(cells)
        corners = [np.stack([columns + i, rows + j], 1) for i in (0, 1) for j in (0, 1)]
        points = 2 * np.concatenate(corners) / len(cells) - 1
    turned = shapes.placed(np.concatenate([points, points], 1), (0.0, 0.0), 1.0, turn)
    x, y = turned[:, 0], turned[:, 1]
    return float(x.min()), float(y.min()), float(x.max()), float(y.max())


@cache
def cells(kind: str, grid: int) -> np.ndarray:
    """Returns the outlines of a kind of fractals as shares of lit cells: float32 (N, grid, grid)."""
    stack = np.stack([fractal_cells(outline.detail) for outline in outlines(kind)])
    step = stack.shape[1] // grid
    return np.asarray(stack.reshape(-1, grid, step, grid, step).mean((2, 4), dtype=np.float32))


def match(outline: Outline, start: Start, rounds: int, evidence: Evidence) -> Match:
    """Returns the best place of an outline near a start. Without rounds, it is the start."""
    values = matching.search(*_geometry(outline), np.array(start), _STEPS, rounds, *evidence)
    return Match(outline, *values.tolist())


def coverage(match: Match, size: int) -> np.ndarray:
    """Returns the coverage of a match: float32 (S, S), 0 to 1."""
    units = np.zeros((size, size), np.int32)
    shape, lit = _geometry(match.outline)
    if len(shape):
        shapes.cover(shapes.placed(shape, (match.x, match.y), match.radius, match.turn), units)
    else:
        shapes.cover_cells(lit, match.x, match.y, match.radius, match.turn, units)
    return np.minimum(units, shapes.FULL).astype(np.float32) / shapes.FULL


def _geometry(outline: Outline) -> tuple[np.ndarray, np.ndarray]:
    """Returns the edges of a shape (E, 4), or none and the cells of a fractal (G, G)."""
    if outline.kind == "fractal":
        return _NO_SHAPE, fractal_cells(outline.detail)
    return shapes.edges(outline.kind, outline.detail), _NO_CELLS
