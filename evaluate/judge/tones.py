"""Colours of pixels: their words, with the tones that gradients and textures give a word.

A colour has two ends, such as the darkest and the lightest tone of a gradient, or the two colours of stripes.
A pixel has the colour if it lies between the ends.

Axes: S side of the picture, C colour words, P pixels.
"""

from functools import cache
from typing import NamedTuple

import numpy as np

from synth.families import scene_world

PURE = 22.0  # levels between a pixel and the tones of its word
PALETTE = np.array(list(scene_world.PALETTE.values()), np.float32)  # (C, 3)

_TONES = (-0.14, -0.1, -0.05, 0.0, 0.03, 0.065, 0.1)
_STEP = 8  # levels of the table


class View(NamedTuple):
    """A picture with the colour words of its pixels."""

    picture: np.ndarray  # float32 (S, S, 3)
    far: np.ndarray  # (S, S, C) levels between a pixel and the tones of a word
    words: np.ndarray  # (S, S) the nearest word
    backdrop: int  # its word
    behind: np.ndarray  # (2, 3) ends of the backdrop's colour
    rows: np.ndarray  # (S, S) middles of the pixels, in sides of the picture
    columns: np.ndarray  # (S, S)

    @property
    def side(self) -> int:
        """The side of the picture in pixels."""
        return len(self.picture)

    @property
    def clear(self) -> np.ndarray:
        """The pixels that are no mixtures: bool (S, S)."""
        return np.asarray(self.far.min(-1) < PURE)

    def near(self, x: float, y: float, reach: float) -> np.ndarray:
        """Returns the pixels within a distance of a point: bool (S, S)."""
        return np.asarray((self.columns - x) ** 2 + (self.rows - y) ** 2 < reach * reach)


def view(picture: np.ndarray, backdrop: int) -> View:
    """Returns the view of a picture float32 (S, S, 3) with a backdrop of a colour word."""
    red, green, blue = np.moveaxis(np.clip(picture, 0, 255).astype(np.uint8) // _STEP, -1, 0)
    far = _distances()[red, green, blue]
    rows, columns = (np.mgrid[: len(picture), : len(picture)] + 0.5) / len(picture)
    behind = ends(picture[far[..., backdrop] < PURE], backdrop)
    return View(picture, far, far.argmin(-1), backdrop, behind, rows, columns)


def ends(pixels: np.ndarray, word: int) -> np.ndarray:
    """Returns the ends of the colour of pixels (P, 3) of a word: (2, 3)."""
    if len(pixels) < 6:
        return np.stack([PALETTE[word]] * 2)
    mean = pixels.mean(0)
    _, ways = np.linalg.eigh(np.cov((pixels - mean).T))
    reach = np.quantile((pixels - mean) @ ways[:, -1], [0.05, 0.95])
    return np.asarray(mean + reach[:, None] * ways[:, -1])


def apart(picture: np.ndarray, colour: np.ndarray) -> np.ndarray:
    """Returns the squared distance of each pixel (..., 3) from a colour with two ends (2, 3)."""
    way, difference = colour[1] - colour[0], picture - colour[0]
    share = np.clip(difference @ way / max(1e-6, float(way @ way)), 0.0, 1.0)
    return np.asarray(((difference - share[..., None] * way) ** 2).sum(-1))


def grown(mask: np.ndarray) -> np.ndarray:
    """Returns a mask bool (S, S) with the pixels around it."""
    wide = mask.copy()
    wide[1:] |= mask[:-1]
    wide[:-1] |= mask[1:]
    out = wide.copy()
    out[:, 1:] |= wide[:, :-1]
    out[:, :-1] |= wide[:, 1:]
    return out


@cache
def _distances() -> np.ndarray:
    """Returns the distance of colours, in steps, from the tones of each word: float32 (32, 32, 32, C)."""
    axis = np.arange(0, 256, _STEP, dtype=np.float32) + (_STEP - 1) / 2
    levels = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1)
    squares = np.full((*levels.shape[:3], len(PALETTE)), np.inf, np.float32)
    for word, base in enumerate(PALETTE):
        for tone in _TONES:
            colour = base + tone * (255 - base if tone > 0 else base)
            squares[..., word] = np.minimum(squares[..., word], ((levels - colour) ** 2).sum(-1))
    return np.sqrt(squares)
