"""The grammar of attribute sentences: one table of phrases, read forwards to state facts, backwards to parse.

    sentence    = determiner slot slot ...
    determiner  = a | an | some | two | three | ...

Slots are in the order of the table. A slot is left out if its fact is not given. `family` must be given. The
determiner states the fact `count`. No phrase of a slot stands for two values, so parsing inverts stating.
"""

import re
from collections.abc import Mapping
from functools import cache

from caption.sentences.phrases import COUNTS, SLOTS, Slot, Value, article, number
from synth.errors import UserError

Facts = dict[str, Value]

FORMS = ("short", "long")
_COUNTED = "fractals"  # the family with a count, in the plural
_UNCOUNTED = "some"
_FACTS = frozenset(["count", *(slot.fact for slot in SLOTS)])
_SHORT = tuple(slot for slot in SLOTS if slot.short)


def state(facts: Mapping[str, Value], form: str = "long", *, choice: int = 0) -> str:
    """Returns the sentence that states these facts; the short form states those of its slots.

    `choice` picks among equivalent phrases; 0 takes the plain ones. Raises UserError if there is no
    phrase."""
    unknown = facts.keys() - _FACTS
    if unknown or "family" not in facts or form not in FORMS:
        raise UserError(
            f"cannot state {dict(facts)} in a {form} form; forms are {FORMS}, facts {sorted(_FACTS)}, family must be given"
        )
    pieces = []
    for slot in SLOTS if form == "long" else _SHORT:
        if slot.fact in facts:
            phrases = slot.phrases.get(facts[slot.fact])
            if phrases is None:
                raise UserError(
                    f"{slot.fact} cannot be {facts[slot.fact]!r}; it may be {', '.join(map(str, slot.phrases))}"
                )
            choice, pick = divmod(choice, len(phrases))
            pieces.append(slot.glue + phrases[pick])
    text = "".join(pieces)
    return _determiner(facts, text) + text


def parse(sentence: str) -> Facts:
    """Returns the facts that a sentence states. Raises UserError if it is no sentence of the grammar."""
    match = _pattern().fullmatch(sentence)
    facts: Facts = (
        {slot.fact: _values(slot)[match[slot.fact]] for slot in SLOTS if match[slot.fact]} if match else {}
    )
    if match and match["determiner"] in _counts():
        facts["count"] = _counts()[match["determiner"]]
    counted = facts.get("family") == _COUNTED or "count" not in facts
    if (
        not match
        or not counted
        or match["determiner"] != _determiner(facts, sentence[match.end("determiner") :])
    ):
        raise UserError(
            f"{sentence!r} is no sentence of the grammar, which has such as 'a red fractal on a blue background'"
        )
    return facts


def _determiner(facts: Mapping[str, Value], text: str) -> str:
    """Returns the first word of a sentence. `text` is the rest of it, from its first space on."""
    if facts["family"] != _COUNTED:
        if "count" in facts:
            raise UserError(f"only {_COUNTED} are counted, not {facts['family']}")
        return article(text[1:])
    if "count" not in facts:
        return _UNCOUNTED
    if facts["count"] not in COUNTS:
        raise UserError(f"count cannot be {facts['count']}; it may be {COUNTS[0]} to {COUNTS[-1]}")
    return number(int(facts["count"]))


@cache
def _counts() -> dict[str, int]:
    return {number(n): n for n in COUNTS}


@cache
def _values(slot: Slot) -> dict[str, Value]:
    """Returns the value that each phrase of a slot states."""
    return {phrase: value for value, phrases in slot.phrases.items() for phrase in phrases}


@cache
def _pattern() -> re.Pattern[str]:
    """Returns a pattern that matches all sentences."""
    determiners = "|".join(["an", "a", _UNCOUNTED, *_counts()])
    parts = [f"(?P<determiner>{determiners})"]
    for slot in SLOTS:
        phrases = "|".join(map(re.escape, sorted(_values(slot), key=len, reverse=True)))
        parts.append(
            f"(?:{re.escape(slot.glue)}(?P<{slot.fact}>{phrases})){'' if slot.fact == 'family' else '?'}"
        )
    return re.compile("".join(parts))
