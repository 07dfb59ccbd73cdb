"""CLIP's tokeniser in plain Python: byte pairs (Sennrich et al., ACL 2016; Radford et al., ICML 2021).

Tokens are those of open_clip's SimpleTokenizer under other numbers: 0 stands behind the end of a text, 1 at
its beginning, 2 at its end, and piece i has the number 3 + i. So piece 0, which is "!", is never padding.

open_clip repairs texts with ftfy. The code here straightens quotes, widths, ligatures and HTML as ftfy does.
It does not repair text in a wrong encoding.
"""

import base64
import html
import itertools
import re
import unicodedata
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from train.models.words import BEGIN

END = 2
_FIRST = END + 1  # number of piece 0
_BYTES = 256
_ENDING = "</w>"  # of a word's last piece
_SPECIAL = {"<start_of_text>": BEGIN, "<end_of_text>": END}

# Bytes in the order of their pieces: visible characters, then the others.
_VISIBLE = [*range(33, 127), *range(161, 173), *range(174, 256)]
_HIDDEN = [byte for byte in range(_BYTES) if byte not in _VISIBLE]
_PLACES = {byte: place for place, byte in enumerate([*_VISIBLE, *_HIDDEN])}
_CHARACTERS = [*map(chr, _VISIBLE), *(chr(_BYTES + place) for place in range(len(_HIDDEN)))]

# A text is split at these, else into runs of letters, single digits, and runs of other characters.
_FIXED = re.compile("|".join([*_SPECIAL, "'s|'t|'re|'ve|'m|'ll|'d"]), re.IGNORECASE)
_RUN = re.compile("L+|N|[^ LN]+")

_ENTITY = re.compile("&#?[0-9A-Za-z]{1,24};")
_LIGATURES = (
    *(0x132, 0x133, 0x149, *range(0x1C4, 0x1CD), *range(0x1F1, 0x1F4)),
    *(*range(0xFB00, 0xFB05), 0xFB06),
)
_WIDE = (0x3000, *range(0xFF01, 0xFFF0))
_WIDTHS = {code: unicodedata.normalize("NFKC", chr(code)) for code in (*_LIGATURES, *_WIDE)}
_QUOTES = str.maketrans(
    {
        "\ufb05": "\u017ft",
        **dict.fromkeys("\u02bc\u2018\u2019\u201a\u201b", "'"),
        **dict.fromkeys("\u201c\u201d\u201e\u201f", '"'),
    }
)
_REMOVED = (*range(9), 11, *range(14, 32), 127, *range(0x206A, 0x2070), 0xFEFF, *range(0xFFF9, 0xFFFD))
_CONTROLS = str.maketrans(dict.fromkeys(map(chr, _REMOVED), ""))


def packed(merges: Iterable[tuple[str, str]]) -> str:
    """Returns merges as text: the pieces of each pair as 16-bit numbers, low bytes first, compressed.

    CLIP's 48,894 merges take 199 kB."""
    # A word's last piece has the ending.
    pieces = [*_CHARACTERS, *(character + _ENDING for character in _CHARACTERS)]
    numbers = {piece: number for number, piece in enumerate(pieces)}
    pairs = []
    for first, second in merges:
        pairs.append((numbers[first], numbers[second]))
        numbers[first + second] = len(numbers)
    planes = np.array(pairs, "<u2").T.copy().view(np.uint8)
    halves = planes[:, 0::2].tobytes() + planes[:, 1::2].tobytes()
    return base64.b85encode(zlib.compress(halves, 9)).decode()


@dataclass(frozen=True)
class BytePairs:
    """The tokens of texts. It is sent to reader processes."""

    merges: str  # from `packed`
    most: int  # tokens of a text; further ones are cut off

    @cached_property
    def _ranks(self) -> dict[tuple[int, int], int]:
        """The rank of each pair of pieces."""
        halves = np.frombuffer(zlib.decompress(base64.b85decode(self.merges)), np.uint8).reshape(2, 2, -1)
        pairs = halves[0].astype(int) + _BYTES * halves[1].astype(int)
        return {(int(first), int(second)): rank for rank, (first, second) in enumerate(pairs.T)}

    @cached_property
    def _known(self) -> dict[str, list[int]]:
        """Tokens of words that texts had before."""
        return {}

    def __len__(self) -> int:
        return _FIRST + 2 * _BYTES + len(self._ranks)

    def __call__(self, text: str) -> list[int]:
        """Returns the tokens of a text, BEGIN first and END last."""
        tokens = [BEGIN]
        for word in divided(cleaned(text)):
            if word not in self._known:
                self._known[word] = self._tokens(word)
            tokens += self._known[word]
        return [*tokens[: self.most - 1], END]

    def divided(self, text: str) -> list[str]:
        """Returns the words of a text."""
        return divided(cleaned(text))

    def _tokens(self, word: str) -> list[int]:
        """Returns the tokens of a word: its bytes, joined pair by pair, the best rank first."""
        if word in _SPECIAL:
            return [_SPECIAL[word]]
        pieces = [_PLACES[byte] for byte in word.encode()]
        pieces[-1] += _BYTES
        while len(pieces) > 1:
            pair = min(itertools.pairwise(pieces), key=lambda p: self._ranks.get(p, len(self)))
            if pair not in self._ranks:
                break
            pieces = _joined(pieces, pair, 2 * _BYTES + self._ranks[pair])
        return [_FIRST + piece for piece in pieces]


def _joined(pieces: list[int], pair: tuple[int, int], joined: int) -> list[int]:
    """Returns pieces with every occurrence of a pair, from the left, as one piece."""
    result: list[int] = []
    place = 0
    while place < len(pieces):
        if tuple(pieces[place : place + 2]) == pair:
            result.append(joined)
            place += 2
        else:
            result.append(pieces[place])
            place += 1
    return result


def divided(text: str) -> list[str]:
    """Returns the words of a cleaned text."""
    # The kind of every character: letter, number, space, or another one.
    kinds = "".join(" " if c == " " else _kind(unicodedata.category(c)[0]) for c in text)
    words, place = [], 0
    while place < len(text):
        match = _FIXED.match(text, place) or _RUN.match(kinds, place)
        end = match.end() if match else place + 1
        if match:
            words.append(text[place:end])
        place = end
    return words


def _kind(category: str) -> str:
    return category if category in "LN" else "."


def cleaned(text: str) -> str:
    """Returns a text in lower case, with plain quotes, widths and spaces, without HTML entities."""
    # As ftfy does, until nothing changes.
    text, before = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace"), ""
    while text != before:
        before = text
        if "<" not in text:
            text = _ENTITY.sub(_unescaped, text)
        text = text.translate(_WIDTHS).translate(_QUOTES).translate(_CONTROLS)
        text = unicodedata.normalize("NFC", text)

    # As open_clip does.
    return " ".join(html.unescape(html.unescape(text)).split()).lower()


def _unescaped(entity: re.Match[str]) -> str:
    """Returns the character of an HTML entity, or the entity if it is none."""
    character = html.unescape(entity[0])
    return entity[0] if ";" in character else character
