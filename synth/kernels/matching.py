"""A shape matched with a picture: the place, size and turn at which its coverage explains the pixels best.

Every pixel has a misfit if the shape covers it, and another one if it does not. A pixel at the edge is a
mixture of the object's colour with the colour behind it. The misfit of a shape is the sum over pixels, each
up to a limit.

Axes: E edges, S side of the picture, G of the grid of a fractal.
"""

import numpy as np

from synth.compilation import cached_jit
from synth.kernels.shapes import FULL, _placed, cover, cover_cells

LIMIT = 3600.0  # squared levels, of a pixel's misfit
VEIL = 0.15  # of the limit: misfit of a covered pixel that an object in front may hide
_SLACK = 0.004  # of a coverage beside 0 and 1
_SPAN = (0.095, 0.31)  # least and greatest radius
_TURN = 0.06  # greatest turn


@cached_jit()
def search(
    shape: np.ndarray,
    cells: np.ndarray,
    start: np.ndarray,
    steps: np.ndarray,
    rounds: int,
    picture: np.ndarray,
    ends: np.ndarray,
    ground: np.ndarray,
    rests: np.ndarray,
) -> np.ndarray:
    """Returns the best place near a start: x, y, radius, turn, misfit, float64 (5,).

    `shape` (E, 4) has edges, or none for a fractal, which is `cells` bool (G, G). `start` (4,) is x, y,
    radius and turn, `steps` (4,) are the first steps, halved in each of the rounds. `picture` is float32
    (S, S, 3), `ends` float32 (2, 3) are the ends of the object's colour, `ground` float32 (S, S, 3) is the
    colour behind it. `rests` float32 (2, S, S) are the misfits of covered and of bare pixels, below 0 if a
    pixel does not count."""
    units, window = np.zeros(rests.shape[1:], np.int32), _window(rests[1])
    best = np.empty(5)
    best[:4] = start
    best[4] = _misfit(shape, cells, best, picture, ends, ground, rests, window, units)
    trial = np.empty(5)
    for n in range(rounds):
        for _ in range(2):
            before = best[4]
            for axis in range(4):
                for sign in (-1.0, 1.0):
                    trial[:] = best
                    step = sign * steps[axis] / 2**n
                    trial[axis] += step * best[2] if axis == 2 else step
                    if not (_SPAN[0] <= trial[2] <= _SPAN[1] and abs(trial[3]) <= _TURN):
                        continue
                    trial[4] = _misfit(shape, cells, trial, picture, ends, ground, rests, window, units)
                    if trial[4] < best[4]:
                        best[:] = trial
                        break
            if best[4] > 0.95 * before:
                break
    return best


@cached_jit()
def _misfit(
    shape: np.ndarray,
    cells: np.ndarray,
    place: np.ndarray,
    picture: np.ndarray,
    ends: np.ndarray,
    ground: np.ndarray,
    rests: np.ndarray,
    window: tuple[int, int, int, int],
    units: np.ndarray,
) -> float:
    """Returns the misfit of a shape at a place. `units` int32 (S, S) are zeros before and after."""
    if shape.shape[0]:
        touched = cover(_placed(shape, place[0], place[1], place[2], place[3]), units)
    else:
        touched = cover_cells(cells, place[0], place[1], place[2], place[3], units)
    left, top, right, bottom = window
    total = 0.0
    for row in range(top, bottom):
        for column in range(left, right):
            bare = rests[1, row, column]
            if bare < 0.0:
                continue
            alpha = min(units[row, column], FULL) / FULL
            if alpha <= _SLACK:
                rest = bare
            elif alpha >= 1 - _SLACK:
                rest = rests[0, row, column]
            else:
                # The nearest mixture with an end or the middle of the object's colour.
                rest = LIMIT
                for end in (0.0, 0.5, 1.0):
                    squares = 0.0
                    for c in range(3):
                        front = ends[0, c] + end * (ends[1, c] - ends[0, c])
                        mixed = alpha * front + (1 - alpha) * ground[row, column, c]
                        squares += (picture[row, column, c] - mixed) ** 2
                    rest = min(rest, squares)
                # An object in front may hide the mixture.
                if rests[0, row, column] <= bare + 1.0001 * VEIL * LIMIT:
                    rest = min(rest, bare)
            total += min(rest, LIMIT)
    left, top, right, bottom = touched
    units[top:bottom, left:right] = 0
    return total


@cached_jit()
def _window(bare: np.ndarray) -> tuple[int, int, int, int]:
    """Returns the box of the pixels that count: left, top, right, bottom."""
    size = bare.shape[0]
    left, top, right, bottom = size, size, 0, 0
    for row in range(size):
        for column in range(size):
            if bare[row, column] >= 0.0:
                left, top = min(left, column), min(top, row)
                right, bottom = max(right, column + 1), max(bottom, row + 1)
    return left, top, right, bottom
