"""Counts of distinct words and sentences in captions, in a few bytes of memory per distinct one.

Vocabulary: distinct words. Distinct-n: distinct n-grams divided by words (Li et al. 2016, section 5.3). A
word is a run of letters and digits, with hyphens and apostrophes inside, in lower case.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from typing import NamedTuple

import numpy as np

_WORD = re.compile(r"[^\W_]+(?:['\u2019-][^\W_]+)*")
_WAITING = 1 << 20  # codes that wait to be merged


class Wording(NamedTuple):
    """The figures of some captions' wording."""

    captions: int
    distinct: int  # captions
    vocabulary: int  # distinct words
    distinct_1: float
    distinct_2: float
    words: float  # in a caption, on average
    commonest: float  # share of the most frequent caption


class WordTally:
    """A count of words, pairs of words and captions.

    It takes 8 bytes per distinct pair and 16 per distinct caption."""

    def __init__(self) -> None:
        self.captions = self._words = 0
        self.frequency: Counter[str] = Counter()  # of words
        self._numbers: dict[str, int] = {}  # of words, in order of appearance
        self._pairs, self._sentences = _Codes(), _Codes()

    def add(self, captions: Iterable[str]) -> None:
        """Counts captions."""
        counted = Counter(captions)
        pairs: list[int] = []
        for caption, times in counted.items():
            # Words.
            caption_words = words(caption)
            self._words += times * len(caption_words)
            for word in caption_words:
                self.frequency[word] += times

            # Pairs of neighbouring words, as one code.
            numbers = [self._numbers.setdefault(word, len(self._numbers)) for word in caption_words]
            pairs += [a << 32 | b for a, b in pairwise(numbers)]

        # Captions.
        self.captions += counted.total()
        self._pairs.add(pairs, [1] * len(pairs))
        self._sentences.add([_code(c) for c in counted], list(counted.values()))

    def wording(self) -> Wording:
        """Returns the figures of all captions so far."""
        sentences, times = self._sentences.merged()
        pairs, _ = self._pairs.merged()

        # No captions give zeros.
        total, length = max(1, self.captions), max(1, self._words)
        commonest = float(times.max(initial=0)) / total
        vocabulary = len(self.frequency)
        shares = vocabulary / length, len(pairs) / length
        return Wording(self.captions, len(sentences), vocabulary, *shares, self._words / total, commonest)

    def commonest(self, most: int) -> dict[int, int]:
        """Returns the codes of the most frequent captions, with their counts; see `named`."""
        codes, times = self._sentences.merged()
        order = np.lexsort((codes, -times))[:most]
        return {int(codes[i]): int(times[i]) for i in order}


def wording(captions: Iterable[str]) -> Wording:
    """Returns the figures of some captions."""
    tally = WordTally()
    tally.add(captions)
    return tally.wording()


def words(caption: str) -> list[str]:
    """Returns the words of a caption."""
    return _WORD.findall(caption.lower())


def named(codes: Iterable[int], captions: Iterable[str]) -> dict[int, str]:
    """Returns the captions with these codes, by code. A tally keeps codes only."""
    remaining = set(codes)
    texts: dict[int, str] = {}
    for caption in captions:
        code = _code(caption)
        if code in remaining:
            texts[code] = caption
            remaining.remove(code)
            if not remaining:
                break
    return texts


class _Codes:
    """Distinct 64-bit codes and their counts."""

    def __init__(self) -> None:
        self._codes, self._times = np.zeros(0, np.uint64), np.zeros(0, np.int64)
        self._waiting: list[tuple[np.ndarray, np.ndarray]] = []
        self._many = 0

    def add(self, codes: list[int], times: list[int]) -> None:
        self._waiting.append((np.array(codes, np.uint64), np.array(times, np.int64)))
        self._many += len(codes)
        if self._many > _WAITING:
            self.merged()

    def merged(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns codes and counts, uint64 and int64 (distinct codes,), sorted by code."""
        if self._waiting:
            columns = zip((self._codes, self._times), *self._waiting, strict=True)
            codes, times = (np.concatenate(column) for column in columns)

            # Counts of equal codes are added up.
            self._codes, places = np.unique(codes, return_inverse=True)
            self._times = np.zeros(len(self._codes), np.int64)
            np.add.at(self._times, places, times)
            self._waiting, self._many = [], 0
        return self._codes, self._times


def _code(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
