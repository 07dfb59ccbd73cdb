"""Emoji as pictures: the colour bitmaps of a font, by Pillow, on white."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont, features

from synth.errors import UserError
from synth.sets.storage import reading

PIXELS = 109  # the size of Noto Color Emoji's bitmaps, 136 x 128 pixels each

NOTO = "fonts-noto-color-emoji"  # Debian's package
PLACES = tuple(
    f"/usr/share/fonts/{folder}NotoColorEmoji.ttf"
    for folder in ("truetype/noto/", "noto/", "google-noto-emoji/", "")
)

_WIDEST = 1.5  # width of an emoji, in widths of a face; a sequence drawn as two glyphs has 2
_FACE = "\U0001f600"
_NOBODY = "\U0010ffff"  # a code point that no font has


@dataclass(frozen=True)
class Font:
    """A font with colour bitmaps. It opens pictures by their code points, such as "1F468-200D-1F680"."""

    path: str

    def open(self, name: str) -> Image.Image:
        """Returns the glyph in the middle of a white square, RGB."""
        glyph = _draw(self.path, characters(name))
        side = max(glyph.size)
        square = Image.new("RGB", (side, side), "white")
        square.paste(glyph, ((side - glyph.width) // 2, (side - glyph.height) // 2), glyph)
        return square

    def missing(self, names: Iterable[str]) -> set[str]:
        """Returns the names of emoji that the font cannot draw.

        It draws these as nothing, as its sign for an unknown character, or as several glyphs."""
        font, widest = _load(self.path), _WIDEST * _load(self.path).getlength(_FACE)
        nothing = {_pixels(_draw(self.path, _NOBODY)), b""}
        missing = set()
        for name in names:
            emoji = characters(name)
            if font.getlength(emoji) > widest or _pixels(_draw(self.path, emoji)) in nothing:
                missing.add(name)
        return missing

    @property
    def sha256(self) -> str:
        """The sha256 of the font's file."""
        return hashlib.sha256(Path(self.path).read_bytes()).hexdigest()


def find(path: str | None) -> Font:
    """Returns the font of that path, else Debian's Noto Color Emoji.

    Raises UserError if there is none, or it has no colour bitmaps."""
    # File.
    file = path or next((place for place in PLACES if Path(place).exists()), None)
    if file is None:
        raise UserError(
            f"this machine has no emoji font; as root: apt-get install {NOTO}, or give one by --font FILE"
        )
    if not Path(file).is_file():
        raise UserError(f"there is no font {file}; give the file of one with colour bitmaps by --font FILE")

    # Joined emoji.
    if not features.check("raqm"):
        raise UserError(
            "Pillow cannot join the parts of emoji without FriBiDi; as root: apt-get install libfribidi0"
        )

    # Colours. Pillow's errors do not tell a failing disk from another kind of font.
    with reading(file), open(file, "rb") as content:
        content.read()
    try:
        face = _draw(file, _FACE)
    except OSError as error:
        raise UserError(
            f"{file} is no font with colour bitmaps of {PIXELS} pixels ({error}); Debian's {NOTO} is one"
        ) from None
    colours = np.asarray(face)[..., :3].astype(int)
    if not (np.ptp(colours, axis=2) > 16).any():
        raise UserError(
            f"{file} draws emoji without colours; give a font with colour bitmaps, such as Debian's {NOTO}"
        )
    return Font(file)


def code_points(emoji: str) -> str:
    """Returns the name of an emoji's picture: its code points, hexadecimal."""
    return "-".join(f"{ord(c):X}" for c in emoji)


def characters(name: str) -> str:
    """Returns the emoji of a picture's name."""
    return "".join(chr(int(point, 16)) for point in name.split("-"))


@lru_cache(maxsize=2)
def _load(path: str) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(path, PIXELS, layout_engine=ImageFont.Layout.RAQM)


def _draw(path: str, emoji: str) -> Image.Image:
    """Returns the glyph of an emoji, RGBA, in its own size."""
    font = _load(path)
    left, top, right, bottom = map(round, font.getbbox(emoji))
    glyph = Image.new("RGBA", (max(1, right - left), max(1, bottom - top)))
    ImageDraw.Draw(glyph).text((-left, -top), emoji, font=font, embedded_color=True)
    return glyph


def _pixels(glyph: Image.Image) -> bytes:
    """Returns the pixels of a glyph, or no bytes if it is transparent."""
    return glyph.tobytes() if np.asarray(glyph)[..., 3].any() else b""
