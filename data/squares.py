"""Any picture -> a square of RGB pixels: centre crop, then Lanczos (Pillow's, antialiased).

Size and filter move FID, so every sample and record names them.
"""

from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image

CROP, FILTER = "centre", "lanczos"

_TURN = Image.Transpose
_UPRIGHT = {  # EXIF orientation -> the transposition that makes a picture upright
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
    """A picture as it is stored."""

    pixels: np.ndarray  # uint8 (S, S, 3)
    size: tuple[int, int]  # width and height of the original, upright
    crop: tuple[int, int, int, int]  # [left, top, right, bottom) of the original
    grey: bool  # it had one channel


def square(picture: Image.Image, size: int) -> Square:
    """Returns the middle of a picture at `size` pixels a side. Raises Pillow's errors if it does not decode
    (data/decoding.py)."""
    picture = _upright(picture)
    width, height = picture.size
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    crop = (left, top, left + side, top + side)
    scaled = rgb(picture).crop(crop).resize((size, size), Image.Resampling.LANCZOS)
    return Square(np.asarray(scaled), (width, height), crop, picture.mode in GREY)


def rgb(picture: Image.Image) -> Image.Image:
    """Returns the picture in RGB, with white behind transparent pixels. Raises ValueError for a mode without
    a defined white."""
    if picture.mode in _NO_PICTURES:
        raise ValueError(f"its pixels are of kind {picture.mode}, of which nobody says what is white")
    if picture.mode.startswith("I;16"):
        picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    seen = picture.convert("RGBA")
    white = Image.new("RGBA", seen.size, "white")
    return Image.alpha_composite(white, seen).convert("RGB")


def _upright(picture: Image.Image) -> Image.Image:
    """Returns the picture turned as its EXIF orientation says. No other tag is read: EXIF may be damaged even
    if the picture is whole."""
    picture.load()
    turn = _UPRIGHT.get(picture.getexif().get(ExifTags.Base.Orientation, 1))
    return picture if turn is None else picture.transpose(turn)
