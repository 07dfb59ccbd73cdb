"""Squares of RGB pixels from any picture: centre crop, then Lanczos (Pillow's, antialiased).

Size and filter change FID, so every sample and record names them.
"""

from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image

CROP, FILTER = "centre", "lanczos"

_TURN = Image.Transpose
# The transposition that makes a picture upright, by EXIF orientation.
_UPRIGHT = {
    2: _TURN.FLIP_LEFT_RIGHT,
    3: _TURN.ROTATE_180,
    4: _TURN.FLIP_TOP_BOTTOM,
    5: _TURN.TRANSPOSE,
    6: _TURN.ROTATE_270,
    7: _TURN.TRANSVERSE,
    8: _TURN.ROTATE_90,
}
GREY = {"1", "L", "LA", "I;16", "I;16L", "I;16B", "I;16N"}
_NO_PICTURES = {"I", "F"}  # 32-bit numbers without a defined white


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
    picture = _upright(picture)
    width, height = picture.size
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    crop = (left, top, left + side, top + side)

    # Pixels.
    scaled = rgb(picture).crop(crop).resize((size, size), Image.Resampling.LANCZOS)
    return Square(np.asarray(scaled), (width, height), crop, picture.mode in GREY)


def rgb(picture: Image.Image) -> Image.Image:
    """Returns the picture in RGB, with white behind transparent pixels.

    Raises ValueError for a mode without a defined white."""
    # Modes of one number per pixel.
    if picture.mode in _NO_PICTURES:
        raise ValueError(f"its pixels are of kind {picture.mode}, of which nobody says what is white")
    if picture.mode.startswith("I;16"):
        picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))

    # White behind transparent pixels.
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    layer = picture.convert("RGBA")
    white = Image.new("RGBA", layer.size, "white")
    return Image.alpha_composite(white, layer).convert("RGB")


def _upright(picture: Image.Image) -> Image.Image:
    """Returns the picture turned by its EXIF orientation.

    It reads no other tag, because EXIF may be damaged even if the picture is whole."""
    picture.load()
    turn = _UPRIGHT.get(picture.getexif().get(ExifTags.Base.Orientation, 1))
    return picture if turn is None else picture.transpose(turn)
