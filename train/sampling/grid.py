"""Pictures with their captions under them, as one PNG."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from synth.images import lettering
from synth.sets.storage import Folder

_TEXT, _GAP = 12, 8  # pixels
_LINE = 15  # pixels from one line to the next
_LINES = 12  # of a caption at most


def captioned(
    pictures: np.ndarray, captions: Sequence[str], *, columns: int = 4, least: int = 128
) -> Image.Image:
    """Returns a grid of pictures (N, R, R, 3) with their captions.

    Enlarges small pictures by whole numbers, to at least `least` pixels a side."""
    # Layout.
    side = pictures.shape[1] * max(1, -(-least // pictures.shape[1]))
    lines = [lettering.wrapped(text, _TEXT, side, most=_LINES) for text in captions]
    columns = min(columns, len(pictures))
    rows = [range(i, min(i + columns, len(pictures))) for i in range(0, len(pictures), columns)]
    heights = [side + (2 + max(len(lines[i]) for i in row)) * _LINE for row in rows]

    # Pictures and their captions.
    sheet = Image.new("RGB", (columns * (side + _GAP) + _GAP, sum(heights) + _GAP), "white")
    draw, top = ImageDraw.Draw(sheet), _GAP
    for row, height in zip(rows, heights, strict=True):
        for column, i in enumerate(row):
            left = _GAP + column * (side + _GAP)
            picture = Image.fromarray(pictures[i]).resize((side, side), Image.Resampling.NEAREST)
            sheet.paste(picture, (left, top))
            for number, line in enumerate(lines[i]):
                place = (left, top + side + 3 + number * _LINE)
                lettering.write(draw, place, line, _TEXT, fill="#333333")
        top += height
    return sheet


def save(path: Path, sheet: Image.Image) -> None:
    """Writes a PNG. It appears whole or not at all."""
    data = io.BytesIO()
    sheet.save(data, "PNG")
    Folder(str(path.parent)).write(path.name, data.getvalue())
