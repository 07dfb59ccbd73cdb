"""What nano reads while it is fitted: long and short sentences, sentences that state a few of the facts, and single phrases.

Every visit of a picture brings one long sentence and one brief text. A text comes with the facts that it states, so that fitting knows of
which other pictures of a batch it is true as well.
"""

from collections.abc import Iterable
from functools import cache
from typing import NamedTuple

import numpy as np

from caption import attributes
from caption.grammar import Facts, Value
from caption.phrases import SLOTS

_NAMES = ("count", *(slot.fact for slot in SLOTS))
_ADJECTIVES = ("size", "shade", "colour")
_SHARES = (0.15, 0.6)  # up to where a number from 0 to 1 asks for a short sentence, for a few facts; beyond: for one phrase


class Prompt(NamedTuple):
    """A text and what it states."""

    text: str
    stated: Facts


def full(known: Facts, stream: np.random.Generator) -> Prompt:
    """The long sentence of a picture with these facts, in random phrases."""
    return Prompt(attributes.state(known, choice=_choice(stream)), known)


def brief(known: Facts, stream: np.random.Generator) -> Prompt:
    """A random text that states some of these facts: a short sentence, one of up to three facts beside the family, or a phrase."""
    kind, choice = stream.random(), _choice(stream)
    if kind < _SHARES[0]:
        text = attributes.state(known, "short", choice=choice)
        return Prompt(text, attributes.parse(text))
    others = [fact for fact in known if fact not in ("family", "count", "second")]
    if kind < _SHARES[1] or not others:
        chosen = stream.permutation(others)[: stream.integers(0, 4)]
        stated = {fact: known[fact] for fact in known if fact in ("family", *chosen)}
        if "count" in known and stream.random() < 0.5:
            stated["count"] = known["count"]
        return Prompt(attributes.state(stated, choice=choice), stated)
    fact = others[int(stream.integers(len(others)))]
    return Prompt(phrase(fact, known[fact], choice=choice), {fact: known[fact]})


def phrase(fact: str, value: Value, *, choice: int = 0) -> str:
    """One fact in a phrase of the grammar, such as "red" or "on a blue background"; an adjective also as "a red picture"."""
    phrases = _phrases()[fact][value]
    choice, pick = divmod(choice, len(phrases))
    return f"a {phrases[pick]} picture" if fact in _ADJECTIVES and choice % 2 else phrases[pick]


def codes(facts: Iterable[Facts]) -> np.ndarray:
    """Facts as numbers, 0 where nothing is stated: int16 (facts, F), one column a fact of the grammar."""
    return np.array([[_numbers(name).get(known.get(name), 0) for name in _NAMES] for known in facts], np.int16)  # type: ignore[arg-type]


def _choice(stream: np.random.Generator) -> int:
    return int(stream.integers(1 << 62))


@cache
def _phrases() -> dict[str, dict[Value, tuple[str, ...]]]:
    return {slot.fact: dict(slot.phrases) for slot in SLOTS}


@cache
def _numbers(name: str) -> dict[Value, int]:
    from caption.phrases import COUNTS

    values = COUNTS if name == "count" else _phrases()[name]
    return {value: number for number, value in enumerate(values, start=1)}
