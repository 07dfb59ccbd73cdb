"""Block letters and digits: 36 glyphs of 5 x 7 cells, as rectangles.

A row of a glyph is five bits, the leftmost highest. A glyph is seven rows from top to bottom, in two hex
digits each.
"""

_ROWS = {
    "A": "0e11111f111111",
    "B": "1e11111e11111e",
    "C": "0e11101010110e",
    "D": "1e11111111111e",
    "E": "1f10101e10101f",
    "F": "1f10101e101010",
    "G": "0e11101711110f",
    "H": "1111111f111111",
    "I": "0e04040404040e",
    "J": "0702020202120c",
    "K": "11121418141211",
    "L": "1010101010101f",
    "M": "111b1515111111",
    "N": "11191513111111",
    "O": "0e11111111110e",
    "P": "1e11111e101010",
    "Q": "0e11111115120d",
    "R": "1e11111e141211",
    "S": "0f10100e01011e",
    "T": "1f040404040404",
    "U": "1111111111110e",
    "V": "11111111110a04",
    "W": "1111111515150a",
    "X": "11110a040a1111",
    "Y": "11110a04040404",
    "Z": "1f01020408101f",
    "0": "0e11131519110e",
    "1": "040c040404040e",
    "2": "0e11010204081f",
    "3": "1f02040201110e",
    "4": "02060a121f0202",
    "5": "1f101e0101110e",
    "6": "0608101e11110e",
    "7": "1f010204080808",
    "8": "0e11110e11110e",
    "9": "0e11110f01020c",
}
LETTERS = "".join(_ROWS)

_STEP = 6  # columns from a letter to the next
_HEIGHT = 7


def rectangles(text: str) -> list[list[tuple[float, float]]]:
    """Returns the lit cells of a text: one rectangle a run of a row. Raises KeyError if a character has no
    glyph."""
    boxes = []
    for place, letter in enumerate(text):
        rows = bytes.fromhex(_ROWS[letter])
        for y, bits in enumerate(rows):
            for left, right in _runs(bits):
                x0, x1 = place * _STEP + left, place * _STEP + right
                boxes.append([(float(x), float(z)) for x, z in ((x0, y), (x1, y), (x1, y + 1), (x0, y + 1))])
    return boxes


def _runs(bits: int) -> list[tuple[int, int]]:
    """Returns first column and end of each run of lit cells in a row of five."""
    lit = [bits >> 4 - column & 1 for column in range(5)]
    starts = [i for i in range(5) if lit[i] and not (i and lit[i - 1])]
    ends = [i + 1 for i in range(5) if lit[i] and not (i < 4 and lit[i + 1])]
    return list(zip(starts, ends, strict=True))
