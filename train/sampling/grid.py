"""Pictures with their captions under them, as one PNG."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from synth.sets.storage import Folder

_TEXT, _GAP = 12, 8  # pixels


def captioned(
    pictures: np.ndarray, captions: Sequence[str], *, columns: int = 4, least: int = 128
) -> Image.Image:
    """Returns a grid of pictures (N, R, R, 3) with their captions.

    Enlarges small pictures by whole numbers, to at least `least` pixels a side."""
    # Layout.
    side = pictures.shape[1] * max(1, -(-least // pictures.shape[1]))
    font = ImageFont.load_default(_TEXT)
    lines = [_wrapped(text, font, side) for text in captions]
    columns = min(columns, len(pictures))
    rows = [range(i, min(i + columns, len(pictures))) for i in range(0, len(pictures), columns)]
    heights = [side + (2 + max(len(lines[i]) for i in row)) * round(1.25 * _TEXT) for row in rows]

    # Pictures and their captions.
    sheet = Image.new("RGB", (columns * (side + _GAP) + _GAP, sum(heights) + _GAP), "white")
    draw, top = ImageDraw.Draw(sheet), _GAP
    for row, height in zip(rows, heights, strict=True):
        for column, i in enumerate(row):
            left = _GAP + column * (side + _GAP)
            picture = Image.fromarray(pictures[i]).resize((side, side), Image.Resampling.NEAREST)
            sheet.paste(picture, (left, top))
            below, text = (left, top + side + 3), "\n".join(lines[i])
            draw.multiline_text(below, text, fill="#333333", font=font, spacing=2)
        top += height
    return sheet


def save(path: Path, sheet: Image.Image) -> None:
    """Writes a PNG. It appears whole or not at all."""
    data = io.BytesIO()
    sheet.save(data, "PNG")
    Folder(str(path.parent)).write(path.name, data.getvalue())


def _wrapped(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> list[str]:
    """Returns a text in lines of at most `width` pixels."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines
