"""A picture with its captions and its nearest pictures on one sheet, drawn with Pillow."""

import io
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw

from caption.audit.gallery import Neighbour, TableRow
from synth.images import lettering

WIDTH = 1000  # pixels

_MARGIN, _GAP = 36, 20
_PICTURE = 384  # pixels a side, of the main picture
_COLUMNS = 4  # of neighbours
_TILE = (WIDTH - 2 * _MARGIN - (_COLUMNS - 1) * _GAP) // _COLUMNS
_PAPER, _INK, _PALE, _LINE = "#ffffff", "#262b31", "#6b7480", "#dfe3e8"


class _Sheet:
    """A sheet that grows downwards."""

    def __init__(self) -> None:
        self.image = Image.new("RGB", (WIDTH, 1 << 14), _PAPER)
        self.draw = ImageDraw.Draw(self.image)

    def text(self, left: int, top: int, text: str, *, size: int, width: int, colour: str = _INK) -> int:
        """Writes wrapped text. Returns the top of the line after it."""
        for line in lettering.wrapped(text, size, width):
            lettering.write(self.draw, (left, top), line, size, fill=colour)
            top += round(size * 1.4)
        return top

    def picture(self, left: int, top: int, pixels: np.ndarray, side: int) -> None:
        """Draws a picture into a square, with a thin line around it."""
        scaled = _scaled(pixels, side)
        inset_x, inset_y = (side - scaled.width) // 2, (side - scaled.height) // 2
        self.image.paste(scaled, (left + inset_x, top + inset_y))
        self.draw.rectangle((left - 1, top - 1, left + side, top + side), outline=_LINE)


def sheet(
    row: TableRow, near: Sequence[Neighbour], pixels: Mapping[str, np.ndarray], title: str
) -> Image.Image:
    """Returns the sheet of a row, its neighbours and their pictures (uint8 (H, W, 3) by key).

    `title` names the tables."""
    # The picture and its captions.
    paper, width = _Sheet(), WIDTH - 2 * _MARGIN
    top = paper.text(_MARGIN, _MARGIN - 8, row.key, size=26, width=width)
    top = paper.text(_MARGIN, top, title, size=14, width=width, colour=_PALE) + 16
    paper.picture(_MARGIN, top, pixels[row.key], _PICTURE)
    top = max(top + _PICTURE, _captions(paper, row, top)) + 32

    # Neighbours, four a line.
    heading = "Nearest pictures by embedding, and their cosines"
    top = paper.text(_MARGIN, top, heading, size=18, width=width) + 8
    for i, neighbour in enumerate(near):
        left = _MARGIN + i % _COLUMNS * (_TILE + _GAP)
        tile = top + i // _COLUMNS * (_TILE + 44)
        paper.picture(left, tile, pixels[neighbour.key], _TILE)

        # Key and cosine below.
        cosine, line = f"{neighbour.cosine:.4f}", tile + _TILE + 8
        room = _TILE - round(lettering.length(cosine, 13)) - 12
        key = lettering.shortened(neighbour.key, 13, room)
        lettering.write(paper.draw, (left, line), key, 13, fill=_PALE)
        lettering.write(paper.draw, (left + _TILE, line), cosine, 13, fill=_INK, right=True)

    # Unused paper is cut off.
    bottom = top + -(-len(near) // _COLUMNS) * (_TILE + 44) + _MARGIN - 16
    return paper.image.crop((0, 0, WIDTH, bottom))


def png(image: Image.Image) -> bytes:
    """Returns a sheet as PNG."""
    file = io.BytesIO()
    image.save(file, "png")
    return file.getvalue()


def _captions(paper: _Sheet, row: TableRow, top: int) -> int:
    """Writes the captions to the right of the picture. Returns their lower end."""
    left = _MARGIN + _PICTURE + 32
    width = WIDTH - _MARGIN - left

    # Captions.
    for text, cosine in row.captions:
        top = paper.text(left, top - 4, text, size=19, width=width)
        if cosine is not None:
            line = f"cosine to the picture {cosine:.4f}"
            top = paper.text(left, top, line, size=13, width=width, colour=_PALE)
        top += 16
    if not row.captions:
        top = paper.text(left, top, "no captions", size=19, width=width, colour=_PALE) + 16

    # Pseudo-caption.
    line = f"cosine of the pseudo-caption {row.pseudo_cosine:.4f}"
    return paper.text(left, top, line, size=13, width=width, colour=_PALE)


def _scaled(pixels: np.ndarray, side: int) -> Image.Image:
    """Returns a picture that fills a square. The pixels of a small one stay visible."""
    # Larger by a whole factor, so that pixels keep their edges.
    height, width = pixels.shape[:2]
    larger = -(-side // max(height, width))
    image = Image.fromarray(pixels).resize((width * larger, height * larger), Image.Resampling.NEAREST)

    # Back to size.
    factor = side / max(image.size)
    size = max(1, round(image.width * factor)), max(1, round(image.height * factor))
    return image.resize(size, Image.Resampling.LANCZOS)
