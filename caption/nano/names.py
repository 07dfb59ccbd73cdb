"""What is said of captioned pictures while an encoder is fitted: their captions, in several forms.

A text comes with its words, so that fitting knows of which other pictures of a batch it may be true as well: of those that have all of its
words in one caption. "cook" is no false name of a picture that is called "woman cook", and so no negative of it.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

_FIRST = 0.6  # how often the first caption is chosen where there are others
_LOWER = 0.3  # how often capitals are dropped
_PLAIN = 0.4  # how often a name stands alone
_LONGEST = 6  # words of a name; what has more is a sentence, and is said as it is
_OPENINGS = ("a ", "an ", "the ", "some ", "two ", "three ")


class Name(NamedTuple):
    """A text and the words that it takes from a caption."""

    text: str
    words: frozenset[str]


def draw(captions: Sequence[str], noun: str, stream: np.random.Generator) -> Name:
    """A random text for a picture that is a `noun`, such as "frog", "a frog" or "an emoji of a frog"."""
    first = len(captions) == 1 or stream.random() < _FIRST
    name = captions[0 if first else int(stream.integers(1, len(captions)))]
    if stream.random() < _LOWER:
        name = name.lower()
    return Name(_form(name, noun, stream), words(name))


def words(caption: str) -> frozenset[str]:
    """The words of a caption, without regard to capitals."""
    return frozenset(caption.lower().split())


def truth(captions: Sequence[Sequence[str]], drawn: Sequence[Name]) -> np.ndarray:
    """Which texts are true of which pictures: bool (B pictures, B texts)."""
    known = [[words(caption) for caption in own] for own in captions]
    return np.array([[any(name.words <= said for said in own) for name in drawn] for own in known])


def with_article(name: str) -> str:
    """ "a frog", "an apple"; names that begin with a capital or a number, or with an article, stay as they are."""
    if not name[:1].islower() or name.startswith(_OPENINGS):
        return name
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def _form(name: str, noun: str, stream: np.random.Generator) -> str:
    chance = stream.random()
    if chance < _PLAIN or len(name.split()) > _LONGEST:
        return name
    named = with_article(name)
    return (named, f"{with_article(noun)} of {named}", f"a picture of {named}")[min(2, int((chance - _PLAIN) / 0.2))]
