"""The texts of formula pictures during fitting: long and short sentences, few facts, single phrases.

A text comes with the facts that it states. It is true of every picture of a batch that has these facts.
"""

from collections.abc import Iterable, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np

from caption.sentences import attributes
from caption.sentences.grammar import Facts, Value
from caption.sentences.phrases import SLOTS

_NAMES = ("count", *(slot.fact for slot in SLOTS))
_ADJECTIVES = ("size", "shade", "colour")
_SHARES = (0.6, 0.7)  # cumulative probabilities of a long and a short sentence; the rest states a few facts


class Prompt(NamedTuple):
    """A text and the facts that it states."""

    text: str
    stated: Facts


def draw(facts: Facts, stream: np.random.Generator) -> Prompt:
    """Draws a true sentence for these facts: long, short, or the family and up to three further facts."""
    # The long and the short form.
    kind, choice = stream.random(), int(stream.integers(1 << 62))
    if kind < _SHARES[0]:
        return Prompt(attributes.state(facts, choice=choice), facts)
    if kind < _SHARES[1]:
        text = attributes.state(facts, "short", choice=choice)
        return Prompt(text, attributes.parse(text))

    # A few facts.
    others = [fact for fact in facts if fact not in ("family", "count", "second")]
    chosen = stream.permutation(others)[: stream.integers(0, 4)]
    stated = {fact: facts[fact] for fact in facts if fact in ("family", *chosen)}
    if "count" in facts and stream.random() < 0.5:
        stated["count"] = facts["count"]
    return Prompt(attributes.state(stated, choice=choice), stated)


def phrases(facts: Sequence[Facts], stream: np.random.Generator) -> tuple[list[Prompt], list[slice]]:
    """Returns a phrase for every value in a batch, and the slice of each fact with several values."""
    prompts: list[Prompt] = []
    groups = []
    for name in _NAMES:
        # Facts with one value leave nothing to choose from.
        values = sorted({picture[name] for picture in facts if name in picture}, key=str)
        if len(values) > 1 and name != "second":
            groups.append(slice(len(prompts), len(prompts) + len(values)))
            choices = stream.integers(1 << 62, size=len(values)).tolist()
            for value, choice in zip(values, choices, strict=True):
                prompts.append(Prompt(phrase(name, value, choice=choice), {name: value}))
    return prompts, groups


def phrase(fact: str, value: Value, *, choice: int = 0) -> str:
    """Returns one fact in few words of the grammar, such as "red" or "on a blue background".

    An adjective may also become "a red picture"."""
    # The determiner states the count, of fractals only.
    if fact == "family":
        return attributes.state({"family": value}, choice=choice)
    if fact == "count":
        return attributes.state({"family": "fractals", "count": value}, choice=choice)

    # Other facts have phrases.
    phrases = _phrases()[fact][value]
    choice, pick = divmod(choice, len(phrases))
    return f"a {phrases[pick]} picture" if fact in _ADJECTIVES and choice % 2 else phrases[pick]


def codes(facts: Iterable[Facts]) -> np.ndarray:
    """Returns facts as numbers, 0 if not stated: int16 (facts, F), one column per fact of the grammar."""
    numbers = [
        [_numbers(name).get(picture[name], 0) if name in picture else 0 for name in _NAMES]
        for picture in facts
    ]
    return np.array(numbers, np.int16)


@cache
def _phrases() -> dict[str, dict[Value, tuple[str, ...]]]:
    return {slot.fact: dict(slot.phrases) for slot in SLOTS}


@cache
def _numbers(name: str) -> dict[Value, int]:
    from caption.sentences.phrases import COUNTS

    values = COUNTS if name == "count" else _phrases()[name]
    return {value: number for number, value in enumerate(values, start=1)}
