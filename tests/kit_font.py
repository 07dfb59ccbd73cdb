"""A font with colour bitmaps, so that tests draw emoji on any machine."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fontTools.feaLib.builder import addOpenTypeFeaturesFromString
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from fontTools.ttLib import newTable
from fontTools.ttLib.tables.BitmapGlyphMetrics import SmallGlyphMetrics
from fontTools.ttLib.tables.C_B_D_T_ import cbdt_bitmap_format_17
from fontTools.ttLib.tables.E_B_L_C_ import BitmapSizeTable, SbitLineMetrics, Strike, eblc_index_sub_table_1
from PIL import Image, ImageDraw

PPEM, WIDTH, HEIGHT = 109, 136, 128
_LINE = {"ascender": 101, "descender": -27, "widthMax": WIDTH}
_UNUSED = (
    *("caretSlopeNumerator", "caretSlopeDenominator", "caretOffset", "minOriginSB", "minAdvanceSB"),
    *("maxBeforeBL", "minAfterBL", "pad1", "pad2"),
)

Colour = tuple[int, int, int]


def write_font(path: Path, colours: Mapping[str, Colour], *, bitmaps: bool = True) -> Path:
    """Writes a font that shows each emoji as a disc of its colour, or as a black box without `bitmaps`.

    An emoji may be a sequence of code points."""
    # Glyphs.
    names = {emoji: "_".join(f"u{ord(c):X}" for c in emoji) for emoji in colours}
    alone = sorted({c for emoji in colours for c in emoji})
    glyphs = [".notdef", *dict.fromkeys([*names.values(), *(f"u{ord(c):X}" for c in alone)])]

    # Tables.
    builder = FontBuilder(2048, isTTF=True)
    builder.setupGlyphOrder(glyphs)
    builder.setupCharacterMap({ord(c): f"u{ord(c):X}" for c in alone})
    builder.setupGlyf({name: _box() for name in glyphs})
    builder.setupHorizontalMetrics(dict.fromkeys(glyphs, (2550, 0)))
    builder.setupHorizontalHeader(ascent=1900, descent=-500)
    builder.setupNameTable({"familyName": "Made Up", "styleName": "Regular"})
    builder.setupOS2(sTypoAscender=1900, sTypoDescender=-500)
    builder.setupPost()

    # Sequences of code points.
    sequences = {emoji: name for emoji, name in names.items() if len(emoji) > 1}
    rules = [f"sub {' '.join(f'u{ord(c):X}' for c in emoji)} by {name};" for emoji, name in sequences.items()]
    if rules:
        addOpenTypeFeaturesFromString(builder.font, f"feature ccmp {{ {' '.join(rules)} }} ccmp;")

    # Bitmaps.
    if bitmaps:
        _add_bitmaps(builder.font, {names[emoji]: colour for emoji, colour in colours.items()}, glyphs)
    builder.save(path)
    return path


def _add_bitmaps(font: Any, colours: Mapping[str, Colour], glyphs: list[str]) -> None:
    """Tables CBLC (where the bitmaps are) and CBDT (the bitmaps), instead of outlines."""
    shown = [name for name in glyphs if name in colours]
    line = SbitLineMetrics()
    vars(line).update(_LINE, **dict.fromkeys(_UNUSED, 0))
    size = BitmapSizeTable()
    ends = {"startGlyphIndex": glyphs.index(shown[0]), "endGlyphIndex": glyphs.index(shown[-1])}
    vars(size).update(hori=line, vert=line, ppemX=PPEM, ppemY=PPEM, bitDepth=32, flags=1, colorRef=0, **ends)
    where = eblc_index_sub_table_1(b"", font)
    first, last = ends.values()
    vars(where).update(
        names=shown,
        indexFormat=1,
        imageFormat=17,
        firstGlyphIndex=first,
        lastGlyphIndex=last,
        imageDataOffset=0,
    )
    strike = Strike()
    strike.bitmapSizeTable, strike.indexSubTables = size, [where]
    font["CBLC"], font["CBDT"] = newTable("CBLC"), newTable("CBDT")
    vars(font["CBLC"]).update(version=3.0, strikes=[strike])
    vars(font["CBDT"]).update(
        version=3.0, strikeData=[{name: _bitmap(font, colours[name]) for name in shown}]
    )
    del font["glyf"], font["loca"]


def _bitmap(font: Any, colour: Colour) -> cbdt_bitmap_format_17:
    picture, file = Image.new("RGBA", (WIDTH, HEIGHT)), io.BytesIO()
    ImageDraw.Draw(picture).ellipse((8, 4, 128, 124), fill=colour)
    picture.save(file, "PNG")
    glyph = cbdt_bitmap_format_17(b"", font)
    glyph.imageData, glyph.metrics = file.getvalue(), SmallGlyphMetrics()
    vars(glyph.metrics).update(height=HEIGHT, width=WIDTH, BearingX=0, BearingY=101, Advance=WIDTH)
    return glyph


def _box() -> object:
    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    for corner in ((0, 1000), (1000, 1000), (1000, 0)):
        pen.lineTo(corner)
    pen.closePath()
    return pen.glyph()
