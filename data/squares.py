"""Squares of RGB pixels from any picture: centre crop, then Lanczos (Pillow's, antialiased).

Size and filter change FID, so every sample and record names them.
"""

from typing import NamedTuple

import numpy as np
from PIL import Image

from synth.images.conversion import GREY, upright

CROP, FILTER = "centre", "lanczos"


class Square(NamedTuple):
    """A prepared picture."""

    pixels: np.ndarray  # uint8 (S, S, 3)
    size: tuple[int, int]  # width and height of the original, upright
    crop: tuple[int, int, int, int]  # [left, top, right, bottom) of the original
    grey: bool  # True: the original has one channel


def square(picture: Image.Image, size: int) -> Square:
    """Returns the middle of a picture at `size` pixels a side.

    Raises Pillow's errors if it does not decode (data/decoding.py)."""
    # Largest centred square.
    grey, picture = picture.mode in GREY, upright(picture)
    width, height = picture.size
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    crop = (left, top, left + side, top + side)

    # Pixels.
    scaled = picture.crop(crop).resize((size, size), Image.Resampling.LANCZOS)
    return Square(np.asarray(scaled), (width, height), crop, grey)
