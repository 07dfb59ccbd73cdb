"""The vocabulary of the captioner: words and punctuation marks of the sentences on scenes."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

END, UNKNOWN, FIRST = 0, 1, 2  # numbers: the end (and the start) of a text, an unknown word, the first word

_TOKEN = re.compile(r"[\w'-]+|[^\w\s]")
_BEFORE_MARKS = re.compile(r" ([.,;:])")


@dataclass(frozen=True)
class Vocabulary:
    """Words by number. Number FIRST stands for the first word."""

    words: tuple[str, ...]

    @classmethod
    def of(cls, texts: Iterable[str]) -> "Vocabulary":
        """Returns the vocabulary of some texts, in alphabetical order."""
        return cls(tuple(sorted({word for text in texts for word in split(text)})))

    def __len__(self) -> int:
        return FIRST + len(self.words)

    def encode(self, text: str) -> list[int]:
        """Returns the numbers of a text's words. Words that are not in the vocabulary are UNKNOWN."""
        return [self._numbers.get(word, UNKNOWN) for word in split(text)]

    def decode(self, numbers: Sequence[int]) -> str:
        """Returns the text of these numbers, up to the first END."""
        words = []
        for number in numbers:
            if number == END:
                break
            if number >= FIRST:
                words.append(self.words[number - FIRST])
        return _BEFORE_MARKS.sub(r"\1", " ".join(words))

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {word: number for number, word in enumerate(self.words, FIRST)}


def split(text: str) -> list[str]:
    """Returns the words and punctuation marks of a text."""
    return _TOKEN.findall(text)
