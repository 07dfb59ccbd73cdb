"""Pictures of every mode as upright 8-bit RGB: the one conversion of every reader.

White is behind transparent pixels, an EXIF orientation is undone, and 16-bit grey keeps its upper eight bits.
So a picture has the same pixels in a folder, in a tar, and in a prepared set.
"""

import struct
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import ExifTags, Image, TiffImagePlugin

# Extensions of pictures, those that no reader takes among them. Readers name such a file instead of passing
# over it.
EXTENSIONS = {
    *("png", "webp", "jpg", "jpeg", "jfif", "jpe", "bmp", "gif", "tif", "tiff", "avif", "heic", "heif"),
    *("jp2", "jxl", "svg", "psd", "tga", "ppm", "pgm", "pbm", "pnm", "ico", "exr", "hdr", "dng"),
}

GREY = {"1", "L", "LA", "I;16", "I;16L", "I;16B", "I;16N"}

# The errors that Pillow raises on damaged files. Its documentation promises none of them.
DAMAGED = (
    *(SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, EOFError, NotImplementedError),
    *(struct.error, zlib.error, Image.DecompressionBombError),
)

_NO_PICTURES = {"I", "F"}  # 32-bit numbers without a defined white
_DEEP = 16  # bits of a level
_SENSOR = 12  # bits of most sensors with more than 8

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


def upright(picture: Image.Image) -> Image.Image:
    """Returns the picture turned by its EXIF orientation, in RGB.

    Raises ValueError for a mode without a defined white, and other errors (DAMAGED) if it does not decode."""
    picture.load()
    turn, converted = _turn(picture), rgb(picture)
    return converted if turn is None else converted.transpose(turn)


def rgb(picture: Image.Image) -> Image.Image:
    """Returns the picture in RGB, with white behind transparent pixels.

    Raises ValueError for a mode without a defined white."""
    # Modes of one number per pixel.
    if picture.mode in _NO_PICTURES:
        raise ValueError(f"its pixels are of kind {picture.mode}, which defines no white")
    if picture.mode.startswith("I;16"):
        picture = _shallow(picture)

    # White behind transparent pixels.
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    layer = picture.convert("RGBA")
    white = Image.new("RGBA", layer.size, "white")
    return Image.alpha_composite(white, layer).convert("RGB")


def _turn(picture: Image.Image) -> Image.Transpose | None:
    """Returns the transposition that makes a picture upright, or None if it is upright already."""
    # No other tag is read, because EXIF may be damaged even if the picture is whole.
    try:
        return _UPRIGHT.get(picture.getexif().get(ExifTags.Base.Orientation, 1))
    except (OSError, *DAMAGED):
        return None


def _shallow(picture: Image.Image) -> Image.Image:
    """Returns 16-bit grey as 8-bit grey. TIFF files may have black as their greatest number."""
    levels = np.asarray(picture)
    tags = getattr(picture, "tag_v2", {})
    levels = (levels >> (_bits(tags, levels) - 8)).clip(0, 255).astype(np.uint8)
    inverted = tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION, 1) == 0
    return Image.fromarray(255 - levels if inverted else levels)


def _bits(tags: Mapping[int, Any], levels: np.ndarray) -> int:
    """Returns the bits of the white of 16-bit grey: 16, but less in TIFF files of sensors with fewer bits.

    PNG defines that white is 65,535. TIFF stores fewer bits, or 16 that are not all used. Then a picture that
    uses none of its upper four bits counts as one of 12 bits."""
    # PNG.
    if not tags:
        return _DEEP

    # The tag is a number or a tuple of one.
    depth = int(np.atleast_1d(tags.get(TiffImagePlugin.BITSPERSAMPLE, _DEEP))[0])
    if depth < _DEEP:
        return max(depth, 8)
    return _SENSOR if int(levels.max(initial=0)) < 1 << _SENSOR else _DEEP
