"""A picture of any kind and shape -> a square of RGB pixels: centre crop, then Lanczos (Pillow's, antialiased).

Size and filter move FID, so every sample and record names them.
"""

from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

CROP, FILTER = "centre", "lanczos"

GREY = {"1", "L", "LA", "I;16", "I;16L", "I;16B", "I;16N"}
_NO_PICTURES = {"I", "F"}  # 32-bit numbers of which nobody says what is white


class Square(NamedTuple):
    """A picture as it is stored."""

    pixels: np.ndarray  # uint8 (S, S, 3)
    size: tuple[int, int]  # width and height of the original, upright
    crop: tuple[int, int, int, int]  # [left, top, right, bottom) of the original
    grey: bool  # it had one channel


def square(picture: Image.Image, size: int) -> Square:
    """The middle of a picture at `size` pixels a side. Raises OSError, ValueError or SyntaxError where it does not decode."""
    picture = ImageOps.exif_transpose(picture)
    width, height = picture.size
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    crop = (left, top, left + side, top + side)
    scaled = rgb(picture).crop(crop).resize((size, size), Image.Resampling.LANCZOS)
    return Square(np.asarray(scaled), (width, height), crop, picture.mode in GREY)


def rgb(picture: Image.Image) -> Image.Image:
    """The picture in RGB; what is transparent in it shows white. Raises ValueError for a kind that has no such meaning."""
    if picture.mode in _NO_PICTURES:
        raise ValueError(f"its pixels are of kind {picture.mode}, of which nobody says what is white")
    if picture.mode.startswith("I;16"):
        picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    seen = picture.convert("RGBA")
    white = Image.new("RGBA", seen.size, "white")
    return Image.alpha_composite(white, seen).convert("RGB")
