"""Texts in pictures: one font with wide coverage, fonts of this machine for other scripts, and wrapping.

DejaVu Sans of matplotlib's files draws Latin, Cyrillic, Greek, Arabic and Hebrew. Other scripts need a font
of this machine, such as Debian's fonts-noto-cjk. A character that no font draws becomes a square. A note says
so once.
"""

import importlib.util
import unicodedata
from collections.abc import Sequence
from functools import cache
from itertools import groupby
from pathlib import Path

from PIL import ImageDraw, ImageFont

from synth import console

UNKNOWN = "\u25a1"  # a square: a character that no font here draws

_FOLDERS = (
    "/usr/share/fonts",
    "/usr/local/share/fonts",
    "~/.fonts",
    "~/.local/share/fonts",
    "/Library/Fonts",
)
_ENDINGS = (".ttf", ".otf", ".ttc", ".otc")
_CUT = "..."

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def write(
    draw: ImageDraw.ImageDraw, place: tuple[int, int], text: str, size: int, *, fill: str, right: bool = False
) -> None:
    """Draws one line of text, `size` pixels high. `place` is its upper left corner, or its upper right."""
    left = place[0] - (length(text, size) if right else 0.0)
    base = place[1] + ascent(size)
    for font, piece in _pieces(text, size):
        draw.text((round(left), base), piece, font=font, fill=fill, anchor="ls")
        left += font.getlength(piece)


def length(text: str, size: int) -> float:
    """Returns the width of a line in pixels."""
    return sum(font.getlength(piece) for font, piece in _pieces(text, size))


def ascent(size: int) -> int:
    """Returns the pixels from the top of a line to its base line."""
    font = _font(_dejavu(), size)
    return font.getmetrics()[0] if isinstance(font, ImageFont.FreeTypeFont) else size


def wrapped(text: str, size: int, width: int, *, most: int | None = None) -> list[str]:
    """Returns text in lines of at most `width` pixels. Breaks a longer word.

    Cuts the text after `most` lines, with dots at its end."""
    lines: list[str] = []
    line = ""
    for word in text.split():
        longer = f"{line} {word}".strip()
        if length(longer, size) <= width:
            line = longer
            continue

        # The next line. A word that is too long fills several.
        lines += [line] if line else []
        while length(word, size) > width:
            fits = _fitting(word, size, width)
            lines.append(word[:fits])
            word = word[fits:]
        line = word
        if most is not None and len(lines) >= most:
            break
    lines += [line] if line else []
    if most is not None and len(lines) > most:
        return [*lines[: most - 1], shortened(f"{lines[most - 1]}{_CUT}", size, width)]
    return lines


def shortened(text: str, size: int, width: int) -> str:
    """Returns text that fits a width in pixels, cut and followed by dots if it is too long."""
    if length(text, size) <= width:
        return text
    room = width - length(_CUT, size)
    return f"{text[: _fitting(text, size, room)]}{_CUT}" if room > 0 else ""


def drawable(text: str) -> str:
    """Returns text in characters that DejaVu Sans draws, for plots. Notes the others once."""
    return "".join(c if ord(c) in _covered(_dejavu()) else _unknown(c) for c in _plain(text))


def label(text: str) -> str:
    """Returns a text that matplotlib draws as it is. It reads $ as mathematics, and hides a leading _."""
    text = drawable(text).replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text


def _fitting(text: str, size: int, width: float) -> int:
    """Returns the number of leading characters that fit a width, at least 1."""
    low, high = 1, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if length(text[:middle], size) <= width else (low, middle - 1)
    return low


def _pieces(text: str, size: int) -> list[tuple[Font, str]]:
    """Returns a line in pieces, each with the font that draws it."""
    pieces = []
    for place, group in groupby(_plain(text), key=_place):
        characters = "".join(group)
        if place is None:
            characters = "".join(map(_unknown, characters))
        pieces.append((_font(place or _dejavu(), size), characters))
    return pieces


def _plain(text: str) -> str:
    """Returns text with composed letters, and without characters that have no shape."""
    composed = unicodedata.normalize("NFC", text)
    return "".join(c for c in composed if unicodedata.category(c) not in ("Cc", "Cf", "Cs") and c != "\ufe0f")


def _unknown(character: str) -> str:
    _note(f"U+{ord(character):04X}")
    return UNKNOWN


@cache
def _note(code: str) -> None:
    """Prints the note about characters without a font, at the first of them."""
    if _note.cache_info().currsize == 0:
        problem = f"no font here draws some characters, such as {code}: squares stand for them"
        console.note(f"{problem}; install a font for their script, such as Debian's fonts-noto-cjk")


@cache
def _place(character: str) -> str | None:
    """Returns the font that draws a character: DejaVu Sans, or one of this machine, or None."""
    if ord(character) in _covered(_dejavu()):
        return _dejavu()
    return next((place for place in _others() if ord(character) in _covered(place)), None)


@cache
def _dejavu() -> str:
    """Returns the path of DejaVu Sans in matplotlib's files, or nothing without matplotlib."""
    package = importlib.util.find_spec("matplotlib")
    file = (
        Path(package.origin or "").parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"
        if package
        else None
    )
    return str(file) if file and file.exists() else ""


@cache
def _others() -> Sequence[str]:
    """Returns the fonts of this machine, regular ones first."""
    files = [file for folder in _FOLDERS for file in Path(folder).expanduser().rglob("*")]
    names = sorted(str(file) for file in files if file.suffix.lower() in _ENDINGS)
    return sorted(names, key=lambda name: "regular" not in name.lower())


@cache
def _covered(place: str) -> frozenset[int]:
    """Returns the code points that a font draws in one colour. Pillow's own font draws Latin alone."""
    if not place:
        return frozenset(range(32, 256))
    from fontTools.ttLib import TTFont, TTLibError

    try:
        with TTFont(place, fontNumber=0, lazy=True) as font:
            bitmaps = not any(table in font for table in ("glyf", "CFF ", "CFF2"))
            return frozenset() if bitmaps else frozenset(font.getBestCmap() or ())
    except (TTLibError, OSError, ValueError, AssertionError):
        return frozenset()


@cache
def _font(place: str, size: int) -> Font:
    return ImageFont.truetype(place, size) if place else ImageFont.load_default(size)
