"""The texts of captioned pictures during fitting: their captions, in several forms.

A text comes with its words. It is true of every picture of a batch with all of these words in one caption.
"cook" is true of a picture with the caption "woman cook", so it is no negative of that picture.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

_FIRST = 0.6  # probability of the first caption, if there are others
_LOWER = 0.3  # probability of lower case
_PLAIN = 0.4  # probability of the name alone
_LONGEST = 6  # words of a name; a longer caption is a sentence, and stays unchanged
_OPENINGS = ("a ", "an ", "the ", "some ", "two ", "three ")


class Name(NamedTuple):
    """A text and its words from a caption."""

    text: str
    words: frozenset[str]


def draw(captions: Sequence[str], noun: str, stream: np.random.Generator) -> Name:
    """Draws a text for a picture of a `noun`, such as "frog", "a frog" or "an emoji of a frog"."""
    first = len(captions) == 1 or stream.random() < _FIRST
    name = captions[0 if first else int(stream.integers(1, len(captions)))]
    if stream.random() < _LOWER:
        name = name.lower()
    return Name(_form(name, noun, stream), words(name))


def words(caption: str) -> frozenset[str]:
    """Returns the words of a caption in lower case."""
    return frozenset(caption.lower().split())


def truth(captions: Sequence[Sequence[str]], drawn: Sequence[Name]) -> np.ndarray:
    """Returns the truth of every text for every picture: bool (B pictures, B texts)."""
    pictures = [[words(caption) for caption in texts] for texts in captions]
    return np.array([[any(name.words <= text for text in texts) for name in drawn] for texts in pictures])


def with_article(name: str) -> str:
    """Returns a name with its article: "a frog", "an apple".

    Names that begin with a capital, a number or an article stay unchanged."""
    if not name[:1].islower() or name.startswith(_OPENINGS):
        return name
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def _form(name: str, noun: str, stream: np.random.Generator) -> str:
    """Draws a form of a name: alone, with its article, or in a phrase."""
    chance = stream.random()
    if chance < _PLAIN or len(name.split()) > _LONGEST:
        return name

    # The other three forms are equally probable.
    phrase = with_article(name)
    forms = (phrase, f"{with_article(noun)} of {phrase}", f"a picture of {phrase}")
    return forms[min(2, int((chance - _PLAIN) / 0.2))]
