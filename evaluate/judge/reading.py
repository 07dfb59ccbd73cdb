"""Block letters, read from a picture: one to four glyphs of 5 x 7 cells, in a row that may be turned.

A row of n letters is 6 n - 1 cells wide. Each number of letters, turn, size and place gives a grid of cells.
The grid in which the nearest glyphs differ least from the picture's coverage is read.

Axes: S side in pixels, L glyphs, Q grids, n letters.
"""

from functools import cache

import numpy as np

from evaluate.judge.sight import SeenObject
from synth.families import scene_world, scenes
from synth.families.scenes import LETTERS, Params, SceneObject

LEAST_SIDE = 16  # pixels of the longer side of a text that is read

_TURNS = np.linspace(-0.05, 0.05, 7)
_CELL = 7  # pixels of a cell of a drawn glyph
_SCALES = (0.97, 1.0, 1.03)
_MOVES = (-0.35, 0.0, 0.35)  # cells down
_HEIGHTS = (0.92, 1.0)
# Cells that narrow letters at the ends take from a row, and cells by which its middle moves.
_ENDS = ((0, (-0.2, 0.2)), (1, (-0.5, 0.5)), (2, (0.0,)))
_FAR = 70.0  # levels of a pixel from mixtures of backdrop and letters: another object
_PALETTE = {word: np.array(levels, np.float32) for word, levels in scene_world.PALETTE.items()}


def read(picture: np.ndarray, thing: SeenObject, backdrop: str) -> str:
    """Returns the letters of a text in a picture float32 (S, S, 3), or an empty string if it is too small."""
    size = len(picture)
    left, top, right, bottom = (side * size for side in thing.box)
    if max(right - left, bottom - top) < LEAST_SIDE or thing.colour == backdrop:
        return ""

    # Coverage near the text.
    way = _PALETTE[thing.colour] - _PALETTE[backdrop]
    difference = picture - _PALETTE[backdrop]
    alpha = np.clip(difference @ way / (way @ way), 0.0, 1.0)
    alpha[((difference - alpha[:, :, None] * way) ** 2).sum(-1) > _FAR**2] = 0.0
    rows, columns = np.mgrid[:size, :size] + 0.5
    near = (columns > left - 1) & (columns < right + 1) & (rows > top - 1) & (rows < bottom + 1)
    alpha = np.where(near, alpha, 0.0)
    shown = alpha >= 0.5
    if not shown.any():
        return ""

    # The best grid of all turns, with the number of letters that its reach suggests.
    best = (np.inf, "")
    for turn in _TURNS:
        cosine, sinus = np.cos(2 * np.pi * turn), np.sin(2 * np.pi * turn)
        along, down = cosine * columns + sinus * rows, cosine * rows - sinus * columns
        ends = (
            along[shown].min() - 0.5,
            along[shown].max() + 0.5,
            down[shown].min() - 0.5,
            down[shown].max() + 0.5,
        )
        wide, high = ends[1] - ends[0], ends[3] - ends[2]
        middle = (ends[0] + ends[1]) / 2, (ends[2] + ends[3]) / 2
        for count in range(1, 5):
            # Narrow letters at the ends make a row one or two cells shorter.
            if 0.75 <= 7 * wide / ((6 * count - 2) * high) <= 1.5:
                best = min(best, _nearest(alpha, count, middle, (wide, high), (cosine, sinus)))
    return best[1]


def _nearest(
    alpha: np.ndarray,
    count: int,
    middle: tuple[float, float],
    reach: tuple[float, float],
    turn: tuple[float, float],
) -> tuple[float, str]:
    """Returns the mean error of the best grid of `count` letters, and these letters."""
    cosine, sinus = turn
    columns = np.arange(6 * count) - (6 * count - 2) / 2  # with a gap behind each letter
    rows = np.arange(7) - 3.0
    moves = [
        (reach[0] * scale / (6 * count - 1 - short), across, down, reach[1] * tall / 7)
        for short, shifts in _ENDS
        for across in shifts
        for scale in _SCALES
        for down in _MOVES
        for tall in _HEIGHTS
    ]
    cell, across, down, step = np.array(moves).T[:, :, None, None]  # (Q, 1, 1)
    along = middle[0] + (columns[None, None] + across) * cell
    below = middle[1] + (rows[None, :, None] + down) * step + 0 * along
    values = _sampled(alpha, cosine * along - sinus * below, sinus * along + cosine * below)  # (Q, 7, 6 n)
    values = values.reshape(len(moves), 7, count, 6).transpose(0, 2, 1, 3)  # (Q, n, 7, 6)
    errors = ((values[:, :, None] - glyphs()) ** 2).mean((3, 4))  # (Q, n, L)
    total = errors.min(2).mean(1)  # (Q,)
    q = int(total.argmin())
    return float(total[q]), "".join(LETTERS[k] for k in errors[q].argmin(1))


@cache
def glyphs() -> np.ndarray:
    """Returns the glyphs with an empty column behind: float32 (L, 7, 6)."""
    black, white = (0, 0, 0), (255, 255, 255)
    stack = np.zeros((len(LETTERS), 7, 6), np.float32)
    size = 10 * _CELL
    for number, letter in enumerate(LETTERS):
        thing = SceneObject(
            "text", "white", white, "", 0.35, (0.5, 0.5), 0.0, "flat", "", black, 0, 0, letter
        )
        picture = scenes.render(Params((thing,), 0, "black", black, "flat", 0), size).pixels[:, :, 0]
        lit = picture >= 128
        top, left = (int(np.flatnonzero(lit.any(axis))[0]) for axis in (1, 0))
        width = round(int(lit.any(0).sum()) / _CELL)
        rows, columns = (np.arange(n) * _CELL + _CELL // 2 for n in (7, width))
        first = (5 - width) // 2
        stack[number, :, first : first + width] = lit[np.ix_(top + rows, left + columns)]
    return stack


def _sampled(alpha: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Returns the bilinear values of a coverage (S, S) at points in pixels."""
    last = len(alpha) - 2
    x, y = np.clip(x - 0.5, 0, last + 0.999), np.clip(y - 0.5, 0, last + 0.999)
    i, j = y.astype(int), x.astype(int)
    down, across = y - i, x - j
    upper = (1 - across) * alpha[i, j] + across * alpha[i, j + 1]
    lower = (1 - across) * alpha[i + 1, j] + across * alpha[i + 1, j + 1]
    return np.asarray((1 - down) * upper + down * lower)
