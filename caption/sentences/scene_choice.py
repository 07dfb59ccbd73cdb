"""Choices of words and order for texts on scenes. The lowest numbers of a stream choose the plain ones."""

from collections.abc import Sequence
from functools import cache
from typing import Protocol, TypeVar

from caption.sentences import scene_phrases as words
from caption.sentences.scene_phrases import BEFORE, Phrase, Stated

T = TypeVar("T")


class Numbers(Protocol):
    """A stream of random numbers, such as synth.seeds.Stream."""

    def integer(self, low: int, high: int) -> int:
        """Returns a whole number, both ends included."""


class Plain:
    """The stream of plain texts: always the lowest number."""

    def integer(self, low: int, high: int) -> int:
        """Returns the lowest number."""
        return low


def one(stream: Numbers, options: Sequence[T]) -> T:
    """Returns one of the options."""
    return options[stream.integer(0, len(options) - 1)]


def skewed(stream: Numbers, options: Sequence[T], weight: int = 2) -> T:
    """Returns one of the options. The first is `weight` times as frequent as all others together."""
    others = len(options) - 1
    return options[max(0, stream.integer(1 - weight * others, others))] if others else options[0]


def shuffled(stream: Numbers, items: Sequence[T]) -> list[T]:
    """Returns the items in random order. The lowest numbers keep their order."""
    left, out = list(items), []
    while left:
        out.append(left.pop(stream.integer(0, len(left) - 1)))
    return out


def phrase(
    stream: Numbers, stated: Stated, forms: tuple[str, ...], *, predicate: bool = False
) -> Phrase | None:
    """Returns a phrase of these facts in one of the forms, most often an adjective, or None."""
    adjectives, others = _by_form(stated, forms)
    if predicate and adjectives:
        adjectives = adjectives[:1]
    if adjectives and (not others or stream.integer(0, 5) < (2 if predicate else 4)):
        return skewed(stream, adjectives, 6)
    return one(stream, others) if others else None


@cache
def _by_form(stated: Stated, forms: tuple[str, ...]) -> tuple[list[Phrase], list[Phrase]]:
    """Returns the adjectives of these facts, and their other phrases in these forms."""
    phrases = [phrase for phrase in words.PHRASES[stated] if phrase.form in forms]
    return [p for p in phrases if p.form == BEFORE], [p for p in phrases if p.form != BEFORE]
