"""Picture <-> bytes. PNG is on the hot path, so its encoder is here: fixed header, one filter a picture.

Drawn pictures hold few matches. Run lengths and a Huffman code compress as well as a search for matches, in a
fraction of the time. Dark pictures (line art, point clouds on black) have filter 0 (none) and run lengths, by
zlib-ng. Others have filter 1 (differences to the pixel on the left). These get run lengths if most
differences are zero, else a Huffman code alone (huffman.py). The result is an ordinary PNG for every reader.
ISA-L's deflate is quick too, but sometimes gives other bytes for the same picture in another process. Shards
promise equal bytes. WebP (lossless) and JPEG (quality 95) are Pillow's. Pixels are uint8 (H, W, C), C = 1
grey or 3 RGB.
"""

import io
import struct
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError
from zlib_ng import zlib_ng

from synth.compilation import cached_jit
from synth.images import conversion, huffman

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLOUR_TYPES = {1: 0, 3: 2}


class Codec(NamedTuple):
    """An extension and the encoder of its pictures."""

    extension: str
    encode: Callable[[np.ndarray], bytes]


def encode_png(pixels: np.ndarray) -> bytes:
    """Returns a PNG with one image chunk and the same filter for every row."""
    height, width, channels = pixels.shape
    rows, runs = _filtered(pixels)
    # Eight bits a channel, no interlacing.
    header = struct.pack(">IIBBBBB", width, height, 8, _COLOUR_TYPES[channels], 0, 0, 0)
    data = _run_lengths(rows) if runs else huffman.compress(rows.reshape(-1))
    return b"".join((_SIGNATURE, _chunk(b"IHDR", header), _chunk(b"IDAT", data), _chunk(b"IEND", b"")))


def encode_webp(pixels: np.ndarray) -> bytes:
    """Returns a lossless WebP (always RGB: the format has no grey)."""
    return _pillow(pixels, "WEBP", lossless=True, quality=0, method=0)


def encode_jpeg(pixels: np.ndarray) -> bytes:
    """Returns a JPEG of quality 95."""
    return _pillow(pixels, "JPEG", quality=95)


CODECS = {
    "png": Codec("png", encode_png),
    "webp": Codec("webp", encode_webp),
    "jpeg": Codec("jpg", encode_jpeg),
}
EXTENSIONS = {"png", "webp", "jpg", "jpeg"}  # extensions that a reader takes for pictures
_READ = "jpg, jpeg, png and webp"


def only_picture(files: dict[str, bytes]) -> bytes:
    """Returns the picture of a sample, given its files by extension.

    Raises ValueError if there is none or more than one. The error names a picture of a kind that is not
    read."""
    pictures = [data for extension, data in files.items() if extension in EXTENSIONS]
    if len(pictures) != 1:
        others = sorted((conversion.EXTENSIONS - EXTENSIONS).intersection(files))[:1]
        unread = "".join(f"; .{other} is of a kind that is not read ({_READ} are)" for other in others)
        raise ValueError(f"holds {len(pictures)} pictures instead of one{unread}")
    return pictures[0]


def decode(data: bytes) -> np.ndarray:
    """Returns the pixels of a picture file, upright: uint8 (H, W, C), C = 1 for 8-bit grey, else 3.

    Raises ValueError if it does not decode."""
    try:
        # PNGs of this module have a faster reader than Pillow's.
        pixels = _decode_simple_png(data)
        if pixels is not None:
            return pixels
        with Image.open(io.BytesIO(data)) as picture:
            grey = picture.mode == "L" and not picture.has_transparency_data
            pixels = np.asarray(conversion.upright(picture))
            return np.ascontiguousarray(pixels[..., :1]) if grey else pixels
    # Pillow and zlib have exceptions of their own for damaged files.
    except UnidentifiedImageError:
        raise ValueError("not a readable picture: its format is unknown") from None
    except ValueError:
        raise
    except (OSError, zlib_ng.error, *conversion.DAMAGED) as error:  # type: ignore[misc]
        raise ValueError(f"not a readable picture: {str(error) or type(error).__name__}") from None


def rgb(pixels: np.ndarray) -> np.ndarray:
    """Widens grey to three equal channels. Returns RGB unchanged."""
    return np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels


def _decode_simple_png(data: bytes) -> np.ndarray | None:
    """Returns the pixels of a PNG of encode_png, or None for any other file. Raises ValueError if a checksum
    fails."""
    # Header.
    if len(data) < 57 or data[:16] != _SIGNATURE + b"\0\0\0\rIHDR":
        return None
    width, height, depth, colour, *rest = struct.unpack(">IIBBBBB", data[16:29])
    channels = {0: 1, 2: 3}.get(colour)
    if channels is None or depth != 8 or any(rest):
        return None

    # One image chunk, from byte 37 to `end`, then its checksum and the last chunk.
    end = 41 + int.from_bytes(data[33:37], "big")
    if data[37:41] != b"IDAT" or data[end + 8 : end + 12] != b"IEND":
        return None
    for start, stop in ((12, 29), (37, end)):
        if zlib_ng.crc32(data[start:stop]) != int.from_bytes(data[stop : stop + 4], "big"):
            raise ValueError("not a readable picture: a checksum fails")

    # Rows, all with filter 0 or all with filter 1.
    rows = np.frombuffer(zlib_ng.decompress(data[41:end]), np.uint8)
    if rows.size != height * (1 + width * channels):
        return None
    rows = rows.reshape(height, -1)
    body = rows[:, 1:].reshape(height, width, channels)
    if not rows[:, 0].any():
        return np.ascontiguousarray(body)
    return _summed(body) if (rows[:, 0] == 1).all() else None


@cached_jit()
def _summed(differences: np.ndarray) -> np.ndarray:
    """Undoes filter 1 by running sums along each row, modulo 256: uint8 (H, W, C) -> the same."""
    # A running sum has a carry, so each channel goes along its row alone.
    height, width, channels = differences.shape
    pixels = np.empty((height, width, channels), np.uint8)
    for i in range(height):
        for c in range(channels):
            level = np.uint8(0)
            for j in range(width):
                level = np.uint8(level + differences[i, j, c])
                pixels[i, j, c] = level
    return pixels


def _filtered(pixels: np.ndarray) -> tuple[np.ndarray, bool]:
    """Returns the scanlines, uint8 (H, 1 + W C) with the filter's number first. Also returns True if they are
    full of runs."""
    height, width, channels = pixels.shape
    plain = pixels.reshape(height, -1)
    rows = np.empty((height, 1 + width * channels), np.uint8)

    # Dark pictures: no filter.
    dark = np.count_nonzero(plain) < 0.75 * plain.size
    if dark:
        rows[:, 0], rows[:, 1:] = 0, plain
        return rows, True

    # Others: differences to the pixel on the left, modulo 256.
    rows[:, 0], rows[:, 1 : 1 + channels] = 1, plain[:, :channels]
    np.subtract(plain[:, channels:], plain[:, :-channels], out=rows[:, 1 + channels :])
    return rows, bool(np.count_nonzero(rows) < 0.5 * rows.size)


def _run_lengths(rows: np.ndarray) -> bytes:
    """Returns a zlib stream with runs as its only matches."""
    deflate = zlib_ng.compressobj(1, zlib_ng.DEFLATED, zlib_ng.MAX_WBITS, 9, zlib_ng.Z_RLE)
    return deflate.compress(rows) + deflate.flush()


def _chunk(kind: bytes, data: bytes) -> bytes:
    checksum = zlib_ng.crc32(data, zlib_ng.crc32(kind))
    return b"".join((struct.pack(">I", len(data)), kind, data, struct.pack(">I", checksum)))


def _pillow(pixels: np.ndarray, format: str, **options: int | bool) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(buffer, format, **options)
    return buffer.getvalue()
